//! Topics: as they should be, creating those that are missing, and what they are set to.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::{MetadataBroker, MetadataPartition, MetadataTopic};

use super::context::PlainContext;
use super::settings::{Connection, Isolation};
use super::tokens::Authenticated;
use super::topics::OutputTopics;
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure};

/// How long a topic that was just created may take to be known.
const KNOWN_MAX: Duration = Duration::from_secs(20);

/// How long a topic's setting is waited for.
const SETTING_MAX: Duration = Duration::from_secs(10);

/// The largest batch of records that topics are made for: a dead letter has the headers that say why, and a key's state all of its window.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// How topics must be cleaned up whose latest record of each key is needed for ever: any other policy deletes by age or size.
const COMPACTED: &str = "compact";

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: i32,
    /// Its settings that differ from the broker's defaults.
    pub settings: Vec<(&'static str, String)>,
    /// The daemon writes to it. If not, it reads it.
    pub written: bool,
}

/// Topics of one detector beside those that its workers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedTopics<'a> {
    /// Of models, if they are kept in one.
    pub models: Option<&'a str>,
    /// Of what people say of episodes.
    pub feedback: &'a str,
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
pub fn plan(topics: &OutputTopics, shared: SharedTopics<'_>, inputs: i32) -> Vec<TopicPlan> {
    let inputs = inputs.max(1);
    let plain = |name: &str, settings| TopicPlan {
        name: name.to_owned(),
        partitions: inputs,
        settings,
        written: true,
    };
    let compacted = || ("cleanup.policy", COMPACTED.to_owned());
    // Compaction of a closed segment only: small segments keep what a restart must read short.
    let short = || ("segment.ms", "600000".to_owned());
    let mut plans = vec![plain(&topics.alerts, Vec::new())];
    plans.extend(topics.scores.as_deref().map(|name| plain(name, Vec::new())));
    plans.extend(topics.drift.as_deref().map(|name| plain(name, Vec::new())));
    let roomy = || ("max.message.bytes", MESSAGE_MAX.to_string());
    plans.push(plain(&topics.dead_letters, vec![roomy()]));
    if let Some(late) = topics
        .late
        .as_deref()
        .filter(|late| *late != topics.dead_letters)
    {
        plans.push(plain(late, vec![roomy()]));
    }
    plans.push(plain(
        &topics.state,
        vec![
            compacted(),
            short(),
            ("min.cleanable.dirty.ratio", "0.2".to_owned()),
            roomy(),
        ],
    ));
    let single = |name: &str, written| TopicPlan {
        name: name.to_owned(),
        partitions: 1,
        settings: vec![compacted(), short()],
        written,
    };
    plans.extend(shared.models.map(|name| single(name, true)));
    plans.push(single(shared.feedback, false));
    plans
}

