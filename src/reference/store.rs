//! References as files: `<model>/<name>/<id>.json`, and `<model>/<name>/current` with the id in force and those before.
//!
//! Files are written beside their place, synchronised and renamed, so that a reader sees a whole file or none; a
//! reference never changes once written, since its name is the hash of its content.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::performance::stored::StoredPerformance;
use super::promotions::Promotions;
use super::segments::{SegmentKey, SegmentReferences};
use super::stored_vector::StoredVector;
use super::{FeatureReference, Reference, Source};
use crate::stats::calibration::Calibration;
use crate::stats::layout::{CategoricalLayout, Layout, NumericLayout, ValueRange};
use crate::stats::profile::Profile;
use crate::stats::span::Span;

/// Version of the file format.
const FORMAT: u32 = 3;
const CURRENT: &str = "current";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Build the reference, or promote one.
    #[error("there is no reference {what} in {directory}")]
    Missing { what: String, directory: String },
    /// The file is not what was written; restore it or build anew.
    #[error("the reference {path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error("`{part}` cannot name a model, reference or id: letters, digits, `_`, `.` and `-`, not first a dot")]
    Name { part: String },
    /// Worth another try once the cause is removed.
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: String, source: std::io::Error },
}

/// One stored reference, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub model: String,
    pub name: String,
    pub id: String,
    /// In force: what `current` names.
    pub current: bool,
}

/// What is said of a stored reference in a list. Its content is read over, not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub created_ms: i64,
    pub rows: u64,
    pub source: Source,
}

#[derive(Deserialize)]
struct Head {
    created_ms: i64,
    content: ContentHead,
}

#[derive(Deserialize)]
struct ContentHead {
    rows: u64,
    source: Source,
}

/// The file: the content, and what does not belong to it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: String,
    created_ms: i64,
    content: Content,
}

