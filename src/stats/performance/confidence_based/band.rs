//! How far realised metrics may be from their estimate while nothing but chance parts them.

use crate::stats::metric::MetricValue;

/// Standard normal quantile of 97.5%.
pub const NORMAL_95: f64 = 1.959_963_984_540_054;

/// What parts an estimate from the realised value: which labels the window's rows happened to get, and which the
/// reference's rows happened to get that the calibration was fitted on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Variance {
    pub sampling: f64,
    pub calibration: f64,
}

impl Variance {
    /// Half the width of the band that holds the realised value with 95%.
    pub fn margin(self) -> f64 {
        NORMAL_95 * (self.sampling + self.calibration).max(0.0).sqrt()
    }
}

/// An estimate of a share, in [0, 1], with the band that holds the realised value with 95%. `ends` are the least and the
/// greatest value that the rows behind coarse counts allow; both `value` where counts are exact.
pub fn share(value: f64, ends: [f64; 2], variance: Variance) -> MetricValue {
    let [least, most] = ends;
    let margin = variance.margin();
    let band = [(least - margin).max(0.0), (most + margin).min(1.0)];
    MetricValue::within(value, least, most).with_interval(band).tidy()
}

/// An estimate that is no share, not negative.
pub fn amount(value: f64, ends: [f64; 2], variance: Variance) -> MetricValue {
    let [least, most] = ends;
    let margin = variance.margin();
    MetricValue::within(value, least, most).with_interval([(least - margin).max(0.0), most + margin]).tidy()
}
