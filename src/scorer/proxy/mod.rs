//! Models that another server computes: a team's running Triton, MLServer, KServe, TorchServe or TensorFlow Serving, with
//! traffic policy and prediction events in front of it.
//!
//! `Peer` is a `Backend` like a runner here; `client` sends and waits, `circuit` leaves a failing server alone, `version`
//! is what a version here is over there. One file for each protocol: `oip`, `kserve_v1`, `torchserve`, `tensorflow`, each
//! a `protocol::Protocol`, which only makes and reads bytes; `nested` is what they share.
//!
//! To add a protocol: a file with its `Protocol`, a variant of `PeerKind`, a line in `protocol::protocol`, a row of
//! docs/scorer-proxy.md.

pub mod circuit;
mod client;
mod kserve_v1;
mod nested;
mod oip;
mod protocol;
mod tensorflow;
mod torchserve;
pub mod version;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::circuit::Circuit;
use self::client::{Client, Failure};
use self::protocol::{Learned, Protocol, protocol};
use self::version::PeerVersionFile;
use super::backend::Backend;
use super::engine::Signature;
use super::metrics::{Metrics, PeerMetrics};
use super::score::{Priority, ScoreError};
use super::tensor::Tensor;
use crate::config::scorer::ProxySettings;

/// Requests that were answered recently weigh more: a tenth of each answer's time goes into the mean.
const SMOOTHING: u64 = 10;

/// One version over there.
pub struct Peer {
    inner: Arc<Inner>,
    /// Connections live on one runtime, whichever thread asks.
    runtime: Handle,
}

struct Inner {
    /// Model and version here, for errors.
    name: String,
    model: String,
    protocol: Box<dyn Protocol>,
    client: Client,
    learned: Learned,
    signature: Option<Arc<Signature>>,
    circuit: Mutex<Circuit>,
    /// The last health check was answered well.
    healthy: AtomicBool,
    under_way: Semaphore,
    timeout: Duration,
    /// Mean time of an answer, ns.
    mean_ns: AtomicU64,
    metrics: PeerMetrics,
}

impl Peer {
    /// Connects to a version; `file` is its `peer.json`. Waits for the server, so not from a thread of `runtime`.
    ///
    /// # Errors
    /// The file or the settings are wrong, or the server does not say that the model is ready; the reason.
    pub fn connect(
        model: &str,
        version: &str,
        settings: &ProxySettings,
        file: &[u8],
        runtime: &Handle,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let protocol = protocol(settings, PeerVersionFile::parse(file)?);
        let client = Client::new(settings)?;
        let name = format!("version {version} of model {model}");
        let interval = settings.health_interval.to_std();
        let learned = runtime.block_on(async {
            match client.get(&protocol.ready_path()).await {
                Ok(body) if protocol.is_ready(&body) => Ok(learn(&client, protocol.as_ref()).await),
                Ok(_) => Err(format!("the server at {} says that the model is not ready", client.base())),
                Err(failure) => Err(format!("the server at {} {failure}", client.base())),
            }
        })?;
        let inner = Arc::new(Inner {
            name,
            model: model.into(),
            signature: learned.signature.clone().map(Arc::new),
            learned,
            protocol,
            client,
            circuit: Mutex::new(Circuit::new(settings.circuit_failures, settings.circuit_open.to_std())),
            healthy: AtomicBool::new(true),
            under_way: Semaphore::new(settings.max_concurrent),
            timeout: settings.timeout.to_std(),
            mean_ns: AtomicU64::new(0),
            metrics: metrics.proxy.version(model, version),
        });
        inner.metrics.ready.set(1);
        runtime.spawn(watch(Arc::downgrade(&inner), interval));
        Ok(Self { inner, runtime: runtime.clone() })
    }
}

async fn learn(client: &Client, protocol: &dyn Protocol) -> Learned {
    let mut bodies = Vec::new();
    for path in protocol.metadata_paths() {
        // Metadata are a convenience: a server without them is served without checks of inputs.
        bodies.push(client.get(&path).await.ok());
    }
    protocol.learn(&bodies)
}

/// Asks again and again whether the model is ready, until nobody holds the peer any more.
async fn watch(inner: Weak<Inner>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(inner) = inner.upgrade() else { return };
        let answer = inner.client.get(&inner.protocol.ready_path()).await;
        let is_healthy = answer.as_ref().is_ok_and(|body| inner.protocol.is_ready(body));
        let was_healthy = inner.healthy.swap(is_healthy, Ordering::Relaxed);
        inner.metrics.ready.set(i64::from(is_healthy));
        if was_healthy && !is_healthy {
            let reason =
                answer.err().map_or("it says that the model is not ready".to_string(), |error| error.to_string());
            tracing::warn!(server = inner.client.base(), %reason, "{} is not ready over there", inner.name);
        } else if is_healthy && !was_healthy {
            tracing::info!(server = inner.client.base(), "{} is ready over there again", inner.name);
            inner.circuit(|circuit| circuit.may_try(Instant::now()));
        }
    }
}

