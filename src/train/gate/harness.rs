//! Processes, candidates and what is wrong with them, for the gate's tests and proofs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, StudentT};

use super::super::aside::Aside;
use super::super::evidence::EpisodeSettings;
use super::super::rows::PartitionRows;
use super::super::window::Windows;
use super::super::{Calibrated, Candidate, Judged, Params, Stopping, TrainJob, run};
use super::ground::Ground;
use crate::detect::Budget;
use crate::model::KINDS;
use crate::model::card::ModelVersion;
use crate::model::spec::{ModelSpec, Scaling};
use crate::model::tensors::Tensors;
use crate::model::trained::TrainedModel;
use crate::record::Key;
use crate::seed::Seed;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// D.
pub const COLUMNS: usize = 6;

/// How much of two causes each feature has.
const LOADINGS: [[f64; 2]; COLUMNS] = [
    [1.0, 0.0],
    [0.8, 0.6],
    [0.6, -0.8],
    [0.0, 1.0],
    [-0.7, 0.7],
    [0.9, 0.4],
];

/// How records of an unchanged process come about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Independent from record to record.
    Independent,
    /// The same with heavy tails.
    Heavy,
    /// Twenty keys, one of them five spreads off in all features.
    ShiftedKey,
    /// Causes that remember: AR(1) with 0.95.
    Remembering,
    /// A day's and a week's course; records an hour apart.
    Weekly,
    /// Keys of unlike level and spread, over two orders of magnitude.
    UnlikeKeys,
}

impl Process {
    pub const ALL: [Self; 6] = [
        Self::Independent,
        Self::Heavy,
        Self::ShiftedKey,
        Self::Remembering,
        Self::Weekly,
        Self::UnlikeKeys,
    ];

    fn keys(self) -> usize {
        match self {
            Self::ShiftedKey => 20,
            Self::UnlikeKeys => 8,
            _ => 4,
        }
    }
}

/// Records of all keys, round by round.
pub struct Plant {
    process: Process,
    /// By round and key.
    records: Vec<Vec<[f64; COLUMNS]>>,
}

impl Plant {
    pub fn new(process: Process, records: usize, seed: Seed) -> Self {
        let keys = process.keys();
        let mut rng = seed.child("plant").rng();
        let own: Vec<([f64; COLUMNS], f64)> = (0..keys)
            .map(|key| {
                let level: [f64; COLUMNS] = std::array::from_fn(|_| rng.gen_range(-10.0..10.0));
                match process {
                    Process::UnlikeKeys => (level, 10_f64.powf(rng.gen_range(-1.0..1.0))),
                    Process::ShiftedKey if key == 0 => ([25.0; COLUMNS], 1.0),
                    _ => ([20.0, 50.0, 3.0, 100.0, 0.0, -7.0], 1.0),
                }
            })
            .collect();
        let mut causes = vec![[0.0; 2]; keys];
        let rounds = records.div_ceil(keys);
        let records = (0..rounds)
            .map(|round| {
                let of_key = causes.iter_mut().zip(&own);
                of_key
                    .map(|(causes, (level, spread))| {
                        step(process, round, causes, &mut rng);
                        std::array::from_fn(|j| {
                            let common: f64 = (0..2).map(|c| LOADINGS[j][c] * causes[c]).sum();
                            level[j] + spread * (common + 0.3 * normal(&mut rng))
                        })
                    })
                    .collect()
            })
            .collect();
        Self { process, records }
    }

