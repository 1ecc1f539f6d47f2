//! The centre: which version answers, its inputs checked, its scores computed, counted and told of.
//!
//! `table` is what serves at one instant; requests take it whole, so that a swap fails none. `follow` puts another table
//! in its place when the registry changes, from what `source` loads on threads of `loading`. `inputs` checks tensors
//! against a signature, `shadow` scores a second version beside the one that answers, `trials` gives each model's trial
//! its turn. `http` is the server of the HTTP protocols,
//! `serving` what the admin API asks of the process.
//!
//! To add something that happens with each request: a step of `Scorer::score`, which waits for nothing but the score.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub mod follow;
pub mod grpc;
pub mod http;
pub mod inputs;
pub mod loading;
pub mod serving;
pub mod shadow;
pub mod source;
pub mod table;
pub mod trials;

use self::shadow::{Answered, Compared, MAX_COMPARED, Shadows};
use self::table::{ServedModel, ServedVersion, Table};
use super::batching::metrics::BatchSeries;
use super::events::{EventSink, ScoredEvent};
use super::metrics::Metrics;
use super::protocols::shown;
use super::score::{Arm, ScoreError, ScoreRequest, ScoreResponse};
use super::tensor::Tensor;
use super::traffic::counters::{Answer, scores};
use super::traffic::{self, Ask, Choice, ChoiceError};

/// Scores requests of any protocol.
pub struct Scorer {
    table: RwLock<Arc<Table>>,
    metrics: Metrics,
    /// None: no events are written.
    events: Option<Arc<dyn EventSink>>,
    shadows: Shadows,
    ids: RequestIds,
}

