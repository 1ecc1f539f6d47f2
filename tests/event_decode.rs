//! Promise: one bad record costs one record, with the right reason; every good one is read as it was written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use driftline::config::model::Model;
use driftline::event::{Decoded, Decoder, Flaw, MAX_PAYLOAD_BYTES, Reason, Rejected, dead_letter, schema};
use driftline::log::Records;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// 2025-01-02T03:04:05Z.
const NOW_MS: i64 = 1_735_787_045_000;

fn model(changes: Value) -> Arc<Model> {
    let mut model = json!({
        "version": 1,
        "model": "fraud",
        "topics": ["predictions"],
        "fields": {"timestamp": "ts", "version": "meta.version", "prediction_id": "id"},
        "features": {
            "amount": "numeric",
            "age": {"type": "numeric", "required": true},
            "country": "categorical",
            "device.os": "categorical",
            "deep": {"type": "numeric", "path": "meta.a.b\\.c"},
        },
        "prediction": {"path": "label", "type": "categorical"},
        "score": {"path": "score", "type": "numeric"},
    });
    for (key, value) in changes.as_object().unwrap() {
        model[key] = value.clone();
    }
    Arc::new(serde_json::from_value(model).unwrap())
}

fn good_event(index: usize) -> String {
    json!({
        "ts": NOW_MS - index as i64,
        "id": format!("p-{index}"),
        "meta": {"version": "7", "host": ["x", {"y": 1}], "a": {"b.c": index as f64 / 10.0}},
        "features": {"amount": index as f64 + 0.25, "age": 40, "country": "DE", "device.os": null},
        "label": true,
        "score": 0.5,
    })
    .to_string()
}

fn slab<P: AsRef<[u8]>>(payloads: impl IntoIterator<Item = P>) -> Records {
    let mut records = Records::default();
    for (index, payload) in payloads.into_iter().enumerate() {
        let partition = (index % 3) as i32;
        records.push("predictions", partition, index as i64, NOW_MS, Some(b"key"), Some(payload.as_ref()));
    }
    records
}

fn decode(model: &Arc<Model>, records: &Records) -> Decoded {
    Decoder::new(std::slice::from_ref(model)).unwrap().decode(records, NOW_MS).unwrap()
}

fn only_batch(decoded: &Decoded) -> &RecordBatch {
    assert_eq!(decoded.batches.len(), 1, "{:?}", decoded.rejected);
    &decoded.batches[0].batch
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Vec<Option<&'a str>> {
    batch.column_by_name(column).unwrap().as_string::<i32>().iter().collect()
}

/// `good_event(1)` with one piece of its text replaced.
fn with(from: &str, to: &str) -> Vec<u8> {
    let event = good_event(1);
    assert!(event.contains(from), "{from} in {event}");
    event.replace(from, to).into_bytes()
}

