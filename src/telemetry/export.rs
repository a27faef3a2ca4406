//! What is posted when: traces when there are many or the first has waited, metrics by the clock, and after a failure nothing for a while.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::otlp::{Metrics, Resource, Traces};
use super::trace::{BatchTrace, SPANS};
use super::{Counters, Settings};
use crate::https::{self, printable, retry_after};
use crate::time::{Clock, Timestamp};

/// Batches of one message.
const BATCHES_MAX: usize = 256;
/// How long the first batch of a message waits for others.
const WAIT: Duration = Duration::from_secs(5);
/// The first wait after a failure, and the longest; each is twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It was taken, but for so many spans or points.
    Taken(usize),
    /// It may be taken later, after this time if it said so.
    Later(String, Option<Duration>),
    /// It is not taken, however often it is sent.
    Refused(String),
}

/// Makes messages and posts them. It has no clock of its own: whoever has calls [`Exporter::step`].
pub(super) struct Exporter {
    settings: Settings,
    agent: ureq::Agent,
    resource: Resource,
    registry: Registry,
    counters: Counters,
    clock: Arc<dyn Clock>,
    rng: ChaCha8Rng,
    /// Since when the process counts, in nanoseconds since 1970.
    since: u64,
    pending: Vec<BatchTrace>,
    /// When the first of them has waited enough, on the monotonic clock.
    flush_at: Option<Duration>,
    /// When metrics are due; `None`: never.
    metrics_at: Option<Duration>,
    /// After a failure: until when nothing is posted.
    rests_until: Duration,
    failures: u32,
}

impl Exporter {
    /// Of a process called `instance`, whose metrics are in `registry`.
    ///
    /// # Errors
    /// What is wrong with the file of authorities, in words.
    pub(super) fn new(
        settings: &Settings,
        instance: &str,
        (registry, counters): (&Registry, &Counters),
        (clock, rng): (&Arc<dyn Clock>, ChaCha8Rng),
    ) -> Result<Self, String> {
        let wanted = !settings.metrics_interval.is_zero();
        Ok(Self {
            agent: https::agent(&settings.authorities, settings.timeout)?,
            resource: Resource::new(instance, &settings.resource),
            registry: registry.clone(),
            counters: counters.clone(),
            since: nanos(clock.now()),
            pending: Vec::new(),
            flush_at: None,
            metrics_at: wanted.then(|| clock.monotonic() + settings.metrics_interval),
            rests_until: Duration::ZERO,
            failures: 0,
            settings: settings.clone(),
            clock: Arc::clone(clock),
            rng,
        })
    }

    /// Takes a batch; drops it where too many wait already.
    pub(super) fn take(&mut self, batch: BatchTrace) {
        if self.pending.len() >= BATCHES_MAX {
            self.counters.dropped(SPANS);
            return;
        }
        self.pending.push(batch);
        let due = self.clock.monotonic() + WAIT;
        self.flush_at.get_or_insert(due);
    }

    /// How long there is nothing to do, if nothing comes.
    pub(super) fn idle(&self) -> Duration {
        let full = (self.pending.len() >= BATCHES_MAX).then_some(Duration::ZERO);
        let due = [full, self.flush_at, self.metrics_at];
        // Nothing is ever due without an interval and without batches: then any time will do.
        let due = due.into_iter().flatten().min();
        let due = due.unwrap_or(self.clock.monotonic() + BACKOFF.1);
        due.max(self.rests_until)
            .saturating_sub(self.clock.monotonic())
    }

    /// Posts what is due.
    pub(super) fn step(&mut self) {
        let is_due = |at: Option<Duration>, now| at.is_some_and(|at| at <= now);
        let now = self.clock.monotonic();
        if now < self.rests_until {
            return;
        }
        if self.pending.len() >= BATCHES_MAX || is_due(self.flush_at, now) {
            self.post_traces();
        }
        let now = self.clock.monotonic();
        if now >= self.rests_until && is_due(self.metrics_at, now) {
            self.metrics_at = Some(now + self.settings.metrics_interval);
            self.post_metrics();
        }
    }

    /// Posts what is left, once: the process ends. Each request takes at most `limit`.
    pub(super) fn finish(&mut self, limit: Duration) {
        let brief = limit.min(self.settings.timeout);
        // The file of authorities was read before; if it is gone, the requests only take as long as they may.
        if let Ok(agent) = https::agent(&self.settings.authorities, brief) {
            self.agent = agent;
        }
        if !self.pending.is_empty() {
            self.post_traces();
        }
        self.counters.dropped(SPANS * self.pending.len());
        self.pending.clear();
        if self.metrics_at.is_some() {
            self.post_metrics();
        }
    }

