//! What fields sample events have: where the time, the identifier, the version, the output and the features stand, and of
//! what type each feature is. What is not certain stands in `notes`, for a person to look at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::config::model::{Kind, MOST_DIMENSIONS, TimestampUnit};
use crate::event::time::event_time_ms;

/// 2000-01-01 to 2100-01-01: what else looks like an epoch is none.
const PLAUSIBLE_MS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;
/// Text with more different values than this share of the events is an identifier, not a category.
const MOST_DISTINCT_SHARE: f64 = 0.5;
/// Below this many events nothing is said about that.
const FEWEST_EVENTS: usize = 50;
/// Segments may be at most this many values.
const MOST_SEGMENT_VALUES: usize = 50;

const TIMES: [&str; 12] = [
    "timestamp",
    "event_time",
    "ts",
    "time",
    "@timestamp",
    "event_timestamp",
    "created_at",
    "occurred_at",
    "datetime",
    "date",
    "at",
    "logged_at",
];
const IDS: [&str; 8] =
    ["prediction_id", "id", "event_id", "request_id", "inference_id", "transaction_id", "uuid", "correlation_id"];
const VERSIONS: [&str; 4] = ["model_version", "version", "modelVersion", "model_ver"];
const MODELS: [&str; 3] = ["model", "model_name", "modelName"];
const SCORES: [&str; 7] = ["score", "probability", "proba", "prediction_score", "confidence", "model_score", "p"];
const PREDICTIONS: [&str; 8] =
    ["prediction", "predicted", "decision", "output", "predicted_label", "y_pred", "class", "prediction_value"];
const FEATURES: [&str; 6] = ["features", "inputs", "input", "feature_values", "instance", "data"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    #[error("no events: a sample has one JSON object a line")]
    Empty,
    #[error("none of {read} events is a JSON object")]
    NoObjects { read: usize },
    #[error(
        "no field holds the time of the events in all of them; name it in the model file: `fields: {{timestamp: ...}}`"
    )]
    NoTime,
    #[error("no field looks like a feature: numbers, texts and flags that differ from event to event")]
    NoFeatures,
}

/// A watched column, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// Dotted path; `None`: where `fields.features` says.
    pub path: Option<String>,
    pub kind: Kind,
    /// Numbers in a vector, otherwise 0.
    pub dimension: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Inferred {
    pub events: usize,
    /// Path and unit of the event time.
    pub time: (String, TimestampUnit),
    /// Path and name, where every event names the same model.
    pub model: Option<(String, String)>,
    pub version: Option<String>,
    pub prediction_id: Option<String>,
    pub prediction: Option<(String, Kind)>,
    pub score: Option<String>,
    /// `features.*`, or `*` for flat events.
    pub features_at: String,
    pub features: Vec<Found>,
    pub segment: Option<String>,
    /// Keys beside the features that are none: events with them must not be rejected.
    pub has_other_keys: bool,
    pub notes: Vec<String>,
}

/// What is known of the values at one path.
#[derive(Debug, Default)]
struct Column {
    present: usize,
    numbers: usize,
    texts: usize,
    flags: usize,
    lists: usize,
    dimension: Option<usize>,
    uneven: bool,
    objects: usize,
    distinct: BTreeSet<String>,
    /// How many values are a time, by the unit they would be in.
    times: BTreeMap<&'static str, usize>,
}

/// Values of a column that are remembered.
const MOST_REMEMBERED: usize = 20_000;

