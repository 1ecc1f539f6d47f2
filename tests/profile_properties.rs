//! Profiles are mergeable in any order, to the bit; what they answer holds for the rows; hostile bytes are an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::{ExecutionPlan, collect};
use driftline::reference::FeatureReference;
use driftline::stats::aggregate::profile_function;
use driftline::stats::calibration::Calibration;
use driftline::stats::categorical_profile::{CategoricalProfile, MOST_UNSEEN};
use driftline::stats::evaluate::evaluate;
use driftline::stats::layout::{CategoricalLayout, Layout, NumericLayout};
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::Profile;
use proptest::prelude::*;

fn numeric_layout(reference: &[f64]) -> Layout {
    let mut sorted: Vec<f64> = reference.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    Layout::Numeric(Arc::new(NumericLayout::of_sorted(&sorted)))
}

fn categorical_layout(categories: &[&str]) -> Layout {
    let counts = categories.iter().map(|category| (category.to_string(), 1)).collect();
    Layout::Categorical(Arc::new(CategoricalLayout::of_counts(counts)))
}

fn profile_numbers(values: &[Option<f64>], layout: &Layout) -> Profile {
    let Layout::Numeric(layout) = layout else { panic!("numeric layout") };
    let mut profile = NumericProfile::new(layout);
    for value in values {
        match value {
            Some(value) => profile.add(*value, layout),
            None => profile.add_nulls(1),
        }
    }
    Profile::Numeric(Box::new(profile))
}

fn profile_text(values: &[Option<String>], layout: &Layout) -> Profile {
    let Layout::Categorical(layout) = layout else { panic!("categorical layout") };
    let mut profile = CategoricalProfile::new(layout);
    for value in values {
        match value {
            Some(value) => profile.add(value, layout),
            None => profile.add_nulls(1),
        }
    }
    Profile::Categorical(profile)
}

/// Deals the values out into profiles by `piece_of`, sends each through its bytes, and merges pairs in an order given
/// by `order` until one is left.
fn split_and_merge<T: Clone>(
    values: &[T],
    piece_of: &[usize],
    order: &[usize],
    layout: &Layout,
    profile: impl Fn(&[T], &Layout) -> Profile,
) -> Profile {
    let pieces = piece_of.iter().max().map_or(1, |most| most + 1);
    let mut dealt: Vec<Vec<T>> = vec![Vec::new(); pieces];
    for (row, value) in values.iter().enumerate() {
        dealt[piece_of[row % piece_of.len()]].push(value.clone());
    }
    let mut profiles: Vec<Profile> =
        dealt.iter().map(|values| Profile::decode(&profile(values, layout).encode(), layout).unwrap()).collect();
    let mut step = 0;
    while profiles.len() > 1 {
        let taken = profiles.swap_remove(order[step % order.len()] % profiles.len());
        let into = order[(step + 1) % order.len()] % profiles.len();
        profiles[into].merge(&taken).unwrap();
        step += 2;
    }
    profiles.remove(0)
}

fn any_number() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|i| Some(f64::from(i) * 0.1)),
        4 => (-5.0..5.0).prop_map(Some),
        1 => any::<f64>().prop_map(Some),
        1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(5e-324), Just(f64::MAX)].prop_map(Some),
        1 => Just(None),
    ]
}

fn any_category() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", ""]).prop_map(|category| Some(category.to_string())),
        2 => (0u32..40).prop_map(|i| Some(format!("new-{i}"))),
        1 => Just(None),
    ]
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
    prop::collection::vec(any_number(), 0..most)
}

fn finite(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().flatten().copied().filter(|value| value.is_finite()).collect()
}

