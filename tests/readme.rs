//! The README's configuration does what the README says: a hot bearing is told, whatever the mode.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::path::PathBuf;

use anomalyd::config::{Config, Sources};
use anomalyd::model::trained::TrainedModel;
use anomalyd::seed::Seed;
use anomalyd::time::Timestamp;
use anomalyd::tools::table::{Roles, Table, hex_sha256};
use anomalyd::tools::training::{self, Run};
use anomalyd::train;
use ndarray::ArrayView2;
use rand::Rng;
use rand_distr::StandardNormal;

const PUMPS: usize = 4;

/// The first block of TOML in the README, word for word.
fn config() -> Config {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let block = readme.split("```toml\n").nth(1).unwrap();
    let text = block.split("```").next().unwrap();
    // Each test has a file of its own: another's may just be written.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("readme.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&Sources {
        files: vec![file],
        environment: Vec::new(),
        set: Vec::new(),
        ..Sources::default()
    });
    config.unwrap()
}

/// A record of a pump: the mode that it runs in and the one that it says, and how much too hot its motor is.
#[derive(Clone, Copy)]
struct Doing {
    mode: usize,
    said: &'static str,
    hotter: f64,
}

const MODES: [(&str, f64, f64, f64); 3] = [
    ("idle", 0.0, 35.0, 1.2),
    ("eco", 24.0, 52.0, 7.5),
    ("full", 41.0, 61.0, 12.5),
];

/// Records of four pumps, one after another, a record of each every five seconds; `doing` says what the i-th of a pump is about.
fn lines(n: usize, seed: u64, doing: impl Fn(usize, usize) -> Doing) -> String {
    let mut rng = Seed(seed).rng();
    let mut out = String::new();
    for i in 0..n {
        for pump in 0..PUMPS {
            let mut noise = |size: f64| size * rng.sample::<f64, _>(StandardNormal);
            let Doing { mode, said, hotter } = doing(i, pump);
            let (_, flow, temperature, current) = MODES[mode];
            let (load, second) = (noise(1.0), i * 5);
            let (hour, minute) = (second / 3600, second / 60 % 60);
            let line = format!(
                r#"{{"ts":"2026-03-01T{hour:02}:{minute:02}:{:02}Z","pump":"P-{pump}","flow":{},"motor":{{"temperature":{},"current":{}}},"mode":"{said}"}}"#,
                second % 60,
                flow + 0.3 * load + noise(0.2),
                temperature + hotter + noise(0.4),
                current + 0.1 * load + noise(0.05),
            );
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

/// Pumps run for five to ten minutes in a mode.
fn ordinary(i: usize, pump: usize) -> Doing {
    let mode = (i / (60 + 15 * pump) + pump) % MODES.len();
    Doing {
        mode,
        said: MODES[mode].0,
        hotter: 0.0,
    }
}

fn table(config: &Config, text: &str) -> Table {
    let roles = Roles::of_input(&config.input);
    Table::parse(
        "pumps.jsonl",
        hex_sha256(text.as_bytes()),
        text.as_bytes(),
        &roles,
    )
    .unwrap()
}

/// Trained on two hours as the daemon would.
fn trained(config: &Config) -> TrainedModel {
    let table = table(config, &lines(1440, 7, ordinary));
    let run = Run {
        version: 1,
        created: Timestamp(0),
        rows: 0..table.len(),
        sampled: false,
        params: config.training_params(),
        exclusions: Vec::new(),
        champion: None,
        change: None,
    };
    train::run(&training::job(config, &table, run), &|| false)
        .unwrap()
        .model
}

/// P-values of the second pump's windows, and the share of each column in the last one's score.
fn judged(config: &Config, model: &TrainedModel, text: &str) -> (Vec<f64>, Vec<f64>) {
    let table = table(config, text);
    let own: Vec<&[f64]> = (1..table.len())
        .step_by(PUMPS)
        .map(|row| table.row(row))
        .collect();
    let windows: Vec<f64> = own
        .windows(model.card.spec.window)
        .flatten()
        .copied()
        .flatten()
        .copied()
        .collect();
    let n = own.len() + 1 - model.card.spec.window;
    let windows = ArrayView2::from_shape((n, model.width()), &windows).unwrap();
    let seeds: Vec<Seed> = (0..n as u64).map(Seed).collect();
    let last = windows.row(n - 1).insert_axis(ndarray::Axis(0));
    (
        model.judge(windows, &seeds).p_value,
        model.explain(last, 0).shares,
    )
}

fn smallest(p: &[f64]) -> f64 {
    p.iter().copied().fold(1.0, f64::min)
}

#[test]
fn a_hot_bearing_shows_in_every_mode_and_under_a_wrong_one() {
    let config = config();
    let model = trained(&config);
    let columns = [
        "flow",
        "motor.temperature",
        "motor.current",
        "mode=idle",
        "mode=eco",
        "mode=full",
    ];
    assert_eq!(model.card.columns, columns);

    // A day's worth of ordinary changes of mode is ordinary, so is a mode that was never told.
    let (p, _) = judged(&config, &model, &lines(1200, 8, ordinary));
    assert!(smallest(&p) > 1e-7, "{}", smallest(&p));
    let rate = p.iter().filter(|p| **p < 0.01).count() as f64 / p.len() as f64;
    assert!(rate < 0.03, "{rate}");

    for (mode, (name, ..)) in MODES.into_iter().enumerate() {
        let faulty = |said: &'static str| {
            let text = lines(14, 9, move |i, _| Doing {
                mode,
                said,
                hotter: if i < 10 { 0.0 } else { 12.0 },
            });
            judged(&config, &model, &text)
        };
        // The listed one; another; one that nobody listed.
        for said in [name, MODES[(mode + 1) % 3].0, "eko"] {
            let (p, shares) = faulty(said);
            let hot = p.len() - 4;
            // Thirty spreads. A kind sees ten of them; how many more there are, the judges of sensors say.
            assert!(smallest(&p[hot..]) < 1e-9, "{name} as {said}: {p:?}");
            assert!(shares[3..].iter().all(|&share| share <= 0.0), "{shares:?}");
            let most = (0..3)
                .max_by(|&a, &b| shares[a].total_cmp(&shares[b]))
                .unwrap();
            if said != MODES[(mode + 1) % 3].0 {
                assert_eq!(most, 1, "{name} as {said}: {shares:?}");
                assert!(
                    p[..hot].iter().all(|&p| p > 1e-6),
                    "{name} as {said}: {p:?}"
                );
            }
        }
    }
}

#[test]
fn a_mode_that_training_hardly_saw_is_no_fault_by_itself() {
    let config = config();
    let model = trained(&config);
    let text = lines(40, 5, |_, _| Doing {
        mode: 1,
        said: "boost",
        hotter: 0.0,
    });
    let (p, _) = judged(&config, &model, &text);
    assert!(smallest(&p) > 1e-6, "{p:?}");
}
