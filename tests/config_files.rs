//! The texts of `config/`: the defaults are the code's, no key is missing, and every example loads.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anomalyd::config::load::known_keys;
use anomalyd::config::raw::Raw;
use anomalyd::config::{Config, Sources};
use schema::valid;
use serde_json::Value;
use toml::Table;

#[path = "shared/schema.rs"]
mod schema;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn default_text() -> String {
    fs::read_to_string(folder().join("default.toml")).unwrap()
}

fn keys(table: &Table) -> BTreeSet<String> {
    let mut keys = Vec::new();
    known_keys(table, "", &mut keys);
    keys.into_iter().collect()
}

#[test]
fn default_toml_has_the_codes_defaults() {
    let raw: Raw = toml::from_str(&default_text()).unwrap();
    assert_eq!(raw, Raw::default());
}

#[test]
fn default_toml_has_every_key() {
    let theirs = keys(&default_text().parse().unwrap());
    let ours = keys(&Table::try_from(Raw::default()).unwrap());
    let missing: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty(),
        "config/default.toml lacks {missing:?}: add each with its default and a comment"
    );
}

#[test]
fn every_key_of_default_toml_has_a_comment() {
    let text = default_text();
    let lines: Vec<_> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let is_key = line.contains('=') && !line.starts_with('#') && !line.starts_with('[');
        assert!(
            !is_key || lines[index - 1].starts_with('#'),
            "no comment above `{line}`"
        );
    }
}

/// TOML as JSON.
fn json(text: &str) -> Value {
    serde_json::to_value(text.parse::<Table>().unwrap()).unwrap()
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() {
    let schema = anomalyd::config::schema::schema();
    assert!(valid(&schema, &json(&default_text())));
    for entry in fs::read_dir(folder().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(valid(&schema, &json(&text)), "{}", path.display());
    }
    for good in [
        "alerts.false_alarm_rate = 0.001",
        "alerts.false_alarm_rate = \"1/week\"",
        "alerts.cooldown = \"10m\"",
        "input.key = \"pump\"",
        "input.key = [\"site\", \"pump\"]",
        "input.features = { array = \"readings\", len = 38 }",
        "input.missing = 0",
        "kafka.brokers = [\"a:9092\", \"b:9092\"]",
        "kafka.properties.\"security.protocol\" = \"SSL\"",
    ] {
        toml::from_str::<Raw>(good).unwrap();
        assert!(valid(&schema, &json(good)), "{good}");
    }
    for bad in [
        "input.topic = [\"a\"]",
        "workers = \"many\"",
        "input.start = \"yesterday\"",
        "training.mask = true",
        "http = 8080",
    ] {
        toml::from_str::<Raw>(bad).unwrap_err();
        assert!(!valid(&schema, &json(bad)), "{bad}");
    }
    // Every key has its words, its default, and a type.
    let keys = keys(&default_text().parse().unwrap());
    for key in keys {
        let path = format!("/properties/{}", key.replace('.', "/properties/"));
        let found = schema.pointer(&path).unwrap_or(&Value::Null);
        if found.get("properties").is_some() {
            continue;
        }
        for word in ["description", "default", "type"] {
            assert!(found.get(word).is_some(), "{key} has no {word}: {found}");
        }
    }
}

#[test]
fn every_example_loads() {
    let mut found = 0;
    for entry in fs::read_dir(folder().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let sources = Sources {
            files: vec![path.clone()],
            environment: [
                "KAFKA_PASSWORD",
                "SLACK_HOOK",
                "PAGERDUTY_KEY",
                "WEBHOOK_SECRET",
                "REGISTRY_PASSWORD",
            ]
            .map(|name| (name.to_owned(), "a-secret".to_owned()))
            .to_vec(),
            ..Sources::default()
        };
        if let Err(problems) = Config::load_all(&sources) {
            panic!("{}: {problems}", path.display());
        }
        found += 1;
    }
    assert!(found >= 3, "only {found} examples found");
}
