//! Names, and durations as people write them: `"30s"`, `"1h30m"`, `"10 minutes"`. A bare number is refused, because nobody can see its unit.

use std::fmt;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
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

/// Reads `"1h30m"`, `"10 minutes"`, `"1.5h"` or `"2 weeks"`: jiff's friendly format, of whole milliseconds. A day has 24 hours; months and years,
/// which have no length of their own, are refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let milliseconds = || {
        let span = SpanParser::new().parse_span(text.trim()).ok()?;
        let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        let whole = exact.subsec_nanos() % 1_000_000 == 0;
        u64::try_from(exact.as_millis()).ok().filter(|_| whole)
    };
    milliseconds().map(Duration::from_millis).ok_or_else(|| {
        format!(
            "`{text}` is not a duration: write numbers with units from ms to weeks, such as \"30s\", \"1h30m\" or \"10 minutes\""
        )
    })
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

/// A name that can be part of topic names, transactional ids and metric labels.
pub(super) fn plain_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
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
            ("10 minutes", 600_000),
            ("1.5h", 5_400_000),
            ("2 weeks", 1_209_600_000),
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
            "1s ago",
            "1 month",
            "1us",
            "99999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "90m");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0_u64..100_000_000_000_000) {
            proptest::prop_assert_eq!(
                parse_duration(&format_duration(Duration::from_millis(ms))),
                Ok(Duration::from_millis(ms))
            );
        }
    }
}
