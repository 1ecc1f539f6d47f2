//! Generated streams, judged by the project's own reference, profiles, statistics and rules, and by the rules of
//! other tools on the same windows. Shared by the benchmarks of false alarms and of power, and by their tests.
//!
//! A stream has hours. The reference is the first seven days, N rows sampled evenly over them, with their times;
//! windows are the hours after it, M rows each.
#![allow(dead_code)]

pub mod peers;
pub mod stream;
pub mod world;

pub use stream::{Change, Kind, Random, Stream};
pub use world::World;

pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

pub const HOUR_MS: i64 = 3_600_000;
/// Hours of the reference.
pub const REFERENCE_HOURS: i64 = 7 * 24;

/// Two-sided interval of a share (Wilson), `hits` of `n`, `z` standard deviations to either side.
pub fn interval(hits: usize, n: usize, z: f64) -> (f64, f64) {
    let n = n as f64;
    let share = hits as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half) / (1.0 + z * z / n), (middle + half) / (1.0 + z * z / n))
}

/// Of 95%.
pub const USUAL: f64 = 1.96;
/// So far that one false accusation among hundreds of comparisons is unlikely: one in 4 000 each.
pub const STRICT: f64 = 3.5;
