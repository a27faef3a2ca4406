//! Context: what a record says of the mode that it was made in is never judged, it tells by what the rest is judged.
//!
//! Each combination of categories that training saw often enough has a centre and a spread for every measured column. They are shrunk by
//! empirical Bayes (Efron and Morris, "Data Analysis Using Stein's Estimator", JASA 70, 1975): the spread towards that within all
//! combinations, the centre towards the shared one by as much as the few rows leave open.
//!
//! A combination that is unknown (rare in training, not listed, not observed) has no say. Its record is judged as the combination under which
//! most of its measured columns are ordinary, so that a lost or misspelt mode does not hide a fault in one of them; and where none is, by
//! the shared centre and a wide spread, because a new mode is no fault by itself.

use std::collections::BTreeMap;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// Rows of a combination from which on it has a centre and a spread of its own.
const ROWS_MIN: usize = 20;

/// Rows that the spread within all combinations counts as, beside a combination's own.
const PRIOR_ROWS: f64 = 20.0;

/// Rows of a combination that tell as much of its centre as one by itself would: neighbours are of one stay in the mode.
const ROWS_A_STAY: f64 = 10.0;

/// The least spread, as a share of that within all combinations: a column that rests in one mode is not infinitely strict there.
const SPREAD_MIN: f64 = 0.1;

/// Spreads within which a column is ordinary.
const ORDINARY: f64 = 4.0;

/// Shared spreads that count as one where no known mode fits.
const WIDE: f64 = 3.0;

/// The code of a field that was not observed.
const UNSEEN: u16 = u16::MAX;

/// What is normal in one combination of categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// One number a measured column.
    pub centre: Vec<f64>,
    /// The same; above 0.
    pub spread: Vec<f64>,
}

/// Which columns are context, and what is normal in each combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// For each categorical field, its columns.
    fields: Vec<Vec<usize>>,
    /// The other columns, ascending: what is judged.
    measured: Vec<usize>,
    /// By what each field has: the place of its value from 1 on, or 0 for none of those that are listed.
    cells: Vec<(Vec<u16>, Cell)>,
    /// Where no combination fits.
    unknown: Cell,
    /// The values of the context's columns in the commonest combination, D numbers.
    common: Vec<f64>,
}

