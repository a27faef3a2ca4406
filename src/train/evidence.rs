//! What opens an episode, calibrated as what it is: a statistic of a sequence.
//!
//! Held-out windows, in the order of their keys' records, are replayed through the very state machine that judges live. That counts how often
//! normal sequences open an episode at which strength of evidence, however records depend on each other, and how evidence over
//! each time scale is distributed. See [`crate::stats::evidence`] for the law that is learnt.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

use crate::detect::episode::{Change, EpisodeState, Reading, Rule};
use crate::detect::evidence::{Evidence, Place};
use crate::detect::{Budget, Params};
use crate::stats::evidence::{ASSUMED_DEPENDENCE, EvidenceLaw, full, surprise};
use crate::stream::Offset;
use crate::time::Timestamp;

/// Records below which a sequence tells nothing that is not assumed as well.
const RECORDS_MIN: usize = 100;

/// Stretches of a time scale's length that its distribution is learnt from, at least; with fewer, it is predicted from the scale before.
const STRETCHES_MIN: usize = 10;

/// How many independent stretches the prediction from the scale before is worth: a variance over few stretches is an accident, and one that is too
/// small makes every later one look strange.
const STRETCHES_PRIOR: f64 = 5.0;

/// Openings that are counted on, at least; rarer ones follow the tail.
const OPENINGS_MIN: usize = 10;

/// The largest correlation of neighbours that is believed: beyond it nothing would ever be worth two records.
const RHO_MAX: f64 = 0.995;

/// How many openings the assumption is worth that strength is −ln of a probability: a tail of one nat.
const TAIL_PRIOR: f64 = 10.0;

/// Bounds of the tail: thinner and heavier than this is taken for an accident of the sample.
const TAIL_BOUNDS: (f64, f64) = (0.7, 3.0);

/// Strengths that openings are counted at: from one nat on, in steps of half a nat.
const STRENGTH_STEP: f64 = 0.5;
const STRENGTHS: usize = 60;

/// How evidence gathers and episodes close, as configured: part of what a model is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeSettings {
    /// See [`Params::time_scales`].
    pub time_scales: Vec<u32>,
    /// See [`Params::close_evidence`].
    pub close_evidence: f64,
}

impl Default for EpisodeSettings {
    fn default() -> Self {
        Self::of(&Params::default())
    }
}

impl EpisodeSettings {
    /// What `params` say.
    #[must_use]
    pub fn of(params: &Params) -> Self {
        Self {
            time_scales: params.time_scales.clone(),
            close_evidence: params.close_evidence,
        }
    }
}

/// The law of evidence of held-out `sequences`: p-values of records of one key each, in order. `None` where they are too short to tell.
#[must_use]
pub fn law(sequences: &[Vec<f64>], settings: &EpisodeSettings) -> Option<EvidenceLaw> {
    let records: usize = sequences.iter().map(Vec::len).sum();
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    if records < RECORDS_MIN || longest < 2 {
        return None;
    }
    let independent = independent(sequences, &settings.time_scales);
    let dependence = dependence(&settings.time_scales, &independent);
    let mut law = EvidenceLaw {
        independent,
        dependence,
        ..EvidenceLaw::assumed(&settings.time_scales)
    };
    let mut counted: Vec<(f64, f64)> = Vec::new();
    let mut peaks = Vec::new();
    let mut least = STRENGTH_STEP;
    for step in 1..=STRENGTHS {
        let strength = 1.0 + STRENGTH_STEP * (step - 1) as f64;
        let (found, exposed) = replay(sequences, &law, settings, strength);
        let enough = found.len() >= OPENINGS_MIN;
        if enough || peaks.is_empty() {
            // Per record outside of episodes: at a low strength there are few of these, and none opens within another.
            let rate = (found.len() as f64 + 0.5) / exposed.max(1) as f64;
            counted.retain(|(_, before)| *before > rate);
            counted.push((strength, rate.min(1.0)));
            peaks = found;
            least = strength;
        }
        if !enough {
            break;
        }
    }
    law.openings = counted;
    let excess: f64 = peaks.iter().map(|peak| peak - least).sum();
    let tail = (excess + TAIL_PRIOR) / (peaks.len() as f64 + TAIL_PRIOR);
    law.tail = tail.clamp(TAIL_BOUNDS.0, TAIL_BOUNDS.1);
    law.is_sound().then_some(law)
}

