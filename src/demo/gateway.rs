//! The plant's gateway: turns a simulated plant into records in Kafka, history first, then live: the time of each record is the clock's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::faults::{Fault, Memory, active};
use super::plant::{Pump, record};
use crate::seed::Seed;
use crate::time::{Clock, Timestamp};

/// Seconds of a pump's life between two of its readings ...
pub const STEP: f64 = 2.0;
/// ... which are so far apart in time: its load cycles take a minute instead of forty.
pub const APART: Duration = Duration::from_millis(50);

/// Sends the readings of all pumps.
pub struct Gateway {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
    clock: Arc<dyn Clock>,
    /// When live sending begins.
    origin: Timestamp,
    pumps: Vec<(Pump, Vec<(Fault, Memory)>)>,
    /// Readings of each pump since the beginning of history.
    step: u64,
    history_steps: u64,
    sent: u64,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("topic", &self.topic)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

/// Where the gateway sends to.
#[derive(Clone, Debug)]
pub struct Target {
    /// How to reach the broker.
    pub client: ClientConfig,
    /// The input topic.
    pub topic: String,
    /// Its number of partitions.
    pub partitions: i32,
}

impl Gateway {
    /// A plant of as many pumps as there are faults at, which has run for `history` when live sending begins, at `origin`.
    pub fn new(
        target: Target,
        faults: Vec<Fault>,
        (origin, history): (Timestamp, Duration),
        seed: Seed,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KafkaError> {
        let producer = target
            .client
            .clone()
            .set("compression.type", "zstd")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "200000")
            .create()?;
        let mut pumps: BTreeMap<usize, (Pump, Vec<(Fault, Memory)>)> = BTreeMap::new();
        for fault in faults {
            let fresh = || (Pump::new(fault.pump, seed), Vec::new());
            let memory = Memory::new(seed.nth(fault.pump as u64));
            pumps
                .entry(fault.pump)
                .or_insert_with(fresh)
                .1
                .push((fault, memory));
        }
        Ok(Self {
            producer,
            topic: target.topic,
            partitions: target.partitions,
            clock,
            origin,
            pumps: pumps.into_values().collect(),
            step: 0,
            history_steps: steps(history),
            sent: 0,
        })
    }

    /// Sends all of history, without faults, and waits until it has arrived. Answers how many records that were.
    pub fn preload(&mut self) -> Result<u64, KafkaError> {
        while self.step < self.history_steps {
            self.send_step(-1.0)?;
        }
        self.producer.flush(Duration::from_secs(60))?;
        Ok(self.sent)
    }

    /// Sends what is due after `live` of our time since live sending began. `place` tells where in the story a moment of plant time lies.
    pub fn catch_up(
        &mut self,
        live: Duration,
        place: impl Fn(Timestamp) -> f64,
    ) -> Result<(), KafkaError> {
        let due = self.history_steps + steps(live);
        while self.step < due {
            self.send_step(place(self.plant_time()))?;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until all that was sent has arrived.
    pub fn finish(&mut self) -> Result<(), KafkaError> {
        self.producer.flush(Duration::from_secs(3))
    }

    /// The plant's time of the next reading.
    pub fn plant_time(&self) -> Timestamp {
        let steps = self.step as i64 - self.history_steps as i64;
        Timestamp(self.origin.0 + steps * APART.as_millis() as i64)
    }

    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn send_step(&mut self, place: f64) -> Result<(), KafkaError> {
        let time = self.plant_time();
        let stamp = time.0.min(self.clock.now().0);
        let seconds = self.step as f64 * STEP;
        for (at, (pump, faults)) in self.pumps.iter_mut().enumerate() {
            let mut reading = Some(pump.read(seconds, STEP));
            for (fault, memory) in faults {
                reading = reading.and_then(|reading| memory.distort(fault, place, reading));
            }
            let Some(reading) = reading else {
                continue;
            };
            let value = record(&pump.name, time.0, &reading);
            // Two pumps a partition at least, so that one's silence is noticed by the other's records.
            let partition = i32::try_from(at).unwrap_or(0) % self.partitions;
            let mut message = BaseRecord::to(&self.topic)
                .key(&pump.name)
                .payload(&value)
                .partition(partition)
                .timestamp(stamp);
            while let Err((error, unsent)) = self.producer.send(message) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                self.producer.poll(Duration::from_millis(10));
                message = unsent;
            }
            self.sent += 1;
        }
        self.step += 1;
        Ok(())
    }

    /// The faults that begin or end between two places of the story.
    pub fn turns(&self, before: f64, after: f64) -> Vec<(&Fault, bool)> {
        self.pumps
            .iter()
            .flat_map(|(_, faults)| faults)
            .filter(|(fault, _)| active(fault, before) != active(fault, after))
            .map(|(fault, _)| (fault, active(fault, after)))
            .collect()
    }
}

/// Readings of a pump in this time.
fn steps(time: Duration) -> u64 {
    (time.as_millis() / APART.as_millis()) as u64
}