/// Broken payloads, each with the one reason it deserves and a word that its detail must have.
fn broken() -> Vec<(Vec<u8>, Reason, &'static str)> {
    let event = good_event(1);
    let half = event.len() / 2;
    vec![
        (b"".to_vec(), Reason::NotJson, "empty"),
        (b" \n".to_vec(), Reason::NotJson, "empty"),
        (event.as_bytes()[..half].to_vec(), Reason::NotJson, "ends at byte"),
        (event.as_bytes()[..event.len() - 1].to_vec(), Reason::NotJson, "ends at byte"),
        (format!("{event}{event}").into_bytes(), Reason::NotJson, "second document"),
        (format!("{event}]").into_bytes(), Reason::NotJson, "after the end"),
        (b"\0\0\0\0\x07{\"ts\": 1}".to_vec(), Reason::NotJson, "schema registry"),
        (with("1.25,", "1.25,,"), Reason::NotJson, "a key in quotes"),
        (with("1.25", "01.25"), Reason::NotJson, "`features.amount`"),
        (with("\"DE\"", "'DE'"), Reason::NotJson, "`features.country`"),
        (with("\"DE\"", "\"D\nE\""), Reason::NotJson, "control"),
        (with("\"DE\"", "\"D\\xE\""), Reason::NotJson, "escape"),
        (with("[\"x\"", &"[".repeat(100_000)), Reason::NotJson, "deeper"),
        (b"{\"ts\": \"\xc3".to_vec(), Reason::NotJson, "inside a character"),
        (b"{\"ts\": \"\xff\xfe\"}".to_vec(), Reason::NotUtf8, "0xff"),
        (with("\"DE\"", "\"\\ud83d\""), Reason::NotUtf8, "`features.country`"),
        (b"[1, 2]".to_vec(), Reason::NotAnObject, "[1, 2]"),
        (b"\"text\"".to_vec(), Reason::NotAnObject, "text"),
        (b"null".to_vec(), Reason::NotAnObject, "null"),
        (with("\"ts\"", "\"time\""), Reason::MissingField, "`ts`"),
        (with(&(NOW_MS - 1).to_string(), "null"), Reason::MissingField, "`ts`"),
        (with("\"age\":40,", ""), Reason::MissingField, "`features.age`"),
        (with("\"age\":40", "\"age\":null"), Reason::MissingField, "`features.age`"),
        (with("1.25", "\"1.25\""), Reason::WrongType, "`features.amount`: expected a number, found the text \"1.25\""),
        (with("1.25", "true"), Reason::WrongType, "found true"),
        (with("1.25", "[1.25]"), Reason::WrongType, "an array"),
        (with("\"DE\"", "{\"code\":\"DE\"}"), Reason::WrongType, "`features.country`"),
        (with("\"DE\"", "[\"DE\"]"), Reason::WrongType, "an array"),
        (with("{\"b.c\":0.1}", "7"), Reason::WrongType, "`meta.a`: expected an object, found the number 7"),
        (with(&(NOW_MS - 1).to_string(), "{}"), Reason::WrongType, "`ts`: expected a time"),
        (with("1.25", "NaN"), Reason::NonFinite, "`features.amount`"),
        (with("1.25", "-Infinity"), Reason::NonFinite, "bare"),
        (with("[\"x\"", "[Infinity"), Reason::NonFinite, "bare"),
        (with("1.25", "\"NaN\""), Reason::NonFinite, "finite number"),
        (with("1.25", "\"-inf\""), Reason::NonFinite, "finite number"),
        (with("1.25", "1e999"), Reason::NonFinite, "1e999"),
        (with("\"DE\"", "-1e999"), Reason::NonFinite, "`features.country`"),
        (with("\"amount\"", "\"amuont\""), Reason::UnknownFeature, "amuont"),
        (with("\"age\":40", "\"age\":40,\"new\":null"), Reason::UnknownFeature, "`features` has \"new\""),
        (with(&(NOW_MS - 1).to_string(), "\"yesterday\""), Reason::BadTimestamp, "yesterday"),
        (with(&(NOW_MS - 1).to_string(), "\"2025-02-30T00:00:00Z\""), Reason::BadTimestamp, "RFC 3339"),
        (with(&(NOW_MS - 1).to_string(), "1e300"), Reason::BadTimestamp, "epoch"),
        (with(&(NOW_MS - 1).to_string(), &(NOW_MS + 300_001).to_string()), Reason::Future, "300001 ms ahead"),
        (with("\"DE\"", &format!("\"{}\"", "x".repeat(1 << 20))), Reason::Oversized, "1048576"),
        (with("\"age\":40", "\"age\":40,\"age\":40"), Reason::DuplicateKey, "`features.age`"),
        (with("\"label\"", "\"features\":{},\"label\""), Reason::DuplicateKey, "`features`"),
        // A broken document is `not_json` whatever else is wrong before it.
        (with("\"score\":0.5", "\"score\":\"high\",,"), Reason::NotJson, "expected"),
    ]
}

#[test]
fn every_fault_has_one_reason_and_a_detail_that_names_the_place() {
    let model = model(json!({}));
    for (payload, reason, word) in broken() {
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(300)]).into_owned();
        let decoded = decode(&model, &slab([&payload]));
        assert_eq!((decoded.row_count(), decoded.rejected.len(), decoded.unrouted), (0, 1, 0), "{shown}");
        let rejected = &decoded.rejected[0];
        assert_eq!(rejected.reason, reason, "{shown}: {}", rejected.detail);
        assert!(rejected.detail.contains(word), "{shown}: {} has no {word}", rejected.detail);
        assert!(rejected.detail.len() < 500, "{} bytes of detail", rejected.detail.len());
    }
    let mut records = Records::default();
    records.push("predictions", 0, 0, NOW_MS, None, None);
    let decoded = decode(&model, &records);
    assert_eq!(decoded.rejected[0].reason, Reason::NotJson);
    assert!(decoded.rejected[0].detail.contains("tombstone"), "{}", decoded.rejected[0].detail);
}

