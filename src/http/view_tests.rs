use super::*;
use crate::config::rules::Severity;
use crate::stats::metric::{BinShare, FeatureStats, MetricValue};

const HOUR_MS: i64 = 3_600_000;

fn result(version: &str, hour: i64, psi: &[(&str, f64)]) -> WindowResult {
    let features = psi.iter().map(|(name, value)| {
        let mut stats = FeatureStats { n: 10, n_reference: 100, ..FeatureStats::default() };
        stats.metrics.insert("psi".into(), MetricValue::exact(*value));
        stats.bins = vec![BinShare { label: "a".into(), reference: 0.5, window: 0.5 }];
        (name.to_string(), stats)
    });
    WindowResult {
        model: "fraud".into(),
        version: version.into(),
        segment: Segment::default(),
        window: Window { start_ms: hour * HOUR_MS, end_ms: (hour + 1) * HOUR_MS },
        revision: 0,
        reference: "training".into(),
        reference_id: "abc".into(),
        rows: 10,
        complete: true,
        baseline: None,
        quality: None,
        changes: Vec::new(),
        performance: None,
        features: features.collect(),
    }
}

fn of_segment(mut result: WindowResult, value: &str) -> WindowResult {
    result.segment = Segment { column: "country".into(), value: value.into() };
    result
}

fn notification(episode_id: &str, sequence: u32, status: EpisodeStatus, at_ms: i64) -> Notification {
    let window = Window { start_ms: 0, end_ms: HOUR_MS };
    Notification {
        id: format!("{episode_id}-{sequence}"),
        episode_id: episode_id.into(),
        sequence,
        status,
        severity: Severity::Critical,
        rule: "drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        feature: None,
        summary: "drift".into(),
        findings: Vec::new(),
        reference: "training".into(),
        reference_id: "abc".into(),
        first_window: window,
        window,
        windows_breached: 1,
        windows_considered: 1,
        rows: 10,
        at_ms,
        receivers: vec!["oncall".into()],
        description: None,
        runbook: None,
        suppressed: None,
        actions: Vec::new(),
    }
}

fn starts(view: &View, segment: &Segment) -> Vec<i64> {
    let series = view.series().filter(|(key, _)| key.segment == *segment);
    series.flat_map(|(_, series)| series.keys().map(|start_ms| start_ms / HOUR_MS)).collect()
}

#[test]
fn a_later_revision_replaces_an_earlier_one_in_whatever_order_they_are_read() {
    let first = result("3", 0, &[("amount", 0.1)]);
    let second = WindowResult { revision: 1, rows: 12, ..first.clone() };
    for order in [[&first, &second], [&second, &first]] {
        let mut view = View::new(Limits::default());
        for result in order {
            view.apply_result(result.clone());
        }
        let held = view.window("fraud", "3", &Segment::default(), first.window).unwrap();
        assert_eq!((held.revision, held.rows), (1, 12));
        assert_eq!(view.cells(), 1);
    }
}

#[test]
fn versions_segments_and_window_sizes_are_kept_apart() {
    let mut view = View::new(Limits::default());
    let whole = result("3", 0, &[("amount", 0.1)]);
    let mut quarter = whole.clone();
    quarter.window.end_ms = HOUR_MS / 4;
    for one in [whole.clone(), result("2", 0, &[]), of_segment(whole.clone(), "BR"), quarter] {
        view.apply_result(one);
    }
    assert_eq!(view.series().count(), 4);
    assert_eq!(view.whole("fraud").count(), 3);
    let segment = Segment { column: "country".into(), value: "BR".into() };
    let bins =
        |segment: &Segment| view.window("fraud", "3", segment, whole.window).unwrap().features["amount"].bins.len();
    assert_eq!((bins(&Segment::default()), bins(&segment)), (1, 0), "bins of segments are not kept");
}

#[test]
fn only_the_newest_windows_are_held_and_segments_give_way_first() {
    let limits = Limits { windows: 4, segment_windows: 3, cells: 5, ..Limits::default() };
    let mut view = View::new(limits);
    let segment = Segment { column: "country".into(), value: "BR".into() };
    for hour in 0..3 {
        view.apply_result(result("3", hour, &[("amount", 0.1)]));
        view.apply_result(of_segment(result("3", hour, &[("amount", 0.1)]), "BR"));
    }
    assert_eq!((starts(&view, &Segment::default()), starts(&view, &segment)), (vec![0, 1, 2], vec![1, 2]));
    for hour in 3..7 {
        view.apply_result(result("3", hour, &[("amount", 0.1)]));
    }
    assert_eq!((starts(&view, &Segment::default()), starts(&view, &segment)), (vec![3, 4, 5, 6], vec![2]));
    assert_eq!(view.cells(), 5);
}

