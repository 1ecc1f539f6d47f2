//! The events of a test: columns drawn from its distributions, written as JSON at the places that the model file names, so
//! that they go through the decoder of production like any others.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::draw::Random;
use crate::config::distribution::{Distribution, Drawn, Shape};
use crate::config::model::{Column, Kind, LABEL_COLUMN, Model, SCORE_SIGNAL, Signal, TimestampUnit};
use crate::config::performance::{Labels, Task};
use crate::config::rule_test_checks::{LABEL_KEY, signal_of};
use crate::config::rule_tests::GivenRows;

/// Where a test's label stands where the model's labels come on a topic of their own: in a test they come with the
/// predictions.
const LABEL_PATH: &str = "driftline_test_label";
/// Share of labels that differ from the prediction where the test says nothing.
const DEFAULT_NOISE: f64 = 0.1;

/// The model as a test sees it: labels come with their predictions.
pub fn as_tested(model: &Model) -> Model {
    let mut model = model.clone();
    if let Some(performance) = &mut model.performance
        && performance.label.is_none()
    {
        let kind = if performance.task == Task::Regression { Kind::Numeric } else { Kind::Categorical };
        performance.label = Some(Column { path: LABEL_PATH.into(), kind });
        performance.labels = None;
    }
    model
}

/// Which events of which time.
pub struct Place<'a> {
    /// `None`: the events themselves carry none.
    pub version: Option<&'a str>,
    /// Event time from and to, epoch milliseconds.
    pub start_ms: i64,
    pub end_ms: i64,
    /// Says what is drawn: rows of different streams have nothing to do with each other.
    pub stream: &'a [&'a str],
}

/// Draws `rows.rows` events in the order of their time. What `rows` does not name is as in `reference`; what neither names
/// has a distribution of its own kind, the same in every window.
pub fn drawn(
    model: &Model,
    rows: &GivenRows,
    reference: &BTreeMap<String, Drawn>,
    place: &Place<'_>,
) -> Vec<Map<String, Value>> {
    let n = rows.rows.unwrap_or(0) as usize;
    let columns = Columns { model, rows, reference, place, n }.all();
    let size_ms = (place.end_ms - place.start_ms) as f64;
    let mut events = Vec::with_capacity(n);
    for index in 0..n {
        let mut event = Map::new();
        for (path, values) in &columns {
            if let Some(value) = values.get(index) {
                put(&mut event, path, value.clone());
            }
        }
        let time_ms = place.start_ms + ((index as f64 + 0.5) / n as f64 * size_ms) as i64;
        complete(model, &mut event, place.version, time_ms, &format!("{}-{index}", place.stream.join("-")));
        events.push(event);
    }
    events
}

/// Fills in what an event lacks of event time, model, version and prediction id.
pub fn complete(model: &Model, event: &mut Map<String, Value>, version: Option<&str>, time_ms: i64, id: &str) {
    let fields = &model.fields;
    put_if_absent(event, &fields.timestamp, || written(time_ms, fields.timestamp_unit));
    if let Some(path) = &fields.model {
        put_if_absent(event, path, || model.model.clone().into());
    }
    if let (Some(path), Some(version)) = (&fields.version, version) {
        put_if_absent(event, path, || version.into());
    }
    if let Some(path) = &fields.prediction_id {
        put_if_absent(event, path, || id.into());
    }
}

fn written(time_ms: i64, unit: TimestampUnit) -> Value {
    match unit {
        TimestampUnit::Auto | TimestampUnit::Ms => time_ms.into(),
        TimestampUnit::S => (time_ms as f64 / 1_000.0).into(),
        TimestampUnit::Us => time_ms.saturating_mul(1_000).into(),
        TimestampUnit::Rfc3339 => chrono::DateTime::from_timestamp_millis(time_ms)
            .map_or(Value::Null, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into()),
    }
}

/// Takes the label out of an event that was drawn for [`as_tested`], as an event of the labels' topic; `None` where it has
/// none.
pub fn take_label(model: &Model, labels: &Labels, event: &mut Map<String, Value>) -> Option<Map<String, Value>> {
    let label = event.remove(LABEL_PATH).filter(|label| !label.is_null())?;
    let id = model.fields.prediction_id.as_ref()?;
    let whole = Value::from(event.clone());
    let id = keys(id).iter().try_fold(&whole, |value, key| value.get(key))?.clone();
    let mut told = Map::new();
    put(&mut told, &labels.fields.prediction_id, id);
    put(&mut told, &labels.fields.label, label);
    if let Some(path) = &labels.fields.model {
        put(&mut told, path, model.model.clone().into());
    }
    Some(told)
}

