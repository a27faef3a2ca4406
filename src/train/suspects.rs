//! Faults in a history that nobody has judged yet: windows that stand out against what the rest of the history looks like.
//!
//! Windows of ten are looked at where fewer records are scored together. Every key's values are first counted from its own centre in its own spreads, as the median of eight blocks of time has them: a fault in
//! three of the eight moves neither. Then the history is cut into eight blocks, and a cheap model is fitted on each half of it: four
//! neighbouring blocks, the last adjoining the first. Each window is scored by the four models that have not seen its block, each by its principal
//! components, by the largest residual of a column's mean given the others', and by how long a column stands still; the largest answer counts. A fault
//! that lies in a third of the history is unknown to one of them at least; what recurs in every half, a season or a mode that comes back,
//! is known to all. The score's logarithm is held against those of the same key, so that a restless key of a fleet does not stand out, and
//! averaged over neighbours at two scales, so that single wild records, which a fit that is trimmed
//! does not mind and a calibration must know, do not either. How far averages lie apart in this history is measured on them, by the upper half
//! of their spread: where records resemble their neighbours for long, more is asked.
//!
//! A fault that is no larger than a drift over the same history is not found. Where more than a quarter of the windows stand out it is not a fault but how things are, and nothing is set aside.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, ArrayView2, Axis};

use super::card;
use super::fit;
use super::job::{TrainError, TrainJob};
use super::key_scales::{BLOCKS, KEY_MIN, KeyScales};
use super::scaled::scaler_of;
use super::split::Window;
use super::window::Windows;
use crate::model::card::{Card, Exclusion, Suspect};
use crate::model::held::Held;
use crate::model::judges::Judges;
use crate::model::sensors::{self, Sensors};
use crate::model::spec::{ModelSpec, PcaSpec, Statistic};
use crate::model::trained::TrainedModel;
use crate::model::{FitData, KINDS, Unwatched};
use crate::seed::Seed;
use crate::stats::order::{median, quantile_sorted};
use crate::stream::EpisodeId;

/// Windows below which blocks say nothing.
const WINDOWS_MIN: usize = 25 * BLOCKS;

/// Windows that one model is fitted on, at most.
const FITTED_MAX: usize = 2000;

/// Inputs of the windows that are judged, at most, if more than one record must be.
const WIDTH_MAX: usize = 200;

/// Neighbours that are averaged, at least; and at the larger scale.
const NEIGHBOURS_MIN: usize = 10;
const SCALES: [usize; 2] = [1, 8];

/// What an average must exceed: spreads of all averages of its scale, and of single windows.
const SPREADS: f64 = 5.0;
const EXCESS_MIN: f64 = 1.2;

/// Nats of improbability of a column that stands still that count as a spread.
const STILL: f64 = 3.0;

/// One window does not weigh more than so many spreads.
const BOUND: f64 = 6.0;

/// Share of the windows that may be suspects.
pub(super) const SHARE_MAX: f64 = 0.25;

/// Windows that say which features stand out, at most.
const EXPLAINED_MAX: usize = 200;

/// Features that are named.
const NAMED: usize = 3;

/// 84 %: a spread above the median, of a normal sample.
const UPPER: f64 = 0.841_344_746;

