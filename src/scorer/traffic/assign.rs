//! Sticky assignment: an entity always falls into the same of 10 000 buckets, in any process and any language.
//!
//! The bucket is the first eight bytes of SHA-256 over `MODEL:SALT:KEY` in UTF-8, read as a big-endian integer, modulo
//! 10 000. Names of models and salts hold no colon, so no two triples give the same text. A canary has the buckets below
//! its share: those stay with it when the share grows.

use ring::digest::{Context, SHA256};

/// All of the traffic.
pub const BUCKETS: u32 = 10_000;

/// The bucket of a key, 0 to 9 999.
pub fn bucket(model: &str, salt: &str, key: &str) -> u32 {
    let mut context = Context::new(&SHA256);
    for part in [model, ":", salt, ":", key] {
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let first = digest.as_ref().iter().take(8).fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    (first % u64::from(BUCKETS)) as u32
}

/// Which of the weights a bucket falls to: they divide the buckets in their order, without a gap.
///
/// `None` where all weights are zero.
pub fn weighted(bucket: u32, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut ends = weights.scan(0_u64, |sum, weight| {
        *sum += u64::from(weight);
        Some(*sum)
    });
    // bucket / BUCKETS < end / total, in whole numbers.
    ends.position(|end| u64::from(bucket) * total < end * u64::from(BUCKETS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From Python: `int.from_bytes(hashlib.sha256(b"fraud:4:customer-17").digest()[:8], "big") % 10000`.
    #[test]
    fn buckets_are_those_that_other_languages_compute() {
        let vectors: Vec<(String, String, String, u32)> =
            serde_json::from_str(include_str!("../../../tests/fixtures/scorer/buckets.json")).unwrap();
        assert_eq!(vectors.len(), 12);
        for (model, salt, key, expected) in vectors {
            assert_eq!(bucket(&model, &salt, &key), expected, "{model}:{salt}:{key}");
        }
    }

    #[test]
    fn a_share_gets_its_part_of_the_entities_and_another_salt_deals_anew() {
        let keys: Vec<String> = (0..20_000).map(|n| format!("customer-{n}")).collect();
        let in_canary = |salt: &str| -> Vec<bool> { keys.iter().map(|key| bucket("m", salt, key) < 500).collect() };
        let (first, second) = (in_canary("1"), in_canary("2"));
        let count = |canary: &[bool]| canary.iter().filter(|&&inside| inside).count();
        // Mean 1 000, standard deviation 31.
        assert!(count(&first).abs_diff(1_000) < 150, "{}", count(&first));
        let both = first.iter().zip(&second).filter(|(one, other)| **one && **other).count();
        // Independent: mean 50, standard deviation 7.
        assert!(both.abs_diff(50) < 35, "{both}");
    }

    proptest! {
        #[test]
        fn raising_the_share_keeps_those_already_in(key in ".{0,40}", low in 0..=BUCKETS, more in 0..=BUCKETS) {
            let bucket = bucket("model", "salt", &key);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(!(bucket < low && bucket >= low.saturating_add(more)));
        }

        #[test]
        fn weights_divide_all_buckets_in_proportion(weights in prop::collection::vec(0_u32..1_000_000, 1..6)) {
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            prop_assume!(total > 0);
            let mut counts = vec![0_u64; weights.len()];
            for bucket in 0..BUCKETS {
                counts[weighted(bucket, weights.iter().copied()).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let wanted = f64::from(*weight) * f64::from(BUCKETS) / total as f64;
                prop_assert!((*count as f64 - wanted).abs() <= 1.0, "{counts:?} for {weights:?}");
            }
        }
    }
}
