//! What records look like that are no JSON: which settings would read them.

use crate::record::{RecordBatch, wire};

/// What the first record looks like that has a value, and what to set; `None` where none has.
#[must_use]
pub fn looks(batch: &RecordBatch) -> Option<String> {
    let record = batch
        .records()
        .iter()
        .find(|record| batch.value(record).is_some())?;
    let value = batch.value(record)?;
    let named = record
        .headers
        .iter()
        .any(|header| &*header.name == wire::HEADER);
    let said = match wire::id_before(value) {
        _ if named => Some(format!(
            "the header {}, which names its schema",
            wire::HEADER
        )),
        Some((id, _)) => Some(format!("a zero byte and the id {id} of a schema before it")),
        None => None,
    };
    if let Some(said) = said {
        return Some(format!(
            "the first has {said}, as Confluent's serializers write Avro and Protobuf: try --set input.format=avro (or protobuf) --set registry.url=http://REGISTRY:8081"
        ));
    }
    let text = std::str::from_utf8(value).ok();
    Some(match text.filter(|text| !text.contains(|c: char| c.is_control() && !c.is_whitespace())) {
        Some(_) => "the first is text: if it is a line of CSV, name its cells: --set input.format=csv --set 'input.csv.columns=[\"ts\", \"pump\", \"flow\"]'".to_owned(),
        None => format!(
            "the first is {} bytes that are no text: if it is plain Avro or Protobuf, give its schema: --set input.format=avro --set 'input.avro.schema=${{file:pump.avsc}}' (or input.format=protobuf and input.protobuf.schema)",
            value.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;

    fn of(value: &[u8], headers: Vec<Header>) -> String {
        let mut batch = RecordBatch::default();
        let at = TopicPartition::new("t", 0);
        batch.push(&at, (Offset(0), Timestamp(0)), None, None, Vec::new());
        batch.push(&at, (Offset(1), Timestamp(0)), None, Some(value), headers);
        looks(&batch).unwrap()
    }

    #[test]
    fn what_would_read_records_is_told_by_how_they_look() {
        let id = of(b"\0\0\0\x01\x02abc", Vec::new());
        assert!(
            id.contains("the id 258 of a schema") && id.contains("registry.url"),
            "{id}"
        );
        let header = Header {
            name: wire::HEADER.into(),
            value: None,
        };
        assert!(of(b"abc", vec![header]).contains("registry.url"));
        assert!(of(b"1,P-1,2.5\r\n", Vec::new()).contains("input.csv.columns"));
        let bytes = of(&[7, 200, 1, 0, 255], Vec::new());
        assert!(
            bytes.contains("is 5 bytes") && bytes.contains("input.avro.schema"),
            "{bytes}"
        );
        assert_eq!(looks(&RecordBatch::default()), None);
    }
}
