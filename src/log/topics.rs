//! Names and shapes of Driftline's own topics.

use super::TopicSpec;

/// Driftline's topics, all under one prefix.
#[derive(Debug, Clone)]
pub struct Topics {
    pub partials: String,
    pub panes: String,
    pub results: String,
    pub episodes: String,
    pub outbox: String,
    pub deliveries: String,
    pub dead_letter: String,
    pub late: String,
}

impl Topics {
    pub fn new(prefix: &str) -> Self {
        let name = |stem: &str| format!("{prefix}.{stem}");
        Self {
            partials: name("partials"),
            panes: name("panes"),
            results: name("results"),
            episodes: name("episodes"),
            outbox: name("outbox"),
            deliveries: name("deliveries"),
            dead_letter: name("dead-letter"),
            late: name("late"),
        }
    }

    /// `partitions` is the number of windows and dispatch workers that can share the load.
    pub fn specs(&self, partitions: i32, replication: i32) -> Vec<TopicSpec> {
        let day_ms = 86_400_000_i64;
        let spec = |name: &str, config: &[(&str, String)]| TopicSpec {
            name: name.to_string(),
            partitions,
            replication,
            config: config.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        };
        let keep = |days: i64| ("retention.ms", (days * day_ms).to_string());
        let compact = ("cleanup.policy", "compact".to_string());
        let compact_delete = ("cleanup.policy", "compact,delete".to_string());
        vec![
            spec(&self.partials, &[keep(3)]),
            spec(&self.panes, &[compact_delete, keep(60)]),
            spec(&self.results, &[keep(60)]),
            spec(&self.episodes, std::slice::from_ref(&compact)),
            spec(&self.outbox, &[keep(14)]),
            spec(&self.deliveries, std::slice::from_ref(&compact)),
            spec(&self.dead_letter, &[keep(14)]),
            spec(&self.late, &[keep(14)]),
        ]
    }
}
