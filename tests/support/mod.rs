//! What the tests against a real broker share: the service as a process that can be killed, topics of their
//! own, and reading Driftline's topics back.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftline::log::kafka::{KafkaLog, KafkaOptions};
use driftline::log::{Log, LogError, TopicSpec};
use driftline::rules::action_request::OutboxRecord;
use driftline::rules::episode::Notification;
use driftline::windows::result::WindowResult;

pub fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("this test needs the environment variable {variable}"))
}

pub fn broker() -> String {
    required("DRIFTLINE_TEST_KAFKA")
}

pub fn kafka_log() -> Arc<KafkaLog> {
    let options = KafkaOptions {
        bootstrap_servers: broker(),
        client_id: "driftline-test".into(),
        instance: None,
        properties: BTreeMap::new(),
    };
    Arc::new(KafkaLog::new(options).unwrap())
}

/// Unique within the broker's life.
pub fn unique(stem: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{stem}-{}-{}", std::process::id(), nanos % 1_000_000_000_000)
}

pub fn create_topic(log: &dyn Log, name: &str, partitions: i32) {
    log.create_topics(&[TopicSpec { name: name.into(), partitions, replication: 1, config: vec![] }]).unwrap();
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory with a service file, a model and rules.
pub struct Workspace {
    pub dir: PathBuf,
    pub app: String,
    pub http_port: u16,
}

type KeyAndValue = (Vec<u8>, Vec<u8>);

impl Workspace {
    pub fn new(app: &str, model_yaml: &str, rules_yaml: &str, service_extra: &str) -> Self {
        Self::on_broker(&broker(), app, model_yaml, rules_yaml, service_extra)
    }

    pub fn on_broker(servers: &str, app: &str, model_yaml: &str, rules_yaml: &str, service_extra: &str) -> Self {
        let dir = std::env::temp_dir().join(unique("driftline-e2e"));
        std::fs::create_dir_all(dir.join("models")).unwrap();
        std::fs::create_dir_all(dir.join("rules")).unwrap();
        let http_port = free_port();
        let service = format!(
            "app: {app}\nkafka:\n  bootstrap_servers: {}\n  partitions: 4\n  replication: 1\nhttp:\n  bind: 127.0.0.1:{http_port}\n{service_extra}",
            servers
        );
        std::fs::write(dir.join("driftline.yaml"), service).unwrap();
        std::fs::write(dir.join("models/model.yaml"), model_yaml).unwrap();
        std::fs::write(dir.join("rules/rules.yaml"), rules_yaml).unwrap();
        Self { dir, app: app.to_string(), http_port }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
        command.current_dir(&self.dir).args(arguments).env("NO_COLOR", "1");
        command
    }

    /// Runs a subcommand to its end; its output is shown if it fails.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "driftline {arguments:?} exited with {}:\n{text}", output.status);
        text
    }

    pub fn start(&self) -> Service {
        self.spawn("0", self.http_port)
    }

    /// A further process of the same service.
    pub fn start_another(&self, instance: &str) -> Service {
        self.spawn(instance, free_port())
    }

    fn spawn(&self, instance: &str, http_port: u16) -> Service {
        let log_path = self.dir.join(format!("driftline-{instance}.log"));
        let log_file = std::fs::File::options().create(true).append(true).open(&log_path).unwrap();
        let child = self
            .command(&["run"])
            .env("DRIFTLINE__INSTANCE", instance)
            .env("DRIFTLINE__HTTP__BIND", format!("127.0.0.1:{http_port}"))
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Service { child, http_port, log_path }
    }

    pub fn results(&self, log: &dyn Log) -> Vec<WindowResult> {
        self.read(log, "results")
    }

    /// What people are told; what is asked to be done stands beside it.
    pub fn outbox(&self, log: &dyn Log) -> Vec<Notification> {
        let records = self.records(log, "outbox").into_iter();
        let told =
            records.filter_map(|(_, value)| match OutboxRecord::decode(&value).expect("a record of the outbox") {
                OutboxRecord::Notification(notification) => Some(*notification),
                OutboxRecord::ActionRequest(_) => None,
            });
        told.collect()
    }

    pub fn read<T: serde::de::DeserializeOwned>(&self, log: &dyn Log, stem: &str) -> Vec<T> {
        let records = self.records(log, stem).into_iter();
        records.map(|(_, value)| serde_json::from_slice(&value).expect("a record is valid JSON")).collect()
    }

    /// Keys and values of one of Driftline's topics, read committed. A broker that has just come back answers that it
    /// does not lead yet: read again, as any client does.
    pub fn records(&self, log: &dyn Log, stem: &str) -> Vec<KeyAndValue> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.try_records(log, stem) {
                Ok(records) => return records,
                Err(LogError::Retry(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
                Err(error) => panic!("{stem} cannot be read: {error}"),
            }
        }
    }

    fn try_records(&self, log: &dyn Log, stem: &str) -> Result<Vec<KeyAndValue>, LogError> {
        let topic = format!("{}.{stem}", self.app);
        let mut records = Vec::new();
        for partition in 0..log.partition_count(&topic)?.unwrap_or(0) {
            driftline::windows::role::read_to_end(log, &topic, partition, |key, value| {
                records.push((key.to_vec(), value.unwrap_or_default().to_vec()));
            })?;
        }
        Ok(records)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        } else {
            eprintln!("left for inspection: {}", self.dir.display());
        }
    }
}

/// A running `driftline run`, killed when dropped.
pub struct Service {
    pub child: Child,
    pub http_port: u16,
    log_path: PathBuf,
}

impl Service {
    pub fn wait_ready(&mut self, timeout: Duration) {
        let until = Instant::now() + timeout;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("driftline run exited with {status}:\n{}", tail(&self.log_path));
            }
            if http_get(self.http_port, "/-/ready").is_some_and(|(status, _)| status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not ready after {timeout:?}:\n{}", tail(&self.log_path));
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill_nine(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then its exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("driftline run did not stop within 30 s of SIGTERM:\n{}", tail(&self.log_path));
    }

    pub fn log(&self) -> String {
        tail(&self.log_path)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Status and body; `None` if nobody listens.
pub fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_string()))
}

pub fn wait_until(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + timeout;
    while !holds() {
        assert!(Instant::now() < until, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
