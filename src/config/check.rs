//! From what is written to what can be used: every rule that a type cannot hold, and those between keys. All problems at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::load::Loaded;
use super::problem::Problem;
use super::raw::{Rate, Raw};
use super::settings::{Config, TokenDigest};
use super::units::{format_duration, plain_name};
use super::{notify, registry, telemetry};
use crate::detect::cold::{EXCURSIONS, ROWS_MAX};
use crate::detect::{Budget, Params};
use crate::kafka::admin::MESSAGE_MAX;
use crate::kafka::oauth;
use crate::kafka::settings::{check_property, refused};
use crate::kafka::tokens::TokenSource;
use crate::record::schema::{Features, Format, STAND_IN};
use crate::seed::Seed;

/// librdkafka's default for `max.poll.interval.ms`.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;
/// Our default for `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT_MS: u64 = 10_000;

/// The problems found so far.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: &str, problem: impl Into<String>) {
        self.0.push(Problem::new(key, problem));
    }

    fn require(&mut self, holds: bool, key: &str, value: impl std::fmt::Display, allowed: &str) {
        if !holds {
            self.add(key, format!("is {value}, but must be {allowed}"));
        }
    }
}

/// Checks everything. The configuration is only good if no problem comes with it.
pub fn check(mut loaded: Loaded) -> (Config, Vec<Problem>) {
    let shown = loaded.shown();
    let mut found = Found::default();
    let http_token = token(&mut loaded.raw, &mut found);
    let loaded = Arc::new(loaded);
    let raw = &loaded.raw;
    top(raw, &mut found);
    let tokens = kafka(raw, &mut found);
    input(raw, &mut found);
    output(raw, &mut found);
    let detect = detect(raw, &mut found);
    training(raw, &mut found);
    if raw.models.in_kafka() {
        require_topic(&raw.models.topic, "models.topic", &mut found);
    }
    require_topic(&raw.feedback.topic, "feedback.topic", &mut found);
    topics_are_distinct(raw, &mut found);
    windows_fit(raw, &mut found);
    batch(raw, &mut found);
    log(raw, &mut found);
    let (endpoints, problems) = notify::check(&raw.notify);
    for (key, problem) in problems {
        found.add(&key, problem);
    }
    let config = Config {
        name: raw.name.clone(),
        instance: raw.instance.clone(),
        workers: raw.workers,
        delivery: raw.delivery,
        seed: Seed(raw.seed),
        kafka: raw.kafka.clone(),
        tokens,
        notify: endpoints,
        schemas: registry::check(raw, &mut |key, problem| found.add(key, problem)),
        input: raw.input.clone(),
        output: raw.output.clone(),
        model: raw.model.clone(),
        training: raw.training.clone(),
        gate: raw.gate.clone(),
        models: raw.models.clone(),
        feedback: raw.feedback.topic.clone(),
        detect: Arc::new(detect),
        batch: raw.batch.clone(),
        http: http(raw, &mut found),
        http_token,
        log: raw.log.clone(),
        telemetry: telemetry::check(&raw.telemetry, &mut |key, problem| found.add(key, problem)),
        shown,
        loaded: Arc::clone(&loaded),
    };
    (config, found.0)
}

