//! Whether Kafka answers at all: what a command that a person waits for asks first, so that a wrong address is told within seconds, and by its name.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use super::KafkaFailure;
use super::settings::{Connection, Isolation};
use super::tokens::Authenticated;

/// How long a first answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Events that a client may have heaped up meanwhile, as far as they are looked through.
const EVENTS_MAX: usize = 100;

/// Keeps what went wrong last, and logs nothing: it is told once, in a line.
#[derive(Debug, Default)]
struct Quiet {
    why: Mutex<Option<String>>,
}

impl Quiet {
    fn why(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // Connections that fail: `[thrd:k:9092/bootstrap]: k:9092/bootstrap: Connect to ... failed: Connection refused (after ...)`.
        if facility == "FAIL" {
            let told = message.split_once("]: ").map_or(message, |(_, told)| told);
            let told = told.split_once(" (after ").map_or(told, |(told, _)| told);
            *self.why() = Some(told.to_owned());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// Asks for an answer, about a topic if one is named: about all would be much.
///
/// # Errors
/// Where there is none within seconds.
pub fn reach(connection: &Connection, topic: Option<&str>) -> Result<(), KafkaFailure> {
    reach_within(connection, topic, ANSWER_MAX)
}

fn reach_within(
    connection: &Connection,
    topic: Option<&str>,
    limit: Duration,
) -> Result<(), KafkaFailure> {
    let config = connection.reader(Isolation::Committed);
    let client: Authenticated<BaseConsumer<Quiet>> =
        connection.client(&config, Quiet::default(), None)?;
    if client.fetch_metadata(topic, limit).is_ok() {
        return Ok(());
    }
    // What happened meanwhile is told when it is asked for.
    for _ in 0..EVENTS_MAX {
        drop(client.poll(Duration::ZERO));
    }
    let why = client.context().why().take();
    Err(KafkaFailure::Away {
        brokers: connection.brokers.clone(),
        limit,
        why: why.map(|why| format!(" ({why})")).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use crate::demo::broker::EmbeddedBroker;

    fn asked(brokers: &str, limit: Duration) -> Result<(), KafkaFailure> {
        let sources = Sources {
            set: vec![format!("kafka.brokers={brokers}")],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        reach_within(&config.connection(), Some("records"), limit)
    }

    #[test]
    fn an_address_where_nobody_answers_is_named_with_the_setting() {
        let broker = EmbeddedBroker::start(&[("records", 1)]).unwrap();
        asked(&broker.address(), Duration::from_secs(30)).unwrap();
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let failure = asked(&address, Duration::from_secs(1)).unwrap_err();
        let said = failure.to_string();
        let begins = format!("kafka.brokers: no answer from `{address}` within 1 s (");
        assert!(said.starts_with(&begins), "{said}");
        assert!(
            said.contains("Connection refused)") && said.contains("--brokers"),
            "{said}"
        );
        assert!(failure.passes() && !failure.is_configuration());
    }
}
