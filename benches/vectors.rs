//! What the vector statistics cost and what they see: time and memory, false alarms at 0.01, power.
//!
//! `cargo bench --bench vectors` prints the tables of docs/statistics.md, section vectors. With an argument, only the part so named: `cost`, `quiet` or `drift`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use driftline::stats::vector::arithmetic::Random;
use driftline::stats::vector::evaluate::{STATISTICS, VectorPair};
use driftline::stats::vector::layout::{VectorLayout, fitted_rows};
use driftline::stats::vector::measure::Measured;
use driftline::stats::vector::profile::VectorProfile;

/// Statistics with a p-value of their own.
const TESTED: [&str; 4] = ["mmd2", "pca_reconstruction_error", "mean_cosine_distance", "classifier_auc"];
const ALPHA: f64 = 0.01;

/// Time on a core, so that other work on the machine does not count.
struct Cpu(u64);

impl Cpu {
    fn now_ns() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn start() -> Self {
        Self(Self::now_ns())
    }

    fn ns(&self) -> f64 {
        (Self::now_ns() - self.0) as f64
    }
}

/// How the rows of a population come about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    /// Standard normal, neighbours in pairs correlated so.
    Pairs(f64),
    /// Exponentials of such pairs.
    LogNormal,
    /// Such pairs, rounded to whole numbers.
    Tied,
    /// Eight directions with noise around them: an embedding.
    Clusters,
}

/// What is done to a row of the window.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Drift {
    None,
    /// The first entry moves by so many standard deviations.
    MeanOfOne(f64),
    /// Every entry does.
    MeanOfAll(f64),
    /// The variance of the first entry grows by this factor.
    Variance(f64),
    /// The correlation of the first pair turns: its marginals stay.
    TurnOne,
    /// The correlation of every pair turns.
    TurnAll,
    /// The correlation of the first pair goes.
    BreakOne,
    /// The sign of the first entry follows the signs of the next two: all marginals and pairs stay, if independent.
    ThreeWay,
    /// So large a share of the rows comes from the first cluster.
    Cluster(f64),
}

struct World {
    law: Law,
    dimension: usize,
    centres: Vec<Vec<f64>>,
}

impl World {
    fn new(law: Law, dimension: usize) -> Self {
        let mut random = Random::new(99);
        let centres = (0..8).map(|_| (0..dimension).map(|_| random.normal()).collect()).collect();
        Self { law, dimension, centres }
    }

    fn row(&self, random: &mut Random, drift: Drift) -> Vec<f64> {
        if self.law == Law::Clusters {
            let first = matches!(drift, Drift::Cluster(share) if random.uniform() < share);
            let centre = if first { 0 } else { (random.next_u64() % 8) as usize };
            return self.centres[centre].iter().map(|value| value + random.normal()).collect();
        }
        let correlation = if let Law::Pairs(correlation) = self.law { correlation } else { 0.5 };
        let mut row: Vec<f64> = (0..self.dimension).map(|_| random.normal()).collect();
        for at in (1..self.dimension).step_by(2) {
            let turned = match drift {
                Drift::TurnAll => -correlation,
                Drift::TurnOne if at == 1 => -correlation,
                Drift::BreakOne if at == 1 => 0.0,
                _ => correlation,
            };
            row[at] = turned * row[at - 1] + (1.0 - turned * turned).sqrt() * row[at];
        }
        match drift {
            Drift::MeanOfOne(shift) => row[0] += shift,
            Drift::MeanOfAll(shift) => row.iter_mut().for_each(|value| *value += shift),
            Drift::Variance(factor) => row[0] *= factor.sqrt(),
            Drift::ThreeWay => row[0] = row[0].abs() * (row[1] * row[2]).signum(),
            _ => {}
        }
        match self.law {
            Law::LogNormal => row.iter_mut().for_each(|value| *value = value.exp()),
            Law::Tied => row.iter_mut().for_each(|value| *value = value.round()),
            _ => {}
        }
        row
    }

    fn rows(&self, n: usize, random: &mut Random, drift: Drift) -> Vec<Vec<f64>> {
        (0..n).map(|_| self.row(random, drift)).collect()
    }

    fn layout(&self, rows: &[Vec<f64>]) -> VectorLayout {
        let names = match self.law {
            Law::Clusters => Vec::new(),
            _ => (0..self.dimension).map(|at| format!("x{at}")).collect(),
        };
        let slices: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        VectorLayout::of_rows(&slices, self.dimension, names)
    }
}

/// The reference's own profile.
fn reference_of(rows: &[Vec<f64>], layout: &VectorLayout, random: &mut Random) -> VectorProfile {
    let mut room = Measured::new(layout);
    let mut profile = VectorProfile::new(layout);
    for (row, fitted) in rows.iter().zip(fitted_rows(rows.len())) {
        match fitted {
            true => profile.add_fitted(row, layout, &mut room),
            false => profile.add(row, random.next_u64(), layout, &mut room),
        }
    }
    profile
}

fn profile_of(rows: &[Vec<f64>], layout: &VectorLayout, random: &mut Random) -> VectorProfile {
    let mut room = Measured::new(layout);
    let mut profile = VectorProfile::new(layout);
    rows.iter().for_each(|row| profile.add(row, random.next_u64(), layout, &mut room));
    profile
}

