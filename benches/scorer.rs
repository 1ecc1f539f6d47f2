//! What a score costs. Without arguments: the engine and its queue inside this process, which need `ORT_DYLIB_PATH`; of the
//! fixtures, or of the `.onnx` files named, whose one input is `features`, FP32 of two dimensions. With
//! `NAME=URL` arguments: servers that speak the Open Inference Protocol over HTTP, one after the other in the same rounds,
//! by one load generator; ratios are to the first. `scripts/scorer_bench.sh` starts the scorer and others for that.
//!
//!     cargo bench --bench scorer
//!     cargo bench --bench scorer -- scorer=http://127.0.0.1:8000 triton=http://127.0.0.1:8100 --model mlp
//!
//! `--rows 1,64`: rows of a request, one table each. `--binary`: binary tensors instead of JSON. `--rate N`: so many
//! requests a second, evenly, instead of as many as go; latencies are those at that rate. A server called `echo` is not asked
//! whether it scores the same: `--serve-echo PORT` is one, which only speaks HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "scorer/client.rs"]
mod client;
#[path = "scorer/echo.rs"]
mod echo;
#[path = "scorer/inside.rs"]
mod inside;

use std::time::{Duration, Instant};

use client::{Body, Client, request};

const FEATURES: usize = 8;

struct Options {
    model: String,
    seconds: f64,
    rounds: usize,
    connections: usize,
    rows: Vec<usize>,
    binary: bool,
    rate: Option<f64>,
    servers: Vec<(String, String)>,
}

fn main() {
    let mut options = Options {
        model: "mlp".into(),
        seconds: 2.,
        rounds: 5,
        connections: 16,
        rows: vec![1, 64, 1024],
        binary: false,
        rate: None,
        servers: Vec::new(),
    };
    let mut models = Vec::new();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--serve-echo" => return echo::serve(value().parse().unwrap()),
            "--model" => options.model = value(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--connections" => options.connections = value().parse().unwrap(),
            "--rows" => options.rows = value().split(',').map(|rows| rows.parse().unwrap()).collect(),
            "--rate" => options.rate = Some(value().parse().unwrap()),
            "--binary" => options.binary = true,
            file if file.ends_with(".onnx") => models.push(file.into()),
            server => {
                let (name, url) = server.split_once('=').unwrap_or_else(|| panic!("`{server}` is not NAME=URL"));
                options.servers.push((name.into(), url.into()));
            }
        }
    }
    if options.servers.is_empty() {
        return inside::measure(&models);
    }
    same_scores(&options);
    for rows in &options.rows {
        compare(&options, *rows);
    }
}

/// All servers give the same scores: otherwise nothing is compared.
fn same_scores(options: &Options) {
    let mut expected: Option<Vec<f64>> = None;
    for (name, url) in options.servers.iter().filter(|(name, _)| name != "echo") {
        let scores = Client::open(url).scores(&options.model, 3, FEATURES);
        let expected = expected.get_or_insert_with(|| scores.clone());
        let same = expected.len() == scores.len() && expected.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same, "{name} scores {scores:?}, the first server {expected:?}");
    }
}

/// One server's figures of one round.
#[derive(Clone, Copy)]
struct Round {
    p50: Duration,
    p99: Duration,
    requests_per_s: f64,
}