/// When a label was given, where its events say so.
pub fn date_label(labels: &Labels, label: &mut Map<String, Value>, at_ms: i64) {
    if let Some(path) = &labels.fields.timestamp {
        put(label, path, written(at_ms, labels.fields.timestamp_unit));
    }
}

/// A dotted path's keys; a backslash stands before a dot within one.
fn keys(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && characters.next_if_eq(&'.').is_some();
        match (character, keys.last_mut()) {
            ('.', _) => keys.push(String::new()),
            (_, Some(key)) => key.push(if escaped { '.' } else { character }),
            (_, None) => {}
        }
    }
    keys
}

fn put(event: &mut Map<String, Value>, path: &str, value: Value) {
    let mut keys = keys(path);
    let Some(last) = keys.pop() else { return };
    if let Some(object) = descend(event, &keys) {
        object.insert(last, value);
    }
}

fn put_if_absent(event: &mut Map<String, Value>, path: &str, value: impl FnOnce() -> Value) {
    let mut keys = keys(path);
    let Some(last) = keys.pop() else { return };
    if let Some(object) = descend(event, &keys) {
        object.entry(last).or_insert_with(value);
    }
}

/// The object at these keys, made where it is missing; `None` where something else stands in the way.
fn descend<'e>(event: &'e mut Map<String, Value>, keys: &[String]) -> Option<&'e mut Map<String, Value>> {
    let mut object = event;
    for key in keys {
        object = object.entry(key.clone()).or_insert_with(|| json!({})).as_object_mut()?;
    }
    Some(object)
}

struct Columns<'a> {
    model: &'a Model,
    rows: &'a GivenRows,
    reference: &'a BTreeMap<String, Drawn>,
    place: &'a Place<'a>,
    n: usize,
}

