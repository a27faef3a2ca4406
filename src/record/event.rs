//! CloudEvents around a record: in structured mode the value is a JSON object that has the record as `data`, in binary mode the value is the record and
//! its attributes are headers, `ce_time` and the like (the Kafka protocol binding of CloudEvents 1.0).
//!
//! A message with the header `ce_specversion` is in binary mode, every other one in structured mode, whatever its `content-type` says.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::{ATTRIBUTES, Attribute, Envelope, FromEvent};
use super::row::Given;
use super::{DecodeError, Header, nonfinite, timestamp};

/// An event, taken apart.
#[derive(Debug, Default)]
pub(super) struct Event<'v> {
    data: Option<Cow<'v, [u8]>>,
    attributes: [Option<Cow<'v, str>>; ATTRIBUTES.len()],
}

/// Structured mode, as far as it matters.
#[derive(Deserialize)]
struct Structured<'v> {
    #[serde(borrow)]
    data: Option<&'v RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'v, str>>,
    #[serde(borrow)]
    id: Option<Cow<'v, str>>,
    #[serde(borrow)]
    source: Option<Cow<'v, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'v, str>>,
    #[serde(borrow)]
    subject: Option<Cow<'v, str>>,
    #[serde(borrow)]
    time: Option<Cow<'v, str>>,
}

impl<'v> Event<'v> {
    /// Takes a message apart.
    pub(super) fn open(value: &'v [u8], headers: &'v [Header]) -> Result<Self, DecodeError> {
        if binary(headers) {
            Self::binary(value, headers)
        } else {
            Self::structured(value)
        }
    }

    fn binary(value: &'v [u8], headers: &'v [Header]) -> Result<Self, DecodeError> {
        let mut event = Self {
            data: Some(Cow::Borrowed(value)),
            ..Self::default()
        };
        for header in headers {
            let known = ATTRIBUTES
                .iter()
                .position(|(name, _)| *name == &*header.name);
            let (Some(known), Some(text)) = (known, &header.value) else {
                continue;
            };
            let text = std::str::from_utf8(text)
                .map_err(|_| field(&header.name, "is a header that is no UTF-8"))?;
            event.attributes[known] = Some(Cow::Borrowed(text));
        }
        Ok(event)
    }

    fn structured(value: &'v [u8]) -> Result<Self, DecodeError> {
        let read = Self::structured_json(value);
        if let Err(DecodeError::Syntax(_)) = read
            && let Some(value) = nonfinite::as_null(value)
        {
            return Event::structured_json(&value).map(Event::owned);
        }
        read
    }

    fn owned<'o>(self) -> Event<'o> {
        Event {
            data: self.data.map(|data| Cow::Owned(data.into_owned())),
            attributes: self
                .attributes
                .map(|one| one.map(|text| Cow::Owned(text.into_owned()))),
        }
    }

    fn structured_json(value: &'v [u8]) -> Result<Self, DecodeError> {
        let found: Structured<'v> = serde_json::from_slice(value).map_err(|error| {
            DecodeError::Syntax(format!("value is no CloudEvent in JSON: {error}"))
        })?;
        let data = match (found.data, found.data_base64) {
            (Some(_), Some(_)) => return Err(field("data", "is there, and `data_base64` as well")),
            (Some(data), None) => data_of(data.get())?,
            (None, Some(text)) => {
                Some(Cow::Owned(STANDARD.decode(text.as_bytes()).map_err(
                    |error| field("data_base64", &format!("is no base64: {error}")),
                )?))
            }
            (None, None) => None,
        };
        Ok(Self {
            data,
            attributes: [
                found.id,
                found.source,
                found.kind,
                found.subject,
                found.time,
            ],
        })
    }

    /// The record's bytes.
    pub(super) fn data(&self) -> Result<&[u8], DecodeError> {
        let data = self.data.as_deref();
        data.ok_or_else(|| field("data", "is missing: the event has no record"))
    }

    fn get(&self, attribute: Attribute) -> Option<&str> {
        let place = ATTRIBUTES
            .iter()
            .position(|(_, known)| *known == attribute)?;
        self.attributes[place].as_deref()
    }

    /// What the event gives to the row.
    pub(super) fn given(&self, from: &FromEvent) -> Result<Given<'_>, DecodeError> {
        let mut given = Given::default();
        if let Some(text) = from.time.and_then(|attribute| self.get(attribute)) {
            let time = timestamp::read(text).map_err(|problem| field("ce_time", &problem))?;
            given.time = Some(time);
        }
        for (part, attribute) in given.key.iter_mut().zip(&from.key) {
            *part = attribute.and_then(|attribute| self.get(attribute));
        }
        Ok(given)
    }
}

/// The bytes of `data`: a text is its content, everything else is JSON as it stands.
fn data_of(json: &str) -> Result<Option<Cow<'_, [u8]>>, DecodeError> {
    if json == "null" {
        return Ok(None);
    }
    if !json.starts_with('"') {
        return Ok(Some(Cow::Borrowed(json.as_bytes())));
    }
    let text: String = serde_json::from_str(json)
        .map_err(|_| field("data", "has an escape that is no character"))?;
    Ok(Some(Cow::Owned(text.into_bytes())))
}

fn field(name: &str, problem: &str) -> DecodeError {
    DecodeError::Field {
        field: name.to_owned(),
        problem: problem.to_owned(),
    }
}

