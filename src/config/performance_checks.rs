//! What a model file gets wrong about `performance`: where labels come from, and what its task needs and does not know.

use super::diagnostic::Problem;
use super::model::{Kind, Model};
use super::performance::{Labels, Performance, Task, Value};

/// Panes of windows are kept for 60 days, and those of performance are open until the last label may have come.
const MOST_DELAY_MS: i64 = 50 * 86_400_000;
const MOST_TOP_K: usize = 16;
/// Longest ranked list that is looked at.
const LARGEST_K: u32 = 10_000;

pub(super) fn performance(model: &Model, problems: &mut Vec<Problem>) {
    let Some(performance) = &model.performance else { return };
    match (&performance.label, &performance.labels) {
        (None, None) => {
            let problem = Problem::error("missing-key", "/performance", "nothing says where the labels are").key();
            problems.push(problem.help("add `labels: {topics: [...]}`, or `label: {path: ..., type: ...}`"));
        }
        (Some(_), Some(_)) => {
            let message = "the label cannot both stand in the event and come later";
            let problem = Problem::error("contradiction", "/performance/labels", message).key();
            problems.push(problem.help("keep one of `label` and `labels`"));
        }
        (None, Some(_)) | (Some(_), None) => {}
    }
    if let Some(labels) = &performance.labels {
        self::labels(model, labels, problems);
    }
    if let Some(label) = &performance.label {
        label_kind(performance.task, label.kind, problems);
    }
    outputs(model, performance, problems);
    unsuited_keys(performance, problems);
    if performance.class_scores.len() == 1 {
        let message = "a model with one class has nothing to choose from";
        let problem = Problem::error("out-of-range", "/performance/class_scores", message).key();
        problems.push(problem.help("list the score of every class"));
    }
    top_k(&performance.top_k, problems);
    if let Some(value) = &performance.value {
        self::value(performance.task, value, problems);
    }
}

fn labels(model: &Model, labels: &Labels, problems: &mut Vec<Problem>) {
    let pointer = "/performance/labels";
    if labels.topics.is_empty() {
        let problem = Problem::error("empty-list", format!("{pointer}/topics"), "labels need at least one topic");
        problems.push(problem.help("topics: [labels]"));
    }
    for (index, topic) in labels.topics.iter().enumerate() {
        let place = format!("{pointer}/topics/{index}");
        if model.topics.contains(topic) {
            let message = format!("`{topic}` has the predictions: its events cannot be labels as well");
            let problem = Problem::error("contradiction", place, message);
            problems.push(problem.help("a label within the prediction event is `label: {path: ..., type: ...}`"));
        } else if labels.topics[..index].contains(topic) {
            problems.push(Problem::error("duplicate", place, format!("`{topic}` stands here twice")));
        }
    }
    if model.fields.prediction_id.is_none() {
        let message = "labels find their predictions by id, and predictions of this model have none";
        let problem = Problem::error("missing-key", pointer, message).key();
        problems.push(problem.help("name its place in the event: `fields: {prediction_id: id}`"));
    }
    if labels.delay.ms == 0 || labels.delay.ms > MOST_DELAY_MS {
        let message =
            format!("a delay of {} is not within 1ms and 50d, as long as windows can be kept open", labels.delay);
        problems.push(Problem::error("out-of-range", format!("{pointer}/delay"), message));
    }
    if labels.max_pending == 0 {
        let message = "without room for a single prediction no label can be met";
        problems.push(Problem::error("out-of-range", format!("{pointer}/max_pending"), message).help("write 1000000"));
    }
    if !(labels.sample > 0.0 && labels.sample <= 1.0) {
        let message = format!("a share above 0 and at most 1 can be joined, not {}", labels.sample);
        problems.push(Problem::error("out-of-range", format!("{pointer}/sample"), message).help("write 0.1"));
    }
    if labels.revise_every.ms == 0 {
        let message = "this time must be longer than nothing";
        problems.push(Problem::error("out-of-range", format!("{pointer}/revise_every"), message).help("write 1m"));
    }
}

/// Of a label in the prediction event.
fn label_kind(task: Task, kind: Kind, problems: &mut Vec<Problem>) {
    let (fits, help) = match task {
        Task::Binary | Task::Multiclass => (kind != Kind::Vector, "write `type: categorical`"),
        Task::Regression => (kind == Kind::Numeric, "write `type: numeric`"),
        Task::Ranking => {
            (kind == Kind::Vector, "write `type: vector`: the relevance of each item, in the ranked order")
        }
    };
    if !fits {
        let message = format!("the label of a {} model is not {}", word(task), kind.predicate());
        problems.push(Problem::error("bad-label", "/performance/label/type", message).help(help));
    }
}

