//! Schemas by id from a Schema Registry (Confluent's API, which Apicurio, Karapace and Redpanda have as well), for all readers of the process, with the
//! schemas that they refer to.
//!
//! Ids never change their meaning, so what was found is kept. Whoever needs one waits until the registry answers: a batch is not read by guesses. An id that the
//! registry does not know is an answer, too, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::KafkaFailure;
use super::registry::{NoAnswer, RegistrySettings, in_address};
use super::watchdog::Watchdog;
use crate::record::RecordBatch;
use crate::record::avro_schema;
use crate::record::envelope::Envelope;
use crate::record::protobuf_schema::Files;
use crate::record::wire::ids;
use crate::record::writers::{SchemaId, Writer, Writers};

/// Schemas that are kept at most; beyond, all are forgotten and asked for again.
const KEPT_MAX: usize = 1_000;
/// Schemas that one may refer to at most, with those that they refer to.
const REFERENCES_MAX: usize = 200;
/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After this long an id that the registry did not know is asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// The registry, for all readers of the process. Clones share what it answered.
#[derive(Clone)]
pub struct SchemaSource(Arc<Inner>);

struct Inner {
    registry: RegistrySettings,
    /// What is around records that name their schemas; `None` where records of the input do not.
    records: Option<Envelope>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    known: Arc<Writers>,
    /// When ids were asked for that the registry did not know, on the monotonic clock.
    unknown: BTreeMap<SchemaId, Duration>,
}

impl std::fmt::Debug for SchemaSource {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaSource")
            .field("url", &self.0.registry.url)
            .finish_non_exhaustive()
    }
}

impl PartialEq for SchemaSource {
    fn eq(&self, other: &Self) -> bool {
        self.0.registry == other.0.registry && self.0.records == other.0.records
    }
}

impl Eq for SchemaSource {}

/// What is done between two attempts; its error ends them.
type Between<'a> = dyn FnMut() -> Result<(), KafkaFailure> + 'a;

/// What the registry says of an id: a schema, or why it is of no use.
type Found = Result<Writer, String>;

impl SchemaSource {
    /// Asks for nothing before somebody needs a schema. `records` is what is around records of the input that name their schemas; `None` if those do not.
    pub fn new(registry: RegistrySettings, records: Option<Envelope>) -> Self {
        Self(Arc::new(Inner {
            registry,
            records,
            kept: Mutex::default(),
        }))
    }

    /// Where the registry is.
    pub fn registry(&self) -> &RegistrySettings {
        &self.0.registry
    }

    /// The schema of this id, asked for once, if it is not known; why there is none, in words.
    pub(super) fn writer(
        &self,
        id: SchemaId,
        watchdog: &Watchdog,
    ) -> Result<Result<Writer, String>, KafkaFailure> {
        let now = watchdog.clock().monotonic();
        if !self.knows(id, now) {
            let found = self.ask(id, watchdog);
            let found = found.map_err(|silent| self.0.registry.failure(silent))?;
            self.keep(id, found, now);
        }
        let known = Arc::clone(&self.kept().known);
        let found = known.0.get(&id).cloned();
        Ok(found.unwrap_or_else(|| Err("nobody looked it up".to_owned())))
    }

    fn knows(&self, id: SchemaId, now: Duration) -> bool {
        let kept = self.kept();
        let asked = kept.unknown.get(&id);
        kept.known.0.contains_key(&id) && asked.is_none_or(|asked| now < *asked + UNKNOWN_FOR)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of a batch of which nothing is known.
    pub(super) fn lacks(&self, batch: &RecordBatch, watchdog: &Watchdog) -> BTreeSet<SchemaId> {
        let Some(envelope) = self.0.records else {
            return BTreeSet::new();
        };
        let wanted = ids(batch, envelope);
        let now = watchdog.clock().monotonic();
        let lacks = |id: &SchemaId| !self.knows(*id, now);
        wanted.into_iter().filter(lacks).collect()
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

    fn keep(&self, id: SchemaId, found: Option<Found>, now: Duration) {
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
                %id,
                problem,
                "a schema cannot be used: what has it cannot be read"
            );
        }
        known.0.insert(id, found);
        kept.known = Arc::new(known);
    }