#[test]
fn every_reason_is_provoked_and_named_in_the_schema_of_dead_letters() {
    let schema: Value = serde_json::from_str(include_str!("../schemas/events/dead-letter.schema.json")).unwrap();
    let named: Vec<&str> =
        schema["properties"]["reason"]["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(named, Reason::ALL.map(Reason::as_str));
    // Those of the join are provoked in tests/join_properties.rs.
    let of_join = [Reason::LabelWithoutPrediction, Reason::LabelTooLate];
    for reason in Reason::ALL.into_iter().filter(|reason| !of_join.contains(reason)) {
        assert!(broken().iter().any(|(_, provoked, _)| *provoked == reason), "{reason} is never provoked");
    }
}

#[test]
fn a_bad_record_costs_one_record_and_never_its_neighbours() {
    let model = model(json!({}));
    let mut payloads = Vec::new();
    let mut expected_bad = Vec::new();
    let mut good = Vec::new();
    for (index, (payload, reason, _)) in broken().into_iter().enumerate() {
        good.push(good_event(index));
        payloads.push(good_event(index).into_bytes());
        expected_bad.push((payloads.len(), reason));
        payloads.push(payload);
    }
    let alone = decode(&model, &slab(&good));
    let among = decode(&model, &slab(&payloads));
    assert_eq!(only_batch(&among), only_batch(&alone));
    let found: Vec<(usize, Reason)> =
        among.rejected.iter().map(|rejected| (rejected.record, rejected.reason)).collect();
    assert_eq!(found, expected_bad);
    let even: Vec<u32> = (0..good.len() as u32).map(|index| 2 * index).collect();
    assert_eq!(among.batches[0].record_indices, even);
}

#[test]
fn values_arrive_as_they_were_written() {
    let model = model(json!({}));
    let payloads = [
        good_event(3).into_bytes(),
        // Another order, white space, escaped keys, everything optional absent.
        br#" { "features" : { "age" : 9007199254740993 } , "\u0074s" : "2025-01-02T03:04:05.5+00:00" } "#.to_vec(),
        br#"{"ts":1735787045.25,"features":{"age":-0.1,"amount":0.1,"country":1.0,"device.os":"\u00e9\n\ud83d\ude00"},"meta":{"version":12345678901234567890,"a":null},"id":7,"label":false,"score":1e-5}"#.to_vec(),
    ];
    let decoded = decode(&model, &slab(&payloads));
    let batch = only_batch(&decoded);
    assert_eq!(batch.schema(), schema(&model));
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        names,
        [
            "event_time",
            "version",
            "prediction_id",
            "age",
            "amount",
            "country",
            "deep",
            "device.os",
            "prediction.value",
            "prediction.score"
        ]
    );
    assert_eq!(decoded.batches[0].event_times_ms(), [NOW_MS - 3, NOW_MS + 500, NOW_MS + 250]);
    assert_eq!(texts(batch, "version"), [Some("7"), Some("unversioned"), Some("12345678901234567890")]);
    assert_eq!(texts(batch, "prediction_id"), [Some("p-3"), None, Some("7")]);
    assert_eq!(numbers(batch, "age"), [Some(40.0), Some(9_007_199_254_740_992.0), Some(-0.1)]);
    assert_eq!(numbers(batch, "amount"), [Some(3.25), None, Some(0.1)]);
    assert_eq!(numbers(batch, "deep"), [Some(0.3), None, None]);
    assert_eq!(texts(batch, "country"), [Some("DE"), None, Some("1.0")]);
    assert_eq!(texts(batch, "device.os"), [None, None, Some("é\n😀")]);
    assert_eq!(texts(batch, "prediction.value"), [Some("True"), None, Some("False")]);
    assert_eq!(numbers(batch, "prediction.score"), [Some(0.5), None, Some(1e-5)]);
}

#[test]
fn a_decoder_used_for_slab_after_slab_forgets_nothing_and_keeps_nothing() {
    let model = model(json!({}));
    let mut decoder = Decoder::new(std::slice::from_ref(&model)).unwrap();
    let broken = broken();
    for rows in [1_000, 3, 0, 200] {
        let is_bad = |index: usize| index % 3 == 2;
        let payloads: Vec<Vec<u8>> = (0..rows)
            .map(|index| match is_bad(index) {
                true => broken[index % broken.len()].0.clone(),
                false => good_event(index).into_bytes(),
            })
            .collect();
        let decoded = decoder.decode(&slab(&payloads), NOW_MS).unwrap();
        let expected: Vec<u32> = (0..rows).filter(|index| !is_bad(*index)).map(|index| index as u32).collect();
        assert_eq!(decoded.row_count() + decoded.rejected.len(), rows);
        assert_eq!(decoded.batches.len(), usize::from(rows > 0));
        for batch in &decoded.batches {
            assert_eq!(batch.record_indices, expected);
            let amounts: Vec<Option<f64>> = expected.iter().map(|index| Some(f64::from(*index) + 0.25)).collect();
            assert_eq!(numbers(&batch.batch, "amount"), amounts);
            let ids: Vec<String> = expected.iter().map(|index| format!("p-{index}")).collect();
            assert_eq!(texts(&batch.batch, "prediction_id"), ids.iter().map(|id| Some(&**id)).collect::<Vec<_>>());
            assert_eq!(batch.batch.column_by_name("device.os").unwrap().null_count(), expected.len());
        }
    }
}

