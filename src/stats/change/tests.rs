use super::*;

/// Numbers in [0, 1) of Knuth's linear congruential generator, the same in the script that asked river 0.26.1.
fn uniform() -> impl FnMut() -> f64 {
    let mut state = 7_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// 4500 bits; the share of ones goes from 0.1 to 0.45 at 1500, to 0.05 at 3000.
fn bits() -> Vec<f64> {
    let mut next = uniform();
    let share = |index| if index < 1500 { 0.1 } else { if index < 3000 { 0.45 } else { 0.05 } };
    (0..4500).map(|index| f64::from(u8::from(next() < share(index)))).collect()
}

/// 4500 sums of three uniform numbers, less 1.5; the mean goes from 0 to 0.6 at 1500, to -0.3 at 3000.
fn numbers() -> Vec<f64> {
    let mut next = uniform();
    let mean = |index| if index < 1500 { 0.0 } else { if index < 3000 { 0.6 } else { -0.3 } };
    (0..4500).map(|index| next() + next() + next() - 1.5 + mean(index)).collect()
}

fn detector(text: &str) -> Detector {
    Detector::new(&text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
}

/// Where changes were seen, where warnings began, and the detector after the last value.
fn follow(text: &str, values: &[f64]) -> (Vec<usize>, Vec<usize>, Detector) {
    let mut detector = detector(text);
    let (mut changes, mut warnings, mut warned) = (Vec::new(), Vec::new(), false);
    for (index, value) in values.iter().enumerate() {
        let verdict = detector.observe(*value).expect("in the domain");
        if verdict.change {
            changes.push(index);
        }
        if verdict.warning && !warned {
            warnings.push(index);
        }
        warned = verdict.warning;
    }
    (changes, warnings, detector)
}

#[test]
fn changes_of_numbers_are_those_of_river() {
    for (text, expected) in [
        ("adwin", vec![1535, 3039]),
        ("adwin(delta=0.05, clock=1, max_buckets=3, min_window_length=8, grace_period=40)", vec![1518, 3015]),
        ("page_hinkley", vec![1538, 3051]),
        (
            "page_hinkley(min_instances=20, delta=0.1, threshold=8, alpha=0.999, mode=down)",
            vec![1276, 2541, 3005, 4145],
        ),
    ] {
        assert_eq!(follow(text, &numbers()).0, expected, "{text}");
    }
}

#[test]
fn the_window_of_adwin_is_that_of_river() {
    let (_, _, detector) = follow("adwin", &numbers());
    let State::Adwin(adwin) = detector.state() else { panic!("not ADWIN") };
    assert_eq!(adwin.width(), 1460);
    assert!((adwin.estimation() - -0.3028356335256704).abs() < 1e-12, "{}", adwin.estimation());
    assert!((adwin.variance() - 363.92895675351184).abs() < 1e-9, "{}", adwin.variance());
}

/// Changes, first warnings, number of warnings.
#[test]
fn changes_and_warnings_of_bits_are_those_of_river() {
    for (text, changes, first_warnings, warnings) in [
        ("ddm", vec![81, 578, 1544], [38, 51].as_slice(), 37),
        ("ddm(warm_start=100, warning_threshold=1.5, drift_threshold=2.5)", vec![1541], [190, 204, 498].as_slice(), 29),
        (
            "eddm",
            vec![
                544, 816, 1234, 1516, 1588, 2002, 2112, 2217, 2306, 2451, 2519, 2597, 2654, 2709, 2821, 2894, 2996,
                3628, 4024,
            ],
            [363, 461, 1675].as_slice(),
            21,
        ),
        ("eddm(warm_start=20, alpha=0.8, beta=0.7)", vec![1872, 2034], [1688, 1932, 2120].as_slice(), 3),
        ("hddm_a", vec![1521], [1519].as_slice(), 1),
        (
            "hddm_a(two_sided_test=true, drift_confidence=0.01, warning_confidence=0.05)",
            vec![81, 1518, 2709, 3015],
            [80, 1514, 1526].as_slice(),
            20,
        ),
        ("hddm_w", vec![1519, 1840, 2662], [1514, 1838, 2313].as_slice(), 10),
        (
            "hddm_w(two_sided_test=true, lambda=0.1, drift_confidence=0.002, warning_confidence=0.02)",
            vec![1520, 1838, 2123, 2599, 3014],
            [1514, 1516, 1518].as_slice(),
            56,
        ),
        ("fhddm", vec![3032], [].as_slice(), 0),
        (
            "fhddm(sliding_window_size=60, confidence_level=0.0001, short_window_size=20)",
            vec![1751, 2147, 2237, 2381, 2788, 3016],
            [].as_slice(),
            0,
        ),
    ] {
        let (seen, warned, _) = follow(text, &bits());
        assert_eq!(seen, changes, "{text}");
        assert_eq!((&warned[..first_warnings.len()], warned.len()), (first_warnings, warnings), "{text}");
    }
}

/// KSWIN draws its sample at random: only that it sees a change soon, and the same one whenever it is asked.
#[test]
fn kswin_sees_a_change_within_200_values() {
    let (changes, _, _) = follow("kswin", &numbers());
    for change in [1500, 3000] {
        assert!(changes.iter().any(|seen| (change..change + 200).contains(seen)), "{change} is not in {changes:?}");
    }
    assert_eq!(follow("kswin", &numbers()).0, changes);
}

#[test]
fn a_stored_state_goes_on_as_if_never_stored() {
    for method in METHODS_WITH_VALUES {
        let values = if method.1 { bits() } else { numbers() };
        let mut whole = detector(method.0);
        let mut stored = detector(method.0);
        for (index, value) in values.iter().enumerate() {
            if index % 97 == 0 {
                let bytes = serde_json::to_vec(&stored).unwrap();
                assert!(bytes.len() < 8_192, "{}: {} bytes at {index}", method.0, bytes.len());
                stored = serde_json::from_slice(&bytes).unwrap();
            }
            assert_eq!(stored.observe(*value), whole.observe(*value), "{} at {index}", method.0);
        }
        assert_eq!(stored, whole);
    }
}

/// Every method, and whether it takes bits only.
const METHODS_WITH_VALUES: [(&str, bool); 8] = [
    ("adwin", false),
    ("page_hinkley", false),
    ("ddm", true),
    ("eddm", true),
    ("hddm_a", true),
    ("hddm_w", true),
    ("fhddm(short_window_size=20)", true),
    ("kswin", false),
];

#[test]
fn values_that_a_method_cannot_take_change_nothing() {
    for (text, _) in METHODS_WITH_VALUES {
        let mut detector = detector(text);
        let before = detector.clone();
        assert_eq!(detector.observe(f64::NAN), None, "{text}");
        assert_eq!(detector.observe(f64::INFINITY), None, "{text}");
        assert_eq!(detector, before);
    }
    assert_eq!(detector("ddm").observe(0.5), None);
    assert_eq!(detector("hddm_a").observe(1.5), None);
    assert!(detector("hddm_a").observe(0.5).is_some());
}

#[test]
fn the_memory_of_adwin_grows_with_the_logarithm() {
    let mut detector = detector("adwin");
    let mut sizes = Vec::new();
    for index in 0..200_000 {
        detector.observe(f64::from(index % 2));
        if index + 1 == 20_000 || index + 1 == 200_000 {
            sizes.push(serde_json::to_vec(&detector).unwrap().len());
        }
    }
    assert!(sizes[1] < 2 * sizes[0], "{sizes:?} bytes after 20 000 and 200 000 values");
}

#[test]
fn a_method_is_written_as_it_is_read() {
    for text in ["adwin", "adwin(delta=0.05)", "page_hinkley(mode=up, threshold=20.0)", "hddm_a(two_sided_test=true)"] {
        let method: Method = text.parse().unwrap();
        assert_eq!(method.to_string(), text);
        assert_eq!(method.to_string().parse(), Ok(method));
    }
    let list = method::parse_list("adwin(delta=0.05, clock=1), ddm,kswin").unwrap();
    let names: Vec<&str> = list.iter().map(Method::name).collect();
    assert_eq!(names, ["adwin", "ddm", "kswin"]);
}

#[test]
fn a_wrong_method_says_what_would_be_right() {
    for (text, hint) in [
        ("adwn", "there are adwin, page_hinkley"),
        ("adwin(delta=2)", "`delta` is 2, and must be between 0 and 1"),
        ("adwin(lambda=2)", "unknown parameter `lambda`, expected one of `delta`"),
        ("adwin(delta)", "write for example `adwin(delta=0.05, clock=1)`"),
        ("adwin(delta=0.1", "write for example"),
        ("adwin(delta=0.1, delta=0.2)", "gives `delta` twice"),
        ("adwin(clock=0)", "`clock` is 0"),
        ("page_hinkley(mode=sideways)", "expected one of `up`, `down`, `both`"),
        ("eddm(alpha=0.5)", "`beta` is 0.9, above `alpha` (0.5)"),
        ("fhddm(sliding_window_size=1000000)", "may be 10000 at most"),
        ("kswin(stat_size=60)", "at most half the window, 50"),
    ] {
        let error = text.parse::<Method>().unwrap_err();
        assert!(error.contains(hint), "{text}: {error}");
    }
}
