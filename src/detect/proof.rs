//! Proof that p-values of a single feature are what they say: how often they fall below a level, as a multiple of it.

#![expect(clippy::print_stdout, reason = "a proof shows its figures")]

use rand_distr::{Distribution, StandardNormal, StudentT};
use std::f64::consts::TAU;

use super::seasonal::Season;
use crate::seed::Seed;
use crate::time::Timestamp;

/// Levels, and between what multiples of them the realised rate must lie.
const LEVELS: [(f64, f64, f64); 3] = [(1e-2, 0.85, 1.15), (1e-3, 0.7, 1.3), (1e-4, 0.5, 2.0)];
/// A record every five minutes.
const STEP: i64 = 300_000;
const DAY: i64 = 288;

/// A stream of normal records.
struct Stream {
    name: &'static str,
    /// Height of the day's and the week's wave.
    wave: f64,
    /// Of the noise: how much of it stays to the next record.
    stays: f64,
    /// Whether it is Student's t with 3 degrees of freedom.
    heavy: bool,
}

const STREAMS: [Stream; 6] = [
    Stream {
        name: "wave, normal noise",
        wave: 10.0,
        stays: 0.0,
        heavy: false,
    },
    Stream {
        name: "wave, AR(1) 0.8",
        wave: 10.0,
        stays: 0.8,
        heavy: false,
    },
    Stream {
        name: "wave, t(3) noise",
        wave: 10.0,
        stays: 0.0,
        heavy: true,
    },
    Stream {
        name: "no wave, normal noise",
        wave: 0.0,
        stays: 0.0,
        heavy: false,
    },
    Stream {
        name: "no wave, AR(1) 0.8",
        wave: 0.0,
        stays: 0.8,
        heavy: false,
    },
    Stream {
        name: "no wave, AR(1) 0.5 of t(3)",
        wave: 0.0,
        stays: 0.5,
        heavy: true,
    },
];

/// Counts of p-values at each level of `days` days after the first `learnt` ones. Episodes open where p is at most `open_at`, and are not learnt
/// until five records in a row are calm.
fn counts(
    stream: &Stream,
    seed: Seed,
    (learnt, days): (i64, i64),
    open_at: f64,
) -> [u64; LEVELS.len()] {
    let (mut rng, law) = (seed.rng(), StudentT::new(3.0).unwrap());
    let (mut season, mut noise) = (Season::default(), 0.0);
    let mut counts = [0; LEVELS.len()];
    let mut calm = 5;
    for i in 0..(learnt + days) * DAY {
        let turn = TAU * i as f64 / DAY as f64;
        let wave = turn.sin() + 0.5 * (2.0 * turn).cos() + 0.5 * (turn / 7.0).sin();
        let shock: f64 = if stream.heavy {
            law.sample(&mut rng)
        } else {
            StandardNormal.sample(&mut rng)
        };
        noise = stream.stays * noise + shock;
        let found = season.take(stream.wave * wave + noise, Timestamp(i * STEP), calm >= 5);
        calm = if found.p <= open_at { 0 } else { calm + 1 };
        if i >= learnt * DAY {
            for (count, (level, ..)) in counts.iter_mut().zip(LEVELS) {
                *count += u64::from(found.p <= level);
            }
        }
    }
    counts
}

/// Prints a table, and says what lies outside the bands.
fn outside(seeds: u64, (learnt, days): (i64, i64), open_at: f64) -> Vec<String> {
    let mut outside = Vec::new();
    for stream in &STREAMS {
        let mut sums = [0; LEVELS.len()];
        for seed in 0..seeds {
            let counts = counts(stream, Seed(3).nth(seed), (learnt, days), open_at);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let records = (seeds as i64 * days * DAY) as f64;
        let mut line = vec![format!(
            "{learnt:>3} days, then {days:>3}, {:<27}",
            stream.name
        )];
        for (sum, (level, low, high)) in sums.into_iter().zip(LEVELS) {
            let ratio = sum as f64 / records / level;
            line.push(format!("{level:.0e}: {ratio:.2}"));
            if !(low..=high).contains(&ratio) {
                outside.push(format!("{} {level:.0e}: {ratio:.2}", stream.name));
            }
        }
        println!("{}", line.join(" "));
    }
    outside
}

#[test]
fn proof_p_values_of_a_single_feature_are_what_they_say() {
    let outside = outside(12, (14, 60), 0.0);
    assert!(outside.is_empty(), "{outside:#?}");
}

#[test]
fn proof_flagging_does_not_feed_on_itself_on_a_single_feature() {
    let outside = outside(12, (60, 60), 1e-3);
    assert!(outside.is_empty(), "{outside:#?}");
}

#[test]
#[ignore = "a minute: make proofs"]
fn proof_p_values_of_a_single_feature_are_what_they_say_young_and_old() {
    let young = outside(100, (7, 14), 0.0);
    let old = outside(10, (60, 180), 0.0);
    assert!(young.is_empty() && old.is_empty(), "{young:#?} {old:#?}");
}
