//! A/B experiments.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Running, registry, settings};

const TONE: &str = "
  fraud:
    batching: {workers: 1}
    traffic:
      experiment:
        name: tone
        arms: [{name: control, version: production, weight: 70}, {name: bold, version: '2', weight: 30}]
";

fn exposures(told: &Value) -> BTreeMap<String, u64> {
    let arms = told["items"][0]["arms"].as_array().unwrap();
    let of = |arm: &Value| (arm["arm"].as_str().unwrap().to_string(), arm["exposures"].as_u64().unwrap());
    arms.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arms_get_their_weights_and_every_exposure_is_counted_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &["linear 1 + 0", "linear 1 + 1"]);
    let mut answered: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..2 {
        let mut running = Running::start(&registry, &settings(TONE)).await;
        for number in 0..2_000 {
            let answer = running.score("fraud", number as f32 / 2_000.0, None).await.unwrap();
            let arm = if answer.version == "2" { "bold" } else { "control" };
            *answered.entry(arm.into()).or_default() += 1;
        }
        running.turn().await;
        let told = running.told("/experiments").await;
        assert_eq!(exposures(&told), answered);
        let difference = &told["items"][0]["arms"][1]["score_difference"];
        let (low, high) = (difference["low"].as_f64().unwrap(), difference["high"].as_f64().unwrap());
        // `bold` comes first by name and scores 1 more than `control`.
        assert!(low < -1.0 + 0.2 && high > -1.0 - 0.2 && high < 0.0, "{difference}");
    }
    // The same 2 000 entities twice: 600 of them are expected in `bold`; four standard deviations are 82.
    assert!(answered["bold"].abs_diff(1_200) < 164, "{answered:?}");
}
