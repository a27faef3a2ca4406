//! Waiting for a producer in steps shorter than librdkafka's own.

use std::time::Duration;

use super::KafkaFailure;
use super::error_class::Failed;
use super::watchdog::Watchdog;

/// Steps in which the producer is polled: `flush` would wait in steps of 100 ms.
pub(super) const POLL_STEP: Duration = Duration::from_micros(400);

/// Steps between two checks whether the process is to end: a tenth of a second.
const STEPS: u32 = 256;
/// How many such checks an end waits for what is in flight.
const STOP_CHECKS: u32 = 20;

/// A loop of very short waits: now and then it says that the thread goes on, and it ends some time after a stop.
#[derive(Debug, Default)]
pub(super) struct BusyWait {
    steps: u32,
    stopping: u32,
}

impl BusyWait {
    /// To be called before each step.
    ///
    /// # Errors
    /// [`KafkaFailure::Stopped`] once a stop has lasted for two seconds.
    pub(super) fn check(&mut self, watchdog: &Watchdog) -> Result<(), Failed> {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS) {
            return Ok(());
        }
        watchdog.beat();
        self.stopping += u32::from(watchdog.stopped());
        if STOP_CHECKS < self.stopping {
            return Err(Failed::Fatal(KafkaFailure::Stopped));
        }
        Ok(())
    }
}
