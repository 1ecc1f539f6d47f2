//! A file without the parts whose shape is wrong, so that the rest of it can be checked in the same pass.
//!
//! What is removed is the smallest part that makes the rest valid. Items of lists keep their numbers for messages:
//! `Pruned::original` turns a pointer into the pruned value into one into the file. Whatever a check finds in an item that
//! lost a part may come of that loss alone: `is_damaged` tells, and such findings are dropped.

use std::collections::BTreeMap;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::yaml::child;

/// Rounds of removal: a part that is removed may be one that its parent needs, and so on up.
const MAX_ROUNDS: usize = 12;

/// Mappings whose entries are named elsewhere: an entry stays, empty, so that its name is known.
const NAMED: [&str; 2] = ["/receivers/", "/actions/"];

/// Mappings and lists whose items are judged apart.
const ITEMS: [&str; 15] = [
    "rules",
    "receivers",
    "actions",
    "routes",
    "inhibit",
    "silences",
    "features",
    "references",
    "tests",
    // Of a gate file: each limit stands for itself.
    "metrics",
    "data",
    "slices",
    "latency",
    "size",
    "require",
];

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pruned {
    pub value: Value,
    /// Of each list that lost items, by its pointer in the file: the numbers in the file of those that stayed.
    kept: BTreeMap<String, Vec<usize>>,
    /// Pointers in the file of items that lost a part.
    damaged: Vec<String>,
}

impl Pruned {
    /// Nothing removed.
    pub fn whole(value: Value) -> Self {
        Self { value, ..Self::default() }
    }

    /// `None` if nothing useful is left.
    pub fn of(validator: &Validator, value: &Value) -> Option<Self> {
        let mut pruned = Self::whole(value.clone());
        for _ in 0..MAX_ROUNDS {
            let mut wrong: Vec<String> = validator.iter_errors(&pruned.value).flat_map(|error| parts(&error)).collect();
            if wrong.is_empty() {
                return Some(pruned);
            }
            // The last items of lists first, so that the numbers of those before them stay.
            wrong.sort_by_key(|pointer| std::cmp::Reverse(numbered(pointer)));
            wrong.dedup();
            for pointer in wrong {
                pruned.remove(&pointer)?;
            }
        }
        None
    }

    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether an item at or below `prefix` lost a part.
    pub fn lost(&self, prefix: &str) -> bool {
        self.damaged.iter().any(|item| item.starts_with(prefix))
    }

    /// A pointer into the file for one into `value`.
    pub fn original(&self, pointer: &str) -> String {
        let mut original = String::new();
        for part in pointer.split('/').skip(1) {
            let number = self.kept.get(&original).and_then(|kept| kept.get(part.parse::<usize>().ok()?));
            original.push('/');
            match number {
                Some(number) => original.push_str(&number.to_string()),
                None => original.push_str(part),
            }
        }
        original
    }

    /// Whether `pointer`, one into `value`, lies in an item that lost a part.
    pub fn is_damaged(&self, pointer: &str) -> bool {
        let item = item_of(&self.original(pointer));
        self.damaged.contains(&item)
    }

    fn remove(&mut self, pointer: &str) -> Option<()> {
        if pointer.is_empty() {
            return None;
        }
        let original = self.original(pointer);
        self.damaged.push(item_of(&original));
        let (parent, last) = pointer.rsplit_once('/')?;
        let is_named = NAMED.iter().any(|of| pointer.strip_prefix(of).is_some_and(|name| !name.contains('/')));
        match self.value.pointer_mut(parent)? {
            Value::Object(object) => {
                let key = last.replace("~1", "/").replace("~0", "~");
                match object.get_mut(&key) {
                    Some(entry) if is_named && !entry.as_object().is_some_and(serde_json::Map::is_empty) => {
                        *entry = Value::Object(serde_json::Map::new());
                    }
                    _ => drop(object.remove(&key)),
                }
            }
            Value::Array(items) => {
                let index: usize = last.parse().ok()?;
                if index < items.len() {
                    let count = items.len();
                    items.remove(index);
                    let list = original.rsplit_once('/').map_or(String::new(), |(list, _)| list.to_string());
                    self.kept.entry(list).or_insert_with(|| (0..count).collect()).remove(index);
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// What must go for this error to be gone.
fn parts(error: &jsonschema::ValidationError<'_>) -> Vec<String> {
    let pointer = error.instance_path().as_str().to_string();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|key| child(&pointer, key)).collect()
        }
        _ => vec![pointer],
    }
}

/// For sorting: numbers as numbers.
fn numbered(pointer: &str) -> Vec<(usize, String)> {
    pointer.split('/').map(|part| part.parse::<usize>().map_or((0, part.to_string()), |n| (n, String::new()))).collect()
}

/// `/rules/3` of `/rules/3/when/warn`; the first key of anything else.
fn item_of(pointer: &str) -> String {
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    match parts.as_slice() {
        ["http", "tokens", item, ..] => format!("/http/tokens/{item}"),
        [list, item, ..] if ITEMS.contains(list) => format!("/{list}/{item}"),
        [first, ..] => format!("/{first}"),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::rules::RuleFile;
    use crate::config::schema;

    #[test]
    fn what_is_wrong_goes_and_the_rest_keeps_its_numbers() {
        let file = json!({
            "version": 1,
            "rules": [{"model": "fraud"}, {"name": "b", "model": "fraud", "window": 5, "segments": [1, "country"]}],
            "receivers": {"oncall": {"email": {}}, "hook": 3},
        });
        let validator = jsonschema::validator_for(&schema::of::<RuleFile>()).unwrap();
        let pruned = Pruned::of(&validator, &file).unwrap();
        let expected = json!({
            "version": 1,
            "rules": [{"name": "b", "model": "fraud", "segments": ["country"]}],
            "receivers": {"oncall": {}, "hook": {}},
        });
        assert_eq!(pruned.value, expected);
        assert_eq!(pruned.original("/rules/0/segments/0"), "/rules/1/segments/1");
        assert!(pruned.is_damaged("/rules/0/name") && pruned.is_damaged("/receivers/hook"));
        assert!(!pruned.is_damaged("/routes/0") && !pruned.is_whole());
    }
}
