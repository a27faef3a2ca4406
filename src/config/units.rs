//! Durations as people write them: `"30s"`, `"1h30m"`. A bare number is refused, because nobody can see its unit.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde::ser::Serializer;

/// Units of time in milliseconds, largest first.
const TIMES: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `"1h30m"`: whole numbers, each with a unit of d, h, m, s, ms.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration: write a whole number and a unit (ms, s, m, h, d), such as \"30s\" or \"1h30m\""
        )
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = rest[digits..].trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (_, scale) = TIMES
            .iter()
            .find(|(unit, _)| *unit == &after[..letters])
            .ok_or_else(wrong)?;
        total = number
            .checked_mul(*scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after[letters..].trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let (unit, scale) = TIMES
        .iter()
        .find(|(_, scale)| ms % scale == 0)
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / scale)
}

/// Durations, for serde's `with`.
pub mod time {
    use super::{Deserializer, Duration, Serializer, Text, de, format_duration, parse_duration};

    /// Writes one, as [`format_duration`].
    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*time))
    }

    /// Reads one, as [`parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let expected = Text("a duration with its unit, such as \"30s\" or \"1h30m\"");
        let text = from.deserialize_any(expected)?;
        parse_duration(&text).map_err(de::Error::custom)
    }
}

/// Durations that `""` leaves out, for serde's `with`.
pub mod optional_time {
    use super::{Deserializer, Duration, Serializer, Text, de, format_duration, parse_duration};

    /// Writes one.
    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time.map(format_duration).unwrap_or_default())
    }

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let expected = Text("a duration with its unit, such as \"30s\", or \"\" for none");
        let text = from.deserialize_any(expected)?;
        let some = (!text.is_empty()).then(|| parse_duration(&text));
        some.transpose().map_err(de::Error::custom)
    }
}

/// Text that `""` leaves out, for serde's `with`.
pub mod optional_text {
    use serde::Deserialize;

    use super::{Deserializer, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text.as_deref().unwrap_or_default())
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
    }
}

/// Takes a string and nothing else, so that a bare number gets the message that says what is expected.
struct Text(&'static str);

impl de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// One text, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "text, or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Reads a list, or the one that it would have.
pub fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(OneOrMany::deserialize(from)?.all())
}

/// Reads a text, or a list of what it has between commas.
pub fn with_commas<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(OneOrMany::deserialize(from)?.all().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1m 5s", 65_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5h",
            "3 weeks",
            "99999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "90m");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0_u64..u64::MAX / 2) {
            proptest::prop_assert_eq!(
                parse_duration(&format_duration(Duration::from_millis(ms))),
                Ok(Duration::from_millis(ms))
            );
        }
    }
}