impl Columns<'_> {
    /// Paths in an event with their values.
    fn all(&self) -> Vec<(String, Vec<Value>)> {
        let signals = self.model.signals();
        let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
        let mut score: Option<Vec<f64>> = None;
        let features = self.model.features.len();
        let is_there = |signal: &&Signal| !self.rows.without.contains(&signal.name);
        for signal in signals[..features].iter().filter(is_there) {
            columns.push((signal.path.clone(), self.values(signal, self.distribution(&signal.name))));
        }
        if self.model.score.is_some()
            && let Some(signal) = signals.iter().find(|signal| signal.name == SCORE_SIGNAL)
        {
            let distribution = self.distribution(SCORE_SIGNAL).unwrap_or(plain(Shape::Uniform { low: 0.0, high: 1.0 }));
            let drawn = self.random(&signal.name).numbers(&distribution.shape, self.n);
            let values = drawn.iter().map(|value| json!(value)).collect();
            columns.push((signal.path.clone(), self.spoilt(signal, &distribution, values)));
            score = Some(drawn);
        }
        let class_scores = self.class_scores(&mut columns);
        let outputs = Outputs { columns: self, score, class_scores };
        let prediction = outputs.prediction(&signals, &mut columns);
        outputs.label(prediction.as_deref(), &mut columns);
        columns
    }

    fn random(&self, what: &str) -> Random {
        Random::of(&[self.place.stream, &[what]].concat())
    }

    /// What the test says of a signal, here or in the reference.
    fn distribution(&self, signal: &str) -> Option<Distribution> {
        let named = |features: &BTreeMap<String, Drawn>| {
            let found = features.iter().find(|(key, _)| signal_of(self.model, key) == signal);
            found.and_then(|(_, drawn)| drawn.distribution().ok())
        };
        named(&self.rows.features).or_else(|| named(self.reference))
    }

    fn values(&self, signal: &Signal, distribution: Option<Distribution>) -> Vec<Value> {
        let distribution = distribution.unwrap_or_else(|| plain(default_shape(signal.kind)));
        let mut random = self.random(&signal.name);
        let values = match signal.kind {
            Kind::Numeric => {
                random.numbers(&distribution.shape, self.n).into_iter().map(|value| json!(value)).collect()
            }
            Kind::Categorical => random.categories(&distribution.shape, self.n).into_iter().map(Value::from).collect(),
            Kind::Vector => {
                let parts: Vec<Vec<f64>> =
                    (0..signal.dimension).map(|_| random.numbers(&distribution.shape, self.n)).collect();
                (0..self.n).map(|row| parts.iter().map(|part| json!(part[row])).collect()).collect()
            }
        };
        self.spoilt(signal, &distribution, values)
    }

    /// Some of the values are null, or of a wrong type.
    fn spoilt(&self, signal: &Signal, distribution: &Distribution, mut values: Vec<Value>) -> Vec<Value> {
        let share = |shares: &BTreeMap<String, crate::config::units::Share>| {
            let found = shares.iter().find(|(key, _)| signal_of(self.model, key) == signal.name);
            found.map_or(0.0, |(_, share)| share.share())
        };
        let nulls = 1.0 - (1.0 - distribution.nulls) * (1.0 - share(&self.rows.nulls));
        let invalid = share(&self.rows.invalid);
        let wrong = || match signal.kind {
            Kind::Numeric => json!("invalid"),
            Kind::Categorical => json!(["invalid"]),
            Kind::Vector => json!("invalid"),
        };
        // One order for both, so that a value is not both.
        let order = self.random(&format!("{}\0nulls", signal.name)).order(self.n);
        let nulls = (nulls * self.n as f64).round() as usize;
        let invalid = (invalid * self.n as f64).round() as usize;
        for (value, place) in values.iter_mut().zip(order) {
            if place < nulls {
                *value = Value::Null;
            } else if place < nulls + invalid {
                *value = wrong();
            }
        }
        values
    }

    /// Scores of the classes, even over what adds up to 1, by class.
    fn class_scores(&self, columns: &mut Vec<(String, Vec<Value>)>) -> Vec<(String, Vec<f64>)> {
        let Some(performance) = self.model.performance.as_ref() else { return Vec::new() };
        let exponential = Shape::Exponential { mean: 1.0 };
        let mut scores: Vec<(String, Vec<f64>)> = performance
            .class_scores
            .keys()
            .map(|class| (class.clone(), self.random(&format!("class score {class}")).numbers(&exponential, self.n)))
            .collect();
        for row in 0..self.n {
            let sum: f64 = scores.iter().map(|(_, values)| values[row]).sum();
            scores.iter_mut().for_each(|(_, values)| values[row] /= sum);
        }
        for ((_, path), (_, values)) in performance.class_scores.iter().zip(&scores) {
            columns.push((path.clone(), values.iter().map(|value| json!(value)).collect()));
        }
        scores
    }
}

fn plain(shape: Shape) -> Distribution {
    Distribution { shape, nulls: 0.0, noise: 0.0 }
}

fn default_shape(kind: Kind) -> Shape {
    match kind {
        Kind::Numeric | Kind::Vector => Shape::Normal { mean: 0.0, sd: 1.0 },
        Kind::Categorical => Shape::Choice(vec![("a".into(), 0.6), ("b".into(), 0.3), ("c".into(), 0.1)]),
    }
}

/// What follows from the scores: prediction, then label.
struct Outputs<'a> {
    columns: &'a Columns<'a>,
    score: Option<Vec<f64>>,
    class_scores: Vec<(String, Vec<f64>)>,
}