/// Share of windows with p at most alpha, by statistic.
fn rejected(world: &World, n: usize, m: usize, drift: Drift, windows: usize, a_reference: usize) -> [f64; 4] {
    let mut random = Random::new(n as u64 * 31 + m as u64);
    let mut rejected = [0.0; 4];
    for _ in 0..windows.div_ceil(a_reference) {
        let reference = world.rows(n, &mut random, Drift::None);
        let layout = world.layout(&reference);
        let reference = reference_of(&reference, &layout, &mut random);
        for _ in 0..a_reference {
            let window = profile_of(&world.rows(m, &mut random, drift), &layout, &mut random);
            let pair = VectorPair::new(&layout, &reference, &window);
            for (count, name) in rejected.iter_mut().zip(TESTED) {
                let statistic = STATISTICS.iter().find(|(known, _)| *known == name).unwrap().1;
                let p_value = statistic(&pair).and_then(|value| value.p_value).unwrap();
                *count += f64::from(u8::from(p_value <= ALPHA));
            }
        }
    }
    rejected.map(|count| count / (windows.div_ceil(a_reference) * a_reference) as f64)
}

fn print_row(label: &str, shares: [f64; 4]) {
    let cells: Vec<String> = shares.iter().map(|share| format!("{:>6.1}%", 100.0 * share)).collect();
    println!("| {label:<52} | {} |", cells.join(" | "));
}

fn heading(title: &str) {
    println!("\n{title}\n| {:<52} | {} |\n|---|---|---|---|---|", "", TESTED.join(" | "));
}

fn quiet() {
    heading("Share of windows without drift with p <= 0.01");
    let laws = [Law::Pairs(0.0), Law::Pairs(0.8), Law::LogNormal, Law::Tied, Law::Clusters];
    for law in laws {
        for dimension in [2, 6, 25, 64] {
            if law == Law::Clusters && dimension < 64 {
                continue;
            }
            if law != Law::Clusters && dimension == 64 {
                continue;
            }
            let world = World::new(law, dimension);
            for (n, m, windows, a_reference) in
                [(2_000, 100, 1_000, 4), (2_000, 2_000, 600, 2), (20_000, 100, 1_000, 50), (20_000, 2_000, 600, 30)]
            {
                let shares = rejected(&world, n, m, Drift::None, windows, a_reference);
                print_row(&format!("{law:?}, {dimension} entries, reference {n}, window {m}"), shares);
            }
        }
    }
}

fn drift() {
    heading("Share of windows with drift with p <= 0.01; reference 10000");
    let drifts = [
        Drift::MeanOfOne(0.1),
        Drift::MeanOfOne(0.25),
        Drift::MeanOfOne(0.5),
        Drift::MeanOfAll(0.1),
        Drift::Variance(1.5),
        Drift::TurnOne,
        Drift::TurnAll,
        Drift::BreakOne,
        Drift::ThreeWay,
    ];
    for dimension in [2, 3, 6, 25] {
        for drift in drifts {
            // Where pairs are to stay as they were, they have to be independent.
            let correlation = if drift == Drift::ThreeWay { 0.0 } else { 0.8 };
            let world = World::new(Law::Pairs(correlation), dimension);
            let left_out = match dimension {
                2 => matches!(drift, Drift::ThreeWay | Drift::TurnAll),
                3 => drift != Drift::ThreeWay,
                _ => false,
            };
            if left_out {
                continue;
            }
            for m in [500, 2_000] {
                let shares = rejected(&world, 10_000, m, drift, 100, 50);
                print_row(&format!("{drift:?}, {dimension} entries, window {m}"), shares);
            }
        }
    }
    let world = World::new(Law::Clusters, 64);
    for share in [0.05, 0.1] {
        for m in [500, 2_000] {
            let shares = rejected(&world, 10_000, m, Drift::Cluster(share), 100, 50);
            print_row(&format!("{:?}, 64 entries, window {m}", Drift::Cluster(share)), shares);
        }
    }
}

fn cost() {
    println!(
        "| entries | axes | ns a row | bytes in memory | bytes encoded | ms to evaluate | ms with the classifier | s to build |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (law, dimension) in [(Law::Pairs(0.8), 6), (Law::Pairs(0.8), 25), (Law::Clusters, 384)] {
        let world = World::new(law, dimension);
        let mut random = Random::new(1);
        let reference = world.rows(5_000, &mut random, Drift::None);
        let started = Cpu::start();
        let layout = world.layout(&reference);
        let build = started.ns() / 1e9;
        let window = world.rows(20_000, &mut random, Drift::None);
        let reference = reference_of(&reference, &layout, &mut random);
        let started = Cpu::start();
        let window = profile_of(&window, &layout, &mut random);
        let per_row = started.ns() / 20_000.0;
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let timed = |skip: &str| {
            let started = Cpu::start();
            let pair = VectorPair::new(&layout, &reference, &window);
            for (_, statistic) in STATISTICS.iter().filter(|(name, _)| *name != skip) {
                std::hint::black_box(statistic(&pair));
            }
            started.ns() / 1e6
        };
        println!(
            "| {dimension} | {} | {per_row:.0} | {} | {} | {:.3} | {:.1} | {build:.2} |",
            layout.components(),
            window.allocated_bytes(),
            bytes.len(),
            timed("classifier_auc"),
            timed(""),
        );
    }
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("cost") {
        cost();
    }
    if wanted("quiet") {
        quiet();
    }
    if wanted("drift") {
        drift();
    }
}
