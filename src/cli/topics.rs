//! `anomalyd topics create` and `validate --connect`: what Kafka has, and what it should have.

use std::sync::Arc;
use std::time::Duration;

use super::exit::{self, Failure};
use super::print;
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::admin::{self, Made, TopicPlan};
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock};

/// How long a topic that was just created may take to be known.
const KNOWN_MAX: Duration = Duration::from_secs(20);

/// Creates the topics that are missing, and says what became of each. Input topics are someone else's: they are created only when
/// `input_partitions` says how large.
pub(super) fn create(
    config: &Config,
    replication: Option<i32>,
    input_partitions: Option<i32>,
) -> Result<(), Failure> {
    let connection = config.connection();
    if let Some(partitions) = input_partitions {
        let plans: Vec<TopicPlan> = config
            .input
            .topics
            .iter()
            .map(|name| TopicPlan {
                name: name.clone(),
                partitions,
                settings: Vec::new(),
            })
            .collect();
        let made = admin::create(&connection, &plans, replication)?;
        tell(&made)?;
        wait_until_known(config, &made)?;
    }
    let plans = plans(config).map_err(|failure| match failure {
        KafkaFailure::NoTopic(topic) => Failure::Usage(format!(
            "the input topic `{topic}` does not exist, and the topics to create get as many partitions as the input has: \
             --input-partitions N creates it too"
        )),
        failure => failure.into(),
    })?;
    let made = admin::create(&connection, &plans, replication)?;
    tell(&made)?;
    Ok(wait_until_known(config, &made)?)
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

/// Asks Kafka for brokers, topics and rights; everything that would keep the daemon from working, at once.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    // A missing input topic is one of the problems that the check itself finds.
    let plans = plans(config)
        .unwrap_or_else(|_| admin::plan(&config.output_topics(), config.models_topic(), 1));
    let problems = admin::check(
        &config.connection(),
        &config.input.topics,
        &plans,
        (&clock, &watchdog),
    )?;
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Code {
        code: exit::CONFIGURATION,
        message: format!(
            "Kafka is not ready for this configuration, {} problem(s):\n  {}",
            problems.len(),
            problems.join("\n  ")
        ),
    })
}

/// Waits until topics that were `made` just now are known: the broker asked next may not be the one that made them.
fn wait_until_known(config: &Config, made: &[(String, Made)]) -> Result<(), KafkaFailure> {
    let clock = SystemClock::default();
    let deadline = clock.monotonic() + KNOWN_MAX;
    let names: Vec<String> = made
        .iter()
        .filter(|(_, made)| *made == Made::Created)
        .map(|(name, _)| name.clone())
        .collect();
    loop {
        match admin::input_partitions(&config.connection(), &names, &clock) {
            Err(KafkaFailure::NoTopic(_)) if clock.monotonic() < deadline => {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            found => return found.map(drop),
        }
    }
}

/// The topics that should be there, with as many partitions as the input has.
fn plans(config: &Config) -> Result<Vec<TopicPlan>, KafkaFailure> {
    let clock = SystemClock::default();
    let inputs = admin::input_partitions(&config.connection(), &config.input.topics, &clock)?;
    Ok(admin::plan(
        &config.output_topics(),
        config.models_topic(),
        inputs,
    ))
}

impl From<KafkaFailure> for Failure {
    fn from(failure: KafkaFailure) -> Self {
        Self::Io(failure.to_string())
    }
}