impl Column {
    fn add(&mut self, value: &Value) {
        if value.is_null() {
            return;
        }
        self.present += 1;
        match value {
            Value::Number(number) => {
                self.numbers += 1;
                self.time(&number.to_string(), false);
                self.remember(number.to_string());
            }
            Value::String(text) => {
                self.texts += 1;
                self.time(text, true);
                self.remember(text.clone());
            }
            Value::Bool(flag) => {
                self.flags += 1;
                self.remember(flag.to_string());
            }
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_number) => {
                self.lists += 1;
                self.uneven |= *self.dimension.get_or_insert(items.len()) != items.len();
            }
            Value::Array(_) => self.uneven = true,
            Value::Object(_) => self.objects += 1,
            Value::Null => {}
        }
    }

    fn remember(&mut self, value: String) {
        if self.distinct.len() < MOST_REMEMBERED {
            self.distinct.insert(value);
        }
    }

    fn time(&mut self, text: &str, is_text: bool) {
        for (word, unit) in [("auto", TimestampUnit::Auto), ("rfc3339", TimestampUnit::Rfc3339)] {
            let is_time = event_time_ms(text, is_text, unit).is_ok_and(|ms| PLAUSIBLE_MS.contains(&ms));
            *self.times.entry(word).or_default() += usize::from(is_time);
        }
    }

    /// Every value there is, and at least one, is a time.
    fn is_time(&self) -> bool {
        self.present > 0 && self.times.get("auto") == Some(&self.present)
    }

    fn is_text_time(&self) -> bool {
        self.present > 0 && self.texts == self.present && self.times.get("rfc3339") == Some(&self.present)
    }

    fn kind(&self) -> Option<Kind> {
        let is = |count: usize| count == self.present && count > 0;
        match () {
            () if is(self.numbers) => Some(Kind::Numeric),
            () if is(self.texts) || is(self.flags) => Some(Kind::Categorical),
            () if is(self.lists)
                && !self.uneven
                && self.dimension.is_some_and(|n| (2..=MOST_DIMENSIONS).contains(&n)) =>
            {
                Some(Kind::Vector)
            }
            () => None,
        }
    }

    fn looks_like_identifier(&self) -> bool {
        let distinct = self.distinct.len() as f64;
        self.texts == self.present
            && self.present >= FEWEST_EVENTS
            && distinct > MOST_DISTINCT_SHARE * self.present.min(MOST_REMEMBERED) as f64
    }
}

/// `payloads` are events, one JSON object each; those that are none are left out and noted.
pub fn infer(payloads: &[Vec<u8>]) -> Result<Inferred, InferError> {
    let events: Vec<Map<String, Value>> =
        payloads.iter().filter_map(|payload| serde_json::from_slice(payload).ok()).collect();
    match (payloads.len(), events.len()) {
        (0, _) => return Err(InferError::Empty),
        (read, 0) => return Err(InferError::NoObjects { read }),
        _ => {}
    }
    let mut columns: BTreeMap<String, Column> = BTreeMap::new();
    events.iter().for_each(|event| walk(event, "", 0, &mut columns));
    let mut reading = Reading { events: events.len(), columns: &columns, taken: BTreeSet::new(), notes: Vec::new() };
    if events.len() < payloads.len() {
        reading.notes.push(format!(
            "{} of {} events are no JSON object",
            payloads.len() - events.len(),
            payloads.len()
        ));
    }
    reading.all()
}

/// Columns by their dotted paths, objects within objects up to three deep.
fn walk(object: &Map<String, Value>, prefix: &str, depth: usize, columns: &mut BTreeMap<String, Column>) {
    for (key, value) in object {
        let path = format!("{prefix}{}", key.replace('\\', "\\\\").replace('.', "\\."));
        columns.entry(path.clone()).or_default().add(value);
        if let (Value::Object(inner), true) = (value, depth < 3) {
            walk(inner, &format!("{path}."), depth + 1, columns);
        }
    }
}

struct Reading<'a> {
    events: usize,
    columns: &'a BTreeMap<String, Column>,
    /// Paths that are something else than features.
    taken: BTreeSet<String>,
    notes: Vec<String>,
}

