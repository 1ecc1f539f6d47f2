//! What a form could not do, and why.

use maud::{Markup, html};

use super::{Context, Refresh, encode, layout};

pub fn render(context: &Context<'_>, episode_id: &str, why: &str) -> Markup {
    layout(
        "Refused",
        context,
        Refresh::Never,
        &html! {
            h1 { "This was not done" }
            p.notice { (why) }
            p { a href={ "/alerts/" (encode(episode_id)) } { "Back to the alert" } }
        },
    )
}
