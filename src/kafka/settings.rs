//! Which librdkafka properties a client gets: ours, then the user's, then those that a promise rests on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};

use super::schemas::SchemaSource;
use super::tokens::{Authenticated, NativeClient, TokenSource};
use super::watchdog::Watchdog;
use super::{KafkaFailure, oauth};

/// Properties that a promise rests on, with what to set instead. Configuration refuses them by name.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `kafka.brokers` instead"),
    ("metadata.broker.list", "set `kafka.brokers` instead"),
    ("group.id", "set `input.group` instead"),
    ("auto.offset.reset", "set `input.start` instead"),
    (
        "enable.auto.commit",
        "offsets commit with what was made of the records",
    ),
    (
        "auto.commit.enable",
        "offsets commit with what was made of the records",
    ),
    (
        "auto.commit.interval.ms",
        "offsets commit with what was made of the records",
    ),
    (
        "enable.auto.offset.store",
        "offsets commit with what was made of the records",
    ),
    (
        "isolation.level",
        "only committed records are read, or replay would differ from live",
    ),
    (
        "transactional.id",
        "it is made from group, instance and worker, so that a stale process is fenced",
    ),
    (
        "enable.idempotence",
        "without it a retry could publish an alert twice",
    ),
    (
        "acks",
        "without all acknowledgements a commit could be lost",
    ),
    (
        "request.required.acks",
        "without all acknowledgements a commit could be lost",
    ),
    (
        "max.in.flight",
        "it could change the order of a key's records",
    ),
    (
        "max.in.flight.requests.per.connection",
        "it could change the order of a key's records",
    ),
    (
        "retries",
        "without them a passing fault would lose an alert",
    ),
    (
        "message.send.max.retries",
        "without them a passing fault would lose an alert",
    ),
    ("enable.gapless.guarantee", "it is part of exactly-once"),
    ("enable.partition.eof", "the state is restored by it"),
    ("statistics.interval.ms", "lag is measured by it"),
    ("plugin.library.paths", "configuration does not load code"),
];

/// Properties that only a consumer has: librdkafka warns when a producer is given them.
const CONSUMER_ONLY: &[&str] = &[
    "auto.offset.reset",
    "check.crcs",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
    "consume.callback.max.messages",
    "offset.store.method",
];

/// Properties that only a producer has.
const PRODUCER_ONLY: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "linger.ms",
    "message.timeout.ms",
    "msg_order_cmp",
    "partitioner",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
];

/// Membership properties that a reader outside the group must not have.
const MEMBERSHIP: &[&str] = &[
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

/// Our default for `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT_MS: u64 = 10_000;

/// Why a property may not be set by the user and what to do instead; `None` if it may.
pub fn refused(property: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|(name, _)| *name == property)
        .map(|(_, instead)| *instead)
}

/// The names of the property that says how clients say who they are.
const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];

/// Why this build cannot say who it is by `mechanism`, and what works; `None` if it can. librdkafka takes the name of any, and fails when it connects.
pub fn cannot_authenticate_by(mechanism: &str) -> Option<String> {
    let features = ClientConfig::new()
        .create_native_config()
        .and_then(|config| config.get("builtin.features"))
        .unwrap_or_default();
    let built_in = |name: &str| features.split(',').any(|feature| feature.trim() == name);
    let works = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => built_in("sasl_plain"),
        "SCRAM-SHA-256" | "SCRAM-SHA-512" => built_in("sasl_scram"),
        "GSSAPI" => built_in("sasl_gssapi"),
        // Tokens are got by us.
        "OAUTHBEARER" => built_in("sasl_oauthbearer"),
        _ => false,
    };
    (!works).then(|| {
        format!(
            "`{mechanism}` is not in this build: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER (`sasl.oauthbearer.method` = \"oidc\") are, and client certificates without SASL (`security.protocol` = \"SSL\", `ssl.certificate.location`, `ssl.key.location`)"
        )
    })
}

/// Checks that librdkafka knows `property` and takes `value`; the problem in words if not.
pub fn check_property(property: &str, value: &str) -> Result<(), String> {
    if MECHANISM.contains(&property)
        && let Some(problem) = cannot_authenticate_by(value)
    {
        return Err(problem);
    }
    // Checked together: see [`take_settings`](super::oauth::take_settings).
    if oauth::is_setting(property) {
        return Ok(());
    }
    let mut config = ClientConfig::new();
    config.set(property, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(rdkafka::error::KafkaError::ClientConfig(_, text, ..)) => Err(text),
        Err(error) => Err(error.to_string()),
    }
}

