//! Labels that come apart from their predictions: the machine of the join role, fed with what ingest set aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::model::Model;
use crate::config::performance::ERROR_SIGNAL;
use crate::ingest::joins::{decode_joins, encode_placed};
use crate::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use crate::ingest::performance::Waiting;
use crate::ingest::signals::{MOST_VALUES, SignalRun};
use crate::join::model::JoinModel;
use crate::join::state::JoinState;
use crate::reference::Reference;

/// The topic that the join's progress stands under.
const TOPIC: &str = "joins";

pub(super) struct LabelsJoin {
    state: JoinState,
    /// Told so far.
    from: i64,
}

/// What the join flushes.
pub(super) struct Joined {
    pub header: FlushHeader,
    pub rows: Vec<PartialRow>,
    pub signals: Vec<SignalRun>,
}

impl LabelsJoin {
    /// `None`: labels come with their predictions, or never.
    pub fn new(model: &Arc<Model>, reference: &Reference) -> Option<Self> {
        model.performance.as_ref()?.labels.as_ref()?;
        let layout = reference.performance_layout(model)?;
        let joined = JoinModel { model: model.clone(), layout };
        Some(Self { state: JoinState::new(&[joined], 1, 0), from: 0 })
    }

    /// One flush of ingest, met and told at once.
    pub fn meet(&mut self, header: &FlushHeader, waiting: &Waiting) -> Result<Joined, String> {
        let none = (Vec::new(), Vec::new());
        let (predictions, labels) =
            (waiting.predictions.first().unwrap_or(&none.0), waiting.labels.first().unwrap_or(&none.1));
        let parts = encode_placed(header, &waiting.places, predictions, labels).map_err(|error| error.to_string())?;
        for part in parts {
            let part = decode_joins(&part).map_err(|error| error.to_string())?;
            self.state.apply(self.state.next_offset(), part);
        }
        let (mut rows, mut signals) = (Vec::new(), Vec::new());
        for (model, join) in self.state.models_mut() {
            rows.extend(join.take_rows());
            for (version, values) in join.take_outcome().errors {
                signals.extend(values.chunks(MOST_VALUES).map(|values| SignalRun {
                    model: model.to_string(),
                    version: version.clone(),
                    topic: TOPIC.to_string(),
                    partition: 0,
                    signal: ERROR_SIGNAL.to_string(),
                    values: values.to_vec(),
                }));
            }
        }
        // Where a restart would begin; what lies before need not be remembered.
        drop(self.state.checkpoint());
        let from = std::mem::replace(&mut self.from, self.state.next_offset());
        let source = SourceProgress {
            topic: TOPIC.to_string(),
            partition: 0,
            from,
            to: self.from,
            clock_ms: self.state.time_ms(),
            quiet_since_ms: header.sources.iter().filter_map(|source| source.quiet_since_ms).max(),
            joined_ms: self.state.times_ms(),
        };
        let header = FlushHeader {
            instance: "history/join".into(),
            at_ms: header.at_ms,
            next_by_ms: header.next_by_ms,
            sources: vec![source],
            topics: BTreeMap::from([(TOPIC.to_string(), 1)]),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        };
        Ok(Joined { header, rows, signals })
    }
}
