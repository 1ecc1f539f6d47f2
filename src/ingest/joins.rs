//! The record of the `joins` topic: predictions that wait for their labels, and labels, by the hash of the prediction id.
//!
//! A flush writes one record, in parts where it is large, to *every* partition, as it does to `partials`: the same header
//! with the progress of the source partitions, then the predictions and labels whose id falls on that partition. What
//! many predictions share (model, version, reference, pane, segments) is written once a part, so that a binary prediction
//! takes about thirty bytes.
//!
//! ```text
//! "DLJ1" | header length, u32 little endian | header, JSON | texts | places | predictions | labels
//! ```
//!
//! Each of the four lists is a count and its entries, in the alphabet of `stats::varint`.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::partial::{FlushHeader, begin_part, split_part};
use super::signals::{unzigzag, zigzag};
use crate::stats::performance::profile::{Label, Prediction};
use crate::stats::varint::{self, Reader};

pub use super::partial::PartialError as JoinsError;

mod values;

use values::{
    read_bytes, read_label, read_list, read_optional, read_prediction, write_label, write_optional, write_prediction,
};

const MAGIC: &[u8; 4] = b"DLJ1";

/// A part is closed at about this many bytes, well below Kafka's default limit of 1 MiB a message.
const PART_BYTES: usize = 512 * 1024;

/// A prediction that a label may meet.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinPrediction {
    pub model: String,
    pub version: String,
    pub reference_id: String,
    /// [`join_id`] of the model and the prediction id.
    pub id: u128,
    /// Epoch milliseconds.
    pub event_time_ms: i64,
    pub pane_start_ms: i64,
    /// Width of the pane, milliseconds.
    pub pane_ms: i64,
    /// Column and value of every segment that it belongs to, without the whole.
    pub segments: Vec<(String, String)>,
    pub prediction: Prediction,
}

/// A label, and the event that brought it.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinLabel {
    pub model: String,
    /// [`join_id`] of the model and the prediction id.
    pub id: u128,
    pub prediction_id: String,
    pub label: Label,
    /// When the label was given, by its event; epoch milliseconds.
    pub given_ms: Option<i64>,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Of the record, epoch milliseconds.
    pub timestamp_ms: i64,
    /// Key and payload of the record, for the dead letter of a label that meets nothing.
    pub key: Option<Vec<u8>>,
    pub raw: Vec<u8>,
}

/// What many predictions have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JoinPlace {
    pub model: String,
    pub version: String,
    pub reference_id: String,
    pub pane_start_ms: i64,
    pub pane_ms: i64,
    pub segments: Vec<(String, String)>,
}

/// A prediction whose place is one of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedPrediction {
    pub place: u32,
    pub id: u128,
    pub event_time_ms: i64,
    pub prediction: Prediction,
}

/// One record of the `joins` topic.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinPart {
    pub header: FlushHeader,
    pub predictions: Vec<JoinPrediction>,
    pub labels: Vec<JoinLabel>,
}

