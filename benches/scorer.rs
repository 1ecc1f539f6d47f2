//! What a score costs. Without arguments: the engine and its queue inside this process, which need `ORT_DYLIB_PATH`. With
//! `NAME=URL` arguments: servers that speak the Open Inference Protocol over HTTP, one after the other in the same rounds,
//! by one load generator; ratios are to the first. `scripts/scorer_bench.sh` starts the scorer and others for that.
//!
//!     cargo bench --bench scorer
//!     cargo bench --bench scorer -- scorer=http://127.0.0.1:8000 triton=http://127.0.0.1:8100 --model mlp
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "scorer/client.rs"]
mod client;
#[path = "scorer/inside.rs"]
mod inside;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, body};

const ROUNDS: usize = 5;
const FEATURES: usize = 8;

struct Options {
    model: String,
    seconds: u64,
    connections: usize,
    servers: Vec<(String, String)>,
}

fn options() -> Options {
    let mut options = Options { model: "mlp".into(), seconds: 2, connections: 16, servers: Vec::new() };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--model" => options.model = value(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--connections" => options.connections = value().parse().unwrap(),
            server => {
                let (name, url) = server.split_once('=').unwrap_or_else(|| panic!("`{server}` is not NAME=URL"));
                options.servers.push((name.into(), url.into()));
            }
        }
    }
    options
}

/// One server's figures of one round.
#[derive(Clone, Copy)]
struct Round {
    p50: Duration,
    p99: Duration,
    requests_per_s: f64,
}

fn main() {
    let options = options();
    if options.servers.is_empty() {
        return inside::measure();
    }
    same_scores(&options);
    for rows in [1, 64, 1024] {
        println!(
            "\n{rows} rows a request, JSON, {} connections, {ROUNDS} rounds of {} s",
            options.connections, options.seconds
        );
        println!(
            "{:<12} {:>12} {:>12} {:>12} {:>12} {:>8}",
            "server", "p50 us", "p99 us", "requests/s", "rows/s", "ratio"
        );
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); options.servers.len()];
        for _ in 0..ROUNDS {
            for ((_, url), rounds) in options.servers.iter().zip(&mut rounds) {
                rounds.push(measure(url, &options, rows));
            }
        }
        let mut first = None;
        for ((name, _), rounds) in options.servers.iter().zip(&rounds) {
            let rate = median(rounds.iter().map(|round| round.requests_per_s));
            let us = |of: fn(&Round) -> Duration| median(rounds.iter().map(|round| of(round).as_secs_f64() * 1e6));
            let ratio = *first.get_or_insert(rate) / rate;
            println!(
                "{name:<12} {:>12.1} {:>12.1} {rate:>12.0} {:>12.0} {ratio:>8.1}",
                us(|round| round.p50),
                us(|round| round.p99),
                rate * rows as f64
            );
        }
    }
}

/// All servers give the same scores: otherwise nothing is compared.
fn same_scores(options: &Options) {
    let mut expected: Option<Vec<f64>> = None;
    for (name, url) in &options.servers {
        let scores = Client::open(url).scores(&options.model, &body(3, FEATURES));
        let expected = expected.get_or_insert_with(|| scores.clone());
        let same = expected.len() == scores.len() && expected.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{name} scores {scores:?}, the first server {expected:?}");
    }
}

fn measure(url: &str, options: &Options, rows: usize) -> Round {
    let body = body(rows, FEATURES);
    let mut client = Client::open(url);
    let request = client.request(&options.model, &body);
    // Unloaded: one request after the other on one connection.
    let mut took = Vec::new();
    let until = Instant::now() + Duration::from_secs(options.seconds) / 2;
    while Instant::now() < until {
        let started = Instant::now();
        client.exchange(&request);
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let quantile = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Round { p50: quantile(0.5), p99: quantile(0.99), requests_per_s: load(url, options, &request) }
}

/// Requests a second of all connections together.
fn load(url: &str, options: &Options, request: &[u8]) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let threads: Vec<_> = (0..options.connections)
        .map(|_| {
            let (stop, request, mut client) = (Arc::clone(&stop), request.to_vec(), Client::open(url));
            std::thread::spawn(move || {
                let mut answered = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    client.exchange(&request);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(options.seconds));
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    answered as f64 / started.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
