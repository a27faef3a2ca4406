//! `anomalyd topics create` and `validate --connect`: what Kafka has, and what it should have.

use std::sync::Arc;

use super::exit::{self, Failure};
use super::print;
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::admin::{self, Made, TopicPlan};
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock};

/// Creates the topics that are missing, and says what became of each.
pub(super) fn create(config: &Config, replication: Option<i32>) -> Result<(), Failure> {
    let made = admin::create(&config.connection(), &plans(config)?, replication)?;
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
