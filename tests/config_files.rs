//! The texts of `config/`: the defaults are the code's, no key is missing, and every example loads.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anomalyd::config::load::known_keys;
use anomalyd::config::raw::Raw;
use anomalyd::config::{Config, Sources};
use toml::Table;

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
        if let Err(problems) = Config::load(&sources) {
            panic!("{}: {problems}", path.display());
        }
        found += 1;
    }
    assert!(found >= 3, "only {found} examples found");
}
