//! Vectors: embeddings, and the numeric features of an event taken together.
//!
//! `layout` is what a reference teaches once (standardisation, random frequencies, principal axes, laws under no
//! drift), `measure` turns one vector into the numbers that `profile` adds up, `sample` keeps a bounded sample of rows,
//! `evaluate` turns two profiles into metrics. `mmd2`, `pca_reconstruction_error`, `mean_cosine_distance` and
//! `classifier_auc` hold one statistic each; `law`, `eigen` and `arithmetic` are what they share. To add a statistic:
//! one file with the function, its law and what it can and cannot see; a line in `evaluate`; its name in
//! `rules::metrics`; a row in docs/statistics.md.

pub mod arithmetic;
pub mod classifier_auc;
pub mod eigen;
pub mod evaluate;
pub mod law;
pub mod layout;
pub mod mean_cosine_distance;
pub mod measure;
pub mod mmd2;
pub mod pca_reconstruction_error;
pub mod profile;
pub mod sample;
