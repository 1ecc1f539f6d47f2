//! The engine and its queue without a network: what is left of a request's time is the server's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftline::config::scorer::EngineSettings;
use driftline::scorer::batching::{BatchSettings, Job, Runner};
use driftline::scorer::engine::{Engine, OnnxEngine};
use driftline::scorer::tensor::{Tensor, TensorData, TensorLimits};

use super::median;

const SECONDS: u64 = 2;

/// Of the given files, or of the fixtures.
pub fn measure(models: &[PathBuf]) {
    let engine = OnnxEngine::open(&EngineSettings::default(), Path::new(".")).expect("ONNX Runtime");
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/scorer/{name}.onnx"));
    let fixtures = [fixture("mlp"), fixture("trees")];
    for path in if models.is_empty() { &fixtures } else { models } {
        let model = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap();
        let width = engine.load(&bytes).unwrap().signature().inputs[0].shape[1].expect("columns");
        println!("\n{model}: one session, one thread\n{:<10} {:>14} {:>14}", "rows", "us a batch", "rows/s");
        for rows in [1, 8, 64, 512, 1024, 4096] {
            let mut session = engine.load(&bytes).unwrap().session().unwrap();
            session.warm().unwrap();
            let inputs = [inputs(width, rows)];
            let us = median((0..5).map(|_| {
                let started = Instant::now();
                let mut count = 0_u32;
                while started.elapsed() < Duration::from_millis(200) {
                    session.score(&inputs).unwrap();
                    count += 1;
                }
                started.elapsed().as_secs_f64() * 1e6 / f64::from(count)
            }));
            println!("{rows:<10} {us:>14.2} {:>14.0}", rows as f64 / us * 1e6);
        }
        println!("\n{model}: queue and workers, requests of one row");
        println!(
            "{:<10} {:>8} {:>12} {:>12} {:>14} {:>12}",
            "callers", "workers", "p50 us", "p99 us", "requests/s", "rows/batch"
        );
        for (callers, workers) in [(1, 1), (16, 1), (256, 1), (256, 2)] {
            let settings = BatchSettings { workers: Some(workers), ..BatchSettings::default() };
            let runner = Arc::new(Runner::start(engine.load(&bytes).unwrap(), &settings, "bench").unwrap());
            callers_at_once(&runner, width, callers, workers);
        }
    }
}

fn inputs(width: usize, rows: usize) -> Tensor {
    let values = (0..rows * width).map(|n| ((n * 37) % 101) as f32 / 50. - 1.).collect();
    Tensor::new("features", vec![rows, width], TensorData::Fp32(values), &TensorLimits::default()).unwrap()
}

fn callers_at_once(runner: &Arc<Runner>, width: usize, callers: usize, workers: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answered = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + Duration::from_secs(SECONDS);
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (runner, answered) = (Arc::clone(runner), Arc::clone(&answered));
            runtime.spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < until {
                    let asked = Instant::now();
                    runner.score(Job { inputs: vec![inputs(width, 1)], ..Job::default() }).await.unwrap();
                    took.push(asked.elapsed());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                took
            })
        })
        .collect();
    let mut took: Vec<Duration> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    let rate = answered.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    took.sort_unstable();
    let us = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let stats = runner.stats();
    let per_batch = stats.rows as f64 / stats.batches as f64;
    println!("{callers:<10} {workers:>8} {:>12.1} {:>12.1} {rate:>14.0} {per_batch:>12.1}", us(0.5), us(0.99));
}
