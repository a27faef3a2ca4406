//! `anomalyd episodes`: what was flagged, and what somebody said of it.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::EpisodesCommand;
use super::exit::Failure;
use super::models::json_of;
use super::output::{print, say};
use super::outside::outside;
use crate::config::Config;
use crate::kafka::history::KafkaHistory;
use crate::model::card::{Exclusion, Feedback};
use crate::pipeline::EpisodeRecord;
use crate::service::change;
use crate::service::models::AnyStore;
use crate::service::old_episodes::{self, OldEpisode};
use crate::stream::EpisodeId;
use crate::time::Timestamp;

pub(super) fn run(config: &Config, command: &EpisodesCommand) -> Result<(), Failure> {
    let (clock, watchdog) = outside(config)?;
    let connection = config.connection();
    let mut store = AnyStore::open(config, &connection, Arc::clone(&clock), watchdog.clone())?;
    let mut history = KafkaHistory::new(
        &connection,
        config.history_topics(),
        (Arc::clone(&clock), watchdog.clone()),
    )?;
    let waits = (Arc::clone(&clock), watchdog);
    let episodes = change::episodes(&mut store, &mut history)?;
    let (args, says) = match command {
        EpisodesCommand::List { .. } | EpisodesCommand::Show(_) => {
            let known = (&*episodes, &*history.said()?);
            let old = old_episodes::read(config, waits, known).unwrap_or_else(|error| {
                let topic = &config.output.alerts;
                say(&format!("episodes that are too old for training are not listed, for {topic} cannot be read: {error}\n"));
                Vec::new()
            });
            if let EpisodesCommand::List { json: true } = command {
                return json_of(&listed(&episodes, &old));
            }
            return print(&table(&episodes, &old));
        }
        EpisodesCommand::Dismiss(args) => (args, Feedback::FalsePositive),
        EpisodesCommand::Confirm(args) => (args, Feedback::TruePositive),
        EpisodesCommand::NewNormal(args) => (args, Feedback::NewNormal),
    };
    let known = (&*episodes, &mut history);
    let judged = change::judged((config, waits), known, &args.id, (says, args.undo))?;
    history.say(&connection, (&args.id, judged.says), clock.now())?;
    print(&(change::follows(&args.id, judged) + "\n"))
}

/// What the table says.
fn listed(episodes: &[EpisodeRecord], old: &[OldEpisode]) -> Value {
    let one = |one: &OldEpisode| {
        json!({
            "id": one.id,
            "key": one.key,
            "from": one.from_time.rfc3339(),
            "to": one.to_time.map(Timestamp::rfc3339),
            "feedback": one.feedback.map(Feedback::name),
            "learnt": false,
            "held_back": false,
        })
    };
    let line = |record: &EpisodeRecord| {
        let said = record.exclusion.feedback;
        json!({
            "id": record.exclusion.because,
            "key": record.exclusion.key,
            "from": record.from_time.rfc3339(),
            "to": record.to_time.map(Timestamp::rfc3339),
            "feedback": said.map(Feedback::name),
            "learnt": said.is_some_and(Feedback::lets_in),
            "held_back": record.held,
        })
    };
    old.iter()
        .map(one)
        .chain(episodes.iter().map(line))
        .collect()
}

/// One line an episode, the newest last; before them those that are too `old` for training.
fn table(episodes: &[EpisodeRecord], old: &[OldEpisode]) -> String {
    if episodes.is_empty() && old.is_empty() {
        return "no episodes: nothing is kept out of training\n".to_owned();
    }
    let mut out = format!(
        "{:<40} {:<20} {:<24} {:<24} training\n",
        "episode", "key", "from", "to"
    );
    let mut row = |(id, key): (&EpisodeId, &str),
                   (from, to): (Timestamp, Option<Timestamp>),
                   training: &str| {
        let to = to.map_or_else(|| "open".to_owned(), Timestamp::rfc3339);
        // Writing to a string cannot fail.
        writeln!(
            out,
            "{id:<40} {key:<20} {:<24} {to:<24} {training}",
            from.rfc3339()
        )
        .unwrap_or_default();
    };
    for one in old {
        let said = one.feedback.map(change::word);
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        let training = format!("older than what is read{said}");
        row((&one.id, &one.key), (one.from_time, one.to_time), &training);
    }
    for record in episodes {
        let held = if record.held {
            "; nobody was told: held back as one that was dismissed"
        } else {
            ""
        };
        let training = match record.exclusion.feedback {
            None => "left out".to_owned(),
            Some(said) if said.lets_in() => format!("learnt: {}", change::word(said)),
            Some(said) => format!("left out: {}", change::word(said)),
        };
        let Exclusion { because, key, .. } = &record.exclusion;
        row(
            (because, key),
            (record.from_time, record.to_time),
            &(training + held),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::card::{Card, Said, Suspect};
    use crate::service::change::suspects;
    use crate::stream::{Offset, TopicPartition};

    #[test]
    fn the_table_says_what_training_does_with_each_episode() {
        let record = |id: &str, to: Option<i64>, feedback| EpisodeRecord {
            exclusion: Exclusion {
                at: TopicPartition::new("in", 0),
                key: "pump 1".to_owned(),
                from: Offset(1),
                to: to.map(Offset),
                because: id.into(),
                feedback,
            },
            from_time: Timestamp(0),
            to_time: to.map(Timestamp),
            held: false,
        };
        let episodes = [
            record("a", Some(9), None),
            record("b", None, Some(Feedback::NewNormal)),
            record("d", None, Some(Feedback::TruePositive)),
        ];
        let list = listed(&episodes, &[]);
        assert_eq!(list[1]["feedback"], "new_normal");
        assert_eq!(
            (&list[1]["learnt"], &list[1]["to"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(list[0]["to"], "1970-01-01T00:00:00.009Z");
        let text = table(&episodes, &[]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].ends_with("left out: true positive"));
        assert!(lines[1].ends_with("left out") && lines[1].contains("1970-01-01T00:00:00.009Z"));
        assert!(lines[2].contains("open") && lines[2].ends_with("learnt: new normal"));
        let old = |feedback| OldEpisode {
            id: "o".into(),
            key: "pump 1".to_owned(),
            from_time: Timestamp(0),
            to_time: Some(Timestamp(9)),
            feedback,
        };
        let text = table(&episodes, &[old(None), old(Some(Feedback::TruePositive))]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[1].starts_with("o ") && lines[1].ends_with("older than what is read"));
        assert!(lines[2].ends_with("older than what is read: true positive"));
        assert!(table(&[], &[]).contains("no episodes"));
        // A suspect of the model in use is listed like an episode.
        let mut card = Card::blank();
        card.suspects.push(Suspect {
            exclusion: record("s", Some(9), None).exclusion,
            from_time: Timestamp(0),
            to_time: Timestamp(9),
            excess: 3.0,
            features: Vec::new(),
        });
        let feedback = Said::from([("s".into(), Feedback::NewNormal)]);
        let listed = suspects(&card, &feedback);
        assert!(table(&listed, &[]).contains("learnt: new normal"));
    }
}