/// How to reach Kafka: what all clients of the process share.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The consumer group: one per detector.
    pub group: String,
    /// librdkafka's own properties as the user set them, checked, secrets resolved.
    pub properties: BTreeMap<String, String>,
    /// Where tokens come from, with OAUTHBEARER.
    pub tokens: Option<TokenSource>,
    /// The schema registry, where there is one.
    pub schemas: Option<SchemaSource>,
}

impl std::fmt::Debug for Connection {
    /// Leaves the properties' values out: there may be secrets among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("properties", &self.properties.keys())
            .field("tokens", &self.tokens)
            .field("schemas", &self.schemas)
            .finish()
    }
}

impl Connection {
    /// A member of the consumer group; `worker` makes a static instance id unique.
    pub fn member(&self, worker: usize) -> ClientConfig {
        let mut config = self.base(PRODUCER_ONLY);
        config.set("group.id", &self.group);
        if let Some(instance) = self.properties.get("group.instance.id") {
            config.set("group.instance.id", format!("{instance}-{worker}"));
        }
        let new_protocol = self
            .properties
            .get("group.protocol")
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
        if !new_protocol {
            self.default(
                &mut config,
                "partition.assignment.strategy",
                "cooperative-sticky",
            );
            self.default(&mut config, "session.timeout.ms", "10000");
            self.default(&mut config, "heartbeat.interval.ms", "1000");
        }
        // A commit of offsets waits as long as this for its answer, and nothing can be done meanwhile.
        self.default(&mut config, "socket.timeout.ms", "20000");
        // A consumer whose queue filled once otherwise waits a whole second before it fetches on.
        self.default(&mut config, "fetch.queue.backoff.ms", "10");
        self.default(&mut config, "fetch.error.backoff.ms", "100");
        self.default(&mut config, "queued.max.messages.kbytes", "32768");
        // Where a group starts is decided by us, and so is where to go on when retention overtook us: what was lost is counted.
        config.set("auto.offset.reset", "error");
        config.set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("statistics.interval.ms", "2000");
        config
    }

    /// A reader outside the group: `assign` only. It names the group to read its committed offsets.
    pub fn reader(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.base(PRODUCER_ONLY);
        for name in MEMBERSHIP {
            config.remove(name);
        }
        config.set("group.id", &self.group);
        config.set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true");
        self.default(&mut config, "fetch.queue.backoff.ms", "10");
        self.default(&mut config, "fetch.wait.max.ms", "20");
        config.set(
            "isolation.level",
            match isolation {
                Isolation::Committed => "read_committed",
                Isolation::Uncommitted => "read_uncommitted",
            },
        );
        config
    }

    /// A transactional producer.
    pub fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.producer();
        config.set("transactional.id", id);
        // How long a killed worker's partitions wait for the broker to abort what it left open.
        let timeout = TRANSACTION_TIMEOUT_MS.to_string();
        self.default(&mut config, "transaction.timeout.ms", &timeout);
        config
    }

    /// How long a transaction may stay open before the broker aborts it.
    pub fn transaction_timeout(&self) -> Duration {
        let set = self.properties.get("transaction.timeout.ms");
        let millis = set.and_then(|millis| millis.parse().ok());
        Duration::from_millis(millis.unwrap_or(TRANSACTION_TIMEOUT_MS))
    }

    /// An idempotent producer without transactions.
    pub fn idempotent(&self) -> ClientConfig {
        let mut config = self.producer();
        config.remove("transaction.timeout.ms");
        self.default(&mut config, "message.timeout.ms", "60000");
        config
    }

    /// For metadata, topics and offsets.
    pub fn admin(&self) -> ClientConfig {
        let mut config = self.base(PRODUCER_ONLY);
        for name in CONSUMER_ONLY {
            config.remove(name);
        }
        config
    }

    /// Makes a client of `config`. It connects later; but a token, where one is needed, is waited for.
    pub(super) fn client<T, C>(
        &self,
        config: &ClientConfig,
        context: C,
        watchdog: Option<&Watchdog>,
    ) -> Result<Authenticated<T>, KafkaFailure>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C> + NativeClient + 'static,
    {
        Authenticated::create((config, context), self.tokens.as_ref(), watchdog)
    }

    fn producer(&self) -> ClientConfig {
        let mut config = self.base(CONSUMER_ONLY);
        // A batch is handed over at once and then polled to empty: waiting for more would only add latency.
        self.default(&mut config, "linger.ms", "1");
        self.default(&mut config, "compression.type", "lz4");
        // The partition that Java's clients would choose for the same key.
        self.default(&mut config, "partitioner", "murmur2_random");
        // A dead letter is its record plus headers: above the record's own limit.
        self.default(&mut config, "message.max.bytes", "4194304");
        self.default(&mut config, "retry.backoff.ms", "20");
        config.set("delivery.report.only.error", "true");
        config.set("enable.idempotence", "true");
        config
    }

    fn base(&self, without: &[&str]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "anomalyd");
        config.set("reconnect.backoff.ms", "50");
        config.set("reconnect.backoff.max.ms", "2000");
        for (name, value) in &self.properties {
            if !without.contains(&name.as_str()) {
                config.set(name, value);
            }
        }
        config
    }

    fn default(&self, config: &mut ClientConfig, name: &str, value: &str) {
        if !self.properties.contains_key(name) {
            config.set(name, value);
        }
    }
}

