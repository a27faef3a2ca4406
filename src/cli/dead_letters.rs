//! `anomalyd dead-letters`: what could not be read, and why; and once that is mended, again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::args::{DeadLettersListArgs, DeadLettersReplayArgs};
use super::exit::Failure;
use super::output::print;
use super::outside::outside;
use crate::config::Config;
use crate::kafka::dead_letter_log::{Found, Letter, Original, last, send};
use crate::time::Timestamp;

/// Characters of a value that are shown.
const VALUE_MAX: usize = 120;

/// Lists the last dead letters.
pub(super) fn list(config: &Config, arguments: &DeadLettersListArgs) -> Result<(), Failure> {
    let found = read(config, arguments)?;
    if !arguments.json {
        return print(&shown(&found, config));
    }
    for letter in &found.letters {
        let line = serde_json::to_string(letter);
        print(&(line.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))?;
    }
    Ok(())
}

/// Sends records again.
pub(super) fn replay(config: &Config, arguments: &DeadLettersReplayArgs) -> Result<(), Failure> {
    let topic = (config.output.dead_letters.as_str(), arguments.last);
    let waits = outside(config)?;
    let mut all: Vec<Original> = last(&config.connection(), topic, |_| true, waits)?.letters;
    all.drain(..all.len().saturating_sub(arguments.last));
    let (chosen, passed) = choose(&all, arguments, &config.input.topics);
    if !arguments.dry_run {
        send(&config.connection(), &chosen, arguments.to.as_deref())?;
    }
    print(&told(&chosen, &passed, arguments))
}

/// Which are sent again, and how many of those that fit are not, by why.
fn choose<'l>(
    all: &'l [Original],
    arguments: &DeadLettersReplayArgs,
    inputs: &[String],
) -> (Vec<&'l Original>, BTreeMap<&'static str, usize>) {
    let mut chosen = Vec::new();
    let mut passed: BTreeMap<&'static str, usize> = BTreeMap::new();
    for original in all {
        let letter = &original.letter;
        let fits = |wanted: &[String], own: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == own)
        };
        let key = letter.key.as_deref().unwrap_or_default();
        if !fits(&arguments.reasons, &letter.reason) || !fits(&arguments.keys, key) {
            continue;
        }
        let why = if original.omitted {
            "too large to be kept: their values were left out"
        } else if original.was_replayed() && !arguments.again {
            "sent again before (--again takes them, too)"
        } else if arguments.to.is_none() && !inputs.contains(&letter.topic) {
            "from a topic that is no input any more (--to says where)"
        } else {
            chosen.push(original);
            continue;
        };
        *passed.entry(why).or_default() += 1;
    }
    (chosen, passed)
}

/// What was sent where, or would be, and what was not.
fn told(
    chosen: &[&Original],
    passed: &BTreeMap<&'static str, usize>,
    arguments: &DeadLettersReplayArgs,
) -> String {
    let mut to: BTreeMap<&str, usize> = BTreeMap::new();
    for original in chosen {
        let place = arguments.to.as_deref().unwrap_or(&original.letter.topic);
        *to.entry(place).or_default() += 1;
    }
    let sent = if arguments.dry_run {
        "would be sent"
    } else {
        "sent"
    };
    let mut out = String::new();
    for (topic, count) in &to {
        writeln!(out, "{count} {sent} to {topic}").unwrap_or_default();
    }
    if to.is_empty() {
        writeln!(out, "none {sent}").unwrap_or_default();
    }
    for (why, count) in passed {
        writeln!(out, "{count} passed over: {why}").unwrap_or_default();
    }
    out
}

/// The last letters of all partitions: of the detector's input, for others may write to the same topic, or of all.
fn read(config: &Config, arguments: &DeadLettersListArgs) -> Result<Found<Letter>, Failure> {
    let topic = (config.output.dead_letters.as_str(), arguments.last);
    let wanted = |letter: &Letter| arguments.all || config.input.topics.contains(&letter.topic);
    let mut found: Found<Letter> = last(&config.connection(), topic, wanted, outside(config)?)?;
    let more = found.letters.len().saturating_sub(arguments.last);
    found.letters.drain(..more);
    Ok(found)
}

