//! `anomalyd topics create` and `validate --connect`: what Kafka has, and what it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
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
/// Detectors that are checked at a time.
const AT_A_TIME: usize = 8;
/// Records of each partition that the configuration is tried on.
const RECORDS: i64 = 100;

/// Creates the topics that are missing of all detectors, and says once what became of each. Input topics are someone else's: they are created only when
/// `input_partitions` says how large. What is wrong with one detector keeps none of the others from having theirs.
pub(super) fn create(
    configs: &[Config],
    replication: Option<i32>,
    input_partitions: Option<i32>,
) -> Result<(), Failure> {
    let (mut told, mut wrong) = (BTreeSet::new(), Vec::new());
    for config in configs {
        match create_of(config, replication, input_partitions, &mut told) {
            Ok(()) => {}
            // One detector is told as it always was.
            Err(failure) if configs.len() == 1 => return Err(failure),
            Err(failure) => wrong.push((config.name.clone(), failure)),
        }
    }
    let Some((_, first)) = wrong.first() else {
        return Ok(());
    };
    let code = first.code();
    let line = |(name, failure): &(String, Failure)| (name.clone(), vec![failure.to_string()]);
    let lines: Vec<(String, Vec<String>)> = wrong.iter().map(line).collect();
    Err(Failure::Code {
        code,
        message: merged(&lines, configs.len()).join("\n  "),
    })
}

/// The same of one detector, without the topics that were told of.
fn create_of(
    config: &Config,
    replication: Option<i32>,
    input_partitions: Option<i32>,
    told: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    let connection = config.connection();
    let (_, watchdog) = patient(outside(config)?);
    let mut make = |mut plans: Vec<TopicPlan>| {
        plans.retain(|plan| told.insert(plan.name.clone()));
        if plans.is_empty() {
            return Ok(());
        }
        let made = admin::create(&connection, &plans, replication)?;
        tell(&made)?;
        Ok::<_, Failure>(admin::wait_until_known(&connection, &made, &watchdog)?)
    };
    if let Some(partitions) = input_partitions {
        let inputs = config.input.topics.iter().map(|name| TopicPlan {
            name: name.clone(),
            partitions,
            settings: Vec::new(),
            written: false,
        });
        make(inputs.collect())?;
    }
    let plans = plans(config, &watchdog).map_err(|failure| match failure {
        KafkaFailure::NoTopic(topic) => Failure::Usage(format!(
            "the input topic `{topic}` does not exist, and the topics to create get as many partitions as the input has: \
             --input-partitions N creates it too"
        )),
        failure => failure.into(),
    })?;
    make(plans)
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

/// What was found of one detector.
#[derive(Debug, Default)]
struct Checked {
    problems: Vec<String>,
    notes: Vec<String>,
    in_sync: Vec<(String, u32)>,
}

/// Asks Kafka for brokers, topics and rights, and the schema registry for what is written, for all detectors at a time; everything that would keep the daemon
/// from working, at once. Answers what could not be checked.
pub(super) fn check(configs: &[Config]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for some in configs.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let asked: Vec<_> = some
                .iter()
                .map(|one| scope.spawn(|| check_one(one)))
                .collect();
            found.extend(asked.into_iter().map(|one| {
                one.join()
                    .unwrap_or_else(|_| Err(Failure::Internal("checking panicked".to_owned())))
            }));
        });
    }
    if let [Err(_)] = &found[..]
        && let Some(Err(failure)) = found.pop()
    {
        return Err(failure);
    }
    let (mut problems, mut notes, mut in_sync) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (config, checked) in configs.iter().zip(found) {
        let checked = checked.unwrap_or_else(|failure| Checked {
            problems: vec![failure.to_string()],
            ..Checked::default()
        });
        problems.push((config.name.clone(), checked.problems));
        notes.push((config.name.clone(), checked.notes));
        for (topic, least) in checked.in_sync {
            in_sync
                .entry(least)
                .or_insert_with(BTreeSet::new)
                .insert(topic);
        }
    }
    let problems = merged(&problems, configs.len());
    if !problems.is_empty() {
        return Err(not_ready(&problems));
    }
    let bewares = in_sync.iter().map(|(least, topics)| {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        admin::beware(&topics, *least)
    });
    Ok(merged(&notes, configs.len())
        .into_iter()
        .chain(bewares)
        .collect())
}