/// The part of every format's file that says which one it is.
#[derive(Deserialize)]
struct Claimed {
    content: Format,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What the id is the hash of: maps are sorted and numbers written with the digits that read back, so that equal
/// content has equal bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    model: String,
    name: String,
    rows: u64,
    source: Source,
    features: BTreeMap<String, StoredFeature>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<StoredSegment>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    importance: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    performance: Option<StoredPerformance>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSegment {
    column: String,
    value: String,
    /// Encoded profiles by feature, base64; their layouts are those of the whole.
    profiles: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFeature {
    layout: StoredLayout,
    /// The encoded profile, base64.
    profile: String,
    #[serde(default, skip_serializing_if = "Calibration::is_empty")]
    calibration: Calibration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "type")]
enum StoredLayout {
    Numeric {
        centre: f64,
        percentiles: Vec<f64>,
        edges: Vec<f64>,
        /// Given in the model file; absent: that of the values.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<[f64; 2]>,
        span: Option<StoredSpan>,
    },
    Categorical {
        truncated: bool,
        categories: Vec<String>,
    },
    Vector(StoredVector),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSpan {
    min: f64,
    max: f64,
    distinct: u64,
    doane_bins: u32,
}

impl From<&FeatureReference> for StoredFeature {
    fn from(feature: &FeatureReference) -> Self {
        let layout = match &feature.layout {
            Layout::Numeric(layout) => StoredLayout::Numeric {
                centre: layout.centre(),
                percentiles: layout.percentiles().to_vec(),
                edges: layout.edges().to_vec(),
                range: layout.range().filter(|range| range.configured).map(|range| [range.min, range.max]),
                span: layout.span().map(|Span { min, max, distinct, doane_bins }| StoredSpan {
                    min: *min,
                    max: *max,
                    distinct: *distinct,
                    doane_bins: *doane_bins,
                }),
            },
            Layout::Categorical(layout) => {
                StoredLayout::Categorical { truncated: layout.truncated(), categories: layout.categories().to_vec() }
            }
            Layout::Vector(layout) => StoredLayout::Vector(layout.as_ref().into()),
        };
        let profile = STANDARD.encode(feature.profile.encode());
        Self { layout, profile, calibration: feature.calibration.clone() }
    }
}

impl StoredFeature {
    fn into_feature(self, name: &str) -> Result<FeatureReference, String> {
        let mut configured = None;
        let layout = match self.layout {
            StoredLayout::Numeric { centre, percentiles, edges, range, span } => {
                configured = range.map(|[min, max]| ValueRange { min, max, configured: true });
                let span =
                    span.map(|StoredSpan { min, max, distinct, doane_bins }| Span { min, max, distinct, doane_bins });
                let layout = NumericLayout::from_parts(edges, percentiles, centre, span);
                layout.map(|layout| Layout::Numeric(Arc::new(layout)))
            }
            StoredLayout::Categorical { truncated, categories } => {
                CategoricalLayout::from_parts(categories, truncated).map(|layout| Layout::Categorical(Arc::new(layout)))
            }
            StoredLayout::Vector(stored) => stored.into_layout(),
        };
        let layout = layout.ok_or_else(|| format!("the layout of `{name}` is not in order"))?;
        let bytes = STANDARD.decode(&self.profile).map_err(|error| format!("the profile of `{name}`: {error}"))?;
        let profile = Profile::decode(&bytes, &layout).map_err(|error| format!("the profile of `{name}`: {error}"))?;
        let layout = with_range(layout, configured, &profile)
            .ok_or_else(|| format!("the layout of `{name}` has no edges at the ends of its range"))?;
        let calibration =
            self.calibration.checked().ok_or_else(|| format!("the calibration of `{name}` is not in order"))?;
        Ok(FeatureReference { name: name.to_string(), layout, profile, calibration })
    }
}

/// The range is given in the file, or that of the values.
fn with_range(layout: Layout, configured: Option<ValueRange>, profile: &Profile) -> Option<Layout> {
    let (Layout::Numeric(numeric), Profile::Numeric(profile)) = (&layout, profile) else { return Some(layout) };
    let of_values = profile.min().zip(profile.max()).map(|(min, max)| ValueRange { min, max, configured: false });
    match configured.or(of_values) {
        Some(range) => NumericLayout::clone(numeric).and_range(range).map(|numeric| Layout::Numeric(Arc::new(numeric))),
        None => Some(layout),
    }
}

fn stored_segment((column, value): &SegmentKey, features: &BTreeMap<String, FeatureReference>) -> StoredSegment {
    let profile = |feature: &FeatureReference| STANDARD.encode(feature.profile.encode());
    StoredSegment {
        column: column.clone(),
        value: value.clone(),
        profiles: features.iter().map(|(name, feature)| (name.clone(), profile(feature))).collect(),
    }
}

impl StoredSegment {
    fn into_references(
        self,
        whole: &BTreeMap<String, FeatureReference>,
    ) -> Result<(SegmentKey, BTreeMap<String, FeatureReference>), String> {
        let mut features = BTreeMap::new();
        for (name, profile) in self.profiles {
            let place = format!("the profile of `{name}` in {}={}", self.column, self.value);
            let of_whole = whole.get(&name).ok_or_else(|| format!("{place}: no such feature"))?;
            let (layout, calibration) = (of_whole.layout.clone(), of_whole.calibration.clone());
            let bytes = STANDARD.decode(&profile).map_err(|error| format!("{place}: {error}"))?;
            let profile = Profile::decode(&bytes, &layout).map_err(|error| format!("{place}: {error}"))?;
            features.insert(name.clone(), FeatureReference { name, layout, profile, calibration });
        }
        Ok(((self.column, self.value), features))
    }
}

impl Reference {
    /// Content address of everything but the time of creation.
    pub fn content_id(&self) -> String {
        id_of(&self.content())
    }

    fn content(&self) -> Content {
        Content {
            format: FORMAT,
            model: self.model.clone(),
            name: self.name.clone(),
            rows: self.rows,
            source: self.source.clone(),
            features: self.features.iter().map(|(name, feature)| (name.clone(), feature.into())).collect(),
            segments: self.segments.iter().map(|(key, features)| stored_segment(key, features)).collect(),
            importance: self.importance.clone(),
            performance: self.performance.as_ref().map(StoredPerformance::from),
        }
    }

