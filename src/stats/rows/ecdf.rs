//! The steps of two empirical distribution functions, merged.

/// One distinct value of either sample, and how many values of each are not above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub value: f64,
    pub reference: u64,
    pub window: u64,
}

/// Merges two samples sorted ascending into `steps`, whose memory is reused.
pub fn merge_into(steps: &mut Vec<Step>, reference: &[f64], window: &[f64]) {
    steps.clear();
    steps.reserve(reference.len() + window.len());
    let (mut i, mut j) = (0, 0);
    while i < reference.len() && j < window.len() {
        let value = reference[i].min(window[j]);
        // without branches: which side comes next is a coin toss
        i += usize::from(reference[i] <= value);
        j += usize::from(window[j] <= value);
        push(steps, value, i, j);
    }
    for value in &reference[i..] {
        i += 1;
        push(steps, *value, i, j);
    }
    for value in &window[j..] {
        j += 1;
        push(steps, *value, i, j);
    }
}

fn push(steps: &mut Vec<Step>, value: f64, reference: usize, window: usize) {
    let step = Step { value, reference: reference as u64, window: window as u64 };
    match steps.last_mut() {
        Some(last) if last.value == value => *last = step,
        _ => steps.push(step),
    }
}

pub fn merge(reference: &[f64], window: &[f64]) -> Vec<Step> {
    let mut steps = Vec::new();
    merge_into(&mut steps, reference, window);
    steps
}

/// Rows per sample at each step: `(value, in the reference, in the window)`.
pub fn ties(steps: &[Step]) -> impl Iterator<Item = (f64, u64, u64)> + '_ {
    let mut previous = (0, 0);
    steps.iter().map(move |step| {
        let tie = (step.value, step.reference - previous.0, step.window - previous.1);
        previous = (step.reference, step.window);
        tie
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_within_and_across_samples_are_one_step() {
        let steps = merge(&[1.0, 1.0, 2.0, 4.0], &[1.0, 3.0, 3.0, 4.0, 5.0]);
        let plain: Vec<_> = steps.iter().map(|s| (s.value, s.reference, s.window)).collect();
        assert_eq!(plain, [(1.0, 2, 1), (2.0, 3, 1), (3.0, 3, 3), (4.0, 4, 4), (5.0, 4, 5)]);
        let counts: Vec<_> = ties(&steps).collect();
        assert_eq!(counts, [(1.0, 2, 1), (2.0, 1, 0), (3.0, 0, 2), (4.0, 1, 1), (5.0, 0, 1)]);
    }

    #[test]
    fn an_empty_side_still_steps() {
        assert_eq!(merge(&[], &[2.0]), [Step { value: 2.0, reference: 0, window: 1 }]);
    }
}
