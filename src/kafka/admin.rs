//! Topics: creating those that are missing, and checking before the daemon starts that all is as it must be.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use super::context::PlainContext;
use super::publish::OutputTopics;
use super::settings::{Connection, Isolation};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, retry};
use crate::time::Clock;

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: i32,
    /// Its settings that differ from the broker's defaults.
    pub settings: Vec<(&'static str, String)>,
}

/// What became of a topic that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was created.
    Created,
    /// It was there.
    Existed,
    /// It could not be created, and why.
    Failed(String),
}

/// The topics of one detector whose input has `inputs` partitions in all.
pub fn plan(topics: &OutputTopics, models: Option<&str>, inputs: i32) -> Vec<TopicPlan> {
    let inputs = inputs.max(1);
    let plain = |name: &str, settings| TopicPlan {
        name: name.to_owned(),
        partitions: inputs,
        settings,
    };
    let compacted = || ("cleanup.policy", "compact".to_owned());
    // Compaction of a closed segment only: small segments keep what a restart must read short.
    let short = || ("segment.ms", "600000".to_owned());
    let mut plans = vec![plain(&topics.alerts, Vec::new())];
    plans.extend(topics.scores.as_deref().map(|name| plain(name, Vec::new())));
    let roomy = || vec![("max.message.bytes", "4194304".to_owned())];
    plans.push(plain(&topics.dead_letters, roomy()));
    if let Some(late) = topics
        .late
        .as_deref()
        .filter(|late| *late != topics.dead_letters)
    {
        plans.push(plain(late, roomy()));
    }
    plans.push(plain(
        &topics.state,
        vec![
            compacted(),
            short(),
            ("min.cleanable.dirty.ratio", "0.2".to_owned()),
        ],
    ));
    plans.extend(models.map(|name| TopicPlan {
        name: name.to_owned(),
        partitions: 1,
        settings: vec![compacted(), short()],
    }));
    plans
}

