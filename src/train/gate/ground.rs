//! Windows that models are tried on, as they are and with faults put into them; and how two models compare there.
//!
//! All models see the same windows and the same faults, of sizes that no model has a say in: spreads of these very windows. Each gets the
//! threshold that lets the same share of the clean windows through. Whether one finds more than the other is asked of a bootstrap over blocks
//! of time (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, 8.6; blocks after Künsch, "The Jackknife and the Bootstrap for
//! General Stationary Observations", Annals of Statistics 17, 1989): blocks of neighbours are drawn with replacement, clean windows and the
//! faults put into them together and for both models the same, and thresholds and shares are reckoned anew. So neither windows that share
//! records nor a threshold that rests on a handful of windows makes a difference look surer than it is.

use ndarray::{Array2, Axis, Slice};
use rand::Rng;

use super::super::fit;
use super::super::inject::{Fault, inject};
use crate::model::FitError;
use crate::model::levels::Levels;
use crate::model::scale::Scaler;
use crate::model::spec::Scaling;
use crate::model::trained::{Judged, TrainedModel};
use crate::seed::Seed;
use crate::stats::metrics::roc_auc;

/// Windows that are looked at, at most.
const WINDOWS_MAX: usize = 2000;

/// Those that faults of each kind are put into, at most.
const FAULTY: usize = 400;

/// The false-alarm rate at which recall is measured.
const RECALL_AT: f64 = 0.02;

/// Blocks of neighbours that stand for independent draws.
const BLOCKS: usize = 25;

/// Times that blocks are drawn.
const DRAWS: usize = 1000;

/// The level of each test, on one side.
const LEVEL: f64 = 0.01;

/// Windows, and the same with faults.
#[derive(Debug)]
pub(super) struct Ground {
    /// `n × (W · D)` values by what is usual for their keys, oldest first.
    pub windows: Array2<f64>,
    /// The key of each.
    keys: Vec<String>,
    /// What is usual for each key.
    levels: Levels,
    /// The features' robust spreads; 0 for those that are context.
    spread: Vec<f64>,
    /// The places of the windows that faults were put into.
    bases: Vec<usize>,
    /// By kind of fault, a window a base.
    pub faulty: Vec<(Fault, Array2<f64>)>,
    seed: Seed,
}

/// What a model says of a ground's windows.
#[derive(Debug)]
pub(super) struct Seen {
    /// As they are.
    pub clean: Judged,
    /// With faults, by kind.
    faulty: Vec<Judged>,
}

/// How much more a model finds than another.
#[derive(Debug)]
pub(super) struct More {
    /// What is compared: all kinds of faults together, or one.
    pub fault: Option<Fault>,
    /// The share that the one finds.
    pub ours: f64,
    /// The share that the other finds.
    pub theirs: f64,
    /// What the other finds more, at least, at the test's level.
    pub at_least: f64,
}

impl Ground {
    /// At most [`WINDOWS_MAX`] of the windows of these keys, `n × (W · D)` raw values, evenly, and faults put into some, in those of the D
    /// features that are `measured`.
    pub fn of_keys(
        (keys, windows): (&[String], &Array2<f64>),
        levels: &Levels,
        measured: &[bool],
        seed: Seed,
    ) -> Result<Self, FitError> {
        let (n, columns) = (windows.nrows(), measured.len());
        let step = n.div_ceil(WINDOWS_MAX).max(1);
        let kept: Vec<usize> = (0..n).step_by(step).collect();
        let keys: Vec<String> = kept.iter().map(|&at| keys[at].clone()).collect();
        let raw = windows.select(Axis(0), &kept);
        let windows = Levels::default().to(levels, &keys, raw.into()).into_owned();
        let first = windows.ncols() - columns;
        let newest = windows.slice_axis(Axis(1), Slice::from(first..));
        let mut spread = if kept.is_empty() {
            vec![1.0; columns]
        } else {
            Scaler::fit(newest, Scaling::Robust, 0.0)?.spread
        };
        for (spread, _) in spread.iter_mut().zip(measured).filter(|(_, m)| !**m) {
            *spread = 0.0;
        }
        let step = kept.len().div_ceil(FAULTY).max(1);
        let bases: Vec<usize> = (0..kept.len()).step_by(step).collect();
        let seed = seed.child("gate");
        let struck = |fault| (fault, inject(fault, &windows, &bases, &spread, seed));
        Ok(Self {
            faulty: Fault::ALL.into_iter().map(struck).collect(),
            windows,
            keys,
            levels: levels.clone(),
            spread,
            bases,
            seed,
        })
    }

    /// [`Self::of_keys`], of one key.
    #[cfg(test)]
    pub fn new(windows: &Array2<f64>, measured: &[bool], seed: Seed) -> Result<Self, FitError> {
        let keys = vec![String::new(); windows.nrows()];
        Self::of_keys((&keys, windows), &Levels::default(), measured, seed)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.nrows()
    }

