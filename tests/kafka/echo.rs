//! The smallest worker there can be over a [`Session`], with state: it answers each record with its place and how many records of its partition
//! came before. Run in child processes and killed at any moment, it shows whether the adapter alone keeps exactly-once: every place once, in order,
//! with the right count.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anomalyd::config::LogFormat;
use anomalyd::kafka::KafkaFailure;
use anomalyd::kafka::publish::Delivery;
use anomalyd::kafka::reconnecting::ReconnectingSession;
use anomalyd::kafka::session::{BatchLimits, KafkaSession, SessionSettings};
use anomalyd::kafka::settings::Connection;
use anomalyd::kafka::start_offset::Start;
use anomalyd::kafka::topics::OutputTopics;
use anomalyd::kafka::watchdog::{Limits, Watchdog, end_process};
use anomalyd::pipeline::{Outbox, PartitionAssignment, StateEntry};
use anomalyd::port::{Input, Published, Session};
use anomalyd::record::RecordBatch;
use anomalyd::record::dead_letter::{DeadLetter, Refusal};
use anomalyd::service::log;
use anomalyd::stream::{Positions, TopicPartition};
use anomalyd::time::{Clock, SystemClock};

/// The environment variable that turns this test binary into a worker, with its settings.
pub const CHILD: &str = "ANOMALYD_ECHO_CHILD";

/// The detector's name.
const DETECTOR: &str = "echo";

/// What a child is told.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Echo {
    /// Brokers.
    pub brokers: String,
    /// Group, and the prefix of all topics.
    pub name: String,
    /// This process.
    pub instance: String,
    /// Threads.
    pub workers: usize,
    /// Exactly once?
    pub exactly_once: bool,
    /// librdkafka properties.
    pub properties: BTreeMap<String, String>,
    /// How long one call, and all attempts at one thing, may take, in milliseconds; `None`: as the program has it.
    pub limits: Option<(u64, u64)>,
}

