//! What splits events into segments: the values of one categorical feature, or of two together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `country`, or `[country, device]` for the values of both together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SegmentColumns {
    One(String),
    Pair([String; 2]),
}

/// Stands between the two parts of a pair's name and value; within a part a backslash stands before it.
const SEPARATOR: char = ',';
const ESCAPE: char = '\\';

impl SegmentColumns {
    /// Names of the features, of a pair in alphabetical order: the order in which it is written does not matter.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = match self {
            SegmentColumns::One(column) => vec![column],
            SegmentColumns::Pair(columns) => columns.iter().map(String::as_str).collect(),
        };
        columns.sort_unstable();
        columns
    }

    /// The name that stands in results, alerts and rules: `country`, `country,device`.
    pub fn name(&self) -> String {
        match self.columns().as_slice() {
            [first, second] => join(first, second),
            columns => columns.concat(),
        }
    }

    pub fn is_pair(&self) -> bool {
        matches!(self, SegmentColumns::Pair(_))
    }
}

/// As written in a file: `country`, `[country, device]`.
impl std::fmt::Display for SegmentColumns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SegmentColumns::One(column) => formatter.write_str(column),
            SegmentColumns::Pair([first, second]) => write!(formatter, "[{first}, {second}]"),
        }
    }
}

/// Name or value of a pair of segments, from those of its two columns.
pub fn join(first: &str, second: &str) -> String {
    let mut joined = String::with_capacity(first.len() + second.len() + 1);
    for (index, part) in [first, second].into_iter().enumerate() {
        if index > 0 {
            joined.push(SEPARATOR);
        }
        for character in part.chars() {
            if matches!(character, SEPARATOR | ESCAPE) {
                joined.push(ESCAPE);
            }
            joined.push(character);
        }
    }
    joined
}

/// The two parts of [`join`]; `None` for text that it does not write.
pub fn split(joined: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut characters = joined.chars();
    while let Some(character) = characters.next() {
        match character {
            SEPARATOR => parts.push(String::new()),
            ESCAPE => {
                let escaped = characters.next().filter(|next| matches!(*next, SEPARATOR | ESCAPE))?;
                parts.last_mut()?.push(escaped);
            }
            other => parts.last_mut()?.push(other),
        }
    }
    let [first, second] = <[String; 2]>::try_from(parts).ok()?;
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_reads_back_whatever_its_parts_hold() {
        let parts = ["DE", "", "a,b", "\\", "a\\,b", "=|,"];
        for first in parts {
            for second in parts {
                let joined = join(first, second);
                assert_eq!(split(&joined), Some((first.to_string(), second.to_string())), "{joined}");
            }
        }
        for single in ["DE", "a\\", "a,b,c", "a\\b,c"] {
            assert_eq!(split(single), None, "{single}");
        }
    }

    #[test]
    fn the_order_of_a_pair_does_not_matter() {
        let pair = |first: &str, second: &str| SegmentColumns::Pair([first.into(), second.into()]);
        assert_eq!(pair("device", "country").name(), "country,device");
        assert_eq!(pair("country", "device").name(), "country,device");
        assert_eq!(SegmentColumns::One("country".into()).name(), "country");
        assert_eq!(pair("device", "country").to_string(), "[device, country]");
    }
}
