//! Delivery under `kill -9` on a real broker: the real binary is killed 200 times at random moments, while its receiver
//! answers at random with 429, 500, a reset or not at all. Every episode is told, in order, with stable ids, and a kill
//! costs at most one extra copy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "dispatch_support/mod.rs"]
mod dispatch_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dispatch_support::notification;
use driftline::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use driftline::dispatch::receiver::Telling;
use driftline::dispatch::restore::read_deliveries;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord};
use driftline::rules::episode::{EpisodeStatus, Notification};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use support::{Workspace, create_topic, kafka_log, unique, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Kills of processes that run dispatch alone, and of ones that run every role.
const KILLS: u32 = 200;
const KILLS_OF_ALL_ROLES: u32 = 12;
/// Longest life, milliseconds: a start takes a good part of it.
const LIFE_MS: u64 = 1_800;
const LIFE_OF_ALL_ROLES_MS: u64 = 4_000;
/// Notifications that come in during one life.
const NEWS_PER_LIFE: usize = 6;

const MODEL: &str = "version: 1
model: fraud
topics: [TOPIC]
fields: {timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}
features:
  amount: numeric
  age_days: numeric
  merchant_category: categorical
  country: categorical
score: {path: score, type: numeric}
references: {training: {path: ../training.jsonl}}
";

/// One webhook that was answered with 204.
#[derive(Debug, Clone)]
struct Taken {
    id: String,
    /// Kills before it.
    kills: u32,
    body: Value,
}

/// A receiver with bad days: what it does not answer with 204 it has not taken.
#[derive(Default)]
struct Chaos {
    taken: Mutex<Vec<Taken>>,
    kills: AtomicU32,
    is_well: AtomicBool,
    answers: Mutex<BTreeMap<&'static str, u32>>,
}

impl Chaos {
    async fn serve(self: Arc<Self>, listener: TcpListener, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        while let Ok((stream, _)) = listener.accept().await {
            let seed = random.random();
            tokio::spawn(self.clone().converse(stream, seed));
        }
    }

    async fn converse(self: Arc<Self>, mut stream: TcpStream, seed: u64) -> Option<()> {
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            let (head, body) = read_request(&mut stream).await?;
            let choice = if self.is_well.load(Ordering::SeqCst) { 0 } else { random.random_range(0..100) };
            let (name, answer) = match choice {
                0..55 => ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
                55..68 => ("429", "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"),
                68..70 => (
                    "429 with retry-after",
                    "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
                ),
                70..82 => ("500", "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops"),
                82..92 => ("reset", ""),
                _ => ("hang", ""),
            };
            *self.answers.lock().unwrap().entry(name).or_default() += 1;
            match name {
                "reset" => {
                    stream.set_zero_linger().ok()?;
                    return None;
                }
                "hang" => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    return None;
                }
                "204" => {
                    let kills = self.kills.load(Ordering::SeqCst);
                    let id = header(&head, "webhook-id");
                    let taken = Taken { id, kills, body: serde_json::from_slice(&body).unwrap() };
                    self.taken.lock().unwrap().push(taken);
                }
                _ => {}
            }
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length: usize = header(&head, "content-length").parse().ok()?;
    while read.len() < end + length {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, read[end..end + length].to_vec()))
}

fn header(head: &str, name: &str) -> String {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_string()).unwrap_or_default()
}

/// Episodes as they come about: each fires, some get worse, each ends; many at a time.
struct Story {
    random: StdRng,
    open: Vec<(String, u32)>,
    begun: u32,
}

impl Story {
    fn news(&mut self) -> Notification {
        let begins = self.open.len() < 5 || (self.open.len() < 40 && self.random.random_bool(0.5));
        if begins {
            let episode = format!("e{:04}", self.begun);
            self.begun += 1;
            self.open.push((episode.clone(), 1));
            return told(&episode, 0, EpisodeStatus::Firing);
        }
        let place = self.random.random_range(0..self.open.len());
        let (episode, sequence) = self.open[place].clone();
        if sequence == 1 && self.random.random_bool(0.3) {
            self.open[place].1 = 2;
            return told(&episode, 1, EpisodeStatus::Firing);
        }
        self.open.swap_remove(place);
        told(&episode, sequence, EpisodeStatus::Resolved)
    }