    fn ask_on(
        &self,
        id: SchemaId,
        watchdog: &Watchdog,
        between: &mut Between<'_>,
    ) -> Result<Option<Found>, KafkaFailure> {
        let mut said = false;
        loop {
            match self.ask(id, watchdog) {
                Ok(found) => {
                    if said {
                        tracing::info!(%id, "the schema registry answers again");
                        watchdog.waits(None);
                    }
                    return Ok(found);
                }
                Err(silent) if silent.refused => return Err(self.0.registry.failure(silent)),
                Err(NoAnswer { problem, .. }) => {
                    let url = self.0.registry.url.clone();
                    if !said {
                        said = true;
                        tracing::warn!(%id, url, problem, "waiting for the schema registry");
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

    /// Asks once for a schema and all that it refers to. `None` if there is no such id.
    fn ask(&self, id: SchemaId, watchdog: &Watchdog) -> Result<Option<Found>, NoAnswer> {
        let place = match id {
            SchemaId::Number(number) => format!("schemas/ids/{number}"),
            SchemaId::Guid(_) => format!("schemas/guids/{id}"),
        };
        let Some(main) = self.text(&place, watchdog)? else {
            return Ok(None);
        };
        if !["AVRO", "PROTOBUF"].contains(&&*main.kind) {
            return Ok(Some(Err(format!(
                "it is one of {}, and neither of Avro nor of Protobuf",
                main.kind
            ))));
        }
        Ok(Some(match self.references(&main, watchdog)? {
            Ok(references) => made(&main.text, references, &main.kind),
            Err(problem) => Err(problem),
        }))
    }

    /// The schemas that one refers to, each before those that refer to it, by the names that they are referred to by.
    fn references(&self, main: &Text, watchdog: &Watchdog) -> Result<References, NoAnswer> {
        let mut found: Vec<(String, Text)> = Vec::new();
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        // Those that are still to be looked at, and those whose own references are all found: the last one first.
        let mut next: Vec<Result<Reference, (String, Text)>> =
            main.references.iter().rev().cloned().map(Ok).collect();
        while let Some(step) = next.pop() {
            let Reference { name, place } = match step {
                Ok(reference) => reference,
                Err(done) => {
                    found.push(done);
                    continue;
                }
            };
            if !seen.insert((name.clone(), place.clone())) {
                continue;
            }
            if REFERENCES_MAX < seen.len() {
                return Ok(Err(format!(
                    "it refers to more than {REFERENCES_MAX} schemas"
                )));
            }
            let Some(text) = self.text(&place, watchdog)? else {
                return Ok(Err(format!(
                    "it refers to `{name}`, which the registry does not know as {place}"
                )));
            };
            let within: Vec<Reference> = text.references.iter().rev().cloned().collect();
            next.push(Err((name, text)));
            next.extend(within.into_iter().map(Ok));
        }
        let texts = found.into_iter().map(|(name, text)| (name, text.text));
        Ok(Ok(texts.collect()))
    }

    /// Asks once for what is at a place. `None` if the registry says that there is nothing.
    fn text(&self, place: &str, watchdog: &Watchdog) -> Result<Option<Text>, NoAnswer> {
        let found = self.0.registry.get(place, watchdog)?;
        let read = |body: Vec<u8>| Text::read(&body).map_err(NoAnswer::passing);
        found.map(read).transpose()
    }
}

/// Texts of schemas by the names that they are referred to by, each before those that refer to it; or why they are not to be had.
type References = Result<Vec<(String, String)>, String>;

/// Where a schema lies that another one refers to.
#[derive(Clone, Debug, PartialEq)]
struct Reference {
    /// What it is called there: a name of Avro, or the file that Protobuf imports.
    name: String,
    /// Where the registry has it.
    place: String,
}

/// A schema as the registry has it.
#[derive(Debug, PartialEq)]
struct Text {
    text: String,
    kind: String,
    references: Vec<Reference>,
}

impl Text {
    /// What an answer says.
    fn read(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body)
            .map_err(|error| format!("its answer is no JSON: {error}"))?;
        let text = json.get("schema").and_then(Value::as_str);
        let text = text.ok_or("its answer has no `schema`")?;
        let kind = json.get("schemaType").and_then(Value::as_str);
        let references = json.get("references").and_then(Value::as_array);
        let references = references.into_iter().flatten().map(|reference| {
            let name = reference.get("name").and_then(Value::as_str);
            let subject = reference.get("subject").and_then(Value::as_str);
            let version = reference.get("version").and_then(Value::as_i64);
            let all = name.zip(subject).zip(version);
            let ((name, subject), version) =
                all.ok_or("its answer has a reference without `name`, `subject` or `version`")?;
            let subject = in_address(subject);
            Ok::<_, String>(Reference {
                name: name.to_owned(),
                place: format!("subjects/{subject}/versions/{version}"),
            })
        });
        Ok(Self {
            text: text.to_owned(),
            kind: kind.unwrap_or("AVRO").to_owned(),
            references: references.collect::<Result<_, _>>()?,
        })
    }
}

/// The schema of a text and those that it refers to.
fn made(text: &str, references: Vec<(String, String)>, kind: &str) -> Found {
    if kind == "PROTOBUF" {
        let files = Files::compile(text, references.into_iter().collect());
        return files.map(|files| Writer::Protobuf(Arc::new(files)));
    }
    let references: Vec<&str> = references.iter().map(|(_, text)| &**text).collect();
    let writer = avro_schema::Writer::parse_with(text, &references);
    writer.map(|writer| Writer::Avro(Arc::new(writer)))
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{Answer, Endpoint};
    use super::super::topic_reader::nothing;
    use super::*;
    use crate::https::Authorities;
    use crate::record::decode::Decoder;
    use crate::record::schema::SchemaSpec;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::{Clock, ManualClock, SystemClock, Timestamp};

    const SCHEMA: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"long\"}]}"}"#;

    fn source(endpoint: &Endpoint) -> SchemaSource {
        let registry = RegistrySettings {
            url: endpoint.url(),
            user: "me".to_owned(),
            password: "hunter2".to_owned(),
            authorities: Authorities::Machine,
        };
        SchemaSource::new(registry, Some(Envelope::None))
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
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        let endpoint = Endpoint::start(Answer::HangUp);
        let source = source(&endpoint);
        let ask = |id: u32, answer: Answer| {
            endpoint.answer(answer);
            let mut one = batch(&[id]);
            let asked = source.complete(&mut one, &watchdog, &mut nothing);
            asked.unwrap();
            decoded(&one)[0].clone().unwrap_err()
        };
        let problem = ask(1, ok(r#"{"schema":"{}","schemaType":"JSON"}"#));
        assert!(problem.contains("one of JSON"), "{problem}");
        let other = r#"{"schema":"syntax = \"proto3\"; message A {}","schemaType":"PROTOBUF"}"#;
        let problem = ask(3, ok(other));
        assert!(problem.contains("which is not of Avro"), "{problem}");
        let problem = ask(2, ok(r#"{"schema":"\"int\""}"#));
        assert!(problem.contains("not that of a record"), "{problem}");
        assert!(Text::read(br#"{"schemaType":"AVRO"}"#).is_err());
        assert!(Text::read(br#"{"schema":"x","references":[{"name":"x"}]}"#).is_err());
    }

    #[test]
    fn what_a_schema_refers_to_is_asked_for_first() {
        let endpoint = Endpoint::start(Answer::HangUp);
        let of = |name: &str, fields: &str, references: &str| {
            let schema = format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#);
            let text = serde_json::json!(schema);
            ok(&format!(
                r#"{{"schema":{text},"references":[{references}]}}"#
            ))
        };
        let to = |name: &str, subject: &str| {
            format!(r#"{{"name":"{name}","subject":"{subject}","version":2}}"#)
        };
        let field = |name: &str, of: &str| format!(r#"{{"name":"{name}","type":"{of}"}}"#);
        let both = [to("p.B", "b/b"), to("p.C", "c")].join(",");
        let fields = [field("b", "p.B"), field("c", "p.C")].join(",");
        endpoint.answer_at("/token/schemas/ids/7", of("p.A", &fields, &both));
        let b = of("p.B", &field("c", "p.C"), &to("p.C", "c"));
        endpoint.answer_at("/token/subjects/b%2Fb/versions/2", b);
        let c = of("p.C", &field("a", "long"), "");
        endpoint.answer_at("/token/subjects/c/versions/2", c);
        let source = source(&endpoint);
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        let mut one = RecordBatch::default();
        let place = (Offset(0), Timestamp(7));
        let value = [0, 0, 0, 0, 7, 2, 4];
        let at = TopicPartition::new("t", 0);
        one.push(&at, place, None, Some(&value), Vec::new());
        source.complete(&mut one, &watchdog, &mut nothing).unwrap();
        let spec = r#"{"format":"avro","features":["b.c.a","c.a"]}"#;
        let spec: SchemaSpec = serde_json::from_str(spec).unwrap();
        let read = Decoder::new(Arc::new(spec.check().unwrap())).decode(&one);
        assert_eq!(read.values, [1.0, 2.0], "{:?}", read.outcomes);
        assert_eq!(endpoint.asked().len(), 3, "one is referred to twice");
        // One that is not there, and a schema that refers to itself.
        let unknown = r#"{"error_code":40402,"message":"Version not found"}"#;
        endpoint.answer(Answer::Status(404, unknown.to_owned()));
        endpoint.answer_at("/token/schemas/ids/8", of("p.A", "", &to("p.D", "d")));
        let again = of("p.E", "", &to("p.E", "e"));
        endpoint.answer_at("/token/schemas/ids/9", again.clone());
        endpoint.answer_at("/token/subjects/e/versions/2", again);
        let mut two = batch(&[8, 9]);
        source.complete(&mut two, &watchdog, &mut nothing).unwrap();
        let problem = |at: usize| decoded(&two)[at].clone().unwrap_err();
        assert!(problem(0).contains("refers to `p.D`"), "{}", problem(0));
        assert!(problem(1).contains("defined twice"), "{}", problem(1));
    }

    #[test]
    fn schemas_of_protobuf_are_compiled_with_what_they_import_and_found_by_guids() {
        let endpoint = Endpoint::start(Answer::HangUp);
        let import = r#"{"schema":"syntax = \"proto3\"; message B { double x = 1; }","schemaType":"PROTOBUF"}"#;
        endpoint.answer_at("/token/subjects/b/versions/1", ok(import));
        let main = r#"{"schema":"syntax = \"proto3\"; import \"b.proto\"; message A { B b = 1; }","schemaType":"PROTOBUF",
            "references":[{"name":"b.proto","subject":"b","version":1}]}"#;
        let guid = "01010101-0101-0101-0101-010101010101";
        endpoint.answer_at(&format!("/token/schemas/guids/{guid}"), ok(main));
        let source = source(&endpoint);
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        let mut one = RecordBatch::default();
        let header = crate::record::Header {
            name: crate::record::wire::HEADER.into(),
            value: Some([&[1; 17][..], &[0]].concat().into()),
        };
        let value = [&[10, 9, 9][..], &2.5_f64.to_le_bytes()].concat();
        let place = (Offset(0), Timestamp(7));
        let at = TopicPartition::new("t", 0);
        one.push(&at, place, None, Some(&value), vec![header]);
        source.complete(&mut one, &watchdog, &mut nothing).unwrap();
        let spec = r#"{"format":"protobuf","features":["b.x"]}"#;
        let spec: SchemaSpec = serde_json::from_str(spec).unwrap();
        let decoded = Decoder::new(Arc::new(spec.check().unwrap())).decode(&one);
        assert_eq!(decoded.values, [2.5], "{:?}", decoded.outcomes);
    }
}
