//! Queries of rules: whatever the flushes, partitions, panes and restarts that the events are spread over, the value is
//! the one that DataFusion gives over all events at once, to the bit the same on any split.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use driftline::backtest::{Engine, EngineOptions};
use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::schema;
use driftline::ingest::aggregate::ModelPlan;
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress, decode_flush, encode_flush};
use driftline::ingest::sql::SqlPlans;
use driftline::reference::segments::{MISSING_SEGMENT, OTHER_SEGMENT};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::rules::judge::RulesJudge;
use driftline::stats::sql::SqlQuery;
use driftline::stats::sql::state::NoValue;
use driftline::telemetry::Metrics;
use driftline::windows::judge::{Judge, NoJudge, Verdict};
use driftline::windows::result::WindowResult;
use driftline::windows::state::{Effect, PartitionState, References};
use proptest::prelude::*;

const MODEL: &str = "
version: 1
model: loans
topics: [loans]
fields: {version: version, prediction_id: id}
features: {amount: numeric, age: numeric, decision: categorical, country: categorical, device: categorical}
score: {path: score, type: numeric}
segments: [country, [country, device]]
references: {training: {path: training.jsonl}}
windows: {size: 2m, watermark_delay: 0s, allowed_lateness: 10m}
";

const START_MS: i64 = 1_767_225_600_000;
const MINUTE_MS: i64 = 60_000;

/// Queries, and how far from DataFusion's own value theirs may be, relatively: sums of doubles differ by its rounding.
const QUERIES: [(&str, f64); 18] = [
    ("SELECT avg(CAST(decision = 'approve' AS DOUBLE)) AS value FROM events", 1e-12),
    ("SELECT count(*) AS value FROM events WHERE decision = 'reject'", 0.0),
    ("SELECT sum(amount) / sum(age) AS value FROM events", 1e-9),
    ("SELECT count(*) FILTER (WHERE amount > 500) / CAST(count(*) AS DOUBLE) AS value FROM events", 0.0),
    ("SELECT count(DISTINCT country) AS value FROM events", 0.0),
    ("SELECT max(amount) - min(amount) AS value FROM events WHERE age IS NOT NULL", 0.0),
    ("SELECT stddev(amount) AS value FROM events", 1e-7),
    ("SELECT var_pop(age) AS value FROM events WHERE decision <> 'reject'", 1e-7),
    ("SELECT corr(amount, age) AS value FROM events", 1e-6),
    ("SELECT covar_samp(amount, age) AS value FROM events", 1e-6),
    ("SELECT median(amount) AS value FROM events", 0.0),
    ("SELECT approx_percentile_cont(age, 0.9) AS value FROM events", 0.005_1),
    ("SELECT approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY age) AS value FROM events", 0.005_1),
    ("SELECT approx_distinct(device) AS value FROM events", 0.0),
    ("SELECT bool_or(amount > 990) AS value FROM events", 0.0),
    ("SELECT avg(score) AS value, country FROM events GROUP BY country", 1e-9),
    ("SELECT sum(CASE WHEN decision = 'approve' THEN 1 ELSE 0 END) AS value FROM events GROUP BY country, device", 0.0),
    ("SELECT max(date_part('hour', e.event_time)) + avg(e.amount) AS value FROM events AS e", 1e-9),
];

#[derive(Debug, Clone)]
struct Row {
    second: i64,
    amount: Option<f64>,
    age: Option<f64>,
    decision: Option<&'static str>,
    country: Option<&'static str>,
    device: Option<&'static str>,
    score: Option<f64>,
}

struct World {
    model: Arc<Model>,
    reference: Arc<Reference>,
}

impl References for World {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.reference.model == model && self.reference.id == id).then(|| self.reference.clone())
    }
}

