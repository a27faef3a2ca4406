//! Context: what a record says of the mode that it was made in is never judged, it tells by what the rest is judged.
//!
//! Each combination of categories that training saw often enough has a centre and a spread for every measured column. They are shrunk by
//! empirical Bayes (Efron and Morris, "Data Analysis Using Stein's Estimator", JASA 70, 1975): the spread towards that within all
//! combinations, the centre towards the shared one by as much as the few rows leave open.
//!
//! The calendar is context, too, for the columns that it tells, as left-out days show ([`choice`]): by the hour of the week, or else the hour of a working day, a Saturday or a
//! Sunday, or else of a working day or one of a weekend, or else the hour ([`Grain`]). Each is told no more finely than is of use, and there are rows for. Where training has seen no weekend, or nothing else, the
//! hours of the days that it knows say nothing of the others: a record of these is judged as of the hour that fits it best.
//!
//! A combination that is unknown (rare in training, not listed, not observed) has no say. Its record is judged as the combination under which
//! most of its measured columns are ordinary, so that a lost or misspelt mode does not hide a fault in one of them; and where none is, by
//! the shared centre and a wide spread, because a new mode is no fault by itself.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use self::choice::Choice;
use self::grain::{Grain, PARTS};
use self::seen::{Combination, Seen, code_of};
use self::shrink::{Own, shrunk};
use crate::record::calendar::Hour;
use crate::record::schema::ContextColumns;

mod choice;
mod grain;
mod seen;
mod shrink;

/// Spreads within which a column is ordinary.
const ORDINARY: f64 = 4.0;

/// Shared spreads that count as one where no known mode fits.
const WIDE: f64 = 3.0;

/// What is normal in one combination of categories.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// One number a measured column.
    pub centre: Vec<f64>,
    /// The same; above 0.
    pub spread: Vec<f64>,
}

/// Which columns are context, and what is normal in each combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    columns: ContextColumns,
    /// The other columns, ascending: what is judged.
    measured: Vec<usize>,
    /// Places of the measured columns that the calendar tells, ascending.
    timed: Vec<usize>,
    /// By what each field has: the place of its value from 1 on, or 0 for none of those that are listed; and last, with a calendar, by the
    /// hour at some [`Grain`].
    cells: Vec<(Vec<u16>, Cell)>,
    /// Where no combination fits.
    unknown: Cell,
    /// With a calendar: whether working days were never seen, or weekends, but the others were.
    new_days: [bool; 2],
    /// The values of the context's columns in the commonest combination, D numbers.
    common: Vec<f64>,
}

/// What a context learns from.
#[expect(missing_debug_implementations, reason = "it has functions")]
pub struct Records<'a, 'v> {
    /// `n × D` raw values.
    pub values: ArrayView2<'v, f64>,
    /// Whose each row is.
    pub key: &'a dyn Fn(usize) -> usize,
    /// Centres and spreads of all D columns over all records.
    pub shared: (&'a [f64], &'a [f64]),
    /// Gives centre and spread of one column's observed values.
    pub scale: &'a dyn Fn(&mut [f64]) -> (f64, f64),
}

impl Context {
    /// Learns from `records`. `columns` says which are context. With `conditions` off the context is only kept from being judged.
    pub fn fit(records: &Records<'_, '_>, columns: ContextColumns, conditions: bool) -> Self {
        let values = records.values;
        let measured: Vec<usize> = (0..values.ncols())
            .filter(|column| !columns.has(*column))
            .collect();
        let seen = Seen::in_all(values, &columns);
        // Its own measured values are one record's, and may be missing; what is known of the context is what counts.
        let (mut common, commonest) = (records.shared.0.to_vec(), seen.commonest());
        for column in columns.all() {
            let value = commonest.map(|at| values[[at, column]]);
            common[column] = value.filter(|value| !value.is_nan()).unwrap_or(0.0);
        }
        let of = |values: &[f64]| -> Vec<f64> { measured.iter().map(|&at| values[at]).collect() };
        let shared = Cell {
            centre: of(records.shared.0),
            spread: of(records.shared.1),
        };
        let finest = if conditions {
            finest_of(records, &columns, &measured, &shared)
        } else {
            vec![Grain::ANY; measured.len()]
        };
        let timed = (0..measured.len()).filter(|&place| finest[place] < Grain::ANY);
        let mut context = Self {
            timed: timed.collect(),
            columns,
            measured,
            cells: Vec::new(),
            unknown: shared,
            new_days: [false; 2],
            common,
        };
        if conditions && context.tells() {
            context.new_days = seen.new_days();
            context.fill(records, seen.often_enough(), &finest);
            for place in context.told() {
                context.unknown.spread[place] *= WIDE;
            }
        }
        context
    }