/// What the task needs of the prediction event.
fn outputs(model: &Model, performance: &Performance, problems: &mut Vec<Problem>) {
    let is_numeric_score = model.score.as_ref().is_some_and(|score| score.kind == Kind::Numeric);
    let prediction = model.prediction.as_ref().map(|prediction| prediction.kind);
    let place = "/performance/task";
    let missing = |message: &str, help: &str| Problem::error("missing-key", place, message).help(help);
    match performance.task {
        Task::Binary if !is_numeric_score && prediction.is_none() => {
            let message = "a binary model has a numeric `score`, or a `prediction`";
            problems.push(missing(message, "add `score: {path: score, type: numeric}`"));
        }
        Task::Multiclass if prediction.is_none() && performance.class_scores.is_empty() => {
            let message = "a model with several classes has a `prediction`, or `class_scores`";
            problems.push(missing(message, "add `prediction: {path: class, type: categorical}`"));
        }
        Task::Multiclass if prediction == Some(Kind::Numeric) => {
            let message = "the prediction of a model with several classes is one of them, not a number";
            let problem = Problem::error("bad-prediction", "/prediction/type", message);
            problems.push(problem.help("write `type: categorical`; numbers are read as the text of a class"));
        }
        Task::Regression if prediction.is_none() => {
            let message = "a regression has a numeric `prediction`";
            problems.push(missing(message, "add `prediction: {path: predicted, type: numeric}`"));
        }
        Task::Regression if prediction == Some(Kind::Categorical) => {
            let message = "the prediction of a regression is a number";
            problems.push(Problem::error("bad-prediction", "/prediction/type", message).help("write `type: numeric`"));
        }
        Task::Binary | Task::Multiclass | Task::Regression | Task::Ranking => {}
    }
}

/// Keys that only another task knows.
fn unsuited_keys(performance: &Performance, problems: &mut Vec<Problem>) {
    let task = performance.task;
    let value = performance.value.as_ref();
    let has_cell = |cell: fn(&Value) -> Option<f64>| value.is_some_and(|value| cell(value).is_some());
    for (key, given, of) in [
        ("positive", performance.positive.is_some(), Task::Binary),
        ("threshold", performance.threshold.is_some(), Task::Binary),
        ("class_scores", !performance.class_scores.is_empty(), Task::Multiclass),
        ("top_k", !performance.top_k.is_empty(), Task::Ranking),
        ("value/true_positive", has_cell(|value| value.true_positive), Task::Binary),
        ("value/false_positive", has_cell(|value| value.false_positive), Task::Binary),
        ("value/false_negative", has_cell(|value| value.false_negative), Task::Binary),
        ("value/true_negative", has_cell(|value| value.true_negative), Task::Binary),
        ("value/matrix", value.is_some_and(|value| !value.matrix.is_empty()), Task::Multiclass),
    ] {
        if given && task != of {
            let name = key.rsplit('/').next().unwrap_or(key);
            let message = format!("`{name}` is for `task: {}`, not for `task: {}`", word(of), word(task));
            problems.push(Problem::error("unsuited-key", format!("/performance/{key}"), message).key());
        }
    }
    if task == Task::Ranking && value.is_some_and(|value| value.sql.is_some()) {
        let message = "a ranked list has no single label to compute a value from";
        problems.push(Problem::error("unsuited-key", "/performance/value/sql", message).key());
    }
}

fn word(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Multiclass => "multiclass",
        Task::Regression => "regression",
        Task::Ranking => "ranking",
    }
}

fn top_k(top_k: &[u32], problems: &mut Vec<Problem>) {
    for (index, k) in top_k.iter().enumerate() {
        let place = format!("/performance/top_k/{index}");
        if !(1..=LARGEST_K).contains(k) {
            let message = format!("k is the number of items at the top of a list: 1 to {LARGEST_K}, not {k}");
            problems.push(Problem::error("out-of-range", place, message));
        } else if top_k[..index].contains(k) {
            problems.push(Problem::error("duplicate", place, format!("{k} stands here twice")));
        }
    }
    if top_k.len() > MOST_TOP_K {
        let message = format!("{} different k, {MOST_TOP_K} are the most", top_k.len());
        problems.push(Problem::error("out-of-range", "/performance/top_k", message).key());
    }
}

fn value(task: Task, value: &Value, problems: &mut Vec<Problem>) {
    let pointer = "/performance/value";
    let cells = [value.true_positive, value.false_positive, value.false_negative, value.true_negative];
    match (cells.iter().any(Option::is_some) || !value.matrix.is_empty(), &value.sql) {
        (false, None) => {
            let help = match task {
                Task::Binary => "add `true_positive: 100, false_positive: -5` or `sql:`",
                Task::Multiclass => "add `matrix:` or `sql:`",
                Task::Regression => "add `sql: -abs(label - prediction)`",
                Task::Ranking => "leave `value` out: a ranked list has no single label to compute one from",
            };
            let message = "nothing says what an outcome is worth";
            problems.push(Problem::error("missing-key", pointer, message).key().help(help));
        }
        (true, Some(_)) => {
            let message = "an outcome is worth what a table says or what an expression says, not both";
            let problem = Problem::error("contradiction", format!("{pointer}/sql"), message).key();
            problems.push(problem.help("keep one of them"));
        }
        (true, None) | (false, Some(_)) => {}
    }
}