/// Creates the topics that are not there. `replication` of `None` is the broker's default.
pub fn create(
    connection: &Connection,
    plans: &[TopicPlan],
    replication: Option<i32>,
) -> Result<Vec<(String, Made)>, KafkaFailure> {
    let admin: Authenticated<AdminClient<PlainContext>> =
        connection.client(&connection.admin(), PlainContext::default(), None)?;
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

/// Creates topics, and waits until those that were made are known: the broker asked next may not be the one that made them. Fails where one
/// can be neither found nor made.
pub fn ensure(
    connection: &Connection,
    plans: &[TopicPlan],
    watchdog: &Watchdog,
) -> Result<(), KafkaFailure> {
    let made = create(connection, plans, None)?;
    for (topic, made) in &made {
        if let Made::Failed(why) = made {
            return Err(KafkaFailure::Content {
                topic: topic.clone(),
                problem: format!("could not be created: {why}"),
            });
        }
    }
    wait_until_known(connection, &made, watchdog)
}

/// Waits until topics that were `made` just now are known.
pub fn wait_until_known(
    connection: &Connection,
    made: &[(String, Made)],
    watchdog: &Watchdog,
) -> Result<(), KafkaFailure> {
    let client = client(connection)?;
    let deadline = watchdog.clock().monotonic() + KNOWN_MAX;
    for (name, _) in made.iter().filter(|(_, made)| *made == Made::Created) {
        loop {
            match super::topic_reader::partitions(&client, watchdog, name) {
                Err(KafkaFailure::NoTopic(_)) if watchdog.clock().monotonic() < deadline => {
                    watchdog.pause(Duration::from_millis(100))?;
                }
                Err(failure) => return Err(failure),
                Ok(_) => break,
            }
        }
    }
    Ok(())
}

/// How many partitions the input has in all.
pub fn input_partitions(
    connection: &Connection,
    inputs: &[String],
    watchdog: &Watchdog,
) -> Result<i32, KafkaFailure> {
    let client = client(connection)?;
    let mut sum = 0;
    for topic in inputs {
        sum += super::topic_reader::partitions(&client, watchdog, topic)?;
    }
    Ok(sum)
}

/// Why a topic that must keep the latest record of each key does not; `None` if it does, or if its settings may not be read.
pub fn forgets(connection: &Connection, topic: &str) -> Option<KafkaFailure> {
    let policy = setting(connection, topic, "cleanup.policy")?;
    (policy != COMPACTED).then(|| KafkaFailure::Forgets {
        topic: topic.to_owned(),
        policy,
    })
}

/// What is wrong with a topic's settings, and what to beware of.
pub(super) fn settings_of(
    connection: &Connection,
    plan: &TopicPlan,
) -> (Option<KafkaFailure>, Option<u32>) {
    let compacted = plan
        .settings
        .iter()
        .any(|(name, value)| *name == "cleanup.policy" && value == COMPACTED);
    let wrong = compacted.then(|| forgets(connection, &plan.name)).flatten();
    (wrong, least_in_sync(connection, &plan.name))
}

/// Replicas that what is committed to a topic is in at least, where these are too few: a single broker that fails can take it along; `None` where that needs two,
/// or is not known.
fn least_in_sync(connection: &Connection, topic: &str) -> Option<u32> {
    let least = setting(connection, topic, "min.insync.replicas")?;
    least.parse().ok().filter(|least| *least < 2)
}

/// The same in words.
pub fn too_few_replicas(connection: &Connection, topic: &str) -> Option<String> {
    least_in_sync(connection, topic).map(|least| beware(&[topic], least))
}

/// What to beware of in these topics.
#[must_use]
pub fn beware(topics: &[&str], least: u32) -> String {
    let (one, have) = match topics {
        [_] => ("topic", "has"),
        _ => ("topics", "have"),
    };
    let names: Vec<String> = topics.iter().map(|topic| format!("`{topic}`")).collect();
    format!(
        "{one} {} {have} min.insync.replicas {least}: what was committed can be lost with one broker; with three replicas set it to 2",
        names.join(", ")
    )
}

/// The largest batch of records that `topic` takes, if that may be asked.
pub(super) fn message_max(connection: &Connection, topic: &str) -> Option<usize> {
    setting(connection, topic, "max.message.bytes")?
        .parse()
        .ok()
}

/// A setting of a topic, if that may be asked.
fn setting(connection: &Connection, topic: &str, name: &str) -> Option<String> {
    let admin: Authenticated<AdminClient<PlainContext>> = connection
        .client(&connection.admin(), PlainContext::default(), None)
        .ok()?;
    // Any broker knows. Asking the cluster's controller, as is usual, would mean waiting for one where there is none.
    let options = AdminOptions::new()
        .request_timeout(Some(SETTING_MAX))
        .broker_id(Some(broker_of(connection, topic)?));
    let described = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options))
        .ok()?
        .ok()?;
    let resource = described.into_iter().next()?.ok()?;
    resource.get(name)?.value.clone()
}

/// A broker that can be asked about `topic`: one that leads a partition of it, or any.
fn broker_of(connection: &Connection, topic: &str) -> Option<i32> {
    let client = client(connection).ok()?;
    let metadata = client.fetch_metadata(Some(topic), SETTING_MAX).ok()?;
    let mut leaders = metadata
        .topics()
        .iter()
        .flat_map(MetadataTopic::partitions)
        .map(MetadataPartition::leader);
    let leader = leaders.find(|leader| *leader >= 0);
    leader.or_else(|| metadata.brokers().first().map(MetadataBroker::id))
}

pub(super) fn client(
    connection: &Connection,
) -> Result<Authenticated<BaseConsumer<PlainContext>>, KafkaFailure> {
    let config = connection.reader(Isolation::Committed);
    connection.client(&config, PlainContext::default(), None)
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
    fn state_models_and_feedback_are_compacted_and_state_has_the_inputs_partitions() {
        let topics = OutputTopics {
            alerts: "a".to_owned(),
            scores: None,
            dead_letters: "d".to_owned(),
            late: Some("d".to_owned()),
            drift: Some("r".to_owned()),
            state: "s".to_owned(),
            forms: super::super::forms::Forms::default(),
        };
        let shared = SharedTopics {
            models: Some("m"),
            feedback: "f",
        };
        let plans = plan(&topics, shared, 6);
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["a", "r", "d", "s", "m", "f"]);
        let partitions: Vec<i32> = plans.iter().map(|plan| plan.partitions).collect();
        assert_eq!(partitions, [6, 6, 6, 6, 1, 1]);
        assert!(plans.iter().all(|plan| plan.written == (plan.name != "f")));
        let roomy = ("max.message.bytes", MESSAGE_MAX.to_string());
        for plan in &plans[2..4] {
            assert!(plan.settings.contains(&roomy), "{}", plan.name);
        }
        for plan in &plans[3..] {
            assert_eq!(plan.settings[0], ("cleanup.policy", "compact".to_owned()));
        }
    }
}
