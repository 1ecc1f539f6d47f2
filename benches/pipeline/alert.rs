//! Time from the events that carry the watermark past a drifting window to the webhook received: all roles but the
//! pages, on the embedded log. Each model version drifts once, so that each is an episode of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::cli::service::{Assembly, Roles, Running};
use driftline::cli::watched;
use driftline::config::service::{Ingest, Service};
use driftline::config::units::Span;
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::dispatch::receiver::{Means, build_all};
use driftline::log::Log;
use driftline::log::embedded::EmbeddedLog;
use driftline::telemetry::Metrics;

use crate::AnyError;
use crate::events::{EventPool, PARTITIONS, START_MS};
use crate::world::{HOUR_MS, World, create_source_topic, out_record, rule_file, rule_set};

pub const EPISODES: usize = 12;
const EVENTS_PER_WINDOW: usize = 4_000;
const TIMEOUT: Duration = Duration::from_secs(30);

struct Scene<'w> {
    world: &'w World,
    /// Its first feature has moved by half its range.
    drifting: EventPool,
    log: Arc<EmbeddedLog>,
    metrics: Metrics,
    hooks: HookCatcher,
}

/// Seconds of each episode.
pub async fn seconds_to_alert(world: &World, flush_interval: Span) -> Result<Vec<f64>, AnyError> {
    let scene = Scene {
        world,
        drifting: EventPool::new(EVENTS_PER_WINDOW, 2, 3.0)?,
        log: Arc::new(EmbeddedLog::new()),
        metrics: Metrics::new()?,
        hooks: HookCatcher::start(0).await?,
    };
    create_source_topic(&*scene.log, &world.topic)?;
    let running = scene.start(flush_interval)?;
    let mut seconds = Vec::with_capacity(EPISODES);
    for episode in 0..EPISODES {
        scene.fill_window(episode).await?;
        // Alerts wait for the next flush: spread the starts evenly between two of them.
        let phase = (episode as f64 + 0.5) / EPISODES as f64;
        tokio::time::sleep(flush_interval.to_std().mul_f64(phase)).await;
        seconds.push(scene.close_window(episode).await?);
    }
    running.stop.cancel();
    tokio::task::spawn_blocking(move || running.join()).await?.map_err(|reasons| reasons.join("; "))?;
    assert_eq!(scene.hooks.hooks().len(), EPISODES, "alerts received");
    Ok(seconds)
}

impl Scene<'_> {
    fn start(&self, flush_interval: Span) -> Result<Running, AnyError> {
        let rules = rule_file(&self.hooks.url())?;
        let service = Service { ingest: Ingest { flush_interval, ..Ingest::default() }, ..Service::default() };
        let receivers = build_all(&rules.receivers, Means::default())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let models = vec![self.world.model.clone()];
        let rules = Arc::new(rule_set(rules, &self.world.model)?);
        let assembly = Assembly {
            log: self.log.clone(),
            roles: Roles { http: false, ..Roles::ALL },
            watched: watched::of(&models, &rules),
            metrics: self.metrics.clone(),
            references: BTreeMap::from([(self.world.model.model.clone(), self.world.reference.clone())]),
            store: None,
            models,
            rules,
            receivers,
            targets: Default::default(),
            service,
        };
        let topics = driftline::log::topics::Topics::new(&assembly.service.app);
        self.log.create_topics(&topics.specs(1, 1))?;
        Ok(assembly.start(&tokio::runtime::Handle::current(), None)?)
    }

    /// Events `0..count` of a window, whose version is that of the episode.
    fn append(&self, window: usize, count: usize) -> Result<(), AnyError> {
        let topic: Arc<str> = self.world.topic.as_str().into();
        let start_ms = START_MS + window as i64 * HOUR_MS;
        let event = |index: usize| {
            let time_ms = start_ms + (index / PARTITIONS * PARTITIONS) as i64 * HOUR_MS / EVENTS_PER_WINDOW as i64;
            out_record(&topic, index, self.drifting.event(index, &version(window), time_ms))
        };
        Ok(self.log.append((0..count).map(event).collect())?)
    }

    /// Appends a window's events and waits until they have been ingested.
    async fn fill_window(&self, window: usize) -> Result<(), AnyError> {
        self.append(window, EVENTS_PER_WINDOW)?;
        let expected = ((window + 1) * EVENTS_PER_WINDOW + window * PARTITIONS) as u64;
        let ingested = self.metrics.events_ingested.with_label_values(&["bench"]);
        let deadline = Instant::now() + TIMEOUT;
        while ingested.get() < expected {
            if Instant::now() > deadline {
                return Err(format!("{} of {expected} events were ingested", ingested.get()).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(ingested.get(), expected, "events ingested");
        Ok(())
    }

    /// Appends the first event of the next window to each partition, and waits for the alert.
    async fn close_window(&self, window: usize) -> Result<f64, AnyError> {
        let started = Instant::now();
        self.append(window + 1, PARTITIONS)?;
        let hooks = self.hooks.wait_for(window + 1, TIMEOUT).await;
        let seconds = started.elapsed().as_secs_f64();
        let versions: Vec<&str> = hooks.iter().map(|hook| hook.notification.version.as_str()).collect();
        let expected: Vec<String> = (0..=window).map(version).collect();
        assert_eq!(versions, expected, "versions that alerts were received of");
        Ok(seconds)
    }
}

fn version(window: usize) -> String {
    format!("v{window}")
}
