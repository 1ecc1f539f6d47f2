//! The commands as processes, on a real broker and ONNX Runtime: a scorer that is killed again and again, one transform in
//! `featurize`, `serve` and `score`, and a topic shared by several.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftline::log::Log;
use driftline::scorer::registry::Registry;
use driftline::scorer::registry::manifest::Lineage;
use driftline::scorer::registry::register::Registration;
use serde_json::{Value, json};

use super::{now_ms, post, support, values};

/// A registry with settings beside it, and the ports that they name.
struct World {
    directory: tempfile::TempDir,
    http: u16,
    admin: u16,
}

impl World {
    fn new(more: &str) -> Self {
        let world =
            Self { directory: tempfile::tempdir().unwrap(), http: support::free_port(), admin: support::free_port() };
        std::fs::create_dir(world.path("registry")).unwrap();
        world.settings(more);
        world
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, more: &str) {
        let text = format!(
            "version: 1\nregistry: registry\nhttp: {{bind: \"127.0.0.1:{}\"}}\ngrpc: {{enabled: false}}\n\
             admin: {{bind: \"127.0.0.1:{}\"}}\nkafka: {{bootstrap_servers: \"{}\"}}\n{more}",
            self.http,
            self.admin,
            support::broker()
        );
        std::fs::write(self.path("scorer.yaml"), text).unwrap();
    }

