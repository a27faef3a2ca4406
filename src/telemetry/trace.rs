//! What a worker tells of a batch, and which batches are told of.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::Counters;
use crate::seed::Seed;
use crate::time::Clock;
use crate::worker::{Attempt, Outcome, Steps};

/// Spans of a batch: itself and its steps.
pub(super) const SPANS: usize = 1 + STEPS.len();
/// The steps by name, in their order.
pub(super) const STEPS: [&str; 4] = ["fetch wait", "decode", "stage", "publish"];

/// A batch as it goes to the exporter.
#[derive(Clone, Debug)]
pub(super) struct BatchTrace {
    pub(super) origin: Arc<Origin>,
    pub(super) outcome: Outcome,
    pub(super) records: u64,
    pub(super) alerts: usize,
    /// When it was asked for, and when each of [`STEPS`] ended, in nanoseconds since 1970.
    pub(super) times: [u64; SPANS],
}

/// Whose batches they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The detector's name.
    pub detector: String,
    /// The consumer group.
    pub group: String,
    /// The worker's number.
    pub worker: usize,
}

/// Tells of one worker's batches.
#[derive(Clone, Debug)]
pub struct Tracer {
    pub(super) origin: Arc<Origin>,
    pub(super) ratio: f64,
    pub(super) queue: SyncSender<BatchTrace>,
    pub(super) counters: Counters,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: ChaCha8Rng,
}

impl Tracer {
    /// The same of another worker.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Self {
        let seed = Seed(self.rng.clone().r#gen()).child(&origin.detector);
        Self {
            rng: seed.nth(origin.worker as u64).rng(),
            origin: Arc::new(origin),
            ..self.clone()
        }
    }

    /// Tells of a batch, if it is one of those that are told of. Never waits: where the queue is full, it is counted as dropped.
    pub fn tell(&mut self, attempt: &Attempt) {
        let always = !matches!(attempt.outcome, Outcome::Committed | Outcome::Replayed);
        if self.ratio <= 0.0 || !(always || self.rng.gen_bool(self.ratio.min(1.0))) {
            return;
        }
        let trace = BatchTrace {
            origin: Arc::clone(&self.origin),
            outcome: attempt.outcome,
            records: attempt.records,
            alerts: attempt.alerts,
            times: wall(&attempt.steps, &*self.clock),
        };
        match self.queue.try_send(trace) {
            Ok(()) => {}
            // Without whoever exports, as when the process ends, it is lost all the same.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.dropped(SPANS);
            }
        }
    }
}

/// Times on the monotonic clock as nanoseconds since 1970: one look at both clocks for all, so that they stay as far apart as they are.
fn wall(steps: &Steps, clock: &dyn Clock) -> [u64; SPANS] {
    let (now, monotonic) = (clock.now(), clock.monotonic());
    let now = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let at = |time: Duration| {
        let ago = monotonic.saturating_sub(time);
        u64::try_from(now.saturating_sub(ago).as_nanos()).unwrap_or(u64::MAX)
    };
    let Steps {
        asked,
        fetched,
        decoded,
        staged,
        published,
    } = *steps;
    [asked, fetched, decoded, staged, published].map(at)
}

#[cfg(test)]
mod tests {
    use super::super::export::tests::{counters, tracer};
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt {
            steps: Steps::default(),
            outcome,
            records: 1,
            alerts: 0,
        }
    }

    #[test]
    fn a_share_is_told_of_and_what_failed_always() {
        let (send, told) = sync_channel(10_000);
        let counters = counters();
        let mut tracer = tracer(send, &counters, 0.1);
        let mut seen = |outcome| {
            for _ in 0..1000 {
                tracer.tell(&attempt(outcome));
            }
            told.try_iter().count()
        };
        let committed = seen(Outcome::Committed);
        assert!((60..140).contains(&committed), "{committed} of 1000");
        assert_eq!((seen(Outcome::Aborted), seen(Outcome::Lost)), (1000, 1000));
        tracer.ratio = 0.0;
        tracer.tell(&attempt(Outcome::Lost));
        assert_eq!(told.try_iter().count(), 0);
    }

    #[test]
    fn a_full_queue_is_counted_and_holds_nobody_up() {
        let (send, told) = sync_channel(2);
        let counters = counters();
        let mut tracer = tracer(send, &counters, 1.0);
        for _ in 0..5 {
            tracer.tell(&attempt(Outcome::Committed));
        }
        let dropped = counters.spans.with_label_values(&["dropped"]);
        assert_eq!((told.try_iter().count(), dropped.get()), (2, 15));
    }
}
