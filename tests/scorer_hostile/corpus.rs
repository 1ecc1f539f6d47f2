//! The corpus of the fuzz targets, replayed and mutated for a moment in every `cargo test`: what fuzzing found once is not
//! found again, and a target that no longer holds is seen at once. The same numbers each time; `scripts/fuzz.sh` draws others.

use std::path::Path;

#[allow(dead_code)]
#[path = "../../fuzz/fuzz_targets/entries.rs"]
mod entries;

const MUTATIONS: u64 = 4_000;
/// Bytes that change what a decoder does.
const TOKENS: [&[u8]; 20] = [
    b"-1",
    b"0",
    b"18446744073709551615",
    b"9223372036854775808",
    b"1e999",
    b"null",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b",",
    b":",
    b"..",
    b"%2f",
    b"\\u0000",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\"shape\":[0,",
    b"\"binary_data_size\":",
];

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let end = (at + 1 + numbers.below(16)).min(bytes.len());
        match numbers.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[at] = numbers.next() as u8,
            2 if at < end => drop(bytes.drain(at..end)),
            3 if at < end => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => drop(bytes.splice(at..at, TOKENS[numbers.below(TOKENS.len())].iter().copied())),
        }
    }
    bytes
}

fn replay(target: &str, entry: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no corpus");
    seeds.iter().for_each(|seed| entry(seed));
    entry(b"");
    let mut numbers = Numbers(1);
    for round in 0..MUTATIONS {
        let bytes = mutated(&seeds, &mut numbers);
        let held = std::panic::catch_unwind(|| entry(&bytes));
        assert!(held.is_ok(), "{target}, mutation {round}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

macro_rules! targets {
    ($($target:ident),*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), entries::$target);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
            let names: Vec<&str> =
                manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\"")).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

targets!(oip_json, oip_binary, rows, head, registry, model);
