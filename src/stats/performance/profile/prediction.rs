//! One prediction and one label, as performance takes them.

/// What performance needs of a prediction event. What the event lacks is NaN, `None` or empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Binary: the score of the positive class. NaN: missing.
    pub score: f64,
    /// Binary: 1 is positive, 0 is not. Multiclass: position in [`classes`](super::PerformanceLayout::classes), their
    /// number for a class that is none of them.
    pub class: Option<u32>,
    /// Regression: the predicted number. NaN: missing.
    pub value: f64,
    /// Multiclass: the score of each class, in the order of the layout; NaN: missing. Empty where the model has none.
    pub class_scores: Vec<f64>,
    /// Multiclass: the chance of each class by the reference's calibration, in the order of the layout, adding up to 1.
    /// Empty where there is no calibration.
    pub chances: Vec<f64>,
    /// Regression: absolute and squared error that the reference leads to expect.
    pub expected_loss: Option<[f64; 2]>,
    /// The features that the business value is computed from, by [`carried`](super::PerformanceLayout::carried); NaN:
    /// missing.
    pub carried: Vec<f64>,
}

impl Default for Prediction {
    fn default() -> Self {
        Self {
            score: f64::NAN,
            class: None,
            value: f64::NAN,
            class_scores: Vec::new(),
            chances: Vec::new(),
            expected_loss: None,
            carried: Vec::new(),
        }
    }
}

/// What came true.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// As [`Prediction::class`].
    Class(u32),
    Number(f64),
    /// Ranking: relevance of each item of the list, in the order in which the model ranked them.
    Relevance(Vec<f32>),
}
