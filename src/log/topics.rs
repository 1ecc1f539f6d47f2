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
    pub control: String,
    pub actions: String,
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
            control: name("control"),
            actions: name("actions"),
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
        let panes_ms = (60 * day_ms).max(label_delay_ms.saturating_add(30 * day_ms));
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
            // Panes of performance rest while they wait for labels; then as long again as anyone may be late.
            spec(&self.panes, &[compact_delete, ("retention.ms", panes_ms.to_string())]),
            spec(&self.results, &[keep(60)]),
            spec(&self.episodes, std::slice::from_ref(&compact)),
            spec(&self.outbox, &[keep(14)]),
            spec(&self.deliveries, std::slice::from_ref(&compact)),
            // What people command is for every process, in one order.
            TopicSpec { partitions: 1, ..spec(&self.control, &[keep(90)]) },
            spec(&self.actions, std::slice::from_ref(&compact)),
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
        let kept_ms_of = |name: &str, specs: &[TopicSpec]| -> Vec<(String, String)> {
            let config = specs.iter().filter(|spec| spec.name == name).flat_map(|spec| spec.config.clone());
            config.filter(|(key, _)| key == "retention.ms").collect()
        };
        let kept_ms = |specs: &[TopicSpec]| kept_ms_of("app.joins", specs);
        let topics = Topics::new("app");
        let days = |days: i64| vec![("retention.ms".to_string(), (days * 86_400_000).to_string())];
        assert_eq!(kept_ms(&topics.specs(2, 1)), days(17));
        assert_eq!(kept_ms(&topics.specs_for(2, 1, 30 * 86_400_000)), days(63));
        assert_eq!(kept_ms_of("app.panes", &topics.specs(2, 1)), days(60));
        assert_eq!(kept_ms_of("app.panes", &topics.specs_for(2, 1, 90 * 86_400_000)), days(120));
    }
}