    /// Asks a model.
    pub fn seen(&self, model: &TrainedModel) -> Seen {
        let keys: Vec<String> = self.bases.iter().map(|&at| self.keys[at].clone()).collect();
        // Where no feature varies, no faults were put in.
        let judged = |rows: &Array2<f64>| self.judged(model, (&keys[..rows.nrows()], rows));
        let faulty = self.faulty.iter();
        Seen {
            clean: self.clean(model),
            faulty: faulty.map(|(_, rows)| judged(rows)).collect(),
        }
    }

    /// Asks a model about the windows as they are.
    pub fn clean(&self, model: &TrainedModel) -> Judged {
        self.judged(model, (&self.keys, &self.windows))
    }

    fn judged(&self, model: &TrainedModel, (keys, rows): (&[String], &Array2<f64>)) -> Judged {
        let rows = self.levels.to(&model.levels, keys, rows.into());
        model.judge(rows.view(), &fit::seeds(rows.nrows(), self.seed))
    }

    /// For each window, the mean squared error over its newest record's measured features, in spreads; NaN where none was observed.
    pub fn errors(&self, model: &TrainedModel) -> Vec<f64> {
        let columns = self.spread.len();
        let (ours, theirs) = (&self.levels, &model.levels);
        let seen = ours.to(theirs, &self.keys, (&self.windows).into());
        let expected = model.expected(seen.view());
        let expected = theirs.to(ours, &self.keys, expected.into());
        let first = self.windows.ncols() - columns;
        let rows = self.windows.rows().into_iter().zip(expected.rows());
        rows.map(|(row, expected)| {
            let squares: Vec<f64> = (0..columns)
                .filter(|&column| self.spread[column] > 0.0 && row[first + column].is_finite())
                .map(|column| (row[first + column] - expected[column]) / self.spread[column])
                .map(|error| error * error)
                .collect();
            squares.iter().sum::<f64>() / squares.len() as f64
        })
        .collect()
    }

    /// What `theirs` finds more than `ours`: of all kinds of faults, and of each.
    pub fn more(&self, ours: &Seen, theirs: &Seen) -> Vec<More> {
        let blocks = self.len().clamp(1, BLOCKS);
        let (ours, theirs) = (
            Blocked::new(self, ours, blocks),
            Blocked::new(self, theirs, blocks),
        );
        let once = vec![1; blocks];
        let (found, other) = (ours.recall(&once), theirs.recall(&once));
        let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(DRAWS); found.len()];
        let mut rng = self.seed.child("resample").rng();
        for _ in 0..DRAWS {
            let mut times = vec![0_u32; blocks];
            for _ in 0..blocks {
                times[rng.gen_range(0..blocks)] += 1;
            }
            let pairs = theirs.recall(&times).into_iter().zip(ours.recall(&times));
            for (drawn, (theirs, ours)) in drawn.iter_mut().zip(pairs) {
                drawn.push(theirs - ours);
            }
        }
        let kinds = std::iter::once(None).chain(Fault::ALL.map(Some));
        let each = kinds.zip(found).zip(other).zip(drawn);
        each.map(|(((fault, ours), theirs), mut drawn)| {
            drawn.sort_unstable_by(f64::total_cmp);
            // One kind of several may differ by chance.
            let parts = if fault.is_some() { Fault::ALL.len() } else { 1 };
            let place = (LEVEL / parts as f64 * DRAWS as f64) as usize;
            More {
                fault,
                ours,
                theirs,
                at_least: drawn[place],
            }
        })
        .collect()
    }

    /// The share of injected faults that alert at a p-value.
    pub fn alerting(seen: &Seen, p: f64) -> f64 {
        let p_values = || seen.faulty.iter().flat_map(|judged| &judged.p_value);
        let found = p_values().filter(|&&found| found <= p).count();
        found as f64 / p_values().count().max(1) as f64
    }

    /// Mean area under the ROC curve.
    pub fn auc(seen: &Seen) -> f64 {
        let clean = &seen.clean.score;
        let areas = seen.faulty.iter().map(|Judged { score: struck, .. }| {
            let labels: Vec<bool> = (0..clean.len() + struck.len())
                .map(|i| i >= clean.len())
                .collect();
            roc_auc(&labels, &[clean.as_slice(), struck].concat())
        });
        areas.sum::<f64>() / seen.faulty.len().max(1) as f64
    }

    /// The share of injected faults found, of all kinds together and of each.
    pub fn recall(&self, seen: &Seen) -> Vec<(Option<Fault>, f64)> {
        let found = Blocked::new(self, seen, 1).recall(&[1]);
        let kinds = std::iter::once(None).chain(Fault::ALL.map(Some));
        kinds.zip(found).collect()
    }

    /// How many alerts there may be, of `alerts` by window, where a share `p` is expected: `factor` times as many and what chance adds, the
    /// latter by blocks where alerts come in clusters.
    pub fn bound(alerts: &[bool], (p, factor): (f64, f64), clustered: bool) -> f64 {
        let n = alerts.len();
        let expected = p * n as f64 * factor;
        let mut variance = expected;
        if clustered && n > 0 {
            let blocks = n.min(BLOCKS);
            let mut counts = vec![0.0_f64; blocks];
            for (i, _) in alerts.iter().enumerate().filter(|(_, alert)| **alert) {
                counts[block(i, n, blocks)] += 1.0;
            }
            let mean = counts.iter().sum::<f64>() / blocks as f64;
            let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
            variance = variance.max(squares * blocks as f64 / (blocks as f64 - 1.0).max(1.0));
        }
        expected + 3.0 * variance.sqrt()
    }

    /// The share of blocks in which the first of two numbers a window is larger on the whole, less what chance makes of it where both are alike
    /// (a sign test at about [`LEVEL`]): above 0, it is larger.
    pub fn mostly_larger(pairs: &[(f64, f64)]) -> bool {
        let n = pairs.len();
        let blocks = n.min(BLOCKS);
        let mut sums = vec![0.0; blocks];
        for (i, (ours, theirs)) in pairs.iter().enumerate() {
            sums[block(i, n, blocks)] += ours - theirs;
        }
        let larger = sums.iter().filter(|sum| **sum > 0.0).count() as f64;
        // 2.33 standard deviations above one half.
        larger > blocks as f64 / 2.0 + 2.33 * (blocks as f64).sqrt() / 2.0
    }
}