fn batch(model: &Model, rows: &[Row]) -> RecordBatch {
    let schema = schema(model);
    let numbers =
        |get: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(Float64Array::from_iter(rows.iter().map(get))) };
    let texts =
        |get: fn(&Row) -> Option<&'static str>| -> ArrayRef { Arc::new(StringArray::from_iter(rows.iter().map(get))) };
    let times = rows.iter().map(|row| START_MS + row.second * 1_000).collect::<Vec<_>>();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "event_time" => Arc::new(TimestampMillisecondArray::from(times.clone()).with_timezone("UTC")) as ArrayRef,
        "version" => texts(|_| Some("1")),
        "prediction_id" => texts(|_| None),
        "amount" => numbers(|row| row.amount),
        "age" => numbers(|row| row.age),
        "prediction.score" => numbers(|row| row.score),
        "decision" => texts(|row| row.decision),
        "country" => texts(|row| row.country),
        "device" => texts(|row| row.device),
        other => panic!("column {other}"),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn training() -> Vec<Row> {
    let pick = |index: i64, from: &[&'static str]| Some(from[index as usize % from.len()]);
    let row = |index: i64| Row {
        second: index,
        amount: Some((index * 37 % 1_000) as f64),
        age: Some(18.0 + (index * 13 % 60) as f64),
        decision: pick(index, &["approve", "approve", "reject"]),
        country: pick(index / 3, &["DE", "FR"]),
        device: pick(index / 7, &["phone", "web"]),
        score: Some((index % 100) as f64 / 100.0),
    };
    (0..2_000).map(row).collect()
}

static WORLD: LazyLock<Arc<World>> = LazyLock::new(build_world);

static ALL_QUERIES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| all_queries(&WORLD));

fn world() -> Arc<World> {
    WORLD.clone()
}

fn build_world() -> Arc<World> {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let batches = [batch(&model, &training())];
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    Arc::new(World { model, reference: Arc::new(reference) })
}

fn rules(world: &World, yaml: &str) -> Arc<RuleSet> {
    let file = parse_rules_str("rules.yaml", yaml).unwrap().value;
    let compiled = RuleSet::compile(&[("rules.yaml".to_string(), file)], std::slice::from_ref(&world.model));
    Arc::new(compiled.unwrap_or_else(|found| panic!("{found:#?}")))
}

/// One rule for every query.
fn all_queries(world: &World) -> Arc<RuleSet> {
    let rule = |(index, (query, _)): (usize, &(&str, f64))| {
        format!("  - {{name: q{index}, model: loans, sql: \"{query}\", when: {{warn: value > 1e300}}}}\n")
    };
    let list: String = QUERIES.iter().enumerate().map(rule).collect();
    let receivers = "receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}";
    rules(world, &format!("version: 1\nrules:\n{list}routes: [{{match: {{}}, to: [hook]}}]\n{receivers}\n"))
}

/// Feeds a partition with flushes as ingest writes them; restarts it from what it stored, if told to.
struct Stream {
    world: Arc<World>,
    rules: Arc<RuleSet>,
    plan: ModelPlan,
    queries: SqlPlans,
    state: PartitionState,
    judged: bool,
    offset: i64,
    runtime: tokio::runtime::Runtime,
    stored: BTreeMap<String, (driftline::windows::pane::PaneKey, Option<Vec<u8>>)>,
    results: Vec<WindowResult>,
    notifications: Vec<Notification>,
    judge_states: BTreeMap<String, Option<Vec<u8>>>,
}

impl Stream {
    fn new(world: &Arc<World>, rules: &Arc<RuleSet>, judged: bool) -> Self {
        let (model, reference) = (&world.model, &world.reference);
        let pane_ms = rules.watched(model).pane_ms();
        let schema = schema(model);
        Self {
            plan: ModelPlan::new(model, reference.clone(), &schema, pane_ms).unwrap(),
            queries: SqlPlans::new(&rules.sql_metrics(model), model, reference, &schema, pane_ms).unwrap(),
            state: Self::fresh(world, rules, judged),
            world: world.clone(),
            rules: rules.clone(),
            judged,
            offset: 0,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            stored: BTreeMap::new(),
            results: Vec::new(),
            notifications: Vec::new(),
            judge_states: BTreeMap::new(),
        }
    }

    fn fresh(world: &Arc<World>, rules: &Arc<RuleSet>, judged: bool) -> PartitionState {
        let judge: Box<dyn Judge> = match judged {
            true => Box::new(RulesJudge::new(rules.clone(), Metrics::new().unwrap())),
            false => Box::new(NoJudge),
        };
        PartitionState::new(Arc::new(vec![rules.watched(&world.model)]), world.clone(), judge)
    }