/// The largest strength of each episode that opens at `strength`, and the number of records outside of episodes.
fn replay(
    sequences: &[Vec<f64>],
    law: &EvidenceLaw,
    settings: &EpisodeSettings,
    strength: f64,
) -> (Vec<f64>, usize) {
    let params = Params {
        budget: Budget::PerRecord((-strength).exp()),
        close_evidence: settings.close_evidence,
        time_scales: settings.time_scales.clone(),
        cooldown: Duration::ZERO,
        ..Params::default()
    };
    // Under these openings a strength is −ln of the budget.
    let law = EvidenceLaw {
        openings: vec![(0.0, 1.0)],
        tail: 1.0,
        ..law.clone()
    };
    let rule = Rule::new(&params, Arc::new(law), (1.0, 1));
    let (mut peaks, mut exposed) = (Vec::new(), 0);
    for sequence in sequences {
        let mut state = EpisodeState::default();
        for (record, &p) in (0_i64..).zip(sequence) {
            let reading = Reading {
                p: state.evidence.by_key(p),
                by_model: Some(p),
                score: 0.0,
                offset: Offset(record),
                time: Timestamp(record),
            };
            exposed += usize::from(state.open.is_none());
            if let Change::Closed(episode) = state.judge(&rule, reading) {
                peaks.push(episode.peak_strength);
            }
        }
        peaks.extend(state.open.map(|episode| episode.peak_strength));
    }
    (peaks, exposed)
}

/// How many independent records each time scale is worth: the squared mean of its level over the variance, which is the shape of the Gamma
/// distribution with these moments, drawn towards what the scale before predicts. Never fewer than the scale before, never more than if records were
/// independent, and no more than a mean over as many records as were seen in a row: how slowly keys change shows only there.
fn independent(sequences: &[Vec<f64>], scales: &[u32]) -> Vec<f64> {
    let mut worth: Vec<f64> = Vec::with_capacity(scales.len());
    let longest = scale_of(in_a_row(sequences));
    for (number, &scale) in scales.iter().enumerate() {
        let before = worth.last().copied().unwrap_or(1.0);
        let stretches: usize = sequences.iter().map(|s| s.len() / scale as usize).sum();
        let earlier = number.checked_sub(1).map_or(1, |number| scales[number]);
        let predicted = predicted((earlier, before), scale.min(longest).max(earlier));
        if scale == 1 || stretches < STRETCHES_MIN {
            worth.push(predicted.max(before));
            continue;
        }
        let levels = levels(sequences, scales, number);
        let n = levels.len().max(1) as f64;
        let mean = levels.iter().sum::<f64>() / n;
        let variance = levels.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n;
        let found = (mean * mean / variance.max(1e-9)).min(full(scale));
        // Of two stretches that depend on each other the second tells less.
        let dependence = dependence(&scales[..number], &worth);
        let stretches = stretches as f64 / dependence;
        let shrunk = predicted + (found - predicted) * stretches / (stretches + STRETCHES_PRIOR);
        worth.push(shrunk.max(before));
    }
    worth
}

/// How many records were seen in a row: half of all lie in sequences at least as long.
fn in_a_row(sequences: &[Vec<f64>]) -> usize {
    let mut lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
    let all: usize = lengths.iter().sum();
    let mut so_far = 0;
    let half = |&length: &usize| {
        so_far += length;
        2 * so_far >= all
    };
    lengths.into_iter().find(half).unwrap_or(0)
}

/// The time scale whose weighted mean is as sure as the plain one of so many independent records: the inverse of [`full`].
fn scale_of(records: usize) -> u32 {
    u32::try_from(records.div_ceil(2)).unwrap_or(u32::MAX)
}

/// How many independent records a scale is worth, by what a shorter one is worth, if the correlation of records falls exponentially with their distance.
///
/// With α = 1 / n, the weighted mean of a stationary AR(1) sequence with coefficient ρ has the variance α / (2 − α) · (1 + ρ (1 − α)) / (1 − ρ (1 − α)) of a record's
/// (Lucas and Saccucci, Technometrics 32, 1990, for ρ = 0; the general case follows from the sum of the autocovariances).
fn predicted((earlier, worth): (u32, f64), scale: u32) -> f64 {
    let share = |rho: f64| (1.0 - rho) / (1.0 + rho);
    let kept = |scale: u32| 1.0 - 1.0 / f64::from(scale);
    let rho = if earlier > 1 {
        // `share` is its own inverse.
        share((worth / full(earlier)).min(1.0)) / kept(earlier)
    } else {
        share(1.0 / ASSUMED_DEPENDENCE)
    };
    full(scale) * share(rho.min(RHO_MAX) * kept(scale))
}

