use std::ops::ControlFlow;

use super::judge::{Outcome, Watch, backtest, score};
use super::table::{Roles, Table};
use super::{OfflineError, learn};
use crate::config::{Config, Sources};
use crate::model::Monitor;
use crate::time::Timestamp;

struct Quiet;

impl Monitor for Quiet {
    fn epoch(&mut self, _: usize, _: f64, _: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn config(set: &[&str]) -> Config {
    let mut all = vec![
        "model.kind=pca".to_owned(),
        "model.window=3".to_owned(),
        "training.rows_min=100".to_owned(),
        "alerts.false_alarm_rate=0.001".to_owned(),
    ];
    all.extend(set.iter().map(|&pair| pair.to_owned()));
    let sources = Sources {
        files: Vec::new(),
        environment: Vec::new(),
        set: all,
    };
    Config::load(&sources).unwrap()
}

/// Two features that move together, with noise; from row `fault` on for 30 rows they do not.
fn rows(n: usize, fault: usize) -> Vec<[f64; 2]> {
    let mut state = 17_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    (0..n)
        .map(|i| {
            let wave = (i as f64 / 10.0).sin() + noise();
            let other = if (fault..fault + 30).contains(&i) {
                -9.0
            } else {
                wave
            };
            [wave, other + 0.2 * noise()]
        })
        .collect()
}

fn csv(rows: &[[f64; 2]]) -> String {
    let lines: Vec<String> = rows.iter().map(|[a, b]| format!("{a},{b}\n")).collect();
    format!("a,b\n{}", lines.concat())
}

fn table(text: &str, roles: &Roles) -> Table {
    let sha256 = super::table::hex_sha256(text.as_bytes());
    Table::parse("rows.csv", sha256, text.as_bytes(), roles).unwrap()
}

fn tested(set: &[&str], table: &Table, warmup: usize) -> Outcome {
    let mut watch = Watch {
        rows: &|_| {},
        monitor: &mut Quiet,
    };
    backtest(&config(set), table, warmup, &mut watch).unwrap()
}

#[test]
fn a_backtest_scores_first_learns_after_and_finds_the_fault() {
    let table = table(&csv(&rows(900, 700)), &Roles::default());
    let set = ["training.every_records=200"];
    let found = tested(&set, &table, 300);
    assert_eq!(found.lines.len(), 900);
    let at: Vec<usize> = found.models.iter().map(|trained| trained.row).collect();
    assert_eq!(at, [300, 500, 700]);
    for (row, line) in found.lines.iter().enumerate() {
        // A row is judged by the latest model that was promoted before it.
        let before = found.models.iter().filter(|m| m.promoted && m.row <= row);
        let version = before
            .last()
            .map_or(0, |m| m.model.as_ref().unwrap().card.version.0);
        assert_eq!(line.version.0, version, "row {row}");
        assert!(line.score.is_finite());
    }
    assert!((705..730).all(|row| found.lines[row].alert));
    assert!(found.lines[..700].iter().filter(|line| line.alert).count() < 20);
}

#[test]
fn what_was_flagged_is_not_learnt() {
    let table = table(&csv(&rows(900, 620)), &Roles::default());
    let set = ["training.every_records=400", "training.guard=5"];
    let found = tested(&set, &table, 300);
    let card = &found.models[1].model.as_ref().unwrap().card;
    assert_eq!(found.models[1].row, 700);
    assert!(
        card.exclusions
            .iter()
            .any(|out| (600..=625).contains(&out.from.0)),
        "{:?}",
        card.exclusions
    );
}

#[test]
fn the_size_of_batches_changes_nothing() {
    let table = table(&csv(&rows(700, 600)), &Roles::default());
    let every = "training.every_records=150";
    let whole = tested(&[every], &table, 300);
    for size in ["batch.records_max=1", "batch.records_max=64"] {
        let other = tested(&[every, size], &table, 300);
        assert_eq!(
            super::write::scores(&whole.lines),
            super::write::scores(&other.lines)
        );
    }
}

#[test]
fn a_window_holds_rows_of_one_key() {
    let (one, two) = (rows(200, 150), rows(200, 100));
    let fit = table(&csv(&rows(400, 1000)), &Roles::default());
    let config = config(&[]);
    let roles = Roles {
        key: vec!["k".to_owned()],
        ..Roles::default()
    };
    let mut text = "k,a,b\n".to_owned();
    for i in 0..200 {
        for (key, rows) in [("one", &one), ("two", &two)] {
            text += &format!("{key},{},{}\n", rows[i][0], rows[i][1]);
        }
    }
    let scored = |table: &Table| {
        let model = learn::train(&config, &fit, Timestamp(0), &mut Quiet)
            .unwrap()
            .model;
        let lines = score(&config, table, model, &|_| {}).unwrap().lines;
        lines
            .iter()
            .map(|line| line.score.to_bits())
            .collect::<Vec<_>>()
    };
    let mixed = scored(&table(&text, &roles));
    let every_other = |from: usize| mixed[from..].iter().step_by(2).copied().collect::<Vec<_>>();
    assert_eq!(
        every_other(0),
        scored(&table(&csv(&one), &Roles::default()))
    );
    assert_eq!(
        every_other(1),
        scored(&table(&csv(&two), &Roles::default()))
    );
}

#[test]
fn a_model_is_made_again_from_its_card_to_the_byte() {
    let text = csv(&rows(400, 1000));
    let table_ = table(&text, &Roles::default());
    // An autoencoder: seeds and epochs matter.
    let config_ = config(&["model.kind=autoencoder", "model.epochs=3"]);
    let first = learn::train(&config_, &table_, Timestamp(7), &mut Quiet)
        .unwrap()
        .model;
    assert_eq!(
        first.card.rows["fit"] + first.card.rows["validation"],
        398 - 2
    );
    // The card decides, not the configuration.
    let other = config(&[
        "seed=9",
        "training.rows_max=200",
        "training.guard=1",
        "training.calibration=held_out",
    ]);
    let again = learn::again(&other, &table_, &first.card, &mut Quiet).unwrap();
    assert_eq!(first.to_bytes().unwrap(), again.model.to_bytes().unwrap());
    let other = table(&text.replace("a,b", "a,c"), &Roles::default());
    let refused = learn::again(&config_, &other, &first.card, &mut Quiet);
    assert!(matches!(refused, Err(OfflineError::Asked(_))));
}

#[test]
fn a_row_without_any_value_has_no_score_and_keeps_its_line() {
    let fit = table(&csv(&rows(400, 1000)), &Roles::default());
    let config = config(&[]);
    let model = learn::train(&config, &fit, Timestamp(0), &mut Quiet)
        .unwrap()
        .model;
    let table = table("a,b\n1,1\n,\n1,1\n", &Roles::default());
    let text = super::write::scores(&score(&config, &table, model, &|_| {}).unwrap().lines);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2], ",,0,0");
    assert!(lines[3].ends_with(",0,1"));
}
