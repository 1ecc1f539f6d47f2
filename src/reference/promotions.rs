//! Which reference of a name is in force, and which were before it: the file `current`, one line per change, newest
//! first, so that one rename changes both at once.
//!
//! ```text
//! 4fce73e1b36063df 2026-03-02T09:00:00Z promoted
//! 09ab55c0d1e2f3a4 2026-01-10T12:30:00Z promoted
//! ```

use chrono::{DateTime, SecondsFormat};

/// Changes kept; the oldest are dropped.
const MOST_CHANGES: usize = 1_000;

/// One change of what is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    pub id: String,
    /// Epoch milliseconds; `None`: from before changes were recorded.
    pub at_ms: Option<i64>,
    /// It came back by a rollback.
    pub rolled_back: bool,
}

/// Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promotions {
    changes: Vec<Promotion>,
}

impl Promotions {
    /// Reads the file; `None`: it is damaged.
    pub fn parse(text: &str) -> Option<Self> {
        let changes: Option<Vec<Promotion>> = text.lines().filter(|line| !line.trim().is_empty()).map(change).collect();
        Some(Self { changes: changes? })
    }

    pub fn write(&self) -> String {
        let line = |change: &Promotion| {
            let word = if change.rolled_back { "rolled-back" } else { "promoted" };
            match change.at_ms.and_then(DateTime::from_timestamp_millis) {
                Some(at) => format!("{} {} {word}\n", change.id, at.to_rfc3339_opts(SecondsFormat::Millis, true)),
                None => format!("{}\n", change.id),
            }
        };
        self.changes.iter().map(line).collect()
    }

    pub fn current(&self) -> Option<&Promotion> {
        self.changes.first()
    }

    /// Newest first.
    pub fn changes(&self) -> &[Promotion] {
        &self.changes
    }

    /// Puts `id` in force; nothing changes where it is already.
    pub fn promote(&mut self, id: &str, at_ms: i64) {
        if self.current().is_none_or(|current| current.id != id) {
            self.push(id, at_ms, false);
        }
    }

    /// What a rollback returns to: what was in force before the last promotion that no rollback has undone.
    pub fn before(&self) -> Option<&str> {
        let mut standing: Vec<&str> = Vec::new();
        for change in self.changes.iter().rev() {
            match change.rolled_back {
                true => drop(standing.pop()),
                false => standing.push(&change.id),
            }
        }
        standing.len().checked_sub(2).and_then(|before| standing.get(before)).copied()
    }

    /// Returns to [`Promotions::before`], and says to what.
    pub fn roll_back(&mut self, at_ms: i64) -> Option<String> {
        let before = self.before()?.to_string();
        self.push(&before, at_ms, true);
        Some(before)
    }

    fn push(&mut self, id: &str, at_ms: i64, rolled_back: bool) {
        self.changes.insert(0, Promotion { id: id.to_string(), at_ms: Some(at_ms), rolled_back });
        self.changes.truncate(MOST_CHANGES);
    }
}

fn change(line: &str) -> Option<Promotion> {
    let mut words = line.split_whitespace();
    let id = words.next()?.to_string();
    let (at, word) = (words.next(), words.next());
    let at_ms = match at {
        Some(at) => Some(DateTime::parse_from_rfc3339(at).ok()?.timestamp_millis()),
        None => None,
    };
    let rolled_back = match word {
        None | Some("promoted") => false,
        Some("rolled-back") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Promotion { id, at_ms, rolled_back })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollbacks_undo_promotions_one_by_one() {
        let mut promotions = Promotions::default();
        assert_eq!(promotions.roll_back(0), None);
        for (at_ms, id) in [(1, "a"), (2, "b"), (2, "b"), (3, "c")] {
            promotions.promote(id, at_ms);
        }
        assert_eq!(promotions.roll_back(4).as_deref(), Some("b"));
        assert_eq!(promotions.roll_back(5).as_deref(), Some("a"));
        assert_eq!(promotions.roll_back(6), None, "nothing was in force before a");
        promotions.promote("d", 7);
        assert_eq!(promotions.before(), Some("a"));
        let ids: Vec<&str> = promotions.changes().iter().map(|change| change.id.as_str()).collect();
        assert_eq!(ids, ["d", "a", "b", "c", "b", "a"]);
        assert_eq!(Promotions::parse(&promotions.write()), Some(promotions));
    }

    #[test]
    fn a_file_of_one_id_is_read_and_a_damaged_one_is_not() {
        let old = Promotions::parse("4fce73e1b36063df\n").unwrap();
        assert_eq!(old.current().map(|current| (current.id.as_str(), current.at_ms)), Some(("4fce73e1b36063df", None)));
        for damaged in ["a yesterday promoted", "a 2026-01-01T00:00:00Z lost", "a 2026-01-01T00:00:00Z promoted x"] {
            assert_eq!(Promotions::parse(damaged), None, "{damaged}");
        }
    }
}