    /// Whether anything is judged by it.
    fn tells(&self) -> bool {
        !self.columns.fields.is_empty() || !self.timed.is_empty()
    }

    /// The places of the measured columns that are judged by it.
    fn told(&self) -> Vec<usize> {
        if self.columns.fields.is_empty() {
            self.timed.clone()
        } else {
            (0..self.measured.len()).collect()
        }
    }

    /// Says what is normal in each combination.
    fn fill(
        &mut self,
        records: &Records<'_, '_>,
        by_grain: Vec<Vec<Combination>>,
        finest: &[usize],
    ) {
        let (places, grains) = (self.told(), by_grain.len());
        let values = records.values;
        // The coarsest first: of these the finer ones have what is told no more finely.
        for (grain, combinations) in by_grain.into_iter().enumerate().rev() {
            let blank = |of: &Combination| {
                let coarser = of.rows.first().and_then(|&row| {
                    let record = values.row(row);
                    let hour = Hour::of(record[self.columns.calendar?])?;
                    let mut code = of.code.clone();
                    let coarser = &Grain::ALL[grain + 1..];
                    let at = self.find(&mut code, self.columns.fields.len(), hour, coarser)?;
                    Some(&self.cells[at].1)
                });
                coarser.unwrap_or(&self.unknown).clone()
            };
            let mut cells: Vec<Cell> = combinations.iter().map(blank).collect();
            for &place in &places {
                if grains > 1 && grain < finest[place] {
                    continue;
                }
                let column = values.column(self.measured[place]);
                let own: Vec<Own> = (combinations.iter())
                    .map(|of| Own::of(of, column, records.scale))
                    .collect();
                let shared = (self.unknown.centre[place], self.unknown.spread[place]);
                let fitted = shrunk(&own, shared);
                for (cell, (centre, spread)) in cells.iter_mut().zip(fitted) {
                    cell.centre[place] = centre;
                    cell.spread[place] = spread;
                }
            }
            let codes = combinations.into_iter().map(|of| of.code);
            self.cells.extend(codes.zip(cells));
            self.cells.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }

    /// The columns that are judged, ascending.
    pub fn measured(&self) -> &[usize] {
        &self.measured
    }

    /// Those of them that are judged by the hour, ascending.
    pub fn timed(&self) -> impl Iterator<Item = usize> + '_ {
        self.timed.iter().map(|&place| self.measured[place])
    }

    /// What is normal where these D values were seen; `last` is where the one before was found.
    pub fn cell(&self, record: &[f64], last: &mut Found) -> &Cell {
        let same = last.place.is_some()
            && (self.columns.all())
                .zip(&last.values)
                .all(|(column, value)| record[column].to_bits() == value.to_bits());
        if !same {
            last.place = self.known(record, &mut last.code);
            last.values.clear();
            let context = self.columns.all();
            last.values.extend(context.map(|column| record[column]));
        }
        match last.place {
            Some(place) => &self.cells[place].1,
            None => self.likeliest(record),
        }
    }