proptest! {
    #[test]
    fn numeric_profiles_do_not_know_how_the_rows_were_split(
        reference in numbers(300),
        values in numbers(300),
        piece_of in prop::collection::vec(0usize..6, 1..50),
        order in prop::collection::vec(0usize..100, 1..12),
    ) {
        let layout = numeric_layout(&finite(&reference));
        let whole = profile_numbers(&values, &layout);
        let merged = split_and_merge(&values, &piece_of, &order, &layout, profile_numbers);
        prop_assert_eq!(whole.encode(), merged.encode());
        prop_assert_eq!(&whole, &merged);
        let feature = FeatureReference { name: "x".into(), profile: profile_numbers(&reference, &layout), layout, calibration: Calibration::default() };
        prop_assert_eq!(evaluate(&feature, &whole), evaluate(&feature, &merged));
    }

    #[test]
    fn categorical_profiles_do_not_know_how_the_rows_were_split(
        values in prop::collection::vec(any_category(), 0..300),
        piece_of in prop::collection::vec(0usize..6, 1..50),
        order in prop::collection::vec(0usize..100, 1..12),
    ) {
        let layout = categorical_layout(&["a", "b", "c"]);
        let whole = profile_text(&values, &layout);
        let merged = split_and_merge(&values, &piece_of, &order, &layout, profile_text);
        prop_assert_eq!(whole.encode(), merged.encode());
        prop_assert_eq!(whole, merged);
    }

    #[test]
    fn the_bin_of_a_value_is_the_number_of_edges_at_or_below_it(reference in numbers(2_000), values in numbers(100)) {
        let Layout::Numeric(layout) = numeric_layout(&finite(&reference)) else { panic!("numeric layout") };
        let edges = layout.edges();
        for value in finite(&values).into_iter().chain(edges.iter().flat_map(|e| [*e, e.next_down(), e.next_up()])) {
            if value.is_finite() {
                prop_assert_eq!(layout.bin(value), edges.partition_point(|edge| *edge <= value), "value {:e}", value);
            }
        }
    }

    #[test]
    fn distances_of_the_rows_lie_within_the_reported_bound(
        reference in prop::collection::vec(-50.0f64..50.0, 1..3_000),
        window in prop::collection::vec(prop_oneof![-60.0f64..60.0, 900.0f64..1_000.0], 1..300),
    ) {
        let layout = numeric_layout(&reference);
        let some = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
        let profile = profile_numbers(&some(&reference), &layout);
        let stats = evaluate(
            &FeatureReference { name: "x".into(), profile, layout: layout.clone(), calibration: Calibration::default() },
            &profile_numbers(&some(&window), &layout),
        );
        let (ks, wasserstein) = distances_of_rows(&reference, &window);
        let ours = stats.metrics["ks"];
        let bound = ours.bound.unwrap_or(0.0);
        prop_assert!(bound <= 1e-3 + 1e-12, "bound {} exceeds a thousandth", bound);
        let value = ours.value.unwrap();
        prop_assert!(value <= ks + 1e-12 && ks <= value + bound + 1e-12, "ks {} + {}, rows {}", value, bound, ks);
        let ours = stats.metrics["wasserstein"];
        let (value, bound) = (ours.value.unwrap(), ours.bound.unwrap_or(0.0));
        prop_assert!((value - wasserstein).abs() <= bound + 1e-9 * wasserstein.max(1.0), "wasserstein {} +- {}, rows {}", value, bound, wasserstein);
    }

    #[test]
    fn hostile_bytes_are_an_error_and_accepted_ones_are_canonical(
        values in numbers(40),
        categories in prop::collection::vec(any_category(), 0..40),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        random in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (numeric, categorical) = (numeric_layout(&[1.0, 2.0, 3.0]), categorical_layout(&["a", "b"]));
        let cases = [(profile_numbers(&values, &numeric), &numeric), (profile_text(&categories, &categorical), &categorical)];
        for (profile, layout) in cases {
            let bytes = profile.encode();
            prop_assert_eq!(Profile::decode(&bytes, layout).unwrap(), profile);
            let kept = cut.index(bytes.len());
            prop_assert!(Profile::decode(&bytes[..kept], layout).is_err(), "cut at {} of {}", kept, bytes.len());
            let mut mutated = bytes.clone();
            for (index, byte) in &noise {
                let at = index.index(mutated.len());
                mutated[at] = *byte;
            }
            let mut disguised = bytes[..2].to_vec();
            disguised.extend_from_slice(&random);
            for hostile in [mutated, disguised, random.clone()] {
                if let Ok(read) = Profile::decode(&hostile, layout) {
                    prop_assert_eq!(read.encode(), hostile);
                    // What was accepted can be worked with.
                    let mut merged = read.clone();
                    merged.merge(&read).unwrap();
                    let feature = FeatureReference { name: "x".into(), layout: layout.clone(), profile: read, calibration: Calibration::default() };
                    evaluate(&feature, &merged);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn unseen_categories_beyond_those_kept_do_not_depend_on_the_order(
        // Squaring makes some categories far more frequent than others.
        rows in prop::collection::vec((0u64..60).prop_flat_map(|a| (0u64..60).prop_map(move |b| a * b)), 3_000..6_000),
        piece_of in prop::collection::vec(0usize..8, 1..50),
        order in prop::collection::vec(0usize..100, 1..12),
    ) {
        let layout = categorical_layout(&["a"]);
        let values: Vec<Option<String>> = rows.iter().map(|row| Some(format!("user {row}"))).chain((0..MOST_UNSEEN).map(|i| Some(format!("once {i}")))).collect();
        let whole = profile_text(&values, &layout);
        let merged = split_and_merge(&values, &piece_of, &order, &layout, profile_text);
        let Profile::Categorical(profile) = &whole else { panic!("categorical profile") };
        prop_assert!(profile.unseen_rest() > 0, "the case does not go beyond {} categories", MOST_UNSEEN);
        prop_assert_eq!(whole.encode(), merged.encode());
        // Counts of those kept are complete.
        for (category, count) in profile.unseen() {
            let rows = values.iter().flatten().filter(|value| value.as_str() == category).count();
            prop_assert_eq!(count, rows as u64, "{}", category);
        }
    }

    #[test]
    fn partial_plans_merged_in_any_order_equal_the_single_run(
        rows in prop::collection::vec((0usize..3, any_number(), any_category()), 1..400),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let (numeric, categorical) = (numeric_layout(&[-2.0, 0.0, 0.0, 1.0, 4.0]), categorical_layout(&["a", "b"]));
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).chain([0, rows.len()]).collect();
        ends.sort_unstable();
        // Every piece is a flush of its own: a plan over two batches, one state per group.
        let mut states: Vec<(String, Profile, Profile)> = Vec::new();
        for piece in ends.windows(2).map(|ends| &rows[ends[0]..ends[1]]) {
            let (first, second) = piece.split_at(piece.len() / 2);
            states.extend(partial(&[batch_of(first), batch_of(second)], &numeric, &categorical));
        }
        for (group, name) in GROUPS.iter().enumerate() {
            let mut of_group: Vec<_> = states.iter().filter(|state| state.0 == *name).collect();
            let (mut x, mut c) = (Profile::new(&numeric), Profile::new(&categorical));
            for index in order.iter().cycle() {
                if of_group.is_empty() {
                    break;
                }
                let (_, of_x, of_c) = of_group.swap_remove(index.index(of_group.len()));
                x.merge(of_x).unwrap();
                c.merge(of_c).unwrap();
            }
            let mine = rows.iter().filter(|row| row.0 == group);
            let (xs, cs): (Vec<_>, Vec<_>) = mine.map(|row| (row.1, row.2.clone())).unzip();
            prop_assert_eq!(x.encode(), profile_numbers(&xs, &numeric).encode(), "group {}", name);
            prop_assert_eq!(c.encode(), profile_text(&cs, &categorical).encode(), "group {}", name);
        }
    }
}

const GROUPS: [&str; 3] = ["v1", "v2", "v3"];

type Row = (usize, Option<f64>, Option<String>);

fn batch_of(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("version", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| GROUPS[row.0]))), false),
        ("x", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1))), true),
        ("c", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2.as_deref()))), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn expression(batch: &RecordBatch, column: &str, layout: &Layout) -> Arc<AggregateFunctionExpr> {
    let arguments = vec![col(column, &batch.schema()).unwrap()];
    let builder = AggregateExprBuilder::new(profile_function(layout), arguments).schema(batch.schema());
    Arc::new(builder.alias(format!("profile of {column}")).build().unwrap())
}

