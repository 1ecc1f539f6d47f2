//! What a model's predictions and labels are to performance: task, classes, threshold, what a row needs.

use std::collections::HashMap;
use std::sync::Arc;

use super::prediction::{Label, Prediction};
use super::value::Worth;
use super::value_sql::ValueExpression;
use crate::config::model::{Kind, Model};
use crate::config::performance::{Performance, Task};

const DEFAULT_POSITIVE: &str = "1";
const DEFAULT_THRESHOLD: f64 = 0.5;
const DEFAULT_TOP_K: u32 = 10;
/// More classes than this are counted as one unknown class: the table of a profile grows with their square.
pub const MOST_CLASSES: usize = 1_000;
/// Different scores or errors that a profile keeps exactly.
pub const MOST_VALUES: usize = 4_096;
/// The same over all classes of a multiclass model, and the least for one class.
const MOST_CLASS_VALUES: usize = 4 * MOST_VALUES;
const LEAST_CLASS_VALUES: usize = 256;

/// Of one model and reference; profiles of equal layouts can be merged.
#[derive(Debug, Clone)]
pub struct PerformanceLayout {
    task: Task,
    classes: Vec<String>,
    positions: HashMap<Meaning, u32>,
    threshold: f64,
    /// What the model file names; a row needs all of it.
    has_prediction: bool,
    has_score: bool,
    has_class_scores: bool,
    top_k: Vec<u32>,
    worth: Option<Worth>,
    fingerprint: u32,
}

/// A class as it is compared: numbers and truth values by what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Meaning {
    /// Bits of a double.
    Number(u64),
    Text(String),
}

impl Meaning {
    fn of(text: &str) -> Self {
        match text {
            "true" | "True" | "TRUE" => Self::of_number(1.0),
            "false" | "False" | "FALSE" => Self::of_number(0.0),
            _ => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::of_number(number),
                _ => Self::Text(text.into()),
            },
        }
    }

    fn of_number(number: f64) -> Self {
        // Zeros of either sign are one.
        Self::Number((number + 0.0).to_bits())
    }
}

impl PerformanceLayout {
    /// `None` where the model file has no `performance`. `reference_classes` are the different labels of the reference,
    /// as text, in any order.
    pub fn of(model: &Model, reference_classes: &[String]) -> Option<Arc<Self>> {
        let performance = model.performance.as_ref()?;
        let classes = classes(performance, reference_classes);
        let mut positions = HashMap::new();
        for (position, class) in classes.iter().enumerate() {
            positions.entry(Meaning::of(class)).or_insert(position as u32);
        }
        let mut top_k = performance.top_k.clone();
        if top_k.is_empty() {
            top_k.push(DEFAULT_TOP_K);
        }
        top_k.sort_unstable();
        top_k.dedup();
        let is_numeric = model.score.as_ref().is_some_and(|score| score.kind == Kind::Numeric);
        let mut layout = Self {
            task: performance.task,
            classes,
            positions,
            threshold: performance.threshold.unwrap_or(DEFAULT_THRESHOLD),
            has_prediction: model.prediction.is_some(),
            has_score: performance.task == Task::Binary && is_numeric,
            has_class_scores: performance.task == Task::Multiclass && !performance.class_scores.is_empty(),
            top_k,
            worth: None,
            fingerprint: 0,
        };
        layout.fingerprint = layout.hash();
        layout.worth = performance.value.as_ref().and_then(|value| match &value.sql {
            // A model file whose expression cannot be planned is refused when it is read.
            Some(sql) => ValueExpression::plan(sql, model, performance.task).ok().map(Worth::Sql),
            None => Worth::matrix(value, performance.task, |class| layout.class_of(class)),
        });
        Some(Arc::new(layout))
    }

    pub fn task(&self) -> Task {
        self.task
    }

    /// Binary: the negative class and the positive one. Multiclass: those that have a score, or else those of the
    /// reference, sorted; another class has a position one beyond the last. Otherwise empty.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Binary: scores from here up are predicted positive, where the model file names no `prediction`.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Ranking: the k of `ndcg@k` and `precision@k`, ascending.
    pub fn top_k(&self) -> &[u32] {
        &self.top_k
    }