/// What a prediction and its labels are met by: the first 128 bits of SHA-256 over the length of the model's name (eight
/// bytes, little endian), the name, and the prediction id. Stable across processes and versions, and nobody can make two
/// ids that meet.
pub fn join_id(model: &str, prediction_id: &str) -> u128 {
    let mut hash = Sha256::new();
    hash.update((model.len() as u64).to_le_bytes());
    hash.update(model.as_bytes());
    hash.update(prediction_id.as_bytes());
    hash.finalize().iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

/// The partition of `joins` that an id falls on.
pub fn partition_of_id(id: u128, partitions: i32) -> i32 {
    ((id >> 64) as u64 % partitions.max(1) as u64) as i32
}

/// Whether an id is among the share `sample` of all ids (above 0, at most 1). Other bits than those of the partition
/// decide, and an id within a share is within every larger one.
pub fn is_sampled(id: u128, sample: f64) -> bool {
    const BITS: i32 = 53;
    (((id as u64) >> (64 - BITS)) as f64) < sample * 2_f64.powi(BITS)
}

/// Encodes one flush for one partition: at least one part, so that progress reaches every partition.
pub fn encode_joins(
    header: &FlushHeader,
    predictions: &[JoinPrediction],
    labels: &[JoinLabel],
) -> Result<Vec<Vec<u8>>, JoinsError> {
    let (mut places, mut numbers) = (Vec::new(), HashMap::new());
    let mut placed = Vec::with_capacity(predictions.len());
    for prediction in predictions {
        let place = JoinPlace {
            model: prediction.model.clone(),
            version: prediction.version.clone(),
            reference_id: prediction.reference_id.clone(),
            pane_start_ms: prediction.pane_start_ms,
            pane_ms: prediction.pane_ms,
            segments: prediction.segments.clone(),
        };
        let number = *numbers.entry(place.clone()).or_insert_with(|| {
            places.push(place);
            places.len() as u32 - 1
        });
        placed.push(PlacedPrediction {
            place: number,
            id: prediction.id,
            event_time_ms: prediction.event_time_ms,
            prediction: prediction.prediction.clone(),
        });
    }
    encode_placed(header, &places, &placed, labels)
}

/// The same of predictions whose place is an index in `places`.
pub fn encode_placed(
    header: &FlushHeader,
    places: &[JoinPlace],
    predictions: &[PlacedPrediction],
    labels: &[JoinLabel],
) -> Result<Vec<Vec<u8>>, JoinsError> {
    let mut bodies = Vec::new();
    let mut body = Body::new(places.len());
    for prediction in predictions {
        let place = places.get(prediction.place as usize).ok_or(JoinsError::Malformed("prediction without place"))?;
        body.add_prediction(place, prediction);
        if body.is_full() {
            bodies.push(std::mem::replace(&mut body, Body::new(places.len())));
        }
    }
    for label in labels {
        body.add_label(label);
        if body.is_full() {
            bodies.push(std::mem::replace(&mut body, Body::new(places.len())));
        }
    }
    if !body.is_empty() || bodies.is_empty() {
        bodies.push(body);
    }
    let parts = bodies.len() as u32;
    let encode = |(part, body): (usize, Body<'_>)| {
        let mut record = begin_part(MAGIC, &FlushHeader { part: part as u32, parts, ..header.clone() })?;
        body.finish(&mut record);
        Ok(record)
    };
    bodies.into_iter().enumerate().map(encode).collect()
}

/// The lists of one part.
struct Body<'a> {
    texts: HashMap<&'a str, u64>,
    encoded_texts: Vec<u8>,
    /// By the index in the list of all places: the index in this part and one; 0: not in it.
    places: Vec<u32>,
    place_count: u64,
    encoded_places: Vec<u8>,
    prediction_count: u64,
    predictions: Vec<u8>,
    label_count: u64,
    labels: Vec<u8>,
}

