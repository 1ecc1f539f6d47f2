//! One process of the service: pages that stay, and roles that a reload replaces.
//!
//! A reload reads and checks everything first. What is wrong leaves the process as it was. What is right is taken up by
//! stopping the roles at their last commit, as a stop does, and starting them again in place: all state is in the log.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::loaded::{self, Loaded};
use super::pages::{Pages, configured};
use super::service::{Lasting, Roles, now_ms};
use super::threads::Threads;
use super::watched;
use crate::config::service::Service;
use crate::http::write::{ReloadSender, Reloaded};
use crate::log::Log;
use crate::telemetry::Metrics;

/// What a process is made of, but for its configuration.
#[derive(Clone)]
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub roles: Roles,
    pub metrics: Metrics,
    pub runtime: tokio::runtime::Handle,
}

pub struct Host {
    parts: Parts,
    service: Service,
    lasting: Lasting,
    pages: Option<Pages>,
    /// Of the process: pages and the watch on the broker.
    process: Threads,
    roles: Threads,
}

impl Host {
    pub fn start(
        parts: Parts,
        loaded: Loaded,
        listener: Option<tokio::net::TcpListener>,
        reload: ReloadSender,
    ) -> Result<Self, String> {
        let (lasting, service) = (Lasting::default(), loaded.service.clone());
        parts.metrics.process_start_seconds.set(now_ms() as f64 / 1000.0);
        parts.metrics.prepare(&watched::labels(&loaded.models, &loaded.rules));
        let assembly = loaded.assembly(parts.log.clone(), parts.roles, parts.metrics.clone());
        let (mut process, mut roles) = (Threads::default(), Threads::default());
        process.watch(&parts.log, &lasting)?;
        let pages = match parts.roles.http {
            true => {
                let (readiness, runtime) = (&lasting.readiness, &parts.runtime);
                Some(Pages::start(&assembly, readiness, runtime, listener, Some(reload), &mut process)?)
            }
            false => None,
        };
        assembly.start_roles(&parts.runtime, &lasting, &mut roles)?;
        parts.metrics.config_last_reload_successful.set(1);
        parts.metrics.config_last_reload_success_seconds.set(now_ms() as f64 / 1000.0);
        Ok(Self { parts, service, lasting, pages, process, roles })
    }

    /// Either ends when something has failed: the process must stop.
    pub fn stops(&self) -> [CancellationToken; 2] {
        [self.process.stop.clone(), self.roles.stop.clone()]
    }

    /// Takes the configuration of these files up, whole or not at all. The error says why not.
    pub fn reload(&mut self, config: Option<&Path>) -> Result<Reloaded, String> {
        let outcome = self.try_reload(config);
        let metrics = &self.parts.metrics;
        match &outcome {
            Ok(reloaded) => {
                metrics.config_last_reload_successful.set(1);
                metrics.config_last_reload_success_seconds.set(now_ms() as f64 / 1000.0);
                let Reloaded { models, rules, receivers, warnings } = reloaded;
                tracing::info!(models, rules, receivers, warnings, "the configuration was read again and is in force");
            }
            Err(reason) => {
                metrics.config_last_reload_successful.set(0);
                tracing::error!("the configuration was read again and is refused; the earlier one goes on: {reason}");
            }
        }
        outcome
    }

    fn try_reload(&mut self, config: Option<&Path>) -> Result<Reloaded, String> {
        let workspace = loaded::files(config).map_err(|failed| failed.message)?;
        if let Some(problem) = fixed_by_the_start(&self.service, &workspace.service) {
            return Err(problem);
        }
        let loaded = Loaded::of(workspace, &self.parts.log).map_err(|failed| failed.message)?;
        let configured = configured(&loaded.service, watched::of(&loaded.models, &loaded.rules))?;
        if self.lasting.readiness.reason("kafka").is_some() {
            return Err("no broker can be reached; try again once one can".into());
        }
        self.topics_exist(&loaded)?;
        let reloaded = Reloaded {
            models: loaded.models.len(),
            rules: loaded.rules.rules().len(),
            receivers: loaded.rules.receivers().len(),
            warnings: loaded.warnings,
        };
        self.replace_roles(loaded).inspect_err(|_| self.process.stop.cancel())?;
        if let Some(pages) = &self.pages {
            pages.configure(configured);
        }
        Ok(reloaded)
    }

    /// At a start topics are waited for; here that would hold up every model.
    fn topics_exist(&self, loaded: &Loaded) -> Result<(), String> {
        for model in &loaded.models {
            for topic in model.topics.iter().map(String::as_str).chain(model.label_topics().map(String::as_str)) {
                let count = self
                    .parts
                    .log
                    .partition_count(topic)
                    .map_err(|error| format!("Kafka cannot be asked about topic `{topic}`: {error}; try again"))?;
                if count.is_none() {
                    return Err(format!("topic `{topic}` of model `{}` does not exist; create it first", model.model));
                }
            }
        }
        Ok(())
    }

    /// From here on there is no way back: an error stops the process, and its next start reads the files.
    fn replace_roles(&mut self, loaded: Loaded) -> Result<(), String> {
        let readiness = &self.lasting.readiness;
        readiness.wait_for("configuration", "roles are being started again with another configuration");
        let old = std::mem::take(&mut self.roles);
        old.stop.cancel();
        if let Err(reasons) = old.join() {
            tracing::warn!("a role failed while it was stopped: {}", reasons.join("; "));
        }
        ["ingest", "join", "windows", "dispatch"].iter().for_each(|role| readiness.forget(role));
        self.parts.metrics.prepare(&watched::labels(&loaded.models, &loaded.rules));
        self.service = loaded.service.clone();
        let assembly = loaded.assembly(self.parts.log.clone(), self.parts.roles, self.parts.metrics.clone());
        assembly.start_roles(&self.parts.runtime, &self.lasting, &mut self.roles)?;
        self.lasting.readiness.met("configuration");
        Ok(())
    }

    /// Stops everything; the reasons of what failed.
    pub fn join(self) -> Result<(), Vec<String>> {
        self.roles.stop.cancel();
        self.process.stop.cancel();
        if let Some(pages) = &self.pages {
            pages.stop();
        }
        let outcomes = [self.roles.join(), self.process.join()];
        let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).flatten().collect();
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

/// What a process is known by, or is bound to, stays as it is until it ends.
fn fixed_by_the_start(old: &Service, new: &Service) -> Option<String> {
    let pairs = [
        ("app", old.app != new.app),
        ("instance", old.instance != new.instance),
        ("kafka.bootstrap_servers", old.kafka.bootstrap_servers != new.kafka.bootstrap_servers),
        ("kafka.properties", old.kafka.properties != new.kafka.properties),
        ("http.bind", old.http.bind != new.http.bind),
    ];
    let changed: Vec<String> =
        pairs.iter().filter(|(_, differs)| *differs).map(|(key, _)| format!("`{key}`")).collect();
    (!changed.is_empty()).then(|| {
        let (has, it) = if changed.len() == 1 { ("has", "it") } else { ("have", "them") };
        format!(
            "{} {has} changed, which a running process cannot take up: restart it, or change {it} back",
            changed.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_start_fixed_is_named_when_it_changes() {
        let old = Service::default();
        assert_eq!(fixed_by_the_start(&old, &old), None);
        let mut new = old.clone();
        new.app = "other".into();
        new.http.bind = "0.0.0.0:80".into();
        new.http.series_budget = 7;
        let problem = fixed_by_the_start(&old, &new).unwrap();
        assert!(problem.starts_with("`app`, `http.bind` have changed") && problem.contains("restart"), "{problem}");
    }
}