/// The suspects among the windows that were never judged, by partition, key and offset.
pub(super) fn find(job: &TrainJob, windows: &Windows<'_>) -> Result<Vec<Suspect>, TrainError> {
    let all = windows.all();
    if all.len() < WINDOWS_MIN || !all.iter().any(|w| unjudged(job, windows, w)) {
        return Ok(Vec::new());
    }
    let looked_at = (
        width(job, windows),
        &KeyScales::of(windows, &job.context_columns()),
    );
    let excess = excess(job, windows, looked_at)?;
    let excess = against_own_key(all, excess);
    let mut stretches = Vec::new();
    for scale in SCALES {
        let neighbours = scale * NEIGHBOURS_MIN.max(2 * windows.length());
        stretches.extend(standing_out(all, &excess, neighbours));
    }
    let mut stretches = merged(stretches);
    // One record is in as many windows as each has records.
    stretches.retain(|stretch| stretch.len() > looked_at.0);
    let count: usize = stretches.iter().map(Vec::len).sum();
    if count == 0 || count as f64 > SHARE_MAX * all.len() as f64 {
        return Ok(Vec::new());
    }
    let mut stands_out = vec![false; all.len()];
    for &i in stretches.iter().flatten() {
        stands_out[i] = true;
    }
    let calm: Vec<Window> = (0..all.len())
        .filter(|&i| !stands_out[i])
        .map(|i| all[i])
        .collect();
    let judge = Judge::fit(job, windows, &thinned(&calm, FITTED_MAX), looked_at)?;
    let new = |stretch: &&Vec<usize>| stretch.iter().any(|&i| unjudged(job, windows, &all[i]));
    let mut found: Vec<Suspect> = stretches
        .iter()
        .filter(new)
        .map(|stretch| {
            let windows_of: Vec<Window> = stretch.iter().map(|&i| all[i]).collect();
            let mean = stretch.iter().map(|&i| excess[i]).sum::<f64>() / stretch.len() as f64;
            judge.suspect(windows, &windows_of, mean)
        })
        .collect();
    found.sort_by(|a, b| a.exclusion.cmp(&b.exclusion));
    Ok(found)
}

/// Whether no model judged the window's newest record when it came: it is older than the first model.
fn unjudged(job: &TrainJob, windows: &Windows<'_>, window: &Window) -> bool {
    let (at, _, newest) = windows.place(window);
    let since = |card: &Card| {
        card.judged_from
            .iter()
            .find(|(known, _)| known == at)
            .cloned()
    };
    job.champion
        .as_ref()
        .and_then(|model| since(&model.card))
        .is_none_or(|(_, from)| newest < from)
        || job.champion.is_none()
}

/// Records of the windows that are judged, unless they would be too wide.
fn width(job: &TrainJob, windows: &Windows<'_>) -> usize {
    let most = (WIDTH_MAX / job.columns.len().max(1)).max(1);
    windows.length().min(most)
}

/// How far each window's score lies above the middle, in spreads, by models that have not seen its block: the largest of their answers.
fn excess(
    job: &TrainJob,
    windows: &Windows<'_>,
    looked_at: (usize, &KeyScales),
) -> Result<Vec<f64>, TrainError> {
    let all = windows.all();
    let block = |i: usize| i * BLOCKS / all.len();
    let mut answers: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for first in 0..BLOCKS {
        let seen = |i: usize| (block(i) + BLOCKS - first) % BLOCKS < BLOCKS / 2;
        let fitted: Vec<Window> = (0..all.len())
            .filter(|&i| seen(i))
            .map(|i| all[i])
            .collect();
        let judge = Judge::fit(job, windows, &thinned(&fitted, FITTED_MAX), looked_at)?;
        let places: Vec<usize> = (0..all.len()).filter(|&i| !seen(i)).collect();
        let others: Vec<Window> = places.iter().map(|&i| all[i]).collect();
        for strangeness in judge.strangeness(windows, &others) {
            for (&i, excess) in places.iter().zip(strangeness) {
                answers[i].push(excess);
            }
        }
    }
    Ok(answers
        .into_iter()
        .map(|answers| answers.into_iter().fold(-BOUND, f64::max))
        .collect())
}

/// Less what is usual for the key, where that is more than for the others.
fn against_own_key(all: &[Window], excess: Vec<f64>) -> Vec<f64> {
    let mut of_key: BTreeMap<(usize, u32), Vec<f64>> = BTreeMap::new();
    for (window, excess) in all.iter().zip(&excess) {
        of_key.entry(window.key()).or_default().push(*excess);
    }
    let usual: BTreeMap<(usize, u32), f64> = of_key
        .into_iter()
        .map(|(key, mut values)| {
            let enough = values.len() >= KEY_MIN;
            (
                key,
                if enough {
                    median(&mut values).max(0.0)
                } else {
                    0.0
                },
            )
        })
        .collect();
    let less = |(window, excess): (&Window, f64)| excess - usual[&window.key()];
    all.iter().zip(excess).map(less).collect()
}

