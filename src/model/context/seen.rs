//! In which combinations of categories and hours records were seen.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayView2;

use super::grain::Grain;
use crate::record::calendar::Hour;
use crate::record::schema::ContextColumns;

/// Rows of a combination of categories from which on it has a centre and a spread of its own.
const ROWS_MIN: usize = 20;

/// Days on which an hour must have been seen to have a centre of its own: what one day was like says nothing of the next.
const DAYS_MIN: usize = 2;

/// Rows of a combination that tell as much of its centre as one by itself would: neighbours are of one stay in the mode.
const ROWS_A_STAY: f64 = 10.0;

/// The code of a field that was not observed.
const UNSEEN: u16 = u16::MAX;

/// Rows by combination.
type Rows = BTreeMap<Vec<u16>, Vec<usize>>;

/// A combination that was seen often enough.
pub struct Combination {
    /// Of its fields, and of its hour.
    pub code: Vec<u16>,
    /// In which rows.
    pub rows: Vec<usize>,
    /// How many rows by themselves would tell as much of its centre: neighbours are of one stay in a mode, or of one day.
    pub stays: f64,
}

/// In which combinations records were seen: by grain of the calendar, or once without one.
pub struct Seen<'a> {
    records: ArrayView2<'a, f64>,
    calendar: Option<usize>,
    by_grain: Vec<(Grain, Rows)>,
}

impl<'a> Seen<'a> {
    /// In all of `records`.
    pub fn in_all(records: ArrayView2<'a, f64>, columns: &ContextColumns) -> Self {
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
    pub fn commonest(&self) -> Option<usize> {
        let (_, finest) = self.by_grain.first()?;
        let most = finest.values().max_by_key(|rows| rows.len());
        most.and_then(|rows| rows.first()).copied()
    }

    /// Whether working days were seen on too few days to tell anything, or weekends, and the others were not.
    pub fn new_days(&self) -> [bool; 2] {
        let mut days = [BTreeSet::new(), BTreeSet::new()];
        let values = self.calendar.map(|column| self.records.column(column));
        for hour in values.iter().flatten().filter_map(|value| Hour::of(*value)) {
            days[hour.part()].insert(hour.day);
        }
        let few = days.map(|days| days.len() < DAYS_MIN);
        [few[0] && !few[1], few[1] && !few[0]]
    }

    /// The combinations that were seen often enough, by grain.
    pub fn often_enough(self) -> Vec<Vec<Combination>> {
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
pub fn code_of(fields: &[Vec<usize>], value: impl Fn(usize) -> f64, code: &mut Vec<u16>) {
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