impl<'a> Body<'a> {
    fn new(places: usize) -> Self {
        Self {
            texts: HashMap::new(),
            encoded_texts: Vec::new(),
            places: vec![0; places],
            place_count: 0,
            encoded_places: Vec::new(),
            prediction_count: 0,
            predictions: Vec::new(),
            label_count: 0,
            labels: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        let lists = [&self.encoded_texts, &self.encoded_places, &self.predictions, &self.labels];
        lists.iter().map(|bytes| bytes.len()).sum::<usize>() >= PART_BYTES
    }

    fn is_empty(&self) -> bool {
        self.prediction_count + self.label_count == 0
    }

    fn text(&mut self, text: &'a str) -> u64 {
        let next = self.texts.len() as u64;
        *self.texts.entry(text).or_insert_with(|| {
            varint::write_text(text, &mut self.encoded_texts);
            next
        })
    }

    fn add_prediction(&mut self, place: &'a JoinPlace, prediction: &PlacedPrediction) {
        let number = match self.places[prediction.place as usize] {
            0 => self.add_place(place, prediction.place),
            known => known - 1,
        };
        let out = &mut self.predictions;
        varint::write(u64::from(number), out);
        out.extend_from_slice(&prediction.id.to_le_bytes());
        varint::write(zigzag(prediction.event_time_ms.wrapping_sub(place.pane_start_ms)), out);
        write_prediction(&prediction.prediction, out);
        self.prediction_count += 1;
    }

    fn add_place(&mut self, place: &'a JoinPlace, index: u32) -> u32 {
        let names = [&place.model, &place.version, &place.reference_id].map(|name| self.text(name));
        let segments: Vec<[u64; 2]> =
            place.segments.iter().map(|(column, value)| [self.text(column), self.text(value)]).collect();
        let out = &mut self.encoded_places;
        names.iter().for_each(|name| varint::write(*name, out));
        varint::write(zigzag(place.pane_start_ms), out);
        varint::write(zigzag(place.pane_ms), out);
        varint::write(segments.len() as u64, out);
        segments.as_flattened().iter().for_each(|name| varint::write(*name, out));
        let number = self.place_count as u32;
        self.place_count += 1;
        self.places[index as usize] = number + 1;
        number
    }

    fn add_label(&mut self, label: &'a JoinLabel) {
        let names = [&label.model, &label.topic].map(|name| self.text(name));
        let out = &mut self.labels;
        names.iter().for_each(|name| varint::write(*name, out));
        out.extend_from_slice(&label.id.to_le_bytes());
        varint::write_text(&label.prediction_id, out);
        write_label(&label.label, out);
        write_optional(label.given_ms.is_some(), out);
        if let Some(given_ms) = label.given_ms {
            varint::write(zigzag(given_ms), out);
        }
        for number in [i64::from(label.partition), label.offset, label.timestamp_ms] {
            varint::write(zigzag(number), out);
        }
        write_optional(label.key.is_some(), out);
        for bytes in label.key.iter().chain([&label.raw]) {
            varint::write(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        self.label_count += 1;
    }

    fn finish(self, out: &mut Vec<u8>) {
        for (count, bytes) in [
            (self.texts.len() as u64, self.encoded_texts),
            (self.place_count, self.encoded_places),
            (self.prediction_count, self.predictions),
            (self.label_count, self.labels),
        ] {
            varint::write(count, out);
            out.extend_from_slice(&bytes);
        }
    }
}

// Which parts of a prediction follow.
/// Decodes one record of the `joins` topic.
pub fn decode_joins(record: &[u8]) -> Result<JoinPart, JoinsError> {
    let rest = record.strip_prefix(MAGIC).ok_or(JoinsError::Malformed("wrong magic"))?;
    let (header, body) = split_part(rest)?;
    let mut reader = Reader::new(body);
    let (predictions, labels) =
        read_body(&mut reader).ok_or(JoinsError::Malformed("predictions and labels to be joined"))?;
    if reader.remaining() > 0 {
        return Err(JoinsError::Malformed("more than predictions and labels to be joined"));
    }
    Ok(JoinPart { header, predictions, labels })
}

fn read_body(reader: &mut Reader<'_>) -> Option<(Vec<JoinPrediction>, Vec<JoinLabel>)> {
    let texts = read_list(reader, 1, |reader| reader.text())?;
    let text = |reader: &mut Reader<'_>| {
        let index = usize::try_from(reader.varint()?).ok()?;
        texts.get(index).map(|text| text.to_string())
    };
    let places = read_list(reader, 6, |reader| {
        Some(JoinPlace {
            model: text(reader)?,
            version: text(reader)?,
            reference_id: text(reader)?,
            pane_start_ms: unzigzag(reader.varint()?),
            pane_ms: unzigzag(reader.varint()?),
            segments: read_list(reader, 2, |reader| Some((text(reader)?, text(reader)?)))?,
        })
    })?;
    let predictions = read_list(reader, 19, |reader| {
        let place = places.get(usize::try_from(reader.varint()?).ok()?)?;
        Some(JoinPrediction {
            model: place.model.clone(),
            version: place.version.clone(),
            reference_id: place.reference_id.clone(),
            id: read_id(reader)?,
            event_time_ms: place.pane_start_ms.wrapping_add(unzigzag(reader.varint()?)),
            pane_start_ms: place.pane_start_ms,
            pane_ms: place.pane_ms,
            segments: place.segments.clone(),
            prediction: read_prediction(reader)?,
        })
    })?;
    let labels = read_list(reader, 27, |reader| {
        let (model, topic) = (text(reader)?, text(reader)?);
        Some(JoinLabel {
            model,
            id: read_id(reader)?,
            prediction_id: reader.text()?.to_string(),
            label: read_label(reader)?,
            given_ms: if read_optional(reader)? { Some(unzigzag(reader.varint()?)) } else { None },
            topic,
            partition: i32::try_from(unzigzag(reader.varint()?)).ok()?,
            offset: unzigzag(reader.varint()?),
            timestamp_ms: unzigzag(reader.varint()?),
            key: if read_optional(reader)? { Some(read_bytes(reader)?) } else { None },
            raw: read_bytes(reader)?,
        })
    })?;
    Some((predictions, labels))
}

fn read_id(reader: &mut Reader<'_>) -> Option<u128> {
    reader.bytes(16)?.try_into().ok().map(u128::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn header() -> FlushHeader {
        FlushHeader {
            instance: "0".into(),
            at_ms: 1_000,
            next_by_ms: 4_000,
            sources: Vec::new(),
            topics: BTreeMap::from([("predictions".into(), 4), ("labels".into(), 2)]),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        }
    }

    fn prediction(index: i64, prediction: Prediction) -> JoinPrediction {
        JoinPrediction {
            model: "fraud".into(),
            version: (index % 2).to_string(),
            reference_id: "abc".into(),
            id: join_id("fraud", &index.to_string()),
            event_time_ms: 60_000 + index,
            pane_start_ms: 60_000,
            pane_ms: 60_000,
            segments: vec![("country".into(), "DE".into()), ("country,device".into(), "DE,phone".into())],
            prediction,
        }
    }

    fn label(index: i64, label: Label) -> JoinLabel {
        let prediction_id = index.to_string();
        JoinLabel {
            model: "fraud".into(),
            id: join_id("fraud", &prediction_id),
            raw: format!(r#"{{"prediction_id": {index}, "label": 1}}"#).into_bytes(),
            prediction_id,
            label,
            given_ms: (index % 2 == 0).then_some(-5),
            topic: "labels".into(),
            partition: 1,
            offset: 40 + index,
            timestamp_ms: 1_767_225_600_000,
            key: (index % 3 == 0).then(|| vec![0, 159]),
        }
    }

    /// NaN is what is missing, so a prediction without score is not equal to itself.
    fn shown(part: &JoinPart) -> String {
        format!("{part:?}")
    }

    fn examples() -> JoinPart {
        let predictions = [
            Prediction { score: 0.25, class: Some(1), ..Prediction::default() },
            Prediction { value: f64::NEG_INFINITY, expected_loss: Some([1.5, 4.0]), ..Prediction::default() },
            Prediction { class_scores: vec![0.1, f64::NAN], chances: vec![0.2, 0.8], ..Prediction::default() },
            Prediction { score: -0.0, carried: vec![7.0], ..Prediction::default() },
            Prediction::default(),
        ];
        let labels = [Label::Class(3), Label::Number(-1.5), Label::Relevance(vec![3.0, 0.0]), Label::Relevance(vec![])];
        JoinPart {
            header: header(),
            predictions: (0..).zip(predictions).map(|(index, made)| prediction(index, made)).collect(),
            labels: (0..).zip(labels).map(|(index, given)| label(index, given)).collect(),
        }
    }

    #[test]
    fn predictions_and_labels_read_back_as_written() {
        let written = examples();
        let records = encode_joins(&written.header, &written.predictions, &written.labels).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(shown(&decode_joins(&records[0]).unwrap()), shown(&written));
        let progress = encode_joins(&header(), &[], &[]).unwrap();
        let read = decode_joins(&progress[0]).unwrap();
        assert_eq!((progress.len(), read), (1, JoinPart { header: header(), predictions: vec![], labels: vec![] }));
    }

    #[test]
    fn a_cut_or_changed_record_is_an_error_or_another_record_and_never_a_panic() {
        let written = examples();
        let record = &encode_joins(&written.header, &written.predictions, &written.labels).unwrap()[0];
        for length in 0..record.len() {
            assert!(decode_joins(&record[..length]).is_err(), "cut at {length}");
        }
        assert!(decode_joins(&[record.as_slice(), &[0]].concat()).is_err());
        for at in 0..record.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = record.clone();
                changed[at] = value;
                if let Ok(read) = decode_joins(&changed) {
                    assert!(read.predictions.len() <= changed.len() && read.labels.len() <= changed.len());
                }
            }
        }
    }

    #[test]
    fn a_large_flush_is_split_below_the_message_limit_and_its_parts_stand_alone() {
        let made = Prediction { score: 0.5, ..Prediction::default() };
        let predictions: Vec<_> = (0..50_000).map(|index| prediction(index, made.clone())).collect();
        let labels: Vec<JoinLabel> =
            (0..20).map(|index| JoinLabel { raw: vec![b' '; 60_000], ..label(index, Label::Class(1)) }).collect();
        let records = encode_joins(&header(), &predictions, &labels).unwrap();
        assert!(records.len() > 2 && records.iter().all(|record| record.len() < 1_000_000));
        let parts: Vec<JoinPart> = records.iter().map(|record| decode_joins(record).unwrap()).collect();
        let numbers: Vec<(u32, u32)> = parts.iter().map(|part| (part.header.part, part.header.parts)).collect();
        let count = records.len() as u32;
        assert_eq!(numbers, (0..count).map(|part| (part, count)).collect::<Vec<_>>());
        let ids = |part: &JoinPart| part.predictions.iter().map(|made| made.id).collect::<Vec<_>>();
        assert_eq!(
            parts.iter().flat_map(ids).collect::<Vec<_>>(),
            predictions.iter().map(|made| made.id).collect::<Vec<_>>()
        );
        assert_eq!(parts.into_iter().flat_map(|part| part.labels).collect::<Vec<_>>(), labels);
    }

    #[test]
    fn a_binary_prediction_takes_about_thirty_bytes() {
        let made = Prediction { score: 0.5, class: Some(1), ..Prediction::default() };
        let predictions: Vec<_> = (0..10_000).map(|index| prediction(index, made.clone())).collect();
        let bytes: usize = encode_joins(&header(), &predictions, &[]).unwrap().iter().map(Vec::len).sum();
        assert!((280_000..320_000).contains(&bytes), "{bytes} bytes for 10 000 predictions");
    }

    #[test]
    fn an_id_is_the_same_everywhere_and_names_do_not_run_into_each_other() {
        // sha256(b"\x05\0\0\0\0\0\0\0" + b"fraud" + b"p1"), first 16 bytes.
        assert_eq!(format!("{:032x}", join_id("fraud", "p1")), "dca7dbd642f70fe7216dd824bf5706b5");
        assert_ne!(join_id("fraud", "p1"), join_id("fraudp", "1"));
        assert_eq!(partition_of_id(join_id("fraud", "p1"), 1), 0);
    }

    #[test]
    fn samples_are_nested_fair_and_spread_over_all_partitions() {
        let ids: Vec<u128> = (0..40_000).map(|index| join_id("fraud", &format!("p{index}"))).collect();
        let of = |sample: f64| -> Vec<u128> { ids.iter().copied().filter(|id| is_sampled(*id, sample)).collect() };
        assert_eq!(of(1.0).len(), ids.len());
        assert!(is_sampled(u128::MAX, 1.0) && !is_sampled(u128::MAX, 0.999_999));
        let (tenth, half) = (of(0.1), of(0.5));
        assert!(tenth.iter().all(|id| half.contains(id)));
        // Five standard errors.
        assert!(tenth.len().abs_diff(4_000) < 300, "{}", tenth.len());
        assert!(half.len().abs_diff(20_000) < 500, "{}", half.len());
        for partition in 0..4 {
            let here = tenth.iter().filter(|id| partition_of_id(**id, 4) == partition).count();
            assert!(here.abs_diff(1_000) < 150, "{here} of partition {partition}");
        }
    }
}
