//! The two by two table of a binary model, and what is read from it.

use super::ratio;

/// Rows by prediction and label; weights where the label is only known with a probability.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Confusion {
    pub true_positives: f64,
    pub false_positives: f64,
    pub false_negatives: f64,
    pub true_negatives: f64,
}

impl Confusion {
    /// Adds a row that is a positive with this weight, in [0, 1], and a negative with the rest.
    pub fn add(&mut self, predicted: bool, positive: f64) {
        if predicted {
            self.true_positives += positive;
            self.false_positives += 1.0 - positive;
        } else {
            self.false_negatives += positive;
            self.true_negatives += 1.0 - positive;
        }
    }

    pub fn rows(&self) -> f64 {
        self.predicted_positives() + self.false_negatives + self.true_negatives
    }

    fn positives(&self) -> f64 {
        self.true_positives + self.false_negatives
    }

    fn negatives(&self) -> f64 {
        self.true_negatives + self.false_positives
    }

    fn predicted_positives(&self) -> f64 {
        self.true_positives + self.false_positives
    }

    /// Share of right predictions; `None` without rows, as all that follow without their denominator.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.true_positives + self.true_negatives, self.rows())
    }

    /// Share of positives among the rows predicted positive.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.predicted_positives())
    }

    /// Share of the positives that are predicted positive.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.positives())
    }

    /// Share of the negatives that are predicted negative.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives, self.negatives())
    }

    /// Harmonic mean of precision and recall, as 2 TP / (2 TP + FP + FN).
    pub fn f1(&self) -> Option<f64> {
        let twice = 2.0 * self.true_positives;
        ratio(twice, twice + self.false_positives + self.false_negatives)
    }

    /// Mean of recall and specificity.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        Some((self.recall()? + self.specificity()?) / 2.0)
    }

    /// Correlation of prediction and label (Matthews, 1975), in [-1, 1]; 0 where a row or column of the table is empty.
    pub fn matthews_correlation(&self) -> f64 {
        let roots = [
            self.predicted_positives(),
            self.positives(),
            self.negatives(),
            self.true_negatives + self.false_negatives,
        ]
        .map(f64::sqrt);
        let difference = self.true_positives * self.true_negatives - self.false_positives * self.false_negatives;
        ratio(difference, roots.iter().product()).unwrap_or(0.0)
    }

    /// Share of positives.
    pub fn prevalence(&self) -> Option<f64> {
        ratio(self.positives(), self.rows())
    }

    /// Share of rows predicted positive.
    pub fn positive_rate(&self) -> Option<f64> {
        ratio(self.predicted_positives(), self.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_denominator_is_undefined() {
        let mut nothing_predicted = Confusion::default();
        nothing_predicted.add(false, 1.0);
        nothing_predicted.add(false, 0.0);
        assert_eq!(nothing_predicted.precision(), None);
        assert_eq!((nothing_predicted.recall(), nothing_predicted.specificity()), (Some(0.0), Some(1.0)));
        assert_eq!((nothing_predicted.f1(), nothing_predicted.matthews_correlation()), (Some(0.0), 0.0));
        let mut only_positives = Confusion::default();
        only_positives.add(true, 1.0);
        assert_eq!((only_positives.specificity(), only_positives.balanced_accuracy()), (None, None));
    }
}
