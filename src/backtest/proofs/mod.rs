//! Proofs through the whole of it, from rows to alerts: training, gate, pipeline, with fixed seeds and plain defaults unless said.
//! Each prints its figure. Whole: `make proofs`.

#![expect(clippy::print_stdout, reason = "a proof shows its figures")]

mod fleet;
mod history;
mod lasting;
mod single;
mod weekly;
mod world;

use super::evaluate::{Outcome, Warmup, Watch, backtest};
use crate::config::{Config, Sources};
use crate::model::Unwatched;
use crate::tools::table::Table;

/// Milliseconds.
const MINUTE: i64 = 60_000;

/// The defaults, but for `set`.
fn config(set: &[&str]) -> Config {
    let sources = Sources {
        files: Vec::new(),
        environment: Vec::new(),
        set: set.iter().map(|&pair| pair.to_owned()).collect(),
        ..Sources::default()
    };
    Config::load(&sources).unwrap()
}

/// What became of the rows of `table`, of which the first model learns from the first `warmup` as the daemon would.
fn lived(set: &[&str], table: &Table, warmup: usize) -> Outcome {
    let mut watch = Watch {
        rows: &|_| {},
        monitor: &mut Unwatched,
    };
    let warmup = Warmup {
        rows: warmup,
        as_live: true,
    };
    backtest(&config(set), table, warmup, &mut watch).unwrap()
}
