//! Stories about all machines at once, with kills: nothing is lost, overtaken, told too often or after its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline::config::rules::{Matcher, Severity};
use driftline::dispatch::control::Command;
use driftline::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use driftline::dispatch::receiver::{Outcome, Telling};
use driftline::dispatch::schedule::{Effect, Input, Limits, Parcel, Schedule};
use driftline::rules::episode::{EpisodeStatus, Notification};
use proptest::prelude::*;

use super::bench::{Bench, HOUR_MS, MINUTE_MS, ends, fires, hooks, policy};

const LIMITS: Limits = Limits {
    first_retry_ms: 1_000,
    max_retry_ms: MINUTE_MS,
    expire_after_ms: 6 * HOUR_MS,
    max_in_flight: 3,
    max_in_flight_per_receiver: 2,
    max_pending: 1_000,
    max_recent: 1_000,
    max_digest: 3,
    open_after_failures: 3,
    ..Limits::DEFAULT
};

const RECEIVERS: [&str; 5] = ["plain", "repeats", "collects", "slow", "stubborn"];
const EPISODES: usize = 4;

/// Every receiver has one thing of its own: reminders, a digest, a rate, no meaning for an end alone.
fn rules() -> String {
    let routes = "routes:
  - {match: {}, to: [plain, slow, stubborn]}
  - {match: {}, to: [repeats], repeat: 2h}
  - {match: {}, to: [collects], digest: 1h}
";
    let receivers = hooks(&[
        ("plain", "fallback: last"),
        ("repeats", ""),
        ("collects", ""),
        ("slow", "rate_limit: {max: 2, per: 1m}"),
        ("stubborn", ""),
        ("last", ""),
    ]);
    format!("{routes}{receivers}")
}

#[derive(Debug, Clone)]
enum Happening {
    /// The next notification of an episode is read from the outbox, perhaps twice; `ends` it, or it gets worse.
    Read {
        episode: usize,
        ends: bool,
        again: bool,
    },
    /// Time passes, and what is due starts.
    Tick {
        wait_ms: i64,
    },
    /// One of the attempts in flight ends.
    End {
        which: usize,
        how: u8,
        jitter: f64,
    },
    Silence {
        warn_only: bool,
        for_ms: i64,
    },
    Unsilence,
    Acknowledge {
        episode: usize,
        for_ms: i64,
    },
    Redeliver {
        which: usize,
    },
    /// kill -9: everything in memory is gone, what is in flight may or may not arrive.
    Kill,
}

fn happening() -> impl Strategy<Value = Happening> {
    let wait = || prop_oneof![Just(0_i64), 1..5_000_i64, MINUTE_MS..3 * HOUR_MS];
    prop_oneof![
        6 => (0..EPISODES, any::<bool>(), any::<bool>()).prop_map(|(episode, ends, again)| Happening::Read { episode, ends, again }),
        10 => wait().prop_map(|wait_ms| Happening::Tick { wait_ms }),
        14 => (0..8_usize, 0..8_u8, 0.0..1.0).prop_map(|(which, how, jitter)| Happening::End { which, how, jitter }),
        1 => (any::<bool>(), MINUTE_MS..4 * HOUR_MS).prop_map(|(warn_only, for_ms)| Happening::Silence { warn_only, for_ms }),
        1 => Just(Happening::Unsilence),
        1 => (0..EPISODES, MINUTE_MS..9 * HOUR_MS).prop_map(|(episode, for_ms)| Happening::Acknowledge { episode, for_ms }),
        1 => (0..20_usize).prop_map(|which| Happening::Redeliver { which }),
        2 => Just(Happening::Kill),
    ]
}

type Line = (String, String);

