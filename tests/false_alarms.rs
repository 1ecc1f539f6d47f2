//! The default rule keeps its rate of false alarms, on small versions of the streams of `benches/false_alarms.rs`, and
//! would not keep it without what the reference's own windows teach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../benches/drift/mod.rs"]
mod drift;

use std::collections::BTreeMap;

use drift::{Change, Kind, Random, STRICT, Stream, World, interval};
use driftline::config::rules::Correction;
use driftline::rules::significance::adjust;
use driftline::stats::calibration::Calibration;

const FEATURES: usize = 10;
const WINDOWS: i64 = 80;

/// Windows whose smallest adjusted p-value is at most 0.2, and windows in which the default rule has a finding.
fn counted(world: &World, stream: &Stream, m: usize, random: &mut Random) -> (usize, usize) {
    let (mut at_level, mut found) = (0, 0);
    for hour in 0..WINDOWS {
        let (mut features, mut p_values) = (BTreeMap::new(), Vec::new());
        for feature in 0..FEATURES {
            let seen = world.seen(stream, feature, hour, m, Change::None, random).unwrap();
            p_values.push(seen.stats.metrics["drift"].p_value.unwrap());
            features.insert(Stream::name(feature), seen.stats);
        }
        let smallest = adjust(Correction::BenjaminiHochberg, &p_values).into_iter().fold(1.0, f64::min);
        at_level += usize::from(smallest <= 0.2);
        found += usize::from(world.found("feature-drift", m, features).unwrap() > 0);
    }
    (at_level, found)
}

#[test]
fn the_default_rule_keeps_its_rate_on_every_kind_of_stream() {
    for kind in drift::stream::KINDS {
        let mut random = Random::new(11);
        let stream = Stream::new(kind, FEATURES, WINDOWS, 12);
        let world = World::new(&stream, 8_000, &mut random).unwrap();
        let (at_level, found) = counted(&world, &stream, 400, &mut random);
        let windows = WINDOWS as usize;
        assert!(interval(at_level, windows, STRICT).0 <= 0.2, "{}: {at_level} of {windows} at 20%", kind.name());
        assert!(interval(found, windows, STRICT).0 <= 0.01, "{}: {found} of {windows} windows", kind.name());
    }
}

#[test]
fn a_season_is_no_drift_once_the_reference_has_taught_it() {
    let mut random = Random::new(21);
    let stream = Stream::new(Kind::Seasonal, FEATURES, WINDOWS, 22);
    let mut world = World::new(&stream, 8_000, &mut random).unwrap();
    let numeric = world.reference.features.values().filter(|feature| !feature.calibration.is_empty()).count();
    assert_eq!(numeric, FEATURES, "every feature follows the hour");
    let (_, taught) = counted(&world, &stream, 400, &mut random);
    world.reference.features.values_mut().for_each(|feature| feature.calibration = Calibration::default());
    let (_, untaught) = counted(&world, &stream, 400, &mut random);
    assert!(taught <= 4 && untaught >= 70, "windows with a finding of {WINDOWS}: {taught} taught, {untaught} not");
}

#[test]
fn a_moved_mean_is_found_in_the_first_window() {
    let mut random = Random::new(31);
    let stream = Stream::new(Kind::Normal, FEATURES, WINDOWS, 32);
    let world = World::new(&stream, 8_000, &mut random).unwrap();
    let mut features = BTreeMap::new();
    for feature in 0..FEATURES {
        let change = if feature == 3 { Change::Shift(0.4) } else { Change::None };
        let seen = world.seen(&stream, feature, 0, 400, change, &mut random).unwrap();
        features.insert(Stream::name(feature), seen.stats);
    }
    assert_eq!(world.found("feature-drift", 400, features).unwrap(), 1);
}
