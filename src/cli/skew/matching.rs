//! Which online row belongs to which offline row.
//!
//! By id: the last row of each id on both sides. By entity and time, as a point-in-time join defines it: of the
//! offline rows of the entity the latest at or before the online row's time, unless it is older than the maximum age
//! (both ends included); of offline rows of one time the one created last, else the last one in the file.

use hashbrown::{HashMap, HashSet};

use super::SkewError;
use super::side::Side;
use crate::reference::table::{CategoryIndex, MISSING};

/// No row.
pub const NONE: u32 = u32::MAX;

/// How rows are matched, with the columns of each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Online and offline name of each key.
    pub keys: Vec<(String, String)>,
    pub time: Option<TimePlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePlan {
    pub online: String,
    pub offline: String,
    /// When an offline row was written: of two rows of one time the one written later counts.
    pub created: Option<String>,
    pub max_age_ms: Option<i64>,
}

/// Rows that did or did not find a partner.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    pub matched: usize,
    pub online_without_key: usize,
    pub online_without_time: usize,
    /// Rows of the same key (and time) as a later one, which counts instead.
    pub online_duplicates: usize,
    /// Rows whose key the offline side does not have, or only later.
    pub online_unmatched: usize,
    /// Rows whose only offline rows are older than the maximum age.
    pub online_outside_max_age: usize,
    pub offline_without_key: usize,
    pub offline_without_time: usize,
    pub offline_duplicates: usize,
    /// Keys, and those of them that are in no online row.
    pub offline_keys: usize,
    pub offline_unmatched_keys: usize,
}

pub struct Matching {
    pub counts: Counts,
    /// Offline row by online row, or `NONE`.
    pub partners: Vec<u32>,
    pub online_times: Option<Vec<Option<i64>>>,
    pub offline_times: Option<Vec<Option<i64>>>,
    names: Vec<String>,
    online_keys: Vec<(Vec<u32>, CategoryIndex)>,
}

