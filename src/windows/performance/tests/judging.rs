//! What is made of windows once they close: verdicts, signals, baselines, gaps, panes at rest.

use super::*;

/// A judge that remembers in which order windows came.
struct Listening(Arc<Mutex<Vec<(i64, u32, bool)>>>);

impl Judge for Listening {
    fn restore(&mut self, _: &str, _: &[u8]) {}

    fn on_window(&mut self, closed: &ClosedWindow, _: i64) -> Vec<super::super::super::judge::Verdict> {
        let on_performance = closed.results.iter().all(|result| result.performance.is_some());
        self.0.lock().unwrap().push((closed.window.end_ms, closed.revision, on_performance));
        Vec::new()
    }

    fn on_clock(&mut self, _: &[ModelActivity], _: i64) -> Vec<super::super::super::judge::Verdict> {
        Vec::new()
    }
}

#[test]
fn windows_are_judged_apart_in_the_order_of_their_ends_and_work_is_bounded() {
    let world = &*WORLD;
    let mut never: Vec<Row> = rows(300).into_iter().filter(|row| row.at_ms / MINUTE_MS % 20 < 3).collect();
    never.iter_mut().for_each(|row| row.label_after_ms = None);
    let mut steps = stream(world, &never, 300, 50 * HOUR_MS, 300 * HOUR_MS);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut state =
        PartitionState::new(world.watched.clone(), Arc::new(world.clone()), Box::new(Listening(heard.clone())));
    steps.iter().for_each(|(header, rows)| drop(results(state.apply(header, rows.clone()))));
    let first = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(first.len(), 300, "each window closed once");
    assert!(first.iter().all(|(_, revision, on_performance)| *revision == 0 && *on_performance));
    assert!(first.windows(2).all(|pair| pair[0].0 < pair[1].0), "{first:?}");
    // The join comes to know that all is past: 300 windows of four panes each, 512 panes a flush.
    let now_ms = START_MS + 300 * HOUR_MS;
    let joined_ms = BTreeMap::from([("m".to_string(), now_ms + 3 * HOUR_MS)]);
    steps.clear();
    for offset in 6..10 {
        let source = SourceProgress { topic: "joins".into(), from: offset, to: offset + 1, ..Default::default() };
        let told =
            state.apply(&header(now_ms + offset, SourceProgress { joined_ms: joined_ms.clone(), ..source }), vec![]);
        let windows = results(told).iter().filter(|result| result.segment.is_all()).count();
        assert_eq!(windows, [128, 128, 44, 0][(offset - 6) as usize], "flush {offset}");
    }
    let ends: Vec<i64> = heard.lock().unwrap().iter().map(|(end_ms, ..)| *end_ms).collect();
    assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn errors_of_past_estimates_are_told_with_later_windows() {
    let (world, rows) = (&*WORLD, rows(6));
    let told = run(world, &stream(world, &rows, 10, 10 * MINUTE_MS, 0));
    assert_eq!(performance(whole(&told, 0)[0]).estimate_error, BTreeMap::new());
    let last = last(told);
    let of_hour = |hour: i64| {
        let result =
            last.values().find(|result| result.segment.is_all() && result.window.start_ms == START_MS + hour * HOUR_MS);
        result.unwrap()
    };
    let error = |hour: i64| {
        let metrics = &of_hour(hour).features[PERFORMANCE_FEATURE].metrics;
        metrics["accuracy"].value.unwrap() - metrics["est_accuracy"].value.unwrap()
    };
    let told = performance(of_hour(4)).estimate_error["accuracy"];
    let errors: Vec<f64> = (0..4).map(error).collect();
    assert_eq!(told.windows, 4);
    assert!((told.bias - errors.iter().sum::<f64>() / 4.0).abs() < 1e-12, "{told:?} {errors:?}");
    assert!((told.mean_absolute_error - errors.iter().map(|error| error.abs()).sum::<f64>() / 4.0).abs() < 1e-12);
    assert!(told.mean_absolute_error > 0.0);
    assert!(
        last.values()
            .filter(|result| !result.segment.is_all())
            .all(|result| performance(result).estimate_error.is_empty())
    );
}

#[test]
fn the_same_window_of_another_version_is_a_baseline() {
    let comparison = Comparison {
        reference: MovingReference { version: Some("1".into()), time: ReferenceTime::Same },
        spec: WindowSpec::tumbling(HOUR_MS),
        versions: BTreeSet::from(["*".to_string()]),
        segments: BTreeSet::from(["country".to_string()]),
        features: BTreeSet::new(),
    };
    let world = world_with(WITH_LABEL_TOPIC, vec![comparison]);
    let mut both = rows(3);
    for (index, row) in both.iter_mut().enumerate() {
        row.version = if index % 2 == 0 { "1" } else { "2" };
    }
    // In its last hour version 2 is alone.
    both.extend(rows(4).into_iter().skip(180).map(|row| Row { version: "2", ..row }));
    let last = last(run(&world, &stream(&world, &both, 8, 10 * MINUTE_MS, 0)));
    let of = |version: &str, hour: i64, against: bool, country: &str| {
        last.values().find(|result| {
            result.version == version
                && result.window.start_ms == START_MS + hour * HOUR_MS
                && result.baseline.is_some() == against
                && result.segment.value == country
        })
    };
    for country in ["", "de"] {
        let compared = of("2", 1, true, country).unwrap();
        assert_eq!(compared.reference, "version 1");
        assert!(compared.key().ends_with("|performance|version 1") && performance(compared).is_final);
        let metrics = &of("1", 1, false, country).unwrap().features[PERFORMANCE_FEATURE].metrics;
        for (name, value) in &performance(compared).baseline {
            assert_eq!(metrics.get(name), Some(value), "{name}");
        }
        assert_eq!(performance(compared).baseline["roc_auc"], metrics["roc_auc"]);
        assert_eq!(compared.features[PERFORMANCE_FEATURE].metrics, {
            let mut own = of("2", 1, false, country).unwrap().features[PERFORMANCE_FEATURE].metrics.clone();
            own.remove(CHANGE_POINTS);
            own
        });
        assert!(!compared.is_wanting());
    }
    assert!(of("1", 1, true, "").is_none(), "version 1 is what others are compared with");
    let alone = of("2", 3, true, "").unwrap();
    assert_eq!(alone.baseline.as_ref().unwrap().wanting.as_deref(), Some("no other version matches `1`"));
}

#[test]
fn a_change_of_the_error_is_told_in_the_window_of_its_predictions() {
    let (world, rows) = (&*WORLD, rows(4));
    let mut steps = stream(world, &rows, 8, 10 * MINUTE_MS, 0);
    let mut state = Stored::default().restore(world);
    let mut told = Vec::new();
    // Labels of the last hour come an hour and a half after it: its feature windows are long past revision.
    let now_ms = START_MS + 330 * MINUTE_MS;
    let error = |offset: i64| SignalValue {
        offset,
        event_time_ms: START_MS + 3 * HOUR_MS + offset % 3_000 * 1_000,
        value: if offset < 600 { f64::from(u8::from(offset % 10 == 0)) } else { f64::from(u8::from(offset % 10 != 0)) },
    };
    let run = SignalRun {
        model: "m".into(),
        version: "1".into(),
        topic: "joins".into(),
        partition: 0,
        signal: ERROR_SIGNAL.into(),
        values: (0..1_200).map(error).collect(),
    };
    for (header, rows) in steps.drain(..) {
        if header.at_ms == now_ms && header.instance == "joins" {
            state.observe(&header, std::slice::from_ref(&run));
            state.observe(&header, std::slice::from_ref(&run));
        }
        told.extend(results(state.apply(&header, rows)));
    }
    let revisions = whole(&told, 3);
    let points = |result: &WindowResult| result.features[PERFORMANCE_FEATURE].metrics[CHANGE_POINTS].value;
    assert_eq!(points(revisions[0]), Some(0.0));
    let last = revisions.last().unwrap();
    assert_eq!((points(last), last.changes.len()), (Some(1.0), 1));
    assert_eq!((last.changes[0].signal.as_str(), last.changes[0].topic.as_str()), (ERROR_SIGNAL, "joins"));
    assert!((600..800).contains(&last.changes[0].offset), "{:?}", last.changes);
}

#[test]
fn gaps_between_groups_are_told_with_the_whole() {
    let world = &*WORLD;
    // Ten a minute, so that each country has 200 an hour; in it every second label is turned over.
    let minute =
        |row: Row| (0..10).map(move |index| Row { score: (row.score + f64::from(index) / 10.0) % 1.0, ..row.clone() });
    let mut rows: Vec<Row> = rows(1).into_iter().flat_map(minute).collect();
    for (index, row) in rows.iter_mut().enumerate() {
        row.positive = (row.score > 0.5) != (row.country == "it" && index % 2 == 0);
        row.label_after_ms = Some(0);
    }
    let told = run(world, &stream(world, &rows, 6, 10 * MINUTE_MS, 0));
    let last = whole(&told, 0).into_iter().last().unwrap();
    let gap = performance(last).gaps.iter().find(|gap| gap.metric == "accuracy").unwrap();
    assert_eq!((gap.column.as_str(), gap.lowest.group.as_str()), ("country", "it"));
    assert_eq!((gap.highest.value.value, gap.lowest.value.value), (Some(1.0), Some(0.5)));
    let [low, high] = gap.gap.interval.unwrap();
    assert_eq!(gap.gap.value, Some(0.5));
    // Of three groups: 2.39 instead of 1.96 standard errors, 0.035 of the lower share.
    assert!((0.40..0.42).contains(&low) && (0.57..0.60).contains(&high), "{low} to {high}");
    assert!(performance(last).gaps.iter().all(|gap| !gap.metric.starts_with("est_")));
    assert!(performance(last).gaps.iter().any(|gap| gap.metric == "recall"));
    let segments = told.iter().filter(|result| !result.segment.is_all());
    assert!(segments.clone().count() > 0 && segments.clone().all(|result| performance(result).gaps.is_empty()));

    let few: Vec<Row> = rows.into_iter().enumerate().filter(|(index, _)| index % 10 < 4).map(|(_, row)| row).collect();
    let told = run(world, &stream(world, &few, 6, 10 * MINUTE_MS, 0));
    let last = whole(&told, 0).into_iter().last().unwrap();
    assert_eq!((performance(last).labelled, performance(last).gaps.len()), (240, 0), "80 labels a group are too few");
}

#[test]
fn a_pane_at_rest_takes_a_fraction_of_an_open_one() {
    let world = &*WORLD;
    let hour: Vec<Row> = rows(1);
    let mut found = Vec::new();
    for per_minute in [1, 100] {
        let minute = |row: &Row| {
            let copies = (0..per_minute).map(|index| (row.score + f64::from(index) / 977.0) % 1.0);
            copies.map(|score| Row { score, country: "de", ..row.clone() }).collect::<Vec<Row>>()
        };
        let rows: Vec<Row> = hour.iter().flat_map(minute).collect();
        let added = partials(world, &rows, |row, layout, profile| {
            profile.add_prediction(layout, &prediction(row));
            profile.sample_prediction();
            profile.add_labelled(layout, &prediction(row), &label(row));
            true
        });
        let mut state = Stored::default().restore(world);
        let source = SourceProgress { topic: "joins".into(), from: 0, to: 1, ..Default::default() };
        results(state.apply(&header(START_MS, source), added));
        let panes = state.performance().pane_count();
        let open = state.performance().allocated_bytes() / panes;
        Stored::default().checkpoint(&mut state);
        found.push((panes, rows.len(), open, state.performance().allocated_bytes() / panes));
    }
    // Bytes of one pane and segment: of 60 predictions and of 6 000, most with a score of their own.
    println!("panes, predictions, bytes of an open one, bytes of one at rest: {found:?}");
    for (panes, _, open, stored) in found {
        assert_eq!(panes, 2);
        assert!(stored * 2 < open, "{stored} bytes at rest, {open} open");
    }
}
