//! References that move along with the window under test: which stretches of event time, of which versions, they are
//! the union of.

use std::ops::Range;

use crate::config::glob;
use crate::config::rules::{MovingChoice, Season};
use crate::config::units::Span;

/// Name of the reference that is the window before the one under test.
pub const PREVIOUS: &str = "previous";

/// Furthest that a reference reaches back, days: panes are kept in the log for 60 days after they were last written,
/// and lateness takes its part of that.
pub const MOST_DAYS: i64 = 56;

/// A union of panes, told by the window that is compared with it. Never holds any of that window itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MovingReference {
    /// Other versions than the window's own, by name or glob; `None`: its own.
    pub version: Option<String>,
    pub time: ReferenceTime,
}

/// When, seen from a window [start, end).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceTime {
    /// [start, end): only of another version.
    Same,
    /// As long as the window, up to its start.
    Previous,
    /// [start - `ms`, start).
    Trailing { ms: i64 },
    /// The window moved back by 1, 2, ... `periods` days or weeks.
    Seasonal { season: Season, periods: i64 },
}

/// Why a choice means nothing: the key it is about, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceError {
    pub key: &'static str,
    pub message: String,
    pub help: String,
}

impl MovingReference {
    pub const PREVIOUS: MovingReference = MovingReference { version: None, time: ReferenceTime::Previous };

    /// Reads what a rule says. Whether it fits the rule's windows is asked by [`MovingReference::misfit`].
    pub fn of(choice: &MovingChoice) -> Result<Self, ChoiceError> {
        let error = |key, message: String, help: &str| Err(ChoiceError { key, message, help: help.into() });
        let time = match (choice.trailing, choice.same, &choice.version) {
            (None, Some(season), _) => {
                let message = format!("`same: {}` does not say how far back", season.word());
                return error("same", message, "add `trailing: 28d`");
            }
            (None, None, None) => {
                return error("", "this reference is empty".into(), "write `{trailing: 7d}` or `{version: \"3\"}`");
            }
            (None, None, Some(_)) => ReferenceTime::Same,
            (Some(trailing), _, _) if trailing.ms <= 0 => {
                return error("trailing", "a reference must be longer than nothing".into(), "write `7d`");
            }
            (Some(trailing), _, _) if trailing.ms > Span::from_days(MOST_DAYS).ms => {
                let message = format!("panes are kept for {MOST_DAYS} days, not for {trailing}");
                return error("trailing", message, "write at most `56d`, or build a reference from a file");
            }
            (Some(trailing), None, _) => ReferenceTime::Trailing { ms: trailing.ms },
            (Some(trailing), Some(season), _) => {
                let period = Span::from_ms(season.period_ms());
                if trailing.ms % period.ms != 0 {
                    let message = format!("{trailing} is not a whole number of periods of {period}");
                    return error("trailing", message, "write a multiple of the period, such as `28d`");
                }
                ReferenceTime::Seasonal { season, periods: trailing.ms / period.ms }
            }
        };
        Ok(Self { version: choice.version.clone(), time })
    }

    /// What keeps windows of this size and slide from having this reference.
    pub fn misfit(&self, size: Span, slide: Span) -> Option<ChoiceError> {
        let misfit = |key, message: String, help: String| Some(ChoiceError { key, message, help });
        match self.time {
            ReferenceTime::Trailing { ms } if size.ms > 0 && ms % size.ms != 0 => {
                let message = format!("{} is not a whole number of windows of {size}", Span::from_ms(ms));
                let help = format!("write a multiple of {size}, such as `{}`", Span::from_ms(size.ms * 7));
                misfit("trailing", message, help)
            }
            ReferenceTime::Seasonal { season, .. } => {
                let period = Span::from_ms(season.period_ms());
                if size > period {
                    let message = format!("a window of {size} is longer than the {} it repeats in", period);
                    return misfit("same", message, format!("choose a window of at most {period}"));
                }
                if slide.ms > 0 && period.ms % slide.ms != 0 {
                    let message = format!("windows every {slide} do not start at the same time of each {period}");
                    return misfit("same", message, format!("choose a window or slide that divides {period}"));
                }
                None
            }
            _ => None,
        }
    }

    /// The stretches of event time that it holds for the window [start, end), oldest first, epoch milliseconds.
    pub fn stretches(&self, window: Range<i64>) -> Vec<Range<i64>> {
        let (start, end) = (window.start, window.end);
        match self.time {
            ReferenceTime::Same => std::iter::once(start..end).collect(),
            ReferenceTime::Previous => std::iter::once(start.saturating_sub(end - start)..start).collect(),
            ReferenceTime::Trailing { ms } => std::iter::once(start.saturating_sub(ms)..start).collect(),
            ReferenceTime::Seasonal { season, periods } => (1..=periods)
                .rev()
                .map(|back| start - back * season.period_ms()..end - back * season.period_ms())
                .collect(),
        }
    }

