//! Puts the roles of one process together around a log: what `run` and `demo` share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::model::Model;
use crate::config::service::{Service, Start};
use crate::dispatch::actions::role::ActionsConfig;
use crate::dispatch::actions::target::Targets;
use crate::dispatch::receiver::Receivers;
use crate::dispatch::role::DispatchConfig;
use crate::dispatch::schedule::Policy;
use crate::http::metrics::Watched;
use crate::http::readiness::Readiness;
use crate::http::view::View;
use crate::ingest::role::{IngestModel, IngestRole, Status};
use crate::join::model::JoinModel;
use crate::join::role::JoinRole;
use crate::log::topics::Topics;
use crate::log::{Log, LogError, StartOffset};
use crate::reference::{Reference, ReferenceStore};
use crate::rules::RuleSet;
use crate::rules::judge::RulesJudge;
use crate::telemetry::Metrics;
use crate::windows::judge::Judge;
use crate::windows::role::WindowsRole;
use crate::windows::state::{References, WindowSpec, pane_width_ms};

use super::pages::Pages;
use super::supervise::{Outages, with_restarts};
use super::threads::{Body, Threads};
use super::watched::has_labels;

/// With nothing to tell, windows are checkpointed this often: what a restart reads again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// Which roles this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub ingest: bool,
    pub join: bool,
    pub windows: bool,
    pub dispatch: bool,
    pub http: bool,
}

impl Roles {
    pub const ALL: Roles = Roles { ingest: true, join: true, windows: true, dispatch: true, http: true };

    /// From names as `--roles` gives them.
    pub fn of(names: &[String]) -> Result<Self, String> {
        let mut roles = Roles { ingest: false, join: false, windows: false, dispatch: false, http: false };
        for name in names {
            match name.as_str() {
                "ingest" => roles.ingest = true,
                "join" => roles.join = true,
                "windows" => roles.windows = true,
                "dispatch" => roles.dispatch = true,
                "http" => roles.http = true,
                other => return Err(format!("no role `{other}`; the roles are ingest, join, windows, dispatch, http")),
            }
        }
        Ok(roles)
    }
}

/// Everything one process works with.
pub struct Assembly {
    pub log: Arc<dyn Log>,
    pub service: Service,
    pub roles: Roles,
    pub models: Vec<Arc<Model>>,
    pub rules: Arc<RuleSet>,
    /// The promoted reference of each model, by model name.
    pub references: BTreeMap<String, Arc<Reference>>,
    /// For profiles made with an earlier reference.
    pub store: Option<ReferenceStore>,
    pub receivers: Receivers,
    pub targets: Targets,
    pub metrics: Metrics,
    pub watched: Watched,
}

/// Running roles; where they were started with pages, those too.
pub struct Running {
    pub stop: CancellationToken,
    pub view: Arc<RwLock<View>>,
    threads: Threads,
    pages: Option<Pages>,
}

/// What outlives a reload: the pages, and whether the process does its work.
#[derive(Clone, Default)]
pub struct Lasting {
    pub readiness: Readiness,
    pub outages: Outages,
}

impl Assembly {
    /// Starts roles and pages. `listener` serves pages where the http role runs.
    pub fn start(
        self,
        runtime: &tokio::runtime::Handle,
        listener: Option<tokio::net::TcpListener>,
    ) -> Result<Running, String> {
        self.metrics.process_start_seconds.set(now_ms() as f64 / 1000.0);
        let lasting = Lasting::default();
        let mut threads = Threads::default();
        let pages = match self.roles.http {
            true => Some(Pages::start(&self, &lasting.readiness, runtime, listener, None, &mut threads)?),
            false => None,
        };
        threads.watch(&self.log, &lasting)?;
        let view = pages.as_ref().map(|pages| pages.view.clone()).unwrap_or_default();
        self.start_roles(runtime, &lasting, &mut threads)?;
        Ok(Running { stop: threads.stop.clone(), view, threads, pages })
    }

