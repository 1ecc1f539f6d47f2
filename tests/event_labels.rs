//! Promise: a label is read as it was written or becomes a dead letter with the right reason, and a bad one costs no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Float32Type, Float64Type};
use driftline::config::model::Model;
use driftline::event::{Decoded, Decoder, LabelValue, MAX_LABEL_BYTES, Reason, schema};
use driftline::log::Records;
use proptest::prelude::*;
use serde_json::{Value, json};

/// 2025-01-02T03:04:05Z.
const NOW_MS: i64 = 1_735_787_045_000;

fn model_named(name: &str, performance: Value) -> Arc<Model> {
    let model = json!({
        "version": 1,
        "model": name,
        "topics": ["predictions"],
        "fields": {"timestamp": "ts", "prediction_id": "id"},
        "features": {"amount": "numeric"},
        "score": {"path": "score", "type": "numeric"},
        "performance": performance,
    });
    Arc::new(serde_json::from_value(model).unwrap())
}

fn labelled(task: &str, fields: Value) -> Arc<Model> {
    model_named("fraud", json!({"task": task, "labels": {"topics": ["labels"], "fields": fields}}))
}

fn slab<P: AsRef<[u8]>>(topic: &str, payloads: impl IntoIterator<Item = P>) -> Records {
    let mut records = Records::default();
    for (offset, payload) in payloads.into_iter().enumerate() {
        records.push(topic, 0, offset as i64, NOW_MS, None, Some(payload.as_ref()));
    }
    records
}

fn decode_all(models: &[Arc<Model>], records: &Records) -> Decoded {
    Decoder::new(models).unwrap().decode(records, NOW_MS).unwrap()
}

fn decode<P: AsRef<[u8]>>(model: &Arc<Model>, payloads: impl IntoIterator<Item = P>) -> Decoded {
    decode_all(std::slice::from_ref(model), &slab("labels", payloads))
}

fn class(text: &str) -> LabelValue {
    LabelValue::Class(text.to_string())
}

