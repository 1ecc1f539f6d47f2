//! Whether this process does its work, and if not, why not in words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Named conditions, each met or not. Ready once there is at least one and all are met. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl Readiness {
    /// Declares a condition that is not met yet.
    pub fn wait_for(&self, condition: &str, reason: &str) {
        self.set(condition, Some(reason.to_string()));
    }

    /// A condition that is no longer asked for: its role does not run any more.
    pub fn forget(&self, condition: &str) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.remove(condition);
    }

    pub fn met(&self, condition: &str) {
        self.set(condition, None);
    }

    fn set(&self, condition: &str, reason: Option<String>) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.insert(condition.to_string(), reason);
    }

    /// Why this condition is not met; `None` where it is, or is not asked for.
    pub fn reason(&self, condition: &str) -> Option<String> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.get(condition).cloned().flatten()
    }

    /// `Err` holds a line `condition: reason` for each that is not met.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        if conditions.is_empty() {
            return Err(vec!["service: starting".into()]);
        }
        let unmet: Vec<String> = conditions
            .iter()
            .filter_map(|(condition, reason)| reason.as_ref().map(|reason| format!("{condition}: {reason}")))
            .collect();
        if unmet.is_empty() { Ok(()) } else { Err(unmet) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_ready_names_each_unmet_condition_until_all_are_met() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Err(vec!["service: starting".to_string()]));
        readiness.wait_for("kafka", "no broker can be reached");
        readiness.wait_for("pages", "reading the log");
        assert_eq!(
            readiness.check(),
            Err(vec!["kafka: no broker can be reached".to_string(), "pages: reading the log".to_string()])
        );
        readiness.met("pages");
        assert_eq!(readiness.check(), Err(vec!["kafka: no broker can be reached".to_string()]));
        readiness.clone().met("kafka");
        assert_eq!(readiness.check(), Ok(()));
    }
}
