//! The calendar: what time of day and day of the week it was where a record was made, as a column beside its features.
//!
//! The column is context ([`crate::model::context`]): features are judged by what they were at that hour, and the hour is never judged. It
//! has whole hours of local time since 1970; those of a holiday are those of the Sunday that follows, so that a holiday counts as one.

use serde::{Deserialize, Serialize};

use super::problem::SchemaProblem;
use super::timestamp;
use crate::time::Timestamp;

/// The name of the column.
pub const COLUMN: &str = "calendar";

/// Minutes that a place may be ahead of UTC, or behind it, at most: 14 hours.
const OFFSET_MAX: i64 = 14 * 60;

const HOUR_MS: i64 = 3_600_000;
const HOURS_A_DAY: i64 = 24;
/// 1970 began on a Thursday, the fourth day of a week.
const FIRST_DAY: i64 = 3;
const SATURDAY: u16 = 5;
const SUNDAY: i64 = 6;

/// The calendar as users write it; unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalendarSpec {
    /// How far local time is ahead of UTC: `+01:00`, `-03:30`, `Z`. Empty: there is no calendar.
    pub utc_offset: String,
    /// Dates, `2026-12-25`, that count as Sundays.
    pub holidays: Vec<String>,
}

/// A checked calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    offset_ms: i64,
    /// Days since 1970, ascending.
    holidays: Vec<i64>,
}

impl CalendarSpec {
    /// Checks everything and says all that is wrong at once. `None`: no calendar is wished.
    pub fn check(&self) -> Result<Option<Calendar>, Vec<SchemaProblem>> {
        let mut problems = Vec::new();
        let mut problem = |key: String, problem: String| {
            problems.push(SchemaProblem {
                key: format!("calendar.{key}"),
                problem,
            });
        };
        let offset = offset(&self.utc_offset);
        if self.utc_offset.is_empty() && !self.holidays.is_empty() {
            let text = "must say how far local time is ahead of UTC where `holidays` are listed, such as \"+01:00\"";
            problem("utc_offset".into(), text.to_owned());
        } else if !self.utc_offset.is_empty() && offset.is_none() {
            let text = format!(
                "is `{}`, but must be \"Z\" or hours and minutes from \"-14:00\" to \"+14:00\", such as \"+01:00\"",
                self.utc_offset
            );
            problem("utc_offset".into(), text);
        }
        let mut holidays = Vec::new();
        for (at, text) in self.holidays.iter().enumerate() {
            match timestamp::date(text) {
                Some(day) => holidays.push(day),
                None => problem(
                    format!("holidays[{at}]"),
                    format!("`{text}` is not a date such as 2026-12-25"),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        holidays.sort_unstable();
        Ok(offset.map(|minutes| Calendar {
            offset_ms: minutes * 60_000,
            holidays,
        }))
    }
}

impl Calendar {
    /// What the column has at `time`.
    pub fn value(&self, time: Timestamp) -> f64 {
        let hours = time.0.saturating_add(self.offset_ms).div_euclid(HOUR_MS);
        let (day, hour) = (hours.div_euclid(HOURS_A_DAY), hours.rem_euclid(HOURS_A_DAY));
        let day = match self.holidays.binary_search(&day) {
            Ok(_) => day + SUNDAY - weekday(day),
            Err(_) => day,
        };
        (day * HOURS_A_DAY + hour) as f64
    }
}

/// A value of the column, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Days since 1970.
    pub day: i64,
    /// 0 for Monday to 6 for Sunday.
    pub weekday: u16,
    /// 0 to 23.
    pub hour: u16,
}

impl Hour {
    /// `None`: no value of the column.
    pub fn of(value: f64) -> Option<Self> {
        let hours = value.is_finite().then_some(value as i64)?;
        Some(Self::since_1970(hours))
    }

    /// That of Greenwich at `time`.
    pub fn utc(time: Timestamp) -> Self {
        Self::since_1970(time.0.div_euclid(HOUR_MS))
    }

    fn since_1970(hours: i64) -> Self {
        let day = hours.div_euclid(HOURS_A_DAY);
        Self {
            day,
            weekday: weekday(day) as u16,
            hour: hours.rem_euclid(HOURS_A_DAY) as u16,
        }
    }

    /// The part of the week: 0 for working days, 1 for the weekend.
    pub fn part(self) -> usize {
        usize::from(self.weekday >= SATURDAY)
    }
}

fn weekday(day: i64) -> i64 {
    day.saturating_add(FIRST_DAY).rem_euclid(7)
}

/// Minutes ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two = |text: &str| -> Option<i64> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= OFFSET_MAX).then_some(sign * all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(utc_offset: &str, holidays: &[&str]) -> Result<Option<Calendar>, Vec<String>> {
        let spec = CalendarSpec {
            utc_offset: utc_offset.to_owned(),
            holidays: holidays.iter().map(|&day| day.to_owned()).collect(),
        };
        let keys = |problems: Vec<SchemaProblem>| problems.into_iter().map(|p| p.key).collect();
        spec.check().map_err(keys)
    }

    fn at(text: &str) -> Timestamp {
        timestamp::read(text).unwrap()
    }

    #[test]
    fn the_hour_and_the_day_are_those_of_the_place() {
        let hour = |offset: &str, text: &str| {
            let calendar = calendar(offset, &["2026-12-25", "2026-12-27"])
                .unwrap()
                .unwrap();
            let hour = Hour::of(calendar.value(at(text))).unwrap();
            (hour.weekday, hour.hour)
        };
        // 2026-11-30 is a Monday.
        assert_eq!(hour("Z", "2026-11-30T00:00:00Z"), (0, 0));
        assert_eq!(hour("+00:00", "2026-11-29T23:59:59Z"), (6, 23));
        assert_eq!(hour("+05:30", "2026-11-29T18:30:00Z"), (0, 0));
        assert_eq!(hour("-08:00", "2026-11-30T07:00:00Z"), (6, 23));
        assert_eq!(hour("-08:00", "1970-01-01T00:00:00Z"), (2, 16));
        // A Friday that is a holiday, by local time, and a Sunday that is one, too.
        assert_eq!(hour("+01:00", "2026-12-24T23:00:00Z"), (6, 0));
        assert_eq!(hour("+01:00", "2026-12-25T23:00:00Z"), (5, 0));
        assert_eq!(hour("+01:00", "2026-12-27T11:00:00Z"), (6, 12));
        assert_eq!(Hour::of(f64::NAN), None);
    }

    #[test]
    fn what_is_wrong_is_said_at_once_and_nothing_is_no_calendar() {
        assert_eq!(calendar("", &[]), Ok(None));
        let keys = |offset: &str, holidays: &[&str]| calendar(offset, holidays).unwrap_err();
        for wrong in [
            "1",
            "+1:00",
            "01:00",
            "+14:01",
            "+00:60",
            "Europe/Berlin",
            "+ 1:00",
            "é",
        ] {
            assert_eq!(keys(wrong, &[]), ["calendar.utc_offset"], "{wrong}");
        }
        assert_eq!(keys("", &["2026-12-25"]), ["calendar.utc_offset"]);
        assert_eq!(
            keys("+25:00", &["2026-02-29", "2028-02-29", "25.12.2026"]),
            [
                "calendar.utc_offset",
                "calendar.holidays[0]",
                "calendar.holidays[2]"
            ]
        );
    }
}