/// Stretches of neighbours, as places in `all`, whose average stands out among all averages over so many neighbours.
fn standing_out(all: &[Window], excess: &[f64], neighbours: usize) -> Vec<Vec<usize>> {
    let mut runs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, window) in all.iter().enumerate() {
        runs.entry(window.run()).or_default().push(i);
    }
    let averages: Vec<(Vec<usize>, Vec<f64>)> = runs
        .into_values()
        .filter(|run| 2 * run.len() >= neighbours)
        .map(|mut run| {
            run.sort_by_key(|&i| all[i].first());
            let values: Vec<f64> = run.iter().map(|&i| excess[i]).collect();
            let averages = averaged(&values, neighbours);
            (run, averages)
        })
        .collect();
    let mut sorted: Vec<f64> = averages
        .iter()
        .flat_map(|(_, a)| a.iter().copied())
        .collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = quantile_sorted(&sorted, 0.5);
    let spread = quantile_sorted(&sorted, UPPER) - middle;
    let bound = (middle + SPREADS * spread).max(EXCESS_MIN);
    let mut found = Vec::new();
    for (run, averages) in averages {
        let mut at = 0;
        while at < run.len() {
            let Some(seed) = (at..run.len()).find(|&i| averages[i] >= bound) else {
                break;
            };
            let low = (at..seed)
                .rev()
                .take_while(|&i| averages[i] >= bound / 2.0)
                .count();
            let high = (seed..run.len())
                .take_while(|&i| averages[i] >= bound / 2.0)
                .count();
            let (mut from, mut to) = (seed - low, seed + high);
            at = to;
            // An average sees a fault before it begins and after it ends.
            while from < to && excess[run[from]] < EXCESS_MIN {
                from += 1;
            }
            while from < to && excess[run[to - 1]] < EXCESS_MIN {
                to -= 1;
            }
            if from < to {
                found.push(run[from..to].to_vec());
            }
        }
    }
    found
}

/// The mean of each value and its neighbours: `n` in all, fewer at the ends.
fn averaged(values: &[f64], n: usize) -> Vec<f64> {
    let mut sums = vec![0.0];
    for value in values {
        sums.push(sums[sums.len() - 1] + value);
    }
    (0..values.len())
        .map(|i| {
            let (from, to) = (i.saturating_sub(n / 2), (i + n - n / 2).min(values.len()));
            (sums[to] - sums[from]) / (to - from) as f64
        })
        .collect()
}

/// Stretches that share a window become one.
fn merged(stretches: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut merged: Vec<BTreeSet<usize>> = Vec::new();
    for stretch in stretches {
        let mut joined: BTreeSet<usize> = stretch.into_iter().collect();
        merged.retain(|known| {
            let apart = known.is_disjoint(&joined);
            if !apart {
                joined.extend(known);
            }
            apart
        });
        merged.push(joined);
    }
    merged
        .into_iter()
        .map(|set| set.into_iter().collect())
        .collect()
}

/// At most `most` windows, evenly.
fn thinned(windows: &[Window], most: usize) -> Vec<Window> {
    let step = windows.len().div_ceil(most).max(1);
    windows.iter().step_by(step).copied().collect()
}

/// How far the logarithms of sizes lie above their middle, in spreads of their upper half.
fn in_spreads(sizes: Vec<f64>) -> Vec<f64> {
    let log = |size: f64| {
        if size > 0.0 {
            size.ln().max(-50.0)
        } else {
            -50.0
        }
    };
    let logs: Vec<f64> = sizes.into_iter().map(log).collect();
    let mut sorted = logs.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = quantile_sorted(&sorted, 0.5);
    let spread = (quantile_sorted(&sorted, UPPER) - middle).max(1e-9);
    let excess = logs.into_iter().map(|log| (log - middle) / spread);
    excess.map(|excess| excess.clamp(-BOUND, BOUND)).collect()
}

/// Principal components of some windows, with the judges of means and of what stands still beside them.
#[derive(Debug)]
struct Judge<'a> {
    model: TrainedModel,
    levels: &'a KeyScales,
    seed: Seed,
}