struct World {
    bench: Bench,
    flying: Vec<(DeliveryKey, Parcel, Telling)>,
    /// Next sequence number and round of each episode.
    next: [(u32, u32); EPISODES],
    read: BTreeSet<DeliveryKey>,
    /// Episodes and receivers whose end has been read.
    ended: BTreeSet<String>,
    redelivered: BTreeMap<DeliveryKey, usize>,
    commands: usize,
    silences: Vec<String>,
    kills: usize,
    /// Starts at `slow` since the last kill.
    starts: Vec<i64>,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::of(&rules(), LIMITS);
        bench.policy = policy(&rules(), &["stubborn"]);
        bench.restart();
        Self {
            bench,
            flying: Vec::new(),
            next: [(0, 0); EPISODES],
            read: BTreeSet::new(),
            ended: BTreeSet::new(),
            redelivered: BTreeMap::new(),
            commands: 0,
            silences: Vec::new(),
            kills: 0,
            starts: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.bench.step(input) {
            if let Effect::Attempt { key, parcel, telling, .. } = effect {
                self.check_start(&key, &parcel, &telling);
                self.flying.push((key, parcel, telling));
            }
        }
        assert_eq!(self.flying.len(), self.bench.schedule.in_flight());
        assert!(self.flying.len() <= LIMITS.max_in_flight, "{:?}", self.flying);
        for receiver in RECEIVERS {
            let count = self.flying.iter().filter(|(key, ..)| key.receiver == receiver).count();
            assert!(count <= LIMITS.max_in_flight_per_receiver, "{receiver}: {count}");
        }
    }

    fn check_start(&mut self, key: &DeliveryKey, parcel: &Parcel, telling: &Telling) {
        let told: Vec<&Notification> = match parcel {
            Parcel::One(notification) => vec![notification],
            Parcel::Digest(digest) => digest.notifications.iter().collect(),
        };
        for told in &told {
            let own = DeliveryKey { notification_id: told.id.clone(), receiver: key.receiver.clone() };
            let (record, _) = &self.bench.topic[&own];
            let by_command = !self.bench.commands.is_empty() && *telling == Telling::Redelivery;
            assert!(
                by_command || record.status == DeliveryStatus::Pending,
                "{own} was started without a pending record"
            );
            if *telling == Telling::Redelivery {
                continue;
            }
            for (other, (waiting, _)) in &self.bench.topic {
                let is_earlier = waiting.notification.episode_id == told.episode_id
                    && other.receiver == key.receiver
                    && waiting.notification.sequence < told.sequence
                    && !matches!(waiting.telling, Telling::Reminder { .. });
                let together = matches!(parcel, Parcel::Digest(digest) if digest.notifications.iter().any(|one| one.id == waiting.notification.id));
                assert!(!is_earlier || together || waiting.status.is_final(), "{own} overtook {other}");
            }
        }
        if matches!(telling, Telling::Reminder { .. }) {
            let episode = &told[0].episode_id;
            assert!(!self.ended.contains(episode), "{key} is told after the end of its episode was read");
        }
        if key.receiver == "slow" {
            self.starts.push(self.bench.now_ms);
            let recent = self.starts.iter().filter(|at_ms| **at_ms > self.bench.now_ms - MINUTE_MS).count();
            assert!(recent <= 2, "{recent} messages within a minute, of two allowed");
        }
    }

    fn turn(&mut self) {
        self.step(Input::Plan);
        self.step(Input::Tick);
    }

    fn end(&mut self, which: usize, how: u8, jitter: f64) {
        let (key, parcel, telling) = self.flying.remove(which);
        let outcome = match how {
            0..=3 => {
                self.bench.accept(&key, &parcel, &telling);
                Outcome::Delivered { remark: None }
            }
            4 | 5 => Outcome::retry("connection reset"),
            6 => Outcome::Retry { reason: "http status 429".into(), after_ms: Some(90_000) },
            _ => Outcome::permanent("http status 404"),
        };
        self.step(Input::Attempted { key, outcome, jitter });
    }

