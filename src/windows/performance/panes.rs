//! Panes of performance: what is known of the predictions of one stretch of event time, and of their labels so far.
//!
//! There are many of them, as they wait for labels, and most of them rest: a pane that was stored is kept as it was
//! encoded, which takes a fraction of what its counts take, until something is added to it again.

use std::collections::{BTreeMap, BTreeSet};

use crate::stats::performance::profile::{PerformanceLayout, PerformanceProfile};

use super::super::history::{next_version, of_model, of_stretch};
use super::super::pane::PaneKey;
use super::super::result::{Segment, Window};

/// One segment of one model version in one stretch of event time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pane {
    pub profile: PerformanceProfile,
    /// Something of it could not be read: it is not whole.
    pub damaged: bool,
}

impl Pane {
    fn new(layout: &PerformanceLayout) -> Self {
        Self { profile: PerformanceProfile::new(layout), damaged: false }
    }

    /// 1 where it is damaged, else 0; then the profile.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.damaged)];
        bytes.extend(self.profile.encode());
        bytes
    }

    fn decode(bytes: &[u8], layout: &PerformanceLayout) -> Result<Self, String> {
        let (damaged, profile) = bytes.split_first().ok_or("an empty record")?;
        let profile = PerformanceProfile::decode(profile, layout).map_err(|error| error.to_string())?;
        Ok(Self { profile, damaged: *damaged != 0 })
    }
}

#[derive(Debug)]
enum Held {
    Open(Box<Pane>),
    /// As in its record.
    Stored(Box<[u8]>),
}

#[derive(Debug, Default)]
pub(super) struct Panes {
    held: BTreeMap<PaneKey, Held>,
    /// Open or forgotten since the last call of `take_stored`.
    unstored: BTreeSet<PaneKey>,
    /// The widest of all panes so far, milliseconds.
    widest_ms: i64,
}

/// The panes of one window and segment put together.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    pub pane: Pane,
    /// The panes fit the window.
    pub fits: bool,
}

impl Panes {
    /// Adds an encoded profile. The error says why it could not be read; the pane is damaged then.
    pub fn merge(&mut self, key: &PaneKey, layout: &PerformanceLayout, state: &[u8]) -> Result<(), String> {
        self.widest_ms = self.widest_ms.max(key.pane_ms);
        if !self.unstored.contains(key) {
            self.unstored.insert(key.clone());
        }
        let (pane, was_read) = match self.held.remove(key) {
            Some(Held::Open(pane)) => (pane, Ok(())),
            Some(Held::Stored(bytes)) => match Pane::decode(&bytes, layout) {
                Ok(pane) => (Box::new(pane), Ok(())),
                Err(reason) => (Box::new(Pane { damaged: true, ..Pane::new(layout) }), Err(reason)),
            },
            None => (Box::new(Pane::new(layout)), Ok(())),
        };
        let mut pane = pane;
        let merged = PerformanceProfile::decode(state, layout).map_err(|error| error.to_string());
        let merged = merged.map(|profile| pane.profile.merge(&profile));
        pane.damaged |= merged.is_err();
        self.held.insert(key.clone(), Held::Open(pane));
        was_read.and(merged)
    }

    pub fn restore(&mut self, key: PaneKey, value: &[u8]) {
        self.widest_ms = self.widest_ms.max(key.pane_ms);
        self.held.insert(key, Held::Stored(value.into()));
    }

    pub fn of_model<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a PaneKey> {
        of_model(&self.held, model).map(|(key, _)| key)
    }

    /// Versions of the model that have panes, in order.
    pub fn versions(&self, model: &str) -> BTreeSet<&str> {
        let mut versions = BTreeSet::new();
        let mut last = None;
        while let Some(version) = next_version(&self.held, model, last) {
            versions.insert(version);
            last = Some(version);
        }
        versions
    }

    /// Keys of a version's panes that lie within `window`, at least in part.
    pub fn of_window<'a>(
        &'a self,
        model: &'a str,
        version: &'a str,
        window: Window,
    ) -> impl Iterator<Item = &'a PaneKey> {
        let starts = window.start_ms.saturating_sub(self.widest_ms)..window.end_ms;
        let panes = of_stretch(&self.held, model, version, starts).map(|(key, _)| key);
        panes.filter(move |key| key.window().end_ms > window.start_ms)
    }

    /// Adds the pane of this key to those of the window.
    pub fn add_to(
        &self,
        key: &PaneKey,
        window: Window,
        layout: &PerformanceLayout,
        merged: &mut BTreeMap<(Segment, String), Merged>,
    ) -> Result<(), String> {
        let place = (key.segment.clone(), key.reference_id.clone());
        let into = merged.entry(place).or_insert_with(|| Merged { pane: Pane::new(layout), fits: true });
        let pane = key.window();
        if pane.start_ms < window.start_ms || pane.end_ms > window.end_ms {
            // A pane of another width, from before a change of the configuration.
            into.fits = false;
            return Ok(());
        }
        let decoded;
        let pane = match self.held.get(key) {
            Some(Held::Open(pane)) => pane.as_ref(),
            Some(Held::Stored(bytes)) => {
                decoded = Pane::decode(bytes, layout).inspect_err(|_| into.pane.damaged = true)?;
                &decoded
            }
            None => return Ok(()),
        };
        into.pane.damaged |= pane.damaged;
        into.pane.profile.merge(&pane.profile);
        Ok(())
    }

    pub fn forget(&mut self, key: PaneKey) {
        self.held.remove(&key);
        self.unstored.insert(key);
    }

    /// Changes since the last call; `None`: forget it. What is stored rests.
    pub fn take_stored(&mut self) -> Vec<(PaneKey, Option<Vec<u8>>)> {
        let mut stored = Vec::with_capacity(self.unstored.len());
        for key in std::mem::take(&mut self.unstored) {
            let value = self.held.get_mut(&key).map(Held::store);
            stored.push((key, value));
        }
        stored
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Approximate memory, bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.held.iter().map(|(key, held)| cost(key) + held.allocated_bytes()).sum()
    }
}

impl Held {
    fn store(&mut self) -> Vec<u8> {
        let bytes = match self {
            Self::Open(pane) => pane.encode(),
            Self::Stored(bytes) => return bytes.to_vec(),
        };
        *self = Self::Stored(bytes.as_slice().into());
        bytes
    }

    fn allocated_bytes(&self) -> usize {
        match self {
            Self::Open(pane) => size_of::<Pane>() + pane.profile.allocated_bytes(),
            Self::Stored(bytes) => bytes.len(),
        }
    }
}

/// Of a key and its place in the map; two pointers of the tree stand for its overhead.
fn cost(key: &PaneKey) -> usize {
    let Segment { column, value } = &key.segment;
    let names = key.model.len() + key.version.len() + key.reference_id.len() + column.len() + value.len();
    size_of::<PaneKey>() + size_of::<Held>() + names + 2 * size_of::<usize>()
}
