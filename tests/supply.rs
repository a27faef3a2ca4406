//! What the program is made of: licences, sources and versions held against lists, and what `make release` writes about it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test: what cannot be is a failure"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anomalyd_supply::{Package, Supply, allowed, notices, sbom};

/// Where packages may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Packages that are built in several versions, and who asks for the old one.
const TWICE: &[(&str, &str)] = &[
    ("approx", "alga, which linfa's sprs uses, has 0.3"),
    (
        "getrandom",
        "rand 0.8 has 0.2, const-random, which parquet's ahash uses, 0.3",
    ),
    ("hashbrown", "safetensors has 0.16"),
    ("itertools", "ndarray-stats and criterion have 0.13"),
    ("num-complex", "alga has 0.2"),
    ("rand", "linfa has 0.8; only tests have a newer one"),
    ("rand_core", "as rand"),
    (
        "syn",
        "the two halves of the ecosystem: each only while building",
    ),
    ("thiserror", "kdtree and linfa-linalg have 1"),
    ("thiserror-impl", "as thiserror"),
    ("toml", "config has 1, our spans need 0.9"),
    ("toml_datetime", "as toml"),
    ("unicode-width", "miette, which protox uses, has 0.1"),
    ("winnow", "as toml"),
];

fn supply() -> Supply {
    Supply::of_build(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("cargo knows what it builds")
}

/// The licences, sources and repeated names of some packages that do not pass.
fn problems<'a>(all: impl Iterator<Item = &'a Package>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in all {
        let Package { name, version, .. } = package;
        if !allowed(&package.licence) {
            problems.push(format!("{name} {version}: licence {:?}", package.licence));
        }
        if package
            .source
            .as_deref()
            .is_some_and(|from| from != REGISTRY)
        {
            problems.push(format!("{name} {version}: from {:?}", package.source));
        }
        versions.entry(name).or_default().insert(version);
    }
    let known: BTreeSet<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
    let twice: BTreeSet<&str> = twice.map(|(name, _)| *name).collect();
    for name in twice.difference(&known) {
        problems.push(format!("{name}: in versions {:?}", versions[name]));
    }
    for name in known.difference(&twice) {
        problems.push(format!("{name}: only in one version any more"));
    }
    problems
}

#[test]
fn all_that_is_built_may_be_passed_on_comes_from_the_registry_and_is_there_once() {
    let supply = supply();
    assert!(supply.all.len() > 100, "{}", supply.all.len());
    assert_eq!(problems(supply.all.values()), [""; 0]);
}

#[test]
fn a_licence_a_source_or_a_version_that_is_not_on_the_lists_is_seen() {
    let mut all: Vec<Package> = supply().all.into_values().collect();
    let other = |name: &str, licence: &str, source: &str| Package {
        name: name.to_owned(),
        version: "0.0.1".to_owned(),
        licence: licence.to_owned(),
        source: Some(source.to_owned()),
        ..all[0].clone()
    };
    let bad = [
        other("copyleft", "GPL-3.0-only", REGISTRY),
        other("fork", "MIT", "git+https://example.org/fork"),
        other("serde", "MIT", REGISTRY),
    ];
    all.extend(bad);
    let found = problems(all.iter());
    assert_eq!(found.len(), 3, "{found:?}");
    for name in ["copyleft", "fork", "serde"] {
        assert!(
            found.iter().any(|problem| problem.starts_with(name)),
            "{name}"
        );
    }
}

/// Names and versions of what the program links, as `cargo tree` finds them.
fn tree() -> BTreeSet<String> {
    let args = [
        "tree", "--locked", "-p", "anomalyd", "-e", "normal", "--prefix", "none", "-f", "{p}",
    ];
    let output = Command::new("cargo")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some(format!("{name} {version}"))
    };
    text.lines().filter_map(package).collect()
}

#[test]
fn the_bill_of_materials_has_all_that_is_linked() {
    let supply = supply();
    let read = sbom(&supply);
    assert_eq!(
        (&read["bomFormat"], &read["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    let root = &read["metadata"]["component"];
    assert_eq!(
        (&root["type"], &root["name"]),
        (&"application".into(), &"anomalyd".into())
    );
    let components = read["components"].as_array().unwrap();
    let crates: Vec<_> = components
        .iter()
        .chain([root])
        .filter(|c| c["purl"].as_str().unwrap().starts_with("pkg:cargo/"))
        .collect();
    let named: BTreeSet<String> = crates
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                c["name"].as_str().unwrap(),
                c["version"].as_str().unwrap()
            )
        })
        .collect();
    let missing: Vec<_> = tree().difference(&named).cloned().collect();
    assert_eq!(missing, [""; 0]);
    // It may name what only features that tests turn on would link, but not what tests are made of.
    for tool in ["criterion ", "proptest ", "anomalyd-supply "] {
        assert!(!named.iter().any(|name| name.starts_with(tool)), "{tool}");
    }
    for component in crates {
        let ours = component["name"].as_str().unwrap().starts_with("anomalyd");
        let hash = component["hashes"][0]["content"].as_str();
        assert!(
            ours || hash.is_some_and(|hash| hash.len() == 64),
            "{component}"
        );
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        assert!(!licence.is_empty() && !licence.contains('/'), "{component}");
    }
    // The client is written in C, and carried along.
    assert!(components.iter().any(|c| c["name"] == "librdkafka"));
    let refs: BTreeSet<&str> = components
        .iter()
        .chain([root])
        .map(|c| c["bom-ref"].as_str().unwrap())
        .collect();
    assert_eq!(refs.len(), components.len() + 1, "each once");
    for dependency in read["dependencies"].as_array().unwrap() {
        let on = dependency["dependsOn"].as_array().unwrap();
        for named in on.iter().chain([&dependency["ref"]]) {
            assert!(refs.contains(named.as_str().unwrap()), "{named}");
        }
    }
}

#[test]
fn the_notices_name_all_that_others_wrote() {
    let supply = supply();
    let text = notices(&supply).expect("notices");
    let others = supply.third_party();
    assert!(others.len() > 80);
    for Package {
        name,
        version,
        licence,
        ..
    } in others
    {
        let line = format!("- {name} {version}: {licence}");
        assert!(text.lines().any(|found| found.starts_with(&line)), "{line}");
    }
    for part in [
        "Magnus Edenhill",
        "Permission is hereby granted",
        "Apache License",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