/// The lines of several detectors, each once: with the names of the detectors that it is of, unless it is of all.
fn merged(of: &[(String, Vec<String>)], all: usize) -> Vec<String> {
    let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
    for (detector, line) in of
        .iter()
        .flat_map(|(name, lines)| lines.iter().map(move |line| (name.as_str(), line.as_str())))
    {
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, detectors)) if detectors.contains(&detector) => {}
            Some((_, detectors)) => detectors.push(detector),
            None => lines.push((line, vec![detector])),
        }
    }
    let line = |(line, detectors): (&str, Vec<&str>)| {
        if detectors.len() == all {
            return line.to_owned();
        }
        let word = if detectors.len() == 1 {
            "detector"
        } else {
            "detectors"
        };
        format!("{word} {}: {line}", detectors.join(", "))
    };
    lines.into_iter().map(line).collect()
}

fn check_one(config: &Config) -> Result<Checked, Failure> {
    let topic = config.input.topics.first().map(String::as_str);
    if let Err(failure) = reach(&config.connection(), topic) {
        return Ok(Checked {
            problems: vec![failure.to_string()],
            ..Checked::default()
        });
    }
    let (clock, watchdog) = patient(unasked());
    // A missing input topic is one of the problems that the check itself finds.
    let plans = plans(config, &watchdog)
        .unwrap_or_else(|_| admin::plan(&config.output_topics(), config.shared_topics(), 1));
    let Findings {
        mut problems,
        mut notes,
        in_sync,
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
    if problems.is_empty() {
        read(config, (clock, watchdog), (&mut problems, &mut notes));
    }
    Ok(Checked {
        problems,
        notes,
        in_sync,
    })
}

fn not_ready(problems: &[String]) -> Failure {
    Failure::Code {
        code: exit::CONFIGURATION,
        message: format!(
            "not ready for this configuration, {} problem(s):\n  {}",
            problems.len(),
            problems.join("\n  ")
        ),
    }
}

/// What comes of reading the newest records; that none can be read is a problem.
fn read(
    config: &Config,
    waits: (Arc<dyn Clock>, Watchdog),
    (problems, notes): (&mut Vec<String>, &mut Vec<String>),
) {
    let sample = || {
        let history = KafkaHistory::new(&config.connection(), config.history_topics(), waits);
        history?.sample(RECORDS)
    };
    match sample() {
        Ok(batch) if batch.is_empty() => {
            notes.push("the input has no records to try it on yet".to_owned());
        }
        Ok(batch) => {
            let tried = trial(&config.input.schema(), &batch);
            if tried.unread == tried.records {
                problems.push(format!("input: {}", tried.words()));
                return;
            }
            notes.push(tried.words());
            let unseen = tried.unseen_words();
            notes.extend(unseen.map(|words| format!("input.features: {words}")));
            notes.extend(tried.spread_words());
        }
        Err(error) => notes.push(format!("the newest records could not be tried: {error}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_several_detectors_is_told_once_with_whose_it_is() {
        let of = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let named = |name: &str, lines: &[&str]| (name.to_owned(), of(lines));
        let all = [
            named("a", &["x", "every"]),
            named("b", &["every", "x", "x"]),
            named("c", &["y", "every"]),
        ];
        let wanted = ["detectors a, b: x", "every", "detector c: y"];
        assert_eq!(merged(&all, 3), wanted);
        assert_eq!(merged(&[named("a", &["x"])], 1), ["x"]);
        assert_eq!(merged(&[named("a", &["x"])], 2), ["detector a: x"]);
        let beware = admin::beware(&["s", "t"], 1);
        assert!(
            beware.starts_with("topics `s`, `t` have min.insync.replicas 1: "),
            "{beware}"
        );
    }
}
