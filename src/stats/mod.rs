//! Statistics: mergeable profiles, and pure functions on them.
//!
//! `layout` says how a reference cuts a feature into bins or categories, `profile` holds what a pane keeps of a
//! feature under a layout, `aggregate` lets DataFusion build profiles, and `evaluate` turns two profiles of one
//! layout (reference and window) into named metrics, those of a `selection`. `rows` holds the exact statistics on the
//! values themselves, `performance` how well a model does by its labels, `change` the detectors that read a signal value
//! by value. The other files hold one statistic each, as functions of shares, counts or moments, with its law under no
//! drift; what bins hide of a statistic is in its bound. Definitions and names are those of docs/statistics.md. To add a
//! statistic: one file with the function, its source and tests; a row in `evaluate/numeric.rs` or
//! `evaluate/categorical.rs`; a row in `rules/metrics.rs`; a row in the docs.

pub mod aggregate;
pub mod anderson_darling;
pub mod calibration;
pub mod categorical_profile;
pub mod cells;
pub mod change;
pub mod chi_square;
pub mod constant;
pub mod counts;
pub mod cramer_von_mises;
pub mod edges;
pub mod energy_distance;
pub mod evaluate;
pub mod evidently;
pub mod exact_sum;
pub mod hellinger;
pub mod jensen_shannon;
pub mod kolmogorov_smirnov;
pub mod kullback_leibler;
pub mod labels;
pub mod layout;
pub mod location;
pub mod mann_whitney;
pub mod metric;
pub mod multiple_testing;
pub mod null;
pub mod numeric_profile;
pub mod out_of_range;
pub mod performance;
pub mod profile;
pub mod proportions;
pub mod psi;
pub mod quality;
pub mod quantile;
pub mod quantile_shift;
pub mod rows;
pub mod selection;
pub mod skew;
pub mod span;
pub mod sql;
pub mod total_variation;
pub mod variance_ratio;
pub mod varint;
pub mod vector;
pub mod wasserstein;
pub mod welch;
