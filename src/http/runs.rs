//! Runs of actions in the pages' read model, bounded: what is dropped is the oldest, and finished ones first.

use std::collections::BTreeMap;

use crate::dispatch::actions::run::RunRecord;

#[derive(Debug, Default)]
pub struct Runs {
    by_run: BTreeMap<String, RunRecord>,
}

impl Runs {
    /// Takes a run's record in; an older one than the one held is ignored. At most `most` runs are held.
    pub fn apply(&mut self, record: RunRecord, most: usize) {
        if self.by_run.get(&record.run).is_some_and(|held| held.revision > record.revision) {
            return;
        }
        self.by_run.insert(record.run.clone(), record);
        if self.by_run.len() > most {
            let oldest = self.by_run.values().min_by_key(|run| (!run.state.is_final(), run.since_ms()));
            if let Some(run) = oldest.map(|run| run.run.clone()) {
                self.by_run.remove(&run);
            }
        }
    }

    pub fn get(&self, run: &str) -> Option<&RunRecord> {
        self.by_run.get(run)
    }

    /// The newest change first.
    pub fn newest(&self) -> Vec<&RunRecord> {
        let mut runs: Vec<&RunRecord> = self.by_run.values().collect();
        runs.sort_by_key(|run| (std::cmp::Reverse(run.since_ms()), &run.run));
        runs
    }

    pub fn of_episode<'a>(&'a self, episode_id: &'a str) -> impl Iterator<Item = &'a RunRecord> {
        self.by_run.values().filter(move |run| run.request.episode_id == episode_id)
    }
}
