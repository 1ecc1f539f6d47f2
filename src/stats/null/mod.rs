//! Null laws: how likely is a statistic when nothing has drifted?
//!
//! Decisions are asked for deep in the tail: with 200 features and a false-alarm rate of 1% a window, the first step
//! of a correction asks about p = 5e-5, where the textbook laws (chi-square, normal) are too small by up to ten
//! times on 100 events. So `homogeneity` and `scores` use the permutation law: given both sides together, every way of
//! choosing the window's rows is equally likely, which gives exact means, variances and skewnesses;
//! `wilson_hilferty` turns them into normal equivalents that hold in the tail. `inflation` widens a law by what
//! windows differ beyond chance, `law` is what is left of it for thresholds, and `drift` puts the tests of one
//! feature together. To add a test: one file with its law and a test of its tail, and its weight in `drift`.

pub mod drift;
pub mod homogeneity;
pub mod inflation;
pub mod law;
pub mod normal;
pub mod scores;
mod wilson_hilferty;

pub use inflation::Inflation;
pub use law::NullLaw;