#[test]
fn resolved_episodes_are_forgotten_before_firing_ones() {
    let mut view = View::new(Limits { episodes: 2, ..Limits::default() });
    view.apply_notification(notification("old-firing", 0, EpisodeStatus::Firing, 1));
    view.apply_notification(notification("resolved", 0, EpisodeStatus::Resolved, 2));
    view.apply_notification(notification("new-firing", 0, EpisodeStatus::Firing, 3));
    let ids: Vec<&str> = view.episodes().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["new-firing", "old-firing"]);
}

#[test]
fn an_episode_is_what_its_newest_notification_says_however_often_it_is_read() {
    let mut view = View::new(Limits { notifications: 3, ..Limits::default() });
    for sequence in [1, 0, 2, 3, 0, 1] {
        let status = if sequence == 3 { EpisodeStatus::Resolved } else { EpisodeStatus::Firing };
        view.apply_notification(notification("e", sequence, status, i64::from(sequence)));
    }
    let episode = view.episode("e").unwrap();
    let sequences: Vec<u32> = episode.notifications().map(|one| one.sequence).collect();
    assert_eq!(sequences, [0, 2, 3], "the first is kept, the newest too");
    assert!(!episode.is_firing());
}

#[test]
fn a_delivery_read_before_its_notification_is_kept_and_an_older_state_is_ignored() {
    let mut view = View::new(Limits::default());
    let delivery = |status, attempts, at_ms| Delivery {
        notification_id: "e-0".into(),
        receiver: "oncall".into(),
        status,
        attempts,
        last_error: None,
        at_ms,
    };
    view.apply_delivery(delivery(DeliveryStatus::Delivered, 2, 20));
    view.apply_delivery(delivery(DeliveryStatus::Retrying, 1, 10));
    view.apply_notification(notification("e", 0, EpisodeStatus::Firing, 5));
    let held: Vec<(DeliveryStatus, u32)> = view.deliveries("e-0").map(|one| (one.status, one.attempts)).collect();
    assert_eq!(held, [(DeliveryStatus::Delivered, 2)]);
}

#[test]
fn windows_that_never_closed_leave_a_gap() {
    let mut view = View::new(Limits::default());
    for hour in [0, 1, 4] {
        view.apply_result(result("3", hour, &[]));
    }
    let (_, series) = view.whole("fraud").next().unwrap();
    let shown: Vec<(i64, bool)> =
        slots(series, 4).iter().map(|slot| (slot.start_ms / HOUR_MS, slot.result.is_some())).collect();
    assert_eq!(shown, [(1, true), (2, false), (3, false), (4, true)]);
}

#[test]
fn features_that_drift_now_stand_above_those_that_did_and_noise_decides_nothing() {
    let old = result("3", 0, &[("amount", 0.9), ("age", 0.1), ("steady", 0.03), ("gone", f64::NAN)]);
    let new = result("3", 1, &[("amount", 0.0), ("age", 0.2), ("steady", 0.04)]);
    assert_eq!(worst_features(&[&old, &new]), ["age", "amount", "steady", "gone"]);
}

#[test]
fn windows_of_performance_are_kept_apart_from_those_of_features() {
    use crate::windows::result::{PERFORMANCE_FEATURE, WindowPerformance};
    let on_performance = |hour: i64, revision: u32| {
        let performance = Some(WindowPerformance { predictions: 10, labelled: 4, ..Default::default() });
        let features = BTreeMap::from([(PERFORMANCE_FEATURE.to_string(), FeatureStats::default())]);
        WindowResult { performance, features, revision, ..result("3", hour, &[]) }
    };
    let mut view = View::default();
    view.apply_result(result("3", 7, &[("amount", 0.3)]));
    view.apply_result(on_performance(7, 1));
    view.apply_result(on_performance(7, 0));
    let all = Segment::default();
    let window = Window { start_ms: 7 * HOUR_MS, end_ms: 8 * HOUR_MS };
    assert!(view.window("fraud", "3", &all, window).unwrap().features.contains_key("amount"));
    let of_performance = view.performance("fraud", "3", &all, HOUR_MS).unwrap();
    assert_eq!((of_performance.len(), of_performance[&window.start_ms].revision), (1, 1));
    assert_eq!((view.series().count(), view.performance_series().count()), (1, 1));
    assert_eq!(view.cells(), 1 + PERFORMANCE_CELLS);

    let mut small = View::new(Limits { cells: 2 * PERFORMANCE_CELLS, ..Limits::default() });
    (0..5).for_each(|hour| small.apply_result(on_performance(hour, 0)));
    small.apply_result(result("3", 9, &[("amount", 0.3)]));
    let kept: Vec<i64> = small.performance("fraud", "3", &all, HOUR_MS).unwrap().keys().copied().collect();
    assert_eq!(kept, [4 * HOUR_MS], "the oldest go first, of either kind");
    assert_eq!(small.cells(), 1 + PERFORMANCE_CELLS);
}
