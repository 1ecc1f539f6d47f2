//! What the queue and the workers of a model promise, on engines without ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use driftline::scorer::batching::queue::{Entry, Queue, QueueLimits, Waiter};
use driftline::scorer::batching::{BatchSettings, Job, Runner};
use driftline::scorer::engine::Engine;
use driftline::scorer::score::{Priority, ScoreError};
use proptest::prelude::*;
use scorer_support::{FakeEngine, Habit, features, fp32, scores};

fn runner(engine: &FakeEngine, settings: &BatchSettings) -> Arc<Runner> {
    let model = engine.load(b"linear 1 10 + 0.5").unwrap();
    Arc::new(Runner::start(model, settings, "model 1").unwrap())
}

fn one_worker() -> BatchSettings {
    BatchSettings { workers: Some(1), ..BatchSettings::default() }
}

fn job(values: &[f32]) -> Job {
    Job { inputs: vec![features(2, values)], ..Job::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_gets_their_own_answer() {
    let engine = FakeEngine::default();
    let runner = runner(&engine, &BatchSettings { workers: Some(3), max_batch_rows: 16, ..BatchSettings::default() });
    let asked = (0..2000_u16).map(|n| {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move {
            let rows: Vec<f32> = (0..=n % 5).flat_map(|row| [f32::from(n), f32::from(row)]).collect();
            let expected: Vec<f32> = rows.chunks(2).map(|row| row[0] + 10. * row[1] + 0.5).collect();
            loop {
                match runner.score(job(&rows)).await {
                    Ok(outputs) => return assert_eq!(scores(&outputs), expected),
                    Err(ScoreError::QueueFull { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                    Err(error) => panic!("request {n}: {error}"),
                }
            }
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    assert!(engine.batches.load(Ordering::Relaxed) < 2000, "under load requests are computed together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_row_costs_one_request() {
    for habit in [Habit::FailsOn(666.), Habit::PanicsOn(666.)] {
        let runner = runner(&FakeEngine::with(habit), &BatchSettings { max_queue_delay_us: 200_000, ..one_worker() });
        let asked = (0..100_u8).map(|n| {
            let runner = Arc::clone(&runner);
            let first = if n == 37 { 666. } else { f32::from(n) };
            tokio::spawn(async move { (n, runner.score(job(&[first, 0.])).await) })
        });
        for answer in asked.collect::<Vec<_>>() {
            match answer.await.unwrap() {
                (37, Err(ScoreError::Failed(_))) => {}
                (n, Ok(outputs)) if n != 37 => assert_eq!(scores(&outputs), [f32::from(n) + 0.5], "{habit:?}"),
                (n, other) => panic!("{habit:?}: request {n} got {other:?}"),
            }
        }
        assert!(runner.stats().split_batches > 0, "{habit:?}: the requests were computed together at first");
        assert_eq!(runner.stats().failed, 1);
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again_and_nothing_more_waits() {
    let engine = FakeEngine::with(Habit::Slow(Duration::from_millis(50)));
    let settings = BatchSettings { max_queue_requests: 3, max_batch_rows: 1, ..one_worker() };
    let runner = runner(&engine, &settings);
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let runner = Arc::clone(&runner);
            tokio::spawn(async move { runner.score(job(&[1., 1.])).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for answer in asked {
        match answer.await.unwrap() {
            Ok(_) => answered += 1,
            Err(ScoreError::QueueFull { retry_after, model }) => {
                assert_eq!(model, "model 1");
                assert!(retry_after >= Duration::from_millis(1) && retry_after <= Duration::from_secs(30));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((3..=5).contains(&answered), "{answered}");
    assert_eq!(runner.stats().refused, refused);
    let too_many = fp32("features", vec![70_000, 2], vec![0.; 140_000]);
    let error = runner.score(Job { inputs: vec![too_many], ..Job::default() }).await.unwrap_err();
    assert!(matches!(&error, ScoreError::Invalid(text) if text.contains("70000 rows, at most 65536")), "{error}");
}

#[tokio::test]
async fn what_expired_is_answered_at_its_deadline_and_never_computed() {
    let engine = FakeEngine::with(Habit::Slow(Duration::from_millis(300)));
    let runner = runner(&engine, &BatchSettings { max_batch_rows: 1, ..one_worker() });
    let busy = {
        let runner = Arc::clone(&runner);
        tokio::spawn(async move { runner.score(job(&[1., 1.])).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = Instant::now();
    let late = Job { deadline: Some(asked + Duration::from_millis(50)), ..job(&[2., 2.]) };
    assert_eq!(runner.score(late).await.unwrap_err(), ScoreError::Expired);
    assert!(asked.elapsed() < Duration::from_millis(200), "{:?}", asked.elapsed());
    busy.await.unwrap().unwrap();
    assert!(runner.shut_down(Duration::from_secs(5)).await);
    assert_eq!(engine.rows.load(Ordering::Relaxed), 1, "the expired request was computed");
    assert_eq!(runner.stats().dropped, 1);
}

#[tokio::test]
async fn a_caller_that_is_gone_is_not_computed() {
    let engine = FakeEngine::with(Habit::Slow(Duration::from_millis(100)));
    let runner = runner(&engine, &BatchSettings { max_batch_rows: 1, ..one_worker() });
    let first = runner.score(job(&[1., 1.]));
    let gone = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::time::timeout(Duration::from_millis(10), runner.score(job(&[2., 2.]))).await
    };
    let (first, gone) = tokio::join!(first, gone);
    assert!(first.is_ok() && gone.is_err());
    assert!(runner.shut_down(Duration::from_secs(5)).await);
    assert_eq!(engine.rows.load(Ordering::Relaxed), 1);
}

#[test]
fn the_more_urgent_is_computed_first_and_the_others_fill_its_batch() {
    let limits =
        QueueLimits { max_requests: 10, max_rows: 10, max_batch_rows: 2, max_delay: Duration::ZERO, joins: true };
    let mut queue = Queue::new(limits);
    let now = Instant::now();
    for (number, priority) in [Priority::Low, Priority::Low, Priority::Normal, Priority::High].into_iter().enumerate() {
        let waiter = Asker { number, gone: false };
        queue.push(Entry {
            waiter,
            inputs: vec![features(2, &[0., 0.])],
            rows: 1,
            priority,
            deadline: None,
            since: now,
        });
    }
    let mut numbers = || queue.take(now, false).batch.iter().map(|entry| entry.waiter.number).collect::<Vec<_>>();
    assert_eq!((numbers(), numbers(), numbers()), (vec![3, 2], vec![0, 1], vec![]));
}

#[tokio::test]
async fn shutting_down_answers_what_waits_and_refuses_what_comes() {
    let engine = FakeEngine::with(Habit::Slow(Duration::from_millis(20)));
    let runner = runner(&engine, &BatchSettings { max_batch_rows: 1, ..one_worker() });
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let runner = Arc::clone(&runner);
            tokio::spawn(async move { runner.score(job(&[1., 1.])).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(runner.shut_down(Duration::from_secs(5)).await);
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    let error = runner.score(job(&[1., 1.])).await.unwrap_err();
    assert_eq!(error, ScoreError::Unavailable("model 1 is not serving any more".into()));
    assert_eq!(runner.stats().workers, 0);
}

#[tokio::test]
async fn inputs_that_are_no_rows_are_refused() {
    let runner = runner(&FakeEngine::default(), &one_worker());
    let none = fp32("features", vec![0, 2], vec![]);
    let error = runner.score(Job { inputs: vec![none], ..Job::default() }).await.unwrap_err();
    assert_eq!(error, ScoreError::Invalid("the request has no rows".into()));
    let inputs = vec![features(2, &[1., 2.]), features(2, &[1., 2., 3., 4.])];
    let error = runner.score(Job { inputs, ..Job::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "inputs differ in their number of rows: `features` [1, 2], `features` [2, 2]");
}

#[tokio::test]
async fn a_model_that_always_fails_answers_everyone() {
    let runner = runner(&FakeEngine::with(Habit::AlwaysFails), &one_worker());
    let answers = futures::future::join_all((0..50).map(|_| runner.score(job(&[1., 1.])))).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err(), ScoreError::Failed("this model always fails".into()));
    }
}

/// Somebody who waits, in the queue's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Asker {
    number: usize,
    gone: bool,
}

impl Waiter for Asker {
    fn abandoned(&self) -> bool {
        self.gone
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask { rows: usize, width: usize, priority: u8, gone: bool, patience_ms: Option<u64> },
    Take,
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (1_usize..6, 1_usize..4, 0_u8..3, prop::bool::weighted(0.1), prop::option::weighted(0.3, 0_u64..20));
    let ask = ask.prop_map(|(rows, width, priority, gone, patience_ms)| Step::Ask {
        rows,
        width,
        priority,
        gone,
        patience_ms,
    });
    prop::collection::vec(
        prop_oneof![4 => ask, 3 => Just(Step::Take), 1 => (0_u64..10).prop_map(|ms| Step::Wait { ms })],
        0..80,
    )
}

proptest! {
    /// Whatever comes in whatever order: each request leaves once, in a batch of its own kind or dropped; no batch has more
    /// rows than it may unless it is one request; within a priority and a kind nobody is overtaken; nothing dead is computed.
    #[test]
    fn each_request_leaves_the_queue_once_and_in_order(steps in steps(), joins: bool, delay_ms in 0_u64..5) {
        let limits = QueueLimits {
            max_requests: 20,
            max_rows: 60,
            max_batch_rows: 8,
            max_delay: Duration::from_millis(delay_ms),
            joins,
        };
        let mut queue: Queue<Asker> = Queue::new(limits);
        let mut now = Instant::now();
        let (mut asked, mut left, mut refused) = (0, Vec::new(), 0);
        let mut computed: Vec<(u8, usize, usize)> = Vec::new();
        let steps = steps.into_iter().chain(std::iter::repeat_n(Step::Take, 100));
        for (index, step) in steps.enumerate() {
            match step {
                Step::Wait { ms } => now += Duration::from_millis(ms),
                Step::Ask { rows, width, priority, gone, patience_ms } => {
                    if !queue.has_room(rows) {
                        left.extend(queue.sweep(now).iter().map(|entry| entry.waiter.number));
                    }
                    if !queue.has_room(rows) {
                        refused += 1;
                        continue;
                    }
                    queue.push(Entry {
                        waiter: Asker { number: asked, gone },
                        inputs: vec![fp32("features", vec![rows, width], vec![0.; rows * width])],
                        rows,
                        priority: [Priority::Low, Priority::Normal, Priority::High][priority as usize],
                        deadline: patience_ms.map(|ms| now + Duration::from_millis(ms)),
                        since: now,
                    });
                    asked += 1;
                }
                Step::Take => {
                    let taken = queue.take(now, index > 100);
                    let rows: usize = taken.batch.iter().map(|entry| entry.rows).sum();
                    prop_assert!(rows <= 8 || taken.batch.len() == 1, "{rows} rows in {} requests", taken.batch.len());
                    prop_assert!(joins || taken.batch.len() <= 1);
                    if let Some(first) = taken.batch.first() {
                        let width = first.inputs[0].shape()[1];
                        for entry in &taken.batch {
                            prop_assert_eq!(entry.inputs[0].shape()[1], width);
                            prop_assert!(!entry.is_dead(now));
                            computed.push((entry.priority as u8, if joins { width } else { 0 }, entry.waiter.number));
                        }
                    } else if !queue.is_empty() {
                        prop_assert!(taken.look_again.is_some_and(|at| at > now), "who waits is looked after");
                    }
                    prop_assert!(taken.dropped.iter().all(|entry| entry.is_dead(now)));
                    left.extend(taken.batch.iter().chain(&taken.dropped).map(|entry| entry.waiter.number));
                }
            }
            prop_assert!(queue.requests() <= 20 && queue.rows() <= 60);
        }
        left.extend(queue.drain().iter().map(|entry| entry.waiter.number));
        left.sort_unstable();
        prop_assert_eq!(left, (0..asked).collect::<Vec<_>>(), "{} were refused", refused);
        for (index, later) in computed.iter().enumerate() {
            let overtaken = computed[..index].iter().find(|earlier| (earlier.0, earlier.1) == (later.0, later.1) && earlier.2 > later.2);
            prop_assert_eq!(overtaken, None, "{:?} came before", later);
        }
    }
}
