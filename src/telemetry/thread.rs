//! The thread that exports, and the queue before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::Registry;

use super::export::Exporter;
use super::trace::{BatchTrace, Origin, Tracer};
use super::{Counters, Settings};
use crate::seed::Seed;
use crate::time::Clock;

/// Batches that wait to be taken by the thread, at most.
const QUEUE: usize = 256;
/// How soon the end is seen.
const LOOK: Duration = Duration::from_millis(200);
/// How long each of the last requests of a process may take.
const LAST: Duration = Duration::from_millis(200);
/// How long the end of the process waits for the last messages.
const END_MAX: Duration = Duration::from_millis(600);

/// The process that tells.
#[derive(Clone, Debug)]
pub struct Teller {
    /// Its name among others.
    pub instance: String,
    /// Its metrics.
    pub registry: Registry,
    /// What is counted of telling.
    pub counters: Counters,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Of identifiers and of which batches are told of: another one in each process.
    pub seed: Seed,
}

/// Exports until it is dropped, which posts what is left, within half a second or so.
#[derive(Debug)]
pub struct Exporting {
    tracer: Tracer,
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Exporting {
    /// Starts the thread.
    ///
    /// # Errors
    /// What is wrong with the file of authorities, or that there can be no thread, in words.
    pub fn start(settings: &Settings, teller: Teller) -> Result<Self, String> {
        let Teller {
            instance,
            registry,
            counters,
            clock,
            seed,
        } = teller;
        for outcome in ["exported", "dropped"] {
            counters.spans.with_label_values(&[outcome]);
        }
        let (queue, told): (SyncSender<BatchTrace>, _) = sync_channel(QUEUE);
        let seen = (&registry, &counters);
        let rng = seed.child("identifiers").rng();
        let exporter = Exporter::new(settings, &instance, seen, (&clock, rng))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = sync_channel::<()>(1);
        let tracer = Tracer {
            origin: Arc::new(Origin {
                detector: String::new(),
                group: String::new(),
                worker: 0,
            }),
            ratio: settings.trace_ratio,
            queue,
            counters,
            clock,
            rng: seed.child("traces").rng(),
        };
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                run(exporter, &told, &stopped);
                // Dropped here, however it ended: whoever waits for that goes on.
                drop(end);
            })
            .map_err(|error| format!("a thread cannot be started: {error}"))?;
        Ok(Self {
            tracer,
            stop,
            ended,
        })
    }

    /// What workers tell by; [`Tracer::of`] says whose it is.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Nothing ever comes: the end of the thread, or of our patience, is what is waited for.
        self.ended.recv_timeout(END_MAX).unwrap_or_default();
    }
}

fn run(mut exporter: Exporter, told: &Receiver<BatchTrace>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match told.recv_timeout(exporter.idle().min(LOOK)) {
            Ok(batch) => exporter.take(batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        exporter.step();
    }
    for batch in told.try_iter() {
        exporter.take(batch);
    }
    exporter.finish(LAST);
}

#[cfg(test)]
mod tests {
    use super::super::export::tests::counters;
    use super::*;
    use std::collections::BTreeMap;

    use crate::https::Authorities;
    use crate::kafka::endpoint::{Answer, Endpoint};
    use crate::time::SystemClock;
    use crate::worker::{Attempt, Outcome, Steps};

    #[test]
    fn the_end_of_a_process_loses_no_batch() {
        let endpoint = Endpoint::start(Answer::Status(200, "{}".to_owned()));
        let settings = Settings {
            endpoint: endpoint.url().trim_end_matches("/token").to_owned(),
            headers: BTreeMap::new(),
            authorities: Authorities::Machine,
            trace_ratio: 1.0,
            metrics_interval: Duration::ZERO,
            timeout: Duration::from_secs(5),
            resource: BTreeMap::new(),
        };
        let counters = counters();
        let teller = Teller {
            instance: "i".to_owned(),
            registry: Registry::new(),
            counters: counters.clone(),
            clock: Arc::new(SystemClock::default()),
            seed: Seed(1),
        };
        let exporting = Exporting::start(&settings, teller).unwrap();
        let mut tracer = exporting.tracer().of(Origin {
            detector: "d".to_owned(),
            group: "g".to_owned(),
            worker: 0,
        });
        tracer.tell(&Attempt {
            steps: Steps::default(),
            outcome: Outcome::Committed,
            records: 1,
            alerts: 0,
        });
        drop(exporting);
        // The thread may be slower than the end's patience; it posts all the same while the process is there.
        let posted = (0..200).any(|_| {
            std::thread::park_timeout(Duration::from_millis(50));
            let asked = endpoint.asked();
            asked.iter().any(|one| one.headers[":path"] == "/v1/traces")
        });
        assert!(posted);
    }
}
