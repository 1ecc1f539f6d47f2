//! The error of a prediction once its label is known: what change detectors watch as `performance.error`.

use super::profile::{Label, PerformanceLayout, Prediction};
use crate::config::performance::Task;

/// Classification: 1 where the predicted class is wrong, else 0. Regression: |prediction - label|. `None` where the
/// prediction is missing, and for rankings.
pub fn error(layout: &PerformanceLayout, prediction: &Prediction, label: &Label) -> Option<f64> {
    match (layout.task(), label) {
        (Task::Binary | Task::Multiclass, Label::Class(label)) => {
            let class = layout.predicted_class(prediction)?;
            Some(f64::from(u8::from(class != *label)))
        }
        (Task::Regression, Label::Number(label)) => {
            Some((prediction.value - label).abs()).filter(|error| error.is_finite())
        }
        _ => None,
    }
}
