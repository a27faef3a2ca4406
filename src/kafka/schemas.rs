//! Schemas by id from a Schema Registry (Confluent's API, which Apicurio, Karapace and Redpanda have as well), for all readers of the process.
//!
//! Ids never change their meaning, so what was found is kept. Whoever needs one waits until the registry answers: a batch is not read by guesses. An id that the
//! registry does not know is an answer, too, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::KafkaFailure;
use super::watchdog::Watchdog;
use crate::https::{self, Authorities, printable};
use crate::record::RecordBatch;
use crate::record::avro::ids;
use crate::record::avro_schema::{Writer, Writers};
use crate::record::envelope::Envelope;

/// Schemas that are kept at most; beyond, all are forgotten and asked for again.
const KEPT_MAX: usize = 1_000;
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After this long an id that the registry did not know is asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// Where the registry is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Its address, to which `/schemas/ids/N` is added.
    pub url: String,
    /// The name; empty: nobody.
    pub user: String,
    /// The password.
    pub password: String,
    /// Who may vouch for it.
    pub authorities: Authorities,
    /// What is around records.
    pub envelope: Envelope,
}

impl std::fmt::Debug for RegistrySettings {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The registry, for all readers of the process. Clones share what it answered.
#[derive(Clone)]
pub struct SchemaSource(Arc<Inner>);

struct Inner {
    settings: RegistrySettings,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    known: Arc<Writers>,
    /// When ids were asked for that the registry did not know, on the monotonic clock.
    unknown: BTreeMap<u32, Duration>,
}

impl std::fmt::Debug for SchemaSource {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaSource")
            .field("url", &self.0.settings.url)
            .finish_non_exhaustive()
    }
}

impl PartialEq for SchemaSource {
    fn eq(&self, other: &Self) -> bool {
        self.0.settings == other.0.settings
    }
}

impl Eq for SchemaSource {}

/// What is done between two attempts; its error ends them.
type Between<'a> = dyn FnMut() -> Result<(), KafkaFailure> + 'a;

/// What the registry says of an id: a schema, or why it is of no use.
type Found = Result<Arc<Writer>, String>;

/// Why it says nothing.
struct NoAnswer {
    problem: String,
    /// Whether a setting must change.
    refused: bool,
}