impl Context {
    /// Learns from `records`, `n × D` raw values. `fields` has the columns of each categorical field; `shared` the centre and spread of all D
    /// columns over all records; `fit` gives centre and spread of one column's observed values. With `conditions` off the context is only
    /// kept from being judged.
    pub fn fit(
        records: ArrayView2<'_, f64>,
        fields: Vec<Vec<usize>>,
        shared: (&[f64], &[f64]),
        conditions: bool,
        fit: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Self {
        let measured: Vec<usize> = (0..records.ncols())
            .filter(|column| !fields.iter().flatten().any(|context| context == column))
            .collect();
        let mut rows: BTreeMap<Vec<u16>, Vec<usize>> = BTreeMap::new();
        let mut code = Vec::new();
        for (at, record) in records.rows().into_iter().enumerate() {
            code_of(&fields, |column| record[column], &mut code);
            rows.entry(code.clone()).or_default().push(at);
        }
        let most = rows.values().max_by_key(|rows| rows.len());
        let common = most.and_then(|rows| rows.first()).map_or_else(
            || vec![0.0; records.ncols()],
            |&at| records.row(at).to_vec(),
        );
        rows.retain(|_, rows| conditions && rows.len() >= ROWS_MIN);
        let of = |values: &[f64]| -> Vec<f64> { measured.iter().map(|&at| values[at]).collect() };
        let (centre, spread) = (of(shared.0), of(shared.1));
        let blank = Cell {
            centre: vec![0.0; measured.len()],
            spread: vec![1.0; measured.len()],
        };
        let mut cells: Vec<(Vec<u16>, Cell)> = rows
            .keys()
            .map(|code| (code.clone(), blank.clone()))
            .collect();
        for (place, &column) in measured.iter().enumerate() {
            let own: Vec<Own> = rows
                .values()
                .map(|rows| Own::of(records, (rows, column), fit))
                .collect();
            let fitted = shrunk(&own, (centre[place], spread[place]));
            for ((_, cell), (centre, spread)) in cells.iter_mut().zip(fitted) {
                cell.centre[place] = centre;
                cell.spread[place] = spread;
            }
        }
        let wide = if conditions { WIDE } else { 1.0 };
        Self {
            fields,
            measured,
            cells,
            unknown: Cell {
                centre,
                spread: spread.iter().map(|spread| wide * spread).collect(),
            },
            common,
        }
    }

    /// The columns that are judged, ascending.
    pub fn measured(&self) -> &[usize] {
        &self.measured
    }

    /// What is normal where these D values were seen; `last` is where the one before was found.
    pub fn cell(&self, record: &[f64], last: &mut Found) -> &Cell {
        let same = last.place.is_some()
            && (self.fields.iter().flatten())
                .zip(&last.values)
                .all(|(&column, value)| record[column].to_bits() == value.to_bits());
        if !same {
            code_of(&self.fields, |column| record[column], &mut last.code);
            let found = self
                .cells
                .binary_search_by(|(code, _)| code.as_slice().cmp(&last.code));
            last.place = found.ok();
            last.values.clear();
            let context = self.fields.iter().flatten();
            last.values.extend(context.map(|&column| record[column]));
        }
        match last.place {
            Some(place) => &self.cells[place].1,
            None => self.likeliest(record),
        }
    }

    /// The combination under which most measured columns are ordinary.
    fn likeliest(&self, record: &[f64]) -> &Cell {
        let mut off = Vec::with_capacity(self.measured.len());
        let mut best = (ORDINARY, f64::INFINITY, &self.unknown);
        for (_, cell) in &self.cells {
            off.clear();
            for (place, &column) in self.measured.iter().enumerate() {
                let unit = ((record[column] - cell.centre[place]) / cell.spread[place]).abs();
                if unit.is_finite() {
                    off.push(unit);
                }
            }
            if off.is_empty() {
                continue;
            }
            off.sort_unstable_by(f64::total_cmp);
            let sum: f64 = off.iter().map(|unit| unit.min(ORDINARY)).sum();
            if off[off.len() / 2] < ORDINARY && sum < best.1 {
                best = (off[off.len() / 2], sum, cell);
            }
        }
        best.2
    }

    /// All D columns of a record from its measured ones; the others as in `like`, or else as in the commonest combination.
    pub fn whole(&self, measured: impl Iterator<Item = f64>, like: Option<&[f64]>) -> Vec<f64> {
        let mut whole = like.unwrap_or(&self.common).to_vec();
        for (&column, value) in self.measured.iter().zip(measured) {
            whole[column] = value;
        }
        whole
    }

    /// A record of the commonest combination.
    pub fn common(&self) -> &[f64] {
        &self.common
    }

    /// Whether it fits D columns, and all its numbers can be used.
    pub fn is_whole(&self, columns: usize) -> bool {
        let mut all: Vec<usize> = self.fields.iter().flatten().copied().collect();
        all.extend(&self.measured);
        all.sort_unstable();
        let cells = self
            .cells
            .iter()
            .map(|(_, cell)| cell)
            .chain([&self.unknown]);
        let fits = |cell: &Cell| {
            cell.centre.len() == self.measured.len()
                && cell.spread.len() == self.measured.len()
                && cell.centre.iter().all(|value| value.is_finite())
                && cell
                    .spread
                    .iter()
                    .all(|value| value.is_finite() && *value > 0.0)
        };
        all.into_iter().eq(0..columns)
            && self.common.len() == columns
            && self.cells.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && cells.into_iter().all(fits)
    }
}

/// Where the last record's combination was found: neighbours are often of one mode.
#[derive(Clone, Debug, Default)]
pub struct Found {
    code: Vec<u16>,
    values: Vec<f64>,
    place: Option<usize>,
}

/// What each field has: 0 for none of the listed values.
fn code_of(fields: &[Vec<usize>], value: impl Fn(usize) -> f64, code: &mut Vec<u16>) {
    code.clear();
    for columns in fields {
        let on = columns.iter().position(|&column| value(column) > 0.5);
        let seen = columns.iter().any(|&column| !value(column).is_nan());
        code.push(match on {
            Some(place) => u16::try_from(place + 1).unwrap_or(UNSEEN - 1),
            None if seen => 0,
            None => UNSEEN,
        });
    }
}

/// One column's values in one combination.
struct Own {
    rows: f64,
    centre: f64,
    variance: f64,
}

impl Own {
    fn of(
        records: ArrayView2<'_, f64>,
        (rows, column): (&[usize], usize),
        fit: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Self {
        let mut observed: Vec<f64> = rows
            .iter()
            .map(|&row| records[[row, column]])
            .filter(|value| value.is_finite())
            .collect();
        if observed.is_empty() {
            return Self {
                rows: 0.0,
                centre: 0.0,
                variance: 0.0,
            };
        }
        let (centre, spread) = fit(&mut observed);
        Self {
            rows: observed.len() as f64,
            centre,
            variance: spread * spread,
        }
    }
}

/// Centres and spreads of one column in all combinations, shrunk.
fn shrunk(own: &[Own], (centre, spread): (f64, f64)) -> Vec<(f64, f64)> {
    let rows: f64 = own.iter().map(|own| own.rows).sum();
    let within = own.iter().map(|own| own.rows * own.variance).sum::<f64>() / rows.max(1.0);
    // A column that is constant within every combination has no spread there: its change between them is all there is.
    let floor = 1e-9 * centre.abs().max(spread);
    let within = if within > floor * floor {
        within
    } else {
        (0.01 * spread).powi(2)
    };
    let between = (spread * spread - within).max(0.0);
    let of = |own: &Own| {
        let noise = within * ROWS_A_STAY / own.rows.max(f64::MIN_POSITIVE);
        let known = if between > 0.0 {
            between / (between + noise)
        } else {
            0.0
        };
        let own_spread = (own.rows * own.variance + PRIOR_ROWS * within) / (own.rows + PRIOR_ROWS);
        let variance = own_spread.max(SPREAD_MIN * SPREAD_MIN * within) + (1.0 - known) * between;
        (centre + known * (own.centre - centre), variance.sqrt())
    };
    own.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Columns: measured, mode=a, mode=b, measured.
    fn fitted(rows_of_b: usize) -> Context {
        let n = 400;
        let records = Array2::from_shape_fn((n, 4), |(i, column)| {
            let b = i < rows_of_b;
            let wave = ((i * 7919) % 101) as f64 / 50.5 - 1.0;
            match column {
                0 => {
                    if b {
                        100.0 + wave
                    } else {
                        10.0 + wave
                    }
                }
                1 => f64::from(u8::from(!b)),
                2 => f64::from(u8::from(b)),
                _ => 5.0 - wave,
            }
        });
        let mean = |values: &mut [f64]| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            (mean, square.sqrt())
        };
        let shared: Vec<(f64, f64)> = (0..4)
            .map(|c| mean(&mut records.column(c).to_vec()))
            .collect();
        let (centre, spread): (Vec<f64>, Vec<f64>) = shared.into_iter().unzip();
        Context::fit(
            records.view(),
            vec![vec![1, 2]],
            (&centre, &spread),
            true,
            &mean,
        )
    }

