//! Change detectors: state machines that read one signal value by value and say after which value its behaviour has
//! changed.
//!
//! They are sequential: what one says depends on the order of the values, and two of them cannot be merged. Each is a
//! file with its parameters, its state (bounded, serialisable) and `update(value) -> Verdict`; definitions and defaults
//! are those of river 0.26.1, which all but KSWIN (whose sample is random there) match value for value. `Detector` is
//! any of them, starts it afresh after a change, and keeps values out that the method cannot take. To add one: a file,
//! a variant of `Method` and of `State`, and a row in docs/statistics.md.

pub mod adwin;
pub mod ddm;
pub mod eddm;
pub mod fhddm;
pub mod hddm_a;
pub mod hddm_w;
pub mod kswin;
pub mod method;
pub mod page_hinkley;
mod running_mean;

use serde::{Deserialize, Serialize};

pub use method::{Domain, Method};

use adwin::Adwin;
use ddm::Ddm;
use eddm::Eddm;
use fhddm::Fhddm;
use hddm_a::HddmA;
use hddm_w::HddmW;
use kswin::Kswin;
use page_hinkley::PageHinkley;

/// Name of the metric that counts the changes of a signal in a window.
pub const CHANGE_POINTS: &str = "change_points";

/// What a value did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The signal has changed: seen at this value, begun before it.
    pub change: bool,
    /// It may be changing; only some methods warn.
    pub warning: bool,
}

/// A method at work on one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    state: State,
    /// The last value was a change: the next one begins afresh.
    changed: bool,
}

/// The state of any method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Adwin(Adwin),
    PageHinkley(PageHinkley),
    Ddm(Ddm),
    Eddm(Eddm),
    HddmA(HddmA),
    HddmW(HddmW),
    Fhddm(Fhddm),
    Kswin(Kswin),
}

impl State {
    fn new(method: &Method) -> Self {
        match method.clone() {
            Method::Adwin(parameters) => State::Adwin(Adwin::new(parameters)),
            Method::PageHinkley(parameters) => State::PageHinkley(PageHinkley::new(parameters)),
            Method::Ddm(parameters) => State::Ddm(Ddm::new(parameters)),
            Method::Eddm(parameters) => State::Eddm(Eddm::new(parameters)),
            Method::HddmA(parameters) => State::HddmA(HddmA::new(parameters)),
            Method::HddmW(parameters) => State::HddmW(HddmW::new(parameters)),
            Method::Fhddm(parameters) => State::Fhddm(Fhddm::new(parameters)),
            Method::Kswin(parameters) => State::Kswin(Kswin::new(parameters)),
        }
    }

    fn method(&self) -> Method {
        match self {
            State::Adwin(state) => Method::Adwin(state.parameters.clone()),
            State::PageHinkley(state) => Method::PageHinkley(state.parameters.clone()),
            State::Ddm(state) => Method::Ddm(state.parameters.clone()),
            State::Eddm(state) => Method::Eddm(state.parameters.clone()),
            State::HddmA(state) => Method::HddmA(state.parameters.clone()),
            State::HddmW(state) => Method::HddmW(state.parameters.clone()),
            State::Fhddm(state) => Method::Fhddm(state.parameters.clone()),
            State::Kswin(state) => Method::Kswin(state.parameters.clone()),
        }
    }

    fn domain(&self) -> Domain {
        match self {
            State::Adwin(_) | State::PageHinkley(_) | State::Kswin(_) => Domain::Numbers,
            State::HddmA(_) | State::HddmW(_) => Domain::UnitInterval,
            State::Ddm(_) | State::Eddm(_) | State::Fhddm(_) => Domain::ZeroOrOne,
        }
    }

    fn update(&mut self, value: f64) -> Verdict {
        match self {
            State::Adwin(state) => state.update(value),
            State::PageHinkley(state) => state.update(value),
            State::Ddm(state) => state.update(value),
            State::Eddm(state) => state.update(value),
            State::HddmA(state) => state.update(value),
            State::HddmW(state) => state.update(value),
            State::Fhddm(state) => state.update(value),
            State::Kswin(state) => state.update(value),
        }
    }
}

impl Detector {
    pub fn new(method: &Method) -> Self {
        Self { state: State::new(method), changed: false }
    }

    /// The method and parameters that this state belongs to.
    pub fn method(&self) -> Method {
        self.state.method()
    }

    /// Which values it can take.
    pub fn domain(&self) -> Domain {
        self.state.domain()
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes in the next value. `None`: outside what the method can take, and left out.
    pub fn observe(&mut self, value: f64) -> Option<Verdict> {
        if !self.state.domain().contains(value) {
            return None;
        }
        if self.changed {
            self.state = State::new(&self.state.method());
        }
        let verdict = self.state.update(value);
        self.changed = verdict.change;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests;
