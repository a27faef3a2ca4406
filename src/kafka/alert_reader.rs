//! What stands in the alerts topic, read: JSON, Avro or Protobuf, as each message shows. Where it names a schema, it is read by that one, so that a topic may have
//! alerts of several formats and versions.

use super::schemas::SchemaSource;
use super::watchdog::Watchdog;
use super::{KafkaFailure, registry};
use crate::alert::Alert;
use crate::record::writers::Writer;
use crate::record::{avro_tree, protobuf_tree, wire};

/// Reads alerts.
#[derive(Clone, Debug)]
pub(super) struct AlertReader {
    schemas: Option<SchemaSource>,
}

impl AlertReader {
    /// Reads those with a schema by the registry's.
    pub(super) fn new(schemas: Option<SchemaSource>) -> Self {
        Self { schemas }
    }

    /// What a message says; or why it is no alert, in words.
    ///
    /// # Errors
    /// Where its schema cannot be had: what nobody can read now is not passed over.
    pub(super) fn read(
        &self,
        value: Option<&[u8]>,
        watchdog: &Watchdog,
    ) -> Result<Result<Alert, String>, KafkaFailure> {
        let Some(value) = value else {
            return Ok(Err("it has no value".to_owned()));
        };
        let Some((id, body)) = wire::id_before(value) else {
            let read = serde_json::from_slice(value);
            return Ok(read.map_err(|error| error.to_string()));
        };
        let Some(schemas) = &self.schemas else {
            return Err(registry::nowhere(format!(
                "a message of the alerts topic has the schema {id}, but `registry.url` names no registry"
            )));
        };
        let writer = schemas.writer(id, watchdog)?;
        Ok(writer
            .map_err(|problem| format!("it has the schema {id}: {problem}"))
            .and_then(|writer| by(&writer, body)))
    }
}

/// An alert by the schema that it was written by: fields by their names; what is not known is left out, and what is missing has its default.
fn by(writer: &Writer, body: &[u8]) -> Result<Alert, String> {
    match writer {
        Writer::Avro(writer) => avro_tree::read(body, writer)?.into(),
        Writer::Protobuf(files) => protobuf_tree::read(body, files)?.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::endpoint::{Answer, Endpoint};
    use super::super::forms::Form;
    use super::super::registry::RegistrySettings;
    use super::*;
    use crate::https::Authorities;
    use crate::record::avro_schema;
    use crate::time::SystemClock;

    const ALERT: &str = include_str!("../../tests/compatibility/1/alert.json");

    fn watchdog() -> Watchdog {
        Watchdog::start(Arc::new(SystemClock::default()), |_| {})
    }

    fn reader(endpoint: &Endpoint) -> AlertReader {
        let registry = RegistrySettings {
            url: endpoint.url(),
            user: String::new(),
            password: String::new(),
            authorities: Authorities::Machine,
        };
        AlertReader::new(Some(SchemaSource::new(registry, None)))
    }

    /// A registry that has the schemas of alerts as 7 and 8.
    fn registry() -> Endpoint {
        let endpoint = Endpoint::start(Answer::HangUp);
        for (id, schema, kind) in [
            (7, include_str!("../../docs/schemas/alert.avsc"), "AVRO"),
            (
                8,
                include_str!("../../docs/schemas/alert.proto"),
                "PROTOBUF",
            ),
        ] {
            let answer = serde_json::json!({"schema": schema, "schemaType": kind});
            let answer = Answer::Status(200, answer.to_string());
            endpoint.answer_at(&format!("/token/schemas/ids/{id}"), answer);
        }
        endpoint
    }

    #[test]
    fn a_topic_may_have_alerts_in_all_formats() {
        let endpoint = registry();
        let reader = reader(&endpoint);
        let alert: Alert = serde_json::from_str(ALERT).unwrap();
        for form in [Form::Json, Form::Avro(7), Form::Protobuf(8), Form::Avro(7)] {
            let bytes = form.bytes(&alert);
            let read = reader.read(Some(&bytes), &watchdog()).unwrap();
            assert_eq!(read, Ok(alert.clone()), "{form:?}");
        }
        assert_eq!(endpoint.asked().len(), 2, "each schema is asked for once");
    }

    #[test]
    fn an_alert_of_another_version_is_read_by_the_schema_that_it_names() {
        let mut schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/schemas/alert.avsc")).unwrap();
        let alert: Alert = serde_json::from_str(ALERT).unwrap();
        let bytes = Form::Avro(9).bytes(&alert);
        // A later version has one more field, and an earlier one had one less.
        let fields = schema["fields"].as_array_mut().unwrap();
        fields.insert(0, serde_json::json!({"name": "later", "type": "string"}));
        let later = avro_schema::Writer::parse(&schema.to_string()).unwrap();
        let later = Writer::Avro(Arc::new(later));
        let body = [&[4, b'h', b'i'][..], &bytes[5..]].concat();
        assert_eq!(by(&later, &body).unwrap(), alert);
        let fields = schema["fields"].as_array_mut().unwrap();
        fields.remove(0);
        fields.retain(|field| field["name"] != "url");
        let earlier = avro_schema::Writer::parse(&schema.to_string()).unwrap();
        let earlier = Writer::Avro(Arc::new(earlier));
        let url = alert.url.clone().unwrap();
        let written = [&[2, url.len() as u8 * 2], url.as_bytes()].concat();
        let at = bytes.windows(written.len());
        let at = at.into_iter().position(|part| part == written).unwrap();
        let body = [&bytes[5..at], &bytes[at + written.len()..]].concat();
        let without = Alert { url: None, ..alert };
        assert_eq!(by(&earlier, &body).unwrap(), without);
    }

    #[test]
    fn what_is_no_alert_says_why_and_what_cannot_be_looked_up_is_not_passed_over() {
        let endpoint = registry();
        let ours = reader(&endpoint);
        let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
        let unknown = Answer::Status(404, unknown.to_owned());
        endpoint.answer_at("/token/schemas/ids/9", unknown);
        for (value, part) in [
            (None, "no value"),
            (Some(&b"hello"[..]), "expected value"),
            (Some(&[0, 0, 0]), "expected value"),
            (Some(&[0, 0, 0, 0, 7]), "ends too early"),
            (Some(&[0, 0, 0, 0, 8, 0]), "unknown variant"),
            (Some(&[0, 0, 0, 0, 9]), "the registry does not know it"),
        ] {
            let problem = ours.read(value, &watchdog()).unwrap().unwrap_err();
            assert!(problem.contains(part), "{part}: {problem}");
        }
        let away = ours.read(Some(&[0, 0, 0, 0, 10]), &watchdog());
        assert!(away.unwrap_err().passes());
        let nowhere = AlertReader::new(None);
        let failure = nowhere.read(Some(&[0, 0, 0, 0, 7]), &watchdog());
        let failure = failure.unwrap_err();
        assert!(failure.is_configuration() && failure.to_string().contains("registry.url"));
    }
}