fn top(raw: &Raw, found: &mut Found) {
    let allowed = "1 to 100 letters, digits, `.`, `_` or `-`";
    found.require(plain_name(&raw.name), "name", quoted(&raw.name), allowed);
    if let Some(instance) = &raw.instance {
        found.require(plain_name(instance), "instance", quoted(instance), allowed);
    }
    found.require(
        (1..=256).contains(&raw.workers),
        "workers",
        raw.workers,
        "from 1 to 256",
    );
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn kafka(raw: &Raw, found: &mut Found) -> Option<TokenSource> {
    let brokers = &raw.kafka.brokers;
    found.require(
        !brokers.is_empty() && brokers.split(',').all(|broker| !broker.trim().is_empty()),
        "kafka.brokers",
        quoted(brokers),
        "host:port, several with commas",
    );
    for (name, value) in &raw.kafka.properties.0 {
        let plain = name.to_ascii_lowercase();
        let key = format!("kafka.properties.{name}");
        if let Some(why) = refused(&plain) {
            found.add(&key, format!("cannot be set: {why}"));
        } else if let Err(problem) = check_property(&plain, value) {
            found.add(&key, problem);
        }
    }
    let mut properties = raw.kafka.lowercase_properties();
    let tokens = oauth::take_settings(&mut properties).unwrap_or_else(|problems| {
        for (name, problem) in problems {
            found.add(&format!("kafka.properties.{name}"), problem);
        }
        None
    });
    tokens.map(TokenSource::new)
}

fn input(raw: &Raw, found: &mut Found) {
    let input = &raw.input;
    if input.topics.is_empty() {
        found.add("input.topics", "is empty, but needs at least one topic");
    }
    for topic in &input.topics {
        require_topic(topic, "input.topics", found);
    }
    found.require(
        !input.group.is_empty(),
        "input.group",
        quoted(&input.group),
        "a name",
    );
    found.require(
        input.dead_letters_max <= 10_000,
        "input.dead_letters_max",
        input.dead_letters_max,
        "at most 10000: dead letters among 10000 records",
    );
    let schema = input.schema();
    found.require(
        !matches!(input.format, Format::F32 | Format::Avro | Format::Protobuf) || !schema.is_auto(),
        "input.features",
        quoted("auto"),
        "a list of names or { array = \"name\", len = N } where `input.format` is \"f32\", \"avro\" or \"protobuf\": such a record does not say what it has",
    );
    let mut stand_in = schema;
    if stand_in.is_auto() {
        // The features are found later; what is said about them is checked now, as if they were those that it names.
        let named = input.missing_for.keys().cloned();
        let features = named.filter(|path| !input.categories.contains_key(path));
        stand_in.features = Features::List(features.chain([STAND_IN.to_owned()]).collect());
    }
    if let Err(problems) = stand_in.check() {
        for problem in problems {
            found.add(&format!("input.{}", problem.key), problem.problem);
        }
    }
}

fn has_repeats(values: &[String]) -> bool {
    let mut sorted: Vec<_> = values.iter().collect();
    sorted.sort();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

fn require_topic(topic: &str, key: &str, found: &mut Found) {
    let legal = (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    found.require(
        legal,
        key,
        quoted(topic),
        "a topic's name: 1 to 249 letters, digits, `.`, `_` or `-`",
    );
}

fn output(raw: &Raw, found: &mut Found) {
    let output = &raw.output;
    for (key, topic) in [
        ("output.alerts", &output.alerts),
        ("output.dead_letters", &output.dead_letters),
        ("output.state", &output.state),
    ] {
        require_topic(topic, key, found);
    }
    for (key, topic) in [
        ("output.scores", &output.scores),
        ("output.late", &output.late),
        ("output.drift", &output.drift),
    ] {
        if let Some(topic) = topic {
            require_topic(topic, key, found);
        }
    }
    if output.emit_code && output.scores.is_none() {
        found.add(
            "output.emit_code",
            "is true, but codes go out with the scores, and `output.scores` names no topic",
        );
    }
}

/// What is written must not be read again, and two kinds of messages must not share a topic (late records and dead letters may).
fn topics_are_distinct(raw: &Raw, found: &mut Found) {
    let Raw { input, output, .. } = raw;
    let mut written = vec![
        ("output.alerts", output.alerts.as_str()),
        ("output.dead_letters", &output.dead_letters),
        ("output.state", &output.state),
    ];
    if let Some(scores) = &output.scores {
        written.push(("output.scores", scores));
    }
    if let Some(drift) = &output.drift {
        written.push(("output.drift", drift));
    }
    if let Some(late) = output
        .late
        .as_ref()
        .filter(|late| **late != output.dead_letters)
    {
        written.push(("output.late", late));
    }
    if raw.models.in_kafka() {
        written.push(("models.topic", &raw.models.topic));
    }
    written.push(("feedback.topic", &raw.feedback.topic));
    for (index, (key, topic)) in written.iter().enumerate() {
        if input.topics.iter().any(|read| read == topic) {
            found.add(
                key,
                format!("is \"{topic}\", which `input.topics` reads: the daemon would read what it writes"),
            );
        }
        if let Some((other, _)) = written[..index].iter().find(|(_, other)| other == topic) {
            found.add(key, format!("is \"{topic}\", which `{other}` is already"));
        }
    }
    if has_repeats(&input.topics) {
        found.add("input.topics", "names a topic twice");
    }
}

fn training(raw: &Raw, found: &mut Found) {
    let training = &raw.training;
    found.require(
        training.interval >= Duration::from_secs(1),
        "training.interval",
        format_duration(training.interval),
        "at least 1s",
    );
    found.require(
        training.history >= Duration::from_secs(1),
        "training.history",
        format_duration(training.history),
        "at least 1s",
    );
    found.require(
        training.rows_min >= 50,
        "training.rows_min",
        training.rows_min,
        "at least 50",
    );
    found.require(
        training.rows_max >= training.rows_min,
        "training.rows_max",
        training.rows_max,
        &format!(
            "at least `training.rows_min`, which is {}",
            training.rows_min
        ),
    );
    found.require(
        (0.0..=1.0).contains(&raw.gate.recall_tolerance),
        "gate.recall_tolerance",
        raw.gate.recall_tolerance,
        "from 0 to 1",
    );
    if let Err(problems) = raw.model.check() {
        for problem in problems {
            found.add(&format!("model.{}", problem.key), problem.problem);
        }
    }
}

/// What a key's state has beside its rows, at most: episodes, season, names.
const STATE_FRAME: usize = 64 * 1024;

/// The most features of which a key's state is sure to fit into one record of the state topic: its window, its cold start, and a few numbers of
/// each feature, eight bytes a number.
pub fn features_max(window: usize) -> usize {
    (MESSAGE_MAX - STATE_FRAME) / (8 * (window + ROWS_MAX + EXCURSIONS + 4))
}

/// A key's state is one record. `auto` features are counted when they are found.
fn windows_fit(raw: &Raw, found: &mut Found) {
    let Ok(schema) = raw.input.schema().check() else {
        return;
    };
    let (columns, most) = (schema.columns().len(), features_max(raw.model.window));
    if most < columns {
        found.add("model.window", too_wide(raw.model.window, columns, most));
    }
}

/// What is wrong where a window has too many features.
pub fn too_wide(window: usize, columns: usize, most: usize) -> String {
    format!(
        "is {window}, and with {columns} features a key's state would not fit into one record of the state topic (4 MiB): with this window there may be {most}"
    )
}

fn budget(rate: &Rate, found: &mut Found) -> Budget {
    match rate {
        Rate::PerRecord(rate) => Budget::PerRecord(*rate),
        Rate::PerTime(text) => Budget::parse(text).unwrap_or_else(|| {
            found.add(
                "alerts.false_alarm_rate",
                format!("is \"{text}\", but must be episodes per key and hour, day, week or month such as \"1/week\", for all keys together such as \"1/day/fleet\", or a probability per record such as 0.0001"),
            );
            Budget::PerKeyDay(1.0)
        }),
    }
}

fn detect(raw: &Raw, found: &mut Found) -> Params {
    let alerts = &raw.alerts;
    let params = Params {
        detector: raw.name.as_str().into(),
        group: raw.input.group.clone(),
        public_url: public_url(raw, found),
        budget: budget(&alerts.false_alarm_rate, found),
        cooldown: alerts.cooldown,
        silence_factor: alerts.silence_factor,
        late_after: raw.input.late_after,
        storm_opens_max: alerts.storm_opens_max,
        window: raw.model.window,
        seasonal: raw.model.seasonal && raw.model.kind == "auto",
        snapshot_records: raw.state.snapshot_records,
        keys_max: raw.state.keys_max,
        quarantine_keep: raw.training.history,
        emit_scores: raw.output.scores.is_some(),
        emit_code: raw.output.emit_code,
        ..Params::default()
    };
    for problem in params.check() {
        // The window belongs to the model, and a name is checked more strictly here.
        if problem.field != "window" && problem.field != "detector" {
            found.add(key_of(problem.field), problem.problem);
        }
    }
    params
}

/// The configuration keys of those fields of [`Params`] that have one and are checked there.
const PARAM_KEYS: [(&str, &str); 4] = [
    ("budget", "alerts.false_alarm_rate"),
    ("silence_factor", "alerts.silence_factor"),
    ("snapshot_records", "state.snapshot_records"),
    ("keys_max", "state.keys_max"),
];

/// The key to change where a field of [`Params`] is wrong. The other fields are constants: their own name, should one be wrong.
fn key_of(field: &'static str) -> &'static str {
    PARAM_KEYS
        .iter()
        .find(|(known, _)| *known == field)
        .map_or(field, |(_, key)| key)
}

fn batch(raw: &Raw, found: &mut Found) {
    let batch = &raw.batch;
    found.require(
        (1..=1_000_000).contains(&batch.records_max),
        "batch.records_max",
        batch.records_max,
        "from 1 to 1000000",
    );
    let poll = Duration::from_millis(property(
        raw,
        "max.poll.interval.ms",
        MAX_POLL_INTERVAL_MS,
        found,
    ));
    let transaction = Duration::from_millis(property(
        raw,
        "transaction.timeout.ms",
        TRANSACTION_TIMEOUT_MS,
        found,
    ));
    if batch.wait + transaction >= poll {
        found.add(
            "batch.wait",
            format!(
                "is {}, and with `transaction.timeout.ms` ({}) it must be below `max.poll.interval.ms` ({}), or the group would drop a member that is only slow",
                format_duration(batch.wait),
                format_duration(transaction),
                format_duration(poll),
            ),
        );
    }
}

/// A whole number among librdkafka's properties.
fn property(raw: &Raw, name: &str, default: u64, found: &mut Found) -> u64 {
    let Some(value) = raw.kafka.properties.0.get(name) else {
        return default;
    };
    value.parse().unwrap_or_else(|_| {
        found.add(
            &format!("kafka.properties.{name}"),
            format!("is \"{value}\", but must be a whole number"),
        );
        default
    })
}

fn http(raw: &Raw, found: &mut Found) -> Option<SocketAddr> {
    let listen = raw.http.listen.trim();
    if listen.is_empty() {
        return None;
    }
    // `:9464` listens everywhere, as people are used to.
    let full = match listen.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => listen.replacen("localhost:", "127.0.0.1:", 1),
    };
    let address = full.parse();
    if address.is_err() {
        found.add(
            "http.listen",
            format!("is \"{listen}\", but must be an address and a port such as \"127.0.0.1:9464\" or \":9464\", or \"\" for none"),
        );
    }
    address.ok()
}

/// A token that cannot be guessed is longer than what people think up.
const TOKEN_MIN: usize = 16;

/// Takes the token's digest, and leaves it in the token's place: nobody needs more of it.
fn token(raw: &mut Raw, found: &mut Found) -> Option<TokenDigest> {
    let token = std::mem::take(&mut raw.http.token);
    let token = token.as_str();
    if token.is_empty() {
        return None;
    }
    if let Some(known) = TokenDigest::read(token) {
        token.clone_into(&mut raw.http.token);
        return Some(known);
    }
    if token.chars().count() < TOKEN_MIN {
        found.add(
            "http.token",
            format!("is too short: it takes {TOKEN_MIN} characters at least"),
        );
    }
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        found.add(
            "http.token",
            "has blanks or characters that no HTTP header can have",
        );
    }
    let digest = TokenDigest::of(token);
    raw.http.token = digest.written();
    Some(digest)
}

fn public_url(raw: &Raw, found: &mut Found) -> Option<Arc<str>> {
    let url = raw.http.public_url.trim_end_matches('/');
    if url.is_empty() {
        return None;
    }
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let plain = |host: &str| {
        !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c))
    };
    found.require(
        host.is_some_and(plain),
        "http.public_url",
        quoted(url),
        "http:// or https:// with a host and perhaps a port, and no path, such as \"https://anomalyd.example.com\"",
    );
    Some(Arc::from(url))
}

