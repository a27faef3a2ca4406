//! What the report of a backtest is made of.

use super::budgets::Row;
use super::evaluate::Outcome;
use crate::config::Config;
use crate::tools::table::Table;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What was replayed.
    pub table: &'a Table,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Rows at the beginning that only the first model learnt from.
    pub warmup: usize,
    /// What came of it in a sentence.
    pub sentence: &'a str,
    /// Figures against labels, by name; none without labels.
    pub figures: &'a [(&'static str, f64)],
    /// What other budgets would have opened ...
    pub budgets: &'a [Row],
    /// ... and how near the configured one came, if it opened nothing.
    pub nothing: Option<&'a str>,
    /// Whether rows have times of their own.
    pub timed: bool,
}