    /// The place of the record's combination, at the finest grain of its hour that is known.
    fn known(&self, record: &[f64], code: &mut Vec<u16>) -> Option<usize> {
        code_of(&self.columns.fields, |column| record[column], code);
        if self.columns.calendar.is_none() {
            return self.place(code);
        }
        let hour = self
            .hour(record)
            .filter(|hour| !self.new_days[hour.part()])?;
        self.find(code, self.columns.fields.len(), hour, &Grain::ALL)
    }

    /// The place of a combination, of which `code` begins with those of its `fields`, at the first of these grains of an hour that is known.
    fn find(
        &self,
        code: &mut Vec<u16>,
        fields: usize,
        hour: Hour,
        grains: &[Grain],
    ) -> Option<usize> {
        grains.iter().find_map(|grain| {
            code.truncate(fields);
            code.push(grain.code(hour));
            self.place(code)
        })
    }

    fn place(&self, code: &[u16]) -> Option<usize> {
        let cells = &self.cells;
        let found = cells.binary_search_by(|(known, _)| known.as_slice().cmp(code));
        found.ok()
    }

    /// What the calendar says of a record.
    fn hour(&self, record: &[f64]) -> Option<Hour> {
        Hour::of(record[self.columns.calendar?])
    }

    /// The combination under which most measured columns are ordinary, of those of its hour; or of any hour, where its day is of a kind that was never seen.
    fn likeliest(&self, record: &[f64]) -> &Cell {
        let now = self.hour(record);
        if now.is_some_and(|now| self.new_days[now.part()]) {
            return self.most_ordinary(record, self.parts(record).iter());
        }
        let of_now = |code: &[u16]| {
            now.is_none_or(|now| {
                let known = |grain: &Grain| code.last() == Some(&grain.code(now));
                Grain::ALL.iter().any(known)
            })
        };
        self.most_ordinary(record, self.cells.iter().filter(|(code, _)| of_now(code)))
    }

    /// Of some combinations that under which the record's measured columns are most ordinary, if most are.
    fn most_ordinary<'a>(
        &'a self,
        record: &[f64],
        some: impl Iterator<Item = &'a (Vec<u16>, Cell)>,
    ) -> &'a Cell {
        let mut best = (f64::INFINITY, &self.unknown);
        for (_, cell) in some {
            let (mut sum, mut observed, mut ordinary) = (0.0, 0, 0);
            for (place, &column) in self.measured.iter().enumerate() {
                let unit = ((record[column] - cell.centre[place]) / cell.spread[place]).abs();
                if unit.is_finite() {
                    observed += 1;
                    ordinary += usize::from(unit < ORDINARY);
                    sum += unit.min(ORDINARY);
                    if sum >= best.0 {
                        break;
                    }
                }
            }
            if 2 * ordinary > observed && sum < best.0 {
                best = (sum, cell);
            }
        }
        best.1
    }

    /// What is normal at each hour of the parts of the week that are known, with the record's categories.
    fn parts(&self, record: &[f64]) -> &[(Vec<u16>, Cell)] {
        let mut code = Vec::new();
        code_of(&self.columns.fields, |column| record[column], &mut code);
        let mut before = |hour: u16| {
            code.truncate(self.columns.fields.len());
            code.push(hour);
            self.cells.partition_point(|(known, _)| *known < code)
        };
        let (from, to) = (before(PARTS.start), before(PARTS.end));
        &self.cells[from..to]
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
        let mut all: Vec<usize> = self.columns.all().collect();
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
            && self.timed.iter().all(|&place| place < self.measured.len())
            && self.cells.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && cells.into_iter().all(fits)
    }
}

/// Which of the D columns a calendar would tell, ascending, where there is none; `hour` gives that of each row.
pub fn that_follow(
    records: &Records<'_, '_>,
    hour: impl Fn(usize) -> Option<Hour>,
    judged: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let values = records.values;
    let choice = Choice::of(values.nrows(), records.key, |_, code| code.clear(), hour);
    let (centre, spread) = records.shared;
    let follows = |&column: &usize| {
        let scale = (centre[column], spread[column]);
        judged(column) && choice.finest(values.column(column), scale) < Grain::ANY
    };
    (0..values.ncols()).filter(follows).collect()
}

