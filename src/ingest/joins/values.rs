//! Predictions and labels in a record of `joins`, as bytes.

use crate::stats::performance::profile::{Label, Prediction};
use crate::stats::varint::{self, Reader};

const SCORE: u8 = 1;
const CLASS: u8 = 2;
const VALUE: u8 = 4;
const EXPECTED_LOSS: u8 = 8;
const CLASS_SCORES: u8 = 16;
const CHANCES: u8 = 32;
const CARRIED: u8 = 64;

pub(super) fn write_optional(is_there: bool, out: &mut Vec<u8>) {
    out.push(u8::from(is_there));
}

pub(super) fn read_optional(reader: &mut Reader<'_>) -> Option<bool> {
    reader.byte().filter(|flag| *flag <= 1).map(|flag| flag == 1)
}

pub(super) fn write_prediction(prediction: &Prediction, out: &mut Vec<u8>) {
    let lists =
        [(CLASS_SCORES, &prediction.class_scores), (CHANCES, &prediction.chances), (CARRIED, &prediction.carried)];
    let mut flags = 0;
    for (flag, is_there) in [
        (SCORE, !prediction.score.is_nan()),
        (CLASS, prediction.class.is_some()),
        (VALUE, !prediction.value.is_nan()),
        (EXPECTED_LOSS, prediction.expected_loss.is_some()),
    ] {
        flags |= if is_there { flag } else { 0 };
    }
    lists.iter().filter(|(_, list)| !list.is_empty()).for_each(|(flag, _)| flags |= flag);
    out.push(flags);
    if flags & SCORE > 0 {
        out.extend_from_slice(&prediction.score.to_le_bytes());
    }
    if let Some(class) = prediction.class {
        varint::write(u64::from(class), out);
    }
    if flags & VALUE > 0 {
        out.extend_from_slice(&prediction.value.to_le_bytes());
    }
    for loss in prediction.expected_loss.iter().flatten() {
        out.extend_from_slice(&loss.to_le_bytes());
    }
    for (_, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        varint::write(list.len() as u64, out);
        list.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
}

pub(super) fn read_prediction(reader: &mut Reader<'_>) -> Option<Prediction> {
    let flags = reader.byte().filter(|flags| *flags < 2 * CARRIED)?;
    let has = |flag: u8| flags & flag > 0;
    let score = if has(SCORE) { reader.double()? } else { f64::NAN };
    let class = if has(CLASS) { Some(u32::try_from(reader.varint()?).ok()?) } else { None };
    let value = if has(VALUE) { reader.double()? } else { f64::NAN };
    let expected_loss = if has(EXPECTED_LOSS) { Some([reader.double()?, reader.double()?]) } else { None };
    let mut list = |flag: u8| if has(flag) { read_list(reader, 8, Reader::double) } else { Some(Vec::new()) };
    let (class_scores, chances, carried) = (list(CLASS_SCORES)?, list(CHANCES)?, list(CARRIED)?);
    Some(Prediction { score, class, value, class_scores, chances, expected_loss, carried })
}

pub(super) fn write_label(label: &Label, out: &mut Vec<u8>) {
    match label {
        Label::Class(class) => {
            out.push(0);
            varint::write(u64::from(*class), out);
        }
        Label::Number(number) => {
            out.push(1);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Label::Relevance(items) => {
            out.push(2);
            varint::write(items.len() as u64, out);
            items.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
        }
    }
}

pub(super) fn read_label(reader: &mut Reader<'_>) -> Option<Label> {
    let single = |reader: &mut Reader<'_>| reader.bytes(4)?.try_into().ok().map(f32::from_le_bytes);
    Some(match reader.byte()? {
        0 => Label::Class(u32::try_from(reader.varint()?).ok()?),
        1 => Label::Number(reader.double()?),
        2 => Label::Relevance(read_list(reader, 4, single)?),
        _ => return None,
    })
}

/// A count, then as many entries of at least `least_bytes` each: a damaged count cannot ask for more memory than the
/// bytes that are left.
pub(super) fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    least_bytes: usize,
    mut entry: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = reader.varint_up_to((reader.remaining() / least_bytes) as u64)?;
    (0..count).map(|_| entry(reader)).collect()
}

pub(super) fn read_bytes(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let length = reader.varint_up_to(reader.remaining() as u64)? as usize;
    reader.bytes(length).map(<[u8]>::to_vec)
}
