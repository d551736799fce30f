//! The committed schemas and examples are those of the code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use couplet_config::{
    AnalyzerConfig, Architecture, ConfigFile, ProxyConfig, Sources, analyzer_schema, architecture_schema, proxy_schema,
};
use serde_json::Value;

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Set `UPDATE_SCHEMA=1` to write the files anew.
fn assert_committed(path: &str, schema: &Value) {
    let generated = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(here(path), &generated).unwrap();
    }
    let committed = fs::read_to_string(here(path)).unwrap_or_default();
    assert!(committed == generated, "{path} is not what the code generates; run the tests with UPDATE_SCHEMA=1");
}

/// Every property in `schema`, with its path.
fn properties<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(keys)) = members.get("properties") {
                found.extend(keys.iter().map(|(key, value)| (format!("{path}.{key}"), value)));
            }
            for (name, member) in members {
                properties(&format!("{path}.{name}"), member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| properties(path, item, found)),
        _ => {}
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    assert_committed("schema/proxy.schema.json", &proxy_schema());
    assert_committed("schema/analyzer.schema.json", &analyzer_schema());
    assert_committed("schema/architecture.schema.json", &architecture_schema());
}

#[test]
fn every_key_is_described_and_no_other_is_allowed() {
    for schema in [proxy_schema(), analyzer_schema(), architecture_schema()] {
        let mut found = Vec::new();
        properties("", &schema, &mut found);
        assert!(found.len() > 15);
        for (path, property) in found {
            assert!(property["description"].is_string(), "{path} has no description");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
    assert_eq!(proxy_schema()["required"], serde_json::json!(["service"]));
    assert!(analyzer_schema().get("required").is_none());
}

#[test]
fn every_example_loads() {
    let mut loaded = 0;
    for entry in fs::read_dir(here("examples")).unwrap() {
        let path = entry.unwrap().path();
        let mut sources = Sources::new(&|_| None);
        sources.file = Some(ConfigFile::read(&path).unwrap());
        let result = match path.file_name().unwrap().to_str().unwrap() {
            name if name.contains("proxy") => ProxyConfig::load(&sources).map(drop),
            name if name.contains("analyzer") => AnalyzerConfig::load(&sources).map(drop),
            name if name.contains("architecture") => Architecture::load(&sources).map(drop),
            other => panic!("whose example is {other}?"),
        };
        result.unwrap_or_else(|error| panic!("{error}"));
        loaded += 1;
    }
    assert!(loaded >= 3);
}

#[test]
fn the_full_examples_name_every_key() {
    for (example, schema) in [
        ("examples/proxy.yaml", proxy_schema()),
        ("examples/analyzer.yaml", analyzer_schema()),
        ("examples/architecture.yaml", architecture_schema()),
    ] {
        let text = fs::read_to_string(here(example)).unwrap();
        let mut found = Vec::new();
        properties("", &schema, &mut found);
        for (path, _) in found {
            let key = path.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("{key}:")), "{example} does not show {path}");
        }
    }
}

#[test]
fn the_full_analyzer_example_says_the_defaults() {
    let mut sources = Sources::new(&|_| None);
    sources.file = Some(ConfigFile::read(&here("examples/analyzer.yaml")).unwrap());
    let shown = AnalyzerConfig::load(&sources).unwrap();
    let default = AnalyzerConfig::default();
    assert_eq!((shown.limits, shown.findings, shown.listen), (default.limits, default.findings, default.listen));
    assert_eq!((shown.snapshot_every, shown.token), (default.snapshot_every, default.token));
}