impl Seen {
    /// The same with −ln p in place of the score: what all judges of a model say together.
    pub fn told(&self) -> Self {
        let told = |judged: &Judged| Judged {
            score: judged.p_value.iter().map(|p| -p.ln()).collect(),
            p_value: judged.p_value.clone(),
            surprise: Vec::new(),
        };
        Self {
            clean: told(&self.clean),
            faulty: self.faulty.iter().map(told).collect(),
        }
    }
}

/// Which of `blocks` the i-th of n windows belongs to.
fn block(i: usize, n: usize, blocks: usize) -> usize {
    i * blocks / n
}

/// What a model says, by blocks of time.
struct Blocked {
    /// Clean scores, highest first, and their block.
    clean: Vec<(f64, usize)>,
    /// By kind of fault and block: scores, ascending.
    faulty: Vec<Vec<Vec<f64>>>,
    /// Clean windows of each block.
    sizes: Vec<usize>,
}

impl Blocked {
    fn new(ground: &Ground, seen: &Seen, blocks: usize) -> Self {
        let n = ground.len();
        let scores = seen.clean.score.iter().enumerate();
        let mut clean: Vec<(f64, usize)> = scores
            .map(|(i, &score)| (score, block(i, n, blocks)))
            .collect();
        let mut sizes = vec![0; blocks];
        for &(_, block) in &clean {
            sizes[block] += 1;
        }
        clean.sort_by(|a, b| b.0.total_cmp(&a.0));
        let by_block = |scores: &Vec<f64>| {
            let mut of = vec![Vec::new(); blocks];
            for (&base, &score) in ground.bases.iter().zip(scores) {
                of[block(base, n, blocks)].push(score);
            }
            for scores in &mut of {
                scores.sort_unstable_by(f64::total_cmp);
            }
            of
        };
        Self {
            clean,
            faulty: seen
                .faulty
                .iter()
                .map(|judged| by_block(&judged.score))
                .collect(),
            sizes,
        }
    }

    /// The share of faults above the score that [`RECALL_AT`] of the clean windows exceed, each block taken so many times: the mean over kinds,
    /// and each kind.
    fn recall(&self, times: &[u32]) -> Vec<f64> {
        let weight = |block: usize| f64::from(times[block]);
        let all: f64 = (0..times.len())
            .map(|block| weight(block) * self.sizes[block] as f64)
            .sum();
        let (mut above, mut threshold) = (0.0, f64::NEG_INFINITY);
        for &(score, block) in &self.clean {
            above += weight(block);
            threshold = score;
            if above > RECALL_AT * all {
                break;
            }
        }
        let mut recall = vec![0.0];
        for blocks in &self.faulty {
            let (mut found, mut all) = (0.0, 0.0);
            for (block, scores) in blocks.iter().enumerate() {
                let below = scores.partition_point(|&score| score <= threshold);
                found += weight(block) * (scores.len() - below) as f64;
                all += weight(block) * scores.len() as f64;
            }
            recall.push(if all > 0.0 { found / all } else { 0.0 });
        }
        recall[0] = recall[1..].iter().sum::<f64>() / self.faulty.len().max(1) as f64;
        recall
    }
}