/// A few lines a letter, the oldest first, and how many there are for each reason.
fn shown(Found { letters, others }: &Found<Letter>, config: &Config) -> String {
    let (topic, inputs) = (&config.output.dead_letters, config.input.topics.join(", "));
    match (letters.is_empty(), others) {
        (true, 0) => return format!("{topic} has no dead letters: every record could be read\n"),
        (true, others) => {
            return format!(
                "{topic} has no dead letters of {inputs}, but {others} of other topics: --all lists them\n"
            );
        }
        _ => {}
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
    let others = match others {
        0 => String::new(),
        others => {
            format!(" ({others} of other topics than {inputs} passed over: --all lists them)")
        }
    };
    writeln!(
        out,
        "{} shown: {}{others}",
        letters.len(),
        counts.join(", ")
    )
    .unwrap_or_default();
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

    use super::super::outside::unasked;
    use super::*;
    use crate::config::Sources;
    use crate::demo::broker::EmbeddedBroker;
    use crate::record::dead_letter::{DeadLetter, Refusal};
    use crate::stream::{Offset, TopicPartition};

    /// A record that came too late.
    fn refused(offset: i64) -> DeadLetter {
        DeadLetter {
            detector: "pumps".into(),
            at: TopicPartition::new("records", 3),
            offset: Offset(offset),
            timestamp: Timestamp(1_760_000_000_000 + offset),
            key: Some(b"pump".to_vec()),
            value: Some(b"{".to_vec()),
            headers: Vec::new(),
            reason: Refusal::Late(Duration::from_secs(5)),
        }
    }

    /// Writes a letter as the daemon does.
    fn put(producer: &BaseProducer, letter: &DeadLetter, (key, value): (&str, &str), to: i32) {
        let mut headers = OwnedHeaders::new();
        for header in letter.all_headers() {
            headers = headers.insert(Header {
                key: &header.name,
                value: header.value.as_deref(),
            });
        }
        let message = BaseRecord::to("dead").key(key).payload(value);
        let message = message.partition(to).headers(headers);
        let message = message.timestamp(letter.timestamp.0);
        producer.send(message).map_err(|(error, _)| error).unwrap();
    }

    #[test]
    fn the_last_letters_of_all_partitions_are_read_back_as_they_were_written() {
        let broker = EmbeddedBroker::start(&[("dead", 2)]).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .create()
            .unwrap();
        for offset in 0..5 {
            let partition = i32::from(offset % 2 == 0);
            put(&producer, &refused(offset), ("pump", "{"), partition);
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let sources = Sources {
            set: vec![
                format!("kafka.brokers={}", broker.address()),
                "output.dead_letters=dead".to_owned(),
            ],
            ..Sources::default()
        };
        let mut arguments = DeadLettersListArgs {
            last: 3,
            all: false,
            json: false,
        };
        let config = Config::load(&sources).unwrap();
        let found = read(&config, &arguments).unwrap().letters;
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
        // Many of another detector, after them.
        let other = |offset| DeadLetter {
            at: TopicPartition::new("others", 0),
            ..refused(offset)
        };
        for offset in 10..400 {
            put(&producer, &other(offset), ("oven", "{"), 1);
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let found = read(&config, &arguments).unwrap();
        let places: Vec<i64> = found.letters.iter().map(|letter| letter.offset).collect();
        assert_eq!((places, found.others), (vec![2, 3, 4], 390));
        arguments.all = true;
        let found = read(&config, &arguments).unwrap();
        let places: Vec<i64> = found.letters.iter().map(|letter| letter.offset).collect();
        assert_eq!((places, found.others), (vec![397, 398, 399], 0));
    }

    #[test]
    fn records_go_back_as_they_were() {
        let broker = EmbeddedBroker::start(&[("dead", 1), ("records", 4)]).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .create()
            .unwrap();
        let own = crate::record::Header {
            name: "__connect.errors.topic".into(),
            value: Some(b"another".to_vec().into()),
        };
        for (offset, key, value) in [(7, "pump", "{"), (8, "other", "}")] {
            let letter = DeadLetter {
                headers: vec![own.clone()],
                ..refused(offset)
            };
            put(&producer, &letter, (key, value), 0);
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let config = Config::load(&Sources {
            set: vec![
                format!("kafka.brokers={}", broker.address()),
                "input.topics=[\"records\"]".to_owned(),
                "output.dead_letters=dead".to_owned(),
            ],
            ..Sources::default()
        })
        .unwrap();
        let mut arguments = DeadLettersReplayArgs {
            last: 1000,
            reasons: vec!["late".to_owned()],
            keys: vec!["pump".to_owned()],
            to: None,
            again: false,
            dry_run: true,
        };
        let back = || -> Vec<Original> {
            last(&config.connection(), ("records", 1000), |_| true, unasked())
                .unwrap()
                .letters
        };
        replay(&config, &arguments).unwrap();
        assert_eq!(back(), []);
        arguments.dry_run = false;
        replay(&config, &arguments).unwrap();
        let found = back();
        assert_eq!(found.len(), 1);
        let record = &found[0];
        assert_eq!(record.value.as_deref(), Some(&b"{"[..]));
        assert_eq!(record.letter.timestamp, 1_760_000_000_007);
        // It had such a header of its own, which is taken for the beginning of ours here: it is there all the same.
        assert_eq!(record.letter.topic, "another");
        let all: Vec<Original> = last(&config.connection(), ("dead", 1000), |_| true, unasked())
            .unwrap()
            .letters;
        assert_eq!(all[0].headers.len(), 1);
    }

    #[test]
    fn what_was_sent_again_before_or_is_not_whole_is_passed_over() {
        let letter = Letter {
            topic: "records".to_owned(),
            reason: "late".to_owned(),
            ..Letter::default()
        };
        let plain = Original {
            letter,
            ..Original::default()
        };
        let mut all = [plain.clone(), plain.clone(), plain.clone(), plain];
        all[0].headers = vec![("anomalyd.replayed".to_owned(), None)];
        all[1].omitted = true;
        all[2].letter.topic = "gone".to_owned();
        let mut arguments = DeadLettersReplayArgs {
            last: 1000,
            reasons: Vec::new(),
            keys: Vec::new(),
            to: None,
            again: false,
            dry_run: false,
        };
        let inputs = ["records".to_owned()];
        let (chosen, passed) = choose(&all, &arguments, &inputs);
        assert_eq!((chosen, passed.len()), (vec![&all[3]], 3));
        let (chosen, passed) = choose(&all[..3], &arguments, &inputs);
        assert!(told(&chosen, &passed, &arguments).starts_with("none sent\n1 passed over"));
        arguments.again = true;
        arguments.to = Some("repair".to_owned());
        let (chosen, passed) = choose(&all, &arguments, &inputs);
        assert_eq!((chosen.len(), passed.len()), (3, 1));
        assert!(told(&chosen, &passed, &arguments).starts_with("3 sent to repair\n"));
        arguments.reasons = vec!["not_json".to_owned()];
        assert!(choose(&all, &arguments, &inputs).0.is_empty());
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
        let sources = Sources {
            set: vec!["output.dead_letters=dead".to_owned()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let mut found = Found {
            letters: vec![letter.clone(), letter],
            others: 0,
        };
        let text = shown(&found, &config);
        assert!(
            text.contains("records[3]@17  not_json: is not JSON"),
            "{text}"
        );
        assert!(
            !text.contains('\x1b') && text.contains("no key: ·[31mxx"),
            "{text}"
        );
        assert!(text.ends_with("2 shown: 2 not_json\n"), "{text}");
        found.others = 7;
        let text = shown(&found, &config);
        assert!(
            text.contains("2 not_json (7 of other topics than records passed over: --all"),
            "{text}"
        );
        found.letters.clear();
        let text = shown(&found, &config);
        assert!(
            text.contains("no dead letters of records, but 7 of other topics"),
            "{text}"
        );
        found.others = 0;
        assert!(shown(&found, &config).contains("dead has no dead letters: every record"));
    }
}
