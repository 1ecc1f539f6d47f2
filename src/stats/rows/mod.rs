//! Exact statistics on rows: both samples are in memory, nothing is binned unless the statistic itself bins.
//!
//! `sample` holds a sorted sample, `ecdf` merges two of them into the steps of their empirical distributions; most
//! statistics are one pass over those steps. `numeric` and `categorical` gather all of them under the keys of
//! docs/statistics.md. To add one: a file with the function on `&[Step]` or `&Sample`, its source and a small known
//! case; then a line in `numeric` or `categorical`.

pub mod anderson_darling;
pub mod categorical;
pub mod cramer_von_mises;
pub mod ecdf;
pub mod energy;
pub mod histogram;
pub mod kolmogorov_smirnov;
pub mod kolmogorov_smirnov_exact;
pub mod mann_whitney;
pub mod maximum_mean_discrepancy;
pub mod numeric;
pub mod sample;
pub mod wasserstein;
pub mod welch;
