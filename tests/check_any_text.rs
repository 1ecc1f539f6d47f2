//! Whatever a file holds, `driftline check` ends soon, with findings and without a panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use driftline::cli::check::{CheckArgs, CheckFormat, check};
use proptest::prelude::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Good and bad files alike: each is near to many others that are wrong.
fn seeds() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for folder in ["rules", "model", "service"] {
        let folder = root().join("tests/fixtures/config").join(folder);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        texts.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
    }
    texts
}

/// Checks one file in every format; returns the exit code.
fn checked(bytes: &[u8]) -> u8 {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let model = root().join("tests/fixtures/config/fraud.model.yaml");
    let mut codes = Vec::new();
    for format in [CheckFormat::Text, CheckFormat::Json, CheckFormat::Sarif] {
        let args = CheckArgs { files: vec![model.clone(), file.path().to_path_buf()], format, ..CheckArgs::default() };
        let mut out = Vec::new();
        codes.push(check(&args, &BTreeMap::new(), false, &mut out));
        assert!(!out.is_empty());
    }
    assert!(codes.iter().all(|code| *code == codes[0] && [0, 1].contains(code)), "{codes:?}");
    codes[0]
}

/// One change of a text: where and what, both as fractions and choices, so that they shrink.
#[derive(Debug, Clone)]
enum Change {
    Insert(f64, Vec<u8>),
    Delete(f64, usize),
    Repeat(f64, usize),
    SwapLines(f64, f64),
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = prop::sample::select(vec![
        "\t",
        "*",
        "&a ",
        "*a",
        "!",
        "!!binary ",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "#",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "\r\n",
        "\n",
        "%",
        "@",
        "`",
        "---\n",
        "...\n",
        "<<: ",
        "? ",
        "~",
        "null",
        "1e999",
        ".inf",
        "-0",
        "0x1F",
        "9223372036854775808",
        "\u{FEFF}",
        "\u{0}",
        "\u{202E}",
        "é",
        "😀",
        "${X}",
        "{{ x }}",
        "10min",
        "50% of expected",
        "between",
        "any(",
        "99999999999999d",
        "psi > auto and ",
        "formerly: a\n",
        "sql: SELECT\n",
    ]);
    let raw = prop::collection::vec(any::<u8>(), 1..4);
    let insertion = prop_oneof![4 => pieces.prop_map(|text: &str| text.as_bytes().to_vec()), 1 => raw];
    let place = || 0.0..1.0_f64;
    prop_oneof![
        (place(), insertion).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (place(), 1..12_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        (place(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        (place(), place()).prop_map(|(one, other)| Change::SwapLines(one, other)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let at = |fraction: f64, length: usize| ((fraction * length as f64) as usize).min(length);
        match change {
            Change::Insert(place, piece) => {
                let start = at(*place, bytes.len());
                bytes.splice(start..start, piece.iter().copied());
            }
            Change::Delete(place, length) => {
                let start = at(*place, bytes.len());
                let end = (start + length).min(bytes.len());
                bytes.drain(start..end);
            }
            Change::Repeat(place, length) => {
                let start = at(*place, bytes.len());
                let piece = bytes[start..(start + length).min(bytes.len())].to_vec();
                bytes.splice(start..start, piece);
            }
            Change::SwapLines(one, other) => {
                let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
                let (one, other) = (at(*one, lines.len() - 1), at(*other, lines.len() - 1));
                lines.swap(one, other);
                bytes = lines.join(&b'\n');
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_mistyped_file_is_checked_to_its_end(
        seed in 0..1000_usize,
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let seeds = seeds();
        checked(&changed(seeds[seed % seeds.len()].clone(), &changes));
    }

    #[test]
    fn any_bytes_are_checked_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        checked(&bytes);
    }
}

/// Texts made to exhaust a reader.
#[test]
fn no_text_exhausts_the_checker() {
    let deep_block: String = (0..20_000).map(|depth| format!("{}a:\n", " ".repeat(depth % 900))).collect();
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..40 {
            let inner = level - 1;
            text.push_str(&format!("a{level}: &a{level} [*a{inner}, *a{inner}, *a{inner}, *a{inner}, *a{inner}]\n"));
        }
        text
    };
    let conditions = format!(
        "version: 1\nrules:\n  - {{name: a, model: fraud, when: {{warn: \"{}psi{} > 1\"}}}}\n",
        "(".repeat(50_000),
        ")".repeat(50_000)
    );
    let nots = format!(
        "version: 1\nrules:\n  - {{name: a, model: fraud, when: {{warn: \"{}psi > 1\"}}}}\n",
        "not ".repeat(50_000)
    );
    let sums = format!(
        "version: 1\nrules:\n  - {{name: a, model: fraud, when: {{warn: \"psi{} > 1\"}}}}\n",
        " + 1".repeat(20_000)
    );
    let many_rules: String =
        (0..2_000).map(|index| format!("  - {{name: r{index}, modl: fraud, when: {{warn: pis > 0.1}}}}\n")).collect();
    let many_rules = format!("version: 1\nrules:\n{many_rules}");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("brackets", "[".repeat(200_000).into_bytes()),
        ("braces", "{a: ".repeat(100_000).into_bytes()),
        ("dashes", "- ".repeat(200_000).into_bytes()),
        ("block", deep_block.into_bytes()),
        ("aliases", bomb.into_bytes()),
        ("itself", b"a: &a [*a]\n".to_vec()),
        ("tabs", "\t- a\n".repeat(20_000).into_bytes()),
        ("stars", "a: *b\n".repeat(5_000).into_bytes()),
        ("parentheses", conditions.into_bytes()),
        ("nots", nots.into_bytes()),
        ("sums", sums.into_bytes()),
        ("rules", many_rules.into_bytes()),
        ("one line", format!("a: \"{}\"\n", "x".repeat(3_000_000)).into_bytes()),
        ("10 MB", "# a comment\n".repeat(900_000).into_bytes()),
        ("UTF-16", "version: 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
        (
            "UTF-16 with its mark",
            [vec![0xFF, 0xFE], "version: 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect()].concat(),
        ),
        ("only a mark", b"\xEF\xBB\xBF".to_vec()),
        ("zeros", vec![0; 100_000]),
    ];
    for (name, bytes) in cases {
        let started = Instant::now();
        assert_eq!(checked(&bytes), 1, "{name}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(60), "{name}: three checks took {took:?}");
    }
}
