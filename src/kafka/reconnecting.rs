//! A [`Session`] that outlasts its Kafka: when the session under it cannot go on for a reason that may pass, it is thrown away, the worker is
//! told that its partitions are gone, and the group is joined again, for as long as that takes.
//!
//! That is a restart of the worker without one of the process: windows and episodes come back from the state topic as of the committed offset,
//! whatever became of the transaction that was under way. So nothing is lost or repeated, and nobody has to know what the brokers did.

use std::sync::Arc;
use std::time::Duration;

use super::KafkaFailure;
use super::session::{KafkaSession, SessionSettings};
use super::watchdog::Watchdog;
use crate::pipeline::Outbox;
use crate::port::{Input, Published, Session};
use crate::record::RecordBatch;
use crate::stream::{Positions, TopicPartition};
use crate::time::{Clock, Timestamp};

/// The shortest and the longest wait before something that failed is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Aborts in a row after which the session begins anew: it looks at its topics again, and a client that has gone bad is replaced.
const ABORTS_MAX: u32 = 5;

/// For so long after partitions were last assigned credentials that are refused are tried again: a broker that restarts may not know them yet.
const REFUSED_MAX: Duration = Duration::from_secs(600);

/// One member of the consumer group, again and again.
#[derive(Debug)]
pub struct ReconnectingSession {
    settings: SessionSettings,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
    session: Option<KafkaSession>,
    /// What the worker holds no more and has not been told of.
    gone: Vec<TopicPartition>,
    /// When joining is tried again.
    join_at: Duration,
    joins: Backoff,
    aborts: Backoff,
    /// When Kafka last had something for us: then it knew who we are.
    known_at: Option<Duration>,
}

/// Waits that grow.
#[derive(Clone, Copy, Debug, Default)]
struct Backoff(u32);

impl Backoff {
    /// The next wait: none the first time, then from [`WAIT`]'s first to its second, doubling.
    fn next(&mut self) -> Duration {
        let (shortest, longest) = WAIT;
        let wait = match self.0 {
            0 => Duration::ZERO,
            n => longest.min(shortest * 2_u32.saturating_pow(n.min(16) - 1)),
        };
        self.0 = self.0.saturating_add(1);
        wait
    }
}

impl ReconnectingSession {
    /// Joins when it is first asked for input.
    pub fn new(settings: SessionSettings, clock: Arc<dyn Clock>, watchdog: Watchdog) -> Self {
        Self {
            settings,
            join_at: clock.monotonic(),
            clock,
            watchdog,
            session: None,
            gone: Vec::new(),
            joins: Backoff::default(),
            aborts: Backoff::default(),
            known_at: None,
        }
    }

    /// Gives the session up if `failure` may pass.
    fn lose(&mut self, failure: KafkaFailure) -> Result<(), KafkaFailure> {
        let known = failure.is_authentication() && self.was_known();
        if !failure.passes() && !known {
            return Err(failure);
        }
        if self.watchdog.stopped() {
            return Err(KafkaFailure::Stopped);
        }
        let why = if let KafkaFailure::Undecided { .. } = failure {
            "Kafka holds something back"
        } else {
            "Kafka is away"
        };
        tracing::warn!(error = %failure, worker = self.settings.worker, "{why}: the group is joined again as soon as that is possible");
        self.watchdog.waits(Some(failure.to_string()));
        self.drop_session();
        Ok(())
    }

    /// Whether our credentials were good not long ago.
    fn was_known(&self) -> bool {
        let now = self.clock.monotonic();
        self.known_at
            .is_some_and(|at| now.saturating_sub(at) < REFUSED_MAX)
    }

    fn drop_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.gone.extend(session.handed_over());
        }
        self.join_at = self.clock.monotonic() + self.joins.next();
    }

    /// Joins if it is time to; waits a moment if not.
    fn join(&mut self, until: Timestamp) -> Result<(), KafkaFailure> {
        let wait = self.join_at.saturating_sub(self.clock.monotonic());
        if !wait.is_zero() {
            return self.watchdog.pause(wait.min(until.since(self.clock.now())));
        }
        let joined = KafkaSession::join(
            self.settings.clone(),
            Arc::clone(&self.clock),
            self.watchdog.clone(),
        );
        match joined {
            Ok(session) => {
                self.session = Some(session);
                self.watchdog.waits(None);
                Ok(())
            }
            Err(failure) => self.lose(failure),
        }
    }

    /// After an abort: at once the first time, later more slowly, and at last with everything new.
    fn aborted(&mut self) -> Result<Published, KafkaFailure> {
        if ABORTS_MAX <= self.aborts.0 {
            tracing::warn!(
                aborts = self.aborts.0,
                worker = self.settings.worker,
                "every transaction is aborted: the group is joined again"
            );
            self.aborts = Backoff::default();
            self.joins = Backoff(ABORTS_MAX);
            self.drop_session();
            return Ok(Published::Lost);
        }
        let wait = self.aborts.next();
        self.watchdog.pause(wait)?;
        Ok(Published::Aborted)
    }
}