impl<'a> Judge<'a> {
    fn fit(
        job: &TrainJob,
        windows: &Windows<'_>,
        fitted: &[Window],
        (length, levels): (usize, &'a KeyScales),
    ) -> Result<Self, TrainError> {
        let spec = ModelSpec {
            kind: "pca".to_owned(),
            window: length,
            // Of single records the residual may have a dimension or two, which most features hardly reach.
            pca: PcaSpec {
                statistic: if length == 1 {
                    Statistic::Both
                } else {
                    job.spec.pca.statistic
                },
                ..job.spec.pca
            },
            ..job.spec.clone()
        };
        let raw = levels.apply(fitted, windows.recent(fitted, length));
        let scaler = scaler_of(job, windows, (fitted, raw.view()))?;
        let (scaled, measured) = (scaler.transform(raw.view()), scaler.measured().len());
        let judge_of = |records: ArrayView2<'_, f32>| {
            let unseen = Array2::zeros((0, measured));
            (measured <= sensors::COLUMNS_MAX)
                .then(|| Sensors::fit(records, unseen.view(), (spec.trim, spec.clip)))
        };
        // They say which feature it is.
        let sensors = judge_of(sensors::newest(scaled.view(), measured));
        let means = match length {
            1 => None,
            _ => judge_of(sensors::means(scaled.view(), measured).view()),
        };
        let held = Held::fit(scaled.view(), measured);
        let data = FitData {
            train: fit::inputs(scaled, &scaler, sensors.as_ref()),
            validation: Array2::zeros((0, length * measured)),
        };
        let seed = job.seed.child("suspects");
        let model = KINDS.fit(&spec, &data, seed, &mut Unwatched)?;
        let card = Card {
            spec,
            ..card::begun(job, windows)
        };
        let mut model = TrainedModel {
            judges: Judges {
                sensors,
                means,
                held,
                rest: None,
                // Blocks that were judged by others may lie beyond them, as weeks lie beyond weekends.
                edges: None,
            },
            ..TrainedModel::uncalibrated(card, scaler, model)
        };
        model.normal_contribution = fit::normal_contribution(&model, raw.view());
        Ok(Self {
            model,
            levels,
            seed,
        })
    }

    /// How far the windows' scores, the largest residual of a column's mean, and how long a column stands still lie above the middle, in spreads: one
    /// after another.
    fn strangeness(&self, windows: &Windows<'_>, of: &[Window]) -> Vec<Vec<f64>> {
        let length = self.model.card.spec.window;
        let (mut scores, mut residuals, mut still) = (Vec::new(), Vec::new(), Vec::new());
        for part in of.chunks(FITTED_MAX) {
            let rows = self.levels.apply(part, windows.recent(part, length));
            let seeds = fit::seeds(rows.nrows(), self.seed);
            scores.extend(self.model.raw_scores(rows.view(), &seeds).0);
            let [_, sizes] = self.model.sizes(rows.view());
            residuals.extend(sizes.rows().into_iter().map(sensors::peak));
            let found = self.model.single_columns(rows.view()).into_iter();
            still.extend(found.map(|still| (-still.p.ln() / STILL).min(BOUND)));
        }
        let counted = [scores, residuals].into_iter().map(in_spreads);
        counted.chain([still]).collect()
    }

