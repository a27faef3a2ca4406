//! The schemas of alerts, scores and drift (docs/schemas) at a schema registry, which gives them ids: before anything is written, so that nobody waits for it
//! between records. Each has the subject of its topic, whose name is the topic's with `-value` behind it.

use serde_json::{Value, json};

use super::KafkaFailure;
use super::forms::{Form, Forms, OutputFormat};
use super::registry::{NoAnswer, RegistrySettings, in_address, nowhere};
use super::topics::OutputTopics;
use super::watchdog::Watchdog;

/// What is asked of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What values are written as.
    pub format: OutputFormat,
    /// Whether schemas are registered, or must be there.
    pub register: bool,
    /// Where they are written to.
    pub topics: &'a OutputTopics,
}

/// The schemas of alerts, scores and drift.
struct Schemas {
    kind: &'static str,
    alert: &'static str,
    score: &'static str,
    drift: &'static str,
    form: fn(u32) -> Form,
}

const AVRO: Schemas = Schemas {
    kind: "AVRO",
    alert: include_str!("../../docs/schemas/alert.avsc"),
    score: include_str!("../../docs/schemas/score.avsc"),
    drift: include_str!("../../docs/schemas/drift.avsc"),
    form: Form::Avro,
};

const PROTOBUF: Schemas = Schemas {
    kind: "PROTOBUF",
    alert: include_str!("../../docs/schemas/alert.proto"),
    score: include_str!("../../docs/schemas/score.proto"),
    drift: include_str!("../../docs/schemas/drift.proto"),
    form: Form::Protobuf,
};

/// How values are written: asks the registry for the ids of their schemas, once each.
///
/// # Errors
/// Where it gives none. [`KafkaFailure::passes`] says whether it may later.
pub fn settle(
    registry: Option<&RegistrySettings>,
    wanted: Wanted<'_>,
    watchdog: &Watchdog,
) -> Result<Forms, KafkaFailure> {
    let Some(schemas) = Schemas::of(wanted.format) else {
        return Ok(Forms::default());
    };
    let registry = registry.ok_or_else(|| {
        nowhere("`registry.url` names none, but `output.format` needs one".to_owned())
    })?;
    let form = |topic: &str, schema: &str| {
        let subject = Subject::new(topic, (schema, schemas.kind));
        let id = match subject.id(registry, wanted.register, watchdog) {
            Ok(Some(id)) => id,
            Ok(None) => return Err(registry.failure(subject.lacks(wanted.register))),
            Err(silent) => return Err(registry.failure(silent)),
        };
        Ok((schemas.form)(id))
    };
    let topics = wanted.topics;
    let optional = |topic: &Option<String>, schema: &str| match topic {
        Some(topic) => form(topic, schema),
        // Nothing is written.
        None => Ok(Form::Json),
    };
    Ok(Forms {
        alerts: form(&topics.alerts, schemas.alert)?,
        scores: optional(&topics.scores, schemas.score)?,
        drift: optional(&topics.drift, schemas.drift)?,
    })
}

/// What would keep [`settle`] from its ids, as far as that is known without registering anything.
pub fn problems(
    registry: Option<&RegistrySettings>,
    wanted: Wanted<'_>,
    watchdog: &Watchdog,
) -> Vec<String> {
    let Some((schemas, registry)) = Schemas::of(wanted.format).zip(registry) else {
        return Vec::new();
    };
    let topics = wanted.topics;
    let all = [
        (Some(&topics.alerts), schemas.alert),
        (topics.scores.as_ref(), schemas.score),
        (topics.drift.as_ref(), schemas.drift),
    ];
    let problem = |(topic, schema): (Option<&String>, &str)| {
        let subject = Subject::new(topic?, (schema, schemas.kind));
        let silent = match subject.id(registry, false, watchdog) {
            Ok(Some(_)) => return None,
            // It will be registered.
            Ok(None) if wanted.register => return None,
            Ok(None) => subject.lacks(false),
            Err(silent) => silent,
        };
        Some(registry.failure(silent).to_string())
    };
    all.into_iter().filter_map(problem).collect()
}