    /// Starts the roles but for pages, in `threads`.
    pub fn start_roles(
        self,
        runtime: &tokio::runtime::Handle,
        lasting: &Lasting,
        threads: &mut Threads,
    ) -> Result<(), String> {
        let service = &self.service;
        let topics = Topics::new(&service.app);
        let Lasting { readiness, outages } = lasting.clone();
        let stop = threads.stop.clone();
        let mut start_role = |name: &'static str, body: Body| threads.start(name, body);
        let references = Arc::new(KnownReferences::new(self.references.values().cloned(), self.store));
        let specs = |model: &Model| -> Vec<WindowSpec> { self.rules.window_specs(model) };
        if self.roles.ingest {
            let mut models = Vec::new();
            for model in &self.models {
                let reference = self.references.get(&model.model).cloned().ok_or_else(|| no_reference(model))?;
                let (pane_ms, sql) = (pane_width_ms(&specs(model)), self.rules.sql_metrics(model));
                models.push(IngestModel { model: model.clone(), reference, pane_ms, sql });
            }
            let role = IngestRole {
                app: service.app.clone(),
                instance: service.instance.clone(),
                topics: topics.clone(),
                models,
                start: match service.kafka.start {
                    Start::Earliest => StartOffset::Earliest,
                    Start::Latest => StartOffset::Latest,
                },
                settings: service.ingest.clone(),
                clock: Arc::new(now_ms),
                metrics: self.metrics.clone(),
                status: status_of("ingest", &readiness),
            };
            let (log, stop, readiness) = (self.log.clone(), stop.clone(), readiness.clone());
            let outages = outages.clone();
            start_role(
                "ingest",
                Box::new(move || {
                    await_topics(&*log, &role.models, &readiness, &stop)?;
                    with_restarts("ingest", &outages, &stop, || role.run(&*log, &stop))
                }),
            )?;
        }
        let joined = if self.roles.join { joined_models(&self.models, &self.references)? } else { Vec::new() };
        // Without a model whose labels come later there is nothing to join.
        if !joined.is_empty() {
            let role = JoinRole {
                app: service.app.clone(),
                instance: service.instance.clone(),
                topics: topics.clone(),
                joined: Arc::new(joined),
                settings: service.ingest.clone(),
                clock: Arc::new(now_ms),
                metrics: self.metrics.clone(),
                status: status_of("join", &readiness),
            };
            let (log, stop, outages) = (self.log.clone(), stop.clone(), outages.clone());
            start_role("join", Box::new(move || with_restarts("join", &outages, &stop, || role.run(&*log, &stop))))?;
        }
        if self.roles.windows {
            let watched = self.models.iter().map(|model| self.rules.watched(model));
            let rules = self.rules.clone();
            let judge_metrics = self.metrics.clone();
            let role = WindowsRole {
                app: service.app.clone(),
                instance: service.instance.clone(),
                topics: topics.clone(),
                watched: Arc::new(watched.collect()),
                references,
                judge: Arc::new(move || -> Box<dyn Judge> {
                    Box::new(RulesJudge::new(rules.clone(), judge_metrics.clone()))
                }),
                checkpoint_interval: CHECKPOINT_INTERVAL,
                metrics: self.metrics.clone(),
                status: status_of("windows", &readiness),
            };
            let (log, stop, outages) = (self.log.clone(), stop.clone(), outages.clone());
            start_role(
                "windows",
                Box::new(move || with_restarts("windows", &outages, &stop, || role.run(&*log, &stop))),
            )?;
        }
        if self.roles.dispatch {
            let policy = Arc::new(Policy::new(&self.rules).with_transports(&self.receivers));
            let config = DispatchConfig {
                status: status_of("dispatch", &readiness),
                ..DispatchConfig::new(service, policy, runtime.clone())
            };
            let (log, topics, stop, metrics) = (self.log.clone(), topics.clone(), stop.clone(), self.metrics.clone());
            let (receivers, outages) = (Arc::new(self.receivers), outages.clone());
            start_role(
                "dispatch",
                Box::new(move || {
                    with_restarts("dispatch", &outages, &stop, || {
                        let (config, receivers) = (config.clone(), receivers.clone());
                        crate::dispatch::role::run(&*log, &topics, config, receivers, &metrics, &stop)
                    })
                }),
            )?;
        }
        if self.roles.dispatch && !self.rules.actions().is_empty() {
            let config = ActionsConfig::new(service, self.rules.actions().clone(), runtime.clone());
            let (log, topics, stop, metrics) = (self.log.clone(), topics.clone(), stop.clone(), self.metrics.clone());
            let (targets, outages) = (Arc::new(self.targets), outages.clone());
            start_role(
                "actions",
                Box::new(move || {
                    with_restarts("actions", &outages, &stop, || {
                        let (config, targets) = (config.clone(), targets.clone());
                        crate::dispatch::actions::role::run(&*log, &topics, config, targets, &metrics, &stop)
                    })
                }),
            )?;
        }
        Ok(())
    }
}