    /// Rounds `from..from + records / keys`, as training reads them.
    pub fn rows(&self, from: usize, records: usize) -> PartitionRows {
        let mut rows = PartitionRows::new(TopicPartition::new("t", 0), COLUMNS);
        let keys = self.process.keys();
        let apart = if self.process == Process::Weekly {
            3_600_000
        } else {
            1000
        };
        let begin = from / keys;
        for round in begin..begin + records / keys {
            for (key, record) in self.records[round].iter().enumerate() {
                rows.push(
                    &Key(format!("key-{key}").into()),
                    Timestamp(apart * round as i64),
                    Offset((round * keys + key) as i64),
                    record,
                );
            }
        }
        rows
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn step(process: Process, round: usize, causes: &mut [f64; 2], rng: &mut ChaCha8Rng) {
    match process {
        Process::Heavy => {
            let heavy = StudentT::new(3.0).unwrap();
            *causes = [heavy.sample(rng), heavy.sample(rng)];
        }
        Process::Remembering => {
            for cause in causes {
                *cause = 0.95 * *cause + (1.0 - 0.95_f64.powi(2)).sqrt() * normal(rng);
            }
        }
        Process::Weekly => {
            let hour = (round % 24) as f64;
            let weekday = (round / 24) % 7 < 5;
            let day = (hour / 24.0 * std::f64::consts::TAU).sin();
            let busy = if weekday { 1.5 * (1.0 + day) } else { 0.2 };
            *causes = [busy + 0.3 * normal(rng), day + 0.3 * normal(rng)];
        }
        _ => *causes = [normal(rng), normal(rng)],
    }
}

/// A job on these rows.
pub fn job(kind: &str, window: usize, rows: PartitionRows, seed: Seed) -> TrainJob {
    TrainJob {
        detector: "d".to_owned(),
        version: ModelVersion(1),
        created: Timestamp(5),
        columns: ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec(),
        fill_last: Vec::new(),
        spec: ModelSpec {
            kind: kind.to_owned(),
            window,
            scale: Scaling::Robust,
            ..ModelSpec::default()
        }
        .with(|spec| {
            spec.network.epochs = 30;
            spec.fixed.trees = 30;
        }),
        schema: None,
        seed,
        rows: vec![rows],
        level_rows: Vec::new(),
        spans: Vec::new(),
        source: None,
        exclusions: Vec::new(),
        feedback: BTreeMap::new(),
        maintenance: Vec::new(),
        budget: Budget::PerRecord(1e-3),
        episodes: EpisodeSettings::default(),
        champion: None,
        change: None,
        gaps: true,
        unsettled: BTreeSet::new(),
        remake: None,
        params: Params {
            rows_min: 30,
            young: Duration::ZERO,
            ..Params::default()
        },
    }
}

pub fn trained(job: &TrainJob) -> Candidate {
    run(job, &|| false).unwrap()
}

/// What is wrong with a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sabotage {
    /// All weights a thousandth.
    Collapsed,
    /// Half of the spread, as of half of the values.
    HalfScaled,
    /// A feature that did not move while it learnt.
    ConstantFeature,
    /// One record in ten has a fault of eight spreads in one feature, which nobody flagged.
    Leaked,
    /// Weights that are no numbers.
    NotFinite,
    /// Features in another order.
    Swapped,
    /// One feature ten times and more as wild as ever.
    Exploded,
    /// The same score for everything.
    Constant,
    /// Fitted on fifty windows.
    FiftyRows,
    /// Windows whose records are in no order.
    Shuffled,
}

impl Sabotage {
    pub const ALL: [Self; 10] = [
        Self::Collapsed,
        Self::HalfScaled,
        Self::ConstantFeature,
        Self::Leaked,
        Self::NotFinite,
        Self::Swapped,
        Self::Exploded,
        Self::Constant,
        Self::FiftyRows,
        Self::Shuffled,
    ];

    /// What it does to the records.
    fn records(self, rows: &PartitionRows, keys: usize, seed: Seed) -> PartitionRows {
        let mut rng = seed.child("sabotage").rng();
        let column = rng.gen_range(0..COLUMNS);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if self == Self::Shuffled {
            for stretch in order.chunks_mut(20 * keys) {
                stretch.shuffle(&mut rng);
            }
        }
        let mut out = PartitionRows::new(rows.at.clone(), COLUMNS);
        for (i, from) in order.into_iter().enumerate() {
            let mut row: [f64; COLUMNS] = rows.row(from).try_into().unwrap();
            match self {
                Self::ConstantFeature => row[column] = rows.row(0)[column],
                Self::Leaked if rng.gen_bool(0.1) => row[column] += 8.0,
                Self::Swapped => row.rotate_left(1),
                Self::Exploded => row[column] += 15.0 * normal(&mut rng),
                _ => {}
            }
            let key = &rows.keys()[rows.key_number(from)];
            out.push(key, rows.time(i), rows.offset(i), &row);
        }
        out
    }

    /// What it does to the model.
    fn weights(self, model: &mut TrainedModel) {
        let factor = match self {
            Self::Collapsed => 1e-3,
            Self::Constant => 0.0,
            Self::NotFinite => f32::NAN,
            Self::HalfScaled => {
                model.scaler.spread.iter_mut().for_each(|s| *s *= 0.5);
                return;
            }
            _ => return,
        };
        let mut tensors = Tensors::default();
        model.model.save(&mut tensors);
        let names = tensors.tensors.iter_mut();
        for (name, (_, values)) in names {
            // What is divided by stays: nothing divides by zero.
            if !name.contains("spread") {
                for value in values {
                    *value *= factor;
                }
            }
        }
        model.model = KINDS.load(model.model.name(), &tensors).unwrap();
    }
}

/// A candidate with something wrong with it.
pub fn sabotaged(mut job: TrainJob, sabotage: Sabotage, seed: Seed) -> Candidate {
    let keys = job.rows[0].keys().len();
    job.rows = vec![sabotage.records(&job.rows[0], keys, seed)];
    let watch = &mut Stopping(&|| false);
    let windows = Windows::build(&job, &[], &[]);
    let usage = job.params.usage(windows.len());
    let mut made = Calibrated::fit(&job, &windows, usage, watch).unwrap();
    if sabotage == Sabotage::FiftyRows {
        let few = TrainJob {
            params: Params {
                rows_max: 50,
                ..job.params
            },
            ..job.clone()
        };
        let windows = Windows::build(&few, &[], &[]);
        made.fitted = Calibrated::fit(&few, &windows, usage, watch)
            .unwrap()
            .fitted;
    }
    sabotage.weights(&mut made.fitted.model);
    let judged = Judged::gated(&job, &windows, made, watch).unwrap();
    judged.report(&job, &windows, Aside::default())
}

/// What a model would do to people, on records that nobody has seen and nothing is wrong with.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Share of normal windows with p-values of at most 1 %.
    pub alerts: f64,
    /// Share of injected faults found at a common rate of false alarms.
    pub recall: f64,
    /// Share of injected faults that alert at 1 ‰.
    pub alerting: f64,
}

