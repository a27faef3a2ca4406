//! Where a record says which schema it was written by, as Confluent's serializers write it: before the value (a zero byte, and a number in four bytes, big
//! end first), or in the header `__value_schema_id` (the same; or a byte 1, and a GUID in 16 bytes), which goes before.

use std::collections::BTreeSet;

use super::envelope::Envelope;
use super::event;
use super::remembered::syntax;
use super::writers::{SchemaId, Writer, Writers};
use super::{DecodeError, Header, RecordBatch};

/// The header that names the schema of a value.
pub const HEADER: &str = "__value_schema_id";

/// A value, and what it says of its schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Framed<'v> {
    /// Its schema.
    pub id: SchemaId,
    /// What follows the id in its header, where that has the id.
    pub header: Option<&'v [u8]>,
    /// The value: what follows the id, where the id stands before it.
    pub body: &'v [u8],
}

/// An id, and what follows it.
fn split(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    match bytes {
        [0, a, b, c, d, rest @ ..] => {
            let number = u32::from_be_bytes([*a, *b, *c, *d]);
            Some((SchemaId::Number(number), rest))
        }
        [1, rest @ ..] => {
            let (guid, rest) = rest.split_first_chunk()?;
            Some((SchemaId::Guid(*guid), rest))
        }
        _ => None,
    }
}

/// What a value says of its schema; `format` is for messages. Of several headers the last one counts.
pub(super) fn framed<'v>(
    value: &'v [u8],
    headers: &'v [Header],
    format: &str,
) -> Result<Framed<'v>, DecodeError> {
    let header = headers.iter().rfind(|header| &*header.name == HEADER);
    if let Some(bytes) = header.and_then(|header| header.value.as_deref()) {
        let (id, rest) = split(bytes).ok_or_else(|| {
            let problem = "is a header that is no id of a schema: neither a zero byte and a number in four bytes, nor a byte 1 and a GUID in 16";
            DecodeError::Field {
                field: HEADER.to_owned(),
                problem: problem.to_owned(),
            }
        })?;
        return Ok(Framed {
            id,
            header: Some(rest),
            body: value,
        });
    }
    match id_before(value) {
        Some((id, body)) => Ok(Framed {
            id,
            header: None,
            body,
        }),
        None => Err(syntax(&format!(
            "is not {format} in the wire format: it does not begin with a zero byte and the id of a schema, nor has it the header `{HEADER}`"
        ))),
    }
}

/// The id before a value, and what follows it.
#[must_use]
pub fn id_before(value: &[u8]) -> Option<(SchemaId, &[u8])> {
    // A GUID stands in headers only: a value that begins with a byte 1 would be a guess.
    split(value).filter(|(id, _)| matches!(id, SchemaId::Number(_)))
}

/// The schema of this id.
pub(super) fn writer(writers: Option<&Writers>, id: SchemaId) -> Result<&Writer, DecodeError> {
    let problem = match writers.and_then(|writers| writers.0.get(&id)) {
        Some(Ok(writer)) => return Ok(writer),
        Some(Err(problem)) => format!("has the schema {id}: {problem}"),
        None => format!("has the schema {id}, which nobody looked up"),
    };
    Err(syntax(&problem))
}

/// A JSON text without the id that may stand before it: JSON never begins with a zero byte.
pub fn json(value: &[u8]) -> &[u8] {
    match value {
        [0, _, _, _, _, rest @ ..] => rest,
        _ => value,
    }
}

/// All ids in a batch.
#[must_use]
pub fn ids(batch: &RecordBatch, envelope: Envelope) -> BTreeSet<SchemaId> {
    let values = batch.records().iter().filter_map(|record| {
        let value = batch.value(record)?;
        let value = event::record(envelope, value, &record.headers)?;
        let headers = event::headers(envelope, &record.headers);
        framed(&value, headers, "").ok().map(|framed| framed.id)
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: Option<&[u8]>) -> Header {
        Header {
            name: HEADER.into(),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn an_id_stands_before_the_value_or_in_a_header_which_goes_before() {
        let value = [0, 0, 0, 1, 2, 9, 9];
        let null = [header(None)];
        let plain = framed(&value, &null, "Avro").unwrap();
        let (id, body) = (SchemaId::Number(0x102), &[9, 9][..]);
        assert_eq!((plain.id, plain.header, plain.body), (id, None, body));
        let guid: Vec<u8> = [1].into_iter().chain(0..16).chain([7]).collect();
        let headers = [header(Some(b"x")), header(Some(&guid))];
        let by_guid = framed(&value, &headers, "Avro").unwrap();
        assert_eq!(
            by_guid.id.to_string(),
            "00010203-0405-0607-0809-0a0b0c0d0e0f"
        );
        assert_eq!((by_guid.header, by_guid.body), (Some(&[7][..]), &value[..]));
        let number = [header(Some(&[0, 0, 0, 0, 5]))];
        let by_number = framed(b"x", &number, "Avro").unwrap();
        assert_eq!(by_number.id, SchemaId::Number(5));
    }

    #[test]
    fn what_names_no_schema_says_what_is_missing() {
        let problem = |value: &[u8], headers: &[Header]| {
            let found = framed(value, headers, "Avro").map(|framed| framed.id);
            found.unwrap_err().to_string()
        };
        for value in [&b""[..], b"{}", &[0, 1, 2, 3], &[1; 17]] {
            assert!(problem(value, &[]).starts_with("value is not Avro in the wire format"));
        }
        for id in [&b""[..], &[0, 1, 2], &[1; 16], &[2; 17]] {
            let found = problem(&[0; 9], &[header(Some(id))]);
            assert!(found.starts_with("field `__value_schema_id`"), "{found}");
        }
    }

    #[test]
    fn json_may_have_an_id_before_it() {
        assert_eq!(json(b"\0\0\0\0\x07{}"), b"{}");
        for as_it_is in [&b"{}"[..], b"", b"\0\0\0\0"] {
            assert_eq!(json(as_it_is), as_it_is);
        }
    }
}
