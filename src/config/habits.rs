//! What people bring along from other tools (Prometheus, Alertmanager, Evidently) and from YAML 1.1: their keys, with the
//! keys of Driftline that were meant. To add one: a row.

/// A foreign key, explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habit {
    pub key: &'static str,
    /// The key that was meant; the habit applies only where this one is known.
    pub meant: &'static str,
    pub help: &'static str,
}

const fn row(key: &'static str, meant: &'static str, help: &'static str) -> Habit {
    Habit { key, meant, help }
}

const WHEN: &str = "write `when: {warn: psi > 0.1, critical: psi > 0.25}`";
const NAME: &str = "the key is `name`";
const SIGNAL: &str = "the key is `signal`; YAML 1.1 readers take a bare `on` for true";
const TEXTS: &str = "write `summary:`, `description:` and `runbook:` in the rule itself, with `{placeholders}`";
const LABELS: &str = "`labels` are those of predictions; routes match severity, model and rule";

const HABITS: [Habit; 58] = [
    row("expr", "when", WHEN),
    row("expression", "when", WHEN),
    row("condition", "when", WHEN),
    row("conditions", "when", WHEN),
    row("threshold", "when", WHEN),
    row("alert", "name", NAME),
    row("record", "name", NAME),
    row("id", "name", NAME),
    row("title", "name", NAME),
    row("annotations", "summary", TEXTS),
    row("message", "summary", TEXTS),
    row("runbook_url", "runbook", "the key is `runbook`"),
    row("severity", "min_coverage", LABELS),
    row("team", "min_coverage", LABELS),
    row("severity", "when", "severities are the keys of `when`: `when: {warn: ..., critical: ...}`"),
    row("warn", "when", "write `when: {warn: ..., critical: ...}`"),
    row("warning", "when", "write `when: {warn: ..., critical: ...}`"),
    row("critical", "when", "write `when: {warn: ..., critical: ...}`"),
    row("warning", "warn", "the key is `warn`"),
    row("error", "critical", "the key is `critical`"),
    row("on", "signal", SIGNAL),
    row("true", "signal", SIGNAL),
    row("metric", "signal", "the metric stands in the condition: `when: {warn: psi > 0.1}`"),
    row(
        "column",
        "signal",
        "write `features: {include: [...]}` for features, `signal:` for the score or the prediction",
    ),
    row("columns", "features", "write `features: {include: [...]}`"),
    row("feature", "features", "write `features: {include: [...]}`"),
    row("interval", "window", "rules are evaluated whenever a window closes: set `window`"),
    row("evaluation_interval", "window", "rules are evaluated whenever a window closes: set `window`"),
    row("keep_firing_for", "recover", "the key is `recover`: `recover: psi < 0.08`"),
    row("resolve", "recover", "the key is `recover`: `recover: psi < 0.08`"),
    row("enabled", "when", "take the rule out, or put it in a comment: what is not watched should not look watched"),
    row("groups", "rules", "rules stand in one list: `rules:`"),
    row("alerts", "rules", "the key is `rules`"),
    row("route", "routes", "routes stand in one list: `routes: [{match: {severity: critical}, to: [oncall]}]`"),
    row("inhibit_rules", "inhibit", "write `inhibit: [{if: no-data, mute: [feature-drift]}]`"),
    row(
        "mute_time_intervals",
        "silences",
        "write `silences: [{match: {...}, every: \"Sun 02:00-04:00 UTC\", reason: ...}]`",
    ),
    row(
        "time_intervals",
        "silences",
        "write `silences: [{match: {...}, every: \"Sun 02:00-04:00 UTC\", reason: ...}]`",
    ),
    row("receiver", "to", "the key is `to`, a list of receivers' names"),
    row("receivers", "to", "the key is `to`, a list of receivers' names"),
    row("matchers", "match", "the key is `match`: `match: {severity: critical}`"),
    row("match_re", "match", "the key is `match`; its names may hold `*` and `?`"),
    row("repeat_interval", "repeat", "the key is `repeat`"),
    row(
        "group_wait",
        "digest",
        "notifications are grouped by `group_by` of the rule, and collected by `digest` of the route",
    ),
    row("group_interval", "digest", "the key is `digest`"),
    row("group_by", "digest", "`group_by` stands in the rule"),
    row("continue", "to", "every route that matches applies: leave it out"),
    row("source_matchers", "if", "the key is `if`, the name of a rule"),
    row("source_match", "if", "the key is `if`, the name of a rule"),
    row("target_matchers", "mute", "the key is `mute`, a list of rules' names"),
    row("target_match", "mute", "the key is `mute`, a list of rules' names"),
    row("equal", "same", "the key is `same`: `same: [model]`"),
    row("email_configs", "email", "write `email: {to: [ml@example.com]}`"),
    row("webhook_configs", "webhook", "write `webhook: {url: ...}`"),
    row("slack_configs", "slack", "write `slack: {url: {env: SLACK_URL}}`"),
    row("pagerduty_configs", "pagerduty", "write `pagerduty: {routing_key: {env: PAGERDUTY_KEY}}`"),
    row("api_url", "url", "the key is `url`"),
    row("bootstrap.servers", "bootstrap_servers", "the key is `bootstrap_servers`"),
    row("<<", "version", "merge keys are not supported: use `defaults:`, or write the keys out"),
];

/// The habit behind `key`, where it makes sense among the keys that are `known`.
pub fn habit(key: &str, known: &[String]) -> Option<&'static Habit> {
    HABITS.iter().find(|habit| habit.key == key && known.iter().any(|name| name == habit.meant))
}

/// A mapping of one key where a text was written: `when: psi > 0.1`.
pub fn shorthand(key: &str, text: &str) -> Option<String> {
    let text = if text.chars().count() <= 60 { text } else { "..." };
    let written = match key {
        "when" => format!("when: {{critical: {text}}}"),
        "absent" => format!("absent: {{after: {text}}}"),
        "features" => format!("features: {{include: [{text}]}}"),
        "match" => format!("match: {{severity: {text}}}"),
        "email" => format!("email: {{to: [{text}]}}"),
        "kafka" => format!("kafka: {{topic: {text}}}"),
        "training" => format!("training: {{path: {text}}}"),
        // Such an address may let in whoever has it: it is not repeated.
        "webhook" => "webhook: {url: ...}".to_string(),
        "slack" | "teams" => format!("{key}: {{url: {{env: NAME}}}}"),
        "pagerduty" => "pagerduty: {routing_key: {env: NAME}}".to_string(),
        _ => return None,
    };
    Some(format!("write `{written}`"))
}