impl Reading<'_> {
    fn all(mut self) -> Result<Inferred, InferError> {
        let time = self.time().ok_or(InferError::NoTime)?;
        let is_one_text = |column: &Column| column.distinct.len() == 1 && column.texts == column.present;
        let model = self.named(&MODELS, is_one_text).and_then(|path| {
            let name = self.columns.get(&path)?.distinct.first()?.clone();
            Some((path, name))
        });
        let version = self.named(&VERSIONS, |column| column.kind().is_some());
        let events = self.events;
        let is_unique =
            |column: &Column| column.present == events && column.distinct.len() == events.min(MOST_REMEMBERED);
        let prediction_id = self.named(&IDS, is_unique);
        let score = self.named(&SCORES, |column| column.kind() == Some(Kind::Numeric));
        let is_output = |column: &Column| matches!(column.kind(), Some(Kind::Numeric | Kind::Categorical));
        let prediction = self.named(&PREDICTIONS, is_output);
        let prediction = prediction.and_then(|path| Some((path.clone(), self.columns.get(&path)?.kind()?)));
        let prefix = self.prefix();
        let (features, has_other_keys) = self.features(&prefix);
        if features.is_empty() {
            return Err(InferError::NoFeatures);
        }
        let segment = self.segment(&features);
        Ok(Inferred {
            events: self.events,
            time,
            model,
            version,
            prediction_id,
            prediction,
            score,
            features_at: format!("{prefix}*"),
            features,
            segment,
            has_other_keys,
            notes: self.notes,
        })
    }

    /// The first column with one of these names, outermost first, that suits.
    fn named(&mut self, names: &[&str], suits: impl Fn(&Column) -> bool) -> Option<String> {
        let depth = |path: &str| path.matches('.').count();
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
        let mut found: Vec<(usize, usize, &String)> = Vec::new();
        for (path, column) in self.columns {
            let rank = names.iter().position(|name| *name == last(path));
            if let Some(rank) = rank.filter(|_| !self.taken.contains(path) && suits(column)) {
                found.push((depth(path), rank, path));
            }
        }
        let (_, _, path) = found.into_iter().min()?;
        self.taken.insert(path.clone());
        Some(path.clone())
    }

    fn time(&mut self) -> Option<(String, TimestampUnit)> {
        let events = self.events;
        let everywhere = |column: &Column| column.present == events && column.is_time();
        let by_name = self.named(&TIMES, everywhere);
        let path = by_name.or_else(|| {
            let others: Vec<&String> =
                self.columns.iter().filter(|(_, column)| everywhere(column)).map(|(path, _)| path).collect();
            let first = others.first().map(|path| path.to_string())?;
            self.notes.push(format!("`{first}` is taken for the time of the events: no field has a usual name"));
            self.taken.insert(first.clone());
            Some(first)
        })?;
        let column = self.columns.get(&path)?;
        Some((path, if column.is_text_time() { TimestampUnit::Rfc3339 } else { TimestampUnit::Auto }))
    }

    /// Where the features stand: the object with a usual name, else the one with most columns; empty: the event itself.
    fn prefix(&self) -> String {
        let is_object = |path: &String| self.columns.get(path).is_some_and(|column| column.objects > 0);
        let direct = |prefix: &str| {
            let within =
                |path: &&String| path.strip_prefix(prefix).is_some_and(|rest| !rest.replace("\\.", "").contains('.'));
            let usable = |path: &&String| self.columns.get(*path).is_some_and(|column| column.kind().is_some());
            self.columns.keys().filter(within).filter(usable).filter(|path| !self.taken.contains(*path)).count()
        };
        let objects: Vec<String> =
            self.columns.keys().filter(|path| is_object(path)).map(|path| format!("{path}.")).collect();
        let named = |prefix: &&String| {
            let last = prefix.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            FEATURES.contains(&last) && direct(prefix) > 0
        };
        if let Some(prefix) = objects.iter().find(named) {
            return prefix.clone();
        }
        let most = objects.iter().max_by_key(|prefix| direct(prefix));
        match most.filter(|prefix| direct(prefix) > direct("")) {
            Some(prefix) => prefix.clone(),
            None => String::new(),
        }
    }

    /// Features under the prefix, and whether other keys stand there.
    fn features(&mut self, prefix: &str) -> (Vec<Found>, bool) {
        let mut features = Vec::new();
        let mut has_other_keys = false;
        for (path, column) in self.columns {
            let Some(rest) = path.strip_prefix(prefix).filter(|_| !self.taken.contains(path)) else { continue };
            if column.objects > 0 {
                has_other_keys = true;
                continue;
            }
            let left_out = match column.kind() {
                None => Some("its values are of several types, or none"),
                Some(Kind::Categorical) if column.is_text_time() => Some("it holds times"),
                Some(Kind::Categorical) if column.looks_like_identifier() => Some("it looks like an identifier"),
                Some(_) if column.distinct.len() == 1 && self.events >= FEWEST_EVENTS => Some("it never changes"),
                Some(_) => None,
            };
            if let Some(reason) = left_out {
                self.notes.push(format!("`{path}` is left out: {reason}"));
                has_other_keys = true;
                continue;
            }
            let is_nested = rest.replace("\\.", "").contains('.');
            let name = rest.replace("\\.", "\u{0}").replace('.', "_").replace('\u{0}', ".");
            features.push(Found {
                name,
                path: is_nested.then(|| path.clone()),
                kind: column.kind().unwrap_or(Kind::Categorical),
                dimension: column.dimension.unwrap_or(0),
            });
        }
        let taken_here = self.taken.iter().any(|path| path.starts_with(prefix));
        (features, has_other_keys || (taken_here && !prefix.is_empty()))
    }

    /// The category with the fewest values, if it has few.
    fn segment(&self, features: &[Found]) -> Option<String> {
        let few = |found: &&Found| {
            let path =
                found.path.clone().unwrap_or_else(|| format!("{}{}", self.prefix(), found.name.replace('.', "\\.")));
            let distinct = self.columns.get(&path).map_or(0, |column| column.distinct.len());
            found.kind == Kind::Categorical
                && (2..=MOST_SEGMENT_VALUES).contains(&distinct)
                && self.events >= FEWEST_EVENTS
        };
        features.iter().find(few).map(|found| found.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(make: impl Fn(usize) -> Value, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|index| make(index).to_string().into_bytes()).collect()
    }

    #[test]
    fn nested_events_are_understood() {
        let sample = events(
            |index| {
                json!({
                    "timestamp": format!("2026-01-02T03:{:02}:{:02}Z", index / 60, index % 60), "id": format!("t-{index}"),
                    "model": "churn", "version": "3", "score": index as f64 / 100.0, "prediction": index % 2 == 0,
                    "features": {"amount": index as f64 * 1.5, "country": (["IT", "FR"])[index % 2],
                        "user": {"age": index}, "session": format!("s{index}"), "embedding": [0.1, 0.2, 0.3]},
                })
            },
            100,
        );
        let found = infer(&sample).unwrap();
        assert_eq!(found.time, ("timestamp".to_string(), TimestampUnit::Rfc3339));
        assert_eq!(found.model, Some(("model".into(), "churn".into())));
        assert_eq!((found.version.as_deref(), found.prediction_id.as_deref()), (Some("version"), Some("id")));
        assert_eq!(found.score.as_deref(), Some("score"));
        assert_eq!(found.prediction, Some(("prediction".into(), Kind::Categorical)));
        assert_eq!(found.features_at, "features.*");
        let names: Vec<(&str, Kind)> = found.features.iter().map(|found| (found.name.as_str(), found.kind)).collect();
        let expected = [
            ("amount", Kind::Numeric),
            ("country", Kind::Categorical),
            ("embedding", Kind::Vector),
            ("user_age", Kind::Numeric),
        ];
        assert_eq!(names, expected);
        assert!(found.has_other_keys && found.segment.as_deref() == Some("country"));
        assert!(found.notes.iter().any(|note| note.contains("`features.session`")), "{:?}", found.notes);
    }

    #[test]
    fn flat_events_are_understood_and_epochs_are_times() {
        let sample = events(|index| json!({"ts": 1_767_225_600_000_i64 + index as i64, "a": index, "b": "x"}), 10);
        let found = infer(&sample).unwrap();
        assert_eq!((found.time, found.features_at.as_str()), (("ts".to_string(), TimestampUnit::Auto), "*"));
        assert_eq!(found.features.len(), 2);
    }

    #[test]
    fn what_cannot_be_inferred_is_said() {
        assert_eq!(infer(&[]), Err(InferError::Empty));
        assert_eq!(infer(&[b"x".to_vec()]), Err(InferError::NoObjects { read: 1 }));
        assert_eq!(infer(&events(|_| json!({"a": 1}), 3)), Err(InferError::NoTime));
        assert_eq!(infer(&events(|_| json!({"ts": 1_767_225_600}), 3)), Err(InferError::NoFeatures));
    }
}
