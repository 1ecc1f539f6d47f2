//! `driftline gate`: whether a version may serve, judged on rows whose labels are known, before any traffic meets it.
//!
//! `version` loads a version as the scorer serves it, `rows` reads the rows, `feed` makes its inputs of them and `outputs`
//! says which of what comes back is the score, `scoring` lets it score them, `paired` compares two versions on the same
//! rows, `measure` puts these together into `Measurements`; `verdict` judges them by a gate file with the functions of
//! `checks`, and is pure; `text`, `json`, `html` and `junit` write what it found. `checks` says how to add one.

pub mod checks;
pub mod feed;
pub mod html;
pub mod json;
pub mod junit;
pub mod measure;
pub mod measurements;
pub mod outputs;
pub mod paired;
pub mod rows;
pub mod scoring;
pub mod text;
pub mod verdict;
pub mod version;

pub use measurements::Measurements;
pub use verdict::{Check, GateReport, Outcome, Stage, judge};
