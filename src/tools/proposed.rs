//! A proposal as a configuration file, tried on the records that it was made from.

use std::fmt::Write as _;

use serde_json::Value;

use super::propose::Proposal;
use super::trial::Trial;
use crate::record::schema::{Features, SchemaSpec};

/// Keys from which on the rate of false alarms of them all is said.
const SEVERAL: usize = 2;

/// What stands at the head of the file that is written.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// The detector's.
    pub name: &'a str,
    /// Kafka's addresses.
    pub brokers: &'a str,
    /// The input.
    pub topic: &'a str,
    /// What was looked at.
    pub source: &'a str,
    /// Lines of `[input]` and `[registry]` that somebody gave: how records are written.
    pub given: (&'a [String], &'a [String]),
}

/// How records are read by the proposal, where they are written as `given` says.
#[must_use]
pub fn spec(proposal: &Proposal, given: &SchemaSpec) -> SchemaSpec {
    let features = match &proposal.features[..] {
        [] => Features::default(),
        listed => Features::List(listed.to_vec()),
    };
    SchemaSpec {
        key: proposal.key.clone(),
        timestamp: proposal.timestamp.clone().unwrap_or_default(),
        features,
        categories: proposal.categories.clone(),
        format: given.format,
        envelope: given.envelope,
        csv: given.csv.clone(),
        avro: given.avro.clone(),
        protobuf: given.protobuf.clone(),
        ..SchemaSpec::default()
    }
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|path| text(path)).collect();
    format!("[{}]", texts.join(", "))
}

/// The proposal as a configuration file, with what was thought, and what came of trying it.
#[must_use]
pub fn file(proposal: &Proposal, trial: Option<&Trial>, names: &Names<'_>) -> String {
    let mut out = format!(
        "# Proposed by `anomalyd config init` from {} records of {}: look it over, then `anomalyd validate`.\n",
        proposal.records, names.source
    );
    let mut line = |text: &str| writeln!(out, "{text}").unwrap_or_default();
    if let Some(trial) = trial {
        for said in [trial.unread_words(), trial.spread_words()]
            .iter()
            .flatten()
        {
            line(&format!("# {said}"));
        }
    }
    line(&format!("\nname = {}\n", text(names.name)));
    line(&format!("[kafka]\nbrokers = {}\n", text(names.brokers)));
    line(&format!("[input]\ntopics = [{}]", text(names.topic)));
    line(&format!(
        "group = {}",
        text(&format!("anomalyd-{}", names.name))
    ));
    names.given.0.iter().for_each(|given| line(given));
    fields(proposal, &mut line);
    if !names.given.1.is_empty() {
        line("\n[registry]");
        names.given.1.iter().for_each(|given| line(given));
    }
    line(&format!(
        "\n[output]\nalerts = {}",
        text(&format!("{}.alerts", names.topic))
    ));
    line(&format!(
        "\n[alerts]\n# False alarms that you accept, for each key: also /hour, /day, /month, and \"1/day/fleet\" for all keys together.{}\nfalse_alarm_rate = \"1/week\"",
        in_all(proposal)
    ));
    out
}

/// What the fields are taken for.
fn fields(proposal: &Proposal, line: &mut impl FnMut(&str)) {
    if proposal.key.is_empty() {
        line("# key = [\"...\"]                # no field names a machine: Kafka's key is taken");
    } else {
        line(&format!(
            "key = {:<30} # {} of them in the sample: each is judged by itself",
            list(&proposal.key),
            proposal.keys
        ));
    }
    match &proposal.timestamp {
        Some(time) => line(&format!("timestamp = {}", text(time))),
        None => line(
            "# timestamp = \"...\"            # no field is a time: Kafka's timestamp is taken",
        ),
    }
    if proposal.features.is_empty() {
        line(
            "# features = [...]               # no number is in half of the records: every number is taken",
        );
    } else {
        line(&format!("features = {}", list(&proposal.features)));
    }
    for (path, value) in &proposal.constant {
        line(&format!(
            "# always {value} in what was read: {} (judged as soon as it moves)",
            text(path)
        ));
    }
    for (path, why) in &proposal.left_out {
        line(&format!("# left out: {} ({why})", text(path)));
    }
    if !proposal.categories.is_empty() {
        line(
            "\n# By what the features are judged; values that are not named here count as none of them.\n[input.categories]",
        );
        for (path, values) in &proposal.categories {
            line(&format!("{} = {}", text(path), list(values)));
        }
    }
}

