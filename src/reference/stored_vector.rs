//! A vector layout as it stands in a reference file.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::stats::layout::Layout;
use crate::stats::vector::law::SquaredDistanceLaw;
use crate::stats::vector::layout::{VectorLayout, VectorParts};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredVector {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    centre: Vec<f64>,
    scale: Vec<f64>,
    seed: u64,
    bandwidth: f64,
    /// The principal axes, base64 of 32-bit floats, little endian, one axis after the other.
    components: String,
    variances: Vec<f64>,
    error: [f64; 2],
    features_law: [f64; 3],
    directions_law: [f64; 3],
}

impl From<&VectorLayout> for StoredVector {
    fn from(layout: &VectorLayout) -> Self {
        let parts = layout.parts();
        let bytes: Vec<u8> = parts.components.iter().flatten().flat_map(|entry| entry.to_le_bytes()).collect();
        Self {
            names: parts.names.clone(),
            centre: parts.centre.clone(),
            scale: parts.scale.clone(),
            seed: parts.seed,
            bandwidth: parts.bandwidth,
            components: STANDARD.encode(bytes),
            variances: parts.variances.clone(),
            error: parts.error,
            features_law: parts.features_law.traces,
            directions_law: parts.directions_law.traces,
        }
    }
}

impl StoredVector {
    /// `None` where a part is not in order.
    pub(super) fn into_layout(self) -> Option<Layout> {
        let bytes = STANDARD.decode(&self.components).ok()?;
        let entries: Vec<f32> = bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        let dimension = self.centre.len();
        if dimension == 0 || bytes.len() != 4 * dimension * self.variances.len() {
            return None;
        }
        let parts = VectorParts {
            names: self.names,
            centre: self.centre,
            scale: self.scale,
            seed: self.seed,
            bandwidth: self.bandwidth,
            components: entries.chunks_exact(dimension).map(<[f32]>::to_vec).collect(),
            variances: self.variances,
            error: self.error,
            features_law: SquaredDistanceLaw { traces: self.features_law },
            directions_law: SquaredDistanceLaw { traces: self.directions_law },
        };
        VectorLayout::from_parts(parts).map(|layout| Layout::Vector(Arc::new(layout)))
    }
}
