//! What the configuration says of receivers and routes, as far as it decides when something is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::receivers::RateLimit;
use crate::config::rules::Heartbeat;
use crate::dispatch::receiver::Receivers;
use crate::rules::RuleSet;
use crate::rules::episode::Notification;
use crate::rules::routing::Told;

/// One receiver, without its transport.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiverPolicy {
    pub fallback: Option<String>,
    pub rate_limit: Option<RateLimit>,
    /// Whether the end of an alert means anything to it where the beginning was never told.
    pub takes_an_end_alone: bool,
}

impl Default for ReceiverPolicy {
    fn default() -> Self {
        Self { fallback: None, rate_limit: None, takes_an_end_alone: true }
    }
}

/// Receivers by name, routes, and the heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    receivers: BTreeMap<String, ReceiverPolicy>,
    rules: Option<Arc<RuleSet>>,
    heartbeat: Option<Heartbeat>,
}

impl Policy {
    /// What the rules files say. Without transports, every receiver takes an end alone.
    pub fn new(rules: &Arc<RuleSet>) -> Self {
        let receivers = rules.receivers().iter().map(|(name, receiver)| {
            let policy = ReceiverPolicy {
                fallback: receiver.fallback.clone(),
                rate_limit: receiver.rate_limit,
                takes_an_end_alone: true,
            };
            (name.clone(), policy)
        });
        Self { receivers: receivers.collect(), heartbeat: rules.heartbeat().cloned(), rules: Some(rules.clone()) }
    }

    /// With what the transports themselves know.
    pub fn with_transports(mut self, transports: &Receivers) -> Self {
        for (name, transport) in transports {
            self.receivers.entry(name.clone()).or_default().takes_an_end_alone = transport.takes_an_end_alone();
        }
        self
    }

    /// This receiver gets every notification in order, ends without a beginning never.
    pub fn with_ends_in_order(mut self, receiver: &str) -> Self {
        self.receivers.entry(receiver.to_string()).or_default().takes_an_end_alone = false;
        self
    }

    /// These receivers, and no routes: everything is told once, at once.
    pub fn of_receivers(receivers: impl IntoIterator<Item = (String, ReceiverPolicy)>) -> Self {
        Self { receivers: receivers.into_iter().collect(), ..Self::default() }
    }

    pub fn receiver(&self, name: &str) -> Option<&ReceiverPolicy> {
        self.receivers.get(name)
    }

    pub fn heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref()
    }

    /// How routes want this notification told to this receiver.
    pub fn told(&self, notification: &Notification, receiver: &str) -> Told {
        self.rules.as_ref().map_or_else(Told::default, |rules| rules.told(notification, receiver))
    }

    /// Receivers that routes name for it now, whatever they were when it was derived.
    pub fn routes_now(&self, notification: &Notification) -> Vec<String> {
        self.rules.as_ref().map_or_else(Vec::new, |rules| rules.routes_now(notification))
    }

    /// Whether its rule still exists, so that somebody will tell the end of it.
    pub fn is_watched(&self, notification: &Notification) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.rules().iter().any(|rule| rule.name == notification.rule))
    }
}
