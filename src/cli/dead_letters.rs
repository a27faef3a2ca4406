//! `anomalyd dead-letters`: what could not be read, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::args::DeadLettersListArgs;
use super::exit::Failure;
use super::output::print;
use crate::config::Config;
use crate::kafka::dead_letter_log::{Letter, last};
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock, Timestamp};

/// Characters of a value that are shown.
const VALUE_MAX: usize = 120;

/// Lists the last dead letters.
pub(super) fn list(config: &Config, arguments: &DeadLettersListArgs) -> Result<(), Failure> {
    let letters = read(config, arguments.last)?;
    if !arguments.json {
        return print(&shown(&letters, &config.output.dead_letters));
    }
    for letter in &letters {
        let line = serde_json::to_string(letter);
        print(&(line.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))?;
    }
    Ok(())
}

/// The last letters of all partitions.
fn read(config: &Config, most: usize) -> Result<Vec<Letter>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    let of_each = i64::try_from(most).unwrap_or(i64::MAX);
    let topic = (config.output.dead_letters.as_str(), of_each);
    let mut letters = last(&config.connection(), topic, (clock, watchdog))?;
    letters.drain(..letters.len().saturating_sub(most));
    Ok(letters)
}

/// A few lines a letter, the oldest first, and how many there are for each reason.
fn shown(letters: &[Letter], topic: &str) -> String {
    if letters.is_empty() {
        return format!("{topic} has no dead letters: every record could be read\n");
    }
    let mut out = String::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in letters {
        *reasons.entry(&letter.reason).or_default() += 1;
        writeln!(
            out,
            "{}  {}[{}]@{}  {}: {}",
            Timestamp(letter.timestamp).rfc3339(),
            letter.topic,
            letter.partition,
            letter.offset,
            letter.reason,
            letter.message
        )
        .unwrap_or_default();
        let key = letter.key.as_deref().unwrap_or("no key");
        let value = letter.value.as_deref().unwrap_or("no value");
        writeln!(out, "    {}: {}", printable(key), printable(value)).unwrap_or_default();
    }
    let counts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    writeln!(out, "{} shown: {}", letters.len(), counts.join(", ")).unwrap_or_default();
    out
}

/// The beginning of a text, with nothing in it that a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(VALUE_MAX)
        .map(|c| if c.is_control() { '·' } else { c })
        .collect();
    if text.chars().nth(VALUE_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::config::Sources;
    use crate::demo::broker::EmbeddedBroker;
    use crate::record::dead_letter::{DeadLetter, Refusal};
    use crate::stream::{Offset, TopicPartition};

    #[test]
    fn the_last_letters_of_all_partitions_are_read_back_as_they_were_written() {
        let broker = EmbeddedBroker::start(&[("dead", 2)]).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .create()
            .unwrap();
        for offset in 0..5 {
            let letter = DeadLetter {
                detector: "pumps".into(),
                at: TopicPartition::new("records", 3),
                offset: Offset(offset),
                timestamp: Timestamp(1_760_000_000_000 + offset),
                key: Some(b"pump".to_vec()),
                value: Some(b"{".to_vec()),
                headers: Vec::new(),
                reason: Refusal::Late(Duration::from_secs(5)),
            };
            let mut headers = OwnedHeaders::new();
            for header in letter.all_headers() {
                headers = headers.insert(Header {
                    key: &header.name,
                    value: header.value.as_deref(),
                });
            }
            let message = BaseRecord::to("dead")
                .key("pump")
                .payload("{")
                .partition(i32::from(offset % 2 == 0))
                .timestamp(letter.timestamp.0)
                .headers(headers);
            producer.send(message).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let sources = Sources {
            set: vec![
                format!("kafka.brokers={}", broker.address()),
                "output.dead_letters=dead".to_owned(),
            ],
            ..Sources::default()
        };
        let found = read(&Config::load(&sources).unwrap(), 3).unwrap();
        let places: Vec<i64> = found.iter().map(|letter| letter.offset).collect();
        assert_eq!(places, [2, 3, 4]);
        let newest = &found[2];
        assert_eq!((newest.topic.as_str(), newest.partition), ("records", 3));
        assert_eq!(
            (newest.reason.as_str(), newest.key.as_deref()),
            ("late", Some("pump"))
        );
        assert!(
            newest.message.contains("more than 5s older"),
            "{}",
            newest.message
        );
    }

    #[test]
    fn letters_are_told_with_their_reason_and_nothing_that_a_terminal_obeys() {
        let letter = Letter {
            topic: "records".to_owned(),
            partition: 3,
            offset: 17,
            reason: "not_json".to_owned(),
            message: "is not JSON".to_owned(),
            value: Some(format!("\x1b[31m{}", "x".repeat(200))),
            ..Letter::default()
        };
        let text = shown(&[letter.clone(), letter], "dead");
        assert!(
            text.contains("records[3]@17  not_json: is not JSON"),
            "{text}"
        );
        assert!(
            !text.contains('\x1b') && text.contains("no key: ·[31mxx"),
            "{text}"
        );
        assert!(text.ends_with("2 shown: 2 not_json\n"), "{text}");
        assert!(shown(&[], "dead").contains("dead has no dead letters"));
    }
}
