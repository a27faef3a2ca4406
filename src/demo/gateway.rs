//! The plant's gateway: turns simulated time into records in Kafka, history first, then live and sped up.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::faults::{Fault, Memory, active};
use super::plant::{Pump, record};
use crate::seed::Seed;
use crate::time::{Clock, Timestamp};

/// Seconds of plant time between two readings of a pump.
pub const STEP: f64 = 2.0;

/// How the plant's time runs.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds of plant time in a second of ours.
    pub speed: f64,
    /// The plant's time when live sending begins.
    pub origin: Timestamp,
}

/// Sends the readings of all pumps.
pub struct Gateway {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
    clock: Arc<dyn Clock>,
    pace: Pace,
    pumps: Vec<(Pump, Fault, Memory)>,
    /// Steps of plant time since the beginning of history.
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
    /// `host:port` of the broker.
    pub brokers: String,
    /// The input topic.
    pub topic: String,
    /// Its number of partitions.
    pub partitions: i32,
}

impl Gateway {
    /// A plant with one pump a fault, which has run for `history` when live sending begins.
    pub fn new(
        target: Target,
        faults: Vec<Fault>,
        (pace, history): (Pace, Duration),
        seed: Seed,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KafkaError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &target.brokers)
            .set("compression.type", "zstd")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "200000")
            .create()?;
        let mut faults = faults;
        faults.sort_by_key(|fault| fault.pump);
        let pumps = faults
            .into_iter()
            .map(|fault| {
                let memory = Memory::new(seed.nth(fault.pump as u64));
                (Pump::new(fault.pump, seed), fault, memory)
            })
            .collect();
        Ok(Self {
            producer,
            topic: target.topic,
            partitions: target.partitions,
            clock,
            pace,
            pumps,
            step: 0,
            history_steps: (history.as_secs_f64() / STEP) as u64,
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
        let due = self.history_steps + (live.as_secs_f64() * self.pace.speed / STEP) as u64;
        while self.step < due {
            self.send_step(place(self.plant_time()))?;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// The same without faults, but never what would be later than now: the plant catches up with the clock, and then runs with it.
    pub fn catch_up_to_now(&mut self, live: Duration) -> Result<(), KafkaError> {
        let due = self.history_steps + (live.as_secs_f64() * self.pace.speed / STEP) as u64;
        while self.step < due && self.plant_time() <= self.clock.now() {
            self.send_step(-1.0)?;
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// The plant's time of the next reading.
    pub fn plant_time(&self) -> Timestamp {
        let steps = self.step as f64 - self.history_steps as f64;
        Timestamp(self.pace.origin.0 + (steps * STEP * 1000.0) as i64)
    }

    /// The plant's time when live sending began.
    pub fn origin(&self) -> Timestamp {
        self.pace.origin
    }

    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn send_step(&mut self, place: f64) -> Result<(), KafkaError> {
        let time = self.plant_time();
        let stamp = time.0.min(self.clock.now().0);
        let seconds = self.step as f64 * STEP;
        for (pump, fault, memory) in &mut self.pumps {
            let reading = pump.read(seconds, STEP);
            let Some(reading) = memory.distort(fault, place, reading) else {
                continue;
            };
            let value = record(&pump.name, time.0, &reading);
            // Two pumps a partition at least, so that one's silence is noticed by the other's records.
            let partition = i32::try_from(fault.pump).unwrap_or(0) % self.partitions;
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
            .filter(|(_, fault, _)| active(fault, before) != active(fault, after))
            .map(|(_, fault, _)| (fault, active(fault, after)))
            .collect()
    }
}
