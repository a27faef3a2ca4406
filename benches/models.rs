//! What learning and scoring cost with each kind of model: the table of docs/quality.md.
//!
//! `cargo bench --bench models`, or `MODELS=vae,pca cargo bench --bench models` for kinds whose label begins so. Each kind as a user gets it, with
//! the default settings: the whole fit of 10,000 rows of 38 features, of which 15 % only validate, and the scores of 10,000 others in one
//! thread. Hand-timed, because a GAN's fit takes a minute: the median of three, or one where a fit takes more than ten seconds. Linux
//! tells the thread's own processor time, so that other work on the machine does less; elsewhere it is the time that passed.
//!
//! Budget: a dense pass of a 38 → 10 → 38 autoencoder is 760 multiplications a row, so 1 M rows/s need 0.8 GFLOP/s of the 20 or so that
//! one core gives; a variational autoencoder with 8 draws needs five times that and 80 normal variates a row. A row's products with 4,096
//! references are 156,000 multiplications, so nearest neighbours cannot be above 100,000 rows/s.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(
    clippy::disallowed_methods,
    reason = "measures time, and has no configuration but its environment"
)]

use std::ops::ControlFlow;
use std::time::Instant;

use anomalyd::model::spec::ModelSpec;
use anomalyd::model::{FitData, FitError, KINDS, Monitor, Trait};
use anomalyd::seed::Seed;
use ndarray::{Array2, Axis, Slice};
use rand::Rng;

const WIDTH: usize = 38;
const ROWS: usize = 10_000;

/// Share of the rows that only validate.
const VALIDATION: f64 = 0.15;

/// Repetitions, and the seconds above which there are none.
const TIMES: usize = 3;
const LONG: f64 = 10.0;

/// Seconds below which one repetition is several calls, because processor time is counted in steps.
const SHORT: f64 = 0.2;

/// Label, kind, and what differs from the defaults.
const CASES: &[(&str, &str, &str)] = &[
    ("robust_z", "robust_z", "{}"),
    ("hbos", "hbos", "{}"),
    ("ecod", "ecod", "{}"),
    ("iforest", "iforest", "{}"),
    ("pca", "pca", "{}"),
    ("gmm", "gmm", "{}"),
    ("knn", "knn", "{}"),
    ("linkage", "linkage", "{}"),
    ("ensemble", "ensemble", "{}"),
    ("autoencoder", "autoencoder", "{}"),
    (
        "autoencoder, sparse",
        "autoencoder",
        r#"{"autoencoder": {"regularizer": "sparse"}}"#,
    ),
    (
        "autoencoder, denoising",
        "autoencoder",
        r#"{"autoencoder": {"regularizer": "denoising"}}"#,
    ),
    (
        "autoencoder, contractive",
        "autoencoder",
        r#"{"autoencoder": {"regularizer": "contractive"}}"#,
    ),
    (
        "autoencoder, conv1d, W = 10",
        "autoencoder",
        r#"{"autoencoder": {"architecture": "conv1d"}, "window": 10}"#,
    ),
    ("vae", "vae", "{}"),
    ("gan", "gan", "{}"),
    ("gan, style", "gan", r#"{"gan": {"generator": "style"}}"#),
    ("auto, W = 1", "auto", "{}"),
    ("auto, W = 10", "auto", r#"{"window": 10}"#),
    ("auto, W = 20", "auto", r#"{"window": 20}"#),
];

/// `n` windows of records that follow six hidden causes, one record after the other.
fn windows(n: usize, window: usize, seed: Seed) -> Array2<f32> {
    let mut rng = seed.rng();
    let records = n + window - 1;
    let causes = Array2::from_shape_fn((records, 6), |_| rng.gen_range(-1.0_f32..1.0));
    let mixing = Array2::from_shape_fn((6, WIDTH), |(i, j)| ((i * 7 + j * 3) as f32).sin());
    let noise = Array2::from_shape_fn((records, WIDTH), |_| rng.gen_range(-0.2_f32..0.2));
    let records = causes.dot(&mixing) + noise;
    Array2::from_shape_fn((n, window * WIDTH), |(i, j)| {
        records[[i + j / WIDTH, j % WIDTH]]
    })
}

/// Seconds that this thread was on a processor, if the system tells, or else that passed since `began`.
fn seconds(began: Instant) -> f64 {
    // The system counts when it schedules.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|count| count.parse().ok());
    nanoseconds.map_or_else(|| began.elapsed().as_secs_f64(), |count: f64| count / 1e9)
}

/// The seconds that a call of `work` takes.
fn timed(mut work: impl FnMut()) -> f64 {
    let mut times = Vec::new();
    while times.len() < TIMES && times.iter().all(|&time| time < LONG) {
        let began = Instant::now();
        let (start, mut calls) = (seconds(began), 0);
        let spent = loop {
            work();
            calls += 1;
            let spent = seconds(began) - start;
            if spent >= SHORT {
                break spent;
            }
        };
        times.push(spent / f64::from(calls));
    }
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Three digits, as people write them.
fn rounded(rate: f64) -> String {
    let unit = 10f64.powi(rate.log10() as i32 - 1).max(1.0);
    let digits = ((rate / unit).round() * unit).to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Counts epochs, which end early where validation gets no better.
#[derive(Default)]
struct Epochs(usize);

impl Monitor for Epochs {
    fn epoch(&mut self, _: usize, _: f64, _: f64) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }
}

/// Rows a second that are learnt and scored, and epochs.
fn measure(spec: &ModelSpec, rows: usize) -> Result<(f64, f64, usize), FitError> {
    let all = windows(rows, spec.window, Seed(1));
    let learnt = rows - (VALIDATION * rows as f64) as usize;
    let part = |slice: Slice| all.slice_axis(Axis(0), slice).to_owned();
    let data = FitData {
        train: part(Slice::from(..learnt)),
        validation: part(Slice::from(learnt..)),
    };
    let asked = windows(rows, spec.window, Seed(3));
    let seeds: Vec<Seed> = (0..rows as u64).map(Seed).collect();
    let (mut fitted, mut epochs) = (None, Epochs(0));
    let fit = timed(|| {
        epochs.0 = 0;
        fitted = Some(KINDS.fit(spec, &data, Seed(7), &mut epochs));
    });
    let model = fitted.unwrap_or_else(|| unreachable!("timed at least once"))?;
    let score = timed(|| {
        std::hint::black_box(model.score(asked.view(), &seeds));
    });
    Ok((rows as f64 / fit, rows as f64 / score, epochs.0))
}

fn main() {
    // Run as a test it only shows that it runs.
    let rows = if std::env::args().any(|argument| argument == "--bench") {
        ROWS
    } else {
        200
    };
    let chosen = std::env::var("MODELS").unwrap_or_default();
    println!("| kind | train rows/s | epochs | score records/s |\n|---|---|---|---|");
    for (label, kind, differs) in CASES {
        if !chosen.split(',').any(|start| label.starts_with(start)) {
            continue;
        }
        let spec = match serde_json::from_str(differs) {
            Ok(spec) => ModelSpec {
                kind: (*kind).to_owned(),
                ..spec
            },
            Err(problem) => panic!("{label}: {problem}"),
        };
        match measure(&spec, rows) {
            Ok((train, score, epochs)) => {
                let epochs = if KINDS.with(Trait::Descends).contains(kind) {
                    epochs.to_string()
                } else {
                    String::new()
                };
                let (train, score) = (rounded(train), rounded(score));
                println!("| {label} | {train} | {epochs} | {score} |");
            }
            Err(problem) => println!("| {label} | {problem} | | |"),
        }
    }
}
