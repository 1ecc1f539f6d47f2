//! What is not here, and where to go instead.

use maud::{Markup, html};

use super::{Context, Refresh, layout, sentence};

pub fn render(context: &Context<'_>, what: &str) -> Markup {
    layout(
        "Not found",
        context,
        Refresh::Never,
        &html! {
            h1 { "Not found" }
            p.empty { (sentence(what)) }
            p { a href="/" { "All models and alerts" } }
        },
    )
}
