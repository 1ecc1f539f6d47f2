//! Everything that `driftline check` can find, by its code: what another program filters by, and a person searches for.
//! To add one: a row, in the order of the alphabet; docs/check.md lists the same.

/// What a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Never changes its meaning; one that is found no more is taken out.
    pub code: &'static str,
    pub meaning: &'static str,
    /// What to do, where a finding does not say it better itself.
    pub remedy: &'static str,
}

const fn row(code: &'static str, meaning: &'static str, remedy: &'static str) -> Code {
    Code { code, meaning, remedy }
}

pub const CODES: [Code; 125] = [
    row(
        "action-kind",
        "an action is not exactly one of airflow, argo, webhook and the others",
        "give it one of them; make another action for another",
    ),
    row("auto-threshold", "`auto` stands where nothing can be learned for it", "write a number instead of `auto`"),
    row(
        "bad-address",
        "not an e-mail address, or not the address of a host",
        "write `name@example.com`, or `127.0.0.1:8080`",
    ),
    row("bad-datatype", "no type of an output of a proxied model", "write one of those that the finding lists"),
    row("bad-duration", "not a duration", "write a whole number and one of ms, s, m, h, d, such as `15m`"),
    row(
        "bad-expression",
        "the expression of a prediction's value cannot be computed",
        "docs/models.md says what may stand in it",
    ),
    row("bad-for", "`for` does not count windows that can be reached", "write `2 windows` or `3 of 5 windows`"),
    row("bad-guard", "a guard cannot be read", "docs/retraining.md says how guards are written"),
    row("bad-job", "the `spec` of a Kubernetes Job has no containers", "docs/retraining.md shows one"),
    row("bad-joint", "the joint signal cannot be made of these", "list at least two numeric features, or write `all`"),
    row("bad-label", "the label has not the type that the task needs", "docs/models.md lists the type for each task"),
    row("bad-name", "a name holds characters that it cannot", "use letters, digits, `_`, `.` and `-`"),
    row(
        "bad-parameter",
        "a change detector does not take this parameter, or not this value",
        "docs/statistics.md lists the parameters of each method",
    ),
    row("bad-path", "a path into the event is not one", "write keys with dots between them, such as `features.amount`"),
    row("bad-pattern", "a regular expression cannot be read", "correct it, or write plain text"),
    row("bad-percentage", "not a percentage", "write a number from 0 to 100 and `%`, such as `80%`"),
    row(
        "bad-placeholder",
        "a text holds a placeholder that does not exist, or braces that do not match",
        "write `{rule}`; braces themselves are `{{` and `}}`",
    ),
    row(
        "bad-prediction",
        "the prediction has not the type that the task needs",
        "docs/models.md lists the type for each task",
    ),
    row("bad-public-key", "not the public half of a key", "write the line that `driftline-scorer keygen` printed"),
    row(
        "bad-reference",
        "windows cannot be compared with this reference",
        "docs/rules.md lists the references there are",
    ),
    row(
        "bad-rename",
        "`formerly` names a rule that still exists, or that another one was",
        "keep `formerly` at the one rule that goes on",
    ),
    row(
        "bad-silence",
        "the time of a silence cannot be read, or never comes",
        "write `every: Sun 02:00-04:00 Europe/Paris`, or `from` and `until`",
    ),
    row("bad-slide", "windows of this slide do not fit together", "choose a slide that divides the window"),
    row(
        "bad-time",
        "not an instant, or not a time of a test",
        "write `2026-03-01T00:00:00Z`; in tests `window 6`, `windows 4-7` or `end`",
    ),
    row(
        "bad-url",
        "not the address of a web or mail server",
        "write it whole, such as `https://ops.example.com/drift`",
    ),
    row("bad-version", "this version of the format is not known", "write `version: 1`"),
    row(
        "chance-alerts",
        "chance alone is expected to raise more than one alert a day",
        "ask for more windows with `for`, or a smaller `alpha`",
    ),
    row("contradiction", "two keys contradict each other", "keep one of them"),
    row(
        "damaged-reference",
        "a built reference is not what was written",
        "build it again with `driftline reference build`",
    ),
    row("distribution", "a distribution cannot be drawn from", "docs/testing-rules.md lists the distributions"),
    row("duplicate", "the same thing stands in a list twice", "remove one of them"),
    row("duplicate-action", "two files define the same action", "rename one of them, or keep it in one file"),
    row("duplicate-key", "a mapping has the same key twice", "remove one of them"),
    row("duplicate-model", "two models have the same name", "rename one of them"),
    row("duplicate-receiver", "two files define the same receiver", "rename one of them, or keep it in one file"),
    row("duplicate-rule", "two rules have the same name", "rename one of them"),
    row("duplicate-test", "two tests have the same name", "rename one of them"),
    row(
        "duplicate-token",
        "two tokens of the API have the same name, or the same source",
        "rename one of them, or take it out",
    ),
    row("empty-list", "a list that needs an entry has none", "add one, or leave the key out"),
    row("empty-text", "a text for people is empty", "write one, or leave the key out"),
    row("environment", "an environment variable is wrong", "correct or unset the variable"),
    row("expression", "a condition cannot be read", "docs/rules.md has the grammar of conditions"),
    row(
        "idle-digest",
        "a receiver gets at once what a digest would collect for it",
        "take it out of one of the two routes",
    ),
    row(
        "inhibition-cycle",
        "rules inhibit each other in a circle",
        "keep the direction from the cause to what it explains",
    ),
    row("inhibits-across-models", "an inhibition of one model's alerts by another's", "add `model` to `same`"),
    row("inhibits-itself", "a rule inhibits itself", "name the rules that it explains"),
    row(
        "interpolation",
        "a text holds `${NAME}` or the like, which nothing replaces",
        "write `{env: NAME}` where a secret or an address may stand",
    ),
    row(
        "invalid",
        "a value has not the form that is needed",
        "docs/rules.md, docs/models.md and docs/deployment.md describe every key",
    ),
    row(
        "late-page",
        "an alert that should wake somebody waits for a digest",
        "leave `digest` out, or match `severity: warn`",
    ),
    row(
        "literal-secret",
        "a secret stands in the file itself",
        "write `{env: NAME}` or `{file: PATH}`, and change the secret",
    ),
    row("match-all", "a silence of everything", "say which: `match: {model: fraud@*, severity: warn}`"),
    row(
        "min-samples",
        "windows are not expected to hold as many events as a rule needs",
        "lower `min_samples`, or lengthen `window`",
    ),
    row("missing-key", "a key that is needed is not there", "add it"),
    row("never-in-common", "two rules can never have in common what `same` asks for", "take it out of `same`"),
    row("never-runs", "an action can never run", "docs/retraining.md says when actions run"),
    row(
        "no-baseline",
        "a query of SQL is compared with a baseline, and the rule names no moving reference",
        "add `reference: {trailing: 7d}`, or compare with a number",
    ),
    row("no-condition", "a rule can never fire", "add `when:` or `absent:`"),
    row("no-cooldown", "an action without a cooldown", "add `cooldown: 72h`"),
    row(
        "no-detector",
        "a rule asks for changes of a signal that none is watched for",
        "add `change_detectors:` to the model file",
    ),
    row("no-file", "no file matches", "correct the path; paths start at the service file"),
    row("no-incident", "no incident is listed", "list at least one"),
    row(
        "no-labels",
        "a guard asks for labels of a model that has none",
        "add `performance: {labels: ...}` to the model file, or take the guard out",
    ),
    row("no-route", "nobody is told of an alert", "add a route that matches it"),
    row("no-smtp", "e-mail without a mail server", "add `smtp:` to the service file"),
    row("no-value", "a key has no value", "give it one, or leave the key out"),
    row(
        "no-vector",
        "a vector where none can be, or a dimension of what is none",
        "write `type: vector` for vectors alone",
    ),
    row("no-within", "a rollback that may come long after a promotion", "add `guard: {within: 72h of promotion}`"),
    row("not-utf8", "the file is not UTF-8", "save the file as UTF-8"),
    row(
        "out-of-range",
        "a number or duration is too small or too large",
        "docs/rules.md, docs/models.md and docs/deployment.md say what each key takes",
    ),
    row("past-silence", "a silence that is over", "take it out"),
    row("plain-http", "http without TLS to a public host", "write `https://`"),
    row("private-address", "a private address without leave", "allow it with `allow_private: true`"),
    row(
        "receiver-kind",
        "a receiver is not exactly one of email, webhook, slack and the others",
        "give it one of them; make another receiver for another",
    ),
    row("recover-side", "`recover` holds while the rule still breaches", "write a condition on the healthy side"),
    row(
        "rename",
        "a rule seems to be renamed, and its alerts would be lost",
        "add `formerly: OLD-NAME` to the new rule",
    ),
    row("retraining-on-no-data", "a rule about missing data asks for retraining", "take the action out of the rule"),
    row("reversed", "something ends before it begins", "exchange the two times"),
    row("schema", "the schema itself is wrong: a fault of Driftline", "report it"),
    row("secret-source", "a secret with no source, or with two", "write `{env: NAME}` or `{file: PATH}`"),
    row(
        "segment-not-categorical",
        "a segment that is no categorical feature",
        "choose a feature of type `categorical`",
    ),
    row("severity-order", "`critical` is reached before `warn`", "give `critical` the graver threshold"),
    row(
        "short-cooldown",
        "a cooldown shorter than labels take to come",
        "write a cooldown as long as the delay of the labels, or longer",
    ),
    row("source-topic", "alerts would go to a topic that a model reads", "name a topic that only alerts go to"),
    row("sql", "a query of a metric cannot be read or planned", "docs/sql-metrics.md says what a query may hold"),
    row(
        "sql-integer-division",
        "a whole number is divided by a whole number: the fraction is dropped",
        "write `CAST(... AS DOUBLE)` around one of them",
    ),
    row(
        "sql-no-aggregate",
        "a query is not one number for all events of a window",
        "put columns into an aggregate, such as `avg(...)`",
    ),
    row("sql-no-value", "the number of a query is not named `value`", "write `AS value` after it"),
    row(
        "sql-order",
        "an aggregate depends on the order of events, or has an argument out of its range",
        "docs/sql-metrics.md lists the aggregates",
    ),
    row(
        "sql-shape",
        "a query holds something that a metric cannot have",
        "docs/sql-metrics.md says what a query may hold",
    ),
    row(
        "sql-volatile",
        "a query calls a function that gives another value each time",
        "use `event_time`, the time of the event",
    ),
    row(
        "template",
        "a placeholder that does not exist, or braces that do not match",
        "write `{name}`; braces themselves are `{{` and `}}`",
    ),
    row("too-large", "the file is too large for a configuration", "is it the right file?"),
    row("too-many", "there are more findings than are shown", "mend these, and check again"),
    row("two-conditions", "a rule has two conditions that exclude each other", "make two rules of it"),
    row("two-levels", "both `alpha` and `budget` say how many false alarms there may be", "keep one of them"),
    row("unknown-action", "an action that is not defined", "define it under `actions:`"),
    row("unknown-column", "a query names a column that the model does not have", "correct the name"),
    row("unknown-feature", "a feature that the model does not have", "correct the name, or add it to the model file"),
    row("unknown-file", "a file that is none of those of Driftline", "leave it out"),
    row("unknown-function", "a query names a function that does not exist", "correct the name"),
    row("unknown-key", "a key that is not known here", "correct or remove it"),
    row("unknown-metric", "a metric that does not exist", "docs/rules.md lists them"),
    row("unknown-model", "no model matches", "correct the name, or add the model"),
    row("unknown-receiver", "a receiver that is not defined", "define it under `receivers:`"),
    row(
        "unknown-reference",
        "a reference that no model of the rule has",
        "add it under `references:` in the model file",
    ),
    row("unknown-rule", "no rule of this name, or none that matches", "correct the name"),
    row("unknown-segment", "a segment that no model of the rule has", "add it to `segments:` in the model file"),
    row("unknown-signal", "a signal that no model of the rule has", "correct the name"),
    row("unknown-table", "a query names a table other than `events`", "write `FROM events`"),
    row("unknown-value", "not one of the values that a key takes", "choose one of them"),
    row(
        "unknown-version",
        "the model does not tell versions apart, and the rule asks for one",
        "add `fields: {version: ...}` to the model file",
    ),
    row("unmatched-silence", "a silence that no alert can match", "loosen `match`, or take the silence out"),
    row("unreached-route", "no rule reaches a route", "correct `match:`, or take the route out"),
    row("unreadable", "a file cannot be read", "is it there, and may it be read?"),
    row("unsuited-key", "a key that does not go with the others", "leave it out"),
    row(
        "unsuited-metric",
        "a metric that a feature of this type does not have",
        "`psi`, `js` and `null_rate` suit any feature",
    ),
    row("unsuited-signal", "a signal that a change detector cannot read", "choose a numeric signal"),
    row("unsupported-reference", "a stored reference that rules cannot be compared with yet", "leave `reference` out"),
    row("untested-rule", "no test covers a rule", "write one in a file `*.test.yaml` beside it"),
    row("unused-action", "no rule asks for an action", "add it to a rule, or take it out"),
    row("unused-receiver", "no route leads to a receiver", "add it to a route, or take it out"),
    row("weak-reference", "a built reference has too few rows to judge by", "build it from more rows"),
    row(
        "wrong-type",
        "a value of another type",
        "docs/rules.md, docs/models.md and docs/deployment.md say what each key takes",
    ),
    row(
        "yaml",
        "the text is not YAML",
        "indent with spaces, and put text with `: `, `#`, `{`, `[`, `*` or `!` in quotes",
    ),
    row("yaml-tag", "a YAML tag", "quote the text if it should begin with `!`"),
];

fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

/// What a code stands for.
pub fn meaning(code: &str) -> Option<&'static str> {
    find(code).map(|known| known.meaning)
}

/// What to do about a finding that does not say it itself.
pub fn remedy(code: &str) -> Option<&'static str> {
    find(code).map(|known| known.remedy)
}