#[test]
fn each_source_partition_reports_its_latest_accepted_event_time() {
    let model = model(json!({}));
    // Records 0..7 go round partitions 0, 1, 2; event times fall by 1 ms a record; record 3 is broken.
    let payloads = (0..7).map(|index| if index == 3 { "{".to_string() } else { good_event(index) });
    let decoded = decode(&model, &slab(payloads));
    let sources: Vec<(i32, i64, u64)> = decoded.batches[0]
        .sources
        .iter()
        .map(|source| (source.partition.partition, source.max_event_time_ms - NOW_MS, source.rows))
        .collect();
    assert_eq!(sources, [(0, 0, 2), (1, -1, 2), (2, -2, 2)]);
}

#[test]
fn an_event_time_is_in_the_future_only_beyond_the_allowed_span() {
    let model = model(json!({"max_future": "1s"}));
    let at = |ms: i64| with(&(NOW_MS - 1).to_string(), &ms.to_string());
    let decoded = decode(&model, &slab([at(NOW_MS + 1_000), at(NOW_MS + 1_001)]));
    assert_eq!(decoded.batches[0].event_times_ms(), [NOW_MS + 1_000]);
    assert_eq!((decoded.rejected[0].record, decoded.rejected[0].reason), (1, Reason::Future));
}

#[test]
fn unknown_features_follow_the_policy() {
    let flat = json!({"fields": {"timestamp": "ts", "features": "*"}, "features": {"a": "numeric"}, "prediction": null, "score": null});
    let event = r#"{"ts": 1735787045, "a": 1, "b": 2}"#;
    assert_eq!(decode(&model(flat.clone()), &slab([event])).row_count(), 1);
    let mut strict = flat;
    strict["unknown_features"] = json!("dead_letter");
    assert_eq!(decode(&model(strict), &slab([event])).rejected[0].reason, Reason::UnknownFeature);
    let lenient = model(json!({"unknown_features": "ignore"}));
    assert_eq!(decode(&lenient, &slab([with("\"age\":40", "\"age\":40,\"new\":[{}]")])).row_count(), 1);
}

/// What a row lacks, by the name of the feature.
fn flaws(model: &Model, decoded: &Decoded) -> Vec<(u32, String, Flaw)> {
    let signals = model.signals();
    let named = |flaw: &driftline::event::RowFlaw| (flaw.row, signals[flaw.signal as usize].name.clone(), flaw.flaw);
    decoded.batches.iter().flat_map(|batch| batch.flaws.iter().map(named)).collect()
}