    /// How far before a window's start it reaches, milliseconds.
    pub fn reach_ms(&self, size_ms: i64) -> i64 {
        match self.time {
            ReferenceTime::Same => 0,
            ReferenceTime::Previous => size_ms,
            ReferenceTime::Trailing { ms } => ms,
            ReferenceTime::Seasonal { season, periods } => periods * season.period_ms(),
        }
    }

    /// Whether a window of version `tested` is compared with panes of version `other`.
    pub fn takes_version(&self, tested: &str, other: &str) -> bool {
        match &self.version {
            None => tested == other,
            Some(pattern) => tested != other && glob::matches(pattern, other),
        }
    }
}

/// The name that stands in results, alerts and sentences: `previous`, `trailing 7d`, `trailing 28d same hour_of_week`,
/// `version 3`, `version 3 trailing 7d`.
impl std::fmt::Display for MovingReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(version) = &self.version {
            write!(formatter, "version {version}")?;
        }
        let space = if self.version.is_some() { " " } else { "" };
        match self.time {
            ReferenceTime::Same => Ok(()),
            ReferenceTime::Previous => write!(formatter, "{space}{PREVIOUS}"),
            ReferenceTime::Trailing { ms } => write!(formatter, "{space}trailing {}", Span::from_ms(ms)),
            ReferenceTime::Seasonal { season, periods } => {
                let trailing = Span::from_ms(periods * season.period_ms());
                write!(formatter, "{space}trailing {trailing} same {}", season.word())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    fn choice(trailing: Option<&str>, same: Option<Season>, version: Option<&str>) -> MovingChoice {
        let trailing = trailing.map(|text| Span::parse(text).unwrap());
        MovingChoice { trailing, same, version: version.map(str::to_string) }
    }

    fn read(trailing: Option<&str>, same: Option<Season>, version: Option<&str>) -> MovingReference {
        MovingReference::of(&choice(trailing, same, version)).unwrap()
    }

    #[test]
    fn a_window_is_never_part_of_its_own_reference() {
        let window = 100 * DAY_MS..100 * DAY_MS + HOUR_MS;
        let references = [
            MovingReference::PREVIOUS,
            read(Some("7d"), None, None),
            read(Some("28d"), Some(Season::HourOfWeek), None),
            read(Some("7d"), Some(Season::HourOfDay), None),
        ];
        for reference in references {
            for stretch in reference.stretches(window.clone()) {
                assert!(stretch.end <= window.start, "{reference}: {stretch:?} meets {window:?}");
                assert!(stretch.start >= window.start - reference.reach_ms(HOUR_MS), "{reference}: {stretch:?}");
            }
        }
        let canary = read(None, None, Some("3*"));
        assert_eq!(canary.stretches(window.clone()), [window]);
        assert!(canary.takes_version("4", "3.1") && !canary.takes_version("3.1", "3.1"));
    }

    #[test]
    fn the_same_hour_of_the_week_is_whole_weeks_back() {
        let window = 50 * DAY_MS..50 * DAY_MS + HOUR_MS;
        let stretches = read(Some("28d"), Some(Season::HourOfWeek), None).stretches(window.clone());
        let starts: Vec<i64> = stretches.iter().map(|stretch| (window.start - stretch.start) / DAY_MS).collect();
        assert_eq!(starts, [28, 21, 14, 7]);
        assert!(stretches.iter().all(|stretch| stretch.end - stretch.start == HOUR_MS));
    }

    #[test]
    fn choices_that_mean_nothing_say_what_would() {
        for (choice, key, help) in [
            (choice(None, None, None), "", "trailing: 7d"),
            (choice(None, Some(Season::HourOfDay), None), "same", "trailing: 28d"),
            (choice(Some("0s"), None, None), "trailing", "7d"),
            (choice(Some("90d"), None, None), "trailing", "56d"),
            (choice(Some("10d"), Some(Season::HourOfWeek), None), "trailing", "28d"),
        ] {
            let error = MovingReference::of(&choice).unwrap_err();
            assert_eq!(error.key, key, "{error:?}");
            assert!(error.help.contains(help), "{error:?}");
        }
        let span = |text: &str| Span::parse(text).unwrap();
        let week = read(Some("7d"), None, None);
        assert_eq!(week.misfit(span("1h"), span("1h")), None);
        assert_eq!(week.misfit(span("5h"), span("5h")).unwrap().key, "trailing");
        let season = read(Some("7d"), Some(Season::HourOfDay), None);
        assert_eq!(season.misfit(span("1h"), span("30m")), None);
        assert!(season.misfit(span("7m"), span("7m")).is_some() && season.misfit(span("2d"), span("2d")).is_some());
    }

    #[test]
    fn names_are_canonical() {
        for (reference, name) in [
            (MovingReference::PREVIOUS, "previous"),
            (read(Some("168h"), None, None), "trailing 7d"),
            (read(Some("28d"), Some(Season::HourOfWeek), None), "trailing 28d same hour_of_week"),
            (read(None, None, Some("3")), "version 3"),
            (read(Some("1d"), None, Some("stable-*")), "version stable-* trailing 1d"),
        ] {
            assert_eq!(reference.to_string(), name);
        }
    }
}