    #[test]
    fn each_mode_has_its_own_centre_and_spread() {
        let context = fitted(200);
        assert_eq!(context.measured(), [0, 3]);
        let mut last = Found::default();
        let cell = context.cell(&[0.0, 0.0, 1.0, 0.0], &mut last);
        assert!(
            (cell.centre[0] - 100.0).abs() < 0.2 && (0.4..0.8).contains(&cell.spread[0]),
            "{cell:?}"
        );
        let cell = context.cell(&[0.0, 1.0, 0.0, 0.0], &mut last);
        assert!((cell.centre[0] - 10.0).abs() < 0.2, "{cell:?}");
        // What does not depend on the mode keeps its centre and its spread.
        assert!(
            (cell.centre[1] - 5.0).abs() < 0.1 && (0.5..0.7).contains(&cell.spread[1]),
            "{cell:?}"
        );
        assert!(context.is_whole(4) && !context.is_whole(5));
    }

    #[test]
    fn an_unknown_mode_is_judged_as_the_one_that_most_columns_fit_and_a_new_one_widely() {
        let context = fitted(200);
        let mut last = Found::default();
        let centre = |record: [f64; 4]| context.cell(&record, &mut Found::default()).centre[0];
        for lost in [[0.0, 0.0], [f64::NAN, f64::NAN]] {
            let [a, b] = lost;
            assert!((centre([100.3, a, b, 5.0]) - 100.0).abs() < 0.2);
            assert!((centre([10.3, a, b, 5.0]) - 10.0).abs() < 0.2);
        }
        let new = context.cell(&[60.0, 0.0, 0.0, 40.0], &mut last);
        assert!(
            ((60.0 - new.centre[0]) / new.spread[0]).abs() < 1.0,
            "{new:?}"
        );
        // Fewer rows than tell anything: as unknown as one that was never seen.
        let few = fitted(10);
        let cell = few.cell(&[100.0, 0.0, 1.0, 40.0], &mut Found::default());
        assert!(cell.spread[0] > 20.0, "{cell:?}");
    }

    #[test]
    fn what_is_not_measured_comes_back_as_it_was() {
        let context = fitted(150);
        let whole = context.whole([7.0, 8.0].into_iter(), Some(&[0.0, 0.0, 1.0, 0.0]));
        assert_eq!(whole, [7.0, 0.0, 1.0, 8.0]);
        let whole = context.whole([7.0, 8.0].into_iter(), None);
        assert_eq!(whole, [7.0, 1.0, 0.0, 8.0]);
    }
}
