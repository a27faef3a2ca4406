//! Absence: a feature that a key's records cease to have, though they go on: a sensor that broke off, or a field that a new version renamed.
//!
//! A record is judged by what was observed of it, so a dead sensor is no anomaly by any model. It is told as the silence of a key is: missing from several
//! times as many records in a row as it ever was before. Features that went together are told together.

use super::Params;
use super::silence::RECORDS_MIN;
use crate::stream::Offset;
use crate::time::Timestamp;

/// Records with a feature before its absence can mean anything.
const SEEN_MIN: u32 = 2 * RECORDS_MIN as u32;

/// What is known of a feature of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Records in a row that lack it at present.
    pub run: u32,
    /// The largest number of records in a row that ever did.
    pub longest: u32,
    /// Records that had it.
    pub seen: u32,
    /// The first of those that lack it at present, and its time.
    pub first: (Offset, Timestamp),
    /// It was told.
    pub open: bool,
    /// It would have been told, but for a storm.
    pub suppressed: bool,
}

/// Features that went together, or came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Whether they went.
    pub began: bool,
    /// The first record that lacks them.
    pub after: Offset,
    /// Its time.
    pub since: Timestamp,
    /// Their columns.
    pub columns: Vec<usize>,
    /// How many records lack them.
    pub records: u32,
    /// The same as a multiple of the longest run before.
    pub strangeness: f64,
    /// Records that had them.
    pub seen: u32,
    /// That they went was not told, because of a storm.
    pub suppressed: bool,
}

/// The features of one key, D of them; none until some record lacks one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absences {
    /// By column.
    pub columns: Vec<Absence>,
}

impl Absences {
    /// Takes in a record, its D values, NaN where a feature is missing, after `before` others of its key. Says what went, and what came back.
    pub fn take(
        &mut self,
        row: &[f64],
        before: u64,
        (offset, time): (Offset, Timestamp),
        params: &Params,
    ) -> Vec<Turn> {
        if self.columns.len() != row.len() {
            // Nearly always; or the features are others.
            if !row.iter().any(|value| value.is_nan()) {
                return Vec::new();
            }
            let seen = u32::try_from(before).unwrap_or(u32::MAX);
            let all = Absence {
                seen,
                ..Absence::default()
            };
            self.columns = vec![all; row.len()];
        }
        for (absence, value) in self.columns.iter_mut().zip(row) {
            if value.is_nan() {
                if absence.run == 0 {
                    absence.first = (offset, time);
                }
                absence.run = absence.run.saturating_add(1);
            }
        }
        let mut turns = Vec::new();
        for (column, value) in row.iter().enumerate() {
            if !value.is_nan() {
                turns.extend(self.come(column));
            } else if !self.columns[column].open && self.columns[column].is_long(time, params) {
                turns.extend(self.go(column, time, params));
            }
        }
        turns
    }

    /// A feature went, and with it all that are missing for long since the same record; nothing where one of those was told already.
    fn go(&mut self, column: usize, now: Timestamp, params: &Params) -> Option<Turn> {
        let first = self.columns[column];
        let same = |absence: &Absence| absence.run > 0 && absence.first == first.first;
        let told = self
            .columns
            .iter()
            .any(|absence| same(absence) && absence.open);
        let mut columns = Vec::new();
        for (at, absence) in self.columns.iter_mut().enumerate() {
            if same(absence) && absence.is_long(now, params) {
                absence.open = true;
                columns.push(at);
            }
        }
        (!told).then(|| first.turn(true, columns))
    }

    /// A feature is there; answers if it was told to be missing, once all are back that went with it.
    fn come(&mut self, column: usize) -> Option<Turn> {
        let absence = &mut self.columns[column];
        let was = *absence;
        *absence = Absence {
            run: 0,
            longest: was.longest.max(was.run),
            seen: was.seen.saturating_add(1),
            open: false,
            suppressed: false,
            ..was
        };
        let same = |other: &Absence| other.open && other.first == was.first;
        (was.open && !self.columns.iter().any(same)).then(|| was.turn(false, vec![column]))
    }

    /// Says that what went at a record was not told.
    pub fn suppress(&mut self, after: Offset) {
        for absence in &mut self.columns {
            absence.suppressed |= absence.open && absence.first.0 == after;
        }
    }