    fn register(&self, model: &str, fixture: &str, transform: Option<&str>) {
        let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scorer").join(fixture);
        let mut files = BTreeMap::from([("model.onnx".to_string(), std::fs::read(onnx).unwrap())]);
        files.extend(transform.map(|text| ("transform.yaml".to_string(), text.into())));
        // The same content twice is one version.
        let lineage = Lineage { git_commit: Some(support::unique("commit")), ..Lineage::default() };
        let registration = Registration { model: model.into(), files, lineage, ..Default::default() };
        Registry::open(&self.path("registry")).unwrap().register(&registration, None, now_ms()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline-scorer"));
        command.current_dir(self.directory.path()).env("NO_COLOR", "1").args(arguments);
        command
    }

    fn must(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn promote(&self, model: &str, version: &str) {
        self.must(&["promote", model, version, "--config", "scorer.yaml", "--reason", "test"]);
    }

    fn serve(&self, model: &str) -> Serving {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("scorer.log")).unwrap();
        let mut command = self.command(&["serve", "--config", "scorer.yaml"]);
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        support::wait_until("the model is ready", Duration::from_secs(60), || {
            let log = || std::fs::read_to_string(self.path("scorer.log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            support::http_get(self.http, &format!("/v2/models/{model}/ready")).is_some_and(|(status, _)| status == 200)
        });
        Serving(child)
    }

    /// One of the events' counts; none while nobody answers.
    fn count(&self, model: &str, name: &str) -> Option<u64> {
        let (_, text) = support::http_get(self.admin, "/metrics")?;
        let prefix = format!("driftline_scorer_events_{name}{{model=\"{model}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }
}

/// Ends the clients, also where a check fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Serving(Child);

impl Serving {
    fn kill_nine(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests until `stop`, from a client that connects again when the scorer is gone: how many were answered, by version.
fn load(http: u16, name: &str, stop: &AtomicBool, asked: &AtomicU64) -> BTreeMap<String, u64> {
    let mut answered = BTreeMap::new();
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Some(stream)
    };
    let mut stream = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = stream.as_mut() else {
            stream = connect();
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let id = asked.fetch_add(1, Ordering::Relaxed);
        let body = json!({"id": format!("{name}-{id}"), "inputs": [
            {"name": "features", "shape": [1, 8], "datatype": "FP32", "data": vec![1; 8]}]});
        match try_post(open, "/v2/models/m/infer", &body.to_string()) {
            Some((200, body)) => {
                let answer: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(answer["outputs"][0]["data"][0], 5.0, "{body}");
                *answered.entry(answer["model_version"].as_str().unwrap().to_string()).or_default() += 1;
            }
            // It listens before it has loaded anything.
            Some((503, _)) => std::thread::sleep(Duration::from_millis(5)),
            Some((status, body)) => panic!("{status}: {body}"),
            None => stream = None,
        }
    }
    answered
}

/// As `post`, of a scorer that may be killed meanwhile.
fn try_post(stream: &mut TcpStream, path: &str, body: &str) -> Option<(u16, String)> {
    use std::io::Read;
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}").ok()?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(usize::MAX) {
            return Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()));
        }
    }
}

/// Ten lives of a scorer under load, each ended by kill -9, some right after a promotion.
#[test]
#[ignore = "needs a broker and ONNX Runtime: DRIFTLINE_TEST_KAFKA, ORT_DYLIB_PATH; takes a minute"]
fn a_scorer_killed_under_load_serves_the_same_version_and_sent_what_it_counted() {
    const LIVES: u32 = 10;
    let topic = support::unique("scorer-killed");
    let log = support::kafka_log();
    support::create_topic(&*log, &topic, 3);
    let world = World::new(&format!("events: {{enabled: true, topic: {topic}, linger: 5ms}}\n"));
    world.register("m", "linear.onnx", None);
    world.register("m", "linear.onnx", None);
    world.promote("m", "1");
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut sent = 0;
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = ["a", "b"].map(|name| scope.spawn(|| load(world.http, name, &stop, &asked))).into();
        let ending = StopAtEnd(&stop);
        let mut production = "1";
        for life in 0..LIVES {
            let serving = world.serve("m");
            let (_, described) = support::http_get(world.http, "/v1/models/m").unwrap();
            let (_, served) = support::http_get(world.http, "/v1/models/m/metadata").unwrap();
            let served: Value = serde_json::from_str(&served).unwrap();
            assert_eq!(served["model_spec"]["version"], production, "life {life}: {described}");
            support::wait_until("events are sent", Duration::from_secs(30), || {
                world.count("m", "sent_total").is_some_and(|sent| sent > 50)
            });
            if life % 3 == 2 {
                production = if production == "1" { "2" } else { "1" };
                world.promote("m", production);
            }
            std::thread::sleep(Duration::from_millis(u64::from(life * 37 % 200)));
            let counted = world.count("m", "sent_total").unwrap();
            serving.kill_nine();
            sent += counted;
            world.must(&["verify", "m", "--config", "scorer.yaml"]);
            let state = Registry::open(&world.path("registry")).unwrap().state("m").unwrap();
            assert_eq!(state.production.as_deref(), Some(production), "life {life}");
        }
        drop(ending);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let ids = values(&*log, &topic, "prediction_id");
    let unique: BTreeSet<&String> = ids.iter().collect();
    let asked = asked.load(Ordering::Relaxed);
    println!("{LIVES} lives: asked {asked}, answered {answered:?}, counted as sent {sent}, in the topic {}", ids.len());
    assert!(answered.iter().all(|versions| versions.len() == 2), "both versions answered: {answered:?}");
    assert!(ids.len() as u64 >= sent, "{} events in the topic, {sent} were counted as sent", ids.len());
    assert!(ids.len() as u64 <= asked, "no event without a request");
    assert_eq!(unique.len(), ids.len(), "no event stands there twice");
}

const PARITY: &str = "version: 1\noutput: features\ninputs: {a: number, b: number, c: text}\nfeatures:\n\
    - {from: a}\n- {from: a, name: a_log, steps: [{impute: 0}, {clip: {min: 0}}, log1p, {standard: {mean: 3.1, std: 1.7}}]}\n\
    - {from: a, name: share, steps: [{ratio: {by: b}}]}\n- {from: b, steps: [{min_max: {min: -5, max: 12.5}}]}\n\
    - {from: a, name: bin, steps: [{bin: {edges: [0, 10, 100]}}]}\n- {from: c, steps: [{one_hot: {categories: [x, y]}}]}\n\
    - {from: c, name: place, steps: [{ordinal: {categories: [x, y]}}]}\n";

/// As JSON has it: null where it is missing.
fn raw(row: usize) -> (Option<f64>, f64, &'static str) {
    let a = (!row.is_multiple_of(7)).then_some(row as f64 / 3.0 - 500.0);
    (a, (row % 11) as f64 * 0.1, ["x", "y", "z", ""][row % 4])
}

/// One column of a file of lines, as the bits of FP32; null is not a number.
fn column(lines: &str, name: &str) -> Vec<u32> {
    let value = |line: &str| -> u32 {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = row.get(name).unwrap_or_else(|| panic!("{name}: {line}"));
        bits(number.as_f64().map_or(f32::NAN, |value| value as f32))
    };
    lines.lines().map(value).collect()
}

/// What is no number has one form.
fn bits(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// 10 000 rows: what `featurize` writes for training, what a request becomes before the model, and what `score` gives the
/// model are the same bits; the model is the identity. The events have the raw features.
#[test]
#[ignore = "needs a broker and ONNX Runtime: DRIFTLINE_TEST_KAFKA, ORT_DYLIB_PATH; takes a minute"]
fn featurize_serve_and_score_give_the_model_the_same_bits() {
    const ROWS: usize = 10_000;
    let topic = support::unique("scorer-parity");
    let log = support::kafka_log();
    support::create_topic(&*log, &topic, 3);
    let settings = |column: usize| {
        format!(
            "events: {{enabled: true, topic: {topic}}}\nmodels: {{m: {{events: {{score: \"columns:{column}\"}}}}}}\n"
        )
    };
    let world = World::new(&settings(0));
    world.register("m", "identity.onnx", Some(PARITY));
    world.promote("m", "1");
    std::fs::write(world.path("transform.yaml"), PARITY).unwrap();
    let line = |row| {
        let (a, b, c) = raw(row);
        json!({"id": row, "a": a, "b": b, "c": c}).to_string() + "\n"
    };
    std::fs::write(world.path("raw.jsonl"), (0..ROWS).map(line).collect::<String>()).unwrap();
    world.must(&["featurize", "--transform", "transform.yaml", "--keep", "id", "raw.jsonl", "features.jsonl"]);
    let trained = std::fs::read_to_string(world.path("features.jsonl")).unwrap();
    let names = ["a", "a_log", "share", "b", "bin", "c=x", "c=y", "place"];
    let first: Value = serde_json::from_str(trained.lines().next().unwrap()).unwrap();
    let written: BTreeSet<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(written, names.into_iter().chain(["id"]).collect(), "columns of the training data");
    let trained: Vec<Vec<u32>> = names.iter().map(|name| column(&trained, name)).collect();
    // The server, 100 rows a request.
    let serving = world.serve("m");
    let mut stream = TcpStream::connect(("127.0.0.1", world.http)).unwrap();
    let mut served = vec![Vec::new(); 8];
    for first in (0..ROWS).step_by(100) {
        let rows: Vec<_> = (first..first + 100).map(raw).collect();
        let tensor = |name: &str, datatype: &str, data: Value| json!({"name": name, "datatype": datatype, "shape": [100], "data": data});
        let body = json!({"id": first.to_string(), "inputs": [
            tensor("a", "FP64", rows.iter().map(|row| json!(row.0)).collect()),
            tensor("b", "FP64", rows.iter().map(|row| json!(row.1)).collect()),
            tensor("c", "BYTES", rows.iter().map(|row| json!(row.2)).collect()),
        ]});
        let (status, body) = post(&mut stream, "/v2/models/m/infer", &body.to_string());
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        for (index, value) in answer["outputs"][0]["data"].as_array().unwrap().iter().enumerate() {
            served[index % 8].push(bits(value.as_f64().map_or(f32::NAN, |value| value as f32)));
        }
    }
    support::wait_until("every event is sent", Duration::from_secs(30), || {
        world.count("m", "sent_total") == Some(ROWS as u64)
    });
    serving.kill_nine();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(served[index], trained[index], "{name} as served and as trained on");
        // The command writes one column of an output.
        world.settings(&settings(index));
        world.must(&["score", "--config", "scorer.yaml", "--model", "m", "raw.jsonl", "scored.jsonl"]);
        let scored = std::fs::read_to_string(world.path("scored.jsonl")).unwrap();
        assert_eq!(column(&scored, "score"), trained[index], "{name} as scored by the command and as trained on");
    }
    check_events(&*log, &topic, ROWS);
}

fn check_events(log: &dyn Log, topic: &str, rows: usize) {
    let mut seen = BTreeSet::new();
    for partition in 0..3 {
        driftline::log::read_to_end(log, topic, partition, |_, value| {
            let event: Value = serde_json::from_slice(value.unwrap()).unwrap();
            let id = event["prediction_id"].as_str().unwrap().to_string();
            let (first, offset) = id.split_once('-').unwrap();
            let row = first.parse::<usize>().unwrap() + offset.parse::<usize>().unwrap();
            let (a, b, c) = raw(row);
            let wanted = json!({"a": a, "b": b, "c": Some(c).filter(|c| !c.is_empty())});
            assert_eq!(event["features"], wanted, "row {row}");
            assert!(seen.insert(row), "row {row} twice");
        })
        .unwrap();
    }
    assert_eq!(seen.len(), rows);
}

/// Three processes of one group, of which one is killed in the middle and started again once the others have ended: each row
/// is in the output once.
#[test]
#[ignore = "needs a broker and ONNX Runtime: DRIFTLINE_TEST_KAFKA, ORT_DYLIB_PATH; takes a minute and a half"]
fn a_topic_scored_by_several_processes_has_every_row_once() {
    const ROWS: u64 = 60_000;
    let app = support::unique("scorer-shared");
    let log = support::kafka_log();
    let topics = ["in", "out", "out.dead-letter"].map(|name| format!("{app}-{name}"));
    topics.iter().for_each(|topic| support::create_topic(&*log, topic, 6));
    let names: Vec<String> = (0..8).map(|index| format!("f{index}")).collect();
    let world = World::new("");
    world.register("m", "linear.onnx", None);
    world.promote("m", "1");
    for first in (0..ROWS).step_by(5_000) {
        let record = |id: u64| {
            let features: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!(id % 100))).collect();
            driftline::log::OutRecord {
                topic: topics[0].as_str().into(),
                key: Some(id.to_string().into_bytes()),
                value: Some(json!({"id": id, "features": features}).to_string().into_bytes()),
                ..Default::default()
            }
        };
        log.append((first..first + 5_000).map(record).collect()).unwrap();
    }
    let start = |instance: usize| {
        let file = std::fs::File::create(world.path(&format!("{instance}.log"))).unwrap();
        let instance = instance.to_string();
        let mut command = world.command(&["score", "--config", "scorer.yaml", "--model", "m", "--until-end"]);
        command.args(["--topic", &topics[0], "--to", &topics[1], "--group", &app, "--instance", &instance]);
        command.args(["--features", &names.join(",")]).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap()
    };
    let mut processes: Vec<Child> = (0..3).map(start).collect();
    let written = || values(&*log, &topics[1], "id").len();
    support::wait_until("something is written", Duration::from_secs(60), || written() > 0);
    let mut killed = processes.remove(1);
    let was_running = killed.try_wait().unwrap().is_none();
    killed.kill().unwrap();
    killed.wait().unwrap();
    println!("killed one of three after {} rows, running: {was_running}", written());
    let until = Instant::now() + Duration::from_secs(240);
    while processes.iter_mut().any(|process| process.try_wait().unwrap().is_none()) {
        assert!(Instant::now() < until, "{} rows after four minutes", written());
        std::thread::sleep(Duration::from_millis(200));
    }
    for (mut process, instance) in processes.into_iter().zip([0, 2]) {
        let said = std::fs::read_to_string(world.path(&format!("{instance}.log"))).unwrap();
        println!("{instance}: {}", said.trim());
        assert!(process.wait().unwrap().success(), "{said}");
    }
    // The killed one's partitions are its group's again only when the broker misses it: the others were at their end before.
    println!("{} rows before it is started again", written());
    let again = start(1).wait().unwrap();
    let said = std::fs::read_to_string(world.path("1.log")).unwrap();
    println!("1: {}", said.trim());
    assert!(again.success(), "{said}");
    let mut rows: Vec<(u64, f64)> = values(&*log, &topics[1], "id")
        .iter()
        .zip(values(&*log, &topics[1], "score"))
        .map(|(id, score)| (id.parse().unwrap(), score.parse().unwrap()))
        .collect();
    rows.sort_by_key(|row| row.0);
    assert!(rows.iter().map(|row| row.0).eq(0..ROWS), "{} rows in the output, each of {ROWS} once", rows.len());
    for (id, score) in rows {
        assert_eq!(score, (id % 100) as f64 * 4.5 + 0.5, "score of {id}");
    }
}
