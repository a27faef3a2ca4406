//! The loop of one endpoint: gather, tell, commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::bodies::{Words, closes};
use super::endpoint::{Endpoint, Seen};
use super::message::{compose, parts};
use super::post::{Answer, Post};
use super::rate::Bucket;
use super::source::{AlertSource, alert};
use crate::alert::Alert;
use crate::kafka::KafkaFailure;
use crate::kafka::alert_group::Taken;
use crate::seed::Seed;
use crate::stream::Positions;
use crate::time::Clock;

/// Messages of the topic that are taken together at most.
const GATHERED_MAX: usize = 500;
/// The longest wait for one: how soon a stop is seen.
const LOOK: Duration = Duration::from_millis(200);
/// How long what nobody is told of waits to be committed.
const QUIET_WAIT: Duration = Duration::from_secs(5);
/// The first wait after a failure, and the longest; each is twice the one before, and between half of it and all of it is waited.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What happens, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It goes on; so many messages of the topic were not yet dealt with. `None`: it was given nothing to read yet.
    Goes(Option<u64>),
    /// A message of the topic is no alert.
    Unreadable,
    /// An alert that this endpoint is not told of, by its severity or because it closes.
    PassedOver,
    /// A request was answered with this status, or not at all.
    Answered(Option<u16>),
    /// So many alerts were delivered.
    Delivered(usize),
    /// So many alerts were refused.
    Refused(usize),
    /// It waits for this; `None`: not any more.
    Waits(Option<String>),
}

/// What came of a part of what was gathered.
enum Delivered {
    /// All were told of it, and it is committed.
    Done,
    /// The endpoint's settings are others now: what remains is to be looked at again.
    Changed,
    /// The process is to end before.
    Stopped,
}

/// Tells one endpoint.
pub struct Notifier<S, P> {
    /// Its settings when they were last looked at, ...
    seen: Seen,
    /// ... and what is in effect.
    endpoint: Endpoint,
    source: S,
    poster: P,
    observer: Arc<dyn Fn(Event) + Send + Sync>,
    clock: Arc<dyn Clock>,
    stop: Arc<AtomicBool>,
    words: Words,
    bucket: Bucket,
    rng: ChaCha8Rng,
}

