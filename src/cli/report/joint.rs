//! All numeric features together, window by window, by the maximum mean discrepancy of their first rows.

use super::plan::PlannedFeature;
use super::windows::Cut;
use super::{Performance, ReportError};
use crate::config::model::Kind;
use crate::reference::table::{TableError, TableFile};
use crate::stats::rows::maximum_mean_discrepancy::{PairDistances, Standardised};
use crate::stats::rows::numeric::{Metrics, put};

/// Under this name the discrepancy stands among the features of a window.
pub const JOINT_FEATURE: &str = "_joint";
/// Rows of each side that are compared: pairs grow with their square.
const MOST_ROWS: usize = 500;

/// One per window; empty where the window has fewer than two complete rows. The model's label and outputs are left out
/// unless they are features by name.
pub fn compute(
    planned: &[PlannedFeature],
    performance: Option<&Performance>,
    reference: &TableFile,
    current: &TableFile,
    cut: &Cut,
) -> Result<Vec<Metrics>, ReportError> {
    let is_output =
        |name: &str| performance.is_some_and(|performance| performance.columns().any(|column| column == name));
    let names: Vec<&str> = planned
        .iter()
        .filter(|feature| feature.kind == Kind::Numeric && (feature.named || !is_output(&feature.name)))
        .map(|feature| feature.name.as_str())
        .collect();
    if names.is_empty() {
        return Err(ReportError::Usage("--mmd: there is no numeric feature to compare".into()));
    }
    let side = |side, file: &TableFile| {
        let path = file.path.clone();
        move |source| ReportError::Column { side, path, source }
    };
    let reference_columns = read(&names, reference).map_err(side("reference", reference))?;
    let current_columns = read(&names, current).map_err(side("current", current))?;
    let reference_rows = first_complete(&reference_columns, 0..reference.rows);
    let reference = Standardised::new(reference_rows);
    let windows = cut.split((0..current.rows).collect());
    Ok(windows.iter().map(|rows| compare(&reference, &current_columns, rows)).collect())
}

fn read(names: &[&str], file: &TableFile) -> Result<Vec<Vec<f64>>, TableError> {
    names.iter().map(|name| file.columns(&[name])?.numeric(name)).collect()
}

fn first_complete(columns: &[Vec<f64>], rows: impl Iterator<Item = usize>) -> Vec<Vec<f64>> {
    let row = |row: usize| columns.iter().map(|column| column[row]).collect::<Vec<f64>>();
    rows.map(row).filter(|row| row.iter().all(|value| !value.is_nan())).take(MOST_ROWS).collect()
}

fn compare(reference: &Standardised, columns: &[Vec<f64>], rows: &[usize]) -> Metrics {
    let window = first_complete(columns, rows.iter().copied());
    if window.len() < 2 {
        return Vec::new();
    }
    let (m, n) = (reference.rows.len() as f64, window.len() as f64);
    let mut metrics = vec![("mmd_n_ref", Some(m)), ("mmd_n", Some(n))];
    if reference.rows.is_empty() {
        // No row of the reference is complete.
        metrics.extend(["mmd2_unbiased", "mmd2_biased", "mmd_sigma"].map(|key| (key, None)));
        return metrics;
    }
    let pairs = PairDistances::new(&reference.rows, &reference.apply(&window));
    let width = pairs.median_width();
    let discrepancy = pairs.discrepancy(width);
    put(&mut metrics, "mmd2_unbiased", discrepancy.unbiased);
    put(&mut metrics, "mmd2_biased", discrepancy.biased);
    put(&mut metrics, "mmd_sigma", width);
    metrics
}
