//! Clients that mean harm, against a server in a process of its own: a clear answer, no growth of memory, no panic, and it
//! serves the next client. The server is this test once more, started with `SERVER` set.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::scorer::HttpSettings;
use driftline::config::units::Span;
use driftline::scorer::metrics::Metrics;
use driftline::scorer::serve::Scorer;
use driftline::scorer::serve::follow::Follower;
use driftline::scorer::serve::http::Context;
use driftline::scorer::serve::http::server::HttpServer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::scorer_support::shelf::Shelf;

/// In the environment of the server: the file in which it says its address.
const SERVER: &str = "DRIFTLINE_TEST_SERVER";
const MIB: usize = 1 << 20;
const MAX_BODY: usize = 32 * MIB;
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a case may leave behind, and what it may take while it runs.
const MAX_GROWTH: usize = 64 * MIB;
/// What the same requests may add when they come again.
const MAX_GROWTH_AGAIN: usize = 16 * MIB;
const MAX_PEAK: usize = 192 * MIB;

fn serve(file: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let shelf = Arc::new(Shelf::default());
        shelf.put("1", "linear 1 1 + 0");
        shelf.state(|state| state.production = Some("1".into()));
        let scorer = Arc::new(Scorer::new(Metrics::new().unwrap(), None));
        let follow = Follower::new(shelf, scorer.clone(), Default::default()).start().unwrap();
        follow.refreshed().await;
        let timeout = Span::from_ms(TIMEOUT.as_millis() as i64);
        let settings = HttpSettings {
            workers: 2,
            max_body_bytes: MAX_BODY,
            max_bodies_bytes: 2 * MAX_BODY,
            head_timeout: timeout,
            body_timeout: timeout,
            write_timeout: timeout,
            ..HttpSettings::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = Arc::new(Context::new(scorer, &settings));
        let server = HttpServer::start(listener, context, &settings, &CancellationToken::new()).unwrap();
        (server, follow)
    });
    let written = file.with_extension("new");
    std::fs::write(&written, server.0.address().to_string()).unwrap();
    std::fs::rename(&written, file).unwrap();
    // Until the test is over, or gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

struct Server {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Server {
    fn start(test: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (file, log) = (directory.path().join("address"), directory.path().join("log"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(SERVER, &file)
            // glibc gives back what is freed, so that what is measured is what is held.
            .env("MALLOC_MMAP_THRESHOLD_", "262144")
            .env("MALLOC_TRIM_THRESHOLD_", "262144")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log).unwrap())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !file.exists() {
            assert!(Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        Self { child, address, directory }
    }

    /// A line of `/proc/PID/status`, bytes.
    fn memory(&self, what: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_else(|| panic!("{status}"));
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Sends while it reads; what came until the server closed, or for as long as `wait`.
    fn exchange(&self, wait: Duration, send: impl FnOnce(&mut TcpStream) -> std::io::Result<()>) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut reader = stream.try_clone().unwrap();
        stream.set_write_timeout(Some(wait)).unwrap();
        let reading = std::thread::spawn(move || {
            let (until, mut came, mut piece) = (Instant::now() + wait, Vec::new(), [0; 4096]);
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                reader.set_read_timeout(Some(left)).unwrap();
                match reader.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => came.extend_from_slice(&piece[..read]),
                }
            }
            String::from_utf8_lossy(&came).into_owned()
        });
        // The server may close before it has read everything.
        let _ = send(&mut stream);
        let came = reading.join().unwrap();
        let _ = stream.shutdown(Shutdown::Both);
        came
    }

    fn ask(&self, request: &[u8]) -> String {
        self.exchange(Duration::from_secs(10), |stream| stream.write_all(request))
    }

