//! `driftline gate`: whether a version may serve, judged on rows whose labels are known, before any traffic meets it.
//!
//! `scoring` lets a version score the rows, `rows` reads them, `paired` compares two versions on the same rows, `measure`
//! puts these together into `Measurements`; `verdict` judges them by a gate file and is pure; `text`, `json`, `html` and
//! `junit` write what it found. To add a check: a function in `verdict` that returns `Check`s, what it needs in
//! `measurements`, a key in `config::gate`, a row in docs/gate.md.

pub mod html;
pub mod json;
pub mod junit;
pub mod measure;
pub mod measurements;
pub mod paired;
pub mod rows;
pub mod scoring;
pub mod text;
pub mod verdict;

pub use measurements::Measurements;
pub use verdict::{Check, GateReport, Outcome, Stage, judge};
