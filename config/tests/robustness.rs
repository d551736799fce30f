//! No input, however strange, ends in a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use couplet_config::{AnalyzerConfig, ConfigFile, Flag, ProxyConfig, Sources};
use proptest::prelude::*;

/// Loads `bytes` as either file; only whether this returns matters.
fn load(bytes: &[u8], sets: &[String]) {
    let Ok(file) = ConfigFile::from_bytes("fuzz.yaml", bytes) else {
        return;
    };
    let env = |name: &str| name.len().is_multiple_of(2).then(|| "${X".repeat(name.len()));
    let flags = sets.iter().map(|set| Flag::add("--to", "outbound", set)).collect();
    let sources = Sources { file: Some(file), env: &env, flags, sets: sets.to_vec() };
    let messages = [ProxyConfig::load(&sources).err(), AnalyzerConfig::load(&sources).err()];
    for message in messages.into_iter().flatten() {
        assert!(!message.to_string().is_empty());
    }
}

fn example(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap()
}

/// An example in which a few stretches are replaced by fragments that mean something to YAML or to us.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "",
            ":",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "${",
            "${A}",
            "$${",
            "&a ",
            "*a",
            "!!int ",
            "|\n",
            "\"",
            "'",
            "\t",
            "\n",
            "#",
            "<<: *a",
            "off",
            "~",
            "-1",
            "1e999",
            "99999999999999999999",
            "ä",
            "\u{feff}",
            "---\n",
            "token: ",
            "...",
            "? ",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    let edit = (any::<prop::sample::Index>(), 0..8_usize, fragment);
    let source = prop::sample::select(vec!["proxy.yaml", "analyzer.yaml"]).prop_map(example);
    (source, prop::collection::vec(edit, 1..6)).prop_map(|(mut bytes, edits)| {
        for (at, length, fragment) in edits {
            let start = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, fragment);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        load(&bytes, &[]);
    }

    #[test]
    fn random_texts_are_survived(text in any::<String>(), sets in prop::collection::vec(any::<String>(), 0..4)) {
        load(text.as_bytes(), &sets);
    }

    #[test]
    fn overrides_of_any_shape_are_survived(sets in prop::collection::vec("[a-z.]{0,12}=?[\\[{]?[ -~]{0,20}", 0..4)) {
        load(b"service: orders", &sets);
    }

    #[test]
    fn mutated_examples_are_survived(bytes in mutated()) {
        load(&bytes, &[]);
    }
}

#[test]
fn the_largest_strange_files_are_survived() {
    let size = (1 << 20) - 32;
    let unknown: String = (0..70_000).map(|number| format!("k{number}: 1\n")).collect();
    let fragments =
        ["- ", "[", "{", "a: ", "? ", "\"", "${", "a: 1\n", "- 1\n", "&a ", "!", "|", "\n", "[],", "a\n", "# \n"];
    for fragment in fragments {
        load(fragment.repeat(size / fragment.len()).as_bytes(), &[]);
        load(format!("service: {}", fragment.repeat(size / fragment.len())).as_bytes(), &[]);
    }
    load(unknown.as_bytes(), &[]);
}