#[test]
fn an_invalid_value_costs_the_value_or_the_event_as_the_model_says() {
    let invalid: [(&str, &str, Flaw); 11] = [
        ("amount", "NaN", Flaw::NotANumber),
        ("amount", "\"nan\"", Flaw::NotANumber),
        ("amount", "Infinity", Flaw::Infinite),
        ("amount", "-Infinity", Flaw::Infinite),
        ("amount", "\"-inf\"", Flaw::Infinite),
        ("amount", "1e999", Flaw::Infinite),
        ("amount", "\"12.5\"", Flaw::TypeMismatch),
        ("amount", "true", Flaw::TypeMismatch),
        ("amount", "[1, {\"a\": NaN_}]", Flaw::TypeMismatch),
        ("country", "{\"code\": \"DE\"}", Flaw::TypeMismatch),
        ("country", "\"\\ud83d\"", Flaw::TypeMismatch),
    ];
    let keeping = model(json!({"on_invalid": "missing"}));
    let strict = model(json!({}));
    for (feature, value, flaw) in invalid {
        let value = value.replace("NaN_", "2");
        let payload = match feature {
            "amount" => with("1.25", &value),
            _ => with("\"DE\"", &value),
        };
        let kept = decode(&keeping, &slab([&payload]));
        assert!(kept.rejected.is_empty(), "{value}: {:?}", kept.rejected);
        assert_eq!(only_batch(&kept).column_by_name(feature).unwrap().null_count(), 1, "{value} is missing");
        let found = flaws(&keeping, &kept);
        // `device.os` is null in every event.
        let expected = vec![(0, "device.os".to_string(), Flaw::Null), (0, feature.to_string(), flaw)];
        assert_eq!(sorted(found), sorted(expected), "{value}");

        let rejected = decode(&strict, &slab([&payload]));
        assert_eq!((rejected.row_count(), rejected.rejected.len()), (0, 1), "{value}");
        let place = rejected.rejected[0].place.as_deref().unwrap();
        let names: Vec<(String, Flaw)> =
            place.flaws.iter().map(|(signal, flaw)| (strict.signals()[*signal as usize].name.clone(), *flaw)).collect();
        assert_eq!(
            sorted(names),
            sorted(vec![("device.os".into(), Flaw::Null), (feature.to_string(), flaw)]),
            "{value}"
        );
        assert_eq!((place.event_time_ms, place.version.as_str()), (NOW_MS - 1, "7"));
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

#[test]
fn a_required_feature_and_the_standard_fields_are_never_kept_invalid() {
    let keeping = model(json!({"on_invalid": "missing"}));
    let time = (NOW_MS - 1).to_string();
    for (payload, reason) in [
        (with("\"age\":40", "\"age\":\"forty\""), Reason::WrongType),
        (with("\"age\":40", "\"age\":NaN"), Reason::NonFinite),
        (with(&time, "\"yesterday\""), Reason::BadTimestamp),
        (with("\"version\":\"7\"", "\"version\":[7]"), Reason::WrongType),
        (with("[\"x\"", "[NaN"), Reason::NonFinite),
        (with(",\"label\"", ",\"label\":1,\"label\""), Reason::DuplicateKey),
    ] {
        let decoded = decode(&keeping, &slab([&payload]));
        let found: Vec<Reason> = decoded.rejected.iter().map(|rejected| rejected.reason).collect();
        assert_eq!(found, [reason], "{}", String::from_utf8_lossy(&payload));
    }
}

#[test]
fn the_pane_of_a_rejected_event_is_known_only_where_its_time_can_be_believed() {
    let model = model(json!({}));
    let time = (NOW_MS - 1).to_string();
    let place = |payload: &[u8]| {
        let decoded = decode(&model, &slab([payload]));
        assert_eq!(decoded.rejected.len(), 1);
        decoded.rejected[0].place.is_some()
    };
    assert!(place(&with("1.25", "\"x\"")));
    assert!(!place(&with(&time, "null")), "no time");
    assert!(!place(&with(&time, &(NOW_MS + 3_600_000).to_string())), "ahead of the clock");
    let both = String::from_utf8(with("1.25", "\"x\"")).unwrap().replace(&time, &(NOW_MS + 3_600_000).to_string());
    assert!(!place(both.as_bytes()), "a wrong type, ahead of the clock");
    assert!(!place(&with("\"score\":0.5", "\"score\":0.5,,")), "a broken document");
}

#[test]
fn a_key_that_is_not_there_is_told_from_a_null() {
    let model = model(json!({}));
    let absent = with("\"country\":\"DE\",", "");
    let decoded = decode(&model, &slab([absent, with("\"DE\"", "null")]));
    let found = flaws(&model, &decoded);
    // A null that has no flaw has no key: the first event's country.
    assert_eq!(
        sorted(found),
        [
            (0, "device.os".to_string(), Flaw::Null),
            (1, "country".to_string(), Flaw::Null),
            (1, "device.os".to_string(), Flaw::Null)
        ]
    );
    let rejected = decode(&model, &slab([with("\"country\":\"DE\",\"device.os\":null", "\"age\":41")]));
    let place = rejected.rejected[0].place.as_deref().unwrap();
    let absent: Vec<String> = place
        .flaws
        .iter()
        .filter(|(_, flaw)| *flaw == Flaw::Absent)
        .map(|(signal, _)| model.signals()[*signal as usize].name.clone())
        .collect();
    assert_eq!(absent, ["country", "device.os"]);
}

#[test]
fn unlisted_keys_are_named_where_they_cost_the_event_and_where_they_are_reported() {
    let event = with("\"age\":40", "\"age\":40,\"new\":[{}],\"other\":1");
    let reporting = decode(&model(json!({"unknown_features": "report"})), &slab([good_event(0).as_bytes(), &event]));
    assert_eq!(reporting.row_count(), 2);
    assert_eq!(reporting.batches[0].unlisted, [(1, "new".to_string()), (1, "other".to_string())]);
    let strict = decode(&model(json!({})), &slab([&event]));
    assert_eq!(strict.rejected[0].place.as_deref().unwrap().unlisted, ["new", "other"]);
    let ignoring = decode(&model(json!({"unknown_features": "ignore"})), &slab([&event]));
    assert!(ignoring.batches[0].unlisted.is_empty());
}

#[test]
fn a_bare_nan_before_the_name_of_the_model_costs_one_value_too() {
    let changes = json!({"fields": {"timestamp": "ts", "model": "who"}, "features": {"x": "numeric"},
        "prediction": null, "score": null, "on_invalid": "missing"});
    let model = model(changes);
    let payloads = [
        r#"{"features":{"x":NaN},"ts":1735787045,"who":"fraud"}"#,
        r#"{"features":{"x":NaN},"ts":1735787045,"who":"nobody"}"#,
        r#"{"rest":NaN,"features":{"x":1},"ts":1735787045,"who":"fraud"}"#,
    ];
    let decoded = decode(&model, &slab(payloads));
    assert_eq!((decoded.row_count(), decoded.unrouted, decoded.rejected.len()), (1, 1, 1));
    assert_eq!(decoded.rejected[0].reason, Reason::NonFinite);
}

#[test]
fn events_go_to_the_models_they_name_and_are_rejected_once() {
    let named = |name: &str, path: &str, feature: &str| {
        let mut features = serde_json::Map::new();
        features.insert(feature.to_string(), json!("numeric"));
        model(
            json!({"model": name, "fields": {"timestamp": "ts", "model": path}, "features": features, "prediction": null, "score": null}),
        )
    };
    let models = [named("a", "model", "x"), named("b", "model", "y"), named("c", "meta.model", "x")];
    let mut decoder = Decoder::new(&models).unwrap();
    let payloads = [
        r#"{"ts":1735787045,"model":"a","features":{"x":1}}"#,
        r#"{"model":"b","ts":1735787045,"features":{"y":2}}"#,
        r#"{"features":{"x":3},"ts":1735787045,"meta":{"model":"c"}}"#,
        r#"{"features":{"what":"ever"},"model":"nobody"}"#,
        r#"{"ts":1735787045,"features":{"x":4}}"#,
        r#"{"ts":1735787045,"model":7,"features":{"x":5}}"#,
        r#"{"ts":1735787045,"model":"a","features":{"y":6}}"#,
        r#"{"ts":1735787045,"model":"a","features":"#,
        r#"{"ts":1735787045,"model":"a","model":"b","features":{"x":7}}"#,
        r#"[]"#,
    ];
    let decoded = decoder.decode(&slab(payloads), NOW_MS).unwrap();
    let rows: Vec<(usize, Vec<u32>)> =
        decoded.batches.iter().map(|batch| (batch.model_index, batch.record_indices.clone())).collect();
    assert_eq!(rows, [(0, vec![0]), (1, vec![1]), (2, vec![2])]);
    assert_eq!(decoded.unrouted, 1);
    let rejected: Vec<(usize, Option<&str>, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.model.as_deref(), rejected.reason)).collect();
    assert_eq!(
        rejected,
        [
            (4, None, Reason::MissingField),
            (5, None, Reason::WrongType),
            (6, Some("a"), Reason::UnknownFeature),
            (7, None, Reason::NotJson),
            (8, Some("a"), Reason::DuplicateKey),
            (9, None, Reason::NotAnObject),
        ]
    );
    let mut elsewhere = Records::default();
    elsewhere.push("other", 0, 0, NOW_MS, None, Some(b"{"));
    let decoded = decoder.decode(&elsewhere, NOW_MS).unwrap();
    assert_eq!((decoded.row_count(), decoded.rejected.len(), decoded.unrouted), (0, 0, 1));
}

#[test]
fn two_models_that_read_every_event_of_a_topic_each_count_or_reject_it() {
    let small = model(json!({"model": "small", "max_event_bytes": 100}));
    let models = [small, model(json!({"model": "large"}))];
    let decoded = Decoder::new(&models).unwrap().decode(&slab([good_event(1), "{".into()]), NOW_MS).unwrap();
    assert_eq!(decoded.batches.len(), 1);
    assert_eq!((decoded.batches[0].model_index, &decoded.batches[0].record_indices), (1, &vec![0]));
    let rejected: Vec<(usize, Option<&str>, Reason)> =
        decoded.rejected.iter().map(|rejected| (rejected.record, rejected.model.as_deref(), rejected.reason)).collect();
    assert_eq!(rejected, [(0, Some("small"), Reason::Oversized), (1, None, Reason::NotJson)]);
}

#[test]
fn the_original_bytes_can_be_had_from_a_dead_letter() {
    let schema: Value = serde_json::from_str(include_str!("../schemas/events/dead-letter.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let rejected = Rejected {
        record: 0,
        model: Some("fraud".into()),
        reason: Reason::NotJson,
        detail: "a \"detail\"".into(),
        place: None,
    };
    let long = "é".repeat(MAX_PAYLOAD_BYTES);
    let long_key = vec![7_u8; 100_000];
    type Bytes<'a> = Option<&'a [u8]>;
    let cases: [(Bytes<'_>, Bytes<'_>); 8] = [
        (Some(b"key"), Some(b"{\"a\": 1")),
        (None, Some("text é \"quoted\"\n\\ \u{2028}".as_bytes())),
        (Some(b"\xff\x00"), Some(b"\xff\xfe\x00")),
        (None, Some(b"\x00\x01 control characters")),
        (Some(b""), Some(b"")),
        (Some(b"key"), None),
        (None, Some(long.as_bytes())),
        (Some(&long_key), Some(&[1_u8; MAX_PAYLOAD_BYTES + 1])),
    ];
    for (key, value) in cases {
        let mut records = Records::default();
        records.push("predictions", 3, 17, 99, key, value);
        let letter = dead_letter(records.get(0).unwrap(), &rejected, 1_000).unwrap();
        let bytes = letter.value.unwrap();
        assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(
            validator.is_valid(&json),
            "{:?}",
            validator.iter_errors(&json).map(|error| error.to_string()).collect::<Vec<_>>()
        );
        assert_eq!(json["topic"], "predictions");
        assert_eq!((json["partition"].as_i64(), json["offset"].as_i64()), (Some(3), Some(17)));
        assert_eq!((json["reason"].as_str(), json["model"].as_str()), (Some("not_json"), Some("fraud")));
        assert_eq!(json["payload_bytes"].as_u64(), value.map(|value| value.len() as u64));
        let held = match (json["payload"].as_str(), json["payload_base64"].as_str()) {
            (Some(text), None) => Some(text.as_bytes().to_vec()),
            (None, Some(base64)) => Some(STANDARD.decode(base64).unwrap()),
            other => {
                assert_eq!(other, (None, None));
                None
            }
        };
        let limit = MAX_PAYLOAD_BYTES.min(value.map_or(0, <[u8]>::len));
        assert_eq!(held.as_deref(), value.map(|value| &value[..limit]));
        assert_eq!(json["truncated"] == true, value.is_some_and(|value| value.len() > MAX_PAYLOAD_BYTES));
        match key {
            Some(key) if key.len() < 100_000 => assert_eq!(letter.key.as_deref(), Some(key)),
            _ => assert_eq!(letter.key.as_deref(), Some(b"predictions-3-17".as_slice())),
        }
        if let Some(key) = key.filter(|key| key.len() < 100_000) {
            assert_eq!(STANDARD.decode(json["key_base64"].as_str().unwrap()).unwrap(), key);
        }
    }
}

#[test]
fn the_schema_of_prediction_events_describes_what_the_default_mapping_reads() {
    let schema: Value = serde_json::from_str(include_str!("../schemas/events/prediction.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example = &schema["examples"][0];
    assert!(validator.is_valid(example));
    assert!(!validator.is_valid(&json!({"features": {}})));
    let model = model(json!({
        "fields": {"model": "model", "version": "version", "prediction_id": "prediction_id"},
        "features": {"amount": "numeric", "country": "categorical", "returning": "categorical", "device_age_days": "numeric"},
        "prediction": {"path": "prediction", "type": "categorical"},
    }));
    let decoded = decode(&model, &slab([example.to_string()]));
    assert_eq!(decoded.row_count(), 1, "{:?}", decoded.rejected);
}

/// The row that serde_json's tree gives for an accepted event; the features of `model(json!({}))`.
fn assert_row_equals_tree(batch: &RecordBatch, row: usize, payload: &[u8]) {
    serde_json::from_slice::<IgnoredAny>(payload).expect("an accepted event is JSON");
    // A number beyond f64 where nothing is mapped is passed over here; serde_json's tree has no room for it.
    let Ok(tree) = serde_json::from_slice::<Value>(payload) else { return };
    for (column, value) in [
        ("amount", &tree["features"]["amount"]),
        ("age", &tree["features"]["age"]),
        ("deep", &tree["meta"]["a"]["b.c"]),
        ("prediction.score", &tree["score"]),
    ] {
        let found = numbers(batch, column)[row].map(f64::to_bits);
        assert_eq!(found, value.as_f64().map(f64::to_bits), "{column} of {}", String::from_utf8_lossy(payload));
    }
    for (column, value) in [("country", &tree["features"]["country"]), ("prediction_id", &tree["id"])] {
        let found = texts(batch, column)[row];
        if value.is_string() || value.is_null() {
            assert_eq!(found, value.as_str(), "{column} of {}", String::from_utf8_lossy(payload));
        }
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(usize, u8),
    Delete(usize, usize),
    Insert(usize, Vec<u8>),
    Truncate(usize),
    Swap(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let pieces = prop::sample::select(vec![
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "NaN",
        "-",
        "1e999",
        "0",
        "e",
        ".",
        "true",
        "\"age\":1,",
        "\u{0}",
        "é",
    ]);
    prop_oneof![
        (0..400_usize, any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (0..400_usize, prop::sample::select(b"\"\\{}[],:0123456789.eE-+ntf \n".to_vec()))
            .prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (0..400_usize, 1..20_usize).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (0..400_usize, pieces).prop_map(|(at, piece)| Mutation::Insert(at, piece.as_bytes().to_vec())),
        (0..400_usize, prop::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (0..400_usize).prop_map(Mutation::Truncate),
        (0..400_usize, 0..400_usize).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutate(payload: &mut Vec<u8>, mutation: &Mutation) {
    let length = payload.len().max(1);
    match mutation {
        Mutation::Replace(at, byte) => {
            if let Some(target) = payload.get_mut(at % length) {
                *target = *byte;
            }
        }
        Mutation::Delete(at, count) => {
            let start = (at % length).min(payload.len());
            let end = (start + count).min(payload.len());
            payload.drain(start..end);
        }
        Mutation::Insert(at, bytes) => {
            let start = (at % length).min(payload.len());
            payload.splice(start..start, bytes.iter().copied());
        }
        Mutation::Truncate(at) => payload.truncate(at % length),
        Mutation::Swap(a, b) => {
            if !payload.is_empty() {
                payload.swap(a % length, b % length);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_mutated_event_is_judged_as_serde_json_judges_it_and_leaves_its_neighbours_alone(
        mutations in prop::collection::vec(mutation(), 1..4)
    ) {
        let model = model(json!({}));
        let mut payload = good_event(1).into_bytes();
        for step in &mutations {
            mutate(&mut payload, step);
        }
        let before = good_event(0).into_bytes();
        let after = good_event(2).into_bytes();
        let decoded = decode(&model, &slab([&before, &payload, &after]));
        prop_assert_eq!(decoded.row_count() + decoded.rejected.len() + decoded.unrouted as usize, 3);
        let batch = only_batch(&decoded);
        let neighbours = decode(&model, &slab([&before, &after]));
        let alone = only_batch(&neighbours);
        prop_assert_eq!(batch.slice(0, 1), alone.slice(0, 1));
        prop_assert_eq!(batch.slice(batch.num_rows() - 1, 1), alone.slice(1, 1));
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok() && std::str::from_utf8(&payload).is_ok();
        match decoded.rejected.first() {
            None => assert_row_equals_tree(batch, 1, &payload),
            Some(rejected) => {
                // A fault of the record itself is one that serde_json finds too, and the other way round.
                let fault_of_document = rejected.model.is_none() && rejected.reason != Reason::NotAnObject;
                prop_assert_eq!(fault_of_document, !is_json, "{:?}", rejected);
            }
        }
    }

    #[test]
    fn a_mutated_event_of_a_shared_topic_has_one_outcome(mutations in prop::collection::vec(mutation(), 1..4)) {
        let named = |name: &str, path: &str| model(json!({"model": name, "fields": {"timestamp": "ts", "model": path}}));
        let models = [named("7", "meta.version"), named("p-1", "id"), named("a", "id")];
        let mut payload = good_event(1).into_bytes();
        for step in &mutations {
            mutate(&mut payload, step);
        }
        // Untouched it is both 7's and p-1's; 8 is watched by nobody.
        let nobodys = good_event(2).replace("\"7\"", "\"8\"").into_bytes();
        let decoded = Decoder::new(&models).unwrap().decode(&slab([&payload, &nobodys]), NOW_MS).unwrap();
        let of_first = decoded.rejected.iter().filter(|rejected| rejected.record == 0).count() + decoded.row_count();
        prop_assert_eq!(decoded.rejected.iter().filter(|rejected| rejected.record == 1).count(), 0);
        match decoded.unrouted {
            1 => prop_assert!((1..=2).contains(&of_first), "{} outcomes", of_first),
            unrouted => prop_assert_eq!((unrouted, of_first), (2, 0)),
        }
    }

    #[test]
    fn the_learnt_order_of_keys_never_changes_a_row(orders in prop::collection::vec(any::<u64>(), 1..20)) {
        let model = model(json!({"unknown_features": "ignore"}));
        let payloads: Vec<String> = orders.iter().map(|seed| shuffled_event(*seed)).collect();
        let learnt = decode(&model, &slab(&payloads));
        prop_assert_eq!(learnt.row_count(), payloads.len(), "{:?}", learnt.rejected);
        for (row, payload) in payloads.iter().enumerate() {
            let fresh = decode(&model, &slab([payload]));
            prop_assert_eq!(only_batch(&learnt).slice(row, 1), only_batch(&fresh).clone(), "{}", payload);
            assert_row_equals_tree(only_batch(&learnt), row, payload.as_bytes());
        }
    }
}

/// An event whose keys stand in an order of their own, some left out, some unmapped, some written with escapes.
fn shuffled_event(mut seed: u64) -> String {
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    let mut object = |required: &[String], optional: &[String]| {
        let mut members = required.to_vec();
        members.extend(optional.iter().filter(|_| next(3) > 0).cloned());
        for index in (1..members.len()).rev() {
            members.swap(index, next(index + 1));
        }
        format!("{{{}}}", members.join([",", " , ", "\n,"][next(3)]))
    };
    let own = |text: &str| text.to_string();
    let features = object(
        &[own("\"age\":4.5e1")],
        &[
            own("\"amount\" : 0.1"),
            own("\"c\\u006funtry\":\"FR\""),
            own("\"device.os\":\"x\""),
            own("\"agee\":1"),
            own("\"ag\":{}"),
        ],
    );
    let inner = object(&[], &[own("\"b.c\":12.75"), own("\"b\":{\"c\":1}")]);
    let meta = object(&[], &[format!("\"a\":{inner}"), own("\"version\":2"), own("\"versions\":[2]")]);
    object(
        &[own("\"ts\":1735787045"), format!("\"features\":{features}")],
        &[format!("\"meta\":{meta}"), own("\"id\":\"i\""), own("\"score\":1"), own("\"label\":0"), own("\"tsx\":null")],
    )
}
