//! Event times as records write them: RFC 3339 text, or a number of seconds, milli-, micro- or nanoseconds since 1970, which a text may be, too.
//!
//! Times before 1970 are refused: Kafka takes no negative timestamp, and what is written carries the event time.

use crate::time::Timestamp;

/// The time that a cell of a file names: a number or a text, as in the functions below.
pub fn read(text: &str) -> Result<Timestamp, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => from_number(text, value),
        _ => from_text(text),
    }
}

/// The time that `text` names. RFC 3339; a space may stand for the `T`; without an offset it is UTC. Or a number, if it has as many digits as one of
/// today: `20240131` is a date.
pub(super) fn from_text(text: &str) -> Result<Timestamp, String> {
    let time = match plain_utc(text.as_bytes()) {
        Some(time) => time,
        None if is_epoch(text) => return from_number(text, text.parse().unwrap_or(f64::NAN)),
        None => any_rfc3339(text)
            .ok_or_else(|| format!("`{}` is not an RFC 3339 time", shortened(text)))?,
    };
    if time < 0 {
        return Err(format!("`{}` is before 1970", shortened(text)));
    }
    Ok(Timestamp(time))
}

/// Whether a text is a number of seconds, milli-, micro- or nanoseconds of our days: from 2001 to 2286 all have these many digits before the point.
fn is_epoch(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(whole.len(), 10 | 13 | 16 | 19) && digits(whole) && digits(fraction)
}

/// The time that a number names; its magnitude tells the unit. `text` is the number as written, `value` its value.
///
/// Below 10^11 seconds (until the year 5138), below 10^14 milliseconds, below 10^17 microseconds, below 10^20 nanoseconds.
pub(super) fn from_number(text: &str, value: f64) -> Result<Timestamp, String> {
    if value < 0.0 {
        return Err(format!("{} is before 1970", shortened(text)));
    }
    // Whole numbers exactly: nanoseconds have more digits than a double.
    if let Ok(whole) = text.parse::<u128>() {
        return match whole {
            0..100_000_000_000 => Some(whole * 1_000),
            100_000_000_000..100_000_000_000_000 => Some(whole),
            100_000_000_000_000..100_000_000_000_000_000 => Some(whole / 1_000),
            100_000_000_000_000_000..100_000_000_000_000_000_000 => Some(whole / 1_000_000),
            _ => None,
        }
        .and_then(|time| i64::try_from(time).ok())
        .map(Timestamp)
        .ok_or_else(|| too_large(text));
    }
    let time = if value < 1e11 {
        value * 1e3
    } else if value < 1e14 {
        value
    } else if value < 1e17 {
        value / 1e3
    } else if value < 1e20 {
        value / 1e6
    } else {
        return Err(too_large(text));
    };
    Ok(Timestamp(time.floor() as i64))
}

fn too_large(text: &str) -> String {
    format!("{} is too large for a time since 1970", shortened(text))
}

/// At most 40 characters of what the record said.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `2026-11-24T00:04:34[.123…](Z|+00:00)` in milliseconds, from 1970 on: what nearly all producers write. `None`: look closer.
fn plain_utc(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_at_checked(19)?;
    if head[4] != b'-' || head[7] != b'-' || head[13] != b':' || head[16] != b':' {
        return None;
    }
    if head[10] != b'T' && head[10] != b' ' {
        return None;
    }
    let two = |at: usize| Some(digit(head[at])? * 10 + digit(head[at + 1])?);
    let year = two(0)? * 100 + two(2)?;
    let (month, day) = (two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    let fits = 1970 <= year
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 59;
    if !fits {
        return None;
    }
    let (millis, zone) = fraction(rest)?;
    if zone != b"Z" && zone != b"+00:00" {
        return None;
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000 + millis)
}

/// Days from 1970-01-01 to the date `2026-12-25` that `text` names.
pub(super) fn date(text: &str) -> Option<i64> {
    let date: jiff::civil::Date = (text.len() == 10).then(|| text.parse().ok()).flatten()?;
    Some(days_since_1970(
        date.year().into(),
        date.month().into(),
        date.day().into(),
    ))
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

/// The milliseconds of `.123456` at the head of `text`, cut off, and what follows. Nine digits at most, as jiff reads them.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let millis = (0..3).fold(0, |sum, at| {
        let value = if at < count {
            i64::from(digits[at] - b'0')
        } else {
            0
        };
        sum * 10 + value
    });
    Some((millis, &digits[count..]))
}

fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: H. Hinnant, "chrono-compatible low-level date algorithms".
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Everything else that RFC 3339 allows, and times without an offset, by jiff.
fn any_rfc3339(text: &str) -> Option<i64> {
    // jiff also reads zone names in brackets and week dates: no RFC 3339.
    if text.len() > 40 || text.contains('[') {
        return None;
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_with_and_without_offset_are_read() {
        let check = |text: &str, expected: i64| {
            assert_eq!(from_text(text), Ok(Timestamp(expected)), "{text}");
        };
        check("1970-01-01T00:00:00Z", 0);
        check("2023-11-14T22:13:20Z", 1_700_000_000_000);
        check("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123);
        check("2023-11-14T22:13:20.1Z", 1_700_000_000_100);
        check("2023-11-14T22:13:20+00:00", 1_700_000_000_000);
        check("2023-11-15T00:13:20+02:00", 1_700_000_000_000);
        check("2023-11-14T17:13:20.5-05:00", 1_700_000_000_500);
        check("2023-11-14t22:13:20z", 1_700_000_000_000);
        check("2023-11-14T22:13:20", 1_700_000_000_000);
        check("2023-11-14 22:13:20", 1_700_000_000_000);
        check("2024-02-29T00:00:00Z", 1_709_164_800_000);
        check("20240229", 1_709_164_800_000);
        check("1700000000", 1_700_000_000_000);
        check("1700000000.25", 1_700_000_000_250);
        check("1700000000123", 1_700_000_000_123);
        check("1700000000123456", 1_700_000_000_123);
        check("1700000000123456789", 1_700_000_000_123);
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_text() {
        for text in [
            "",
            "yesterday",
            "2023-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20.Z",
            "1969-12-31T23:59:59Z",
            "170000000",
            "20240131120000",
            "1.7e9",
            "-1700000000",
            " 1700000000",
            "1700000000.",
            "2023-11-14T22:13:20ZZ",
            "2023-11-14T22:13:20+00:00[UTC]",
        ] {
            let problem = from_text(text).expect_err(text);
            assert!(problem.contains(text), "{problem}");
        }
    }

    #[test]
    fn magnitude_tells_the_unit() {
        let check = |text: &str, expected: i64| {
            let value = text.parse().expect("a number");
            assert_eq!(from_number(text, value), Ok(Timestamp(expected)), "{text}");
        };
        check("1700000000", 1_700_000_000_000);
        check("1700000000.5", 1_700_000_000_500);
        check("1700000000123", 1_700_000_000_123);
        check("1700000000123456", 1_700_000_000_123);
        check("1700000000123999999", 1_700_000_000_123);
        check("1.7e9", 1_700_000_000_000);
        check("0", 0);
        assert!(from_number("-1", -1.0).is_err());
        assert!(from_number("1e300", 1e300).is_err());
        assert!(from_number("100000000000000000000", 1e20).is_err());
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_jiff(millis in 0_i64..253_402_207_200_000, digits in 0_usize..=9) {
            let time = jiff::Timestamp::from_millisecond(millis).expect("in range");
            let text = format!("{time:.digits$}");
            let expected = text.parse::<jiff::Timestamp>().expect("its own text").as_millisecond();
            prop_assert_eq!(plain_utc(text.as_bytes()), Some(expected));
        }

        #[test]
        fn the_short_way_takes_nothing_that_jiff_refuses(
            text in "(1970|2024|2023|2100)-[0-3][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?Z?"
        ) {
            if let Some(time) = plain_utc(text.as_bytes()) {
                prop_assert_eq!(Some(time), any_rfc3339(&text));
            }
        }
    }
}