    /// The reference as one JSON file.
    pub fn to_json(&self) -> Vec<u8> {
        let stored = Stored { id: self.id.clone(), created_ms: self.created_ms, content: self.content() };
        json(&stored)
    }

    /// Reads [`Reference::to_json`]; the error says what is wrong with the bytes, among it content that does not
    /// have the hash that the file claims.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let not_a_reference = |error: serde_json::Error| format!("not a reference file: {error}");
        // Before its content, which another format may have in another shape.
        let Claimed { content: Format { format } } = serde_json::from_slice(bytes).map_err(not_a_reference)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format} and this version reads {FORMAT}: build it again with `driftline reference build`"
            ));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(not_a_reference)?;
        let actual = id_of(&stored.content);
        if actual != stored.id {
            return Err(format!(
                "its content has the id {actual}, not {}: it was changed after it was built",
                stored.id
            ));
        }
        let Content { model, name, rows, source, features, segments, importance, performance, .. } = stored.content;
        let features: BTreeMap<String, FeatureReference> = features
            .into_iter()
            .map(|(name, feature)| feature.into_feature(&name).map(|feature| (name, feature)))
            .collect::<Result<_, String>>()?;
        let segments = segments
            .into_iter()
            .map(|segment| segment.into_references(&features))
            .collect::<Result<SegmentReferences, String>>()?;
        Ok(Self {
            id: stored.id,
            model,
            name,
            created_ms: stored.created_ms,
            rows,
            source,
            features,
            segments,
            importance,
            performance: performance.map(StoredPerformance::into_performance).transpose()?,
        })
    }
}