#[async_trait]
impl Backend for Peer {
    fn signature(&self) -> Option<Arc<Signature>> {
        self.inner.signature.clone()
    }

    fn engine(&self) -> &'static str {
        self.inner.protocol.engine()
    }

    fn ready(&self) -> bool {
        self.inner.healthy.load(Ordering::Relaxed) && self.inner.circuit(|circuit| circuit.admits(Instant::now()))
    }

    async fn score(
        &self,
        inputs: Vec<Tensor>,
        _priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>, ScoreError> {
        let inner = Arc::clone(&self.inner);
        let task = self.runtime.spawn(async move { inner.score(&inputs, deadline).await });
        // A caller who goes away takes the request along.
        let mut task = AbortOnDrop(task);
        (&mut task.0)
            .await
            .unwrap_or_else(|error| Err(ScoreError::Failed(format!("the request was not sent: {error}"))))
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    fn circuit<T>(&self, step: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = step(&mut circuit);
        self.metrics.circuit_open.set(i64::from(!circuit.is_closed()));
        outcome
    }

    async fn score(&self, inputs: &[Tensor], deadline: Option<Instant>) -> Result<Vec<Tensor>, ScoreError> {
        let started = Instant::now();
        let left = deadline.map_or(self.timeout, |deadline| deadline.saturating_duration_since(started));
        if left.is_zero() {
            return Err(ScoreError::Expired);
        }
        let Ok(_permit) = self.under_way.try_acquire() else {
            self.metrics.count("busy", None);
            return Err(ScoreError::QueueFull { model: self.model.clone(), retry_after: self.mean() });
        };
        let body = self.protocol.encode(inputs, &self.learned)?;
        self.circuit(|circuit| circuit.enter(started)).map_err(|after| self.left_alone(after))?;
        let mut outcome = Undecided { inner: self, is_decided: false };
        let answer =
            tokio::time::timeout(left.min(self.timeout), self.client.post(&self.protocol.score_path(), body)).await;
        let answer = match answer {
            Ok(answer) => answer,
            // Too little time was left: that says nothing of the server.
            Err(_) if left < self.timeout => return Err(ScoreError::Expired),
            Err(_) => Err(Failure::Slow(self.timeout)),
        };
        outcome.is_decided = true;
        let decoded = answer.and_then(|came| {
            let outputs = self.protocol.decode(came.as_protocol(), &self.learned);
            outputs.map_err(Failure::Nonsense)
        });
        let now = Instant::now();
        match &decoded {
            Err(failure) if failure.is_trouble(self.protocol.as_ref()) => self.circuit(|circuit| circuit.failed(now)),
            _ => self.circuit(Circuit::succeeded),
        }
        match &decoded {
            Ok(_) => {
                self.observe(now - started);
                self.metrics.count("ok", Some(now - started));
            }
            Err(failure) => self.metrics.count(failure.name(), None),
        }
        decoded.map_err(|failure| self.error(failure))
    }

    fn left_alone(&self, after: Duration) -> ScoreError {
        self.metrics.count("left_alone", None);
        let ms = after.as_millis();
        ScoreError::Unavailable(format!("the server of {} failed again and again; it is tried in {ms} ms", self.name))
    }

    fn error(&self, failure: Failure) -> ScoreError {
        let message = format!("the server of {} {failure}", self.name);
        match failure {
            Failure::Busy(after) => {
                ScoreError::QueueFull { model: self.model.clone(), retry_after: after.unwrap_or_else(|| self.mean()) }
            }
            Failure::NotReached(_) | Failure::Broken(_) | Failure::Slow(_) => ScoreError::Unavailable(message),
            Failure::Refused { status: 400 | 413 | 422, .. } => ScoreError::Invalid(message),
            Failure::Refused { status: 404 | 502..=504, .. } => ScoreError::Unavailable(message),
            Failure::Refused { .. } | Failure::TooLarge(_) | Failure::Nonsense(_) => ScoreError::Failed(message),
        }
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_ns.load(Ordering::Relaxed)).max(Duration::from_millis(1))
    }

    fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.mean_ns.load(Ordering::Relaxed);
        let mean = if before == 0 { took } else { before - before / SMOOTHING + took / SMOOTHING };
        self.mean_ns.store(mean, Ordering::Relaxed);
    }
}

/// Tells the circuit when a request goes away, or its time passes, before its outcome is known.
struct Undecided<'a> {
    inner: &'a Inner,
    is_decided: bool,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if !self.is_decided {
            self.inner.circuit(|circuit| circuit.abandoned(Instant::now()));
            self.inner.metrics.count("given_up", None);
        }
    }
}