impl Scorer {
    /// Serves nothing until `follow` has loaded something.
    pub fn new(metrics: Metrics, events: Option<Arc<dyn EventSink>>) -> Self {
        let shadows = Shadows::new(metrics.clone(), events.clone());
        Self { table: RwLock::default(), metrics, events, shadows, ids: RequestIds::new() }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What serves now.
    pub fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Queues and batches of the versions in memory.
    pub fn batching(&self) -> Vec<BatchSeries> {
        let table = self.table();
        let versions = table.models.values().flat_map(|model| model.versions.values().map(move |one| (model, one)));
        let series = versions.filter_map(|(model, version)| {
            let stats = version.backend.batching()?;
            Some(BatchSeries { model: model.name.clone(), version: version.version.clone(), stats })
        });
        series.collect()
    }

    /// Puts another table in place; requests under way finish with the one that they have.
    pub fn swap(&self, table: Table) {
        let table = Arc::new(table);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// The model, if it is served.
    ///
    /// # Errors
    /// It is not: `NotFound`; or not yet: `Unavailable`, without the reason, which is for operators.
    pub fn model(&self, name: &str) -> Result<Arc<ServedModel>, ScoreError> {
        let table = self.table();
        table.model(name).ok_or_else(|| match (table.started, table.missing.contains_key(name)) {
            (false, _) => ScoreError::Unavailable("nothing is loaded yet; the scorer is starting".into()),
            (true, true) => ScoreError::Unavailable(format!("model `{name}` is not ready to serve")),
            (true, false) => ScoreError::NotFound(format!("there is no model `{}`", shown(name))),
        })
    }

    /// Scores one request.
    ///
    /// # Errors
    /// As `ScoreError` says; whatever happens here to events and shadows is no error.
    pub async fn score(&self, mut request: ScoreRequest) -> Result<ScoreResponse, ScoreError> {
        let started = Instant::now();
        let model = match self.model(&request.model) {
            Ok(model) => model,
            Err(error) => {
                // Names that anybody may make up are no labels.
                let code = if matches!(error, ScoreError::NotFound(_)) { "not_found" } else { "unavailable" };
                self.metrics.requests.with_label_values(&["", "", "", code]).inc();
                return Err(error);
            }
        };
        let id = request.id.take().unwrap_or_else(|| self.ids.next());
        let choice = choose(&model, &request, &id)?;
        let version = model.version(&choice.version)?;
        let rows = request.inputs.first().map_or(1, Tensor::rows);
        let account = Account { model: &model, version, choice: &choice, started, settled: false };
        let outcome = self.compute(&model, version, &choice, request, &id, started).await;
        account.settle(&outcome, rows);
        outcome
    }

    async fn compute(
        &self,
        model: &ServedModel,
        version: &Arc<ServedVersion>,
        choice: &Choice,
        request: ScoreRequest,
        id: &str,
        started: Instant,
    ) -> Result<ScoreResponse, ScoreError> {
        let signature = version.backend.signature();
        let inputs = match &signature {
            Some(signature) => inputs::arrange(request.inputs, signature)?,
            None => request.inputs,
        };
        if let Some(signature) = &signature {
            inputs::check_outputs(&request.outputs, signature)?;
        }
        let traffic = &model.settings.traffic.shadow;
        let shadow = choice.shadow.as_deref().and_then(|shadow| model.version(shadow).ok());
        let shadow = shadow.and_then(|shadow| self.shadows.admit(&model.name, shadow, traffic.queue_requests));
        let layout = version.layout.as_ref().filter(|_| self.events.is_some());
        let copy = (layout.is_some() || shadow.is_some()).then(|| inputs.clone());
        let mut outputs = version.backend.score(inputs, request.priority, request.deadline).await?;
        let latency = started.elapsed();
        if let Some(copy) = copy {
            let answered = Answered {
                model: &model.name,
                request_id: id,
                entity: request.entity.as_deref(),
                event_time_ms: epoch_ms(),
            };
            if let Some(shadow) = shadow {
                let compared =
                    Compared { scores: scores(&outputs).take(MAX_COMPARED).collect(), tolerance: traffic.tolerance };
                self.shadows.score(shadow, &answered, copy.clone(), compared);
            }
            if let (Some(layout), Some(events)) = (layout, &self.events) {
                events.offer(ScoredEvent {
                    layout: Arc::clone(layout),
                    arm: choice.arm,
                    request_id: id.to_string(),
                    entity: request.entity.clone(),
                    inputs: copy,
                    outputs: outputs.clone(),
                    engine: version.backend.engine(),
                    latency,
                    event_time_ms: answered.event_time_ms,
                });
            }
        }
        if !request.outputs.is_empty() {
            outputs = inputs::select(outputs, &request.outputs)?;
        }
        Ok(ScoreResponse {
            model: request.model,
            version: version.version.clone(),
            arm: choice.arm,
            id: id.to_string(),
            outputs,
            engine: version.backend.engine(),
            latency,
        })
    }
}

/// Which version answers, as the traffic policy says; production where the one it says is not loaded.
fn choose(model: &ServedModel, request: &ScoreRequest, id: &str) -> Result<Choice, ScoreError> {
    let ask = Ask {
        model: &model.name,
        version: request.version.as_deref(),
        arm: request.arm.as_deref(),
        entity: request.entity.as_deref(),
        request_id: id,
    };
    let choice = traffic::choose(&model.state, &model.settings.traffic, ask).map_err(|error| match error {
        ChoiceError::NoProduction { .. } => ScoreError::Unavailable(error.to_string()),
        ChoiceError::UnknownArm { .. } | ChoiceError::OverrideNotAllowed { .. } => {
            ScoreError::Invalid(error.to_string())
        }
    })?;
    let stands_in = choice.counted && !model.versions.contains_key(&choice.version);
    match (&model.state.production, stands_in) {
        (Some(production), true) => Ok(Choice {
            version: production.clone(),
            arm: Arm::Production,
            shadow: None,
            exposure: None,
            counted: false,
        }),
        _ => Ok(choice),
    }
}

/// Counts what became of a request, also of one whose caller has gone before it was answered.
struct Account<'a> {
    model: &'a ServedModel,
    version: &'a ServedVersion,
    choice: &'a Choice,
    started: Instant,
    settled: bool,
}

impl Account<'_> {
    fn settle(mut self, outcome: &Result<ScoreResponse, ScoreError>, rows: usize) {
        self.settled = true;
        let latency = self.started.elapsed();
        self.version.counters(self.choice.arm).count(outcome.as_ref().map(|_| ()), rows, latency);
        match outcome {
            Ok(response) => self.model.counters.record(self.choice, Answer::Scored(&response.outputs), latency),
            // Also what is refused as invalid: a canary that takes other inputs than production refuses every request.
            Err(ScoreError::NotFound(_)) => {}
            Err(_) => self.model.counters.record(self.choice, Answer::Failed, latency),
        }
    }
}

impl Drop for Account<'_> {
    /// The caller waited no longer: a version that hangs would otherwise never be seen to fail.
    fn drop(&mut self) {
        if !self.settled {
            self.version.counters(self.choice.arm).count(Err(&ScoreError::Expired), 0, Duration::ZERO);
            self.model.counters.record(self.choice, Answer::Failed, self.started.elapsed());
        }
    }
}

/// Wall clock, ms since the epoch; for the time of events.
fn epoch_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Ids of requests that have none: unique among processes by 64 random bits, within one by a count.
struct RequestIds {
    prefix: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self { prefix: rand::random(), count: AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        format!("{:016x}-{:x}", self.prefix, self.count.fetch_add(1, Ordering::Relaxed))
    }
}
