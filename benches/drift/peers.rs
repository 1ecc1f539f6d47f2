//! Default rules of other tools, written here from their documentation and published code, on the same windows. Of
//! NannyML's bins and chunks, Evidently's choice of test for references over 1 000 rows, and Scouter's chi-square
//! threshold; what is not theirs is said in docs/benchmarks.md.

use driftline::stats::jensen_shannon::jensen_shannon_distance;
use driftline::stats::metric::FeatureStats;
use driftline::stats::psi::population_stability_index;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::AnyError;
use super::stream::{CATEGORIES, Value};
use super::world::World;

/// What each tool computes of one feature of one window.
#[derive(Debug, Clone, Copy)]
pub struct Scores {
    /// Deciles or categories; alarm above 0.1.
    pub psi: f64,
    /// The same with a floor of 1e-10; alarm above the 95% point of chi-square over M, whatever N.
    pub scouter: f64,
    pub scouter_bins: usize,
    /// References over 1 000 rows: Wasserstein distance in standard deviations, Jensen-Shannon in nats; above 0.1.
    pub evidently: f64,
    /// Jensen-Shannon over Doane's bins; outside mean +- 3 standard deviations of the reference's chunks.
    pub nannyml: f64,
}

/// What NannyML learns of a feature.
struct Learned {
    /// Equal-width bins of Doane; `None`: categories.
    bins: Option<Doane>,
    reference: Vec<f64>,
    lower: f64,
    upper: f64,
}

struct Doane {
    min: f64,
    max: f64,
    bins: usize,
}

pub struct Peers {
    learned: Vec<Learned>,
    m: usize,
}

impl Peers {
    /// NannyML's chunks are `m` rows each where the reference has ten of them, else a tenth of the reference, its
    /// default.
    pub fn new(world: &World, m: usize) -> Self {
        Self { learned: world.reference_values.iter().map(|values| Learned::of(values, m)).collect(), m }
    }

    pub fn scores(&self, feature: usize, values: &[Value], stats: &FeatureStats) -> Result<Scores, AnyError> {
        let value = |name: &str| -> Result<f64, AnyError> {
            let metric = stats.metrics.get(name).and_then(|metric| metric.value);
            metric.ok_or_else(|| format!("feature {feature} has no {name}").into())
        };
        let learned = self.learned.get(feature).ok_or("unknown feature")?;
        let (p, q) = match &learned.bins {
            Some(_) => {
                let bins = stats.bins.iter().filter(|bin| bin.label != "(missing)");
                bins.map(|bin| (bin.reference, bin.window)).unzip()
            }
            None => (learned.reference.clone(), shares(&category_counts(values))),
        };
        let p: Vec<f64> = p;
        let evidently = match &learned.bins {
            Some(_) => value("wasserstein_norm")?,
            None => value("js")? * std::f64::consts::LN_2.sqrt(),
        };
        Ok(Scores {
            psi: value("psi")?,
            scouter: population_stability_index(&p, &q, 1e-10),
            scouter_bins: p.len(),
            evidently,
            nannyml: learned.distance(values),
        })
    }

    /// Alarms of fixed PSI, Scouter, Evidently and NannyML for a feature.
    pub fn alarms(&self, feature: usize, scores: &Scores) -> [bool; 4] {
        let limit =
            ChiSquared::new((scores.scouter_bins.max(2) - 1) as f64).map_or(f64::NAN, |law| law.inverse_cdf(0.95));
        let learned = &self.learned[feature];
        [
            scores.psi > 0.1,
            scores.scouter > limit / self.m as f64,
            scores.evidently > 0.1,
            scores.nannyml > learned.upper || scores.nannyml < learned.lower,
        ]
    }
}

pub const NAMES: [&str; 4] = ["PSI > 0.1", "Scouter", "Evidently", "NannyML"];

impl Learned {
    fn of(values: &[Value], m: usize) -> Self {
        let numbers: Vec<f64> = values.iter().filter_map(number).collect();
        let bins = (!numbers.is_empty()).then(|| Doane::of(&numbers));
        let mut learned = Self { bins, reference: Vec::new(), lower: 0.0, upper: 0.0 };
        learned.reference = learned.shares(values);
        let size = if values.len() / m >= 10 { m } else { values.len() / 10 };
        let distances: Vec<f64> = values.chunks_exact(size).map(|chunk| learned.distance(chunk)).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / distances.len() as f64;
        (learned.lower, learned.upper) = (mean - 3.0 * variance.sqrt(), mean + 3.0 * variance.sqrt());
        learned
    }

    fn distance(&self, values: &[Value]) -> f64 {
        jensen_shannon_distance(&self.reference, &self.shares(values), 2.0)
    }

    fn shares(&self, values: &[Value]) -> Vec<f64> {
        match &self.bins {
            None => shares(&category_counts(values)),
            Some(doane) => {
                // One more for what lies outside the reference.
                let mut counts = vec![0u64; doane.bins + 1];
                values.iter().filter_map(number).for_each(|value| counts[doane.bin(value)] += 1);
                shares(&counts)
            }
        }
    }
}

impl Doane {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n;
        let skewness = moment(3) / moment(2).powf(1.5);
        let deviation = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
        let bins = (1.0 + n.log2() + (1.0 + skewness.abs() / deviation).log2()).ceil().max(1.0) as usize;
        let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        Self { min, max, bins }
    }

    fn bin(&self, value: f64) -> usize {
        if value < self.min || value > self.max {
            return self.bins;
        }
        (((value - self.min) / (self.max - self.min) * self.bins as f64) as usize).min(self.bins - 1)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

fn category_counts(values: &[Value]) -> Vec<u64> {
    let mut counts = vec![0u64; CATEGORIES];
    for value in values {
        if let Value::Category(category) = value {
            counts[*category as usize] += 1;
        }
    }
    counts
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|count| *count as f64 / total).collect()
}