impl Truth {
    pub fn of(model: &TrainedModel, windows: &Array2<f64>) -> Self {
        let ground = Ground::new(windows, &[true; COLUMNS], Seed(99)).unwrap();
        let seen = ground.seen(model);
        let p_values = seen.clean.p_value.iter();
        let strange = p_values.filter(|&&p| p <= 0.01);
        Self {
            alerts: strange.count() as f64 / ground.len() as f64,
            recall: ground.recall(&seen)[0].1,
            alerting: Ground::alerting(&seen, 1e-3),
        }
    }

    /// Whether people are worse off than before.
    pub fn is_bad(self, before: Self) -> bool {
        let blind = self.recall < before.recall - 0.1;
        let blunt = self.alerting < before.alerting - 0.3;
        self.alerts > 0.05_f64.max(3.0 * before.alerts) || blind || blunt
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "alerts {:.3} recall {:.2} alerting {:.2}",
            self.alerts, self.recall, self.alerting
        )
    }
}

/// The windows of some rows.
pub fn windows_of(job: &TrainJob, rows: PartitionRows) -> Array2<f64> {
    let job = TrainJob {
        rows: vec![rows],
        params: Params {
            gate_share: 0.5,
            calibrate_share: 0.5,
            ..job.params
        },
        ..job.clone()
    };
    let windows = Windows::build(&job, &[], &[]);
    let split = windows.split(&job.params.usage(windows.len()), &job.spec);
    windows.matrix(&split.gate)
}

/// What came of good and sabotaged challengers.
#[derive(Debug, Default)]
pub struct Outcome {
    pub good: usize,
    pub good_rejected: usize,
    pub sabotaged: usize,
    pub promoted: usize,
    pub bad_promoted: usize,
    pub told: Vec<String>,
}

impl Outcome {
    /// Tries one good and one sabotaged challenger, each learnt from `n` records.
    pub fn add(
        &mut self,
        (process, kind, window, n): (Process, &str, usize, usize),
        sabotage: Sabotage,
        seed: Seed,
    ) {
        let plant = Plant::new(process, 3 * n, seed);
        let first = job(kind, window, plant.rows(0, n), seed.child("first"));
        let champion = Arc::new(trained(&first).model);
        let fresh = windows_of(&first, plant.rows(2 * n, n));
        let before = Truth::of(&champion, &fresh);
        let mut next = job(kind, window, plant.rows(n, n), seed.child("next"));
        next.champion = Some(champion);
        let good = trained(&next);
        let bad = sabotaged(next, sabotage, seed);
        let truth = Truth::of(&bad.model, &fresh);
        let promoted = bad.verdict.is_promoted();
        let is_bad = promoted && truth.is_bad(before);
        let rejected = !good.verdict.is_promoted();
        self.good += 1;
        self.sabotaged += 1;
        self.good_rejected += usize::from(rejected);
        self.promoted += usize::from(promoted);
        self.bad_promoted += usize::from(is_bad);
        let setting = format!("{process:?} {kind} {window}");
        let word = if is_bad { "BAD " } else { "" };
        self.told.push(format!(
            "{word}{sabotage:?} {setting}: {}; {truth}, before {before}",
            bad.verdict
        ));
        let word = if rejected { "GOOD " } else { "" };
        self.told.push(format!(
            "{word}unharmed {setting}: {}; {}, before {before}",
            good.verdict,
            Truth::of(&good.model, &fresh),
        ));
    }
}

/// How many of so many retrains on an unchanged process are rejected, and why.
pub fn retrained(
    (process, kind, window): (Process, &str, usize),
    retrains: usize,
    seed: Seed,
) -> Vec<String> {
    // Two weeks of an hourly process with four keys are 1,344 records.
    let (n, step) = if process == Process::Weekly {
        (1344, 4 * 24)
    } else {
        (6000, 1500)
    };
    let step = step / process.keys() * process.keys();
    let plant = Plant::new(process, n + step * (retrains + 1), seed);
    let mut champion: Option<Arc<TrainedModel>> = None;
    let mut rejected = Vec::new();
    for i in 0..=retrains {
        let rows = plant.rows(i * step, n);
        let mut job = job(kind, window, rows, seed.child("train").nth(i as u64));
        job.champion.clone_from(&champion);
        let candidate = trained(&job);
        if candidate.verdict.is_promoted() {
            champion = Some(Arc::new(candidate.model));
        } else {
            rejected.push(candidate.verdict.to_string());
        }
    }
    rejected
}
