//! How many alerts chance alone is expected to raise: known before a rule has run for a day.
//!
//! A window without drift has a finding with probability `alpha` at most, after the correction for the number of features;
//! without a correction each feature has its own chance. `for: m of n` needs m - 1 more among the n - 1 windows before,
//! taken as independent: a little too few where windows overlap or the stream has a memory.

use super::compile::Rule;
use crate::config::diagnostic::Problem;
use crate::config::model::Model;
use crate::config::rules::{Correction, SignificanceTest};

const DAY_MS: f64 = 86_400_000.0;
/// More chance alerts a day than this are worth a warning.
const MOST_A_DAY: f64 = 1.0;
/// What a better `for` is looked for up to.
const MOST_WINDOWS: u32 = 5;
/// A `for` that brings them below this is suggested.
const FEW_A_DAY: f64 = 0.2;

/// Alerts a day that chance raises by this rule for one version of a model; `None` where its conditions are thresholds
/// that chance reaches or not depending on the size of the windows.
pub fn expected_a_day(rule: &Rule, model: &Model) -> Option<f64> {
    let conditions = [&rule.warn, &rule.critical];
    let is_learned = conditions.into_iter().flatten().any(|expression| expression.condition.has_auto());
    let is_uncorrected = rule.significance.correction == Correction::None;
    let has_test =
        rule.significance.test != SignificanceTest::None && rule.performance.is_none() && !rule.counts_rows_only;
    if !has_test || !(is_learned || is_uncorrected) {
        return None;
    }
    let slide_ms = rule.window_spec(model.windows.size.ms).slide_ms;
    let alpha = rule.significance.alpha(slide_ms).clamp(0.0, 1.0);
    let tests = if is_uncorrected {
        model.watched_signals().iter().filter(|signal| rule.selects(&signal.name)).count()
    } else {
        1
    };
    let a_window = 1.0 - (1.0 - alpha).powi(tests.try_into().unwrap_or(i32::MAX));
    Some(a_day(a_window, slide_ms, rule.persistence.needed, rule.persistence.of))
}

fn a_day(a_window: f64, slide_ms: i64, needed: u32, of: u32) -> f64 {
    DAY_MS / slide_ms.max(1) as f64 * a_window * at_least(needed.saturating_sub(1), of.saturating_sub(1), a_window)
}

/// Probability of `needed` or more among `of` independent windows.
fn at_least(needed: u32, of: u32, probability: f64) -> f64 {
    let mut fewer = 0.0;
    let mut combinations = 1.0;
    for count in 0..needed {
        fewer +=
            combinations * probability.powi(count as i32) * (1.0 - probability).powi((of.saturating_sub(count)) as i32);
        combinations *= f64::from(of.saturating_sub(count)) / f64::from(count + 1);
    }
    (1.0 - fewer).clamp(0.0, 1.0)
}

/// A warning where chance is expected to page every day.
pub fn problem(rule: &Rule, pointer: &str, models: &[&Model]) -> Option<Problem> {
    let (model, a_day) = models
        .iter()
        .filter_map(|model| Some((model, expected_a_day(rule, model)?)))
        .max_by(|(_, left), (_, right)| left.total_cmp(right))
        .filter(|(_, a_day)| *a_day > MOST_A_DAY)?;
    let message = format!(
        "chance alone is expected to raise {} alerts a day by `{}`, for each version of `{}`",
        rounded(a_day),
        rule.name,
        model.model
    );
    let mut windows = rule.persistence.of.max(1) + 1..=MOST_WINDOWS;
    let better = windows.find_map(|windows| {
        let longer = Rule { persistence: super::state::Persistence { needed: windows, of: windows }, ..rule.clone() };
        let a_day = expected_a_day(&longer, model)?;
        (a_day <= FEW_A_DAY).then(|| format!("`for: {windows} windows` makes it {}", rounded(a_day)))
    });
    let help = match better {
        Some(better) => {
            format!("{better}; so does a longer `window`, or `significance: {{budget: {{false_alarms: 1, per: 30d}}}}`")
        }
        None => "write `significance: {budget: {false_alarms: 1, per: 30d}}`, or correct for the number of features"
            .to_string(),
    };
    Some(Problem::warning("chance-alerts", format!("{pointer}/name"), message).help(help))
}

/// Two digits are all that such an estimate has.
fn rounded(number: f64) -> String {
    match number {
        number if number >= 10.0 => format!("{number:.0}"),
        number if number >= 1.0 => format!("{number:.1}"),
        number if number >= 0.01 => format!("{number:.2}"),
        _ => "less than 0.01".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hourly_windows_at_one_percent_are_a_quarter_of_an_alert_a_day() {
        assert!((a_day(0.01, 3_600_000, 1, 1) - 0.24).abs() < 1e-9);
        assert!((a_day(0.01, 60_000, 2, 2) - 0.144).abs() < 1e-9);
        let uncorrected = 1.0 - 0.99_f64.powi(200);
        assert!((a_day(uncorrected, 3_600_000, 1, 1) - 20.8).abs() < 0.1, "of 24 windows a day nearly all");
    }

    #[test]
    fn more_windows_of_several_are_the_tail_of_a_binomial() {
        assert!((at_least(0, 4, 0.3) - 1.0).abs() < 1e-12);
        assert!((at_least(2, 4, 0.5) - 11.0 / 16.0).abs() < 1e-12, "{}", at_least(2, 4, 0.5));
        assert!((at_least(4, 4, 0.5) - 1.0 / 16.0).abs() < 1e-12);
    }
}
