//! Dead letters: a record that cannot be read goes on as it came, with headers that say why, in the names of Kafka Connect's
//! `errors.deadletterqueue.context.headers.enable`, which existing tools understand.

use super::{Header, RawRecord};
use crate::stream::TopicPartition;

/// What the names of the added headers begin with.
pub const PREFIX: &str = "__connect.errors.";

/// The headers of the dead letter for `record`: its own, untouched and first, then Kafka Connect's. `reason` is the short name of what is
/// wrong (as [`super::DecodeError::reason`] has it), `message` the whole of it. Depends on nothing but the arguments, so that a replay writes the
/// same; therefore the task is always 0.
pub fn headers(
    detector: &str,
    at: &TopicPartition,
    record: &RawRecord,
    reason: &str,
    message: &str,
) -> Vec<Header> {
    let added = [
        ("topic", at.topic.to_string()),
        ("partition", at.partition.0.to_string()),
        ("offset", record.offset.to_string()),
        ("timestamp", record.timestamp.0.to_string()),
        ("connector.name", detector.to_owned()),
        ("task.id", "0".to_owned()),
        ("stage", "VALUE_CONVERTER".to_owned()),
        ("class.name", "anomalyd.record.Decoder".to_owned()),
        ("exception.class.name", format!("anomalyd.{reason}")),
        ("exception.message", message.to_owned()),
    ];
    let added = added.into_iter().map(|(name, value)| Header {
        name: format!("{PREFIX}{name}").into(),
        value: Some(value.into_bytes().into()),
    });
    record.headers.iter().cloned().chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Offset;
    use crate::time::Timestamp;

    #[test]
    fn the_record_s_own_headers_come_first_and_kafka_connect_s_follow() {
        let own = Header {
            name: "trace".into(),
            value: None,
        };
        let record = RawRecord {
            source: 0,
            offset: Offset(17),
            timestamp: Timestamp(1),
            key: None,
            value: None,
            headers: vec![own.clone()],
        };
        let at = TopicPartition::new("records", 3);
        let headers = headers("pumps", &at, &record, "syntax", "no JSON: EOF");
        assert_eq!(headers[0], own);
        let added: Vec<(&str, &str)> = headers[1..]
            .iter()
            .map(|header| {
                let value = header.value.as_deref().expect("a value");
                (&*header.name, std::str::from_utf8(value).expect("UTF-8"))
            })
            .collect();
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
                ("__connect.errors.exception.class.name", "anomalyd.syntax"),
                ("__connect.errors.exception.message", "no JSON: EOF"),
            ]
        );
    }
}
