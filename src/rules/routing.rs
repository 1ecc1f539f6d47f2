//! How routes want a notification told: again while it fires, or collected with others.

use super::RuleSet;
use super::compile::Rule;
use super::episode::Notification;
use super::matching;
use crate::config::glob;
use crate::config::rules::{Heartbeat, Route};
use crate::config::units::Span;

/// How one receiver is told of one notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Told again this often while it fires.
    pub repeat: Option<Span>,
    /// Collected, and sent this often.
    pub digest: Option<Span>,
}

impl RuleSet {
    /// By every matching route that leads to the receiver: the shortest time counts, and one without `digest` means at
    /// once. A receiver that no route names for this severity was named for another one of the episode; the routes that
    /// did so count then.
    pub fn told(&self, notification: &Notification, receiver: &str) -> Told {
        let leads = |route: &&Route| route.to.iter().any(|name| name == receiver);
        let mut routes: Vec<&Route> =
            self.routes.iter().filter(leads).filter(|route| matching::matches(&route.matcher, notification)).collect();
        if routes.is_empty() {
            let whatever_severity = |route: &&Route| {
                let matcher = &route.matcher;
                let model = matcher.model.as_deref().map(|model| model.split('@').next().unwrap_or_default());
                matcher.rule.as_deref().is_none_or(|rule| glob::matches(rule, &notification.rule))
                    && model.is_none_or(|model| glob::matches(model, &notification.model))
            };
            routes = self.routes.iter().filter(leads).filter(whatever_severity).collect();
        }
        let at_once = routes.iter().any(|route| route.digest.is_none());
        let digest = if at_once { None } else { routes.iter().filter_map(|route| route.digest).min() };
        let repeat = if digest.is_some() { None } else { routes.iter().filter_map(|route| route.repeat).min() };
        Told { repeat, digest }
    }

    /// Receivers of every route that matches it, in the order of routes, each once.
    pub fn routes_now(&self, notification: &Notification) -> Vec<String> {
        let mut receivers: Vec<String> = Vec::new();
        for route in self.routes.iter().filter(|route| matching::matches(&route.matcher, notification)) {
            for receiver in &route.to {
                if !receivers.contains(receiver) {
                    receivers.push(receiver.clone());
                }
            }
        }
        receivers
    }

    pub fn heartbeat(&self) -> Option<&Heartbeat> {
        self.heartbeat.as_ref()
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}