impl SchemaSource {
    /// Asks for nothing before somebody needs a schema.
    pub fn new(settings: RegistrySettings) -> Self {
        Self(Arc::new(Inner {
            settings,
            kept: Mutex::default(),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of a batch of which nothing is known.
    pub(super) fn lacks(&self, batch: &RecordBatch, watchdog: &Watchdog) -> BTreeSet<u32> {
        let wanted = ids(batch, self.0.settings.envelope);
        let now = watchdog.clock().monotonic();
        let kept = self.kept();
        let known = |id: &u32| {
            let asked = kept.unknown.get(id);
            kept.known.0.contains_key(id) && asked.is_none_or(|asked| now < *asked + UNKNOWN_FOR)
        };
        wanted.into_iter().filter(|id| !known(id)).collect()
    }

    /// Gives a batch what is known of its schemas; what is not is asked for, for however long that takes. `between` is done between attempts.
    pub(super) fn complete(
        &self,
        batch: &mut RecordBatch,
        watchdog: &Watchdog,
        between: &mut Between<'_>,
    ) -> Result<(), KafkaFailure> {
        for id in self.lacks(batch, watchdog) {
            let found = self.ask_on(id, watchdog, between)?;
            self.keep(id, found, watchdog.clock().monotonic());
        }
        batch.set_writers(Arc::clone(&self.kept().known));
        Ok(())
    }

    fn keep(&self, id: u32, found: Option<Found>, now: Duration) {
        let mut kept = self.kept();
        let mut known = (*kept.known).clone();
        if KEPT_MAX <= known.0.len() {
            known.0.clear();
            kept.unknown.clear();
        }
        if found.is_none() {
            kept.unknown.insert(id, now);
        } else {
            kept.unknown.remove(&id);
        }
        let found = found.unwrap_or_else(|| Err("the registry does not know it".to_owned()));
        if let Err(problem) = &found {
            tracing::error!(
                id,
                problem,
                "a schema cannot be used: records that have it are dead letters"
            );
        }
        known.0.insert(id, found);
        kept.known = Arc::new(known);
    }

    fn ask_on(
        &self,
        id: u32,
        watchdog: &Watchdog,
        between: &mut Between<'_>,
    ) -> Result<Option<Found>, KafkaFailure> {
        let mut said = false;
        loop {
            let answer = {
                let _guard = watchdog.call("the schema registry", ANSWER_MAX);
                self.ask(id)
            };
            match answer {
                Ok(found) => {
                    if said {
                        tracing::info!(id, "the schema registry answers again");
                        watchdog.waits(None);
                    }
                    return Ok(found);
                }
                Err(NoAnswer { problem, refused }) => {
                    let url = self.0.settings.url.clone();
                    if refused {
                        return Err(KafkaFailure::Registry { url, problem });
                    }
                    if !said {
                        said = true;
                        tracing::warn!(id, url, problem, "waiting for the schema registry");
                    }
                    watchdog.waits(Some(format!(
                        "schema {id} of the registry {url}: {problem}"
                    )));
                    watchdog.pause(AGAIN_AFTER)?;
                    between()?;
                }
            }
        }
    }

    /// Asks once. `None` if there is no such id.
    fn ask(&self, id: u32) -> Result<Option<Found>, NoAnswer> {
        let settings = &self.0.settings;
        let passing = |problem: String| NoAnswer {
            problem,
            refused: false,
        };
        let refused = |problem: String| NoAnswer {
            problem,
            refused: true,
        };
        let agent = https::agent(&settings.authorities, ANSWER_MAX)
            .map_err(|problem| refused(format!("`ca_file`: {problem}")))?;
        let url = format!("{}/schemas/ids/{id}", settings.url.trim_end_matches('/'));
        let mut request = agent.get(&url).header(
            "Accept",
            "application/vnd.schemaregistry.v1+json, application/json",
        );
        if !settings.user.is_empty() {
            let credentials = STANDARD.encode(format!("{}:{}", settings.user, settings.password));
            request = request.header("Authorization", format!("Basic {credentials}"));
        }
        let mut response = request.call().map_err(|error| passing(error.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let body = body
            .read_to_vec()
            .map_err(|error| passing(format!("reading its answer: {error}")))?;
        let said = printable(&String::from_utf8_lossy(&body));
        match status {
            200 => schema(&body).map(Some).map_err(passing),
            404 => {
                // Another server at this address answers 404 to everything; a registry says what it lacks.
                let json: Option<Value> = serde_json::from_slice(&body).ok();
                let of_registry = json.is_some_and(|json| json.get("error_code").is_some());
                if of_registry {
                    Ok(None)
                } else {
                    Err(passing(format!(
                        "it answers 404 as no registry does: {said}"
                    )))
                }
            }
            401 | 403 => Err(refused(format!(
                "it answers {status}: see `user` and `password`: {said}"
            ))),
            _ => Err(passing(format!("it answers {status}: {said}"))),
        }
    }
}

/// What an answer says.
fn schema(body: &[u8]) -> Result<Found, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let text = json.get("schema").and_then(Value::as_str);
    let text = text.ok_or("its answer has no `schema`")?;
    let kind = json.get("schemaType").and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != "AVRO") {
        return Ok(Err(format!("it is one of {kind}, and not of Avro")));
    }
    let references = json.get("references").and_then(Value::as_array);
    if references.is_some_and(|references| !references.is_empty()) {
        return Ok(Err(
            "it refers to other schemas, which is not supported".to_owned()
        ));
    }
    Ok(Writer::parse(text).map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{Answer, Endpoint};
    use super::super::topic_reader::nothing;
    use super::*;
    use crate::record::decode::Decoder;
    use crate::record::schema::SchemaSpec;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::{Clock, ManualClock, SystemClock, Timestamp};

    const SCHEMA: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"long\"}]}"}"#;

    fn source(endpoint: &Endpoint) -> SchemaSource {
        SchemaSource::new(RegistrySettings {
            url: endpoint.url(),
            user: "me".to_owned(),
            password: "hunter2".to_owned(),
            authorities: Authorities::Machine,
            envelope: Envelope::None,
        })
    }

    fn batch(ids: &[u32]) -> RecordBatch {
        let mut batch = RecordBatch::default();
        let at = TopicPartition::new("t", 0);
        for (offset, id) in ids.iter().enumerate() {
            let value = [&[0], &id.to_be_bytes()[..], &[0x36]].concat();
            let place = (Offset(offset as i64), Timestamp(7));
            batch.push(&at, place, Some(b"k"), Some(&value), Vec::new());
        }
        batch
    }

    fn decoded(batch: &RecordBatch) -> Vec<Result<f64, String>> {
        let spec: SchemaSpec =
            serde_json::from_str(r#"{"format":"avro","features":["a"]}"#).unwrap();
        let decoded = Decoder::new(Arc::new(spec.check().unwrap())).decode(batch);
        let each = decoded.outcomes.iter().zip(&decoded.values);
        each.map(|(outcome, value)| {
            let outcome = outcome.as_ref();
            outcome.map(|_| *value).map_err(ToString::to_string)
        })
        .collect()
    }

    fn ok(text: &str) -> Answer {
        Answer::Status(200, text.to_owned())
    }

    #[test]
    fn a_schema_is_asked_for_once_and_an_id_that_is_unknown_is_a_dead_letter_for_a_while() {
        let endpoint = Endpoint::start(ok(SCHEMA));
        let source = source(&endpoint);
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let watchdog = Watchdog::start(time, |_| {});
        let mut first = batch(&[7, 7, 8]);
        source
            .complete(&mut first, &watchdog, &mut nothing)
            .unwrap();
        assert_eq!(decoded(&first), [Ok(27.0), Ok(27.0), Ok(27.0)]);
        let asked = endpoint.asked();
        assert_eq!(asked.len(), 2);
        // `me:hunter2`
        assert_eq!(asked[0].headers["authorization"], "Basic bWU6aHVudGVyMg==");
        source
            .complete(&mut batch(&[8, 7]), &watchdog, &mut nothing)
            .unwrap();
        assert_eq!(endpoint.asked().len(), 2);
        let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
        endpoint.answer(Answer::Status(404, unknown.to_owned()));
        let mut third = batch(&[9, 7]);
        source
            .complete(&mut third, &watchdog, &mut nothing)
            .unwrap();
        let found = decoded(&third);
        assert!(
            found[0]
                .as_ref()
                .unwrap_err()
                .contains("the registry does not know it")
        );
        assert_eq!(found[1], Ok(27.0));
        endpoint.answer(ok(SCHEMA));
        source
            .complete(&mut batch(&[9]), &watchdog, &mut nothing)
            .unwrap();
        assert_eq!(endpoint.asked().len(), 3);
        clock.advance(UNKNOWN_FOR);
        let mut later = batch(&[9]);
        source
            .complete(&mut later, &watchdog, &mut nothing)
            .unwrap();
        assert_eq!(decoded(&later), [Ok(27.0)]);
    }

    #[test]
    fn a_registry_that_fails_is_waited_for_and_says_why() {
        let endpoint = Endpoint::start(Answer::HangUp);
        let source = source(&endpoint);
        let waits = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&waits);
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {})
            .with_waits(move |what| heard.lock().unwrap().push(what));
        let mut answers = [
            Answer::Status(503, "soon".to_owned()),
            Answer::Status(404, "<html>".to_owned()),
            ok("{}"),
            ok(SCHEMA),
        ]
        .into_iter();
        let mut next = || {
            endpoint.answer(answers.next().unwrap());
            Ok(())
        };
        let mut one = batch(&[7]);
        source.complete(&mut one, &watchdog, &mut next).unwrap();
        assert_eq!(decoded(&one), [Ok(27.0)]);
        let said = waits.lock().unwrap().clone();
        assert_eq!((said.len(), &said[4]), (5, &None));
        for (place, part) in [
            (1, "answers 503: soon"),
            (2, "404 as no registry"),
            (3, "no `schema`"),
        ] {
            assert!(said[place].as_deref().unwrap().contains(part), "{said:?}");
        }
        // A wrong password does not pass.
        endpoint.answer(Answer::Status(401, "no".to_owned()));
        let error = source
            .complete(&mut batch(&[8]), &watchdog, &mut nothing)
            .unwrap_err();
        assert!(
            error.is_configuration() && error.to_string().contains("401"),
            "{error}"
        );
        assert!(!format!("{error} {source:?}").contains("hunter2"));
    }

    #[test]
    fn schemas_of_other_kinds_are_of_no_use_and_say_so() {
        let problem = |text: &str| schema(text.as_bytes()).unwrap().unwrap_err();
        assert!(problem(r#"{"schema":"x","schemaType":"PROTOBUF"}"#).contains("PROTOBUF"));
        assert!(problem(r#"{"schema":"\"int\""}"#).contains("not that of a record"));
        let refers = SCHEMA.replace("}\"}", "}\",\"references\":[{\"name\":\"x\"}]}");
        assert!(problem(&refers).contains("refers"), "{refers}");
        assert!(schema(br#"{"schemaType":"AVRO"}"#).is_err());
    }
}
