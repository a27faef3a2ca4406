//! Context: what a record says of the mode that it was made in is never judged, it tells by what the rest is judged.
//!
//! Each combination of categories that training saw often enough has a centre and a spread for every measured column. They are shrunk by
//! empirical Bayes (Efron and Morris, "Data Analysis Using Stein's Estimator", JASA 70, 1975): the spread towards that within all
//! combinations, the centre towards the shared one by as much as the few rows leave open.
//!
//! The calendar is context, too, as finely as there are rows for: the hour of the week, or else the hour of a working day, a Saturday or a
//! Sunday, or else of a working day or one of a weekend, or else the hour, or else it says nothing ([`Grain`]). Where training has seen no weekend, or nothing else, the
//! hours of the days that it knows say nothing of the others: a record of these is judged as of the hour that fits it best.
//!
//! A combination that is unknown (rare in training, not listed, not observed) has no say. Its record is judged as the combination under which
//! most of its measured columns are ordinary, so that a lost or misspelt mode does not hide a fault in one of them; and where none is, by
//! the shared centre and a wide spread, because a new mode is no fault by itself.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::record::calendar::Hour;
use crate::record::schema::ContextColumns;

/// Rows of a combination of categories from which on it has a centre and a spread of its own.
const ROWS_MIN: usize = 20;

/// Days on which an hour must have been seen to have a centre of its own: what one day was like says nothing of the next.
const DAYS_MIN: usize = 2;

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
    columns: ContextColumns,
    /// The other columns, ascending: what is judged.
    measured: Vec<usize>,
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

