//! Training-serving skew: the value a model was served against the value it was, or would be, trained on.
//!
//! `compare` says what two values of one feature are to each other, `counts` adds that up per feature, `examples`
//! keeps a handful of the pairs that differ. All of it is mergeable in any order, to the bit. Which rows belong
//! together is the caller's to say.

mod compare;
mod counts;
mod examples;

pub use compare::{Comparison, Difference, MissingReason, Outcome, Tolerance, Value, compare};
pub use counts::FeatureSkew;
pub use examples::{Example, Examples};