/// A child at work. It ends with the test, also when that fails.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Stops it where it is, as a paused machine would, and lets it go on.
    pub fn freeze(&self, how_long: Duration) {
        self.signal("-STOP");
        std::thread::sleep(how_long);
        self.signal("-CONT");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Panics if it has ended by itself.
    pub fn must_live(&mut self) {
        let ended = self.child.try_wait().expect("its status");
        assert!(
            ended.is_none(),
            "ended with {ended:?}: see {}",
            self.log.display()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Echo {
    /// The input topic.
    pub fn input(&self) -> String {
        format!("{}.in", self.name)
    }

    /// The output topic.
    pub fn output(&self) -> String {
        format!("{}.out", self.name)
    }

    /// The state topic.
    pub fn state(&self) -> String {
        format!("{}.state", self.name)
    }

    /// A session of worker `worker`.
    pub fn session(&self, worker: usize) -> Result<KafkaSession, KafkaFailure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let watchdog = self.watchdog(&clock, Arc::default());
        KafkaSession::join(self.settings(worker), clock, watchdog)
    }

    /// The same, as the program uses it.
    pub fn reconnecting(&self, worker: usize, stop: Arc<AtomicBool>) -> ReconnectingSession {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let watchdog = self.watchdog(&clock, stop);
        ReconnectingSession::new(self.settings(worker), clock, watchdog)
    }

    fn watchdog(&self, clock: &Arc<dyn Clock>, stop: Arc<AtomicBool>) -> Watchdog {
        let limits = self
            .limits
            .map_or_else(Limits::default, |(call, retry)| Limits {
                call: Duration::from_millis(call),
                retry: Duration::from_millis(retry),
            });
        Watchdog::start(Arc::clone(clock), end_process)
            .with_limits(limits)
            .with_stop(stop)
    }

    /// The settings of a worker's session.
    pub fn settings(&self, worker: usize) -> SessionSettings {
        SessionSettings {
            detector: DETECTOR.to_owned(),
            connection: Connection {
                brokers: self.brokers.clone(),
                group: self.name.clone(),
                properties: self.properties.clone(),
                tokens: None,
                schemas: None,
            },
            inputs: vec![self.input()],
            topics: OutputTopics {
                alerts: self.output(),
                scores: None,
                dead_letters: self.output(),
                late: None,
                drift: None,
                state: self.state(),
                forms: anomalyd::kafka::forms::Forms::default(),
            },
            start: Start::Earliest,
            delivery: if self.exactly_once {
                Delivery::ExactlyOnce
            } else {
                Delivery::AtLeastOnce
            },
            batch: BatchLimits {
                records_max: 50,
                bytes_max: 1 << 20,
                wait: Duration::from_millis(5),
            },
            instance: self.instance.clone(),
            worker,
        }
    }

    /// Where a child's log goes.
    pub fn log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("{}-{}.log", self.name, self.instance))
    }

    /// Three instances of it, at work.
    pub fn three(&self) -> Vec<(Self, Running)> {
        ["a", "b", "c"]
            .into_iter()
            .map(|instance| {
                let echo = Self {
                    instance: instance.to_owned(),
                    ..self.clone()
                };
                let child = echo.spawn();
                (echo, child)
            })
            .collect()
    }

    /// Starts a child process of this test binary that runs the workers until it is killed.
    pub fn spawn(&self) -> Running {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log file");
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["echo_child", "--exact", "--nocapture"])
            .env(CHILD, serde_json::to_string(self).expect("settings"))
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("a child");
        Running {
            child,
            log: self.log(),
        }
    }

    /// Runs all workers; returns when one fails.
    pub fn run(&self) {
        let level = std::env::var("RUST_LOG");
        log::start(level.as_deref().unwrap_or("info"), LogFormat::Text);
        let threads: Vec<_> = (0..self.workers)
            .map(|worker| {
                let echo = self.clone();
                std::thread::spawn(move || {
                    let session = echo.reconnecting(worker, Arc::default());
                    if let Err(error) = work(session, |_| false) {
                        eprintln!("worker {worker}: {error}");
                        std::process::exit(74);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a worker");
        }
    }
}

/// The loop: counts per partition are the state. Ends when `stop` says so, given the sum of the counts.
pub fn work<S: Session<Fatal = KafkaFailure>>(
    mut session: S,
    stop: impl Fn(u64) -> bool,
) -> Result<(), KafkaFailure> {
    let clock = SystemClock::default();
    let mut counts: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    let mut positions = Positions::new();
    while !stop(counts.values().sum()) {
        match session.next(clock.now().plus(Duration::from_millis(50)))? {
            Input::Batch(batch) => {
                let (outbox, after) = stage(&batch, &counts);
                match session.publish(&outbox)? {
                    Published::Committed => {
                        counts = after;
                        positions.extend(outbox.positions);
                    }
                    Published::Aborted => session.rewind(&positions)?,
                    Published::Lost => {}
                }
            }
            Input::Assigned(assignments) => {
                for assignment in &assignments {
                    counts.insert(assignment.at.clone(), restored(assignment));
                    positions.insert(assignment.at.clone(), assignment.committed);
                }
                session.rewind(&positions)?;
                let fresh = assignments.iter().filter(|assignment| assignment.fresh);
                let outbox = Outbox {
                    positions: fresh
                        .map(|assignment| (assignment.at.clone(), assignment.committed))
                        .collect(),
                    ..Outbox::default()
                };
                if !outbox.positions.is_empty() && session.publish(&outbox)? == Published::Aborted {
                    session.rewind(&positions)?;
                }
            }
            Input::Revoked(partitions) => {
                for at in partitions {
                    counts.remove(&at);
                    positions.remove(&at);
                }
            }
            Input::OffsetOutOfRange(to) => {
                positions.extend(to);
                session.rewind(&positions)?;
            }
            Input::Idle => {}
        }
    }
    Ok(())
}

/// Works out a batch: one answer a record, and the new counts as state.
pub fn stage(
    batch: &RecordBatch,
    counts: &BTreeMap<TopicPartition, u64>,
) -> (Outbox, BTreeMap<TopicPartition, u64>) {
    let mut counts = counts.clone();
    let mut outbox = Outbox::default();
    for record in batch.records() {
        let at = &batch.sources()[record.source];
        let count = counts.entry(at.clone()).or_default();
        let value = format!("{}:{}:{count}", at.partition.0, record.offset);
        *count += 1;
        // A dead letter goes out as it is.
        outbox.dead_letters.push(DeadLetter {
            detector: DETECTOR.into(),
            at: at.clone(),
            offset: record.offset,
            timestamp: record.timestamp,
            key: batch.key(record).map(<[u8]>::to_vec),
            value: Some(value.into_bytes()),
            headers: Vec::new(),
            reason: Refusal::Late(Duration::ZERO),
        });
        outbox.positions.insert(at.clone(), record.offset.next());
    }
    for at in outbox.positions.keys() {
        outbox.state.push(StateEntry {
            at: at.clone(),
            key: count_key(at),
            value: Some(counts[at].to_string().into_bytes()),
        });
    }
    (outbox, counts)
}

/// A name in the state topic, as the pipeline makes them.
fn count_key(at: &TopicPartition) -> Vec<u8> {
    format!("{DETECTOR}/{}/{}/key/count", at.topic, at.partition.0).into_bytes()
}

fn restored(assignment: &PartitionAssignment) -> u64 {
    assignment
        .state
        .iter()
        .find(|entry| entry.key == count_key(&assignment.at))
        .and_then(|entry| {
            String::from_utf8_lossy(entry.value.as_deref()?)
                .parse()
                .ok()
        })
        .unwrap_or(0)
}