    fn rest(&mut self) -> Vec<Notification> {
        self.open.drain(..).map(|(episode, sequence)| told(&episode, sequence, EpisodeStatus::Resolved)).collect()
    }
}

fn told(episode: &str, sequence: u32, status: EpisodeStatus) -> Notification {
    Notification { status, ..notification(episode, sequence, &["hook"]) }
}

fn publish(log: &dyn Log, topics: &Topics, news: &[Notification]) {
    let record = |told: &Notification| OutRecord {
        topic: topics.outbox.as_str().into(),
        key: Some(told.episode_id.clone().into_bytes()),
        value: Some(serde_json::to_vec(told).unwrap()),
        ..OutRecord::default()
    };
    log.append(news.iter().map(record).collect()).unwrap();
}

fn start(workspace: &Workspace, roles: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(workspace.dir.join("service.log")).unwrap();
    let mut command = workspace.command(&["run"]);
    command.args(roles).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

fn workspace(topic: &str, port: u16) -> Workspace {
    let rules = format!(
        "version: 1
rules:
  - {{name: feature-drift, model: fraud@*, when: {{warn: psi > 0.10, critical: psi > 0.25}}}}
routes: [{{match: {{}}, to: [hook]}}]
receivers: {{hook: {{webhook: {{url: \"http://127.0.0.1:{port}/\", allow_private: true, timeout: 300ms}}}}}}
"
    );
    let extra = "dispatch: {first_retry: 20ms, max_retry: 400ms}\n";
    let workspace = Workspace::new(&unique("deliver"), &MODEL.replace("TOPIC", topic), &rules, extra);
    let rows = workspace.must(&["produce-sample", "--reference", "2000"]);
    std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
    workspace.must(&["reference", "build"]);
    workspace
}

fn deliveries(log: &dyn Log, topics: &Topics) -> BTreeMap<String, DeliveryRecord> {
    let partitions: Vec<i32> = (0..log.partition_count(&topics.deliveries).unwrap().unwrap_or(0)).collect();
    let restored = read_deliveries(log, &topics.deliveries, &partitions, &CancellationToken::new()).unwrap();
    restored.into_iter().map(|restored| (restored.record.notification.id.clone(), restored.record)).collect()
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn two_hundred_kills_lose_no_alert_and_cost_at_most_a_copy_each() {
    let began = Instant::now();
    let seed = 20_261_124;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 1);
    let chaos = Arc::new(Chaos::default());
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let workspace = workspace(&topic, listener.local_addr().unwrap().port());
    runtime.spawn(chaos.clone().serve(listener, seed));
    let topics = Topics::new(&workspace.app);
    log.create_topics(&topics.specs(4, 1)).unwrap();

    let mut random = StdRng::seed_from_u64(seed);
    let mut story = Story { random: StdRng::seed_from_u64(seed + 1), open: Vec::new(), begun: 0 };
    let mut published: Vec<Notification> = Vec::new();
    let mut busy_lives = 0;
    for life in 0..KILLS + KILLS_OF_ALL_ROLES {
        let (roles, longest_ms): (&[&str], u64) =
            if life < KILLS { (&["--roles", "dispatch"], LIFE_MS) } else { (&[], LIFE_OF_ALL_ROLES_MS) };
        let before = chaos.answers.lock().unwrap().values().sum::<u32>();
        let mut process = start(&workspace, roles);
        let news: Vec<Notification> = (0..NEWS_PER_LIFE).map(|_| story.news()).collect();
        publish(&*log, &topics, &news);
        published.extend(news);
        // Every other one is killed at a random moment after its first attempt, the others at any moment.
        if life % 2 == 1 {
            let until = Instant::now() + Duration::from_secs(10);
            while chaos.answers.lock().unwrap().values().sum::<u32>() == before && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
        } else {
            std::thread::sleep(Duration::from_millis(random.random_range(50..longest_ms)));
        }
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself; see {}", workspace.dir.display());
        process.kill().unwrap();
        process.wait().unwrap();
        chaos.kills.fetch_add(1, Ordering::SeqCst);
        let after = chaos.answers.lock().unwrap().values().sum::<u32>();
        busy_lives += u32::from(after > before);
    }
    let rest = story.rest();
    publish(&*log, &topics, &rest);
    published.extend(rest);
    chaos.is_well.store(true, Ordering::SeqCst);
    let mut process = start(&workspace, &["--roles", "dispatch"]);
    wait_until("every delivery is finished", Duration::from_secs(120), || {
        let finished = deliveries(&*log, &topics).values().filter(|record| record.status.is_final()).count();
        finished == published.len()
    });
    process.kill().unwrap();
    process.wait().unwrap();

    let kills = chaos.kills.load(Ordering::SeqCst);
    let taken = chaos.taken.lock().unwrap().clone();
    let records = deliveries(&*log, &topics);
    let extra = check(&published, &records, &taken);
    let statuses = |status| records.values().filter(|record| record.status == status).count();
    println!(
        "{kills} kills, {busy_lives} of them after attempts, in {:.0} s: {} episodes, {} notifications, {} delivered, {} superseded, {extra} extra copies; answers {:?}",
        began.elapsed().as_secs_f64(),
        story.begun,
        published.len(),
        statuses(DeliveryStatus::Delivered),
        statuses(DeliveryStatus::Superseded),
        chaos.answers.lock().unwrap(),
    );
    assert!(extra <= kills, "{extra} extra copies for {kills} kills");
    assert!(busy_lives >= KILLS / 3, "only {busy_lives} lives lasted long enough to try anything");
    let log_text = std::fs::read_to_string(workspace.dir.join("service.log")).unwrap();
    assert!(!log_text.contains("panicked"), "a process panicked");
}

/// Copies beyond the first.
fn check(published: &[Notification], records: &BTreeMap<String, DeliveryRecord>, taken: &[Taken]) -> u32 {
    let ids: BTreeSet<&str> = published.iter().map(|told| told.id.as_str()).collect();
    let mut copies: BTreeMap<&str, Vec<(usize, u32)>> = BTreeMap::new();
    for (place, one) in taken.iter().enumerate() {
        assert!(ids.contains(one.id.as_str()), "`{}` was never published", one.id);
        assert_eq!(one.body["data"]["notification"]["id"], one.id, "the id of the header is that of the body");
        copies.entry(&one.id).or_default().push((place, one.kills));
    }
    let mut extra = 0;
    for (id, copies) in &copies {
        extra += copies.len() as u32 - 1;
        for pair in copies.windows(2) {
            assert!(pair[1].1 > pair[0].1, "{id} was told twice without a kill between");
        }
    }
    let mut episodes: BTreeMap<&str, Vec<&Notification>> = BTreeMap::new();
    for told in published {
        episodes.entry(&told.episode_id).or_default().push(told);
    }
    for (episode, told) in &episodes {
        let last = told.last().unwrap();
        assert_eq!(last.status, EpisodeStatus::Resolved);
        let end = &records[&last.id];
        assert_eq!(end.status, DeliveryStatus::Delivered, "the end of {episode}: {end:?}");
        let replaced = match &end.telling {
            Telling::InPlaceOf { notifications, .. } => notifications.clone(),
            _ => Vec::new(),
        };
        for one in told {
            let record = &records[&one.id];
            let was_taken = copies.contains_key(one.id.as_str());
            match record.status {
                DeliveryStatus::Delivered => assert!(was_taken, "{} is recorded as delivered and was not", one.id),
                DeliveryStatus::Superseded => assert!(replaced.contains(&one.id), "{} was told by nothing", one.id),
                other => panic!("{} is {other:?}: {:?}", one.id, record.last_error),
            }
        }
        let firsts: Vec<usize> = told.iter().filter_map(|one| Some(copies.get(one.id.as_str())?[0].0)).collect();
        assert!(firsts.is_sorted(), "{episode} was told in the order {firsts:?}");
    }
    extra
}