fn partial(batches: &[RecordBatch], numeric: &Layout, categorical: &Layout) -> Vec<(String, Profile, Profile)> {
    let schema = batches[0].schema();
    let expressions = vec![expression(&batches[0], "x", numeric), expression(&batches[0], "c", categorical)];
    let group_by = PhysicalGroupBy::new_single(vec![(col("version", &schema).unwrap(), "version".to_string())]);
    let input =
        datafusion::datasource::memory::MemorySourceConfig::try_new_exec(&[batches.to_vec()], schema.clone(), None);
    let plan =
        AggregateExec::try_new(AggregateMode::Partial, group_by, expressions, vec![None, None], input.unwrap(), schema);
    let plan: Arc<dyn ExecutionPlan> = Arc::new(plan.unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let states = runtime.block_on(collect(plan, Arc::new(TaskContext::default()))).unwrap();
    let mut rows = Vec::new();
    for batch in states {
        let (groups, x, c) = (
            batch.column(0).as_string::<i32>(),
            batch.column(1).as_binary::<i32>(),
            batch.column(2).as_binary::<i32>(),
        );
        for row in 0..batch.num_rows() {
            let read = |bytes: &[u8], layout| Profile::decode(bytes, layout).unwrap();
            rows.push((groups.value(row).to_string(), read(x.value(row), numeric), read(c.value(row), categorical)));
        }
    }
    rows
}

/// Kolmogorov-Smirnov and Wasserstein-1 distance from the rows themselves.
fn distances_of_rows(reference: &[f64], window: &[f64]) -> (f64, f64) {
    let mut all: Vec<(f64, f64)> = reference.iter().map(|value| (*value, 1.0 / reference.len() as f64)).collect();
    all.extend(window.iter().map(|value| (*value, -1.0 / window.len() as f64)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ks, mut area, mut difference) = (0.0f64, 0.0, 0.0);
    for (index, (value, step)) in all.iter().enumerate() {
        difference += step;
        let next = all.get(index + 1).map_or(*value, |next| next.0);
        if next > *value || index + 1 == all.len() {
            ks = ks.max(f64::abs(difference));
            area += (next - value) * f64::abs(difference);
        }
    }
    (ks, area)
}

#[test]
fn every_way_through_an_aggregate_gives_the_same_profile() {
    let rows: Vec<Row> = (0..500)
        .map(|i| (i % 3, (i % 7 > 0).then(|| (i as f64).sin()), (i % 5 > 0).then(|| format!("c{}", i % 11))))
        .collect();
    let batch = batch_of(&rows);
    for (column, layout) in [("x", numeric_layout(&[-0.5, 0.0, 0.5])), ("c", categorical_layout(&["c1", "c2"]))] {
        let expression = expression(&batch, column, &layout);
        let values = [batch.column_by_name(column).unwrap().clone()];
        let keep = BooleanArray::from_iter((0..500).map(|i| if i % 10 == 0 { None } else { Some(i % 4 > 0) }));
        let kept: Vec<Row> = (0..500).filter(|i| i % 10 != 0 && i % 4 > 0).map(|i| rows[i].clone()).collect();
        let direct = |rows: &[Row]| match layout {
            Layout::Numeric(_) => profile_numbers(&rows.iter().map(|row| row.1).collect::<Vec<_>>(), &layout),
            Layout::Categorical(_) => profile_text(&rows.iter().map(|row| row.2.clone()).collect::<Vec<_>>(), &layout),
            Layout::Vector(_) => panic!("vectors have a test of their own"),
        };

        let mut single = expression.create_accumulator().unwrap();
        single.update_batch(&values).unwrap();
        let answer = single.evaluate().unwrap().to_array().unwrap();
        assert_eq!(answer.as_binary::<i32>().value(0), direct(&rows).encode(), "accumulator of {column}");

        let groups: Vec<usize> = rows.iter().map(|row| row.0).collect();
        let mut filtered = expression.create_groups_accumulator().unwrap();
        filtered.update_batch(&values, &groups, Some(&keep), 3).unwrap();
        let mut converted = expression.create_groups_accumulator().unwrap();
        let state = converted.convert_to_state(&values, Some(&keep)).unwrap();
        converted.merge_batch(&state, &groups, 3).unwrap();
        assert!(converted.size() > 0);
        for accumulator in [&mut filtered, &mut converted] {
            let first = accumulator.state(EmitTo::First(1)).unwrap().remove(0);
            let rest = accumulator.evaluate(EmitTo::All).unwrap();
            let bytes =
                [first.as_binary::<i32>().value(0), rest.as_binary::<i32>().value(0), rest.as_binary::<i32>().value(1)];
            for (group, bytes) in bytes.iter().enumerate() {
                let mine: Vec<Row> = kept.iter().filter(|row| row.0 == group).cloned().collect();
                assert_eq!(*bytes, direct(&mine).encode(), "group {group} of {column}");
            }
        }
    }
}

#[test]
fn every_form_of_text_gives_the_same_profile() {
    let layout = categorical_layout(&["a", "b"]);
    let values = vec![Some("a"), None, Some("b"), Some("new"), Some("a")];
    let owned: Vec<Option<String>> = values.iter().map(|value| value.map(str::to_string)).collect();
    let expected = profile_text(&owned, &layout).encode();
    let forms: [ArrayRef; 4] = [
        Arc::new(StringArray::from(values.clone())),
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(StringViewArray::from(values.clone())),
        Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    let text = expression(&batch_of(&[]), "c", &layout);
    for form in forms {
        let mut accumulator = text.create_accumulator().unwrap();
        accumulator.update_batch(std::slice::from_ref(&form)).unwrap();
        let answer = accumulator.evaluate().unwrap().to_array().unwrap();
        assert_eq!(answer.as_binary::<i32>().value(0), expected, "{}", form.data_type());
    }
    let mut accumulator = text.create_accumulator().unwrap();
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    assert!(accumulator.update_batch(&[numbers]).unwrap_err().to_string().contains("takes text, not Float64"));
}

#[test]
fn profiles_of_different_layouts_do_not_merge() {
    let (small, large) = (numeric_layout(&[1.0]), numeric_layout(&[1.0, 2.0, 3.0]));
    let mut profile = Profile::new(&small);
    assert!(profile.merge(&Profile::new(&large)).is_err());
    assert!(profile.merge(&Profile::new(&categorical_layout(&["a"]))).is_err());
    assert!(Profile::decode(&Profile::new(&large).encode(), &small).is_err());
    assert!(Profile::decode(&Profile::new(&categorical_layout(&["a"])).encode(), &small).is_err());
}

#[test]
#[ignore = "a measurement: run it alone, with --ignored --nocapture, best in a release build"]
fn time_per_value_of_profiling() {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut normal = || (-2.0 * uniform().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    let mut draw = |shape: &str, rows: usize| -> Vec<f64> {
        let of = |z: f64| match shape {
            "log-normal" => (1.5 * z).exp(),
            "rounded" => (10.0 * z).round() / 10.0,
            "zero-inflated" => {
                if z < 0.5 {
                    0.0
                } else {
                    z.exp()
                }
            }
            _ => z,
        };
        (0..rows).map(|_| of(normal())).collect()
    };
    for shape in ["normal", "log-normal", "rounded", "zero-inflated"] {
        let layout = numeric_layout(&draw(shape, 100_000));
        let Layout::Numeric(numeric) = &layout else { panic!("numeric layout") };
        let values = draw(shape, 1_000_000);
        let per_value_ns = |work: &mut dyn FnMut()| {
            let times = (0..5).map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed().as_secs_f64() * 1e9 / values.len() as f64
            });
            times.fold(f64::INFINITY, f64::min)
        };
        let (mut by_table, mut by_search) = (0, 0);
        let table = per_value_ns(&mut || by_table += values.iter().map(|value| numeric.bin(*value)).sum::<usize>());
        let edges = numeric.edges();
        let search = per_value_ns(&mut || {
            by_search += values.iter().map(|value| edges.partition_point(|edge| edge <= value)).sum::<usize>();
        });
        let mut profile = NumericProfile::new(numeric);
        let whole = per_value_ns(&mut || values.iter().for_each(|value| profile.add(*value, numeric)));
        assert_eq!(by_table, by_search, "{shape}");
        println!(
            "{shape:14} {:5} edges: bin {table:.1} ns, by plain search {search:.1} ns, profile {whole:.1} ns",
            edges.len()
        );
    }
}
