//! P6, at length: `cargo test --lib proof_gate -- --ignored --nocapture`.

#![expect(clippy::print_stdout, reason = "a proof tells its figures")]

use super::harness::{Outcome, Process, Sabotage, retrained};
use crate::seed::Seed;

/// Kinds and windows that the two hundred candidates are of.
const SETTINGS: [(Process, &str, usize, usize); 5] = [
    (Process::Remembering, "pca", 5, 6000),
    (Process::Remembering, "autoencoder", 5, 6000),
    (Process::Independent, "pca", 1, 6000),
    (Process::Remembering, "auto", 5, 6000),
    (Process::Independent, "gmm", 1, 6000),
];

#[test]
#[ignore = "two hundred trainings"]
fn proof_gate_promotes_no_bad_one_of_200_candidates() {
    let mut outcome = Outcome::default();
    for i in 0..10 {
        for (k, sabotage) in Sabotage::ALL.into_iter().enumerate() {
            // Order in time matters to windows only.
            let setting = match SETTINGS[(i + k) % SETTINGS.len()] {
                (_, _, 1, _) if sabotage == Sabotage::Shuffled => SETTINGS[0],
                setting => setting,
            };
            outcome.add(setting, sabotage, Seed(1000).nth((10 * i + k) as u64));
        }
    }
    for line in &outcome.told {
        println!("{line}");
    }
    println!(
        "{} sabotaged: {} promoted, {} of them bad; {} good: {} rejected",
        outcome.sabotaged,
        outcome.promoted,
        outcome.bad_promoted,
        outcome.good,
        outcome.good_rejected
    );
    assert_eq!(outcome.bad_promoted, 0);
    assert!(outcome.good_rejected <= 5);
}

#[test]
#[ignore = "more than a hundred trainings"]
fn proof_gate_rejects_few_retrains_of_an_unchanged_process() {
    let (mut all, mut rejected) = (0, 0);
    for process in Process::ALL {
        for (kind, window) in [("pca", 1), ("auto", 5), ("gmm", 1), ("autoencoder", 5)] {
            let retrains = 8;
            let seed = Seed(7).child(kind).nth(process as u64);
            let told = retrained((process, kind, window), retrains, seed);
            println!(
                "{process:?} {kind} {window}: {} of {retrains} rejected",
                told.len()
            );
            for line in &told {
                println!("    {line}");
            }
            all += retrains;
            rejected += told.len();
        }
    }
    println!("{rejected} of {all} rejected");
    assert!(rejected * 20 <= all);
}