    fn post(&self, headers: &str, body: &[u8]) -> String {
        let head = format!("{POST}connection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
        self.ask(&[head.as_bytes(), body].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const POST: &str = "POST /v2/models/fraud/infer HTTP/1.1\r\nhost: x\r\n";

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// What all cases found wrong, so that one run tells everything.
struct Report<'a> {
    server: &'a Server,
    before: usize,
    cases: usize,
    most: (usize, usize),
    wrong: Vec<String>,
}

impl Report<'_> {
    fn check(&mut self, case: &str, answer: &str, wanted: u16, said: &str) {
        self.cases += 1;
        let shown: String = answer.chars().take(600).collect();
        if status(answer) != wanted || !answer.contains(said) {
            self.wrong.push(format!("{case}: wanted {wanted} with `{said}`, got {shown:?}"));
        }
        if answer.matches("HTTP/1.1 ").count() > 1 {
            self.wrong.push(format!("{case}: more than one answer: {shown:?}"));
        }
    }

    /// After a group of cases: memory is back, and a client of good will is served.
    fn still_well(&mut self, group: &str) {
        let good = self.server.post("", rows(&json!([1]), &json!("FP32"), &json!([2.5, 4])).to_string().as_bytes());
        // Shape and data of this one do not agree with each other; those of the next do.
        self.check(&format!("a bad request after {group}"), &good, 400, "has 2 elements, its shape [1] asks for 1");
        let good = self.server.post("", rows(&json!([1, 2]), &json!("FP32"), &json!([2.5, 4])).to_string().as_bytes());
        self.check(&format!("a good request after {group}"), &good, 200, "\"data\":[6.5]");
        let growth = self.server.memory("VmRSS").saturating_sub(self.before);
        let peak = self.server.memory("VmHWM").saturating_sub(self.before);
        println!("{group}: {} MiB more than at the start, at most {} MiB", growth / MIB, peak / MIB);
        self.most = (self.most.0.max(growth), self.most.1.max(peak));
        if growth > MAX_GROWTH || peak > MAX_PEAK {
            self.wrong.push(format!("{group}: memory grew by {} MiB, by {} MiB at most", growth / MIB, peak / MIB));
        }
    }
}

fn rows(shape: &Value, datatype: &Value, data: &Value) -> Value {
    json!({"inputs": [{"name": "features", "shape": shape, "datatype": datatype, "data": data}]})
}

#[test]
fn clients_that_mean_harm_get_a_clear_answer_and_cost_nothing() {
    if let Some(file) = std::env::var_os(SERVER) {
        return serve(Path::new(&file));
    }
    let server = Server::start("wire::clients_that_mean_harm_get_a_clear_answer_and_cost_nothing");
    let started = Instant::now();
    let mut report = Report { server: &server, before: 0, cases: 0, most: (0, 0), wrong: Vec::new() };
    server.post("", rows(&json!([1, 2]), &json!("FP32"), &json!([1, 2])).to_string().as_bytes());
    report.before = server.memory("VmRSS");
    for (group, cases) in [
        ("bodies that are too long", too_long as fn(&mut Report<'_>)),
        ("bodies that are compressed", compressed),
        ("lengths that lie", lengths),
        ("heads", heads),
        ("JSON", deep_json),
        ("tensor headers", tensors),
        ("binary tensors", binary_tensors),
        ("names", names),
        ("slow clients", slow),
    ] {
        cases(&mut report);
        report.still_well(group);
    }
    // What an allocator keeps, it uses again; what leaks, grows.
    let (once, heavy) = (server.memory("VmRSS"), [too_long as fn(&mut Report<'_>), compressed, deep_json]);
    heavy.iter().for_each(|cases| cases(&mut report));
    report.still_well("the heaviest once more");
    let more = server.memory("VmRSS").saturating_sub(once);
    if more > MAX_GROWTH_AGAIN {
        report.wrong.push(format!("the same requests once more took {} MiB more", more / MIB));
    }
    let log = std::fs::read_to_string(server.directory.path().join("log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(report.wrong.is_empty(), "{} of {}:\n{}", report.wrong.len(), report.cases, report.wrong.join("\n"));
    println!(
        "{} cases in {:.1} s; memory: {} MiB more after a group at most, {} MiB within",
        report.cases,
        started.elapsed().as_secs_f64(),
        report.most.0 / MIB,
        report.most.1 / MIB
    );
}

const WAIT: Duration = Duration::from_secs(10);

fn too_long(report: &mut Report<'_>) {
    let server = report.server;
    let piece = vec![b' '; MIB];
    let announced = server.exchange(WAIT, |stream| {
        stream.write_all(format!("{POST}content-length: {}\r\n\r\n", 1 << 30).as_bytes())?;
        (0..1024).try_for_each(|_| stream.write_all(&piece))
    });
    report.check("1 GiB announced", &announced, 413, "longer than 33554432 bytes");
    let chunked = server.exchange(WAIT, |stream| {
        stream.write_all(format!("{POST}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
        (0..1024).try_for_each(|_| {
            stream.write_all(b"100000\r\n")?;
            stream.write_all(&piece)?;
            stream.write_all(b"\r\n")
        })
    });
    report.check("1 GiB in chunks", &chunked, 413, "longer than 33554432 bytes");
}

fn compressed(report: &mut Report<'_>) {
    let server = report.server;
    let good = rows(&json!([1, 2]), &json!("FP32"), &json!([2.5, 4])).to_string();
    let level = flate2::Compression::fast();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), level);
    deflate.write_all(good.as_bytes()).unwrap();
    let deflate = deflate.finish().unwrap();
    let gzipped = gzip(good.as_bytes());
    report.check("gzip", &server.post("content-encoding: gzip\r\n", &gzipped), 200, "\"data\":[6.5]");
    report.check("deflate", &server.post("content-encoding: deflate\r\n", &deflate), 200, "\"data\":[6.5]");
    // 128 KiB that become 128 MiB and more.
    let bomb = gzip(&vec![0; MIB]).repeat(128);
    let answer = server.post("content-encoding: gzip\r\n", &bomb);
    report.check("a gzip bomb", &answer, 413, "longer than 33554432 bytes, decompressed");
    for (case, encoding, body) in [
        ("gzip cut off", "gzip", &gzipped[..gzipped.len() - 9]),
        ("no gzip", "gzip", good.as_bytes()),
        ("gzip as deflate", "deflate", &gzipped),
    ] {
        let answer = server.post(&format!("content-encoding: {encoding}\r\n"), body);
        report.check(case, &answer, 400, &format!("cannot be decompressed as {encoding}"));
    }
    for headers in [
        "content-encoding: br\r\n",
        "content-encoding: gzip, gzip\r\n",
        "content-encoding: gzip\r\ncontent-encoding: gzip\r\n",
    ] {
        report.check(headers, &server.post(headers, &gzipped), 415, "send one of gzip and deflate");
    }
}

/// The second request of each, were it read, would be a second answer.
fn lengths(report: &mut Report<'_>) {
    const SECOND: &str = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    for (case, rest) in [
        ("a negative length", "content-length: -5\r\n\r\n"),
        ("a length with a sign", "content-length: +5\r\n\r\nabcde"),
        ("a length in hexadecimal", "content-length: 0x5\r\n\r\nabcde"),
        ("a length of 2^64", "content-length: 18446744073709551616\r\n\r\n"),
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
        ("two lengths in one", "content-length: 5, 6\r\n\r\nabcdef"),
        ("a length and chunks", "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunks and a length", "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
        ("an unknown transfer", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("chunks not last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("a space before the colon", "content-length : 5\r\n\r\nabcde"),
        ("a folded line", "content-length:\r\n 5\r\n\r\nabcde"),
        ("a chunk of 2^68", "transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc"),
        ("a chunk that is longer than it says", "transfer-encoding: chunked\r\n\r\n5\r\nabcdefghijk\r\n0\r\n\r\n"),
        ("a chunk of no number", "transfer-encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n"),
        ("a chunk's extension without end", &format!("transfer-encoding: chunked\r\n\r\n1;{}", "x".repeat(100_000))),
    ] {
        let answer = report.server.ask(format!("{POST}{rest}{SECOND}").as_bytes());
        report.check(case, &answer, 400, "");
    }
    let chunk =
        report.server.ask(format!("{POST}transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc").as_bytes());
    report.check("a chunk of 2^64 - 1 that does not come", &chunk, 408, "did not come within 1000 ms");
    // The client is gone, or does not go on: nothing is answered for half of a request.
    let cut = report.server.ask(format!("{POST}connection: close\r\ncontent-length: 10\r\n\r\nabc").as_bytes());
    report.check("a body that ends early", &cut, 408, "did not come within 1000 ms");
}

fn heads(report: &mut Report<'_>) {
    let server = report.server;
    let long = "x".repeat(200_000);
    let many: String = (0..1000).map(|index| format!("h{index}: v\r\n")).collect();
    report.check("a head of 200 KB", &server.ask(format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n").as_bytes()), 431, "");
    report.check("1000 headers", &server.ask(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()), 431, "");
    let answer = server.ask(format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    report.check("a path of 200 KB", &answer, 431, "");
    // Bytes of a generator, the same in every run.
    let mut state = 1_u64;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(4096)
    .collect();
    report.check("garbage", &server.ask(&garbage), 400, "");
    report.check("no version", &server.ask(b"GET /\r\n\r\n"), 400, "");
    // What has no answer in HTTP/1.
    let http2 = server.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if !http2.is_empty() {
        report.wrong.push(format!("HTTP/2 without being asked: closed without a word, got {http2:?}"));
    }
    report.check("NUL in a header", &server.ask(b"GET / HTTP/1.1\r\na: b\0c\r\n\r\n"), 400, "");
    report.check("NUL in the path", &server.ask(b"GET /v2/models/a\0b HTTP/1.1\r\nhost: x\r\n\r\n"), 400, "");
    for (header, said) in [
        ("driftline-timeout-ms: -1", "no whole number"),
        ("driftline-timeout-ms: 1e3", "no whole number"),
        ("driftline-priority: urgent", "is no priority"),
        ("driftline-version: ../1", "version"),
        (&format!("driftline-entity: {}", "e".repeat(600)), "longer than 512 bytes"),
        (&format!("x-request-id: {}", "e".repeat(600)), "longer than 512 bytes"),
    ] {
        let good = rows(&json!([1, 2]), &json!("FP32"), &json!([2.5, 4])).to_string();
        report.check(header, &server.post(&format!("{header}\r\n"), good.as_bytes()), 400, said);
    }
}

fn deep_json(report: &mut Report<'_>) {
    let server = report.server;
    let input =
        |data: &str| format!(r#"{{"inputs":[{{"name":"features","shape":[1,2],"datatype":"FP32","data":{data}}}]}}"#);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let one = r#"{"name":"x","shape":[1],"datatype":"FP32","data":[1]}"#;
    for (case, body, said) in [
        ("lists without end", "[".repeat(2_000_000), "no inference request"),
        ("objects without end", r#"{"a":"#.repeat(400_000), "no inference request"),
        ("data nested a million deep", input(&nested(1_000_000)), "nested deeper than 8"),
        ("data nested a hundred deep", input(&nested(100)), "nested deeper than 8"),
        (
            "a parameter nested a million deep",
            format!(r#"{{"parameters":{{"a":{}}},"inputs":[]}}"#, nested(1_000_000)),
            "is missing",
        ),
        ("500 000 inputs", format!(r#"{{"inputs":[{}]}}"#, vec![one; 500_000].join(",")), "more than 256"),
        (
            "a shape of a million dimensions",
            format!(
                r#"{{"inputs":[{{"name":"x","datatype":"FP32","data":[1],"shape":[{}]}}]}}"#,
                vec!["1"; 1_000_000].join(",")
            ),
            "more than 64",
        ),
        (
            "a name of 16 MB",
            format!(
                r#"{{"inputs":[{{"name":"{}","shape":[1,2],"datatype":"FP32","data":[1]}}]}}"#,
                "n".repeat(16 << 20)
            ),
            "the name of an input has 16777216 bytes",
        ),
        ("an id of 1 MB", format!(r#"{{"id":"{}","inputs":[]}}"#, "i".repeat(1 << 20)), "at most 512 are taken"),
        ("a number of a million digits", input(&format!("[{},1]", "9".repeat(1_000_000))), "not a value of FP32"),
        (
            "a million elements for a shape of two",
            input(&format!("[{}]", vec!["1"; 1_000_000].join(","))),
            "its shape [1, 2] asks for 2",
        ),
        ("half of a JSON text", input("[1, 2]")[..40].to_string(), "no inference request"),
        ("nothing", String::new(), "no inference request"),
        ("not UTF-8", input("[1, 2]"), ""),
    ] {
        let mut bytes = body.into_bytes();
        if case == "not UTF-8" {
            bytes[12] = 0xFF;
        }
        let answer = server.post("", &bytes);
        report.check(case, &answer, 400, said);
        if answer.len() > 2000 {
            report.wrong.push(format!("{case}: an answer of {} bytes", answer.len()));
        }
    }
    for path in ["/v1/models/fraud:predict", "/predictions/fraud"] {
        for (case, body, said) in [
            ("rows without end", "[".repeat(1_000_000), "no request"),
            ("rows nested a million deep", format!(r#"{{"instances":{}}}"#, nested(1_000_000)), "nested deeper than 8"),
            ("a million rows of objects", format!(r#"{{"instances":[{}]}}"#, vec!["{}"; 1_000_000].join(",")), ""),
            ("neither", "{}".into(), "neither"),
            ("both", r#"{"instances":[],"inputs":[]}"#.into(), "both"),
            ("texts for numbers", r#"{"instances":[["a","b"]]}"#.into(), "is not a value of FP32"),
            ("ragged rows", r#"{"instances":[[1,2],[1]]}"#.into(), "differ in length"),
        ] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let answer = server.ask(&[head.as_bytes(), body.as_bytes()].concat());
            report.check(&format!("{path}: {case}"), &answer, 400, said);
        }
    }
}

/// Each part of a tensor's header, wrong in turn.
fn tensors(report: &mut Report<'_>) {
    let fine = || rows(&json!([1, 2]), &json!("FP32"), &json!([2.5, 4]));
    let mut cases: Vec<(String, Value, &str)> = Vec::new();
    for (key, value, said) in [
        ("name", json!(null), "null"),
        ("name", json!(7), "7"),
        ("name", json!("other"), "other"),
        ("name", json!("\u{0}\u{1b}[31m"), "\\\\u{1b}"),
        ("shape", json!([-1, 2]), "-1"),
        ("shape", json!([1.5, 2]), "1.5"),
        ("shape", json!("1,2"), "1,2"),
        ("shape", json!([]), "asks for 1"),
        ("shape", json!([0, 2]), "asks for 0"),
        ("shape", json!([2, 1]), "features"),
        ("shape", json!([1, 3]), "asks for 3"),
        ("shape", json!([4_294_967_296_u64, 4_294_967_296_u64]), "more than 16777216 elements"),
        ("shape", json!([u64::MAX, 2]), "more than 16777216 elements"),
        ("shape", json!([0, u64::MAX]), "more than 16777216 elements"),
        ("shape", json!([1e30, 1]), "1e+30"),
        ("shape", json!([1, 1, 1, 1, 1, 1, 1, 1, 2]), "9 dimensions, at most 8"),
        ("datatype", json!("FP128"), "FP128"),
        ("datatype", json!("fp32"), "known are BOOL"),
        ("datatype", json!(""), "known are BOOL"),
        ("datatype", json!(32), "32"),
        ("datatype", json!("INT64"), "not a value of INT64"),
        ("datatype", json!("BYTES"), "not a value of BYTES"),
        ("datatype", json!("FP16"), "no form in JSON"),
        ("datatype", json!("FP64"), "FP32"),
        ("data", json!([1]), "has 1 elements"),
        ("data", json!([1, 2, 3]), "has 3 elements"),
        ("data", json!([[1], [2]]), "the lists of its data [2, 1]"),
        ("data", json!([[1, 2], [3]]), "differ in length"),
        ("data", json!(["a", 2]), "not a value of FP32"),
        ("data", json!([true, 2]), "not a value of FP32"),
        ("data", json!({"a": 1}), "not a value of FP32"),
        ("data", json!([1e300, 2]), "not a value of FP32"),
        ("parameters", json!(7), "parameters"),
        ("parameters", json!({"binary_data_size": 8}), "both `data` and `binary_data_size`"),
        ("parameters", json!({"shared_memory_region": "r"}), "shared memory is not supported"),
        ("parameters", json!({"classification": 3}), "not supported"),
    ] {
        let mut body = fine();
        body["inputs"][0][key] = value.clone();
        let shown: String = value.to_string().chars().take(50).collect();
        cases.push((format!("{key} as {shown}"), body, said));
    }
    for key in ["name", "shape", "datatype", "data"] {
        let mut body = fine();
        body["inputs"][0].as_object_mut().unwrap().remove(key);
        cases.push((format!("without {key}"), body, key));
    }
    for (key, value, said) in [
        ("id", json!(7), "7"),
        ("inputs", json!([]), "features"),
        ("inputs", json!({}), "list"),
        ("outputs", json!([{"name": "none"}]), "none"),
        ("outputs", json!([{}]), "name"),
        ("parameters", json!({"priority": "urgent"}), "no priority"),
        ("parameters", json!({"timeout": -1}), "-1"),
        ("parameters", json!({"sequence_id": 1}), "sequences are not supported"),
    ] {
        let mut body = fine();
        body[key] = value.clone();
        cases.push((format!("{key} as {value}"), body, said));
    }
    for (case, body, said) in cases {
        let answer = report.server.post("", body.to_string().as_bytes());
        report.check(&case, &answer, 400, said);
    }
}

fn binary_tensors(report: &mut Report<'_>) {
    let server = report.server;
    let bytes: Vec<u8> = [2.5_f32, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = |size: &str| {
        format!(
            r#"{{"inputs":[{{"name":"features","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    let send = |length: &str, json: &str, binary: &[u8]| {
        server.post(&format!("inference-header-content-length: {length}\r\n"), &[json.as_bytes(), binary].concat())
    };
    let fine = header("8");
    let length = fine.len().to_string();
    report.check("binary data", &send(&length, &fine, &bytes), 200, "\"data\":[6.5]");
    for (size, said) in [
        ("7", "has 7 bytes of binary data; 2 elements of FP32 take 8"),
        ("0", "has 0 bytes of binary data"),
        ("9", "the body has 8 more bytes"),
        ("18446744073709551615", "the body has 8 more bytes"),
        ("18446744073709551616", "no inference request"),
        ("-8", "-8"),
        ("8.5", "8.5"),
        ("\"8\"", "8"),
        ("null", "null"),
    ] {
        let json = header(size);
        let answer = send(&json.len().to_string(), &json, &bytes);
        report.check(&format!("binary_data_size {size}"), &answer, 400, said);
    }
    let too_many = fine.len() + 9;
    for (length, said) in [
        ("-1", "no whole number of bytes"),
        ("+5", "no whole number of bytes"),
        ("0x10", "no whole number of bytes"),
        ("1e2", "no whole number of bytes"),
        ("18446744073709551616", "no whole number of bytes"),
        ("18446744073709551615", "the body has"),
        (&too_many.to_string(), "the body has"),
        (&(fine.len() - 1).to_string(), "no inference request"),
        (&(fine.len() + 1).to_string(), "no inference request"),
        (&(fine.len() + 8).to_string(), "no inference request"),
        ("1", "no inference request"),
        ("0", "bytes of binary data; 2 elements of FP32 take 8"),
    ] {
        report.check(&format!("header length {length}"), &send(length, &fine, &bytes), 400, said);
    }
    let twice = format!("{length}\r\ninference-header-content-length: {length}");
    report.check("two header lengths", &send(&twice, &fine, &bytes), 400, "stands there twice");
    report.check("no header length", &server.post("", &[fine.as_bytes(), &bytes].concat()), 400, "trailing characters");
    report.check("too much binary data", &send(&length, &fine, &[0; 20]), 400, "must add up");
    // A body that is nothing but the only input.
    report.check("raw binary data", &send("0", "", &bytes), 200, "\"binary_data_size\":4");
    report.check("raw binary data of two rows", &send("0", "", &[0; 16]), 400, "2 elements of FP32 take 8");
    let texts =
        r#"{"inputs":[{"name":"features","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}"#;
    let texts_length = texts.len().to_string();
    for (case, binary) in
        [("a text longer than the body", [255; 8]), ("a text that leaves bytes", [0, 0, 0, 0, 1, 0, 0, 0])]
    {
        report.check(case, &send(&texts_length, texts, &binary), 400, "ends within element");
    }
}

fn names(report: &mut Report<'_>) {
    let bad = [
        "..",
        ".",
        "%2e%2e",
        "%2E",
        "..%2f..%2fetc%2fpasswd",
        "..%5c..",
        "%252e%252e",
        "a%00b",
        "%ff",
        "a%",
        "%c0%ae%c0%ae",
        "m%0d%0aset-cookie:x",
        "%E2%80%AE",
        "a%20b",
        "~root",
        "a;b",
        "a*",
        &"n".repeat(129),
        "",
    ];
    for name in bad {
        for (method, path) in [
            ("POST", format!("/v2/models/{name}/infer")),
            ("GET", format!("/v2/models/{name}/ready")),
            ("GET", format!("/v2/models/{name}/config")),
            ("GET", format!("/v2/models/fraud/versions/{name}/ready")),
            ("POST", format!("/v2/models/fraud/versions/{name}/infer")),
            ("POST", format!("/v1/models/{name}:predict")),
            ("GET", format!("/v1/models/{name}/metadata")),
            ("POST", format!("/v1/models/fraud/versions/{name}:predict")),
            ("POST", format!("/predictions/{name}/1")),
            ("POST", format!("/predictions/fraud/{name}")),
        ] {
            // An empty last segment is the path without it.
            if name.is_empty() && path.ends_with('/') {
                continue;
            }
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let answer = report.server.ask(request.as_bytes());
            report.check(&format!("{method} {path}"), &answer, 400, "is not allowed: use 1 to 128");
        }
    }
    for path in
        ["/../etc/passwd", "/v2/../../etc/passwd", "/v2/models/fraud/../../../etc", "//etc/passwd", "/%2e%2e/etc"]
    {
        let answer =
            report.server.ask(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
        if ![400, 404].contains(&status(&answer)) || answer.contains("root:") {
            report.wrong.push(format!("{path}: {answer:?}"));
        }
    }
}

fn slow(report: &mut Report<'_>) {
    let server = report.server;
    let head = server.exchange(WAIT, |stream| stream.write_all(b"GET / HT"));
    report.check("half of a head", &head, 408, "the head of the request did not come within 1000 ms");
    let trickle = server.exchange(WAIT, |stream| {
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n".iter().try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(&[*byte])
        })
    });
    report.check("a head byte by byte", &trickle, 408, "did not come within 1000 ms");
    let idle = server.exchange(WAIT, |_| Ok(()));
    if !idle.is_empty() {
        report.wrong.push(format!("an idle connection is closed without a word, got {idle:?}"));
    }
    let body =
        server.exchange(WAIT, |stream| stream.write_all(format!("{POST}content-length: 100\r\n\r\n{{").as_bytes()));
    report.check("half of a body", &body, 408, "the body did not come within 1000 ms");
    let chunks = server.exchange(WAIT, |stream| {
        stream.write_all(format!("{POST}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
        (0..40).try_for_each(|_| {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"1\r\n \r\n")
        })
    });
    report.check("a body byte by byte", &chunks, 408, "the body did not come within 1000 ms");
    // Answers that nobody takes.
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let many = "GET /v2/models/fraud HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let until = Instant::now() + Duration::from_secs(15);
    let closed = loop {
        match deaf.write_all(many.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break true,
            Ok(()) => {}
        }
        if Instant::now() > until {
            break false;
        }
    };
    if !closed {
        report.wrong.push("a client that reads no answers is not closed".into());
    }
    let crowd = |bytes: &[u8]| -> usize {
        let mut streams: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(bytes).unwrap());
        let ready = server.ask(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(status(&ready), 200, "among 500 slow clients: {ready:?}");
        let closed = |mut stream: TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.read_to_end(&mut Vec::new()).is_ok()
        };
        streams.into_iter().map(closed).filter(|closed| *closed).count()
    };
    for bytes in [&b""[..], b"GET / H"] {
        let closed = crowd(bytes);
        if closed != 500 {
            report.wrong.push(format!("of 500 connections with {} bytes {closed} were closed", bytes.len()));
        }
    }
}