impl Outputs<'_> {
    /// Negative and positive class of a binary model.
    fn classes(&self) -> (String, String) {
        let performance = self.columns.model.performance.as_ref();
        let positive = performance.and_then(|performance| performance.positive.clone()).unwrap_or_else(|| "1".into());
        let negative = match positive.to_lowercase().as_str() {
            "1" => "0".to_string(),
            "true" => "False".to_string(),
            _ => format!("not {positive}"),
        };
        (negative, positive)
    }

    fn task(&self) -> Option<Task> {
        self.columns.model.performance.as_ref().map(|performance| performance.task)
    }

    /// The model's output, told by its scores unless the test names a distribution.
    fn prediction(&self, signals: &[Signal], columns: &mut Vec<(String, Vec<Value>)>) -> Option<Vec<Value>> {
        let of = self.columns;
        let column = of.model.prediction.as_ref()?;
        let signal = signals.iter().find(|signal| signal.path == column.path && signal.kind == column.kind)?;
        let named = of.distribution(crate::config::model::PREDICTION_SIGNAL);
        let values = match (named.is_none(), self.task(), &self.score) {
            (true, Some(Task::Binary), Some(score)) => {
                let threshold = of.model.performance.as_ref().and_then(|performance| performance.threshold);
                let (negative, positive) = self.classes();
                let class = |score: &f64| if *score >= threshold.unwrap_or(0.5) { &positive } else { &negative };
                score.iter().map(|score| as_column(class(score), column.kind)).collect()
            }
            (true, Some(Task::Multiclass), _) if !self.class_scores.is_empty() => {
                (0..of.n).map(|row| as_column(self.highest(row), column.kind)).collect()
            }
            (true, Some(Task::Binary), None) => {
                let (negative, positive) = self.classes();
                let shape = Shape::Choice(vec![(negative, 0.7), (positive, 0.3)]);
                let drawn = of.random(&signal.name).categories(&shape, of.n);
                drawn.iter().map(|class| as_column(class, column.kind)).collect()
            }
            _ => of.values(signal, named),
        };
        columns.push((column.path.clone(), values.clone()));
        Some(values)
    }

    fn highest(&self, row: usize) -> &str {
        let best = self.class_scores.iter().max_by(|(_, one), (_, other)| one[row].total_cmp(&other[row]));
        best.map_or("", |(class, _)| class)
    }

    fn label(&self, prediction: Option<&[Value]>, columns: &mut Vec<(String, Vec<Value>)>) {
        let of = self.columns;
        let Some(performance) = of.model.performance.as_ref() else { return };
        let Some(column) = performance.label.as_ref().filter(|_| performance.task != Task::Ranking) else { return };
        let named = of.distribution(LABEL_KEY).filter(|_| !of.model.features.contains_key(LABEL_KEY));
        // A label that is a feature too is drawn as that, unless the test says how it follows from the prediction.
        if named.is_none() && columns.iter().any(|(path, _)| *path == column.path) {
            return;
        }
        let distribution = named.unwrap_or_else(|| self.default_label());
        // A label that does not follow from its own event follows from another one.
        let noisy = of.random("label noise").chosen(distribution.noise, of.n);
        let others = of.random("label of another").order(of.n);
        let source = |row: usize| if noisy[row] { others[row] } else { row };
        let luck = of.random(LABEL_COLUMN).spread(of.n);
        let values: Vec<Value> = match &distribution.shape {
            Shape::Calibrated => (0..of.n).map(|row| self.calibrated(source(row), luck[row], column.kind)).collect(),
            Shape::Prediction { plus } => {
                let added = plus.as_ref().map(|shape| of.random("label error").numbers(shape, of.n));
                let predicted = |row: usize| prediction.and_then(|values| values.get(source(row)));
                let value = |row: usize| match (predicted(row), &added) {
                    (Some(value), Some(added)) => json!(value.as_f64().unwrap_or_default() + added[row]),
                    (Some(value), None) => recast(value, column.kind),
                    (None, _) => Value::Null,
                };
                (0..of.n).map(value).collect()
            }
            shape if performance.task == Task::Regression => {
                of.random(LABEL_COLUMN).numbers(shape, of.n).into_iter().map(|number| json!(number)).collect()
            }
            Shape::Bernoulli { share } => {
                let (negative, positive) = self.classes();
                let class = |u: &f64| if u < share { &positive } else { &negative };
                luck.iter().map(|u| as_column(class(u), column.kind)).collect()
            }
            shape => {
                let classes = of.random(LABEL_COLUMN).categories(shape, of.n);
                classes.iter().map(|class| as_column(class, column.kind)).collect()
            }
        };
        let signal = Signal {
            name: LABEL_KEY.into(),
            kind: column.kind,
            path: column.path.clone(),
            required: false,
            keeps_invalid: false,
            range: None,
            dimension: 0,
            members: Vec::new(),
        };
        columns.push((column.path.clone(), of.spoilt(&signal, &distribution, values)));
    }

    fn default_label(&self) -> Distribution {
        match self.task() {
            Some(Task::Regression) => {
                plain(Shape::Prediction { plus: Some(Box::new(Shape::Normal { mean: 0.0, sd: 1.0 })) })
            }
            _ if self.score.is_some() || !self.class_scores.is_empty() => plain(Shape::Calibrated),
            _ => Distribution { noise: DEFAULT_NOISE, ..plain(Shape::Prediction { plus: None }) },
        }
    }

    /// The class that comes true as often as its score says.
    fn calibrated(&self, row: usize, luck: f64, kind: Kind) -> Value {
        if let Some(score) = &self.score
            && self.class_scores.is_empty()
        {
            let (negative, positive) = self.classes();
            return as_column(if luck < score[row] { &positive } else { &negative }, kind);
        }
        let mut left = luck;
        for (class, scores) in &self.class_scores {
            left -= scores[row];
            if left < 0.0 {
                return as_column(class, kind);
            }
        }
        self.class_scores.last().map_or(Value::Null, |(class, _)| as_column(class, kind))
    }
}