fn log(raw: &Raw, found: &mut Found) {
    // A word by itself would be taken for the name of a module, and all others would be silent.
    let level = |part: &str| part.trim().parse::<LevelFilter>().is_ok();
    let parts = raw.log.level.split(',').all(|part| {
        let of_module = part.split_once('=');
        of_module.map_or_else(|| level(part), |(_, of_module)| level(of_module))
    });
    found.require(
        parts && raw.log.level.parse::<Targets>().is_ok(),
        "log.level",
        quoted(&raw.log.level),
        "error, warn, info, debug, trace, or a filter such as \"info,anomalyd::kafka=debug\"",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::known_keys;

    #[test]
    fn what_is_wrong_with_detection_names_keys_that_exist() {
        let mut keys = Vec::new();
        let table = toml::Table::try_from(Raw::default()).unwrap();
        known_keys(&table, "", &mut keys);
        // Everything that a key can set, set wrongly.
        let params = Params {
            budget: Budget::PerRecord(1.0),
            silence_factor: 0.5,
            snapshot_records: 0,
            keys_max: 0,
            ..Params::default()
        };
        let named: Vec<&str> = params.check().iter().map(|p| key_of(p.field)).collect();
        assert_eq!(named.len(), PARAM_KEYS.len());
        for key in named {
            assert!(keys.iter().any(|known| known == key), "{key}");
        }
    }
}