    /// The features whose values go along with a prediction for the business value, in the order of
    /// [`Prediction::carried`].
    pub fn carried(&self) -> &[String] {
        match &self.worth {
            Some(Worth::Sql(expression)) => expression.carried(),
            _ => &[],
        }
    }

    /// Stands for what the counters of a profile mean: task, classes, what a row needs, the k of ranked lists.
    pub(super) fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// FNV-1a, so that it is the same in every process and version.
    fn hash(&self) -> u32 {
        let (task, needs) = (self.task as u8, [self.has_prediction, self.has_score, self.has_class_scores]);
        // What the negative class is called changes nothing.
        let classes = if self.task == Task::Binary { &self.classes[1..] } else { &self.classes[..] };
        let classes = classes.iter().flat_map(|class| class.bytes().chain([0xff]));
        let top_k = self.top_k.iter().filter(|_| self.task == Task::Ranking).flat_map(|k| k.to_le_bytes());
        let bytes = [task].into_iter().chain(needs.map(u8::from)).chain(classes).chain(top_k);
        bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    pub(super) fn worth(&self) -> Option<&Worth> {
        self.worth.as_ref()
    }

    /// Whether a binary row needs a score.
    pub fn has_score(&self) -> bool {
        self.has_score
    }

    /// Whether a multiclass row needs the scores of all classes.
    pub fn has_class_scores(&self) -> bool {
        self.has_class_scores
    }

    /// The class that a text names. Binary: 1 for the positive class, 0 for everything else. Numbers and truth values
    /// compare by what they mean: `1` is `1.0` and `true`.
    pub fn class_of(&self, text: &str) -> u32 {
        self.position(&Meaning::of(text))
    }

    /// The same for a number that came as such, or a truth value as 1 or 0.
    pub fn class_of_number(&self, number: f64) -> u32 {
        self.position(&Meaning::of_number(number))
    }

    fn position(&self, meaning: &Meaning) -> u32 {
        let found = self.positions.get(meaning).copied();
        match self.task {
            Task::Binary => u32::from(found == Some(1)),
            _ => found.unwrap_or(self.classes.len() as u32),
        }
    }

    /// How the class at a position is called, `(unknown)` for one beyond.
    pub fn class_name(&self, class: u32) -> &str {
        self.classes.get(class as usize).map_or("(unknown)", String::as_str)
    }

    /// The class that is predicted: the one that the event gives; where the model file names no `prediction`, a binary
    /// score of at least the threshold is positive, and of several classes the first with the highest score is taken.
    /// `None`: it is missing.
    pub fn predicted_class(&self, prediction: &Prediction) -> Option<u32> {
        if self.has_prediction || prediction.class.is_some() {
            return prediction.class;
        }
        match self.task {
            Task::Binary => (!prediction.score.is_nan()).then(|| u32::from(prediction.score >= self.threshold)),
            Task::Multiclass => {
                let scores = prediction.class_scores.iter().enumerate().filter(|(_, score)| !score.is_nan());
                let highest = scores.reduce(|best, next| if next.1 > best.1 { next } else { best });
                highest.map(|(class, _)| class as u32)
            }
            Task::Regression | Task::Ranking => None,
        }
    }

    /// Whether the prediction has everything that the model file names: the class, the score (of every class), the
    /// number, each finite. Rows that lack something are in no metric.
    pub fn is_complete(&self, prediction: &Prediction) -> bool {
        match self.task {
            Task::Binary => {
                self.predicted_class(prediction).is_some() && (!self.has_score || prediction.score.is_finite())
            }
            Task::Multiclass => {
                let scores = &prediction.class_scores;
                let scored = scores.len() == self.classes.len() && scores.iter().all(|score| score.is_finite());
                self.predicted_class(prediction).is_some() && (!self.has_class_scores || scored)
            }
            Task::Regression => prediction.value.is_finite(),
            Task::Ranking => true,
        }
    }

    /// Whether a label is of the task's kind and a value: a class, a finite number, finite relevances of at least 0.
    pub fn fits(&self, label: &Label) -> bool {
        match (self.task, label) {
            (Task::Binary, Label::Class(class)) => *class <= 1,
            (Task::Multiclass, Label::Class(_)) => true,
            (Task::Regression, Label::Number(number)) => number.is_finite(),
            (Task::Ranking, Label::Relevance(items)) => items.iter().all(|item| item.is_finite() && *item >= 0.0),
            _ => false,
        }
    }

    /// Different values that a count of scores or errors keeps exactly. A number of the layout, and so the same for
    /// every profile that may be merged.
    pub(super) fn exact_values(&self) -> usize {
        match self.task {
            Task::Multiclass => (MOST_CLASS_VALUES / self.classes.len().max(1)).clamp(LEAST_CLASS_VALUES, MOST_VALUES),
            _ => MOST_VALUES,
        }
    }
}

fn classes(performance: &Performance, reference_classes: &[String]) -> Vec<String> {
    match performance.task {
        Task::Binary => {
            let positive = performance.positive.clone().unwrap_or_else(|| DEFAULT_POSITIVE.into());
            let meaning = Meaning::of(&positive);
            let other = reference_classes.iter().filter(|class| Meaning::of(class) != meaning).min();
            let negative = match other {
                Some(other) => other.clone(),
                None if meaning == Meaning::of_number(1.0) => "0".into(),
                None => format!("not {positive}"),
            };
            vec![negative, positive]
        }
        Task::Multiclass => {
            let mut classes = match performance.class_scores.is_empty() {
                true => reference_classes.to_vec(),
                false => performance.class_scores.keys().cloned().collect(),
            };
            classes.sort();
            classes.dedup();
            classes.truncate(MOST_CLASSES);
            classes
        }
        Task::Regression | Task::Ranking => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PerformanceProfile, ProfileError};
    use super::*;

    fn layout(performance: serde_json::Value, output: serde_json::Value, classes: &[&str]) -> Arc<PerformanceLayout> {
        let mut model = serde_json::json!({
            "version": 1, "model": "judged", "topics": ["predictions"], "features": {"amount": "numeric"},
            "performance": performance,
        });
        for (key, value) in output.as_object().unwrap() {
            model[key] = value.clone();
        }
        let classes: Vec<String> = classes.iter().map(|class| class.to_string()).collect();
        PerformanceLayout::of(&serde_json::from_value(model).unwrap(), &classes).unwrap()
    }

    fn output(columns: &[&str]) -> serde_json::Value {
        let kind = |column: &&str| if *column == "score" { "numeric" } else { "categorical" };
        columns.iter().map(|name| (name.to_string(), serde_json::json!({"path": name, "type": kind(name)}))).collect()
    }

    #[test]
    fn classes_compare_by_what_they_mean() {
        let binary = layout(serde_json::json!({"task": "binary"}), output(&["score"]), &["False", "True"]);
        assert_eq!(["1", "1.0", "true", "True"].map(|text| binary.class_of(text)), [1; 4]);
        assert_eq!(["0", "False", "2", "yes"].map(|text| binary.class_of(text)), [0; 4]);
        assert_eq!((binary.class_of_number(1.0), binary.class_of_number(0.5)), (1, 0));
        assert_eq!(binary.classes(), ["False", "1"]);
        let named = layout(serde_json::json!({"task": "binary", "positive": "fraud"}), output(&["score"]), &["ok"]);
        assert_eq!(["fraud", "ok", "1"].map(|text| named.class_of(text)), [1, 0, 0]);
        let several = layout(serde_json::json!({"task": "multiclass"}), output(&["prediction"]), &["2", "10", "cat"]);
        assert_eq!(several.classes(), ["10", "2", "cat"]);
        assert_eq!(["10.0", "2", "cat", "dog"].map(|text| several.class_of(text)), [0, 1, 2, 3]);
        assert_eq!((several.class_name(2), several.class_name(3)), ("cat", "(unknown)"));
    }

    #[test]
    fn a_class_that_the_event_does_not_give_comes_from_the_score() {
        let scores = Prediction { score: 0.7, class_scores: vec![0.2, 0.4, 0.4], ..Prediction::default() };
        let performance = serde_json::json!({"task": "binary", "threshold": 0.7});
        let binary = layout(performance.clone(), output(&["score"]), &[]);
        assert_eq!(binary.predicted_class(&scores), Some(1));
        assert_eq!(binary.predicted_class(&Prediction { score: 0.69, ..scores.clone() }), Some(0));
        // where the model file names a prediction, an event without it lacks it
        let with_prediction = layout(performance, output(&["prediction", "score"]), &[]);
        assert_eq!(with_prediction.predicted_class(&scores), None);
        let class_scores = serde_json::json!({"a": "s.a", "b": "s.b", "c": "s.c"});
        let several = serde_json::json!({"task": "multiclass", "class_scores": class_scores});
        assert_eq!(layout(several, output(&[]), &[]).predicted_class(&scores), Some(1));
    }

    #[test]
    fn rows_that_lack_something_are_counted_apart() {
        let layout = layout(serde_json::json!({"task": "binary"}), output(&["prediction", "score"]), &[]);
        let whole = Prediction { score: 0.7, class: Some(1), ..Prediction::default() };
        let without_score = Prediction { score: f64::NAN, ..whole.clone() };
        let without_class = Prediction { class: None, ..whole.clone() };
        let mut profile = PerformanceProfile::new(&layout);
        for prediction in [&whole, &without_score, &without_class] {
            profile.add_prediction(&layout, prediction);
            profile.add_labelled(&layout, prediction, &Label::Class(1));
        }
        profile.add_labelled(&layout, &whole, &Label::Number(1.0));
        assert_eq!((profile.predictions(), profile.incomplete_predictions()), (3, 2));
        assert_eq!((profile.labelled(), profile.incomplete()), (4, 3));
        assert_eq!(profile.metrics(&layout)["tp"].value, Some(1.0));
        let cells = profile.confusion(&layout);
        assert_eq!(cells.len(), 1);
        assert_eq!((cells[0].label.as_str(), cells[0].prediction.as_str(), cells[0].rows), ("1", "1", 1));
    }

    #[test]
    fn a_corrected_label_takes_its_value_back() {
        let performance = serde_json::json!({
            "task": "binary", "value": {"true_positive": 7.5, "false_positive": -0.1},
        });
        let layout = layout(performance, output(&["score"]), &[]);
        let hit = Prediction { score: 0.9, ..Prediction::default() };
        let mut profile = PerformanceProfile::new(&layout);
        profile.add_labelled(&layout, &hit, &Label::Class(0));
        profile.add_labelled(&layout, &hit, &Label::Class(1));
        profile.retract_labelled(&layout, &hit, &Label::Class(0));
        let metrics = profile.metrics(&layout);
        assert_eq!((metrics["value"].value, metrics["value_per_prediction"].value), (Some(7.5), Some(7.5)));
    }

    #[test]
    fn a_profile_of_another_task_is_refused() {
        let binary = layout(serde_json::json!({"task": "binary"}), output(&["score"]), &[]);
        let regression = layout(serde_json::json!({"task": "regression"}), output(&["prediction"]), &[]);
        let bytes = PerformanceProfile::new(&binary).encode();
        assert_eq!(PerformanceProfile::decode(&bytes, &regression), Err(ProfileError::Layout));
        let other = layout(serde_json::json!({"task": "binary", "positive": "yes"}), output(&["score"]), &[]);
        assert_eq!(PerformanceProfile::decode(&bytes, &other), Err(ProfileError::Layout));
        let later = [&[99], &bytes[1..]].concat();
        assert_eq!(PerformanceProfile::decode(&later, &binary), Err(ProfileError::Format(99)));
    }
}