    /// What stands out about neighbouring windows.
    fn suspect(&self, windows: &Windows<'_>, stretch: &[Window], excess: f64) -> Suspect {
        let length = self.model.card.spec.window;
        let columns = &self.model.card.columns;
        let some = thinned(stretch, EXPLAINED_MAX);
        let rows = self.levels.apply(&some, windows.recent(&some, length));
        let mut shares = vec![0.0; columns.len()];
        for row in rows.axis_chunks_iter(Axis(0), 1) {
            for (sum, share) in shares.iter_mut().zip(self.model.explain(row, 0).shares) {
                *sum += share / rows.nrows() as f64;
            }
        }
        let mut features: Vec<(String, f64)> = columns.iter().cloned().zip(shares).collect();
        features.sort_by(|a, b| b.1.total_cmp(&a.1));
        features.truncate(NAMED);
        let places = stretch.iter().map(|window| windows.place(window));
        let (first, last) = (places.clone().min(), places.max());
        let (Some((at, key, from)), Some((_, _, to))) = (first, last) else {
            unreachable!("a stretch has windows");
        };
        let times = stretch.iter().map(Window::newest);
        let name = &self.model.card.detector;
        Suspect {
            exclusion: Exclusion {
                at: at.clone(),
                key: key.0.as_ref().to_owned(),
                from,
                to: Some(to.next()),
                because: EpisodeId::new(name, at, from),
                feedback: None,
            },
            from_time: times.clone().min().unwrap_or_default(),
            to_time: times.max().unwrap_or_default(),
            excess,
            features,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Key;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;
    use crate::train::rows::PartitionRows;
    use rand::Rng;
    use rand_distr::{Distribution, StandardNormal, StudentT};

    /// Four unlike keys of `n` records each, with four features that share what drives them.
    fn fleet(
        kind: &str,
        n: usize,
        seed: u64,
        fault: &dyn Fn(usize, usize, &mut [f64; 4]),
    ) -> PartitionRows {
        let mut rng = Seed(seed).rng();
        let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 4);
        let mut driver = [0.0_f64; 4];
        let heavy = StudentT::new(3.0).unwrap();
        for i in 0..n {
            for key in 0..4 {
                let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
                let (fresh, noise) = (normal(), [normal(), normal(), normal(), normal()]);
                driver[key] = match kind {
                    "slow" => 0.95 * driver[key] + 0.3 * fresh,
                    "modes" => [-4.0, 0.0, 4.0][(i / 60 * 7 + i / 60 / 3) % 3] + 0.3 * fresh,
                    "daily" => 3.0 * (i as f64 / 48.0 * std::f64::consts::TAU).sin() + 0.3 * fresh,
                    "drift" => 3.0 * i as f64 / n as f64 + fresh,
                    _ => fresh,
                };
                let level = [0.0, 5.0, -3.0, 1.0][key];
                let spread = [1.0, 0.5, 2.0, 1.0][key];
                let mut row = [0.0; 4];
                for (j, value) in row.iter_mut().enumerate() {
                    let weight = [1.0, -1.0, 0.5, 0.0][j];
                    let own = if kind == "heavy" {
                        heavy.sample(&mut rng)
                    } else {
                        noise[j]
                    };
                    *value = level + spread * (weight * driver[key] + 0.3 * own);
                }
                fault(key, i, &mut row);
                let place = (4 * i + key) as i64;
                let name = Key(format!("pump-{key}").into());
                rows.push(&name, Timestamp(1000 * place), Offset(place), &row);
                let _: u8 = rng.r#gen();
            }
        }
        rows
    }

    fn job(rows: PartitionRows, window: usize) -> TrainJob {
        TrainJob {
            columns: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            rows: vec![rows],
            ..crate::train::tests::job(10, "pca", window)
        }
    }

    const KINDS: [&str; 6] = ["independent", "slow", "modes", "daily", "drift", "heavy"];

    #[test]
    fn a_history_without_faults_has_hardly_any_suspects() {
        for kind in KINDS {
            for window in [1, 10] {
                let job = job(fleet(kind, 1200, 5, &|_, _, _| {}), window);
                let windows = Windows::build(&job, &[], &[]);
                let found = find(&job, &windows).unwrap();
                let records: i64 = found
                    .iter()
                    .map(|s| (s.exclusion.to.unwrap().0 - s.exclusion.from.0) / 4)
                    .sum();
                assert!(
                    records < 50,
                    "{kind}, window {window}: {records} of 4800: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_single_wild_record_is_no_suspect_though_ten_windows_have_it() {
        for wild in [1, 2] {
            let fault = |key: usize, i: usize, row: &mut [f64; 4]| {
                if key == 2 && (0..wild).any(|more| i == 700 + more) {
                    row[3] += 100.0;
                }
            };
            let job = job(fleet("independent", 1200, 6, &fault), 10);
            let found = find(&job, &Windows::build(&job, &[], &[])).unwrap();
            let there = |s: &&Suspect| s.exclusion.key == "pump-2" && s.exclusion.from.0 / 4 <= 700;
            let there = found.iter().filter(there).count();
            assert_eq!(there, wild - 1, "{found:?}");
        }
    }

    #[test]
    fn a_fault_that_was_always_there_is_found_with_its_feature() {
        // A third of a key's records, and a fault that began with the last 3 % of all records: the key's last tenth.
        let (mut missed, mut misnamed) = (Vec::new(), Vec::new());
        for (from, to) in [(0.3, 0.63), (0.0, 0.33), (0.88, 1.0)] {
            for (kind, window) in KINDS.iter().flat_map(|kind| [(*kind, 1), (*kind, 10)]) {
                let n = 1200;
                let range = (from * n as f64) as usize..(to * n as f64) as usize;
                let fault = |key: usize, i: usize, row: &mut [f64; 4]| {
                    if key == 1 && range.contains(&i) {
                        row[1] += 2.5;
                    }
                };
                let job = job(fleet(kind, n, 8, &fault), window);
                let found = find(&job, &Windows::build(&job, &[], &[])).unwrap();
                let told = format!("{kind}, window {window}, from {from}: {found:?}");
                let of_key: Vec<_> = found
                    .iter()
                    .filter(|s| s.exclusion.key == "pump-1")
                    .collect();
                let covered: i64 = of_key
                    .iter()
                    .map(|s| (s.exclusion.to.unwrap().0 - s.exclusion.from.0) / 4)
                    .sum();
                assert!(
                    (covered as usize) < range.len() * 3 / 2,
                    "{covered}: {told}"
                );
                if (covered as usize) < range.len() * 3 / 4 {
                    missed.push(format!(
                        "{kind}, window {window}, from {from}: {covered} records"
                    ));
                } else if of_key[0].features[0].0 != "b" {
                    misnamed.push(told);
                }
            }
        }
        // Of single records there may be a single residual, which is all features' alike.
        let single = misnamed.iter().all(|told| told.contains("window 1,"));
        assert!(single && misnamed.len() <= 6, "{misnamed:#?}");
        // Histories that move by more than the fault does hide it in their middle; what begins at the end is always found.
        let told = |case: &String| {
            !case.contains("from 0.88")
                && (case.starts_with("drift") || case.starts_with("modes, window 10"))
        };
        assert!(missed.len() <= 4 && missed.iter().all(told), "{missed:#?}");
    }

    #[test]
    fn suspects_are_kept_out_and_listed_until_somebody_dismisses_them() {
        let fault = |key: usize, i: usize, row: &mut [f64; 4]| {
            if key == 2 && (300..500).contains(&i) {
                row[0] += 8.0;
            }
        };
        let mut job = job(fleet("independent", 1000, 3, &fault), 1);
        let stop = || false;
        let first = crate::train::run(&job, &stop).unwrap().model;
        assert_eq!(first.card.suspects.len(), 1);
        let suspect = &first.card.suspects[0];
        assert!(suspect.exclusion.because.as_str().starts_with("d/t/0/"));
        assert_eq!(suspect.features[0].0, "a");
        assert!(first.card.rows["excluded"] >= 200);
        // Made again from its card, and kept out of the next model, too.
        let mut again = job.clone();
        again.remake = Some(first.card.clone());
        let again = crate::train::run(&again, &stop).unwrap().model;
        assert_eq!(again.to_bytes().unwrap(), first.to_bytes().unwrap());
        let id = suspect.exclusion.because.clone();
        job.champion = Some(std::sync::Arc::new(first));
        let second = crate::train::run(&job, &stop).unwrap().model;
        assert_eq!(
            second.card.suspects,
            job.champion.as_ref().unwrap().card.suspects
        );
        assert!(second.card.rows["excluded"] >= 200);
        // What a model judged when it came is the quarantine's business, not ours.
        let mut later = job.clone();
        let mut card = second.card.clone();
        card.suspects.clear();
        card.judged_from = vec![(TopicPartition::new("t", 0), Offset(0))];
        later.champion = Some(std::sync::Arc::new(TrainedModel { card, ..second }));
        assert!(
            crate::train::run(&later, &stop)
                .unwrap()
                .model
                .card
                .suspects
                .is_empty()
        );
        job.feedback
            .insert(id, crate::model::card::Feedback::FalsePositive);
        let third = crate::train::run(&job, &stop).unwrap().model;
        assert_eq!(third.card.rows["excluded"], 0);
        assert!(third.card.suspects[0].exclusion.feedback.is_some());
    }
}
