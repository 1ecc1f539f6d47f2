//! Memory and time per feature and window, for models with 1 000 features and with 1 000 segments, beside an ordinary
//! one of 25 features. Events come as decoded batches (what decoding costs, `pipeline` and `decode` say); everything
//! from there on is the service's own code.
//!
//! `cargo bench --bench scale`, or without the release build `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --profile dev
//! --bench scale`. After `--`: `--flushes N`, and names of shapes to measure these alone.
//!
//! A profile is one feature of one segment in one pane: the unit of every figure but the first. Times are CPU times of
//! the one thread that works (below 8 ms the wall clock), medians where a step is repeated; memory is counted by the allocator.

#[path = "scale/heap.rs"]
mod heap;
#[path = "scale/shape.rs"]
mod shape;
#[path = "scale/steps.rs"]
mod steps;

use shape::{Shape, World};

type AnyError = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: heap::CountingAllocator = heap::CountingAllocator;

const SHAPES: [Shape; 3] = [
    Shape { name: "usual", features: 25, segments: 1, flush_events: 65_536 },
    Shape { name: "features", features: 1_000, segments: 1, flush_events: 8_192 },
    Shape { name: "segments", features: 25, segments: 1_000, flush_events: 65_536 },
];
const DEFAULT_FLUSHES: usize = 5;

struct Options {
    flushes: usize,
    /// Empty: all.
    shapes: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let mut options = Self { flushes: DEFAULT_FLUSHES, shapes: vec![] };
        // Cargo itself adds `--bench`.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--flushes" => options.flushes = arguments.next().ok_or("--flushes needs a number")?.parse()?,
                name if SHAPES.iter().any(|shape| shape.name == name) => options.shapes.push(argument),
                other => {
                    let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
                    return Err(format!("no shape `{other}`; the shapes are {}", names.join(", ")).into());
                }
            }
        }
        if options.flushes == 0 {
            return Err("--flushes must be at least 1".into());
        }
        Ok(options)
    }
}

fn main() -> Result<(), AnyError> {
    let options = Options::parse(std::env::args().skip(1))?;
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!("profile {profile}, {} flushes a pane\n", options.flushes);
    for shape in SHAPES {
        if options.shapes.is_empty() || options.shapes.iter().any(|wanted| wanted == shape.name) {
            println!(
                "{}: {} features x {} segments, {} events a flush",
                shape.name, shape.features, shape.segments, shape.flush_events
            );
            for (what, figure) in steps::measure(&World::new(shape)?, options.flushes)? {
                println!("  {what:<58} {figure:>12}");
            }
            println!();
        }
    }
    Ok(())
}