fn id_of(content: &Content) -> String {
    Sha256::digest(json(content)).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// These types have string keys and finite numbers, which always serialise; an empty file would not read back.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A directory of references.
#[derive(Debug, Clone)]
pub struct ReferenceStore {
    directory: PathBuf,
}

impl ReferenceStore {
    /// Opens `directory`, creating it where it does not exist.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(|source| io("create", &directory, source))?;
        Ok(Self { directory })
    }

    /// Writes the reference; one with the same content that is there already stays. Does not promote it.
    pub fn save(&self, reference: &Reference) -> Result<PathBuf, StoreError> {
        let folder = self.folder(&reference.model, &reference.name)?;
        let path = folder.join(format!("{}.json", checked(&reference.id)?));
        if self.load(&reference.model, &reference.name, &reference.id).is_err() {
            write_whole(&folder, &path, &reference.to_json())?;
        }
        Ok(path)
    }

    /// The reference with this id, or the one in force for `current`.
    pub fn load(&self, model: &str, name: &str, id: &str) -> Result<Reference, StoreError> {
        let folder = self.folder(model, name)?;
        let id = if id == CURRENT { self.current(model, name)? } else { checked(id)?.to_string() };
        let path = folder.join(format!("{id}.json"));
        let bytes = read(&path)?.ok_or_else(|| missing(format!("{model}/{name}/{id}"), &self.directory))?;
        let damaged = |reason| StoreError::Damaged { path: path.display().to_string(), reason };
        let reference = Reference::from_json(&bytes).map_err(damaged)?;
        if (reference.model.as_str(), reference.name.as_str(), reference.id.as_str()) != (model, name, id.as_str()) {
            let claims = format!("it is {}/{}/{}", reference.model, reference.name, reference.id);
            return Err(damaged(claims));
        }
        Ok(reference)
    }

    /// Id of the reference in force.
    pub fn current(&self, model: &str, name: &str) -> Result<String, StoreError> {
        let promotions = self.promotions(model, name)?;
        let current = promotions.current().ok_or_else(|| self.none_in_force(model, name))?;
        Ok(checked(&current.id)?.to_string())
    }

    /// What is in force and what was before it; empty where nothing ever was.
    pub fn promotions(&self, model: &str, name: &str) -> Result<Promotions, StoreError> {
        let path = self.folder(model, name)?.join(CURRENT);
        let Some(bytes) = read(&path)? else { return Ok(Promotions::default()) };
        Promotions::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| StoreError::Damaged {
            path: path.display().to_string(),
            reason: "its lines are not an id, a time, and `promoted` or `rolled-back`".into(),
        })
    }

    /// Puts a stored, undamaged reference in force.
    pub fn promote(&self, model: &str, name: &str, id: &str, at_ms: i64) -> Result<(), StoreError> {
        let reference = self.load(model, name, id)?;
        let mut promotions = self.promotions(model, name)?;
        promotions.promote(&reference.id, at_ms);
        self.put_in_force(model, name, &promotions)
    }

    /// Puts the reference in force that was before the last promotion; its id.
    pub fn roll_back(&self, model: &str, name: &str, at_ms: i64) -> Result<String, StoreError> {
        let mut promotions = self.promotions(model, name)?;
        let nothing = || missing(format!("in force before the present one for {model}/{name}"), &self.directory);
        let id = promotions.roll_back(at_ms).ok_or_else(nothing)?;
        self.load(model, name, &id)?;
        self.put_in_force(model, name, &promotions)?;
        Ok(id)
    }

    fn put_in_force(&self, model: &str, name: &str, promotions: &Promotions) -> Result<(), StoreError> {
        let folder = self.folder(model, name)?;
        write_whole(&folder, &folder.join(CURRENT), promotions.write().as_bytes())
    }

    fn none_in_force(&self, model: &str, name: &str) -> StoreError {
        missing(format!("in force for {model}/{name}: build or promote one"), &self.directory)
    }

    /// When a stored reference was built, of what, and how large it is.
    pub fn summary(&self, listed: &Listed) -> Result<Summary, StoreError> {
        let path = self.folder(&listed.model, &listed.name)?.join(format!("{}.json", checked(&listed.id)?));
        let bytes = read(&path)?.ok_or_else(|| missing(listed.id.clone(), &self.directory))?;
        let head: Head = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged { path: path.display().to_string(), reason: error.to_string() })?;
        Ok(Summary { created_ms: head.created_ms, rows: head.content.rows, source: head.content.source })
    }

    /// All stored references by model, name and id; files of other names are not looked at.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        for model in names_in(&self.directory)? {
            for name in names_in(&self.directory.join(&model))? {
                let folder = self.directory.join(&model).join(&name);
                let current = self.current(&model, &name).ok();
                for file in names_in(&folder)? {
                    let Some(id) = file.strip_suffix(".json") else { continue };
                    listed.push(Listed {
                        model: model.clone(),
                        name: name.clone(),
                        id: id.to_string(),
                        current: current.as_deref() == Some(id),
                    });
                }
            }
        }
        Ok(listed)
    }

    fn folder(&self, model: &str, name: &str) -> Result<PathBuf, StoreError> {
        Ok(self.directory.join(checked(model)?).join(checked(name)?))
    }
}

/// Names become parts of paths: nothing that leads elsewhere.
fn checked(part: &str) -> Result<&str, StoreError> {
    let allowed = part.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character));
    if part.is_empty() || part.starts_with('.') || !allowed {
        return Err(StoreError::Name { part: part.to_string() });
    }
    Ok(part)
}

fn names_in(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => return Ok(Vec::new()),
        Err(error) => return Err(io("list", directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io("list", directory, error))?;
        if let Some(name) = entry.file_name().to_str().filter(|name| checked(name).is_ok()) {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path, error)),
    }
}

/// Writes beside, synchronises, renames, and synchronises the folder: after a crash the file is old or new, whole.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let failed = |error| io("write", path, error);
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { action, path: path.display().to_string(), source }
}

