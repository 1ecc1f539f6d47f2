//! The reference's performance in its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{Expectation, JudgedBy, PerformanceReference};
use crate::stats::performance::direct_loss::DirectLoss;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::profile::{PerformanceLayout, PerformanceProfile};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPerformance {
    judged_by: JudgedBy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    /// Encoded, base64.
    profile: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<StoredSegment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expectation: Option<StoredExpectation>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSegment {
    column: String,
    value: String,
    profile: String,
}

/// Level stretches of a curve: first and last score, rows, positives.
type Curve = Vec<(f64, f64, u64, u64)>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum StoredExpectation {
    Binary(Curve),
    Multiclass(Vec<Curve>),
    Regression(Box<DirectLoss>),
}

impl From<&PerformanceReference> for StoredPerformance {
    fn from(reference: &PerformanceReference) -> Self {
        let encode = |profile: &PerformanceProfile| STANDARD.encode(profile.encode());
        let segment = |((column, value), profile): (&(String, String), &PerformanceProfile)| StoredSegment {
            column: column.clone(),
            value: value.clone(),
            profile: encode(profile),
        };
        Self {
            judged_by: reference.judged_by.clone(),
            classes: reference.classes.clone(),
            profile: encode(&reference.profile),
            segments: reference.segments.iter().map(segment).collect(),
            expectation: match &reference.expectation {
                Expectation::None => None,
                Expectation::Binary(curve) => Some(StoredExpectation::Binary(curve.parts())),
                Expectation::Multiclass(curves) => {
                    Some(StoredExpectation::Multiclass(curves.iter().map(Isotonic::parts).collect()))
                }
                Expectation::Regression(losses) => Some(StoredExpectation::Regression(losses.clone())),
            },
        }
    }
}

impl StoredPerformance {
    pub fn into_performance(self) -> Result<PerformanceReference, String> {
        let layout = self.judged_by.layout(&self.classes).ok_or("its performance is judged by nothing")?;
        let mut segments = BTreeMap::new();
        for StoredSegment { column, value, profile } in self.segments {
            let profile = decoded(&profile, &layout, &format!("{column}={value}"))?;
            segments.insert((column, value), profile);
        }
        let expectation = match self.expectation {
            None => Expectation::None,
            Some(stored) => {
                stored.into_expectation(&layout).ok_or("what is expected without labels is not in order")?
            }
        };
        Ok(PerformanceReference {
            profile: decoded(&self.profile, &layout, "all rows")?,
            judged_by: self.judged_by,
            classes: self.classes,
            segments,
            expectation,
        })
    }
}

fn decoded(profile: &str, layout: &Arc<PerformanceLayout>, of: &str) -> Result<PerformanceProfile, String> {
    let failed = |reason: String| format!("the performance of {of}: {reason}");
    let bytes = STANDARD.decode(profile).map_err(|error| failed(error.to_string()))?;
    PerformanceProfile::decode(&bytes, layout).map_err(|error| failed(error.to_string()))
}

impl StoredExpectation {
    fn into_expectation(self, layout: &PerformanceLayout) -> Option<Expectation> {
        Some(match self {
            Self::Binary(curve) => Expectation::Binary(Isotonic::from_parts(curve)?),
            Self::Multiclass(curves) if curves.len() == layout.classes().len() => {
                Expectation::Multiclass(curves.into_iter().map(Isotonic::from_parts).collect::<Option<_>>()?)
            }
            Self::Multiclass(_) => return None,
            Self::Regression(losses) => Expectation::Regression(Box::new(losses.checked()?)),
        })
    }
}
