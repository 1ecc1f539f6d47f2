//! Wall clock, CPU time and memory of this process, and the table of what they came to.

use std::time::Instant;

/// A moment, by the wall clock and by the CPU time this process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    wall: Instant,
    cpu_s: f64,
}

/// What handling some events has cost.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub events: u64,
    wall_s: f64,
    cpu_s: f64,
}

impl Reading {
    pub fn now() -> Self {
        Self { wall: Instant::now(), cpu_s: cpu_seconds().unwrap_or(f64::NAN) }
    }

    pub fn until_now(self, events: u64) -> Sample {
        let now = Self::now();
        Sample { events, wall_s: now.wall.duration_since(self.wall).as_secs_f64(), cpu_s: now.cpu_s - self.cpu_s }
    }
}

impl Sample {
    pub fn rate(self) -> f64 {
        self.events as f64 / self.wall_s
    }

    pub fn cpu_s_per_million(self) -> f64 {
        self.cpu_s / self.events as f64 * 1e6
    }
}

/// User and system time of all threads, ended ones too; a tick is 10 ms (see `telemetry`). `None` without /proc.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? as f64 / 100.0)
}

/// Most resident memory so far, MiB; it never falls. NaN without /proc.
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One stage: a sample per round.
pub struct Row {
    pub name: &'static str,
    pub samples: Vec<Sample>,
    /// After the first round.
    pub peak_mib: f64,
}

/// Medians over the rounds; ratios are those to the first row within the same round.
pub fn print_table(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let (rate_ratio, cpu_ratio) = (format!("rate/{}", first.name), format!("CPU/{}", first.name));
    println!(
        "{:<12} {:>9} {:>12} {rate_ratio:>14} {:>15} {cpu_ratio:>14} {:>9}",
        "stage", "events", "M events/s", "CPU s/M events", "peak MiB"
    );
    for row in rows {
        let ratio = |figure: fn(Sample) -> f64| {
            median(row.samples.iter().zip(&first.samples).map(|(sample, first)| figure(*sample) / figure(*first)))
        };
        println!(
            "{:<12} {:>9} {:>12.3} {:>14.2} {:>15.2} {:>14.2} {:>9.0}",
            row.name,
            row.samples.first().map_or(0, |sample| sample.events),
            median(row.samples.iter().map(|sample| sample.rate() / 1e6)),
            ratio(Sample::rate),
            median(row.samples.iter().map(|sample| sample.cpu_s_per_million())),
            ratio(Sample::cpu_s_per_million),
            row.peak_mib,
        );
    }
}