impl Context {
    /// Learns from `records`, `n × D` raw values. `columns` says which are context; `shared` is the centre and spread of all D
    /// columns over all records; `fit` gives centre and spread of one column's observed values. With `conditions` off the context is only
    /// kept from being judged.
    pub fn fit(
        records: ArrayView2<'_, f64>,
        columns: ContextColumns,
        shared: (&[f64], &[f64]),
        conditions: bool,
        fit: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Self {
        let measured: Vec<usize> = (0..records.ncols())
            .filter(|column| !columns.has(*column))
            .collect();
        let seen = Seen::in_all(records, &columns);
        // Its own measured values are one record's, and may be missing; what is known of the context is what counts.
        let (mut common, commonest) = (shared.0.to_vec(), seen.commonest());
        for column in columns.all() {
            let value = commonest.map(|at| records[[at, column]]);
            common[column] = value.filter(|value| !value.is_nan()).unwrap_or(0.0);
        }
        let new_days = seen.new_days();
        let groups = if conditions {
            seen.often_enough()
        } else {
            Vec::new()
        };
        let of = |values: &[f64]| -> Vec<f64> { measured.iter().map(|&at| values[at]).collect() };
        let (centre, spread) = (of(shared.0), of(shared.1));
        let blank = Cell {
            centre: vec![0.0; measured.len()],
            spread: vec![1.0; measured.len()],
        };
        let mut cells: Vec<(Vec<u16>, Cell)> = Vec::new();
        for combinations in groups {
            let first = cells.len();
            let codes = combinations.iter().map(|of| of.code.clone());
            cells.extend(codes.map(|code| (code, blank.clone())));
            for (place, &column) in measured.iter().enumerate() {
                let own: Vec<Own> = combinations
                    .iter()
                    .map(|of| Own::of(records, (of, column), fit))
                    .collect();
                let fitted = shrunk(&own, (centre[place], spread[place]));
                for ((_, cell), (centre, spread)) in cells[first..].iter_mut().zip(fitted) {
                    cell.centre[place] = centre;
                    cell.spread[place] = spread;
                }
            }
        }
        cells.sort_by(|a, b| a.0.cmp(&b.0));
        let wide = if conditions { WIDE } else { 1.0 };
        Self {
            columns,
            measured,
            cells,
            unknown: Cell {
                centre,
                spread: spread.iter().map(|spread| wide * spread).collect(),
            },
            new_days,
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
        let find = |code: &[u16]| {
            let found = self
                .cells
                .binary_search_by(|(known, _)| known.as_slice().cmp(code));
            found.ok()
        };
        if self.columns.calendar.is_none() {
            return find(code);
        }
        let now = self.hour(record)?;
        if self.new_days[now.part()] {
            return None;
        }
        let fields = code.len();
        Grain::ALL.iter().find_map(|grain| {
            code.truncate(fields);
            code.push(grain.code(now));
            find(code)
        })
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

/// The codes of [`Grain::Part`].
const PARTS: std::ops::Range<u16> = 300..348;

/// How finely the calendar is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// The hour of the week.
    Week,
    /// The hour of a working day, a Saturday, a Sunday.
    Kind,
    /// The hour of a working day, of a day of the weekend.
    Part,
    /// The hour of the day.
    Day,
    /// Not at all.
    Any,
}

impl Grain {
    /// The finest first.
    const ALL: [Self; 5] = [Self::Week, Self::Kind, Self::Part, Self::Day, Self::Any];

    /// A number that no other hour of no other grain has.
    fn code(self, at: Hour) -> u16 {
        let of_day = |first: u16, day: u16| first + 24 * day + at.hour;
        match self {
            Self::Week => of_day(0, at.weekday),
            Self::Kind => of_day(200, at.weekday.saturating_sub(4)),
            Self::Part => of_day(PARTS.start, at.part() as u16),
            Self::Day => of_day(400, 0),
            Self::Any => 500,
        }
    }
}

/// Rows by combination.
type Rows = BTreeMap<Vec<u16>, Vec<usize>>;

/// A combination that was seen often enough.
struct Combination {
    code: Vec<u16>,
    /// In which rows.
    rows: Vec<usize>,
    /// How many rows by themselves would tell as much of its centre: neighbours are of one stay in a mode, or of one day.
    stays: f64,
}

/// In which combinations records were seen: by grain of the calendar, or once without one.
struct Seen<'a> {
    records: ArrayView2<'a, f64>,
    calendar: Option<usize>,
    by_grain: Vec<(Grain, Rows)>,
}

impl<'a> Seen<'a> {
    fn in_all(records: ArrayView2<'a, f64>, columns: &ContextColumns) -> Self {
        let grains: &[Grain] = match columns.calendar {
            Some(_) => &Grain::ALL,
            None => &[Grain::Any],
        };
        let by_grain = grains.iter().map(|&grain| {
            let mut rows = Rows::new();
            let mut code = Vec::new();
            for (at, record) in records.rows().into_iter().enumerate() {
                code_of(&columns.fields, |column| record[column], &mut code);
                if let Some(calendar) = columns.calendar {
                    code.push(Hour::of(record[calendar]).map_or(UNSEEN, |hour| grain.code(hour)));
                }
                rows.entry(code.clone()).or_default().push(at);
            }
            (grain, rows)
        });
        Self {
            records,
            calendar: columns.calendar,
            by_grain: by_grain.collect(),
        }
    }

    /// A row of the combination that most have.
    fn commonest(&self) -> Option<usize> {
        let (_, finest) = self.by_grain.first()?;
        let most = finest.values().max_by_key(|rows| rows.len());
        most.and_then(|rows| rows.first()).copied()
    }

    /// Whether working days were seen on too few days to tell anything, or weekends, and the others were not.
    fn new_days(&self) -> [bool; 2] {
        let mut days = [BTreeSet::new(), BTreeSet::new()];
        let values = self.calendar.map(|column| self.records.column(column));
        for hour in values.iter().flatten().filter_map(|value| Hour::of(*value)) {
            days[hour.part()].insert(hour.day);
        }
        let few = days.map(|days| days.len() < DAYS_MIN);
        [few[0] && !few[1], few[1] && !few[0]]
    }

    /// The combinations that were seen often enough, by grain.
    fn often_enough(self) -> Vec<Vec<Combination>> {
        let Self {
            records,
            calendar,
            by_grain,
        } = self;
        let days = |rows: &[usize]| {
            let hours = rows
                .iter()
                .filter_map(|&row| Hour::of(records[[row, calendar?]]));
            hours.map(|hour| hour.day).collect::<BTreeSet<_>>().len()
        };
        let by_grain = by_grain.into_iter().map(|(grain, rows)| {
            let often = rows.into_iter().filter_map(|(code, rows)| {
                let (enough, stays) = match grain {
                    Grain::Any => (rows.len() >= ROWS_MIN, rows.len() as f64 / ROWS_A_STAY),
                    _ => (days(&rows) >= DAYS_MIN, days(&rows) as f64),
                };
                enough.then_some(Combination { code, rows, stays })
            });
            often.collect()
        });
        by_grain.collect()
    }
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
    stays: f64,
    centre: f64,
    variance: f64,
}

impl Own {
    fn of(
        records: ArrayView2<'_, f64>,
        (of, column): (&Combination, usize),
        fit: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Self {
        let mut observed: Vec<f64> = of
            .rows
            .iter()
            .map(|&row| records[[row, column]])
            .filter(|value| value.is_finite())
            .collect();
        if observed.is_empty() {
            return Self {
                rows: 0.0,
                stays: 0.0,
                centre: 0.0,
                variance: 0.0,
            };
        }
        let (centre, spread) = fit(&mut observed);
        Self {
            rows: observed.len() as f64,
            stays: of.stays * observed.len() as f64 / of.rows.len() as f64,
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
    // As much as all differ more than those within; or as the centres themselves do, where the shared spread does not know rare ones.
    let mean = own.iter().map(|own| own.rows * own.centre).sum::<f64>() / rows.max(1.0);
    let apart = own.iter().map(|own| own.rows * (own.centre - mean).powi(2));
    let stays = own.iter().map(|own| own.stays).sum::<f64>();
    let noise = within * own.len() as f64 / stays.max(f64::MIN_POSITIVE);
    let between = (spread * spread - within)
        .max(apart.sum::<f64>() / rows.max(1.0) - noise)
        .max(0.0);
    let of = |own: &Own| {
        let noise = within / own.stays.max(f64::MIN_POSITIVE);
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
            ContextColumns {
                fields: vec![vec![1, 2]],
                calendar: None,
            },
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
            let context = Context::fit(records.view(), columns, (&shared.0, &shared.1), true, &fit);
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
        Context::fit(
            records.view(),
            columns,
            (&[centre, 0.0], &[spread, 1.0]),
            true,
            &mean,
        )
    }

    #[test]
    fn each_hour_is_judged_as_finely_as_days_allow() {
        let monday = 20_605;
        let cell = |context: &Context, day: i64, hour: i64| {
            let time = ((monday + day) * 24 + hour) as f64;
            let cell = context.cell(&[0.0, time], &mut Found::default());
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
                let cell = context.cell(&[value, time], &mut Found::default());
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
