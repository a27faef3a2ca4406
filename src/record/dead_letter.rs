//! Dead letters: a record that cannot be read, or comes too late, goes on as it came, with headers that say why, in the names of Kafka Connect's
//! `errors.deadletterqueue.context.headers.enable`, which existing tools understand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{DecodeError, Header};
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// What the names of the added headers begin with.
pub const PREFIX: &str = "__connect.errors.";

/// A record that is sent on as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The detector that refused it.
    pub detector: Arc<str>,
    /// Its partition.
    pub at: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Its own Kafka timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its own headers.
    pub headers: Vec<Header>,
    /// Why it was not scored.
    pub reason: Refusal,
}

/// Why a record was not scored. Its text is the whole of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// It cannot be read.
    Unreadable(DecodeError),
    /// It is older than the newest record of its key by more than this.
    Late(Duration),
}

impl Refusal {
    /// A short name, of low cardinality.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.reason(),
            Self::Late(_) => "late",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Late(bound) => write!(
                f,
                "more than {bound:?} older than the newest record of its key"
            ),
        }
    }
}

impl DeadLetter {
    /// The headers that it goes on with: its own, untouched and first, then Kafka Connect's. Depends on nothing but the letter, so that a replay
    /// writes the same; therefore the task is always 0.
    #[must_use]
    pub fn all_headers(&self) -> Vec<Header> {
        let added = [
            ("topic", self.at.topic.to_string()),
            ("partition", self.at.partition.0.to_string()),
            ("offset", self.offset.to_string()),
            ("timestamp", self.timestamp.0.to_string()),
            ("connector.name", self.detector.to_string()),
            ("task.id", "0".to_owned()),
            ("stage", "VALUE_CONVERTER".to_owned()),
            ("class.name", "anomalyd.record.Decoder".to_owned()),
            (
                "exception.class.name",
                format!("anomalyd.{}", self.reason.name()),
            ),
            ("exception.message", self.reason.to_string()),
        ];
        let added = added.into_iter().map(|(name, value)| Header {
            name: format!("{PREFIX}{name}").into(),
            value: Some(value.into_bytes().into()),
        });
        self.headers.iter().cloned().chain(added).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_s_own_headers_come_first_and_kafka_connect_s_follow() {
        let own = Header {
            name: "trace".into(),
            value: None,
        };
        let letter = DeadLetter {
            detector: "pumps".into(),
            at: TopicPartition::new("records", 3),
            offset: Offset(17),
            timestamp: Timestamp(1),
            key: None,
            value: None,
            headers: vec![own.clone()],
            reason: Refusal::Late(Duration::from_secs(5)),
        };
        let headers = letter.all_headers();
        assert_eq!(headers[0], own);
        let added: Vec<(&str, &str)> = headers[1..]
            .iter()
            .map(|header| {
                let value = header.value.as_deref().expect("a value");
                (&*header.name, std::str::from_utf8(value).expect("UTF-8"))
            })
            .collect();
        let message = "more than 5s older than the newest record of its key";
        assert_eq!(
            added,
            [
                ("__connect.errors.topic", "records"),
                ("__connect.errors.partition", "3"),
                ("__connect.errors.offset", "17"),
                ("__connect.errors.timestamp", "1"),
                ("__connect.errors.connector.name", "pumps"),
                ("__connect.errors.task.id", "0"),
                ("__connect.errors.stage", "VALUE_CONVERTER"),
                ("__connect.errors.class.name", "anomalyd.record.Decoder"),
                ("__connect.errors.exception.class.name", "anomalyd.late"),
                ("__connect.errors.exception.message", message),
            ]
        );
    }
}