/// Creates the topics that are not there. `replication` of `None` is the broker's default.
pub fn create(
    connection: &Connection,
    plans: &[TopicPlan],
    replication: Option<i32>,
) -> Result<Vec<(String, Made)>, KafkaFailure> {
    let admin: AdminClient<PlainContext> = connection
        .admin()
        .create_with_context(PlainContext::default())
        .map_err(KafkaFailure::Client)?;
    let topics: Vec<NewTopic<'_>> = plans
        .iter()
        .map(|plan| {
            let topic = NewTopic::new(
                &plan.name,
                plan.partitions,
                TopicReplication::Fixed(replication.unwrap_or(-1)),
            );
            plan.settings
                .iter()
                .fold(topic, |topic, (name, value)| topic.set(name, value))
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(CALL_MAX))
        .request_timeout(Some(CALL_MAX));
    let results = block_on(admin.create_topics(&topics, &options))?
        .map_err(KafkaFailure::call("creating topics"))?;
    Ok(plans
        .iter()
        .zip(results)
        .map(|(plan, result)| {
            let made = match result {
                Ok(_) => Made::Created,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Made::Existed,
                Err((_, code)) => Made::Failed(code.to_string()),
            };
            (plan.name.clone(), made)
        })
        .collect())
}

/// How many partitions the input has in all.
pub fn input_partitions(
    connection: &Connection,
    inputs: &[String],
    clock: &dyn Clock,
) -> Result<i32, KafkaFailure> {
    let client = client(connection)?;
    let mut sum = 0;
    for topic in inputs {
        sum += super::restore::partitions(&client, clock, topic)?;
    }
    Ok(sum)
}

/// Everything that would keep the daemon from working: brokers, topics, rights. Empty when all is well.
pub fn check(
    connection: &Connection,
    inputs: &[String],
    plans: &[TopicPlan],
    (clock, watchdog): (&Arc<dyn Clock>, &Watchdog),
) -> Result<Vec<String>, KafkaFailure> {
    let _guard = watchdog.guard("checking Kafka", CALL_MAX * 10);
    let client = client(connection)?;
    if let Err(error) = client.fetch_metadata(None, Duration::from_secs(10)) {
        return Ok(vec![format!(
            "kafka.brokers: no answer from `{}`: {error}",
            connection.brokers
        )]);
    }
    let mut problems = Vec::new();
    for topic in inputs {
        match super::restore::partitions(&client, &**clock, topic) {
            Ok(_) => {}
            Err(KafkaFailure::NoTopic(_)) => {
                problems.push(format!("input.topics: topic `{topic}` does not exist"));
            }
            Err(error) => problems.push(format!("input.topics: topic `{topic}`: {error}")),
        }
    }
    for plan in plans {
        match super::restore::partitions(&client, &**clock, &plan.name) {
            Ok(_) => problems.extend(wrong_settings(connection, plan)),
            Err(KafkaFailure::NoTopic(_)) => problems.push(format!(
                "topic `{}` does not exist: `anomalyd topics create` makes it",
                plan.name
            )),
            Err(error) => problems.push(format!("topic `{}`: {error}", plan.name)),
        }
    }
    problems.extend(transaction_problem(connection, &**clock));
    Ok(problems)
}

/// Whether the policy that a topic needs is the one it has. A topic whose settings may not be read is not complained about.
fn wrong_settings(connection: &Connection, plan: &TopicPlan) -> Option<String> {
    let wanted = &plan
        .settings
        .iter()
        .find(|(name, _)| *name == "cleanup.policy")?
        .1;
    let admin: AdminClient<PlainContext> = connection
        .admin()
        .create_with_context(PlainContext::default())
        .ok()?;
    let options = AdminOptions::new().request_timeout(Some(CALL_MAX));
    let described =
        block_on(admin.describe_configs([&ResourceSpecifier::Topic(&plan.name)], &options))
            .ok()?
            .ok()?;
    let resource = described.into_iter().next()?.ok()?;
    let found = resource.get("cleanup.policy")?.value.clone()?;
    (!found.contains(wanted.as_str())).then(|| {
        format!(
            "topic `{}` has cleanup.policy `{found}`, but must have `{wanted}`: it would forget what a restart needs",
            plan.name
        )
    })
}

/// Whether a transaction could be begun.
fn transaction_problem(connection: &Connection, clock: &dyn Clock) -> Option<String> {
    let id = format!("{}-validate", connection.group);
    let producer: BaseProducer<PlainContext> = match connection
        .transactional(&id)
        .create_with_context(PlainContext::default())
    {
        Ok(producer) => producer,
        Err(error) => return Some(format!("kafka.properties: {error}")),
    };
    retry(clock, "init_transactions", || {
        producer.init_transactions(CALL_MAX)
    })
    .err()
    .map(|error| {
        format!(
            "transactions cannot be used with transactional ids that begin with `{id}`: {error}"
        )
    })
}

fn client(connection: &Connection) -> Result<BaseConsumer<PlainContext>, KafkaFailure> {
    connection
        .reader(Isolation::Committed)
        .create_with_context(PlainContext::default())
        .map_err(KafkaFailure::Client)
}

/// Waits for an admin call: librdkafka answers them through futures.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, KafkaFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| KafkaFailure::Content {
            topic: "-".to_owned(),
            problem: format!("no runtime: {error}"),
        })?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_models_are_compacted_and_state_has_the_inputs_partitions() {
        let topics = OutputTopics {
            alerts: "a".to_owned(),
            scores: None,
            dead_letters: "d".to_owned(),
            late: Some("d".to_owned()),
            state: "s".to_owned(),
        };
        let plans = plan(&topics, Some("m"), 6);
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["a", "d", "s", "m"]);
        assert_eq!(plans[2].partitions, 6);
        assert_eq!(plans[3].partitions, 1);
        for plan in &plans[2..] {
            assert_eq!(plan.settings[0], ("cleanup.policy", "compact".to_owned()));
        }
    }
}