/// What one false alarm a week for each key is for all keys that were seen.
fn in_all(proposal: &Proposal) -> String {
    let keys = proposal.keys;
    if proposal.key.is_empty() || keys < SEVERAL {
        return String::new();
    }
    let each_day = (keys as f64 / 7.0).round();
    let all = if keys < 14 {
        format!("{keys} a week")
    } else {
        format!("{each_day} a day")
    };
    format!("\n# \"1/week\" for each of {keys} keys is up to {all} in all.")
}

#[cfg(test)]
mod tests {
    use super::super::propose::{Leaves, leaves, propose};
    use super::super::trial::{lines, trial};
    use super::*;
    use crate::config::{Config, Sources};
    use crate::record::schema::Format;
    use crate::record::{RecordBatch, whole};
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;
    use serde_json::json;

    const NAMES: Names<'_> = Names {
        name: "pumps",
        brokers: "k:9092",
        topic: "plant.pumps",
        source: "the topic plant.pumps",
        given: (&[], &[]),
    };

    fn load(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            files: vec![path],
            ..Sources::default()
        };
        Config::load(&sources).unwrap_or_else(|problems| unreachable!("{problems}: {text}"))
    }

    /// Proposes from records, and tries what was proposed on them by the file that is written.
    fn proposed(records: usize, record: impl Fn(usize) -> Value) -> (Proposal, Trial, String) {
        let all: Vec<Value> = (0..records).map(record).collect();
        let sample: Vec<Leaves> = all.iter().filter_map(leaves).collect();
        let found = propose(&sample);
        let text: Vec<String> = all.iter().map(Value::to_string).collect();
        let batch = lines(text.join("\n").as_bytes());
        let of = spec(&found, &SchemaSpec::default());
        let tried = trial(&of, &batch);
        let text = file(&found, Some(&tried), &NAMES);
        assert_eq!(load(&text).input.schema(), of, "{text}");
        (found, tried, text)
    }

    #[test]
    fn what_is_written_in_avro_is_proposed_with_how_it_is_written() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"pump","type":"string"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"flow","type":"double"}]}"#;
        let given = SchemaSpec {
            format: Format::Avro,
            avro: schema.to_owned(),
            ..SchemaSpec::default()
        };
        let mut batch = RecordBatch::default();
        for i in 0..300_i64 {
            // The time in seven bits a byte, in zigzag.
            let mut value = vec![4, b'P', b'0' + (i % 5) as u8];
            let mut rest = (1_772_366_400_000 + 1_000 * i) << 1;
            while rest > 0x7f {
                value.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            value.push(rest as u8);
            value.extend(((i * 37 % 101) as f64 / 7.0).to_le_bytes());
            let place = (Offset(i), Timestamp(0));
            batch.push(
                &TopicPartition::new("t", 0),
                place,
                None,
                Some(&value),
                Vec::new(),
            );
        }
        let (sample, why) = whole::all(&given, &batch);
        assert_eq!((sample.len(), why), (300, None));
        let found = propose(&sample);
        let of = spec(&found, &given);
        assert_eq!(trial(&of, &batch).unread, 0);
        let input = [
            "format = \"avro\"".to_owned(),
            format!("avro.schema = '{schema}'"),
        ];
        let registry = ["url = \"http://r:8081\"".to_owned()];
        let names = Names {
            given: (&input, &registry),
            ..NAMES
        };
        let text = file(&found, None, &names);
        assert!(
            text.contains("features = [\"flow\"]") && text.contains("key = [\"pump\"]"),
            "{text}"
        );
        assert!(text.contains("timestamp = \"at\""), "{text}");
        assert!(
            text.contains("\n[registry]\nurl = \"http://r:8081\"\n"),
            "{text}"
        );
        let plain = Names {
            given: (&input, &[]),
            ..NAMES
        };
        assert_eq!(load(&file(&found, None, &plain)).input.schema(), of);
    }

    #[test]
    fn names_with_dots_are_read_as_what_they_are() {
        // As OpenTelemetry and Elastic send them.
        let (found, tried, text) = proposed(300, |i| {
            json!({
                "@timestamp": format!("2026-03-01T12:{:02}:{:02}Z", i / 60, i % 60), "host.name": format!("h-{}", i % 3),
                "system.cpu.user": (i * 37 % 101) as f64 / 7.0, "system": {"load.1": (i * 31 % 17) as f64, "back\\slash": (i * 7 % 13) as f64}, "": i,
            })
        });
        assert_eq!(found.key, [r"host\.name"]);
        let names = [
            r"system.back\\slash",
            r"system.load\.1",
            r"system\.cpu\.user",
        ];
        assert_eq!(found.features, names);
        assert_eq!((tried.records, tried.unread), (300, 0), "{text}");
        assert!(!text.contains("cannot be read"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_by_the_proposal_is_told_in_it() {
        let (found, tried, text) = proposed(600, |i| {
            let ts = 1_772_366_400 + i;
            let (a, b) = ((i * 37 % 101) as f64, (i * 31 % 17) as f64);
            match i % 6 {
                _ if i % 50 == 0 => json!({"type": "event", "ts": ts, "message": "door opened"}),
                of @ 0..3 => {
                    json!({"type": "pump", "id": format!("pump{of}"), "ts": ts, "flow": a, "temp": b})
                }
                of => {
                    json!({"type": "oven", "id": format!("oven{of}"), "ts": ts, "heat": a, "power": b})
                }
            }
        });
        // Each type of key has numbers of its own, and what has no id is no key.
        assert_eq!(found.features, ["flow", "heat", "power", "temp"]);
        assert_eq!((&found.key[..], found.keys), (&["id".to_owned()][..], 6));
        assert_eq!((tried.records, tried.unread), (600, 12));
        assert!(
            text.contains("# 12 of 600 records cannot be read like this and become dead letters: 12 because field `id`: "),
            "{text}"
        );
    }

    #[test]
    fn what_never_changed_stays_a_feature_and_is_told_of() {
        let (found, _, text) = proposed(300, |i| {
            json!({
                "ts": 1_772_366_400 + i, "host": format!("h-{}", i % 20), "latency_ms": (i * 37 % 101) as f64, "errors": 0, "alarm": false, "schemaVersion": 7,
                "f10": 0.5, "f2": (i * 31 % 17) as f64,
            })
        });
        assert_eq!(
            found.features,
            ["alarm", "errors", "f2", "f10", "latency_ms"]
        );
        let told = "# always 0 in what was read: \"errors\" (judged as soon as it moves)";
        assert!(text.contains(told), "{text}");
        assert!(
            text.contains("# left out: \"schemaVersion\" (always the same, and called like"),
            "{text}"
        );
        let budget = "\n# \"1/week\" for each of 20 keys is up to 3 a day in all.\n";
        assert!(text.contains(budget), "{text}");
    }

    #[test]
    fn where_no_number_is_common_it_says_so() {
        let (found, tried, text) = proposed(90, |i| {
            let (name, value) = (["a", "b", "c"][i % 3], (i * 37 % 101) as f64);
            json!({"ts": 1_772_366_400 + i, name: value})
        });
        assert!(found.features.is_empty());
        assert!(
            text.contains("# no number is in half of the records"),
            "{text}"
        );
        assert_eq!(tried.unread, 0);
    }

    #[test]
    fn what_is_proposed_is_valid_and_read_as_it_was_meant() {
        let sample = (0..300).filter_map(|i| {
            leaves(&json!({
                "ts": format!("2026-03-01T12:{:02}:{:02}Z", i / 60 % 60, i % 60), "pump": format!("P-{}", i % 5),
                "mode": if i % 7 == 0 { "eco" } else { "full" }, "current": f64::from(i * 31 % 17),
            }))
        });
        let found = propose(&sample.collect::<Vec<_>>());
        let config = load(&file(&found, None, &NAMES));
        assert_eq!(config.input.key, ["pump"]);
        assert_eq!(config.input.timestamp, "ts");
        assert_eq!(config.input.categories["mode"], ["eco", "full"]);
        assert_eq!(config.output.alerts, "plant.pumps.alerts");
        // Nothing that can be told: everything is as it comes.
        let config = load(&file(&propose(&[]), None, &NAMES));
        assert!(config.input.key.is_empty() && config.input.schema().is_auto());
    }
}
