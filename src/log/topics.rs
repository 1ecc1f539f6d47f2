//! Names and shapes of Driftline's own topics.

use super::TopicSpec;

const DEFAULT_LABEL_DELAY_MS: i64 = 7 * 86_400_000;

/// Driftline's topics, all under one prefix.
#[derive(Debug, Clone)]
pub struct Topics {
    pub partials: String,
    pub joins: String,
    pub panes: String,
    pub results: String,
    pub episodes: String,
    pub outbox: String,
    pub deliveries: String,
    pub dead_letter: String,
    pub late: String,
    pub join_checkpoints: String,
}

impl Topics {
    pub fn new(prefix: &str) -> Self {
        let name = |stem: &str| format!("{prefix}.{stem}");
        Self {
            partials: name("partials"),
            joins: name("joins"),
            panes: name("panes"),
            results: name("results"),
            episodes: name("episodes"),
            outbox: name("outbox"),
            deliveries: name("deliveries"),
            dead_letter: name("dead-letter"),
            late: name("late"),
            join_checkpoints: name("join-checkpoints"),
        }
    }

    /// [`specs_for`](Self::specs_for) models whose labels come within the week that is the default.
    pub fn specs(&self, partitions: i32, replication: i32) -> Vec<TopicSpec> {
        self.specs_for(partitions, replication, DEFAULT_LABEL_DELAY_MS)
    }

    /// `partitions` is the number of join, windows and dispatch workers that can share the load, `label_delay_ms` the
    /// longest label delay of all models.
    pub fn specs_for(&self, partitions: i32, replication: i32, label_delay_ms: i64) -> Vec<TopicSpec> {
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
            // A label that comes at the end of the delay is kept for corrections as long again, and the join reads all of
            // it again at a restart; then three days in which nothing may run, as for `partials`.
            spec(
                &self.joins,
                &[("retention.ms", (label_delay_ms.saturating_mul(2).saturating_add(3 * day_ms)).to_string())],
            ),
            spec(&self.panes, &[compact_delete, keep(60)]),
            spec(&self.results, &[keep(60)]),
            spec(&self.episodes, std::slice::from_ref(&compact)),
            spec(&self.outbox, &[keep(14)]),
            spec(&self.deliveries, std::slice::from_ref(&compact)),
            spec(&self.dead_letter, &[keep(14)]),
            spec(&self.late, &[keep(14)]),
            spec(&self.join_checkpoints, std::slice::from_ref(&compact)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_wait_in_the_log_as_long_as_the_longest_delay_asks() {
        let kept_ms = |specs: &[TopicSpec]| -> Vec<(String, String)> {
            let joins = specs.iter().filter(|spec| spec.name == "app.joins");
            joins.flat_map(|spec| spec.config.clone()).collect()
        };
        let topics = Topics::new("app");
        let days = |days: i64| vec![("retention.ms".to_string(), (days * 86_400_000).to_string())];
        assert_eq!(kept_ms(&topics.specs(2, 1)), days(17));
        assert_eq!(kept_ms(&topics.specs_for(2, 1, 30 * 86_400_000)), days(63));
    }
}