/// How finely each measured column is told by the calendar, as places in [`Grain::ALL`].
fn finest_of(
    records: &Records<'_, '_>,
    columns: &ContextColumns,
    measured: &[usize],
    shared: &Cell,
) -> Vec<usize> {
    let Some(calendar) = columns.calendar else {
        return vec![Grain::ANY; measured.len()];
    };
    let values = records.values;
    let categories = |row: usize, code: &mut Vec<u16>| {
        code_of(&columns.fields, |column| values[[row, column]], code);
    };
    let hour = |row: usize| Hour::of(values[[row, calendar]]);
    let choice = Choice::of(values.nrows(), records.key, categories, hour);
    let scales = shared.centre.iter().zip(&shared.spread);
    let finest = measured.iter().zip(scales);
    finest
        .map(|(&column, (&centre, &spread))| choice.finest(values.column(column), (centre, spread)))
        .collect()
}

/// Where the last record's combination was found: neighbours are often of one mode, and of one hour.
#[derive(Clone, Debug, Default)]
pub struct Found {
    code: Vec<u16>,
    values: Vec<f64>,
    place: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// What is normal where a record was seen.
    fn cell_of(context: &Context, record: &[f64]) -> Cell {
        context.cell(record, &mut Found::default()).clone()
    }

    fn learnt(
        values: ArrayView2<'_, f64>,
        shared: (&[f64], &[f64]),
        columns: ContextColumns,
        scale: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Context {
        let records = Records {
            values,
            key: &|_| 0,
            shared,
            scale,
        };
        Context::fit(&records, columns, true)
    }

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
        let columns = ContextColumns {
            fields: vec![vec![1, 2]],
            calendar: None,
        };
        learnt(records.view(), (&centre, &spread), columns, &mean)
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
        let beyond = Context {
            timed: vec![2],
            ..context
        };
        assert!(!beyond.is_whole(4));
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
        let cell = cell_of(&few, &[100.0, 0.0, 1.0, 40.0]);
        assert!(cell.spread[0] > 20.0, "{cell:?}");
    }

    #[test]
    fn the_commonest_combination_is_known_whatever_its_first_record_lacks() {
        for mode in [[1.0, 0.0], [f64::NAN, f64::NAN]] {
            // Measured, mode=a, mode=b: all of one combination, the first record's own value missing.
            let records = Array2::from_shape_fn((40, 3), |(i, column)| match column {
                0 if i == 0 => f64::NAN,
                0 => 7.0,
                _ => mode[column - 1],
            });
            let columns = ContextColumns {
                fields: vec![vec![1, 2]],
                calendar: None,
            };
            let shared = ([7.0, 0.0, 0.0], [1.0, 1.0, 1.0]);
            let fit = |_: &mut [f64]| (7.0, 1.0);
            let context = learnt(records.view(), (&shared.0, &shared.1), columns, &fit);
            let known = [7.0, if mode[0] > 0.0 { 1.0 } else { 0.0 }, 0.0];
            assert_eq!(context.common(), known);
            let back: Context =
                serde_json::from_str(&serde_json::to_string(&context).unwrap()).unwrap();
            assert_eq!(back, context);
        }
    }