    fn read_next(&mut self, episode: usize, is_end: bool, again: bool) {
        let (sequence, round) = self.next[episode];
        let name = format!("e{episode}x{round}");
        let mut told =
            if is_end && sequence > 0 { ends(&name, sequence, &RECEIVERS) } else { fires(&name, sequence, &RECEIVERS) };
        if sequence == 0 {
            told.severity = Severity::Warn;
        }
        self.next[episode] =
            if told.status == EpisodeStatus::Resolved { (0, round + 1) } else { (sequence + 1, round) };
        for receiver in RECEIVERS {
            self.read.insert(DeliveryKey { notification_id: told.id.clone(), receiver: receiver.into() });
        }
        if told.status == EpisodeStatus::Resolved {
            self.ended.insert(told.episode_id.clone());
        }
        for _ in 0..=usize::from(again) {
            let input = Input::Notification { notification: Arc::new(told.clone()), partition: 1 };
            self.step(input);
        }
    }

    fn command(&mut self, command: Command) -> String {
        self.commands += 1;
        let id = format!("c{}", self.commands);
        self.bench.command(&id, command);
        id
    }

    fn happen(&mut self, happening: Happening) {
        let now_ms = self.bench.now_ms;
        match happening {
            Happening::Read { episode, ends, again } => self.read_next(episode, ends, again),
            Happening::Tick { wait_ms } => {
                self.bench.now_ms += wait_ms;
                self.turn();
            }
            Happening::End { which, how, jitter } => {
                if !self.flying.is_empty() {
                    self.end(which % self.flying.len(), how, jitter);
                    self.turn();
                }
            }
            Happening::Silence { warn_only, for_ms } => {
                let matcher = Matcher { severity: warn_only.then_some(Severity::Warn), ..Matcher::default() };
                let command =
                    Command::Silence { matcher, from_ms: now_ms, until_ms: now_ms + for_ms, reason: String::new() };
                let id = self.command(command);
                self.silences.push(id);
            }
            Happening::Unsilence => {
                if let Some(silence) = self.silences.pop() {
                    self.command(Command::ExpireSilence { silence });
                }
            }
            Happening::Acknowledge { episode, for_ms } => {
                let (_, round) = self.next[episode];
                let episode_id = format!("e{episode}x{round}");
                let until_ms = Some(now_ms + for_ms);
                self.command(Command::Acknowledge { episode_id, owner: "ada".into(), until_ms, note: None });
            }
            Happening::Redeliver { which } => {
                let keys: Vec<DeliveryKey> = self.read.iter().cloned().collect();
                let Some(key) = keys.get(which % keys.len().max(1)).cloned() else { return };
                *self.redelivered.entry(key.clone()).or_default() += 1;
                self.command(Command::Redeliver { notification_id: key.notification_id, receiver: key.receiver });
            }
            Happening::Kill => self.kill(),
        }
    }

    fn kill(&mut self) {
        self.kills += 1;
        self.starts.clear();
        for (place, (key, parcel, telling)) in std::mem::take(&mut self.flying).into_iter().enumerate() {
            if place % 2 == 0 {
                self.bench.accept(&key, &parcel, &telling); // it arrived, and nobody wrote it down
            }
        }
        self.bench.restart();
    }

    /// Every receiver works again, every episode ends, silences run out.
    fn calm_down(&mut self) {
        for episode in 0..EPISODES {
            if self.next[episode].0 > 0 {
                self.read_next(episode, true, false);
            }
        }
        let until_ms = self.bench.now_ms + 30 * HOUR_MS;
        for _ in 0..20_000 {
            self.turn();
            if !self.flying.is_empty() {
                self.end(0, 0, 0.5);
                continue;
            }
            match self.bench.schedule.next_due_ms() {
                Some(due_ms) if due_ms <= until_ms => self.bench.now_ms = self.bench.now_ms.max(due_ms),
                _ => return,
            }
        }
        panic!("it never calms down: {:#?}", self.bench.schedule);
    }

    /// Positions in `sent` at which the receiver accepted this notification, alone or in a digest.
    fn copies(&self, key: &DeliveryKey) -> Vec<usize> {
        let sent = self.bench.sent.iter().enumerate();
        let copies = sent.filter(|(_, one)| one.receiver == key.receiver && one.told.contains(&key.notification_id));
        copies.map(|(place, _)| place).collect()
    }