fn compare(options: &Options, rows: usize) {
    let format = if options.binary { "binary tensors" } else { "JSON" };
    let load = options.rate.map_or("one at a time, then at once".to_string(), |rate| format!("{rate} requests/s"));
    println!(
        "\n{rows} rows a request, {format}, {} connections, {load}, {} rounds of {} s",
        options.connections, options.rounds, options.seconds
    );
    println!(
        "{:<14} {:>10} {:>10} {:>12} {:>12} {:>7} {:>17}",
        "server", "p50 us", "p99 us", "requests/s", "rows/s", "ratio", "lowest-highest/s"
    );
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); options.servers.len()];
    for _ in 0..options.rounds {
        for ((_, url), rounds) in options.servers.iter().zip(&mut rounds) {
            rounds.push(measure(url, options, rows));
        }
    }
    let mut first = None;
    for ((name, _), rounds) in options.servers.iter().zip(&rounds) {
        let rates = rounds.iter().map(|round| round.requests_per_s);
        let rate = median(rates.clone());
        let us = |of: fn(&Round) -> Duration| median(rounds.iter().map(|round| of(round).as_secs_f64() * 1e6));
        println!(
            "{name:<14} {:>10.1} {:>10.1} {rate:>12.0} {:>12.0} {:>7.3} {:>8.0}-{:.0}",
            us(|round| round.p50),
            us(|round| round.p99),
            rate * rows as f64,
            *first.get_or_insert(rate) / rate,
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(0., f64::max),
        );
    }
}

fn measure(url: &str, options: &Options, rows: usize) -> Round {
    let body = if options.binary { Body::binary(rows, FEATURES) } else { Body::json(rows, FEATURES) };
    let request = request(&options.model, &body);
    match options.rate {
        Some(rate) => at_rate(url, options, &request, rate),
        None => {
            let (p50, p99) = one_at_a_time(url, options, &request);
            Round { p50, p99, requests_per_s: at_once(url, options, &request) }
        }
    }
}

/// Median and 99th percentile of one request after the other on one connection.
fn one_at_a_time(url: &str, options: &Options, request: &[u8]) -> (Duration, Duration) {
    let mut client = Client::open(url);
    let mut took = Vec::new();
    let until = Instant::now() + Duration::from_secs_f64(options.seconds / 2.);
    while Instant::now() < until {
        let started = Instant::now();
        client.send(request);
        client.receive();
        took.push(started.elapsed());
    }
    quantiles(took)
}

/// Requests a second with one request under way on each connection. One thread has them all, in turn: it seldom waits, so
/// it takes less of the processor than a thread for each would.
fn at_once(url: &str, options: &Options, request: &[u8]) -> f64 {
    let mut clients: Vec<Client> = (0..options.connections).map(|_| Client::open(url)).collect();
    clients.iter_mut().for_each(|client| client.send(request));
    let mut answered = 0_u64;
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < options.seconds {
        for client in &mut clients {
            client.receive();
            client.send(request);
        }
        answered += clients.len() as u64;
    }
    let took = started.elapsed();
    clients.iter_mut().for_each(|client| {
        client.receive();
    });
    answered as f64 / took.as_secs_f64()
}

/// Each connection sends in even steps, on a thread of its own; a request that is late because the answer before it was
/// has waited since it was due.
fn at_rate(url: &str, options: &Options, request: &[u8], rate: f64) -> Round {
    let step = Duration::from_secs_f64(options.connections as f64 / rate);
    let started = Instant::now();
    let threads: Vec<_> = (0..options.connections)
        .map(|index| {
            let (mut client, request) = (Client::open(url), request.to_vec());
            let mut due = started + step.mul_f64(index as f64 / options.connections as f64);
            let until = started + Duration::from_secs_f64(options.seconds);
            std::thread::spawn(move || {
                let mut took = Vec::new();
                while due < until {
                    let pause = due.saturating_duration_since(Instant::now());
                    std::thread::sleep(pause);
                    // The time that the system took to wake this thread is not the server's.
                    let asked = if pause.is_zero() { due } else { Instant::now() };
                    client.send(&request);
                    client.receive();
                    took.push(asked.elapsed());
                    due += step;
                }
                took
            })
        })
        .collect();
    let took: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let requests_per_s = took.len() as f64 / started.elapsed().as_secs_f64();
    let (p50, p99) = quantiles(took);
    Round { p50, p99, requests_per_s }
}

fn quantiles(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort_unstable();
    let quantile = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    (quantile(0.5), quantile(0.99))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