    fn post_traces(&mut self) {
        let message = Traces::new(&self.resource, &self.pending, &mut self.rng);
        let answer = self.post("traces", &message);
        let spans = SPANS * self.pending.len();
        let dropped = match &answer {
            Answer::Taken(but) => (*but).min(spans),
            Answer::Refused(_) => spans,
            // They are sent again.
            Answer::Later(..) => return self.note(&answer),
        };
        self.counters.dropped(dropped);
        let exported = self.counters.spans.with_label_values(&["exported"]);
        exported.inc_by((spans - dropped) as u64);
        self.pending.clear();
        self.flush_at = None;
        self.note(&answer);
    }

    /// What is not taken is not sent again: the next message has the same sums, and newer ones.
    fn post_metrics(&mut self) {
        let now = nanos(self.clock.now());
        let message = Metrics::new(&self.resource, &self.registry.gather(), (self.since, now));
        let answer = self.post("metrics", &message);
        self.note(&answer);
    }

    /// Says that it fails, once, and that it does no more; and rests.
    fn note(&mut self, answer: &Answer) {
        let why = match answer {
            Answer::Taken(0) => {
                if self.failures > 0 {
                    tracing::info!("telemetry is taken again");
                }
                self.failures = 0;
                return;
            }
            Answer::Taken(but) => format!("{but} of its parts are not taken"),
            Answer::Later(why, _) | Answer::Refused(why) => why.clone(),
        };
        if self.failures == 0 {
            tracing::warn!(why, "telemetry is not taken: anomalyd goes on without");
        }
        let doubled = BACKOFF
            .0
            .saturating_mul(2_u32.saturating_pow(self.failures));
        let rest = match answer {
            Answer::Later(_, Some(after)) => *after,
            _ => doubled.min(BACKOFF.1),
        };
        self.failures = self.failures.saturating_add(1);
        self.rests_until = self.clock.monotonic() + rest;
    }

    fn post(&self, signal: &str, message: &impl Serialize) -> Answer {
        let body = match serde_json::to_vec(message) {
            Ok(body) => body,
            Err(error) => return Answer::Refused(error.to_string()),
        };
        let mut request = self
            .agent
            .post(format!("{}/v1/{signal}", self.settings.endpoint))
            .header("Content-Type", "application/json");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let answered = request.send(&body[..]).map(|mut response| {
            let code = response.status().as_u16();
            let after = response.headers().get("retry-after");
            let after = after.and_then(|value| value.to_str().ok());
            let after = after.and_then(|text| retry_after(text, self.clock.now()));
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
            // That it has the message is known by now, whatever becomes of the rest.
            (code, after, body.read_to_vec().unwrap_or_default())
        });
        let code = match &answered {
            Ok((code, ..)) => code.to_string(),
            Err(_) => "none".to_owned(),
        };
        let counter = &self.counters.requests;
        counter.with_label_values(&[signal, &code]).inc();
        match answered {
            Ok((code, after, said)) => self.judge(code, after, &said),
            Err(error) => Answer::Later(self.settings.redacted(&error.to_string()), None),
        }
    }

    /// What an answer means (OTLP/HTTP, "Response"): only these four statuses ask for another try.
    fn judge(&self, code: u16, after: Option<Duration>, said: &[u8]) -> Answer {
        let why = || {
            let said = printable(&String::from_utf8_lossy(said));
            self.settings
                .redacted(&format!("it answers {code}: {said}"))
        };
        match code {
            200..300 => Answer::Taken(rejected(said)),
            429 | 502 | 503 | 504 => Answer::Later(why(), after),
            _ => Answer::Refused(why()),
        }
    }
}

/// How many spans or points an answer says were not taken. Its numbers may be text.
fn rejected(said: &[u8]) -> usize {
    let said: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
    let partial = &said["partialSuccess"];
    let number = |key: &str| {
        let value = &partial[key];
        let text = value.as_str().and_then(|text| text.parse().ok());
        value.as_u64().or(text).unwrap_or(0)
    };
    usize::try_from(number("rejectedSpans") + number("rejectedDataPoints")).unwrap_or(usize::MAX)
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
#[path = "export_tests.rs"]
pub(super) mod tests;
