//! Engines for tests that need no ONNX Runtime: a linear model in plain Rust, and the same one slow or failing.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod shelf;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use driftline::scorer::engine::{Engine, EngineError, LoadedModel, Session, Signature, TensorSpec};
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};

/// What a fake session does besides adding up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Habit {
    #[default]
    Sound,
    /// Each batch takes so long.
    Slow(Duration),
    /// Fails if any feature of the batch is this value.
    FailsOn(f32),
    /// Panics if any feature of the batch is this value.
    PanicsOn(f32),
    /// Every batch fails.
    AlwaysFails,
    /// A batch is never done.
    Hangs,
    /// It never gets warm.
    HangsInWarming,
}

impl Habit {
    /// As it stands after the `;` of a model's text: `slow 20` (ms), `fails on 7`, `panics on 7`, `fails`, `hangs`,
    /// `hangs in warming`.
    fn parse(text: &str) -> Option<Self> {
        match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["slow", ms] => Some(Self::Slow(Duration::from_millis(ms.parse().ok()?))),
            ["fails", "on", bad] => Some(Self::FailsOn(bad.parse().ok()?)),
            ["panics", "on", bad] => Some(Self::PanicsOn(bad.parse().ok()?)),
            ["fails"] => Some(Self::AlwaysFails),
            ["hangs"] => Some(Self::Hangs),
            ["hangs", "in", "warming"] => Some(Self::HangsInWarming),
            _ => None,
        }
    }
}

/// `score = bias + sum(weight * feature)`. A model is text: `linear W1 W2 ... + BIAS`, for example `linear 0.5 -1 + 2`. A
/// model with a habit of its own ends with it: `linear 0.5 -1 + 2; hangs`.
/// Input `features` FP32 `[-1, n]`, output `score` FP32 `[-1, 1]`.
#[derive(Debug, Clone, Default)]
pub struct FakeEngine {
    pub habit: Habit,
    pub batches: Arc<AtomicU64>,
    pub rows: Arc<AtomicU64>,
}

impl FakeEngine {
    pub fn with(habit: Habit) -> Self {
        Self { habit, ..Self::default() }
    }
}

impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>, EngineError> {
        let text = std::str::from_utf8(model).map_err(|_| EngineError::Model("the model is not text".into()))?;
        let body =
            text.trim().strip_prefix("linear ").ok_or_else(|| EngineError::Model("not a linear model".into()))?;
        let (body, habit) = match body.split_once(';') {
            Some((body, habit)) => (body, Habit::parse(habit)),
            None => (body, Some(self.habit)),
        };
        let habit = habit.ok_or_else(|| EngineError::Model("no such habit".into()))?;
        let (weights, bias) =
            body.split_once('+').ok_or_else(|| EngineError::Model("a linear model ends with `+ BIAS`".into()))?;
        let number = |text: &str| text.parse::<f32>().map_err(|_| EngineError::Model(format!("`{text}` is no number")));
        let weights = weights.split_whitespace().map(number).collect::<Result<Vec<f32>, _>>()?;
        let bias = number(bias.trim())?;
        let engine = Self { habit, ..self.clone() };
        Ok(Arc::new(Linear { signature: signature(weights.len()), weights, bias, engine }))
    }
}

fn signature(features: usize) -> Signature {
    let spec =
        |name: &str, width| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: vec![None, Some(width)] };
    Signature { inputs: vec![spec("features", features)], outputs: vec![spec("score", 1)], batches: true }
}

struct Linear {
    signature: Signature,
    weights: Vec<f32>,
    bias: f32,
    engine: FakeEngine,
}

impl LoadedModel for Linear {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        "fake"
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(LinearSession { weights: self.weights.clone(), bias: self.bias, engine: self.engine.clone() }))
    }
}

struct LinearSession {
    weights: Vec<f32>,
    bias: f32,
    engine: FakeEngine,
}

impl Session for LinearSession {
    fn warm(&mut self) -> Result<(), EngineError> {
        if self.engine.habit == Habit::HangsInWarming {
            hang();
        }
        Ok(())
    }

    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let [features] = inputs else {
            return Err(EngineError::Input(format!("{} inputs instead of one", inputs.len())));
        };
        let TensorData::Fp32(values) = features.data() else {
            return Err(EngineError::Input("`features` is not FP32".into()));
        };
        self.engine.batches.fetch_add(1, Ordering::Relaxed);
        self.engine.rows.fetch_add(features.rows() as u64, Ordering::Relaxed);
        match self.engine.habit {
            Habit::Sound => {}
            Habit::Slow(pause) => std::thread::sleep(pause),
            Habit::FailsOn(bad) if values.contains(&bad) => {
                return Err(EngineError::Compute(format!("{bad} cannot be computed")));
            }
            Habit::PanicsOn(bad) if values.contains(&bad) => panic!("a fake panic on {bad}"),
            Habit::FailsOn(_) | Habit::PanicsOn(_) | Habit::HangsInWarming => {}
            Habit::Hangs => hang(),
            Habit::AlwaysFails => return Err(EngineError::Compute("this model always fails".into())),
        }
        let scores: Vec<f32> = values.chunks_exact(self.weights.len()).map(|row| self.score_row(row)).collect();
        Ok(vec![fp32("score", vec![scores.len(), 1], scores)])
    }
}

fn hang() {
    loop {
        std::thread::park();
    }
}

impl LinearSession {
    fn score_row(&self, row: &[f32]) -> f32 {
        self.bias + row.iter().zip(&self.weights).map(|(feature, weight)| feature * weight).sum::<f32>()
    }
}

pub fn fp32(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Tensor {
    Tensor::new(name, shape, TensorData::Fp32(values), &TensorLimits::default()).unwrap()
}

/// Rows for a linear model of `width` features.
pub fn features(width: usize, values: &[f32]) -> Tensor {
    fp32("features", vec![values.len() / width, width], values.to_vec())
}

/// The numbers of an FP32 output.
pub fn scores(outputs: &[Tensor]) -> Vec<f32> {
    match outputs.first().map(Tensor::data) {
        Some(TensorData::Fp32(values)) => values.clone(),
        other => panic!("no FP32 output: {other:?}"),
    }
}
