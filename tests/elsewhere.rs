//! What other programs make of a model's file: the example in Python scores as `anomalyd score` does.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use noise::noise;

#[path = "shared/noise.rs"]
mod noise;

/// How far a score may lie off, as a part of it or of 1: the daemon works in single precision, and its tanh is a quotient of polynomials.
const OFF: f64 = 1e-5;

/// The same for the rows that the file has with their scores.
const OFF_GOLDEN: f64 = 1e-6;

/// A Python that has numpy; says so where there is none.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("ANOMALYD_PYTHON").map(PathBuf::from);
    let known = [
        "python3",
        "/usr/bin/python3",
        "target/quality-venv/bin/python",
    ];
    let has_numpy = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import numpy"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let found = given
        .into_iter()
        .chain(known.map(PathBuf::from))
        .find(has_numpy);
    if found.is_none() {
        eprintln!("skipped: there is no Python with numpy (nor ANOMALYD_PYTHON)");
    }
    found
}

/// Standard output of a program that must succeed.
fn output(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let output = Command::new(program.as_ref())
        .args(arguments)
        .env_remove("ANOMALYD_CONFIG")
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {problem}");
    String::from_utf8(output.stdout).unwrap()
}

/// Three features that go together, with a wild record now and then.
fn csv() -> String {
    let mut noise = noise(7);
    let mut text = "flow,pressure,power\n".to_owned();
    for i in 0..600 {
        let load = (f64::from(i) / 20.0).sin() + noise();
        let wild = if i % 97 == 96 { 40.0 } else { 0.0 };
        let (flow, pressure) = (12.0 + 3.0 * load + wild, 4.0 - load + 0.2 * noise());
        writeln!(
            text,
            "{flow},{pressure},{}",
            80.0 + 20.0 * load * load + noise()
        )
        .unwrap();
    }
    text
}

#[test]
fn the_example_in_python_scores_as_the_daemon_does() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, model) = (path("x.csv"), path("m.safetensors"));
    fs::write(&input, csv()).unwrap();
    let anomalyd = env!("CARGO_BIN_EXE_anomalyd");
    for (window, residual) in [("1", "scaled"), ("3", "whitened")] {
        let settings = [
            "model.kind=autoencoder".to_owned(),
            format!("model.window={window}"),
            format!("model.autoencoder.residual={residual}"),
            // Or principal components might take its place.
            "gate.recall_tolerance=1".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        let train = ["train", "--input", &input, "--model", &model];
        let trained = output(anomalyd, &[&train[..], &settings].concat());
        assert!(trained.contains("model autoencoder"), "{trained}");
        let ours = output(anomalyd, &["score", "--model", &model, "--input", &input]);
        let theirs = output(&python, &["examples/score.py", &model, &input]);
        let ours: Vec<Option<f64>> = ours
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().parse().ok())
            .collect();
        let theirs: Vec<f64> = theirs.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!((ours.len(), theirs.len()), (600, 600));
        let mut compared = 0;
        for (ours, theirs) in ours
            .iter()
            .zip(&theirs)
            .filter(|(_, theirs)| !theirs.is_nan())
        {
            let ours = ours.unwrap();
            assert!(
                (ours - theirs).abs() <= OFF * ours.max(1.0),
                "{ours} {theirs}"
            );
            compared += 1;
        }
        assert_eq!(compared, 601 - window.parse::<usize>().unwrap());
        let off = output(&python, &["-c", GOLDEN, &model])
            .trim()
            .parse::<f64>();
        assert!(off.clone().is_ok_and(|off| off <= OFF_GOLDEN), "{off:?}");
    }
}

/// How far the example's scores lie off those that the file has beside its golden windows.
const GOLDEN: &str = "import sys; sys.path.insert(0, 'examples'); import numpy as np, score; \
    model = score.load(sys.argv[1]); tensors = model[0]; \
    whole = ~np.isnan(tensors['golden.windows']).any(1); wanted = tensors['golden.score'][whole]; \
    print(np.max(np.abs(score.score(tensors['golden.windows'][whole], *model) - wanted) / np.maximum(1, wanted)))";