impl Matching {
    /// The online row's key, as people read it.
    pub fn key(&self, row: usize) -> String {
        let parts = self.names.iter().zip(&self.online_keys).map(|(name, (codes, index))| {
            let text = index.names().get(codes[row] as usize).map_or("missing", String::as_str);
            format!("{name} {text}")
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// One side's rows that can be matched, in order of (key, time, created, row).
struct Sorted {
    rows: Vec<u32>,
    keys: Vec<u32>,
    times: Option<Vec<Option<i64>>>,
}

impl Sorted {
    fn time(&self, row: u32) -> i64 {
        self.times.as_ref().and_then(|times| times[row as usize]).unwrap_or(0)
    }

    fn place(&self, row: u32) -> (u32, i64) {
        (self.keys[row as usize], self.time(row))
    }

    /// Whether the next row has the same key and time, and so counts instead.
    fn is_replaced(&self, position: usize) -> bool {
        self.rows.get(position + 1).is_some_and(|next| self.place(self.rows[position]) == self.place(*next))
    }

    fn duplicates(&self) -> usize {
        (0..self.rows.len()).filter(|position| self.is_replaced(*position)).count()
    }
}

pub fn find(plan: &Plan, online: &Side, offline: &Side) -> Result<Matching, SkewError> {
    let mut shared: Vec<CategoryIndex> = Vec::new();
    let mut online_keys = Vec::with_capacity(plan.keys.len());
    let mut offline_codes = Vec::with_capacity(plan.keys.len());
    for (online_name, offline_name) in &plan.keys {
        let mut index = CategoryIndex::default();
        let (codes, names) = online.texts(online_name)?;
        let online_column = translate(&codes, &names, &mut index);
        let (codes, names) = offline.texts(offline_name)?;
        offline_codes.push(translate(&codes, &names, &mut index));
        online_keys.push(online_column);
        shared.push(index);
    }
    let mut combined = HashMap::new();
    let online_combined = combine(&online_keys, online.rows, &mut combined);
    let offline_combined = combine(&offline_codes, offline.rows, &mut combined);
    drop(offline_codes);

    let mut counts = Counts::default();
    let time = plan.time.as_ref();
    let online_times = time.map(|time| online.epoch_ms(&time.online)).transpose()?;
    let offline_times = time.map(|time| offline.epoch_ms(&time.offline)).transpose()?;
    let created = match time.and_then(|time| time.created.as_ref()) {
        Some(name) => Some(offline.epoch_ms(name)?),
        None => None,
    };
    let (online_rows, without) = sort(online_combined, online_times, None);
    (counts.online_without_key, counts.online_without_time) = without;
    let (offline_rows, without) = sort(offline_combined, offline_times, created.as_deref());
    (counts.offline_without_key, counts.offline_without_time) = without;
    counts.online_duplicates = online_rows.duplicates();
    counts.offline_duplicates = offline_rows.duplicates();

    let max_age_ms = time.and_then(|time| time.max_age_ms);
    let partners = join(&online_rows, &offline_rows, online.rows, max_age_ms, &mut counts);
    let seen: HashSet<u32> = online_rows.rows.iter().map(|row| online_rows.keys[*row as usize]).collect();
    let offline_keys: HashSet<u32> = offline_rows.rows.iter().map(|row| offline_rows.keys[*row as usize]).collect();
    counts.offline_keys = offline_keys.len();
    counts.offline_unmatched_keys = offline_keys.iter().filter(|key| !seen.contains(*key)).count();
    Ok(Matching {
        counts,
        partners,
        online_times: online_rows.times,
        offline_times: offline_rows.times,
        names: plan.keys.iter().map(|(online, _)| online.clone()).collect(),
        online_keys: online_keys.into_iter().zip(shared).collect(),
    })
}

/// Codes of one side's texts in the index of both.
fn translate(codes: &[u32], names: &CategoryIndex, shared: &mut CategoryIndex) -> Vec<u32> {
    let table: Vec<u32> = names
        .names()
        .iter()
        .map(|name| match name.strip_suffix(".0") {
            Some(digits) if digits.parse::<i64>().is_ok() => shared.code(digits),
            _ => shared.code(name),
        })
        .collect();
    codes.iter().map(|code| table.get(*code as usize).copied().unwrap_or(MISSING)).collect()
}

/// One code a row for all key columns together; `MISSING` where one of them is missing.
fn combine(columns: &[Vec<u32>], rows: usize, known: &mut HashMap<Vec<u32>, u32>) -> Vec<u32> {
    if let [only] = columns {
        return only.clone();
    }
    let mut key = Vec::with_capacity(columns.len());
    let mut code_of = |row: usize| {
        key.clear();
        key.extend(columns.iter().map(|codes| codes[row]));
        if key.contains(&MISSING) {
            return MISSING;
        }
        if let Some(code) = known.get(&key) {
            return *code;
        }
        let code = known.len() as u32;
        known.insert(key.clone(), code);
        code
    };
    (0..rows).map(&mut code_of).collect()
}

/// The rows with key and time, sorted; how many lack the one and how many the other.
fn sort(keys: Vec<u32>, times: Option<Vec<Option<i64>>>, created: Option<&[Option<i64>]>) -> (Sorted, (usize, usize)) {
    let without_key = keys.iter().filter(|key| **key == MISSING).count();
    let has_time = |row: u32| times.as_ref().is_none_or(|times| times[row as usize].is_some());
    let mut rows: Vec<u32> =
        (0..keys.len() as u32).filter(|row| keys[*row as usize] != MISSING && has_time(*row)).collect();
    let without_time = keys.len() - without_key - rows.len();
    let mut sorted = Sorted { rows: Vec::new(), keys, times };
    rows.sort_unstable_by_key(|row| {
        let created = created.and_then(|created| created[*row as usize]).unwrap_or(i64::MIN);
        (sorted.place(*row), created, *row)
    });
    sorted.rows = rows;
    (sorted, (without_key, without_time))
}

fn join(online: &Sorted, offline: &Sorted, rows: usize, max_age_ms: Option<i64>, counts: &mut Counts) -> Vec<u32> {
    let mut partners = vec![NONE; rows];
    // Both are sorted by key and time: one pass meets them.
    let mut next = 0;
    for (position, row) in online.rows.iter().enumerate() {
        let (key, time) = online.place(*row);
        while offline.rows.get(next).is_some_and(|candidate| offline.place(*candidate) <= (key, time)) {
            next += 1;
        }
        if online.is_replaced(position) {
            continue;
        }
        let latest = next.checked_sub(1).map(|before| offline.rows[before]).filter(|row| offline.place(*row).0 == key);
        match latest {
            None => counts.online_unmatched += 1,
            Some(partner) if max_age_ms.is_some_and(|most| time.saturating_sub(offline.time(partner)) > most) => {
                counts.online_outside_max_age += 1;
            }
            Some(partner) => {
                counts.matched += 1;
                partners[*row as usize] = partner;
            }
        }
    }
    partners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(rows: &[(u32, i64)]) -> Sorted {
        let keys = rows.iter().map(|(key, _)| *key).collect();
        let times = rows.iter().map(|(_, time)| Some(*time)).collect();
        sort(keys, Some(times), None).0
    }

    #[test]
    fn the_latest_row_at_or_before_is_the_partner() {
        let offline = sorted(&[(1, 300), (1, 100), (2, 50), (1, 200), (1, 200)]);
        let online = sorted(&[(1, 99), (1, 100), (1, 250), (1, 250), (2, 1_050), (2, 1_051), (3, 0)]);
        let mut counts = Counts::default();
        let partners = join(&online, &offline, 7, Some(1_000), &mut counts);
        // Of the two offline rows at 200 the later one in the file; of the two online ones at 250 the later one too.
        assert_eq!(partners, [NONE, 1, NONE, 4, 2, NONE, NONE]);
        assert_eq!((counts.matched, counts.online_unmatched, counts.online_outside_max_age), (3, 2, 1));
        assert_eq!((online.duplicates(), offline.duplicates()), (1, 1));
    }

    #[test]
    fn of_rows_of_one_time_the_one_created_last_counts() {
        let created = [Some(9), Some(5)];
        let (offline, _) = sort(vec![1, 1], Some(vec![Some(100), Some(100)]), Some(&created));
        let partners = join(&sorted(&[(1, 100)]), &offline, 1, None, &mut Counts::default());
        assert_eq!(partners, [0]);
    }

    #[test]
    fn whole_numbers_are_one_key_however_they_are_written() {
        let mut texts = CategoryIndex::default();
        let codes: Vec<u32> = ["7.0", "7", "7.5", "v1.0"].iter().map(|text| texts.code(text)).collect();
        let mut shared = CategoryIndex::default();
        assert_eq!(translate(&codes, &texts, &mut shared), [0, 0, 1, 2]);
        assert_eq!(shared.names(), ["7", "7.5", "v1.0"]);
    }
}