#[test]
fn labels_arrive_as_they_were_written() {
    let fields = json!({"prediction_id": "about.id", "label": "truth", "timestamp": "at"});
    let binary = labelled("binary", fields);
    let payloads = [
        r#"{"about": {"id": "p-1"}, "truth": 1, "at": "2025-01-02T03:04:05Z"}"#,
        // Another order, white space, keys escaped and unknown, a number for an id, no time.
        r#" {"more": [{"truth": 2}], "tr\u0075th" : true , "about" : {"x": null, "id": 12345678901234567890} }"#,
        r#"{"about": {"id": "\u00e9"}, "truth": "chargeback", "at": null}"#,
        r#"{"about": {"id": false}, "truth": 0.0, "at": 1735787045.5}"#,
    ];
    let decoded = decode(&binary, payloads);
    assert!(decoded.rejected.is_empty() && decoded.batches.is_empty(), "{:?}", decoded.rejected);
    assert_eq!(decoded.unrouted, 0);
    let found: Vec<(usize, &str, &LabelValue, Option<i64>)> = (decoded.labels.iter())
        .map(|label| (label.record, label.prediction_id.as_str(), &label.value, label.given_ms))
        .collect();
    let expected = [
        (0, "p-1", &class("1"), Some(NOW_MS)),
        (1, "12345678901234567890", &class("True"), None),
        (2, "é", &class("chargeback"), None),
        (3, "False", &class("0.0"), Some(NOW_MS + 500)),
    ];
    assert_eq!(found, expected);

    let values = |task: &str, labels: &[&str]| -> Vec<LabelValue> {
        let payloads = labels.iter().map(|label| format!(r#"{{"prediction_id": "p", "label": {label}}}"#));
        let decoded = decode(&labelled(task, json!({})), payloads);
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        decoded.labels.into_iter().map(|label| label.value).collect()
    };
    assert_eq!(values("multiclass", &["\"cat\"", "2", "\"Inf\""]), [class("cat"), class("2"), class("Inf")]);
    assert_eq!(values("regression", &["-1.5e3", "0"]), [LabelValue::Number(-1_500.0), LabelValue::Number(0.0)]);
    assert_eq!(values("ranking", &["[3, 0, 1.5]"]), [LabelValue::Relevance(vec![3.0, 0.0, 1.5])]);
}

/// Task, event, the one reason that it deserves, and a word that its detail must have.
fn broken() -> Vec<(&'static str, String, Reason, &'static str)> {
    let event = |label: &str| format!(r#"{{"prediction_id": "p-1", "label": {label}, "at": 1735787045}}"#);
    let whole = event("1");
    vec![
        ("binary", String::new(), Reason::NotJson, "empty"),
        ("binary", whole[..30].to_string(), Reason::NotJson, "ends at byte"),
        ("binary", format!("{whole}{whole}"), Reason::NotJson, "second document"),
        ("binary", "[1]".into(), Reason::NotAnObject, "[1]"),
        ("binary", event("null"), Reason::MissingField, "`label`: the label"),
        ("binary", event("\"\""), Reason::MissingField, "`label`: the label"),
        ("binary", whole.replace("label", "lable"), Reason::MissingField, "`label`: the label"),
        ("binary", whole.replace("\"p-1\"", "null"), Reason::MissingField, "`prediction_id`: the prediction id"),
        ("binary", whole.replace("\"p-1\"", "\"\""), Reason::MissingField, "`prediction_id`"),
        ("binary", whole.replace("\"p-1\"", "[1]"), Reason::WrongType, "`prediction_id`: expected a text"),
        ("binary", event("{\"class\": 1}"), Reason::WrongType, "`label`: expected a text, number or boolean"),
        ("binary", event("NaN"), Reason::NonFinite, "`label`: a bare NaN"),
        ("binary", event("\"NaN\""), Reason::NonFinite, "`label`: expected a label, found \"NaN\""),
        ("multiclass", event("\"-nan\""), Reason::NonFinite, "`label`"),
        ("multiclass", event("1e999"), Reason::NonFinite, "1e999"),
        ("multiclass", event("\"\\ud83d\""), Reason::NotUtf8, "surrogate"),
        ("regression", event("\"12.5\""), Reason::WrongType, "`label`: expected a number, found the text \"12.5\""),
        ("regression", event("true"), Reason::WrongType, "found true"),
        ("regression", event("[1]"), Reason::WrongType, "an array"),
        ("regression", event("\"nan\""), Reason::NonFinite, "nan"),
        ("regression", event("-Infinity"), Reason::NonFinite, "bare"),
        ("regression", event("1e999"), Reason::NonFinite, "1e999"),
        ("ranking", event("1"), Reason::WrongType, "an array of relevances"),
        ("ranking", event("[]"), Reason::WrongType, "at least one item"),
        ("ranking", event("[1, -1]"), Reason::WrongType, "`label[1]`: a relevance is 0 or more, not -1"),
        ("ranking", event("[1, null]"), Reason::WrongType, "found null"),
        ("ranking", event("[1, [2]]"), Reason::WrongType, "found an array"),
        ("ranking", event("[1, \"NaN\"]"), Reason::NonFinite, "NaN"),
        ("ranking", event("[1e39]"), Reason::NonFinite, "single-precision"),
        ("binary", whole.replace("1735787045", "\"yesterday\""), Reason::BadTimestamp, "`at`: expected"),
        ("binary", whole.replace("1735787045", "true"), Reason::WrongType, "`at`: expected a time"),
        ("binary", whole.replace("1735787045", "1735787346"), Reason::Future, "301000 ms ahead"),
        ("binary", event("1, \"label\": 0"), Reason::DuplicateKey, "`label` stands twice"),
        ("binary", event(&format!("\"{}\"", "x".repeat(MAX_LABEL_BYTES as usize))), Reason::Oversized, "262144"),
    ]
}

#[test]
fn every_faulty_label_has_one_reason_and_costs_no_other() {
    let good = r#"{"prediction_id": "good", "label": "@", "at": null}"#;
    for (task, payload, reason, word) in broken() {
        let good = good.replace("\"@\"", if task == "ranking" { "[1]" } else { "1" });
        let decoded = decode(&labelled(task, json!({"timestamp": "at"})), [good.as_str(), &payload, &good]);
        let shown = &payload[..payload.len().min(200)];
        let [rejected] = decoded.rejected.as_slice() else { panic!("{task} {shown}: {:?}", decoded.rejected) };
        assert_eq!((rejected.record, rejected.reason), (1, reason), "{task} {shown}: {}", rejected.detail);
        assert!(rejected.detail.contains(word), "{task} {shown}: {} has no {word}", rejected.detail);
        assert!(rejected.detail.len() < 500 && rejected.place.is_none());
        let taken: Vec<usize> = decoded.labels.iter().map(|label| label.record).collect();
        assert_eq!(taken, [0, 2], "{task} {shown}");
    }
}

#[test]
fn labels_of_two_models_on_one_topic_go_to_whom_they_name() {
    let performance = |fields: Value| json!({"task": "binary", "labels": {"topics": ["labels"], "fields": fields}});
    let named = json!({"model": "model"});
    let models = ["fraud", "churn"].map(|name| model_named(name, performance(named.clone())));
    let event = |model: &str| format!(r#"{{"model": "{model}", "prediction_id": "p", "label": 1}}"#);
    let nameless = r#"{"prediction_id": "p", "label": 1}"#.to_string();
    let records = slab("labels", [event("churn"), event("fraud"), event("other"), nameless.clone(), event("churn")]);
    let decoded = decode_all(&models, &records);
    let taken: Vec<(usize, usize)> = decoded.labels.iter().map(|label| (label.record, label.model_index)).collect();
    assert_eq!(taken, [(0, 1), (1, 0), (4, 1)]);
    assert_eq!(decoded.unrouted, 1);
    let rejected: Vec<(usize, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    assert_eq!(rejected, [(3, Reason::MissingField)]);

    // Without a name in the event every model takes every label.
    let models = ["fraud", "churn"].map(|name| model_named(name, performance(json!({}))));
    let decoded = decode_all(&models, &slab("labels", [nameless]));
    let taken: Vec<usize> = decoded.labels.iter().map(|label| label.model_index).collect();
    assert_eq!(taken, [0, 1]);
}

#[test]
fn predictions_and_labels_of_one_slab_do_not_disturb_each_other() {
    let model = labelled("binary", json!({}));
    let mut records = Records::default();
    let prediction = r#"{"ts": 1735787045, "id": "p", "features": {"amount": 1}, "score": 0.5}"#;
    for (offset, (topic, payload)) in [
        ("labels", r#"{"prediction_id": "p", "label": 1}"#),
        ("predictions", prediction),
        ("labels", prediction),
        ("predictions", r#"{"prediction_id": "p", "label": 1}"#),
        ("elsewhere", prediction),
    ]
    .into_iter()
    .enumerate()
    {
        records.push(topic, 0, offset as i64, NOW_MS, None, Some(payload.as_bytes()));
    }
    let decoded = decode_all(std::slice::from_ref(&model), &records);
    assert_eq!(decoded.batches[0].record_indices, [1]);
    assert_eq!((decoded.labels.len(), decoded.labels[0].record, decoded.unrouted), (1, 0, 1));
    let rejected: Vec<(usize, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    assert_eq!(rejected, [(2, Reason::MissingField), (3, Reason::MissingField)]);
}

#[test]
fn what_an_event_carries_of_its_outcome_stands_in_columns_of_its_own() {
    let model = model_named(
        "pets",
        json!({
            "task": "multiclass",
            "label": {"path": "truth", "type": "categorical"},
            "class_scores": {"cat": "scores.cat", "dog": "scores.dog"},
        }),
    );
    let payloads = [
        r#"{"ts": 1735787045, "features": {}, "truth": "dog", "scores": {"dog": 0.75, "cat": 0.25}}"#,
        r#"{"ts": 1735787045, "features": {}, "truth": null, "scores": {"dog": 1}}"#,
        r#"{"ts": 1735787045, "features": {}, "truth": {}, "scores": {"dog": 1}}"#,
        r#"{"ts": 1735787045, "features": {}, "scores": {"dog": NaN}}"#,
        r#"{"ts": 1735787045, "features": {}, "truth": "cat"}"#,
    ];
    let decoded = decode_all(std::slice::from_ref(&model), &slab("predictions", payloads));
    let batch = &decoded.batches[0].batch;
    assert_eq!(batch.schema(), schema(&model));
    let texts: Vec<Option<&str>> =
        batch.column_by_name("performance.label").unwrap().as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("dog"), None, Some("cat")]);
    let scores = |class: &str| -> Vec<Option<f64>> {
        let column = batch.column_by_name(&format!("performance.class_scores.{class}")).unwrap();
        column.as_primitive::<Float64Type>().iter().collect()
    };
    assert_eq!((scores("cat"), scores("dog")), (vec![Some(0.25), None, None], vec![Some(0.75), Some(1.0), None]));
    let rejected: Vec<(usize, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    assert_eq!(rejected, [(2, Reason::WrongType), (3, Reason::NonFinite)]);
    // They are no features: nothing of them is among the flaws of watched signals.
    let signals = model.signals().len() as u32;
    assert!(decoded.batches[0].flaws.iter().all(|flaw| flaw.signal < signals));
}

#[test]
fn a_ranked_list_in_the_event_has_any_length() {
    let performance = json!({"task": "ranking", "label": {"path": "relevance", "type": "vector"}});
    let model = model_named("search", performance);
    let event = |relevance: &str| format!(r#"{{"ts": 1735787045, "features": {{}}, "relevance": {relevance}}}"#);
    let lists = ["[3, 0, 1]", "null", "[]", "[-1]", "[0.5]", "[1, \"x\"]", "[2, 2]", "7"];
    let decoded = decode_all(std::slice::from_ref(&model), &slab("predictions", lists.map(event)));
    let column = decoded.batches[0].batch.column_by_name("performance.label").unwrap().as_list::<i32>();
    let found: Vec<Option<Vec<f32>>> =
        column.iter().map(|list| list.map(|list| list.as_primitive::<Float32Type>().values().to_vec())).collect();
    assert_eq!(found, [Some(vec![3.0, 0.0, 1.0]), None, Some(vec![0.5]), Some(vec![2.0, 2.0])]);
    assert_eq!(column.values().len(), 6);
    let rejected: Vec<(usize, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    assert_eq!(rejected, [2, 3, 5, 7].map(|record| (record, Reason::WrongType)));
}

#[test]
fn a_mapping_of_labels_that_can_never_fit_is_refused_at_start() {
    for (fields, says) in [
        (json!({"label": "a..b"}), "empty part"),
        (json!({"prediction_id": "a", "label": "a.b"}), "both as a value and as an object"),
    ] {
        let error = Decoder::new(&[labelled("binary", fields)]).unwrap_err().to_string();
        assert!(error.starts_with("model `fraud`: labels: ") && error.contains(says), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever becomes of an event: it is one label or one dead letter, and it is JSON exactly where serde_json says so.
    #[test]
    fn a_mutated_label_is_one_label_or_one_dead_letter(
        at in 0_usize..60,
        length in 0_usize..4,
        piece in "[\\[\\]{}:,\"0-9eNna.\\\\ tru-]{0,4}",
        task in prop::sample::select(vec!["binary", "multiclass", "regression", "ranking"]),
    ) {
        let label = if task == "ranking" { "[1, 0.5]" } else { "1.5" };
        let mut text = format!(r#"{{"prediction_id": "p-1", "at": 5, "label": {label}}}"#);
        let from = at.min(text.len());
        text.replace_range(from..(from + length).min(text.len()), &piece);
        let decoded = decode(&labelled(task, json!({"timestamp": "at"})), [&text]);
        prop_assert_eq!(decoded.labels.len() + decoded.rejected.len(), 1, "{}", text);
        if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
            prop_assert_eq!(decoded.labels.len(), 0, "{}", text);
        }
    }
}
