//! The feedback topic, and the thread that follows it: what people say of episodes reaches the workers of this process between two batches.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::metrics::Metrics;
use super::status::Status;
use super::watch::watch;
use crate::kafka::KafkaFailure;
use crate::kafka::feedback::FeedbackTopic;
use crate::kafka::watchdog::Watchdog;
use crate::model::card::Said;
use crate::worker::BoxError;

/// How often the topic is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long until Kafka is asked again when it was away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Reads the topic, and tells the workers.
#[derive(Debug)]
pub struct Listening {
    topic: FeedbackTopic,
    workers: Vec<Sender<Arc<Said>>>,
    metrics: Metrics,
    status: Arc<Status>,
}

/// Several threads look, one at a time: so each worker is told in the order of the topic.
pub type SharedListening = Arc<Mutex<Listening>>;

impl Listening {
    /// Of a topic that was read to its end.
    pub fn new(topic: FeedbackTopic, metrics: Metrics, status: Arc<Status>) -> Self {
        let listening = Self {
            topic,
            workers: Vec::new(),
            metrics,
            status,
        };
        listening.tell();
        listening
    }

    /// Where a worker hears what was said so far, and what will be.
    pub fn join(&mut self) -> Receiver<Arc<Said>> {
        let (worker, said) = channel();
        worker
            .send(Arc::clone(self.topic.said()))
            .unwrap_or_default();
        self.workers.push(worker);
        said
    }

    fn look(&mut self) -> Result<(), KafkaFailure> {
        let looked = self.topic.look();
        // What was read before it failed is not read again.
        if !matches!(looked, Ok(false)) {
            self.tell();
        }
        looked.map(|_| ())
    }

    fn tell(&self) {
        let said = self.topic.said();
        for worker in &self.workers {
            // A worker that is gone needs to hear nothing.
            worker.send(Arc::clone(said)).unwrap_or_default();
        }
        let found = self.status.feedback(said, self.topic.unreadable());
        self.metrics.count_feedback(&found);
    }
}

fn look(listening: &SharedListening) -> Result<(), KafkaFailure> {
    let mut listening = listening.lock().unwrap_or_else(PoisonError::into_inner);
    listening.look()
}

/// Lets all workers hear what has been said by now, for as long as Kafka takes to say that.
pub(super) fn listen(listening: &SharedListening, watchdog: &Watchdog) -> Result<(), BoxError> {
    loop {
        match look(listening) {
            Err(error) if error.passes() => {
                tracing::warn!(%error, "what was said of episodes cannot be read: trying on");
                watchdog.pause(AGAIN_AFTER)?;
            }
            looked => return Ok(looked?),
        }
    }
}

/// Looks again and again.
#[derive(Debug)]
pub struct Listener {
    listening: SharedListening,
    stop: Arc<AtomicBool>,
    wake: Receiver<()>,
}

impl Listener {
    /// A listener that `stop` ends, and what wakes it early when it is dropped.
    pub fn new(listening: SharedListening, stop: &Arc<AtomicBool>) -> (Self, Sender<()>) {
        let (send, wake) = channel();
        let stop = Arc::clone(stop);
        let listener = Self {
            listening,
            stop,
            wake,
        };
        (listener, send)
    }

    /// Looks until stopped.
    pub fn run(self) {
        let warning =
            "the feedback topic cannot be read; scoring goes on with what was said before";
        watch(&self.stop, (&self.wake, LOOK_EVERY), warning, || {
            look(&self.listening)
        });
    }
}
