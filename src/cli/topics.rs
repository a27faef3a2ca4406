//! `anomalyd topics create` and `validate --connect`: what Kafka has, and what it should have.

use std::sync::Arc;
use std::time::Duration;

use super::exit::{self, Failure};
use super::output::print;
use super::outside::{outside, unasked};
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::admin::{self, Made, TopicPlan};
use crate::kafka::check::{self, Findings, Wanted};
use crate::kafka::history::KafkaHistory;
use crate::kafka::reach::reach;
use crate::kafka::registration;
use crate::kafka::watchdog::{Limits, Watchdog};
use crate::store::DirectoryStore;
use crate::time::Clock;
use crate::tools::trial::trial;

/// How long a command tries one thing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Records of each partition that the configuration is tried on.
const RECORDS: i64 = 100;

/// Creates the topics that are missing, and says what became of each. Input topics are someone else's: they are created only when
/// `input_partitions` says how large.
pub(super) fn create(
    config: &Config,
    replication: Option<i32>,
    input_partitions: Option<i32>,
) -> Result<(), Failure> {
    let connection = config.connection();
    let (_, watchdog) = patient(outside(config)?);
    if let Some(partitions) = input_partitions {
        let plans: Vec<TopicPlan> = config
            .input
            .topics
            .iter()
            .map(|name| TopicPlan {
                name: name.clone(),
                partitions,
                settings: Vec::new(),
                written: false,
            })
            .collect();
        let made = admin::create(&connection, &plans, replication)?;
        tell(&made)?;
        admin::wait_until_known(&connection, &made, &watchdog)?;
    }
    let plans = plans(config, &watchdog).map_err(|failure| match failure {
        KafkaFailure::NoTopic(topic) => Failure::Usage(format!(
            "the input topic `{topic}` does not exist, and the topics to create get as many partitions as the input has: \
             --input-partitions N creates it too"
        )),
        failure => failure.into(),
    })?;
    let made = admin::create(&connection, &plans, replication)?;
    tell(&made)?;
    Ok(admin::wait_until_known(&connection, &made, &watchdog)?)
}

/// A line a topic; fails where one could not be created.
fn tell(made: &[(String, Made)]) -> Result<(), Failure> {
    let mut failed = 0;
    for (topic, made) in made {
        let word = match made {
            Made::Created => "created".to_owned(),
            Made::Existed => "was there".to_owned(),
            Made::Failed(why) => {
                failed += 1;
                format!("could not be created: {why}")
            }
        };
        print(&format!("{topic}: {word}\n"))?;
    }
    if failed > 0 {
        return Err(Failure::Io(format!(
            "{failed} topic(s) could not be created"
        )));
    }
    Ok(())
}

/// What is to be said of the directory of models, if there is one; or why nothing can be written there.
fn models(config: &Config) -> Result<Option<String>, String> {
    let models = &config.models;
    if models.in_kafka() {
        return Ok(None);
    }
    let made = DirectoryStore::try_out(&models.directory, &config.name)
        .map_err(|error| format!("models cannot be written, see `models.directory`: {error}"))?;
    Ok(made.map(|folder| {
        let folder = folder.display();
        format!("{folder} is not there yet: it is made when the daemon starts")
    }))
}

/// Asks Kafka for brokers, topics and rights, and the schema registry for what is written; everything that would keep the daemon from working, at once. Answers
/// what could not be checked.
pub(super) fn check(config: &Config) -> Result<Vec<String>, Failure> {
    let away = |failure: KafkaFailure| not_ready(&[failure.to_string()]);
    reach(
        &config.connection(),
        config.input.topics.first().map(String::as_str),
    )
    .map_err(away)?;
    let (clock, watchdog) = patient(unasked());
    // A missing input topic is one of the problems that the check itself finds.
    let plans = plans(config, &watchdog)
        .unwrap_or_else(|_| admin::plan(&config.output_topics(), config.shared_topics(), 1));
    let Findings {
        mut problems,
        mut notes,
    } = check::check(
        &config.connection(),
        Wanted {
            inputs: &config.input.topics,
            plans: &plans,
            delivery: config.delivery,
        },
        (&clock, &watchdog),
    )?;
    let topics = config.output_topics();
    let (registry, wanted) = config.registration(&topics);
    problems.extend(registration::problems(registry, wanted, &watchdog));
    match models(config) {
        Ok(note) => notes.extend(note),
        Err(problem) => problems.push(problem),
    }
    if !problems.is_empty() {
        return Err(not_ready(&problems));
    }
    notes.extend(read(config, (clock, watchdog)));
    Ok(notes)
}

fn not_ready(problems: &[String]) -> Failure {
    Failure::Code {
        code: exit::CONFIGURATION,
        message: format!(
            "Kafka is not ready for this configuration, {} problem(s):\n  {}",
            problems.len(),
            problems.join("\n  ")
        ),
    }
}

/// What comes of reading the newest records.
fn read(config: &Config, waits: (Arc<dyn Clock>, Watchdog)) -> Vec<String> {
    let sample = || {
        let history = KafkaHistory::new(&config.connection(), config.history_topics(), waits);
        history?.sample(RECORDS)
    };
    match sample() {
        Ok(batch) if batch.is_empty() => {
            vec!["the input has no records to try it on yet".to_owned()]
        }
        Ok(batch) => {
            let tried = trial(&config.input.schema(), &batch);
            let unseen = tried.unseen_words();
            let unseen = unseen.map(|words| format!("input.features: {words}"));
            [tried.words()].into_iter().chain(unseen).collect()
        }
        Err(error) => vec![format!(
            "the newest records could not be tried: {error}"
        )],
    }
}

/// The topics that should be there, with as many partitions as the input has.
fn plans(config: &Config, watchdog: &Watchdog) -> Result<Vec<TopicPlan>, KafkaFailure> {
    let inputs = admin::input_partitions(&config.connection(), &config.input.topics, watchdog)?;
    Ok(admin::plan(
        &config.output_topics(),
        config.shared_topics(),
        inputs,
    ))
}

/// The same for this long at most, once Kafka has answered.
fn patient((clock, watchdog): (Arc<dyn Clock>, Watchdog)) -> (Arc<dyn Clock>, Watchdog) {
    let limits = Limits {
        retry: PATIENCE,
        ..watchdog.limits()
    };
    (clock, watchdog.with_limits(limits))
}

impl From<KafkaFailure> for Failure {
    fn from(failure: KafkaFailure) -> Self {
        if failure.is_configuration() {
            return Self::Code {
                code: exit::CONFIGURATION,
                message: failure.to_string(),
            };
        }
        Self::Io(failure.to_string())
    }
}