    fn partials(&self, batches: &[RecordBatch]) -> Vec<PartialRow> {
        let mut rows = self.runtime.block_on(self.plan.run(batches)).unwrap();
        let (states, _) = self.runtime.block_on(self.queries.run(batches, &rows));
        rows.extend(states);
        rows
    }

    /// `clock_second`: how far the source has come.
    fn flush(&mut self, batches: &[RecordBatch], clock_second: i64) {
        let rows = self.partials(batches);
        let count: i64 = batches.iter().map(|batch| batch.num_rows() as i64).sum();
        let source = SourceProgress {
            topic: "loans".into(),
            partition: 0,
            from: self.offset,
            to: self.offset + count.max(1),
            clock_ms: Some(START_MS + clock_second * 1_000),
            ..SourceProgress::default()
        };
        self.offset = source.to;
        let header = FlushHeader {
            instance: "0".into(),
            at_ms: START_MS + clock_second * 1_000,
            next_by_ms: START_MS + clock_second * 1_000 + 10_000,
            sources: vec![source],
            topics: BTreeMap::from([("loans".to_string(), 1)]),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        };
        // Through the bytes of the topic.
        for record in encode_flush(&header, &rows, std::iter::empty()).unwrap() {
            let part = decode_flush(&record).unwrap();
            for effect in self.state.apply(&part.header, part.rows) {
                match effect {
                    Effect::Result(result) => self.results.push(*result),
                    Effect::Verdict(Verdict::Notify { value, .. }) => {
                        self.notifications.push(serde_json::from_slice(&value).unwrap());
                    }
                    Effect::Verdict(Verdict::State { key, value }) => drop(self.judge_states.insert(key, value)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn restart(&mut self) {
        for change in self.state.take_pane_changes() {
            self.stored.insert(serde_json::to_string(&change.key).unwrap(), (change.key, change.value));
        }
        let progress = serde_json::to_vec(self.state.progress()).unwrap();
        let mut state = Self::fresh(&self.world, &self.rules, self.judged);
        state.restore_progress(serde_json::from_slice(&progress).unwrap());
        for (key, value) in self.stored.values() {
            if let Some(value) = value {
                state.restore_pane(key.clone(), value).unwrap();
            }
        }
        for (key, value) in &self.judge_states {
            if let Some(value) = value {
                state.restore_judge(key, value);
            }
        }
        self.state = state;
    }

    /// Values of the newest revision of every window, by rule, window's start in minutes, and segment.
    fn values(&self) -> BTreeMap<(String, i64, String), (u64, Option<f64>)> {
        let mut values = BTreeMap::new();
        for result in self.results.iter().filter(|result| result.baseline.is_none()) {
            for (name, stats) in result.features.iter().filter(|(name, _)| name.starts_with("sql:")) {
                let minute = (result.window.start_ms - START_MS) / MINUTE_MS;
                let segment = if result.segment.is_all() { String::new() } else { result.segment.value.clone() };
                let key = (name["sql:".len()..].to_string(), minute, segment);
                values.insert(key, (stats.n, stats.metrics["value"].value));
            }
        }
        values
    }
}

/// The table of a window as DataFusion sees it: segment columns hold the names of segments.
fn whole_table(world: &World, rows: &[Row]) -> RecordBatch {
    let batch = batch(&world.model, rows);
    let renamed = |name: &str| match name {
        "prediction.score" => "score".to_string(),
        name => name.to_string(),
    };
    let fields: Vec<Field> =
        batch.schema().fields().iter().map(|field| field.as_ref().clone().with_name(renamed(field.name()))).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec()).unwrap()
}

/// What a value of a segment's column is called in results.
fn segment_of(world: &World, column: &str, values: &[Option<&str>]) -> String {
    let value = match values {
        [one] => one.unwrap_or(MISSING_SEGMENT).to_string(),
        [first, second] => {
            let part = |value: &Option<&str>| value.unwrap_or(MISSING_SEGMENT).to_string();
            driftline::config::segment::join(&part(first), &part(second))
        }
        _ => panic!("{values:?}"),
    };
    match world.reference.segments.contains_key(&(column.to_string(), value.clone())) || value == MISSING_SEGMENT {
        true => value,
        false => OTHER_SEGMENT.to_string(),
    }
}

/// DataFusion's own answer over all rows at once, by segment.
fn expected(world: &World, query: &str, rows: &[Row]) -> BTreeMap<String, Option<f64>> {
    let ask = |rows: &[Row]| -> Option<f64> {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.enable_ident_normalization = false;
        let session = SessionContext::new_with_config(config);
        let table = whole_table(world, rows);
        let table = MemTable::try_new(table.schema(), vec![vec![table]]).unwrap();
        session.register_table("events", Arc::new(table)).unwrap();
        let ungrouped = query.split(" GROUP BY").next().unwrap();
        let ungrouped = ungrouped.replace(", country FROM", " FROM").replace("SELECT country, ", "SELECT ");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(async { session.sql(&ungrouped).await.unwrap().collect().await.unwrap() });
        let value = cast(answer[0].column(0), &DataType::Float64).unwrap();
        let value = value.as_primitive::<Float64Type>();
        (!value.is_null(0)).then(|| value.value(0)).filter(|value| value.is_finite())
    };
    let columns: &[&str] = match query.split_once("GROUP BY ") {
        None => return BTreeMap::from([(String::new(), ask(rows))]),
        Some((_, "country")) => &["country"],
        Some(_) => &["country", "device"],
    };
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let values: Vec<Option<&str>> =
            columns.iter().map(|column| if *column == "country" { row.country } else { row.device }).collect();
        groups.entry(segment_of(world, &columns.join(","), &values)).or_default().push(row.clone());
    }
    groups.into_iter().map(|(segment, rows)| (segment, ask(&rows))).collect()
}

/// The value at the nearest rank, for quantiles that DataFusion's sketch gives otherwise.
fn quantile(rows: &[Row], share: f64) -> Option<f64> {
    let mut ages: Vec<f64> = rows.iter().filter_map(|row| row.age).collect();
    ages.sort_by(f64::total_cmp);
    ages.get((share * (ages.len().max(1) - 1) as f64).round() as usize).copied()
}

fn close_enough(found: Option<f64>, wanted: Option<f64>, relative: f64) -> bool {
    match (found, wanted) {
        (Some(found), Some(wanted)) => (found - wanted).abs() <= relative * wanted.abs().max(1e-9),
        // DataFusion calls the correlation with a constant 0; nothing varies, so there is none.
        (None, Some(wanted)) => wanted == 0.0,
        (found, wanted) => found == wanted,
    }
}

fn rows() -> impl Strategy<Value = Vec<(Row, usize)>> {
    let some = |values: Vec<&'static str>| prop::option::weighted(0.9, prop::sample::select(values));
    let row = (
        0_i64..600,
        prop::option::weighted(
            0.95,
            prop_oneof![(0_i32..1_000).prop_map(f64::from), 0.0..1_000.0, Just(1e9), Just(0.1)],
        ),
        prop::option::weighted(0.9, 18.0..80.0),
        some(vec!["approve", "reject", "refer"]),
        some(vec!["DE", "FR", "US", "ZZ"]),
        some(vec!["phone", "web", "tv"]),
        prop::option::weighted(0.9, 0.0..1.0),
        0_usize..6,
    );
    let row = row.prop_map(|(second, amount, age, decision, country, device, score, flush)| {
        (Row { second, amount, age, decision, country, device, score }, flush)
    });
    prop::collection::vec(row, 1..250)
}

/// Runs the rows in the flushes that they are given to, the windows open until the last; restarts after some.
fn run(world: &Arc<World>, rules: &Arc<RuleSet>, rows: &[(Row, usize)], batch_rows: usize, restarts: bool) -> Stream {
    let mut stream = Stream::new(world, rules, false);
    for flush in 0..6 {
        let of_flush: Vec<Row> = rows.iter().filter(|(_, of)| *of == flush).map(|(row, _)| row.clone()).collect();
        let batches: Vec<RecordBatch> = of_flush.chunks(batch_rows).map(|rows| batch(&world.model, rows)).collect();
        // The clock moves on so that some windows close early and are revised by what comes late.
        stream.flush(&batches, flush as i64 * 40);
        if restarts && flush % 2 == 1 {
            stream.restart();
        }
    }
    stream.flush(&[], 720);
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_value_over_all_rows(rows in rows(), batch_rows in 1_usize..60, restarts in any::<bool>()) {
        let world = world();
        let rules = ALL_QUERIES.clone();
        let split = run(&world, &rules, &rows, batch_rows, restarts).values();
        let at_once: Vec<(Row, usize)> = rows.iter().map(|(row, _)| (row.clone(), 0)).collect();
        let whole = run(&world, &rules, &at_once, 1_000, false).values();
        let bits = |values: &BTreeMap<(String, i64, String), (u64, Option<f64>)>| -> Vec<_> {
            values.iter().map(|(key, (n, value))| (key.clone(), *n, value.map(f64::to_bits))).collect()
        };
        prop_assert_eq!(bits(&split), bits(&whole), "the split changes a value");
        for window in [0, 6] {
            let in_window = |row: &&(Row, usize)| (window * 60..(window + 2) * 60).contains(&row.0.second);
            let of_window: Vec<Row> = rows.iter().filter(in_window).map(|(row, _)| row.clone()).collect();
            if of_window.is_empty() {
                continue;
            }
            for (index, (query, relative)) in QUERIES.iter().enumerate() {
                for (segment, mut wanted) in expected(&world, query, &of_window) {
                    match *query {
                        query if query.contains("(age, 0.9)") => wanted = quantile(&of_window, 0.9),
                        query if query.contains("(0.25)") => wanted = quantile(&of_window, 0.25),
                        _ => {}
                    }
                    let (_, found) = split[&(format!("q{index}"), window, segment.clone())];
                    prop_assert!(
                        close_enough(found, wanted, *relative),
                        "{query}, minute {window}, `{segment}`: {found:?} against {wanted:?}"
                    );
                }
            }
        }
    }
}

const APPROVAL: &str = "
version: 1
rules:
  - name: approval-rate
    model: loans@*
    min_samples: 50
    sql: SELECT avg(CAST(decision = 'approve' AS DOUBLE)) AS value FROM events
    when: {critical: value not between 0.55 and 0.75}
  - name: approval-by-country
    model: loans@*
    min_samples: 20
    sql: |
      SELECT country, avg(CAST(decision = 'approve' AS DOUBLE)) AS value
      FROM events
      GROUP BY country
    when: {warn: value < 50%}
  - name: approval-falls
    model: loans@*
    min_samples: 50
    reference: {trailing: 4m}
    sql: SELECT avg(CAST(decision = 'approve' AS DOUBLE)) AS value FROM events
    when: {warn: value < 80% of baseline and row_count > 10}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";

/// 300 events a minute; in minutes 4 to 7 fewer are approved, and none in France.
fn approvals(minute: i64) -> Vec<Row> {
    let row = |index: i64| {
        let country = if index % 2 == 0 { "DE" } else { "FR" };
        let fewer = (4..8).contains(&minute);
        let approved = if fewer { country == "DE" && index % 4 == 0 } else { index % 3 != 0 };
        Row {
            second: minute * 60 + index / 5,
            decision: Some(if approved { "approve" } else { "reject" }),
            country: Some(country),
            ..training()[index as usize].clone()
        }
    };
    (0..300).map(row).collect()
}

#[test]
fn the_approval_rate_fires_by_country_too_and_resolves() {
    let world = world();
    let rules = rules(&world, APPROVAL);
    let mut stream = Stream::new(&world, &rules, true);
    for minute in 0..12 {
        stream.flush(&[batch(&world.model, &approvals(minute))], (minute + 1) * 60);
        if minute % 3 == 2 {
            stream.restart();
        }
    }
    let told: Vec<(String, String, EpisodeStatus, i64)> = stream
        .notifications
        .iter()
        .map(|told| {
            let minute = (told.window.start_ms - START_MS) / MINUTE_MS;
            (told.rule.clone(), told.segment.value.clone(), told.status, minute)
        })
        .collect();
    use EpisodeStatus::{Firing, Resolved};
    let wanted = [
        ("approval-rate", "", Firing, 4),
        ("approval-by-country", "FR", Firing, 4),
        ("approval-falls", "", Firing, 4),
        ("approval-falls", "", Resolved, 8),
        ("approval-rate", "", Resolved, 8),
        ("approval-by-country", "FR", Resolved, 8),
    ];
    let mut wanted: Vec<(String, String, EpisodeStatus, i64)> =
        wanted.map(|(rule, segment, status, minute)| (rule.to_string(), segment.to_string(), status, minute)).to_vec();
    let mut found = told.clone();
    let by = |entry: &(String, String, EpisodeStatus, i64)| (entry.3, entry.0.clone(), entry.1.clone());
    wanted.sort_by_key(by);
    found.sort_by_key(by);
    assert_eq!(found, wanted);
    let first = &stream.notifications.iter().find(|told| told.rule == "approval-rate").unwrap();
    assert_eq!(first.summary, "approval-rate critical: loans@1, value 0.25");
    assert_eq!(first.findings[0].reason, "all events: value 0.25, 1 of 1 window, 600 events");
    assert_eq!(first.findings[0].metric, "value");
    let falls = &stream.notifications.iter().find(|told| told.rule == "approval-falls").unwrap();
    assert_eq!(falls.findings[0].value.value, Some(0.25));
}

#[test]
fn a_query_that_fails_costs_its_own_value_and_nothing_else() {
    let world = world();
    let yaml = "
version: 1
rules:
  - {name: failing, model: loans, min_samples: 0, sql: SELECT avg(CAST(country AS DOUBLE)) AS value FROM events, when: {warn: value > 0}}
  - {name: count, model: loans, min_samples: 0, sql: SELECT count(*) AS value FROM events, when: {warn: value > 0}}
  - {name: none, model: loans, min_samples: 0, sql: SELECT avg(amount) AS value FROM events WHERE amount < 0, when: {warn: value < 1}}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";
    let rules = rules(&world, yaml);
    let mut stream = Stream::new(&world, &rules, true);
    stream.flush(&[batch(&world.model, &approvals(0))], 60);
    stream.flush(&[batch(&world.model, &approvals(1))], 130);
    let result = stream.results.iter().find(|result| result.segment.is_all()).unwrap();
    assert_eq!(result.features["sql:failing"].no_value, Some(NoValue::QueryFailed));
    assert_eq!(result.features["sql:none"].no_value, Some(NoValue::Undefined));
    assert_eq!(result.features["sql:count"].metrics["value"].value, Some(600.0));
    assert!(result.features["amount"].metrics["psi"].value.is_some(), "features are judged as ever");
    let told: Vec<&str> = stream.notifications.iter().map(|told| told.rule.as_str()).collect();
    assert_eq!(told, ["count"]);
}

#[test]
fn a_state_that_outgrows_its_limit_is_given_up_and_stays_so_over_a_restart() {
    let world = world();
    let yaml = "
version: 1
rules:
  - {name: distinct, model: loans, min_samples: 0, sql: SELECT count(DISTINCT amount) AS value FROM events, when: {warn: value > 0}}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";
    let rules = rules(&world, yaml);
    let mut stream = Stream::new(&world, &rules, true);
    let row = |index: i64| Row { second: 1, amount: Some(index as f64), ..training()[0].clone() };
    for flush in 0..6 {
        let rows: Vec<Row> = (flush * 3_000..(flush + 1) * 3_000).map(row).collect();
        stream.flush(&[batch(&world.model, &rows)], 10);
        stream.restart();
        let held = stream.state.allocated_bytes();
        assert!(held < 400_000, "{held} bytes held after flush {flush}");
    }
    stream.flush(&[], 130);
    let result = stream.results.iter().find(|result| result.segment.is_all()).unwrap();
    assert_eq!(result.features["sql:distinct"].no_value, Some(NoValue::StateTooLarge));
    assert_eq!(stream.notifications.len(), 0);
}

#[test]
fn a_rule_added_in_the_middle_of_a_window_waits_for_the_next() {
    let world = world();
    let without = rules(&world, "version: 1\n");
    let yaml =
        APPROVAL.replace("    min_samples: 50\n", "    min_samples: 0\n").replace("not between 0.55 and 0.75", "< 2");
    let with = rules(&world, &yaml);
    let mut before = Stream::new(&world, &without, true);
    before.flush(&[batch(&world.model, &approvals(0))], 60);
    before.restart();
    let mut stream = Stream::new(&world, &with, true);
    (stream.stored, stream.offset) = (before.stored, before.offset);
    // The progress of the one before: only panes are carried over.
    stream.state.restore_progress(before.state.progress().clone());
    for (key, value) in stream.stored.values() {
        stream.state.restore_pane(key.clone(), value.as_ref().unwrap()).unwrap();
    }
    for minute in 1..4 {
        stream.flush(&[batch(&world.model, &approvals(minute))], (minute + 1) * 60);
    }
    let told = |minute: i64| {
        let of_rule = stream.results.iter().filter(|result| result.segment.is_all() && result.baseline.is_none());
        let found = of_rule.filter(|result| result.window.start_ms == START_MS + minute * MINUTE_MS);
        found.map(|result| result.features["sql:approval-rate"].no_value).collect::<Vec<_>>()
    };
    assert_eq!(told(0), [Some(NoValue::NotCollected)]);
    assert_eq!(told(2), [None]);
    let fired: Vec<i64> = stream
        .notifications
        .iter()
        .filter(|told| told.rule == "approval-rate")
        .map(|told| (told.window.start_ms - START_MS) / MINUTE_MS)
        .collect();
    assert_eq!(fired, [2]);
}

#[test]
fn a_back_test_tells_what_the_service_tells() {
    let world = world();
    let rules = rules(&world, APPROVAL);
    let mut stream = Stream::new(&world, &rules, true);
    let references = BTreeMap::from([("loans".to_string(), world.reference.clone())]);
    let models = std::slice::from_ref(&world.model);
    let mut engine = Engine::new(models, rules.clone(), &references, EngineOptions::default()).unwrap();
    for minute in 0..12 {
        let batch = batch(&world.model, &approvals(minute));
        engine.push("loans", &batch).unwrap();
        stream.flush(&[batch], (minute + 1) * 60);
    }
    let trail = engine.finish().unwrap();
    let told = |notifications: &[Notification]| -> std::collections::BTreeSet<(String, String)> {
        notifications.iter().map(|told| (told.id.clone(), told.findings[0].reason.clone())).collect()
    };
    assert!(trail.notifications.len() >= 6);
    assert_eq!(told(&trail.notifications), told(&stream.notifications));
}

/// Text of the blocks of a page that are marked so.
fn blocks(page: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    let parts = page.split(&fence).skip(1);
    parts.map(|part| part.split("\n```").next().unwrap().to_string()).collect()
}

#[test]
fn the_queries_of_the_page_are_planned_and_give_what_datafusion_gives() {
    let world = world();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql-metrics.md")).unwrap();
    let queries = blocks(&page, "sql");
    assert!(queries.len() >= 6, "{}", queries.len());
    for query in queries {
        let one_line = query.split_whitespace().collect::<Vec<_>>().join(" ");
        let yaml = format!(
            "version: 1\nrules:\n  - {{name: q, model: loans, sql: \"{one_line}\", when: {{warn: value > 1e300}}}}\n\
             routes: [{{match: {{}}, to: [hook]}}]\n\
             receivers: {{hook: {{webhook: {{url: 'http://127.0.0.1:1/', allow_private: true}}}}}}\n"
        );
        let rules = rules(&world, &yaml);
        let rows: Vec<Row> = approvals(0);
        let mut stream = Stream::new(&world, &rules, false);
        stream.flush(&[batch(&world.model, &rows)], 60);
        stream.flush(&[], 130);
        let values = stream.values();
        for (segment, wanted) in expected(&world, &one_line, &rows) {
            let (_, found) = values[&("q".to_string(), 0, segment.clone())];
            assert!(found.is_some(), "{query}: nothing for `{segment}`");
            assert!(close_enough(found, wanted, 0.02), "{query}, `{segment}`: {found:?} against {wanted:?}");
        }
    }
    for name in driftline::stats::sql::functions::allowed() {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}

/// Ordinary SQL is not refused: whatever the page names, written as people write it.
#[test]
fn what_the_page_allows_is_planned() {
    let model = "
version: 1
model: loans
topics: [loans]
fields: {version: version, prediction_id: id}
features:
  amount: numeric
  decision: categorical
  country: categorical
  device: categorical
  'debt-to-income': numeric
  Region: categorical
  text: {type: vector, dimension: 3}
prediction: {path: prediction, type: categorical}
score: {path: score, type: numeric}
segments: [country, [device, country]]
references: {training: {path: training.jsonl}}
";
    let model = parse_model_str("model.yaml", model).unwrap().value;
    for expression in [
        "COUNT(1)",
        "count(DISTINCT prediction_id)",
        "avg(abs(amount - 100))",
        "sqrt(avg(amount * amount)) + ln(max(amount)) - exp(min(amount)) + ceil(avg(amount)) - floor(1.5)",
        "avg(coalesce(amount, 0)) + max(nullif(amount, 1)) + max(greatest(amount, 1)) + max(least(amount, 1))",
        "avg(CASE decision WHEN 'approve' THEN 1.0 WHEN 'reject' THEN 0 ELSE NULL END)",
        "avg(CASE WHEN prediction IN ('a', 'b') OR decision LIKE 'app%' THEN 1 ELSE 0 END)",
        "max(EXTRACT(hour FROM event_time))",
        "count(*) FILTER (WHERE date_trunc('day', event_time) = event_time)",
        "count(*) FILTER (WHERE event_time >= TIMESTAMP '2026-01-01T00:00:00Z')",
        "max(array_length(text)) + max(text[1]) + max(array_max(text))",
        "avg(\"debt-to-income\") + count(events.\"Region\")",
        "sum(amount) FILTER (WHERE amount BETWEEN 1 AND 1e3) / nullif(count(*), 0)",
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) + percentile_cont(amount, 0.5)",
        "approx_percentile_cont(amount, 1) - approx_median(amount)",
        "bool_and(amount > 0) AND NOT bool_or(score < 0)",
        "bit_or(CAST(amount AS BIGINT)) + bit_xor(1) + bit_and(3)",
        "var(amount) + var_samp(amount) + var_pop(amount) + stddev_samp(amount) + stddev_pop(amount) + mean(amount)",
        "corr(amount, score) + covar(amount, score) + covar_pop(amount, score)",
        "avg(TRY_CAST(country AS DOUBLE))",
        "median(CAST(amount AS REAL))",
        "CAST(sum(CAST(amount AS DECIMAL(18, 2))) AS DOUBLE) * -1",
        "sum(amount) IS NULL",
        "1.0 * count(decision) / count(*)",
    ] {
        for rest in
            ["", " WHERE amount > 0 AND version <> 'shadow' AND country IS NOT NULL", " GROUP BY country, device"]
        {
            let query = format!("SELECT {expression} AS value FROM events{rest}");
            let planned = SqlQuery::plan(&query, &model).unwrap_or_else(|found| panic!("{query}: {found:#?}"));
            assert_eq!(planned.warnings, [], "{query}");
        }
    }
}

/// How much a query costs ingest, against the profiles of the same events. `--nocapture` shows it.
#[test]
#[ignore = "a measurement"]
fn a_query_costs_a_part_of_the_profiles() {
    let world = world();
    let rule = |index: usize, sql: &str| {
        format!("  - {{name: q{index}, model: loans, sql: \"{sql}\", when: {{warn: value > 1e300}}}}\n")
    };
    let tail = "routes: [{match: {}, to: [hook]}]\n\
                receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}\n";
    let rows: Vec<Row> = (0..30).flat_map(|_| training()).map(|row| Row { second: row.second % 60, ..row }).collect();
    let batches: Vec<RecordBatch> = rows.chunks(8_192).map(|rows| batch(&world.model, rows)).collect();
    for (what, sql) in [
        ("approval rate", QUERIES[0].0),
        ("by country", QUERIES[15].0),
        ("count distinct", QUERIES[4].0),
        ("percentile", QUERIES[11].0),
    ] {
        let rules = rules(&world, &format!("version: 1\nrules:\n{}{tail}", rule(0, sql)));
        let stream = Stream::new(&world, &rules, false);
        let fastest = |work: &dyn Fn()| {
            let time = |_| {
                let begun = std::time::Instant::now();
                work();
                begun.elapsed().as_secs_f64()
            };
            (0..5).map(time).fold(f64::MAX, f64::min)
        };
        let totals = stream.runtime.block_on(stream.plan.run(&batches)).unwrap();
        let profiles = fastest(&|| drop(stream.runtime.block_on(stream.plan.run(&batches)).unwrap()));
        let query = fastest(&|| drop(stream.runtime.block_on(stream.queries.run(&batches, &totals))));
        let nanos = 1e9 * query / rows.len() as f64;
        println!("{what}: {nanos:.0} ns an event, {:.1}% of the profiles of 6 signals", 100.0 * query / profiles);
    }
}
