//! Which change detector, with which parameters, and how both are written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Detector;
use super::adwin::AdwinParameters;
use super::ddm::DdmParameters;
use super::eddm::EddmParameters;
use super::fhddm::FhddmParameters;
use super::hddm_a::HddmAParameters;
use super::hddm_w::HddmWParameters;
use super::kswin::KswinParameters;
use super::page_hinkley::PageHinkleyParameters;
use crate::config::model::{ChangeDetector, ChangeMethod};

/// A method and its parameters. As text `adwin` or `adwin(delta=0.05, clock=1)`; in a file the keys `method: adwin`,
/// `delta: 0.05`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Method {
    Adwin(AdwinParameters),
    PageHinkley(PageHinkleyParameters),
    Ddm(DdmParameters),
    Eddm(EddmParameters),
    HddmA(HddmAParameters),
    HddmW(HddmWParameters),
    Fhddm(FhddmParameters),
    Kswin(KswinParameters),
}

/// Names of all methods.
pub const METHODS: [&str; 8] = ["adwin", "page_hinkley", "ddm", "eddm", "hddm_a", "hddm_w", "fhddm", "kswin"];

/// Values a window of a method may hold, and buckets of one size: what bounds its memory.
const MOST_VALUES: u64 = 10_000;

/// Which values a method can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Every finite number.
    Numbers,
    /// From 0 to 1.
    UnitInterval,
    /// 0 or 1.
    ZeroOrOne,
}

impl Domain {
    pub fn contains(self, value: f64) -> bool {
        match self {
            Domain::Numbers => value.is_finite(),
            Domain::UnitInterval => (0.0..=1.0).contains(&value),
            Domain::ZeroOrOne => value == 0.0 || value == 1.0,
        }
    }

    pub fn in_words(self) -> &'static str {
        match self {
            Domain::Numbers => "finite numbers",
            Domain::UnitInterval => "numbers from 0 to 1",
            Domain::ZeroOrOne => "0 or 1",
        }
    }
}

impl Method {
    /// `parameters` by name; what is not given has its default.
    pub fn new(name: &str, parameters: Map<String, Value>) -> Result<Self, String> {
        if !METHODS.contains(&name) {
            return Err(format!("`{name}` is not a change detector; there are {}", METHODS.join(", ")));
        }
        let mut all = parameters;
        all.insert("method".into(), Value::from(name));
        let method: Method = serde_json::from_value(Value::Object(all)).map_err(|error| {
            let reason = error.to_string().replace("unknown field", "unknown parameter");
            format!("{name}: {reason}")
        })?;
        method.check().map_err(|reason| format!("{name}: {reason}"))?;
        Ok(method)
    }

    /// What a model file asks for.
    pub fn configured(detector: &ChangeDetector) -> Result<Self, String> {
        let name = match detector.method {
            ChangeMethod::Adwin => "adwin",
            ChangeMethod::PageHinkley => "page_hinkley",
            ChangeMethod::Ddm => "ddm",
            ChangeMethod::Eddm => "eddm",
            ChangeMethod::HddmA => "hddm_a",
            ChangeMethod::HddmW => "hddm_w",
            ChangeMethod::Fhddm => "fhddm",
            ChangeMethod::Kswin => "kswin",
        };
        Self::new(name, detector.parameters.clone().into_iter().collect())
    }