impl Session for ReconnectingSession {
    type Fatal = KafkaFailure;

    fn next(&mut self, until: Timestamp) -> Result<Input, KafkaFailure> {
        if !self.gone.is_empty() {
            return Ok(Input::Revoked(std::mem::take(&mut self.gone)));
        }
        let Some(session) = &mut self.session else {
            self.join(until)?;
            return Ok(Input::Idle);
        };
        match session.next(until) {
            Ok(input) => {
                if !matches!(input, Input::Idle) {
                    self.known_at = Some(self.clock.monotonic());
                }
                if let Input::Assigned(_) = input {
                    self.joins = Backoff::default();
                    self.watchdog.waits(None);
                }
                Ok(input)
            }
            Err(failure) => {
                self.lose(failure)?;
                Ok(Input::Idle)
            }
        }
    }

    fn publish(&mut self, outbox: &Outbox) -> Result<Published, KafkaFailure> {
        let Some(session) = &mut self.session else {
            return Ok(Published::Lost);
        };
        match session.publish(outbox) {
            Ok(Published::Committed) => {
                self.aborts = Backoff::default();
                Ok(Published::Committed)
            }
            Ok(Published::Aborted) => self.aborted(),
            Ok(Published::Lost) => Ok(Published::Lost),
            Err(failure) => {
                self.lose(failure)?;
                Ok(Published::Lost)
            }
        }
    }

    fn rewind(&mut self, to: &Positions) -> Result<(), KafkaFailure> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.rewind(to).or_else(|failure| self.lose(failure))
    }

    fn recycle(&mut self, batch: RecordBatch) {
        if let Some(session) = &mut self.session {
            session.recycle(batch);
        }
    }

    fn lag(&mut self) -> std::collections::BTreeMap<TopicPartition, u64> {
        self.session
            .as_mut()
            .map(KafkaSession::lag)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_were_good_are_tried_again_for_a_while() {
        use crate::time::ManualClock;
        use rdkafka::error::{KafkaError, RDKafkaErrorCode};

        let manual = Arc::new(ManualClock::at(Timestamp(0)));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let watchdog = Watchdog::start(Arc::clone(&clock), |_| {});
        let mut session = ReconnectingSession::new(settings(), clock, watchdog);
        let refused = |code| KafkaFailure::call("a call")(KafkaError::MessageConsumption(code));
        let bad = RDKafkaErrorCode::SaslAuthenticationFailed;
        let lost = session.lose(refused(bad)).unwrap_err();
        assert!(lost.is_configuration(), "they never were good: {lost}");
        session.known_at = Some(session.clock.monotonic());
        manual.advance(Duration::from_secs(500));
        session.lose(refused(bad)).unwrap();
        let right = RDKafkaErrorCode::GroupAuthorizationFailed;
        session.lose(refused(right)).unwrap_err();
        manual.advance(Duration::from_secs(200));
        session.lose(refused(bad)).unwrap_err();
    }

    fn settings() -> SessionSettings {
        use super::super::publish::Delivery;
        use super::super::session::BatchLimits;
        use super::super::settings::Connection;
        use super::super::start_offset::Start;
        use super::super::topics::OutputTopics;

        let name = |name: &str| name.to_owned();
        SessionSettings {
            detector: name("d"),
            connection: Connection {
                brokers: name("localhost:1"),
                group: name("g"),
                properties: std::collections::BTreeMap::new(),
                tokens: None,
                schemas: None,
            },
            inputs: vec![name("in")],
            topics: OutputTopics {
                alerts: name("a"),
                scores: None,
                dead_letters: name("d"),
                late: None,
                drift: None,
                state: name("s"),
                forms: super::super::forms::Forms::default(),
            },
            start: Start::Latest,
            delivery: Delivery::ExactlyOnce,
            batch: BatchLimits {
                records_max: 1,
                bytes_max: 1,
                wait: Duration::ZERO,
            },
            instance: name("i"),
            worker: 0,
        }
    }

    #[test]
    fn waits_grow_from_nothing_to_five_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
