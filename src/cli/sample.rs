//! Sample predictions of a fraud model, with a drift that can be switched on: for the demo, and for trying a
//! Kafka set-up (`driftline produce-sample`).

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const COUNTRIES: [(&str, f64); 4] = [("DE", 0.40), ("FR", 0.30), ("ES", 0.20), ("IT", 0.10)];
const MERCHANTS: [(&str, f64); 5] =
    [("grocery", 0.45), ("fuel", 0.20), ("travel", 0.15), ("electronics", 0.12), ("games", 0.08)];

/// Draws events; the same seed gives the same events.
pub struct Sampler {
    random: StdRng,
    /// Draws outcomes only, so that events are the same with labels and without.
    outcomes: StdRng,
    next_id: u64,
}

impl Sampler {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), outcomes: StdRng::seed_from_u64(!seed), next_id: 0 }
    }

    /// One prediction event. With `drifted`, amounts are 60% higher (a currency that is no longer converted) and
    /// a merchant category that training never saw makes up a tenth.
    pub fn event(&mut self, event_time_ms: i64, drifted: bool) -> Value {
        self.labelled_event(event_time_ms, drifted).0
    }

    /// An event, and what should have been predicted: `decline` or `approve`. Frauds come as often as the score says,
    /// until the drift: they do not become more frequent because amounts are written otherwise.
    pub fn labelled_event(&mut self, event_time_ms: i64, drifted: bool) -> (Value, &'static str) {
        let mut amount = (3.6 + 0.8 * self.normal()).exp();
        let age_days = -400.0 * self.random.random::<f64>().max(1e-12).ln();
        let country = self.pick(&COUNTRIES);
        let mut merchant = self.pick(&MERCHANTS);
        if drifted {
            amount *= 1.6;
            if self.random.random::<f64>() < 0.1 {
                merchant = "crypto";
            }
        }
        let unknown = 0.4 * self.normal();
        let score_of = |amount: f64| 1.0 / (1.0 + (3.0 - 0.012 * amount + 0.001 * age_days - unknown).exp());
        let score = score_of(amount);
        let is_fraud = self.outcomes.random::<f64>() < score_of(if drifted { amount / 1.6 } else { amount });
        self.next_id += 1;
        let event = json!({
            "id": format!("p{:012}", self.next_id),
            "timestamp": rfc3339(event_time_ms),
            "model": "fraud",
            "version": "3",
            "features": {
                "amount": round(amount, 2),
                "age_days": round(age_days, 1),
                "merchant_category": merchant,
                "country": country,
            },
            "prediction": if score > 0.5 { "decline" } else { "approve" },
            "score": round(score, 6),
        });
        (event, if is_fraud { "decline" } else { "approve" })
    }

    fn pick(&mut self, choices: &[(&'static str, f64)]) -> &'static str {
        let mut left = self.random.random::<f64>();
        for (name, share) in choices {
            left -= share;
            if left < 0.0 {
                return name;
            }
        }
        choices.last().map_or("", |(name, _)| name)
    }

    /// A standard normal deviate (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.random.random::<f64>().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.random.random::<f64>()).cos()
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

pub fn rfc3339(epoch_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(epoch_ms)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        .unwrap_or_else(|| epoch_ms.to_string())
}
