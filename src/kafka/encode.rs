//! What is emitted as Kafka messages: values in their form with CloudEvents' headers in binary mode, and dead letters as they came. The one place where values
//! become bytes.

use std::borrow::Cow;

use serde::Serialize;

use super::fields::Fields;
use super::forms::Form;
use crate::alert::{Alert, Drift, Score};
use crate::record::dead_letter::DeadLetter;
use crate::record::{Header, Key};
use crate::stream::{EpisodeId, Offset};
use crate::time::Timestamp;

/// A message to produce. Kafka's timestamp is that of sending.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    /// Kafka key.
    pub key: Option<&'a [u8]>,
    /// Kafka value.
    pub value: Option<Cow<'a, [u8]>>,
    /// Headers.
    pub headers: Vec<Header>,
}

/// Something that goes out as one message.
pub(super) trait Encode {
    /// The message, its value in the form of its topic.
    fn encode(&self, form: Form) -> Message<'_>;
}

impl Encode for Alert {
    fn encode(&self, form: Form) -> Message<'_> {
        let event = ("alert", self.event.name());
        let place = (&self.id, self.input.offset);
        let headers = cloud_event(event, &self.detector, place, (self.data_time, form));
        of_key(&self.key, (self, form), headers)
    }
}

impl Encode for Drift {
    fn encode(&self, form: Form) -> Message<'_> {
        let event = ("drift", self.event.name());
        let place = (&self.id, self.input.offset);
        let headers = cloud_event(event, &self.detector, place, (self.data_time, form));
        of_key(&self.key, (self, form), headers)
    }
}

impl Encode for Score {
    fn encode(&self, form: Form) -> Message<'_> {
        of_key(&self.key, (self, form), Vec::new())
    }
}

impl Encode for DeadLetter {
    /// As it came, whatever the form.
    fn encode(&self, _: Form) -> Message<'_> {
        Message {
            key: self.key.as_deref(),
            value: self.value.as_deref().map(Cow::Borrowed),
            headers: self.all_headers(),
        }
    }
}

/// A value about a key.
fn of_key<'a>(
    key: &'a Key,
    (value, form): (&(impl Fields + Serialize), Form),
    headers: Vec<Header>,
) -> Message<'a> {
    Message {
        key: Some(key.0.as_bytes()),
        value: Some(Cow::Owned(form.bytes(value))),
        headers,
    }
}

/// CloudEvents' attributes as Kafka headers: of what happened (`alert`, `open`) to an episode by a record.
fn cloud_event(
    (kind, event): (&str, &str),
    detector: &str,
    (episode, offset): (&EpisodeId, Offset),
    (time, form): (Timestamp, Form),
) -> Vec<Header> {
    let header = |name: &str, value: &str| Header {
        name: name.into(),
        value: Some(value.as_bytes().into()),
    };
    vec![
        header("ce_specversion", "1.0"),
        header("ce_type", &format!("anomalyd.{kind}.{event}")),
        header("ce_source", &format!("/anomalyd/{detector}")),
        header("ce_id", &format!("{episode}-{event}-{offset}")),
        header("ce_time", &time.rfc3339()),
        header("content-type", form.content_type()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{DriftEvent, InputRef, ScoredBy};
    use crate::model::card::ModelVersion;
    use crate::record::Key;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;

    #[test]
    fn a_score_is_of_its_key_and_is_read_back_as_it_was() {
        let score = Score {
            detector: "d".into(),
            key: Key("k".into()),
            time: Timestamp(1_500),
            score: 0.25,
            p_value: 1.0 / 3.0,
            alert: true,
            warming_up: false,
            scored_by: ScoredBy::Seasonal,
            input: InputRef {
                at: TopicPartition::new("t", 3),
                offset: Offset(9),
            },
            code: None,
        };
        let message = score.encode(Form::Json);
        assert_eq!(message.key, Some(&b"k"[..]));
        assert!(message.headers.is_empty());
        let value = message.value.as_deref().unwrap();
        assert_eq!(serde_json::from_slice::<Score>(value).unwrap(), score);
    }

    #[test]
    fn what_is_emitted_is_a_cloud_event_of_its_key() {
        let drift = Drift {
            schema: 1,
            id: "d/t/3/7-drift".into(),
            event: DriftEvent::Begin,
            detector: "d".into(),
            key: Key("k".into()),
            data_time: Timestamp(1_500),
            approx_drift_start_time: Timestamp(1_000),
            level: 2.0,
            usual_level: 1.0,
            scored_by: ScoredBy::Model(ModelVersion(4)),
            input: InputRef {
                at: TopicPartition::new("t", 3),
                offset: Offset(9),
            },
        };
        let message = drift.encode(Form::Json);
        assert_eq!(message.key, Some(&b"k"[..]));
        let value = message.value.as_deref().unwrap();
        assert_eq!(serde_json::from_slice::<Drift>(value).unwrap(), drift);
        let headers: Vec<(&str, &str)> = message
            .headers
            .iter()
            .map(|header| {
                let value = header.value.as_deref().unwrap();
                (&*header.name, std::str::from_utf8(value).unwrap())
            })
            .collect();
        assert_eq!(
            headers,
            [
                ("ce_specversion", "1.0"),
                ("ce_type", "anomalyd.drift.begin"),
                ("ce_source", "/anomalyd/d"),
                ("ce_id", "d/t/3/7-drift-begin-9"),
                ("ce_time", "1970-01-01T00:00:01.500Z"),
                ("content-type", "application/json"),
            ]
        );
    }
}
