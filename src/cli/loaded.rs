//! A whole configuration, read and checked: everything that a start or a reload needs, or everything that is wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::check::{FAILED, UNDECIDED};
use super::pages::configured;
use super::service::{Assembly, Roles, no_reference};
use super::watched;
use crate::config::model::Model;
use crate::config::service::Service;
use crate::dispatch::actions::target::{self, Targets};
use crate::dispatch::receiver::{Means, Receivers, build_all};
use crate::log::topics::Topics;
use crate::log::{Log, LogError};
use crate::reference::{Reference, ReferenceStore, StoreError};
use crate::rules::{RuleSet, Workspace};
use crate::telemetry::Metrics;

pub struct Loaded {
    pub service: Service,
    pub models: Vec<Arc<Model>>,
    pub rules: Arc<RuleSet>,
    /// What is doubtful, and weak references.
    pub warnings: usize,
    references: BTreeMap<String, Arc<Reference>>,
    store: ReferenceStore,
    receivers: Receivers,
    targets: Targets,
}

/// Why the service does not start, with its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub code: u8,
}

pub fn failure(message: impl std::fmt::Display) -> Failure {
    Failure { message: format!("error: {message}"), code: FAILED }
}

/// One line an error.
fn all<E: std::fmt::Display>(errors: &[E]) -> Failure {
    failure(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: "))
}

/// The files alone, before anything is connected to.
pub fn files(config: Option<&Path>) -> Result<Workspace, Failure> {
    Workspace::load(config).map_err(|errors| Failure { message: errors.text(false), code: FAILED })
}

impl Loaded {
    /// Secrets are read here, and references; nothing is connected to.
    pub fn of(workspace: Workspace, log: &Arc<dyn Log>) -> Result<Self, Failure> {
        let Workspace { service, base_dir, models, rules, warnings, .. } = workspace;
        let store = ReferenceStore::open(base_dir.join(&service.references)).map_err(failure)?;
        let references = current_references(&store, &models).map_err(|messages| all(&messages))?;
        let mut doubts = warnings.warnings();
        for (model, reference) in &references {
            for warning in reference.warnings() {
                doubts += 1;
                tracing::warn!(%model, reference = %reference.name, "a weak reference: {warning}");
            }
        }
        let means = Means { smtp: service.smtp.as_ref(), log: Some((log, &service.app)) };
        let receivers = build_all(rules.receivers(), means).map_err(|errors| all(&errors))?;
        let means = target::Means { log: Some((log, &service.app)) };
        let targets = target::build_all(rules.actions(), means).map_err(|errors| all(&errors))?;
        let rules = Arc::new(rules);
        configured(&service, watched::of(&models, &rules)).map_err(failure)?;
        Ok(Self { service, models, rules, warnings: doubts, references, store, receivers, targets })
    }

    pub fn assembly(self, log: Arc<dyn Log>, roles: Roles, metrics: Metrics) -> Assembly {
        let watched = watched::of(&self.models, &self.rules);
        Assembly {
            log,
            service: self.service,
            roles,
            models: self.models,
            rules: self.rules,
            references: self.references,
            store: Some(self.store),
            receivers: self.receivers,
            targets: self.targets,
            metrics,
            watched,
        }
    }
}

/// The promoted `training` reference of every model, or what is missing.
fn current_references(
    store: &ReferenceStore,
    models: &[Arc<Model>],
) -> Result<BTreeMap<String, Arc<Reference>>, Vec<String>> {
    let mut references = BTreeMap::new();
    let mut problems = Vec::new();
    for model in models {
        match store.load(&model.model, "training", "current") {
            Ok(reference) => drop(references.insert(model.model.clone(), Arc::new(reference))),
            Err(StoreError::Missing { .. }) => problems.push(no_reference(model)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() { Ok(references) } else { Err(problems) }
}

/// Waits for the broker for a while: in a fleet that starts together it may come last.
pub fn create_topics(log: &dyn Log, service: &Service, models: &[Arc<Model>]) -> Result<(), Failure> {
    let labels = models.iter().filter_map(|model| model.performance.as_ref()?.labels.as_ref());
    let label_delay_ms = labels.map(|labels| labels.delay.ms).max().unwrap_or(0);
    let topics = Topics::new(&service.app);
    let specs = topics.specs_for(service.kafka.partitions, service.kafka.replication, label_delay_ms);
    let undecided = |message: String| Failure { message: format!("error: {message}"), code: UNDECIDED };
    // An attempt takes up to 15 s: two minutes in all.
    for attempt in 1..=8 {
        match log.create_topics(&specs) {
            Ok(()) => return Ok(()),
            Err(LogError::Fatal(reason)) => return Err(undecided(reason)),
            Err(error) => {
                let servers = &service.kafka.bootstrap_servers;
                tracing::warn!(%error, attempt, "kafka at {servers} does not answer yet");
                std::thread::sleep(std::time::Duration::from_secs(2));
            }
        }
    }
    Err(undecided(format!(
        "no Kafka broker answers at {}; check `kafka.bootstrap_servers` in the service file",
        service.kafka.bootstrap_servers
    )))
}
