//! The layers of `src/lib.rs`, enforced: a module uses only modules of its own or a lower layer, and every module is in the list.

#![expect(clippy::expect_used, reason = "a test's helpers")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, lowest layer first. Modules of one layer may not use each other, except in layer 0.
const LAYERS: &[&[&str]] = &[
    &["time", "seed", "stream", "stats"],
    &["record", "alert"],
    &["nn"],
    &["model"],
    &["detect"],
    &["train"],
    &["pipeline"],
    &["port"],
    &["trainer"],
    &["worker"],
    &["store"],
    &["kafka"],
    &["config"],
    &["offline", "service"],
    &["demo"],
    &["cli"],
];

/// The highest layer that is the pure core: no I/O, clock, thread, metric or log.
const CORE: usize = 6;

/// What the core must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "SystemClock",
    "tracing::",
    "prometheus::",
    "rdkafka",
    "tokio",
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module that a file below src belongs to.
fn module(path: &Path, src: &Path) -> String {
    let relative = path.strip_prefix(src).expect("below src");
    let first = relative
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a line names as `crate::module`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

/// What is wrong with one file's text: upward uses, unknown modules, impurities.
fn problems(module: &str, text: &str) -> Vec<String> {
    let Some(own) = layer(module) else {
        return vec![format!("module `{module}` is in no layer")];
    };
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or(line);
        for used in named(line).filter(|used| *used != module && !used.is_empty()) {
            match layer(used) {
                Some(theirs) if theirs < own || (theirs == own && own == 0) => {}
                Some(_) => found.push(format!(
                    "{module}:{} uses `{used}`, which is not below it",
                    number + 1
                )),
                None => {}
            }
        }
        if own <= CORE && module != "time" {
            found.extend(
                IMPURE
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| {
                        format!(
                            "{module}:{} names `{word}`, but the core is pure",
                            number + 1
                        )
                    }),
            );
        }
    }
    found
}

#[test]
fn every_module_uses_only_layers_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut found = Vec::new();
    for path in all {
        let module = module(&path, &src);
        if module != "lib" && module != "main" {
            found.extend(problems(
                &module,
                &fs::read_to_string(&path).expect("a text"),
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_upward_use_and_an_impurity_are_found() {
    assert_eq!(problems("model", "use crate::pipeline::Pipeline;").len(), 1);
    assert_eq!(
        problems("detect", "let now = std::thread::current();").len(),
        1
    );
    assert_eq!(problems("unheard_of", "").len(), 1);
    assert!(problems("pipeline", "use crate::model::Model;").is_empty());
}
