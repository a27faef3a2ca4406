//! `anomalyd episodes`: what was flagged, and what somebody said of it.

use std::fmt::Write as _;
use std::sync::Arc;

use super::args::EpisodesCommand;
use super::exit::Failure;
use super::output::print;
use super::outside::outside;
use crate::config::Config;
use crate::kafka::history::KafkaHistory;
use crate::model::card::Feedback;
use crate::pipeline::EpisodeRecord;
use crate::service::change;
use crate::service::models::AnyStore;
use crate::time::Timestamp;

pub(super) fn run(config: &Config, command: &EpisodesCommand) -> Result<(), Failure> {
    let (clock, watchdog) = outside(config)?;
    let connection = config.connection();
    let mut store = AnyStore::open(config, &connection, Arc::clone(&clock), watchdog.clone())?;
    let mut history = KafkaHistory::new(
        &connection,
        config.history_topics(),
        (Arc::clone(&clock), watchdog),
    )?;
    let episodes = change::episodes(&mut store, &mut history)?;
    let (args, says) = match command {
        EpisodesCommand::List | EpisodesCommand::Show(_) => return print(&table(&episodes)),
        EpisodesCommand::Dismiss(args) => (args, Feedback::FalsePositive),
        EpisodesCommand::Confirm(args) => (args, Feedback::TruePositive),
        EpisodesCommand::NewNormal(args) => (args, Feedback::NewNormal),
    };
    let why = change::judged(&episodes, &args.id, says, args.undo)?;
    history.say(&connection, (&args.id, why), clock.now())?;
    print(&(change::follows(&args.id, why) + "\n"))
}

/// One line an episode, the newest last.
fn table(episodes: &[EpisodeRecord]) -> String {
    if episodes.is_empty() {
        return "no episodes: nothing is kept out of training\n".to_owned();
    }
    let mut out = format!(
        "{:<40} {:<20} {:<24} {:<24} training\n",
        "episode", "key", "from", "to"
    );
    for record in episodes {
        let to = record
            .to_time
            .map_or_else(|| "open".to_owned(), Timestamp::rfc3339);
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
        // Writing to a string cannot fail.
        writeln!(
            out,
            "{:<40} {:<20} {:<24} {to:<24} {training}{held}",
            record.exclusion.because,
            record.exclusion.key,
            record.from_time.rfc3339(),
        )
        .unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::card::{Card, Exclusion, Said, Suspect};
    use crate::service::change::{found, suspects};
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
        let text = table(&episodes);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].ends_with("left out: true positive"));
        assert!(lines[1].ends_with("left out") && lines[1].contains("1970-01-01T00:00:00.009Z"));
        assert!(lines[2].contains("open") && lines[2].ends_with("learnt: new normal"));
        assert_eq!(found(&episodes, "b").unwrap(), &episodes[1]);
        let error: Failure = found(&episodes, "c").unwrap_err().into();
        assert_eq!(error.code(), super::super::exit::USAGE);
        assert!(table(&[]).contains("no episodes"));
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
        assert!(table(&listed).contains("learnt: new normal"));
    }
}
