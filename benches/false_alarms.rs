//! How often rules cry wolf: windows without drift, judged by the default rule of this project and by those of
//! other tools.
//!
//! `cargo bench --bench false_alarms`, or quickly `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --profile dev --bench
//! false_alarms`. Five kinds of streams, references of 2 000 and 50 000 rows, windows of 100, 2 000 and 100 000, 25 and
//! 200 features: 60 cells, each printed as a row of Markdown; seeds are fixed. Words after `--` choose cells by what
//! their row says: `-- seasonal 2000`; `DRIFTLINE_BENCH_SHARE=0.1` takes a tenth of the windows. It fails where the rate of windows with a finding is above the stated alpha
//! by more than chance explains.

mod drift;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use drift::peers::Peers;
use drift::stream::KINDS;
use drift::{AnyError, Change, Kind, Random, STRICT, Stream, USUAL, World, interval};
use driftline::config::rules::Correction;
use driftline::rules::significance::adjust;

const ALPHA: f64 = 0.01;
/// Levels at which the smallest adjusted p-value of a window is counted: more windows reach them than alpha.
const LEVELS: [f64; 2] = [0.05, 0.2];

#[derive(Debug, Clone, Copy)]
struct Cell {
    kind: Kind,
    n: usize,
    m: usize,
    features: usize,
    windows: usize,
}

/// Windows with any alarm.
#[derive(Debug, Clone, Default)]
struct Counted {
    windows: usize,
    drift: usize,
    missing: usize,
    /// Windows whose smallest adjusted p-value is at most the level.
    at_level: [usize; 2],
    /// Features with a p-value of at most 0.001, of all features.
    deep: usize,
    asked: usize,
    peers: [usize; 4],
}

fn main() -> Result<(), AnyError> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut cells = Vec::new();
    for kind in KINDS {
        for n in [2_000, 50_000] {
            for (m, few, many) in [(100, 1_000, 300), (2_000, 600, 200), (100_000, 100, 30)] {
                cells.push(Cell { kind, n, m, features: 25, windows: few });
                cells.push(Cell { kind, n, m, features: 200, windows: many });
            }
        }
    }
    // A share of the windows, for a machine with other work: 0.1 is a tenth.
    let share: f64 = std::env::var("DRIFTLINE_BENCH_SHARE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    for cell in &mut cells {
        cell.windows = (cell.windows as f64 * share).ceil() as usize;
    }
    cells.retain(|cell| wanted.iter().all(|word| row_start(cell).contains(word.as_str())));
    println!(
        "| stream | N | M | features | windows | with a finding | at most (95%) | p <= 5% | p <= 20% | p <= 0.001, of the \
         features | nulls rule | {} |",
        drift::peers::NAMES.join(" | ")
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, cell)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cells.get(i)?)))
                {
                    let outcome = measure(cell, index as u64);
                    if let Ok(mut broken) = broken.lock() {
                        match outcome {
                            Ok(counted) => broken.extend(report(cell, &counted)),
                            Err(error) => broken.push(format!("{cell:?}: {error}")),
                        }
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_default();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n").into()) }
}

/// Several worlds a cell, so that one odd reference does not speak for all: more of them where most of the chance lies
/// in the reference, since its windows then go wrong together.
fn measure(cell: &Cell, seed: u64) -> Result<Counted, AnyError> {
    let worlds = if 2 * cell.m >= cell.n { cell.windows.clamp(1, 25) } else { 5 };
    let mut counted = Counted::default();
    for world in 0..worlds {
        let windows = (cell.windows / worlds).max(1);
        let seed = seed * 100 + world as u64;
        let mut random = Random::new(seed);
        let stream = Stream::new(cell.kind, cell.features, windows as i64, seed + 50);
        let world = World::new(&stream, cell.n, &mut random)?;
        let peers = Peers::new(&world, cell.m);
        for hour in 0..windows as i64 {
            window(cell, &stream, &world, &peers, hour, &mut random, &mut counted)?;
        }
    }
    Ok(counted)
}

fn window(
    cell: &Cell,
    stream: &Stream,
    world: &World,
    peers: &Peers,
    hour: i64,
    random: &mut Random,
    counted: &mut Counted,
) -> Result<(), AnyError> {
    let (mut features, mut p_values, mut alarms) = (BTreeMap::new(), Vec::new(), [false; 4]);
    for feature in 0..cell.features {
        let seen = world.seen(stream, feature, hour, cell.m, Change::None, random)?;
        let scores = peers.scores(feature, &seen.values, &seen.stats)?;
        for (any, alarm) in alarms.iter_mut().zip(peers.alarms(feature, &scores)) {
            *any |= alarm;
        }
        let p = seen.stats.metrics.get("drift").and_then(|drift| drift.p_value).ok_or("no p-value")?;
        counted.deep += usize::from(p <= 0.001);
        counted.asked += 1;
        p_values.push(p);
        features.insert(Stream::name(feature), seen.stats);
    }
    counted.windows += 1;
    let smallest = adjust(Correction::BenjaminiHochberg, &p_values).into_iter().fold(1.0, f64::min);
    for (count, level) in counted.at_level.iter_mut().zip(LEVELS) {
        *count += usize::from(smallest <= level);
    }
    for (count, alarm) in counted.peers.iter_mut().zip(alarms) {
        *count += usize::from(alarm);
    }
    counted.drift += usize::from(world.found("feature-drift", cell.m, features.clone())? > 0);
    counted.missing += usize::from(world.found("nulls-jump", cell.m, features)? > 0);
    Ok(())
}

fn row_start(cell: &Cell) -> String {
    format!("| {} | {} | {} | {} |", cell.kind.name(), cell.n, cell.m, cell.features)
}

/// Prints the row; what is wrong with it.
fn report(cell: &Cell, counted: &Counted) -> Option<String> {
    let windows = counted.windows;
    let percent = |count: usize| format!("{:.1}%", 100.0 * count as f64 / windows as f64);
    println!(
        "{} {windows} | {} | {:.1}% | {} | {} | {:.2}% | {} | {} |",
        row_start(cell),
        percent(counted.drift),
        100.0 * interval(counted.drift, windows, USUAL).1,
        percent(counted.at_level[0]),
        percent(counted.at_level[1]),
        100.0 * counted.deep as f64 / counted.asked as f64,
        percent(counted.missing),
        counted.peers.map(percent).join(" | "),
    );
    let rules = [("feature-drift", counted.drift, ALPHA), ("nulls-jump", counted.missing, ALPHA)];
    let levels = LEVELS.iter().zip(counted.at_level).map(|(level, count)| ("adjusted p", count, *level));
    let above = rules.into_iter().chain(levels).find(|(_, count, level)| interval(*count, windows, STRICT).0 > *level);
    above.map(|(what, count, level)| format!("{cell:?}: {what} in {count} of {windows} windows, above {level}"))
}
