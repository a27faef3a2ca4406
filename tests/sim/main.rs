//! The whole loop under faults, without Kafka: real workers with a pretend broker that aborts, loses answers, crashes before and after commits, rebalances
//! between and during steps, lets stale members act, adds partitions, deletes records and lets offsets expire, while models are trained and promoted at
//! random. What was committed must equal a calm pass over the same records, one at a time, with the same models in the same places: promises P1, P2 and P3.
//! Records that were deleted before they were read are left out of it, and must have been counted. Where deleted records made state useless, the
//! comparison ends there; that every record has one outcome is held on.
//!
//! `SIM_SEEDS=20000 cargo test --test sim` runs more seeds; `SIM_SEED=4711` runs one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test: what cannot be is a failure"
)]

mod broker;
mod committed;
mod faults;
mod member;
mod oracle;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::Sabotage;

/// What the seeds went through, added up.
pub type Counts = BTreeMap<&'static str, u64>;

/// One seed: faults, then the comparison. `Err` says what differs.
fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<Counts, String> {
    let world = world::World::new(seed);
    let outcome = faults::run(&world, seed, sabotage)?;
    oracle::compare(&world, &outcome)?;
    let mut counts = outcome.counts;
    oracle::count(&outcome.log, &mut counts);
    Ok(counts)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test takes its settings where it can"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_is_committed_equals_a_calm_run() {
    if let Some(seed) = setting("SIM_SEED") {
        let counts = run(seed, None).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        eprintln!("{counts:#?}");
        return;
    }
    let seeds = setting("SIM_SEEDS").unwrap_or(3000);
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8) as u64;
    let work = |first: u64| {
        let mut sum = Counts::new();
        for seed in (first..seeds).step_by(threads as usize) {
            let counts = catch_unwind(AssertUnwindSafe(|| run(seed, None)))
                .unwrap_or_else(|_| Err("a panic, see above".to_owned()))
                .unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
            for (what, n) in counts {
                *sum.entry(what).or_default() += n;
            }
        }
        sum
    };
    let mut sum = Counts::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || work(first)))
            .collect();
        for one in all {
            for (what, n) in one.join().expect("every seed passes") {
                *sum.entry(what).or_default() += n;
            }
        }
    });
    eprintln!("{seeds} seeds: {sum:#?}");
    // A simulation in which nothing happens proves nothing.
    for what in faults::HAPPENINGS.iter().chain(oracle::MESSAGES) {
        assert!(
            seeds < 200 || sum.get(what).copied().unwrap_or(0) >= seeds / 20,
            "{what} hardly ever happened: {sum:#?}"
        );
    }
}

#[test]
fn every_sabotage_is_noticed() {
    let mut table = Vec::new();
    for sabotage in Sabotage::ALL {
        let noticed = |seed: &u64| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(*seed, Some(*sabotage))));
            !matches!(outcome, Ok(Ok(_)))
        };
        let seeds = 40;
        let found = (0..seeds).filter(noticed).count();
        // What is rare takes more.
        let found =
            found + usize::from(found == 0 && (seeds..10 * seeds).any(|seed| noticed(&seed)));
        table.push(format!("{sabotage:?}: noticed by {found} of {seeds} seeds"));
        assert!(found > 0, "{sabotage:?} goes unnoticed");
    }
    eprintln!("{table:#?}");
}
