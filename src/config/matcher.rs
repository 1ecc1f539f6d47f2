//! What routes and silences ask about an alert.

use super::glob;
use super::rules::{Matcher, Severity};

/// An alert as matchers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject<'a> {
    pub rule: &'a str,
    pub model: &'a str,
    /// Empty where the alert is about no version.
    pub version: &'a str,
    pub severity: Severity,
    /// Features that it is about; empty: the window or the model as a whole.
    pub features: Vec<&'a str>,
    /// Segments that it is about, as in alerts: `country=IT`; `all` for all events.
    pub segments: Vec<String>,
}

impl Matcher {
    /// Whether everything that the alert is about matches: what a silence hides.
    pub fn covers(&self, subject: &Subject<'_>) -> bool {
        let features = || subject.features.iter().copied();
        let segments = || subject.segments.iter().map(String::as_str);
        self.names(subject)
            && self.feature.as_deref().is_none_or(|pattern| {
                features().next().is_some() && features().all(|feature| glob::matches(pattern, feature))
            })
            && self.segment.as_deref().is_none_or(|pattern| segments().all(|name| glob::matches(pattern, name)))
    }

    /// Whether anything that the alert is about matches: what a route sends on.
    pub fn touches(&self, subject: &Subject<'_>) -> bool {
        let mut features = subject.features.iter();
        let mut segments = subject.segments.iter();
        self.names(subject)
            && self.feature.as_deref().is_none_or(|pattern| features.any(|feature| glob::matches(pattern, feature)))
            && self.segment.as_deref().is_none_or(|pattern| segments.any(|name| glob::matches(pattern, name)))
    }

    fn names(&self, subject: &Subject<'_>) -> bool {
        self.severity.is_none_or(|wanted| wanted == subject.severity)
            && self.rule.as_deref().is_none_or(|pattern| glob::matches(pattern, subject.rule))
            && self.model.as_deref().is_none_or(|pattern| self::model(pattern, subject.model, subject.version))
    }

    /// Whether it asks for nothing: every alert matches.
    pub fn is_empty(&self) -> bool {
        let anything =
            |pattern: &Option<String>| pattern.as_deref().is_none_or(|pattern| matches!(pattern, "*" | "*@*"));
        self.severity.is_none() && [&self.model, &self.rule, &self.feature, &self.segment].into_iter().all(anything)
    }
}

/// `fraud@3` against a model and its version; without `@`, or where the alert is about no version, every version.
fn model(pattern: &str, model: &str, version: &str) -> bool {
    let (model_glob, version_glob) = pattern.split_once('@').unwrap_or((pattern, "*"));
    glob::matches(model_glob, model) && (version.is_empty() || glob::matches(version_glob, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject<'static> {
        Subject {
            rule: "drift",
            model: "fraud",
            version: "3",
            severity: Severity::Warn,
            features: vec!["amount", "age"],
            segments: vec!["country=IT".into()],
        }
    }

    fn matcher(yaml: &str) -> Matcher {
        let file = format!("version: 1\nroutes: [{{match: {yaml}, to: [a]}}]\n");
        crate::config::parse_rules_str("rules.yaml", &file).unwrap().value.routes[0].matcher.clone()
    }

    #[test]
    fn a_silence_covers_an_alert_whole_and_a_route_is_touched_by_a_part() {
        for (yaml, covers, touches) in [
            ("{}", true, true),
            ("{model: fraud@*, severity: warn}", true, true),
            ("{model: fraud@2}", false, false),
            ("{model: 'fr*@3', rule: 'dr*'}", true, true),
            ("{severity: critical}", false, false),
            ("{feature: amount}", false, true),
            ("{feature: 'a*'}", true, true),
            ("{feature: income}", false, false),
            ("{segment: country=IT}", true, true),
            ("{segment: country=DE}", false, false),
        ] {
            let found = matcher(yaml);
            assert_eq!((found.covers(&subject()), found.touches(&subject())), (covers, touches), "{yaml}");
        }
        let of_window = Subject { features: Vec::new(), ..subject() };
        assert!(!matcher("{feature: '*'}").touches(&of_window), "about no feature");
        assert!(!matcher("{feature: amount}").covers(&of_window), "about no feature");
    }

    #[test]
    fn a_matcher_of_stars_asks_for_nothing() {
        assert!(matcher("{}").is_empty() && matcher("{model: '*@*', rule: '*'}").is_empty());
        assert!(!matcher("{severity: warn}").is_empty() && !matcher("{model: 'f*'}").is_empty());
    }
}