/// Whether records of open transactions are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Only what was committed.
    Committed,
    /// All there is.
    Uncommitted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(properties: &[(&str, &str)]) -> Connection {
        Connection {
            brokers: "localhost:9092".to_owned(),
            group: "g".to_owned(),
            properties: properties
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            tokens: None,
            schemas: None,
        }
    }

    #[test]
    fn mechanisms_that_are_not_built_in_are_refused_with_those_that_are() {
        for name in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
            assert_eq!(check_property("sasl.mechanism", name), Ok(()), "{name}");
        }
        for name in ["GSSAPI", "AWS_MSK_IAM"] {
            for property in MECHANISM {
                let problem = check_property(property, name).expect_err(name);
                assert!(
                    problem.contains(name) && problem.contains("SCRAM-SHA-512"),
                    "{problem}"
                );
            }
        }
    }

    #[test]
    fn what_a_promise_rests_on_is_refused_and_the_rest_is_not() {
        for name in [
            "enable.auto.commit",
            "isolation.level",
            "transactional.id",
            "enable.idempotence",
            "group.id",
            "auto.offset.reset",
        ] {
            assert!(refused(name).is_some(), "{name}");
        }
        assert_eq!(refused("linger.ms"), None);
        assert_eq!(refused("sasl.mechanism"), None);
    }

    #[test]
    fn librdkafka_knows_every_property_that_is_named_here() {
        for name in CONSUMER_ONLY.iter().chain(PRODUCER_ONLY).chain(MEMBERSHIP) {
            let problem = check_property(name, "nonsense value")
                .err()
                .unwrap_or_default();
            assert!(
                !problem.contains("No such configuration"),
                "{name}: {problem}"
            );
        }
        assert!(check_property("linger.sm", "1").is_err());
        assert!(check_property("linger.ms", "1").is_ok());
    }

    #[test]
    fn the_users_value_wins_over_a_default_and_loses_to_a_promise() {
        let config =
            connection(&[("linger.ms", "7"), ("enable.idempotence", "false")]).idempotent();
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn each_side_gets_its_own_properties_only() {
        let connection = connection(&[("linger.ms", "7"), ("session.timeout.ms", "9000")]);
        assert_eq!(connection.member(0).get("linger.ms"), None);
        assert_eq!(connection.member(0).get("session.timeout.ms"), Some("9000"));
        assert_eq!(connection.idempotent().get("session.timeout.ms"), None);
        assert_eq!(
            connection
                .reader(Isolation::Committed)
                .get("session.timeout.ms"),
            None
        );
    }

    #[test]
    fn the_new_protocol_gets_no_classic_properties_and_a_static_name_is_unique() {
        let connection = connection(&[("group.protocol", "consumer"), ("group.instance.id", "a")]);
        let member = connection.member(3);
        assert_eq!(member.get("partition.assignment.strategy"), None);
        assert_eq!(member.get("session.timeout.ms"), None);
        assert_eq!(member.get("group.instance.id"), Some("a-3"));
    }

    #[test]
    fn secrets_are_not_in_the_debug_text() {
        let text = format!("{:?}", connection(&[("sasl.password", "hunter2")]));
        assert!(!text.contains("hunter2"));
    }
}