impl<S, P> std::fmt::Debug for Notifier<S, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What a notifier works with, beside where alerts come from and what posts.
pub struct Around {
    /// Is told what happens.
    pub observer: Arc<dyn Fn(Event) + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether to end.
    pub stop: Arc<AtomicBool>,
    /// What an alert says.
    pub words: Words,
    /// Of how long is waited after failures.
    pub seed: Seed,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

impl<S: AlertSource, P: Post> Notifier<S, P> {
    /// Tells an endpoint by `poster`, which has its settings as they were seen, what comes from `source`.
    pub fn new(endpoint: impl Into<Seen>, (source, poster): (S, P), around: Around) -> Self {
        let seen = endpoint.into();
        let endpoint = seen.endpoint.clone();
        let bucket = Bucket::new(endpoint.rate_limit, around.clock.monotonic());
        Self {
            bucket,
            rng: around.seed.child(&endpoint.name).rng(),
            seen,
            endpoint,
            source,
            poster,
            observer: around.observer,
            clock: around.clock,
            stop: around.stop,
            words: around.words,
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Event) {
        (self.observer)(event);
    }

    /// Goes on until it is told to end, after the request in flight, or Kafka does not let it. What was gathered and not delivered comes again.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    pub fn run(&mut self) -> Result<(), KafkaFailure> {
        while !self.stopped() {
            self.take_change();
            let gathered = self.gather()?;
            let mut rest = &gathered[..];
            while !rest.is_empty() {
                let told: Vec<Option<&Alert>> = rest.iter().map(|taken| self.told(taken)).collect();
                let parts = parts(self.endpoint.kind, &told);
                let first = parts.first().map_or(rest.len(), |part| part.end);
                match self.deliver(&rest[..first])? {
                    Delivered::Done => rest = &rest[first..],
                    Delivered::Changed => {}
                    Delivered::Stopped => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Goes on by the endpoint's settings as they are now; answers whether they are others.
    fn take_change(&mut self) -> bool {
        if !self.seen.changed() {
            return false;
        }
        self.seen = self.seen.again();
        let endpoint = self.seen.endpoint.clone();
        let name = endpoint.name.clone();
        if let Err(problem) = self.poster.change(&endpoint) {
            tracing::error!(
                endpoint = name,
                problem,
                "its new settings cannot be used: it goes on by those before"
            );
            return false;
        }
        if endpoint.rate_limit != self.endpoint.rate_limit {
            self.bucket = Bucket::new(endpoint.rate_limit, self.clock.monotonic());
        }
        self.endpoint = endpoint;
        tracing::info!(endpoint = name, "told by its new settings from now on");
        true
    }

    /// The alert of a message, if this endpoint is told of it. An episode is as bad at its end as it was at its worst: whoever was told that it began is
    /// told that it ends.
    fn told<'a>(&self, taken: &'a Taken) -> Option<&'a Alert> {
        let wanted = |alert: &&Alert| {
            self.endpoint.severity_min <= alert.severity
                && (self.endpoint.send_resolved || !closes(alert))
        };
        alert(taken).filter(wanted)
    }

    /// What goes into the next messages: all that comes within the wait of the first of which somebody is told, and for as long as the rate allows no message.
    fn gather(&mut self) -> Result<Vec<Taken>, KafkaFailure> {
        let mut gathered: Vec<Taken> = Vec::new();
        let mut due: Option<Duration> = None;
        let mut any_told = false;
        while gathered.len() < GATHERED_MAX && !self.stopped() && !self.seen.changed() {
            let lag = self.source.lag();
            self.tell(Event::Goes(lag));
            let now = self.clock.monotonic();
            let mut wait = LOOK;
            if let Some(due) = due {
                let limited = if any_told {
                    self.bucket.wait(now)
                } else {
                    Duration::ZERO
                };
                let left = due.saturating_sub(now).max(limited);
                if left.is_zero() {
                    break;
                }
                wait = wait.min(left);
            }
            let Some(taken) = self.source.next(wait)? else {
                continue;
            };
            let now = self.clock.monotonic();
            if self.told(&taken).is_some() {
                if !any_told {
                    due = Some(now + self.endpoint.group_wait);
                }
                any_told = true;
            } else {
                self.passed_over(&taken);
                due.get_or_insert(now + QUIET_WAIT);
            }
            gathered.push(taken);
        }
        if self.stopped() {
            gathered.clear();
        }
        Ok(gathered)
    }

    fn passed_over(&self, taken: &Taken) {
        match &taken.alert {
            Ok(_) => self.tell(Event::PassedOver),
            Err(problem) => {
                let Taken { at, offset, .. } = taken;
                tracing::error!(%at, %offset, problem, "no alert: passed over");
                self.tell(Event::Unreadable);
            }
        }
    }

    /// Tells of one part of what was gathered, for however long that takes, and commits it.
    fn deliver(&mut self, part: &[Taken]) -> Result<Delivered, KafkaFailure> {
        let mut failures = 0;
        loop {
            if self.take_change() {
                return Ok(Delivered::Changed);
            }
            let held: Vec<&Taken> = part
                .iter()
                .filter(|taken| self.source.holds(taken))
                .collect();
            let alerts: Vec<&Alert> = held.iter().filter_map(|taken| self.told(taken)).collect();
            if alerts.is_empty() {
                self.commit(&held)?;
                return Ok(Delivered::Done);
            }
            let limited = self.bucket.wait(self.clock.monotonic());
            if !limited.is_zero() {
                if !self.pause(limited)? {
                    return Ok(Delivered::Stopped);
                }
                continue;
            }
            if self.stopped() {
                return Ok(Delivered::Stopped);
            }
            self.bucket.take();
            let Some(wait) = self.attempt(&alerts, failures) else {
                self.commit(&held)?;
                return Ok(Delivered::Done);
            };
            failures += 1;
            if !self.pause(wait)? {
                return Ok(Delivered::Stopped);
            }
        }
    }

    /// Posts once. `None` where that is done with, else how long to wait for the next attempt.
    fn attempt(&mut self, alerts: &[&Alert], failures: u32) -> Option<Duration> {
        let now = self.clock.now();
        let message = compose(&self.endpoint, alerts, now, self.words);
        let name = self.endpoint.name.clone();
        match self.poster.post(&message, now) {
            Answer::Delivered(code) => {
                self.tell(Event::Answered(Some(code)));
                self.tell(Event::Delivered(alerts.len()));
                self.tell(Event::Waits(None));
                tracing::info!(
                    endpoint = name,
                    alerts = alerts.len(),
                    id = message.id,
                    "told"
                );
                None
            }
            Answer::Refused { code, said } => {
                self.tell(Event::Answered(Some(code)));
                self.tell(Event::Refused(alerts.len()));
                self.tell(Event::Waits(None));
                let episodes: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
                tracing::error!(
                    endpoint = name,
                    code,
                    said,
                    ?episodes,
                    "the endpoint refuses: these alerts are passed over"
                );
                None
            }
            Answer::Later { code, why, after } => {
                self.tell(Event::Answered(code));
                let wait = after.unwrap_or_else(|| self.backoff(failures));
                tracing::warn!(endpoint = name, why, ?wait, "not told: trying again");
                self.tell(Event::Waits(Some(why)));
                Some(wait)
            }
        }
    }

    fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = BACKOFF.0.saturating_mul(2_u32.saturating_pow(failures));
        doubled.min(BACKOFF.1).mul_f64(self.rng.gen_range(0.5..1.0))
    }

    /// Waits, while it stays a member of its group and until its endpoint changes; false if the process is to end.
    fn pause(&mut self, length: Duration) -> Result<bool, KafkaFailure> {
        let until = self.clock.monotonic() + length;
        loop {
            let left = until.saturating_sub(self.clock.monotonic());
            if self.stopped() || self.seen.changed() || left.is_zero() {
                return Ok(!self.stopped());
            }
            let lag = self.source.lag();
            self.tell(Event::Goes(lag));
            self.source.idle(left.min(LOOK))?;
        }
    }

    fn commit(&mut self, done: &[&Taken]) -> Result<(), KafkaFailure> {
        let mut next = Positions::new();
        for taken in done {
            let behind = next.entry(taken.at.clone()).or_insert(taken.offset.next());
            *behind = (*behind).max(taken.offset.next());
        }
        self.source.commit(&next)
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
