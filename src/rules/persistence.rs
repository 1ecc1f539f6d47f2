//! `for`: how many windows must breach before anybody is told: `3 of 5 windows`, `2 windows`, or a time that is a whole
//! number of windows, `30m`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::Persistence;
use crate::config::diagnostic::Problem;
use crate::config::glob;
use crate::config::model::Model;
use crate::config::rules::Rule;
use crate::config::units::Span;

const MAX_WINDOWS: u32 = 100;

/// As written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Windows(Persistence),
    Time(Span),
}

const COUNTS: &str = "write `2 windows`, `3 of 5 windows`, or a time such as `2h`";

pub(super) fn parse(text: &str, pointer: &str) -> Result<For, Problem> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let count = |word: &str| word.parse::<u32>().ok();
    let (needed, of) = match words.as_slice() {
        [needed, "of", of, "window" | "windows"] => (count(needed), count(of)),
        [count_word, "window" | "windows"] => (count(count_word), count(count_word)),
        _ => (None, None),
    };
    let wrong = |message: String| Problem::error("bad-for", pointer, message);
    match (needed, of) {
        (Some(needed), Some(of)) if needed > of => Err(wrong(format!("{needed} of {of} windows can never be reached"))
            .help(format!("write `{of} of {needed} windows`"))),
        (Some(0), _) => Err(wrong("at least one window must breach".into()).help("write `1 window`")),
        (Some(_), Some(of)) if of > MAX_WINDOWS => Err(wrong(format!("at most {MAX_WINDOWS} windows"))),
        (Some(needed), Some(of)) => Ok(For::Windows(Persistence { needed, of })),
        _ => match Span::parse(text) {
            Ok(time) if time.ms > 0 => Ok(For::Time(time)),
            Ok(_) => Err(wrong("at least one window must breach".into()).help("write `1 window`")),
            Err(message) if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(' ') => {
                Err(wrong(message).help(COUNTS))
            }
            Err(_) => Err(wrong(format!("`{text}` counts no windows")).help(COUNTS)),
        },
    }
}

/// `step`: distance between window starts where rule or defaults say it; otherwise that of the models it is about.
pub(super) fn of(
    rule: &Rule,
    (step, models): (Option<Span>, &[Arc<Model>]),
    pointer: &str,
) -> Result<Persistence, Problem> {
    let pointer = format!("{pointer}/for");
    let Some(text) = &rule.for_ else { return Ok(Persistence { needed: 1, of: 1 }) };
    let time = match parse(text, &pointer)? {
        For::Windows(persistence) => return Ok(persistence),
        For::Time(time) => time,
    };
    let model_glob = rule.model.split('@').next().unwrap_or_default();
    let matching = models.iter().filter(|model| glob::matches(model_glob, &model.model));
    let steps: BTreeSet<Span> = match step {
        Some(step) => BTreeSet::from([step]),
        None => matching.map(|model| model.windows.size).collect(),
    };
    let wrong = |message: String| Problem::error("bad-for", &pointer, message);
    let mut steps = steps.into_iter().filter(|step| step.ms > 0);
    // Without a model at hand that is said elsewhere.
    let Some(step) = steps.next() else { return Ok(Persistence { needed: 1, of: 1 }) };
    if let Some(other) = steps.next() {
        let message =
            format!("`{text}` is another number of windows for each model: they have windows of {step} and {other}");
        return Err(wrong(message).help("write `2 windows`, or give the rule a `window` of its own"));
    }
    let windows = time.ms / step.ms;
    if time.ms < step.ms {
        let message = format!("`{text}` is shorter than a window of {step}");
        return Err(wrong(message).help(format!("write `{step}`, or `1 window`")));
    }
    if time.ms % step.ms != 0 {
        let (below, above) = (Span::from_ms(windows * step.ms), Span::from_ms((windows + 1) * step.ms));
        let message = format!("`{text}` is not a whole number of windows of {step}");
        return Err(wrong(message).help(format!("write `{below}` or `{above}`")));
    }
    match u32::try_from(windows) {
        Ok(needed) if needed <= MAX_WINDOWS => Ok(Persistence { needed, of: needed }),
        _ => Err(wrong(format!("`{text}` is {windows} windows of {step}: at most {MAX_WINDOWS}"))
            .help("give the rule a longer `window`")),
    }
}