    /// One column that is 50 from Monday to Friday between 6 and 18 and 10 else, and noise up to ± 1; and the calendar. An hour a row, from
    /// the given Monday on.
    fn by_the_clock(days: i64) -> Context {
        let monday = 20_605;
        let work = |hour: i64| hour / 24 % 7 < 5 && (6..18).contains(&(hour % 24));
        let records = Array2::from_shape_fn((days as usize * 24, 2), |(i, column)| {
            let wave = ((i * 7919) % 101) as f64 / 50.5 - 1.0;
            match column {
                0 => {
                    if work(i as i64) {
                        50.0 + wave
                    } else {
                        10.0 + wave
                    }
                }
                _ => (monday * 24 + i as i64) as f64,
            }
        });
        let columns = ContextColumns {
            fields: Vec::new(),
            calendar: Some(1),
        };
        let mean = |values: &mut [f64]| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            (mean, square.sqrt())
        };
        let (centre, spread) = mean(&mut records.column(0).to_vec());
        let shared: (&[f64], &[f64]) = (&[centre, 0.0], &[spread, 1.0]);
        learnt(records.view(), shared, columns, &mean)
    }

    #[test]
    fn each_hour_is_judged_as_finely_as_days_allow() {
        let monday = 20_605;
        let cell = |context: &Context, day: i64, hour: i64| {
            let time = ((monday + day) * 24 + hour) as f64;
            let cell = cell_of(context, &[0.0, time]);
            (cell.centre[0], cell.spread[0])
        };
        let near = |(centre, spread): (f64, f64), level: f64| {
            assert!(
                (centre - level).abs() < 1.0 && (0.3..1.5).contains(&spread),
                "{centre} {spread}"
            );
        };
        // Three weeks: the hour of the week.
        let weeks = by_the_clock(21);
        assert!(weeks.is_whole(2));
        for (day, hour, level) in [
            (28, 5, 10.0),
            (28, 6, 50.0),
            (28, 17, 50.0),
            (28, 18, 10.0),
            (33, 9, 10.0),
            (34, 9, 10.0),
        ] {
            near(cell(&weeks, day, hour), level);
        }
        // One week: working days are alike, and so are the only Saturday and Sunday.
        let week = by_the_clock(7);
        near(cell(&week, 7, 9), 50.0);
        near(cell(&week, 7, 3), 10.0);
        near(cell(&week, 12, 9), 10.0);
        // A day says nothing of the next.
        let (centre, spread) = cell(&by_the_clock(1), 1, 9);
        assert!(
            (centre - 30.0).abs() < 1.0 && spread > 10.0,
            "{centre} {spread}"
        );
    }

    #[test]
    fn the_first_weekend_is_judged_as_the_hour_that_fits_it() {
        let monday = 20_605;
        // Monday to Friday, and with the Saturday: one day of a weekend says nothing of the next.
        for days in [5, 6] {
            let context = by_the_clock(days);
            let centre = |day: i64, hour: i64, value: f64| {
                let time = ((monday + day) * 24 + hour) as f64;
                let cell = cell_of(&context, &[value, time]);
                (cell.centre[0], cell.spread[0])
            };
            for (value, level) in [(10.3, 10.0), (50.3, 50.0)] {
                let (weekend, _) = centre(6, 9, value);
                assert!((weekend - level).abs() < 3.0, "{weekend} of {level}");
                // Monday's nine o'clock is known.
                let (working, _) = centre(7, 9, value);
                assert!((working - 50.0).abs() < 3.0, "{working}");
            }
            // What is like no hour is judged widely, and is not ordinary all the same.
            let (middle, spread) = centre(6, 9, 500.0);
            assert!(
                spread > 30.0 && (500.0 - middle) / spread > 4.0,
                "{middle} {spread}"
            );
        }
        // Nor do two days of a weekend tell of working days.
        let calendar = |hours: std::ops::Range<usize>| {
            let of = |(i, column): (usize, usize)| match column {
                0 => (i * 7919 % 101) as f64,
                _ => (monday * 24) as f64 + (hours.start + i) as f64,
            };
            let records = Array2::from_shape_fn((hours.len(), 2), of);
            let columns = ContextColumns {
                fields: Vec::new(),
                calendar: Some(1),
            };
            Seen::in_all(records.view(), &columns).new_days()
        };
        assert_eq!(calendar(0..5 * 24), [false, true]);
        assert_eq!(calendar(0..6 * 24), [false, true]);
        assert_eq!(calendar(0..7 * 24), [false, false]);
        assert_eq!(calendar(5 * 24..7 * 24), [true, false]);
        assert_eq!(calendar(0..24), [false, false]);
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