    pub fn name(&self) -> &'static str {
        match self {
            Method::Adwin(_) => "adwin",
            Method::PageHinkley(_) => "page_hinkley",
            Method::Ddm(_) => "ddm",
            Method::Eddm(_) => "eddm",
            Method::HddmA(_) => "hddm_a",
            Method::HddmW(_) => "hddm_w",
            Method::Fhddm(_) => "fhddm",
            Method::Kswin(_) => "kswin",
        }
    }

    /// Which values it can take.
    pub fn domain(&self) -> Domain {
        Detector::new(self).domain()
    }

    /// What no parameter may be.
    fn check(&self) -> Result<(), String> {
        match self {
            Method::Adwin(p) => {
                inside("delta", p.delta)?;
                at_least_one("clock", p.clock)?;
                window("max_buckets", p.max_buckets)?;
                at_least_one("min_window_length", p.min_window_length)
            }
            Method::PageHinkley(p) => {
                positive("threshold", p.threshold)?;
                if !(p.delta.is_finite() && p.delta >= 0.0) {
                    return Err(format!("`delta` is {}, and must be 0 or more", p.delta));
                }
                inside_or_one("alpha", p.alpha)
            }
            Method::Ddm(p) => {
                positive("warning_threshold", p.warning_threshold)?;
                positive("drift_threshold", p.drift_threshold)
            }
            Method::Eddm(p) => {
                inside_or_one("alpha", p.alpha)?;
                inside_or_one("beta", p.beta)?;
                if p.beta > p.alpha {
                    return Err(format!("`beta` is {}, above `alpha` ({}): a change needs more", p.beta, p.alpha));
                }
                Ok(())
            }
            Method::HddmA(p) => {
                inside("drift_confidence", p.drift_confidence)?;
                inside("warning_confidence", p.warning_confidence)
            }
            Method::HddmW(p) => {
                inside("drift_confidence", p.drift_confidence)?;
                inside("warning_confidence", p.warning_confidence)?;
                inside("lambda", p.lambda)
            }
            Method::Fhddm(p) => {
                inside("confidence_level", p.confidence_level)?;
                window("sliding_window_size", p.sliding_window_size)?;
                let short = p.short_window_size.unwrap_or(1);
                window("short_window_size", short)?;
                if short > p.sliding_window_size {
                    return Err(format!("`short_window_size` is {short}, more than `sliding_window_size`"));
                }
                Ok(())
            }
            Method::Kswin(p) => {
                inside("alpha", p.alpha)?;
                window("window_size", p.window_size)?;
                at_least_one("stat_size", p.stat_size)?;
                if p.stat_size > p.window_size / 2 {
                    let (size, most) = (p.stat_size, p.window_size / 2);
                    return Err(format!("`stat_size` is {size}, and must be at most half the window, {most}"));
                }
                Ok(())
            }
        }
    }

    /// Parameters that are not the default, as they are written in text.
    fn set_parameters(&self) -> Vec<String> {
        let defaults = Method::new(self.name(), Map::new());
        let object = |method: &Method| match serde_json::to_value(method) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        let defaults = defaults.map(|method| object(&method)).unwrap_or_default();
        let set = object(self).into_iter().filter(|(name, value)| defaults.get(name) != Some(value));
        set.map(|(name, value)| format!("{name}={}", value.as_str().map_or(value.to_string(), str::to_string)))
            .collect()
    }
}

fn inside(name: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(format!("`{name}` is {value}, and must be between 0 and 1")) }
}

fn inside_or_one(name: &str, value: f64) -> Result<(), String> {
    if value == 1.0 { Ok(()) } else { inside(name, value) }
}

fn positive(name: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(format!("`{name}` is {value}, and must be above 0")) }
}

fn at_least_one(name: &str, value: u64) -> Result<(), String> {
    if value >= 1 { Ok(()) } else { Err(format!("`{name}` is 0, and must be 1 or more")) }
}

fn window(name: &str, values: u64) -> Result<(), String> {
    at_least_one(name, values)?;
    if values <= MOST_VALUES { Ok(()) } else { Err(format!("`{name}` is {values}, and may be {MOST_VALUES} at most")) }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.set_parameters() {
            parameters if parameters.is_empty() => formatter.write_str(self.name()),
            parameters => write!(formatter, "{}({})", self.name(), parameters.join(", ")),
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else { return Method::new(text, Map::new()) };
        let form =
            || format!("`{text}` is not written as a detector is; write for example `adwin(delta=0.05, clock=1)`");
        let inner = rest.strip_suffix(')').ok_or_else(form)?;
        let mut parameters = Map::new();
        for assignment in inner.split(',').map(str::trim).filter(|assignment| !assignment.is_empty()) {
            let (key, value) = assignment.split_once('=').ok_or_else(form)?;
            let value = value.trim();
            // A number or a truth value as JSON writes it; anything else is a word.
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            if parameters.insert(key.trim().to_string(), value).is_some() {
                return Err(format!("`{text}` gives `{}` twice", key.trim()));
            }
        }
        Method::new(name.trim(), parameters)
    }
}

/// Several methods, separated by commas outside parentheses.
pub fn parse_list(text: &str) -> Result<Vec<Method>, String> {
    let mut depth = 0_i32;
    let parts = text.split(|character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    });
    parts.map(str::parse).collect()
}