    fn check_the_end(&self) {
        let mut lines: BTreeMap<Line, Vec<&DeliveryKey>> = BTreeMap::new();
        for key in &self.read {
            let (record, _) = self.bench.topic.get(key).unwrap_or_else(|| panic!("{key} is not recorded"));
            assert!(record.status.is_final(), "{key} is still {:?}", record.status);
            let copies = self.copies(key).len();
            let most = 1 + self.kills + self.redelivered.get(key).copied().unwrap_or(0);
            assert!(copies <= most, "{key}: {copies} copies, {} kills", self.kills);
            if record.status == DeliveryStatus::Delivered {
                assert!(copies >= 1, "{key} is recorded as delivered and was not");
            }
            if matches!(record.status, DeliveryStatus::Failed | DeliveryStatus::Expired)
                && key.receiver == "plain"
                && record.telling != Telling::Redelivery
            {
                let instead = DeliveryKey { receiver: "last".into(), ..key.clone() };
                assert!(self.bench.topic.contains_key(&instead), "{key} was given up and its fallback not told");
            }
            lines.entry((record.notification.episode_id.clone(), key.receiver.clone())).or_default().push(key);
        }
        for (line, keys) in &lines {
            self.check_line(line, keys);
        }
        assert_eq!(self.bench.schedule.pending(), 0);
    }

    fn check_line(&self, line: &Line, keys: &[&DeliveryKey]) {
        let record = |key: &DeliveryKey| &self.bench.topic[key].0;
        let mut keys = keys.to_vec();
        keys.sort_by_key(|key| record(key).notification.sequence);
        let last = record(keys[keys.len() - 1]);
        assert_eq!(last.notification.status, EpisodeStatus::Resolved);
        let was_told = |key: &DeliveryKey| record(key).status == DeliveryStatus::Delivered;
        if keys[..keys.len() - 1].iter().any(|key| was_told(key)) {
            let reason = last.last_error.as_deref().unwrap_or_default();
            assert_ne!(
                last.status,
                DeliveryStatus::Superseded,
                "{line:?} was told the beginning and not the end: {reason}"
            );
        }
        for (place, key) in keys.iter().enumerate().filter(|(_, key)| record(key).status == DeliveryStatus::Superseded)
        {
            let reason = record(key).last_error.as_deref().unwrap_or_default();
            // What says it too may have been silenced in its turn, until it was over.
            let later = keys[place + 1..].iter().any(|later| {
                let reason = record(later).last_error.as_deref().unwrap_or_default();
                record(later).status != DeliveryStatus::Superseded || reason.starts_with("ended while silence")
            });
            assert!(
                reason.starts_with("ended while silence") || later,
                "{key}: {reason}, and nothing after it was told"
            );
            let is_reason = ["says it too", "says both", "held it back", "its beginning was not told"];
            assert!(is_reason.iter().any(|end| reason.ends_with(end)), "{key}: {reason}");
        }
        // First copies arrive in order.
        let firsts: Vec<usize> = keys
            .iter()
            .filter(|key| !self.redelivered.contains_key(**key))
            .filter_map(|key| self.copies(key).first().copied())
            .collect();
        assert!(firsts.is_sorted(), "{line:?} got its notifications at {firsts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_overtaken_or_told_after_its_end(story in prop::collection::vec(happening(), 1..80)) {
        let mut world = World::new();
        for happening in story {
            world.happen(happening);
        }
        world.calm_down();
        world.check_the_end();
    }
}

#[test]
fn a_schedule_that_forgot_everything_goes_on_with_its_records() {
    let mut schedule = Schedule::new(LIMITS, policy(&rules(), &[]));
    schedule.own(&[0]);
    let told = Arc::new(fires("e", 0, &["plain"]));
    schedule.step(Input::Notification { notification: told, partition: 0 }, 5);
    schedule.clear();
    assert_eq!((schedule.pending(), schedule.in_flight()), (0, 0));
}