/// The record within a message, for those who look at records before there is a schema; nothing of what is no event.
pub fn record<'v>(
    envelope: Envelope,
    value: &'v [u8],
    headers: &'v [Header],
) -> Option<Cow<'v, [u8]>> {
    match envelope {
        Envelope::None => Some(Cow::Borrowed(value)),
        Envelope::CloudEvents => Event::open(value, headers).ok()?.data,
    }
}

/// Whether an event is in binary mode.
fn binary(headers: &[Header]) -> bool {
    headers
        .iter()
        .any(|header| &*header.name == "ce_specversion")
}

/// The headers that are about the record, and not about what is around it.
pub(super) fn headers(envelope: Envelope, headers: &[Header]) -> &[Header] {
    match envelope {
        Envelope::CloudEvents if !binary(headers) => &[],
        Envelope::None | Envelope::CloudEvents => headers,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::decode::Decoder;
    use super::super::schema::SchemaSpec;
    use super::*;
    use crate::time::Timestamp;

    const SPEC: &str = r#"{"envelope":"cloudevents","features":["a"],"key":["ce_subject","b"],"timestamp":"ce_time"}"#;

    fn header(name: &str, value: &str) -> Header {
        Header {
            name: name.into(),
            value: Some(value.as_bytes().into()),
        }
    }

    /// Key, time and the one feature; twice, for the second time goes by what was learnt.
    fn decode(spec: &str, value: &str, headers: &[Header]) -> Result<(String, i64, f64), String> {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        let mut decoder = Decoder::new(Arc::new(spec.check().expect("a valid schema")));
        let mut row = [0.5];
        let mut once = || {
            let message = (Some(&b"k"[..]), Some(value.as_bytes()), headers);
            let decoded = decoder.decode_message(message, Timestamp(7), &mut row);
            decoded
                .map(|decoded| (decoded.key.0.to_string(), decoded.time.0, row[0]))
                .map_err(|error| error.to_string())
        };
        let first = once();
        assert_eq!(once(), first);
        first
    }

    const STRUCTURED: &str = r#"{"specversion":"1.0","id":"1","source":"/plant","type":"reading","subject":"P \"1\"","time":"2023-11-14T22:13:20Z","data":{"a":1.5,"b":"x"}}"#;

    #[test]
    fn structured_events_have_the_record_as_data() {
        let read = ("P \"1\"/x".to_owned(), 1_700_000_000_000, 1.5);
        assert_eq!(decode(SPEC, STRUCTURED, &[]), Ok(read.clone()));
        let kind = header(
            "content-type",
            "application/cloudevents+json; charset=UTF-8",
        );
        assert_eq!(decode(SPEC, STRUCTURED, &[kind]), Ok(read.clone()));
        let nan = STRUCTURED.replace("\"b\":", "\"c\":NaN,\"b\":");
        assert!(nan.contains("NaN"));
        assert_eq!(decode(SPEC, &nan, &[]), Ok(read.clone()));
        let plain = r#"{"envelope":"cloudevents","features":["a"]}"#;
        assert_eq!(decode(plain, STRUCTURED, &[]), Ok(("k".to_owned(), 7, 1.5)));
        let csv = r#"{"envelope":"cloudevents","format":"csv","csv":{"columns":["a","b"]},"features":["a"]}"#;
        for data in [r#""data":"1.5,\u0078""#, r#""data_base64":"MS41LHg=""#] {
            let event = STRUCTURED.replace(r#""data":{"a":1.5,"b":"x"}"#, data);
            assert_eq!(
                decode(csv, &event, &[]),
                Ok(("k".to_owned(), 7, 1.5)),
                "{data}"
            );
        }
    }

    #[test]
    fn binary_events_have_their_attributes_as_headers() {
        let headers = [
            header("ce_specversion", "1.0"),
            header("ce_subject", "P/1"),
            header("ce_time", "2023-11-14T22:13:20.5Z"),
        ];
        let read = decode(SPEC, r#"{"a":2,"b":"x"}"#, &headers);
        assert_eq!(read, Ok(("P\\/1/x".to_owned(), 1_700_000_000_500, 2.0)));
        let problem = decode(SPEC, r#"{"a":2,"b":"x"}"#, &headers[..2]).unwrap_err();
        assert_eq!(
            problem,
            "field `ce_time`: is missing, but is the event time"
        );
        let late = [header("ce_specversion", "1.0"), header("ce_time", "soon")];
        let problem = decode(SPEC, r#"{"a":2,"b":"x"}"#, &late).unwrap_err();
        assert!(problem.starts_with("field `ce_time`: `soon`"), "{problem}");
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (value, part) in [
            ("{", "value is no CloudEvent in JSON"),
            ("[1]", "value is no CloudEvent in JSON"),
            (r#"{"a":1,"b":"x"}"#, "field `data`: is missing"),
            (r#"{"data":null}"#, "field `data`: is missing"),
            (r#"{"data":{"a":1},"data":{"a":2}}"#, "duplicate field"),
            (
                r#"{"data":{"a":1},"data_base64":"x"}"#,
                "`data_base64` as well",
            ),
            (r#"{"data_base64":"?"}"#, "is no base64"),
            (
                r#"{"data":{"a":1,"b":"x"},"time":"2023-11-14T22:13:20Z"}"#,
                "field `ce_subject`: is missing",
            ),
            (
                r#"{"data":[1],"time":"2023-11-14T22:13:20Z"}"#,
                "value is not a JSON object",
            ),
        ] {
            let problem = decode(SPEC, value, &[]).expect_err(value);
            assert!(problem.contains(part), "{value}: {problem}");
        }
    }
}