fn missing(what: String, directory: &Path) -> StoreError {
    StoreError::Missing { what, directory: directory.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::build::tests::{batch, build};
    use super::*;

    fn reference(shift: f64) -> Reference {
        build(&[batch((0..50).map(|i| Some(f64::from(i) * 0.1 + shift)).collect())]).unwrap()
    }

    #[test]
    fn a_reference_reads_back_as_it_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let store = ReferenceStore::open(directory.path().join("references")).unwrap();
        let saved = reference(0.3);
        let path = store.save(&saved).unwrap();
        assert!(path.ends_with(format!("fraud/training/{}.json", saved.id)), "{path:?}");
        assert_eq!(store.load("fraud", "training", &saved.id).unwrap(), saved);
        store.save(&saved).unwrap();
        let listed = store.list().unwrap();
        assert_eq!((listed.len(), listed[0].current), (1, false));
    }

    #[test]
    fn the_range_of_the_model_file_is_part_of_the_reference_and_an_older_file_has_that_of_its_values() {
        let mut model = super::super::build::tests::model();
        let with_range = |model: &crate::config::model::Model| {
            let rows = [batch((0..50).map(|i| Some(f64::from(i) * 0.1)).collect())];
            Reference::build(model, "training", &rows, &BTreeMap::new(), Source::default(), 0).unwrap()
        };
        let plain = with_range(&model);
        let spec = serde_json::json!({"type": "numeric", "range": [0.05, 1000.0]});
        model.features.insert("amount".into(), serde_json::from_value(spec).unwrap());
        let ranged = with_range(&model);
        assert_ne!(plain.id, ranged.id);
        let range = |reference: &Reference| match &reference.features["amount"].layout {
            Layout::Numeric(layout) => layout.range().map(|range| (range.min, range.max, range.configured)),
            _ => None,
        };
        let read = Reference::from_json(&ranged.to_json()).unwrap();
        assert_eq!((range(&read), &read), (Some((0.05, 1000.0, true)), &ranged));
        let text = String::from_utf8(plain.to_json()).unwrap();
        assert!(!text.contains("\"range\""), "nothing is stored that follows from the values");
        assert_eq!(range(&Reference::from_json(text.as_bytes()).unwrap()), Some((0.0, 4.9, false)));
    }

    #[test]
    fn the_promoted_reference_is_current() {
        let directory = tempfile::tempdir().unwrap();
        let store = ReferenceStore::open(directory.path()).unwrap();
        let (first, second) = (reference(0.0), reference(1.0));
        store.save(&first).unwrap();
        store.save(&second).unwrap();
        assert!(matches!(store.load("fraud", "training", "current"), Err(StoreError::Missing { .. })));
        store.promote("fraud", "training", &first.id, 1).unwrap();
        store.promote("fraud", "training", &second.id, 2).unwrap();
        assert_eq!(store.load("fraud", "training", "current").unwrap().id, second.id);
        let in_force: Vec<String> =
            store.list().unwrap().into_iter().filter(|entry| entry.current).map(|entry| entry.id).collect();
        assert_eq!(in_force, [second.id]);
        assert!(matches!(store.promote("fraud", "training", "0123", 3), Err(StoreError::Missing { .. })));
    }

    #[test]
    fn a_tampered_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = ReferenceStore::open(directory.path()).unwrap();
        let saved = reference(0.0);
        let path = store.save(&saved).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"rows\":50", "\"rows\":51")).unwrap();
        let error = store.load("fraud", "training", &saved.id).unwrap_err().to_string();
        assert!(error.contains("changed after it was built"), "{error}");
        // Saving again repairs it.
        store.save(&saved).unwrap();
        assert_eq!(store.load("fraud", "training", &saved.id).unwrap(), saved);
        // A whole file in another's place is refused as well.
        let other = reference(2.0);
        fs::write(&path, other.to_json()).unwrap();
        assert!(store.load("fraud", "training", &saved.id).is_err());
    }

    #[test]
    fn the_time_of_creation_is_not_part_of_the_address() {
        let mut later = reference(0.0);
        later.created_ms += 1;
        assert_eq!(later.content_id(), reference(0.0).id);
    }

    #[test]
    fn names_do_not_lead_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let store = ReferenceStore::open(directory.path()).unwrap();
        for bad in ["..", "", "a/b", ".hidden", "ü"] {
            assert!(matches!(store.load(bad, "training", "current"), Err(StoreError::Name { .. })), "{bad}");
        }
    }
}