    /// What is missing at present and was told, once for those that went together.
    pub fn open(&self) -> impl Iterator<Item = Turn> {
        let first = |at: usize| {
            let same = |other: &Absence| other.open && other.first == self.columns[at].first;
            self.columns.iter().position(same) == Some(at)
        };
        let told = self.columns.iter().enumerate();
        told.filter(move |(at, absence)| absence.open && first(*at))
            .map(|(at, absence)| absence.turn(true, vec![at]))
    }
}

impl Absence {
    /// Whether it is missing for so long that it is told.
    fn is_long(&self, now: Timestamp, params: &Params) -> bool {
        let patience = f64::from(self.longest.max(1)) * params.silence_factor;
        params.silence_factor >= 1.0
            && self.seen >= SEEN_MIN
            && f64::from(self.run) > patience
            && now.since(self.first.1) >= params.silence_min
    }

    fn turn(&self, began: bool, columns: Vec<usize>) -> Turn {
        Turn {
            began,
            after: self.first.0,
            since: self.first.1,
            columns,
            records: self.run,
            strangeness: f64::from(self.run) / f64::from(self.longest.max(1)),
            seen: self.seen,
            suppressed: self.suppressed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NAN: f64 = f64::NAN;

    fn params() -> Params {
        Params {
            silence_factor: 3.0,
            silence_min: Duration::from_millis(20),
            ..Params::default()
        }
    }

    /// Takes records, ten milliseconds apart; says at which something turned.
    fn turns(absences: &mut Absences, from: i64, rows: &[&[f64]]) -> Vec<(i64, Turn)> {
        let mut all = Vec::new();
        for (at, row) in (from..).zip(rows) {
            let place = (Offset(at), Timestamp(10 * at));
            let found = absences.take(row, at as u64, place, &params());
            all.extend(found.into_iter().map(|turn| (at, turn)));
        }
        all
    }

    #[test]
    fn what_goes_is_told_once_with_all_that_goes_with_it_and_again_when_it_is_back() {
        let (whole, gone): (&[f64], &[f64]) = (&[1.0, 2.0, 3.0], &[NAN, 2.0, NAN]);
        let mut absences = Absences::default();
        assert_eq!(turns(&mut absences, 0, &[whole; 100]), []);
        assert!(absences.columns.is_empty(), "nothing is remembered");
        let told = turns(&mut absences, 100, &[gone; 50]);
        let [(at, turn)] = &told[..] else {
            panic!("{told:?}")
        };
        // Missing from more than three in a row.
        assert_eq!((*at, turn.began, turn.after), (103, true, Offset(100)));
        assert_eq!(turn.columns, [0, 2]);
        assert_eq!(absences.open().count(), 1);
        // One is back, then the other.
        assert_eq!(turns(&mut absences, 150, &[&[1.0, 2.0, NAN]]), []);
        let back = turns(&mut absences, 151, &[whole]);
        assert_eq!(
            (back.len(), back[0].1.began, back[0].1.after),
            (1, false, Offset(100))
        );
        assert_eq!(absences.open().count(), 0);
        // As long as before is nothing new.
        assert_eq!(turns(&mut absences, 152, &[gone; 140]), []);
        let mut much_longer = turns(&mut absences, 292, &[gone; 30]);
        assert!(much_longer.pop().unwrap().1.began);
    }

    #[test]
    fn what_often_is_missing_or_never_was_there_is_not_told() {
        let mut absences = Absences::default();
        let often: Vec<&[f64]> = (0..400)
            .map(|i| -> &[f64] {
                if i % 5 < 3 { &[NAN, NAN] } else { &[1.0, NAN] }
            })
            .collect();
        assert_eq!(turns(&mut absences, 0, &often), []);
        assert_eq!(absences.columns[1].seen, 0);
        assert_eq!(absences.columns[0].longest, 3);
        // Few records say little.
        let mut young = Absences::default();
        let rows: Vec<&[f64]> = (0..60)
            .map(|i| -> &[f64] {
                if i < 15 { &[1.0] } else { &[NAN] }
            })
            .collect();
        assert_eq!(turns(&mut young, 0, &rows), []);
        // A factor of 0 turns it off.
        let off = Params {
            silence_factor: 0.0,
            ..params()
        };
        let mut absences = Absences::default();
        for at in 0..500 {
            let place = (Offset(at), Timestamp(10 * at));
            let row = [if at < 200 { 1.0 } else { NAN }];
            assert_eq!(absences.take(&row, at as u64, place, &off), []);
        }
    }
}