/// The levels of one scale after each record, but for those at the beginning of a sequence that still tell of what was assumed before it.
fn levels(sequences: &[Vec<f64>], scales: &[u32], number: usize) -> Vec<f64> {
    let law = EvidenceLaw::assumed(scales);
    let mut levels = Vec::new();
    for sequence in sequences {
        let mut evidence = Evidence::default();
        let skipped = (scales[number] as usize).min(sequence.len() / 2);
        for (record, &p) in sequence.iter().enumerate() {
            evidence.gather(&law, p, Place::default());
            if record >= skipped {
                levels.push(evidence.levels[number]);
            }
        }
    }
    levels
}

/// How many records in a row say as much as one, by the shortest scale of more than one record.
fn dependence(scales: &[u32], independent: &[f64]) -> f64 {
    let several = scales
        .iter()
        .zip(independent)
        .find(|(scale, _)| **scale > 1);
    several.map_or(1.0, |(&scale, k)| (full(scale) / k).max(1.0))
}

/// Mean surprise of sequences, about 1 if their p-values are calibrated: for people.
#[must_use]
pub fn mean_surprise(sequences: &[Vec<f64>]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for p in sequences.iter().flatten() {
        sum += surprise(*p);
        count += 1.0;
    }
    sum / f64::max(count, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use rand::Rng;
    use rand_distr::{Distribution, StandardNormal};

    /// p-values of a stationary Gaussian sequence with autocorrelation `rho`, two-sided: exactly uniform, one after another alike.
    fn correlated(rho: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        let mut x: f64 = StandardNormal.sample(&mut rng);
        (0..n)
            .map(|_| {
                let noise: f64 = StandardNormal.sample(&mut rng);
                x = rho * x + (1.0 - rho * rho).sqrt() * noise;
                two_sided(x)
            })
            .collect()
    }

    /// P(|N| > |x|), by Abramowitz and Stegun 7.1.26 with a relative correction far out: good to a few per cent, which is enough here.
    fn two_sided(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let t = 1.0 / (1.0 + 0.5 * z);
        // Press et al., "Numerical Recipes", erfc with a fractional error below 1.2e-7.
        let poly = [
            -1.265_512_23,
            1.000_023_68,
            0.374_091_96,
            0.096_784_18,
            -0.186_288_06,
            0.278_868_07,
            -1.135_203_98,
            1.488_515_87,
            -0.822_152_23,
            0.170_872_77,
        ];
        let sum = poly.iter().rev().fold(0.0, |sum, c| sum * t + c);
        (t * (-z * z + sum).exp()).clamp(1e-300, 1.0)
    }

    /// Openings of fresh normal sequences, as a multiple of the budget.
    fn realised(rho: f64, n: usize, per_record: f64, trainings: u64) -> f64 {
        let settings = EpisodeSettings::default();
        let fresh: Vec<Vec<f64>> = vec![correlated(rho, 150_000, 999)];
        let sum: f64 = (0..trainings)
            .map(|seed| {
                let law = law(&[correlated(rho, n, seed)], &settings).unwrap();
                let strength = law.threshold(per_record);
                replay(&fresh, &law, &settings, strength).0.len() as f64
            })
            .sum();
        sum / trainings as f64 / (150_000.0 * per_record)
    }

    #[test]
    fn independent_records_are_worth_their_number() {
        let mut rng = Seed(5).rng();
        let uniform: Vec<f64> = (0..60_000).map(|_| rng.gen_range(1e-12..1.0)).collect();
        let law = law(&[uniform], &EpisodeSettings::default()).unwrap();
        assert!((law.independent[1] / 9.0 - 1.0).abs() < 0.1, "{law:?}");
        assert!((law.independent[2] / 59.0 - 1.0).abs() < 0.2, "{law:?}");
        assert!(law.dependence < 1.1);
    }

    #[test]
    fn normal_sequences_open_as_often_as_the_budget_allows() {
        let mut found = Vec::new();
        for (rho, per_record) in [(0.0, 1e-3), (0.9, 1e-3)] {
            let ratio = realised(rho, 6_000, per_record, 6);
            found.push(format!("{rho} {per_record}: {ratio:.2}"));
            assert!((0.3..1.3).contains(&ratio), "{found:?}");
        }
    }

    #[test]
    fn what_longer_scales_are_worth_is_predicted_from_shorter_ones() {
        // ρ = 0.9: 9 · (1 − 0.72) / (1 + 0.72) of a scale of 5, 59 · (1 − 0.87) / (1 + 0.87) of one of 30.
        let short = 9.0 * 0.28 / 1.72;
        assert!((predicted((5, short), 30) - 59.0 * 0.13 / 1.87).abs() < 1e-9);
        // Independent records stay independent.
        assert!((predicted((5, 9.0), 300) - 599.0).abs() < 1e-9);
    }

    /// The surprise of a key that is as the model knows it at first, and from then on wanders between calmer and stranger over some hundred records: p-values.
    fn wandering(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).child("slow").rng();
        let (mut slow, rho) = (0.0, 1.0 - 1.0 / 400.0_f64);
        let wander = |p: f64| {
            let noise: f64 = StandardNormal.sample(&mut rng);
            slow = rho * slow + 0.5 * (1.0 - rho * rho).sqrt() * noise;
            p.powf(f64::exp(slow)).max(1e-300)
        };
        correlated(0.8, n, seed).into_iter().map(wander).collect()
    }

    /// The share of the records of keys that change slowly that lie in episodes by this law, at one a week and 144 records a day.
    fn share_in_episodes(law: &EvidenceLaw) -> f64 {
        let strength = law.threshold(1.0 / 1008.0);
        let fresh: Vec<Vec<f64>> = (0..20).map(|key| wandering(2_000, 100 + key)).collect();
        let (_, outside) = replay(&fresh, law, &EpisodeSettings::default(), strength);
        1.0 - outside as f64 / 40_000.0
    }

    #[test]
    fn keys_that_change_slower_than_was_seen_are_seldom_in_an_episode() {
        let held_out: Vec<Vec<f64>> = (0..20).map(|key| wandering(120, key)).collect();
        let law = law(&held_out, &EpisodeSettings::default()).unwrap();
        let believed = EvidenceLaw {
            independent: {
                let predicted = predicted((30, law.independent[2]), 300);
                [&law.independent[..3], &[predicted]].concat()
            },
            ..law.clone()
        };
        let (share, before) = (share_in_episodes(&law), share_in_episodes(&believed));
        assert!(
            share < 0.15 && share < 0.6 * before,
            "{share:.3}, {before:.3} if the longest scale is believed as predicted"
        );
    }

    #[test]
    fn records_in_a_row_are_those_that_half_of_all_lie_in() {
        let of = |lengths: &[usize]| {
            let sequences: Vec<Vec<f64>> = lengths.iter().map(|&n| vec![0.5; n]).collect();
            in_a_row(&sequences)
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[100]), 100);
        assert_eq!(of(&[1, 40, 2, 50, 3]), 50);
        assert_eq!(of(&[10, 10, 10, 25]), 10);
        // 59 records are as sure as a scale of 30.
        assert_eq!((scale_of(59), scale_of(0)), (30, 0));
    }

    #[test]
    fn few_records_give_an_assumed_law() {
        assert_eq!(law(&[vec![0.5; 20]], &EpisodeSettings::default()), None);
        assert_eq!(
            law(&vec![vec![0.5]; 5000], &EpisodeSettings::default()),
            None
        );
    }

    /// By hand, with figures: `cargo test --lib proof_openings -- --ignored --nocapture`.
    #[test]
    #[ignore = "a proof with figures, minutes long: `make proofs`"]
    #[expect(clippy::print_stdout, reason = "a proof shows its figures")]
    fn proof_openings_realise_the_budget() {
        for rho in [0.0, 0.5, 0.9, 0.98] {
            for n in [400, 1_500, 6_000] {
                for per_record in [1.0 / 1_440.0, 1.0 / 10_080.0] {
                    let ratio = realised(rho, n, per_record, 12);
                    println!(
                        "autocorrelation {rho}, {n} held out, budget {per_record:.1e}: realised {ratio:.2} of it"
                    );
                }
            }
        }
    }
}