impl Schemas {
    fn of(format: OutputFormat) -> Option<Self> {
        match format {
            OutputFormat::Json => None,
            OutputFormat::Avro => Some(AVRO),
            OutputFormat::Protobuf => Some(PROTOBUF),
        }
    }
}

/// Under which name a registry has the schema of a topic's values.
struct Subject {
    name: String,
    /// What it is asked.
    body: Value,
}

impl Subject {
    fn new(topic: &str, (schema, kind): (&str, &str)) -> Self {
        Self {
            name: format!("{topic}-value"),
            body: json!({"schema": schema, "schemaType": kind}),
        }
    }

    /// The id of the schema, registered or looked up. `None` if the registry says that there is no such thing.
    fn id(
        &self,
        registry: &RegistrySettings,
        register: bool,
        watchdog: &Watchdog,
    ) -> Result<Option<u32>, NoAnswer> {
        let versions = if register { "/versions" } else { "" };
        let place = format!("subjects/{}{versions}", in_address(&self.name));
        let answer = registry.post(&place, &self.body, watchdog);
        let Some(answer) = answer.map_err(|silent| self.said(silent))? else {
            return Ok(None);
        };
        let json: Option<Value> = serde_json::from_slice(&answer).ok();
        let id = json.as_ref().and_then(|json| json.get("id")?.as_u64());
        match id.and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id)),
            None => {
                let problem = "its answer has no `id` of a schema".to_owned();
                Err(self.said(NoAnswer::passing(problem)))
            }
        }
    }

    fn said(&self, silent: NoAnswer) -> NoAnswer {
        NoAnswer {
            problem: format!("subject `{}`: {}", self.name, silent.problem),
            ..silent
        }
    }

    fn lacks(&self, register: bool) -> NoAnswer {
        let problem = if register {
            "it takes no schemas for it"
        } else {
            "it has not the schema that this version writes: register the file of docs/schemas, or set `output.register_schemas`"
        };
        self.said(NoAnswer {
            problem: problem.to_owned(),
            refused: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::endpoint::{Answer, Endpoint};
    use super::*;
    use crate::https::Authorities;
    use crate::time::SystemClock;

    fn topics() -> OutputTopics {
        let name = |name: &str| name.to_owned();
        OutputTopics {
            alerts: name("a"),
            scores: Some(name("s")),
            dead_letters: name("d"),
            late: None,
            drift: None,
            state: name("t"),
            forms: Forms::default(),
        }
    }

    fn with<T>(
        endpoint: &Endpoint,
        (format, register): (OutputFormat, bool),
        ask: impl FnOnce(Option<&RegistrySettings>, Wanted<'_>, &Watchdog) -> T,
    ) -> T {
        let registry = RegistrySettings {
            url: endpoint.url(),
            user: "me".to_owned(),
            password: "hunter2".to_owned(),
            authorities: Authorities::Machine,
        };
        let wanted = Wanted {
            format,
            register,
            topics: &topics(),
        };
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        ask(Some(&registry), wanted, &watchdog)
    }

    fn settled(
        endpoint: &Endpoint,
        format: OutputFormat,
        register: bool,
    ) -> Result<Forms, KafkaFailure> {
        with(endpoint, (format, register), settle)
    }

    fn asked_before(endpoint: &Endpoint, register: bool) -> Vec<String> {
        with(endpoint, (OutputFormat::Avro, register), problems)
    }

    fn id(id: u32) -> Answer {
        Answer::Status(200, format!(r#"{{"id":{id}}}"#))
    }

    #[test]
    fn schemas_are_registered_under_their_topics_names() {
        let endpoint = Endpoint::start(Answer::HangUp);
        endpoint.answer_at("/token/subjects/a-value/versions", id(7));
        endpoint.answer_at("/token/subjects/s-value/versions", id(8));
        let forms = settled(&endpoint, OutputFormat::Avro, true).unwrap();
        assert_eq!((forms.alerts, forms.scores), (Form::Avro(7), Form::Avro(8)));
        let asked = endpoint.asked();
        assert_eq!(
            asked.len(),
            2,
            "nothing is asked for a topic that there is not"
        );
        // `me:hunter2`
        assert_eq!(asked[0].headers["authorization"], "Basic bWU6aHVudGVyMg==");
        let body: Value = serde_json::from_str(&asked[0].body).unwrap();
        assert_eq!(body["schemaType"], "AVRO");
        assert_eq!(body["schema"], AVRO.alert);
        let forms = settled(&endpoint, OutputFormat::Protobuf, true).unwrap();
        assert_eq!(forms.scores, Form::Protobuf(8));
        let body: Value = serde_json::from_str(&endpoint.asked()[3].body).unwrap();
        assert_eq!(body["schemaType"], "PROTOBUF");
        assert_eq!(body["schema"], PROTOBUF.score);
        assert_eq!(
            settled(&endpoint, OutputFormat::Json, true).unwrap(),
            Forms::default()
        );
        assert_eq!(endpoint.asked().len(), 4);
    }

    #[test]
    fn where_nothing_may_be_registered_schemas_are_looked_up() {
        let endpoint = Endpoint::start(Answer::HangUp);
        endpoint.answer_at("/token/subjects/a-value", id(7));
        endpoint.answer_at("/token/subjects/s-value", id(8));
        let forms = settled(&endpoint, OutputFormat::Avro, false).unwrap();
        assert_eq!((forms.alerts, forms.scores), (Form::Avro(7), Form::Avro(8)));
        let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
        endpoint.answer_at(
            "/token/subjects/s-value",
            Answer::Status(404, unknown.to_owned()),
        );
        let failure = settled(&endpoint, OutputFormat::Avro, false).unwrap_err();
        assert!(failure.is_configuration() && !failure.passes());
        let problem = failure.to_string();
        assert!(
            problem.contains("subject `s-value`: it has not the schema"),
            "{problem}"
        );
        // Before the start it is said, too, where nothing is registered.
        assert_eq!(asked_before(&endpoint, false), [problem]);
        assert!(asked_before(&endpoint, true).is_empty());
        let wrong = Answer::Status(401, String::new());
        endpoint.answer_at("/token/subjects/a-value", wrong);
        assert!(asked_before(&endpoint, true)[0].contains("answers 401"));
        let asked = endpoint.asked().into_iter();
        let mut paths = asked.map(|asked| asked.headers[":path"].clone());
        assert!(paths.all(|path| !path.ends_with("versions")));
    }

    #[test]
    fn what_a_registry_says_instead_of_an_id_is_waited_for_or_refused() {
        let endpoint = Endpoint::start(Answer::HangUp);
        for (answer, passes, part) in [
            (Answer::HangUp, true, "subject `a-value`"),
            (Answer::Status(503, "soon".to_owned()), true, "503: soon"),
            (
                Answer::Status(404, "<html>".to_owned()),
                true,
                "as no registry does",
            ),
            (Answer::Status(200, "{}".to_owned()), true, "no `id`"),
            (Answer::Status(403, "no".to_owned()), false, "403"),
            (
                Answer::Status(409, "incompatible".to_owned()),
                false,
                "409: incompatible",
            ),
            (Answer::Status(422, "bad".to_owned()), false, "422: bad"),
        ] {
            endpoint.answer(answer);
            let failure = settled(&endpoint, OutputFormat::Avro, true).unwrap_err();
            let problem = failure.to_string();
            assert_eq!(failure.passes(), passes, "{problem}");
            assert!(
                problem.contains(part) && !problem.contains("hunter2"),
                "{problem}"
            );
        }
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        let wanted = Wanted {
            format: OutputFormat::Avro,
            register: true,
            topics: &topics(),
        };
        let failure = settle(None, wanted, &watchdog).unwrap_err();
        assert!(failure.to_string().contains("registry.url"));
    }
}
