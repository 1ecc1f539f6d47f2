//! What a pane keeps of one query: encoded states as flushes bring them, put together now and then.
//!
//! A pane knows nothing of queries: it takes states in and gives them on. Whoever has the query merges them
//! ([`SqlState::compact`]) and makes a value of them ([`SqlQuery::value`]).

use serde::{Deserialize, Serialize};

use super::query::SqlQuery;
use crate::stats::varint::{self, Reader};

/// More states than this are put together.
const MOST_PARTS: usize = 8;

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoValue {
    /// NULL, NaN or infinite.
    Undefined,
    /// Events of the window came before the query was asked.
    NotCollected,
    /// The query failed on an event: a text that is no number, an integer divided by zero.
    QueryFailed,
    /// Its state outgrew [`super::MAX_STATE_BYTES`].
    StateTooLarge,
}

/// The state of one query in one pane of one segment. Merges in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SqlState {
    /// Events that it is of.
    pub rows: u64,
    /// As [`SqlQuery::encode`] writes them.
    pub parts: Vec<Vec<u8>>,
    /// It has no value any more, and `parts` is empty.
    pub given_up: Option<NoValue>,
}

/// What stands in a flush for a state that there is none of.
pub fn given_up(reason: NoValue) -> Vec<u8> {
    vec![code(reason)]
}

fn code(reason: NoValue) -> u8 {
    match reason {
        NoValue::Undefined => 1,
        NoValue::NotCollected => 2,
        NoValue::QueryFailed => 3,
        NoValue::StateTooLarge => 4,
    }
}

fn of_code(code: u8) -> Option<NoValue> {
    match code {
        1 => Some(NoValue::Undefined),
        2 => Some(NoValue::NotCollected),
        3 => Some(NoValue::QueryFailed),
        4 => Some(NoValue::StateTooLarge),
        _ => None,
    }
}

impl SqlState {
    /// Takes in what a flush brings: an encoded state, nothing where `WHERE` let no event through, or one byte that says
    /// why there is none.
    pub fn add(&mut self, rows: u64, state: &[u8]) {
        self.rows += rows;
        match state {
            [] => {}
            [code] => self.give_up(of_code(*code).unwrap_or(NoValue::QueryFailed)),
            state if self.given_up.is_none() => self.parts.push(state.to_vec()),
            _ => {}
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        match (self.given_up, other.given_up) {
            (_, Some(reason)) => self.give_up(reason),
            (None, None) => self.parts.extend(other.parts.iter().cloned()),
            (Some(_), None) => {}
        }
    }

    fn give_up(&mut self, reason: NoValue) {
        self.given_up = Some(self.given_up.map_or(reason, |known| known.max(reason)));
        self.parts = Vec::new();
    }

    pub fn is_compact(&self) -> bool {
        self.parts.len() <= 1
    }

    pub fn wants_compaction(&self) -> bool {
        let bytes: usize = self.parts.iter().map(Vec::len).sum();
        !self.is_compact() && (self.parts.len() >= MOST_PARTS || bytes > super::MAX_STATE_BYTES)
    }

    /// Puts the states together, and gives up if the whole is too large.
    pub fn compact(&mut self, query: &SqlQuery) {
        if self.is_compact() {
            return;
        }
        match query.merge(&self.parts) {
            Ok(whole) if whole.len() <= super::MAX_STATE_BYTES => self.parts = vec![whole],
            Ok(_) => self.give_up(NoValue::StateTooLarge),
            Err(_) => self.give_up(NoValue::QueryFailed),
        }
    }

    pub fn allocated_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len() + size_of::<Vec<u8>>()).sum()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::write(self.rows, &mut bytes);
        bytes.push(self.given_up.map_or(0, code));
        varint::write(self.parts.len() as u64, &mut bytes);
        for part in &self.parts {
            varint::write(part.len() as u64, &mut bytes);
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// `None` for bytes that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let rows = reader.varint()?;
        let given_up = match reader.byte()? {
            0 => None,
            code => Some(of_code(code)?),
        };
        let mut parts = Vec::new();
        for _ in 0..reader.varint_up_to(bytes.len() as u64)? {
            let length = usize::try_from(reader.varint()?).ok()?;
            parts.push(reader.bytes(length)?.to_vec());
        }
        (reader.remaining() == 0).then_some(Self { rows, parts, given_up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_given_up_stays_so_whatever_comes() {
        let mut state = SqlState::default();
        state.add(10, b"state of ten rows");
        let mut other = SqlState::default();
        other.add(5, &given_up(NoValue::StateTooLarge));
        other.add(2, b"state of two rows");
        state.merge(&other);
        assert_eq!((state.rows, state.given_up), (17, Some(NoValue::StateTooLarge)));
        assert!(state.parts.is_empty());
        assert_eq!(SqlState::decode(&state.encode()), Some(state));
    }

    #[test]
    fn damaged_bytes_are_no_state() {
        let mut state = SqlState::default();
        state.add(300, b"one");
        state.add(0, b"");
        state.add(7, b"another");
        let bytes = state.encode();
        assert_eq!(SqlState::decode(&bytes), Some(state));
        for length in 0..bytes.len() {
            assert_eq!(SqlState::decode(&bytes[..length]), None, "cut at {length}");
        }
    }
}