impl Running {
    /// Waits for the stop, then until every role has ended; the reasons of those that failed.
    pub fn join(self) -> Result<(), Vec<String>> {
        while !self.stop.is_cancelled() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(pages) = &self.pages {
            pages.stop();
        }
        self.threads.join()
    }
}

/// The models whose labels come later, and what their predictions and labels are.
fn joined_models(
    models: &[Arc<Model>],
    references: &BTreeMap<String, Arc<Reference>>,
) -> Result<Vec<JoinModel>, String> {
    let mut joined = Vec::new();
    for model in models.iter().filter(|model| has_labels(model)) {
        let reference = references.get(&model.model).ok_or_else(|| no_reference(model))?;
        if let Some(layout) = reference.performance_layout(model) {
            joined.push(JoinModel { model: model.clone(), layout });
        }
    }
    Ok(joined)
}

pub fn no_reference(model: &Model) -> String {
    format!("model `{}` has no reference yet; build it: driftline reference build --model {}", model.model, model.model)
}

pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn status_of(role: &'static str, readiness: &Readiness) -> Arc<dyn Fn(&Status) + Send + Sync> {
    readiness.wait_for(role, "starting");
    let readiness = readiness.clone();
    Arc::new(move |status| match status {
        Ok(()) => readiness.met(role),
        Err(reason) => readiness.wait_for(role, reason),
    })
}

/// The source topics are the user's: they are waited for, not created.
fn await_topics(
    log: &dyn Log,
    models: &[IngestModel],
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<(), LogError> {
    for (model, topic) in models.iter().flat_map(|model| model.model.topics.iter().map(move |topic| (model, topic))) {
        let mut waiting = false;
        while !stop.is_cancelled() {
            match log.partition_count(topic) {
                Ok(Some(_)) => break,
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Ok(None) | Err(_) => {}
            }
            if !waiting {
                let reason = format!("topic `{topic}` of model `{}` does not exist yet", model.model.model);
                tracing::warn!("{reason}; waiting for it");
                readiness.wait_for("ingest", &reason);
                waiting = true;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    Ok(())
}

type ModelAndId = (String, String);

/// Finds references by content address: those in use, then those in the store.
struct KnownReferences {
    store: Option<ReferenceStore>,
    known: Mutex<HashMap<ModelAndId, Option<Arc<Reference>>>>,
}

impl KnownReferences {
    fn new(current: impl Iterator<Item = Arc<Reference>>, store: Option<ReferenceStore>) -> Self {
        let known = current.map(|reference| ((reference.model.clone(), reference.id.clone()), Some(reference)));
        Self { store, known: Mutex::new(known.collect()) }
    }
}

impl KnownReferences {
    fn load(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        let store = self.store.as_ref()?;
        let listed = store.list().inspect_err(|error| tracing::error!(%error, "references cannot be listed")).ok()?;
        let found = listed.into_iter().find(|listed| listed.model == model && listed.id == id)?;
        let loaded = store.load(model, &found.name, id);
        loaded.inspect_err(|error| tracing::error!(%error, "a reference cannot be read")).ok().map(Arc::new)
    }
}

impl References for KnownReferences {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (model.to_string(), id.to_string());
        known.entry(key).or_insert_with(|| self.load(model, id)).clone()
    }
}
