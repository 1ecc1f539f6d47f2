//! The values of a prediction in an entry of the table: one in the entry itself, the class beside it, all others, where
//! there are any, in one slice.

use crate::stats::performance::profile::Prediction;

use super::slab::NONE;

/// What an entry holds of a prediction: `primary`, `class` and, with any other value, a slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Compact {
    pub primary: f64,
    pub class: u32,
    pub further: Option<Box<[f64]>>,
}

/// In front of the class scores, chances and carried values: the other one of score and value, both expected losses
/// (NaN: none), and how many class scores and chances there are.
const HEAD: usize = 5;

impl Compact {
    /// `by_value`: the model's output is `value` (regression), else `score`.
    pub fn new(prediction: Prediction, by_value: bool) -> Self {
        let Prediction { score, class, value, class_scores, chances, expected_loss, carried } = prediction;
        let (primary, other) = if by_value { (value, score) } else { (score, value) };
        let single = class_scores.is_empty() && chances.is_empty() && carried.is_empty();
        let bare = single && other.is_nan() && expected_loss.is_none();
        let further = (!bare).then(|| {
            let [absolute, squared] = expected_loss.unwrap_or([f64::NAN; 2]);
            let head = [other, absolute, squared, class_scores.len() as f64, chances.len() as f64];
            head.into_iter().chain(class_scores).chain(chances).chain(carried).collect()
        });
        Self { primary, class: class.unwrap_or(NONE), further }
    }

    pub fn expand(primary: f64, class: u32, further: Option<&[f64]>, by_value: bool) -> Prediction {
        let mut other = f64::NAN;
        let (mut expected_loss, mut class_scores, mut chances, mut carried) =
            (None, Vec::new(), Vec::new(), Vec::new());
        if let Some([kept, absolute, squared, score_count, chance_count, values @ ..]) = further {
            other = *kept;
            expected_loss = (!absolute.is_nan() || !squared.is_nan()).then_some([*absolute, *squared]);
            let (scores, rest) = values.split_at((*score_count as usize).min(values.len()));
            let (of_classes, rest) = rest.split_at((*chance_count as usize).min(rest.len()));
            (class_scores, chances, carried) = (scores.to_vec(), of_classes.to_vec(), rest.to_vec());
        }
        let (score, value) = if by_value { (other, primary) } else { (primary, other) };
        let class = (class != NONE).then_some(class);
        Prediction { score, class, value, class_scores, chances, expected_loss, carried }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(further: &[f64]) -> usize {
        debug_assert!(further.len() >= HEAD);
        size_of_val(further) + size_of::<Box<[f64]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(prediction: &Prediction) -> Vec<u64> {
        let loss = prediction.expected_loss.iter().flatten();
        let numbers = [prediction.score, prediction.value];
        let all = numbers.iter().chain(&prediction.class_scores).chain(&prediction.chances).chain(loss);
        let counts = [prediction.class_scores.len(), prediction.chances.len()].map(|count| count as u64);
        let rest = counts.into_iter().chain([prediction.class.map_or(u64::MAX, u64::from)]);
        all.chain(&prediction.carried).map(|number| number.to_bits()).chain(rest).collect()
    }

    #[test]
    fn a_prediction_comes_back_as_it_went_in() {
        let of =
            |score: f64, class: Option<u32>, value: f64| Prediction { score, class, value, ..Prediction::default() };
        let binary = of(0.25, Some(1), f64::NAN);
        let multiclass =
            Prediction { class_scores: vec![0.1, 0.9], chances: vec![0.2, 0.8], ..of(f64::NAN, Some(1), f64::NAN) };
        let regression = Prediction { expected_loss: Some([1.5, 3.0]), ..of(f64::NAN, None, -7.0) };
        let valued = Prediction { carried: vec![1.0, f64::NAN], ..of(0.5, None, 2.0) };
        for (prediction, by_value, bare) in [
            (of(f64::NAN, None, f64::NAN), false, true),
            (binary, false, true),
            (multiclass, false, false),
            (of(f64::NAN, None, 4.0), true, true),
            (regression, true, false),
            (valued, false, false),
        ] {
            let compact = Compact::new(prediction.clone(), by_value);
            assert_eq!(compact.further.is_none(), bare, "{prediction:?}");
            let back = Compact::expand(compact.primary, compact.class, compact.further.as_deref(), by_value);
            assert_eq!(bits(&back), bits(&prediction), "{back:?} of {prediction:?}");
        }
    }
}
