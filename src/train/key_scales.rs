//! Where the columns of each key lie in a history that nobody has judged, and how far they spread: medians over blocks of time, which a fault in
//! fewer than half of the blocks does not move.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::split::Window;
use super::window::Windows;
use crate::record::schema::ContextColumns;
use crate::stats::order::{MAD_TO_SIGMA, median};

/// Blocks of time that a history is cut into.
pub(super) const BLOCKS: usize = 8;

/// Windows of a key from which it is held against itself.
pub(super) const KEY_MIN: usize = 20;

/// A key's spread is at least this share of what is usual.
const SPREAD_SHARE: f64 = 0.1;

/// Centres and spreads of a key's columns: D numbers each.
type Level = (Vec<f64>, Vec<f64>);

/// Where each key's columns lie, and how far they spread.
#[derive(Debug)]
pub(super) struct KeyScales {
    of_key: BTreeMap<(usize, u32), Level>,
    /// Of keys with too few windows: the middle of the others.
    usual: Level,
}

impl KeyScales {
    /// Context stays as it is.
    pub(super) fn of(windows: &Windows<'_>, context: &ContextColumns) -> Self {
        let newest = windows.recent(windows.all(), 1);
        let mut rows: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
        for (row, window) in windows.all().iter().enumerate() {
            rows.entry(window.key()).or_default().push(row);
        }
        rows.retain(|_, rows| rows.len() >= KEY_MIN);
        let columns = newest.ncols();
        let mut of_key: BTreeMap<(usize, u32), Level> = rows
            .into_iter()
            .map(|(key, rows)| {
                let levels = (0..columns).map(|c| level(&rows, |row| newest[(row, c)]));
                (key, levels.unzip())
            })
            .collect();
        let middle = |of: &dyn Fn(&Level) -> f64| {
            let mut all: Vec<f64> = of_key.values().map(of).filter(|v| v.is_finite()).collect();
            median(&mut all)
        };
        let usual: Level = (0..columns)
            .map(|c| (middle(&|levels| levels.0[c]), middle(&|levels| levels.1[c])))
            .map(|(centre, spread)| {
                let known = centre.is_finite() && spread > 0.0;
                if known { (centre, spread) } else { (0.0, 1.0) }
            })
            .unzip();
        for (centre, spread) in of_key.values_mut() {
            for c in 0..columns {
                if !centre[c].is_finite() {
                    centre[c] = usual.0[c];
                }
                // What hardly moves under one key moves as it does under others.
                spread[c] = spread[c].max(SPREAD_SHARE * usual.1[c]);
            }
        }
        let mut levels = Self { of_key, usual };
        for c in context.all() {
            for (centre, spread) in levels.of_key.values_mut().chain([&mut levels.usual]) {
                (centre[c], spread[c]) = (0.0, 1.0);
            }
        }
        levels
    }

    /// Counts rows from their key's centre, in its spreads.
    pub(super) fn apply(&self, of: &[Window], mut rows: Array2<f64>) -> Array2<f64> {
        let columns = self.usual.0.len();
        for (mut row, window) in rows.rows_mut().into_iter().zip(of) {
            let (centre, spread) = self.of_key.get(&window.key()).unwrap_or(&self.usual);
            for (i, value) in row.iter_mut().enumerate() {
                *value = (*value - centre[i % columns]) / spread[i % columns];
            }
        }
        rows
    }
}

/// Centre and spread of a column of a key's rows, in order of time: medians over blocks.
fn level(rows: &[usize], value: impl Fn(usize) -> f64) -> (f64, f64) {
    let over_blocks = |of_block: &dyn Fn(&[usize]) -> f64| {
        let size = rows.len().div_ceil(BLOCKS).max(1);
        let mut all: Vec<f64> = rows.chunks(size).map(of_block).collect();
        all.retain(|v| v.is_finite());
        median(&mut all)
    };
    let middle = |rows: &[usize], value: &dyn Fn(usize) -> f64| {
        let mut all: Vec<f64> = rows.iter().map(|&row| value(row)).collect();
        all.retain(|v| v.is_finite());
        median(&mut all)
    };
    let centre = over_blocks(&|rows| middle(rows, &value));
    let spread = over_blocks(&|rows| middle(rows, &|row| (value(row) - centre).abs()));
    (centre, MAD_TO_SIGMA * spread)
}