/// A class as a column of its kind has it.
fn as_column(class: &str, kind: Kind) -> Value {
    match (kind, class.parse::<f64>()) {
        (Kind::Numeric, Ok(number)) => json!(number),
        _ => class.into(),
    }
}

fn recast(value: &Value, kind: Kind) -> Value {
    match (kind, value) {
        (Kind::Categorical, Value::Number(number)) => number.to_string().into(),
        (Kind::Numeric, Value::String(text)) => as_column(text, kind),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_model_str;

    const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {timestamp: meta.at, timestamp_unit: rfc3339, model: model, version: v, prediction_id: id, features: features.*}
features: {amount: numeric, country: categorical, 'a.b': numeric, embedding: {type: vector, dimension: 3}}
prediction: {path: out.class, type: categorical}
score: {path: out.score, type: numeric}
performance: {task: binary, positive: decline, labels: {topics: [labels]}}
";

    fn rows(yaml: &str) -> GivenRows {
        let text = format!("tests:\n  - name: t\n    given: {{model: fraud, windows: [{yaml}]}}\n    expect: []\n");
        let loaded = crate::config::load::parse_rule_tests("t.test.yaml", &text).loaded.unwrap();
        loaded.value.tests[0].given.windows[0].rows.clone()
    }

    fn events(yaml: &str) -> Vec<Map<String, Value>> {
        let model = as_tested(&parse_model_str("model.yaml", MODEL).unwrap().value);
        let place = Place { version: Some("3"), start_ms: 0, end_ms: 3_600_000, stream: &["t"] };
        drawn(&model, &rows(yaml), &BTreeMap::new(), &place)
    }

    #[test]
    fn an_event_has_everything_at_its_place() {
        let events = events("{rows: 4, amount: constant(5), country: IT, score: constant(0.9), label: calibrated}");
        let first = Value::from(events[0].clone());
        assert_eq!(first["meta"]["at"], "1970-01-01T00:07:30.000Z", "{first:#}");
        assert_eq!((&first["model"], &first["v"], &first["id"]), (&"fraud".into(), &"3".into(), &"t-0".into()));
        assert_eq!((&first["features"]["amount"], &first["features"]["country"]), (&5.0.into(), &"IT".into()));
        assert!(first["features"]["a.b"].is_number() && first["features"]["embedding"].as_array().unwrap().len() == 3);
        assert_eq!((&first["out"]["class"], &first["out"]["score"]), (&"decline".into(), &0.9.into()));
        assert!(["decline", "not decline"].contains(&first[LABEL_PATH].as_str().unwrap()));
    }

    #[test]
    fn nulls_and_invalid_values_come_as_often_as_they_should() {
        let events =
            events("{rows: 200, amount: normal(100, 20) with 10% nulls, nulls: {country: 25%}, invalid: {amount: 5%}}");
        let count = |key: &str, is: &dyn Fn(&Value) -> bool| {
            events.iter().filter(|event| is(&Value::from((*event).clone())["features"][key])).count()
        };
        assert_eq!(count("amount", &Value::is_null), 20);
        assert_eq!(count("amount", &Value::is_string), 10);
        assert_eq!(count("country", &Value::is_null), 50);
    }

    #[test]
    fn labels_follow_the_score_as_far_as_they_should() {
        let agreement = |yaml: &str| {
            let events = events(yaml);
            let agrees = |event: &&Map<String, Value>| {
                let event = Value::from((*event).clone());
                event["out"]["class"] == event[LABEL_PATH]
            };
            events.iter().filter(agrees).count() as f64 / events.len() as f64
        };
        // A uniform score: the likelier class comes true in three of four cases.
        let calibrated = agreement("{rows: 2000}");
        let noise = agreement("{rows: 2000, label: calibrated with 100% noise}");
        let certain = agreement("{rows: 2000, label: prediction}");
        assert!((calibrated - 0.75).abs() < 0.03, "{calibrated}");
        assert!((noise - 0.5).abs() < 0.04, "{noise}");
        assert_eq!(certain, 1.0);
    }
}
