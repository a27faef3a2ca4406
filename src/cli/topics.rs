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

/// How long a topic that was just created may take to be known everywhere.
const KNOWN_MAX: Duration = Duration::from_secs(20);

/// Creates the topics that are missing, and says what became of each. Input topics are someone else's: they are created only when
/// `input_partitions` says how large.
pub(super) fn create(
    config: &Config,
    replication: Option<i32>,
    input_partitions: Option<i32>,
) -> Result<(), Failure> {
    let connection = config.connection();
    let mut made = Vec::new();
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
        made = admin::create(&connection, &plans, replication)?;
        tell(&made)?;
    }
    let plans = plans(config, &made).map_err(|failure| match failure {
        KafkaFailure::NoTopic(topic) => Failure::Usage(format!(
            "the input topic `{topic}` does not exist, and the topics to create get as many partitions as the input has: \
             --input-partitions N creates it too"
        )),
        failure => failure.into(),
    })?;
    tell(&admin::create(&connection, &plans, replication)?)
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
    let plans = plans(config, &[])
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

/// The topics that should be there, with as many partitions as the input has. Topics that were `made` just now are waited for: not
/// every broker knows them at once.
fn plans(config: &Config, made: &[(String, Made)]) -> Result<Vec<TopicPlan>, KafkaFailure> {
    let clock = SystemClock::default();
    let deadline = clock.monotonic() + KNOWN_MAX;
    let inputs = loop {
        match admin::input_partitions(&config.connection(), &config.input.topics, &clock) {
            Err(KafkaFailure::NoTopic(topic))
                if made.iter().any(|(name, _)| *name == topic) && clock.monotonic() < deadline =>
            {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            found => break found?,
        }
    };
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
