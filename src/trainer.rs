//! The background thread around [`crate::train`]: when to train, from which records, and what becomes of the result.
//!
//! At most one trainer of a group is active: the process that holds the input's first partition. A stale one is fenced by the store. Training
//! never delays scoring: it has its own thread and its own reader of the log, and meets the workers only through the store.

mod link;
mod news;
mod rate;
mod turns;
mod unlearnt;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rand::Rng;

use crate::model::card::{Card, ModelVersion};
use crate::model::gate_report::{Change, GateReport};
use crate::model::trained::TrainedModel;
use crate::port::{History, ModelStore, Quarantine};
use crate::record::decode::Decoder;
use crate::record::schema::Schema;
use crate::record::{DecodedBatch, filled_with_last};
use crate::seed::Seed;
use crate::stream::Span;
use crate::time::{Clock, Timestamp};
use crate::train::sample::{self, Sample};
use crate::train::{self, Candidate, TrainData, TrainError, TrainJob, TrainSettings};
pub(crate) use link::Order;
pub use link::{Control, TrainerLink};
use news::News;
use rate::Rate;
pub use turns::Turns;

/// How often a trainer without a model looks whether the log has enough records by now.
const FIRST_TRY_EVERY: Duration = Duration::from_secs(2);

/// Drift starts no run sooner than this part of the interval after the last one: records must come that show what has changed.
const DRIFT_INTERVAL_PART: u32 = 4;

/// Where there were enough but too few of them could be used, each further look, which reads them all, comes after twice the time, up to this.
const FIRST_TRY_MAX: Duration = Duration::from_secs(120);

/// What to train, when, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How.
    pub settings: TrainSettings,
    /// Between two runs.
    pub interval: Duration,
    /// The share of the interval by which a run may come earlier or later, so that a fleet does not train in step.
    pub jitter: f64,
    /// Whether drift makes the next run come sooner.
    pub on_drift: bool,
    /// How far back training data goes, or farther where that would be too little.
    pub history: Duration,
}

/// What the trainer reports as it goes; the metrics implement it.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A run began for this version.
    fn started(&self, version: ModelVersion);
    /// The gate has spoken.
    fn judged(&self, _version: ModelVersion, _verdict: &GateReport) {}
    /// Why there is no model, or no new one, and what that waits for; `None`: there is one.
    fn waits(&self, _why: Option<(Waits, &str)>) {}
    /// A run ended after `took`: `outcome` is `promoted`, `rejected`, `cancelled`, `skipped` or `failed`; `verdict` says why.
    fn finished(&self, version: ModelVersion, outcome: &'static str, verdict: &str, took: Duration);
}

/// What training waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// More records in the log.
    Records,
    /// Longer runs of records of one key.
    Windows,
    /// The end of episodes, or feedback on them: most records are kept out.
    Episodes,
    /// Records that can be read: most cannot.
    Unreadable,
}

impl Waits {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Records,
        Self::Windows,
        Self::Episodes,
        Self::Unreadable,
    ];

    /// A short name: the label of the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Records => "too_few_records",
            Self::Windows => "too_few_windows",
            Self::Episodes => "kept_out",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The thread's own: everything that a run needs.
#[derive(Debug)]
pub struct Trainer<H, S> {
    history: H,
    store: S,
    schema: Arc<Schema>,
    plan: Plan,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    orders: Receiver<Order>,
    stop: Arc<AtomicBool>,
    /// The wait after the next first try that reads records and finds too few it can use.
    patience: Duration,
    /// The version that was trained last, or is being trained.
    running: ModelVersion,
    /// Why there is no model, or no new one, as it was last said.
    waits: Option<Waits>,
    /// Features that no record had, as it was last said.
    news: News,
    /// How fast records come for a first model.
    rate: Rate,
    /// The process's detectors train one after another.
    turns: Turns,
}

/// What the time of the next run follows from.
#[derive(Clone, Copy, Debug)]
enum DueBy {
    /// The interval, since the last run ended; `None`: since the newest model was made.
    Interval(Option<Duration>),
    /// Somebody asked, records drift, or there is no model yet.
    Sooner,
}

/// Where a trainer gets its data and leaves its models.
#[derive(Debug)]
pub struct Sources<H, S> {
    /// The log.
    pub history: H,
    /// The models.
    pub store: S,
    /// How records are read.
    pub schema: Arc<Schema>,
}

impl<H: History, S: ModelStore> Trainer<H, S> {
    /// A trainer and its control.
    pub fn new(
        sources: Sources<H, S>,
        plan: Plan,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> (Self, Control) {
        let (send, orders) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let control = Control {
            orders: send,
            stop: Arc::clone(&stop),
        };
        let Sources {
            history,
            store,
            schema,
        } = sources;
        (
            Self {
                history,
                store,
                schema,
                plan,
                clock,
                observer,
                orders,
                stop,
                patience: FIRST_TRY_EVERY,
                running: ModelVersion(0),
                waits: None,
                news: News::default(),
                rate: Rate::default(),
                turns: Turns::default(),
            },
            control,
        )
    }

    /// The same, which trains when it is its turn.
    #[must_use]
    pub fn in_turn(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }

    /// Runs until told to stop. Errors end a run, never the thread.
    pub fn run(mut self) {
        let mut leaders = BTreeSet::new();
        let mut due = self.clock.monotonic();
        let mut runs = 0;
        let mut last = None;
        let mut due_by = DueBy::Sooner;
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.monotonic();
            let leads = !leaders.is_empty();
            let wait = if leads {
                due.saturating_sub(now)
            } else {
                Duration::from_secs(3600)
            };
            match self.orders.recv_timeout(wait) {
                Ok(Order::Lead {
                    worker,
                    leads: true,
                }) => {
                    leaders.insert(worker);
                    if !leads {
                        (due, due_by) = (self.first_due(), DueBy::Interval(None));
                    }
                }
                Ok(Order::Lead { worker, .. }) => {
                    leaders.remove(&worker);
                }
                Ok(Order::Now) if leads => {
                    tracing::info!("training now, as asked");
                    (due, due_by) = (self.clock.monotonic(), DueBy::Sooner);
                }
                Ok(Order::Now) => {
                    tracing::info!("asked to train, but another process of the group does that");
                }
                Ok(Order::Drift) if leads && self.plan.on_drift => {
                    let soonest = self.plan.interval / DRIFT_INTERVAL_PART;
                    let now = self.clock.monotonic();
                    due = due.min(last.map_or(now, |last| last + soonest).max(now));
                    due_by = DueBy::Sooner;
                    let seconds = due.saturating_sub(now).as_secs_f64();
                    tracing::info!(seconds, "records drift: training again as soon as may be");
                }
                Err(RecvTimeoutError::Timeout) if leads => {
                    last = Some(self.clock.monotonic());
                    let again = self.attempt();
                    runs += 1;
                    let now = self.clock.monotonic();
                    due_by = again.map_or(DueBy::Interval(Some(now)), |_| DueBy::Sooner);
                    due = now + again.unwrap_or_else(|| self.jittered(runs));
                }
                Ok(Order::Plan(plan)) => {
                    self.plan = *plan;
                    due = match due_by {
                        DueBy::Interval(Some(ended)) => ended + self.jittered(runs),
                        DueBy::Interval(None) if leads => self.first_due(),
                        _ => due,
                    };
                }
                Ok(Order::Drift | Order::Stop) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A new leader trains at once where there is no model yet; else when the champion is an interval old.
    fn first_due(&mut self) -> Duration {
        let now = self.clock.monotonic();
        let age = match self.store.list() {
            Ok(cards) => cards
                .last()
                .map(|card| self.clock.now().since(card.created)),
            Err(error) => {
                tracing::warn!(%error, "the models cannot be listed; training as if there were none");
                None
            }
        };
        now + age.map_or(Duration::ZERO, |age| self.plan.interval.saturating_sub(age))
    }

    /// The interval, moved by at most `jitter` of it.
    fn jittered(&self, run: u64) -> Duration {
        let settings = &self.plan.settings;
        let jitter = settings.seed.child("jitter").child(&settings.detector);
        let mut random = jitter.nth(run).rng();
        let by = self.plan.jitter * random.gen_range(-1.0..=1.0);
        self.plan.interval.mul_f64((1.0 + by).max(0.0))
    }

    /// One run, reported. Answers when to try again if that is sooner than the interval.
    fn attempt(&mut self) -> Option<Duration> {
        let turns = self.turns.clone();
        let waits =
            || tracing::info!("training waits until other detectors of the process have trained");
        // Told to stop: the loop ends.
        let _turn = turns.wait(&self.stop, waits)?;
        let began = self.clock.monotonic();
        // A panic in a fit is a failed training, not the end of training: the next run has another seed and other records.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.train())).unwrap_or_else(|panic| {
            Err(Failure::Failed {
                version: self.running,
                reason: format!("training panicked: {}", said(&*panic)),
            })
        });
        let took = self.clock.monotonic().saturating_sub(began);
        match outcome {
            Ok((version, promoted, verdict)) => {
                self.waits = None;
                self.observer.waits(None);
                let outcome = if promoted { "promoted" } else { "rejected" };
                tracing::info!(%version, outcome, verdict, seconds = took.as_secs_f64(), "trained a model");
                self.observer.finished(version, outcome, &verdict, took);
                None
            }
            Err(Failure::NotYet {
                version,
                reason,
                waits,
                first,
                read,
            }) => {
                let news = self.waits.replace(waits) != Some(waits);
                if news {
                    let goes_on = if first {
                        "the cold start"
                    } else {
                        "the model in use"
                    };
                    tracing::info!(%version, reason, "no new model yet: {goes_on} goes on judging");
                }
                self.observer.waits(Some((waits, &reason)));
                // Looks at offsets alone are many, and all alike.
                if news || read || !first {
                    self.observer.finished(version, "skipped", &reason, took);
                }
                first.then(|| self.next_try(read))
            }
            Err(Failure::Cancelled(version)) => {
                self.observer
                    .finished(version, "cancelled", "the process is stopping", took);
                None
            }
            Err(Failure::Failed { version, reason }) => {
                tracing::warn!(%version, reason, "training failed; scoring goes on with the model in use");
                self.observer.finished(version, "failed", &reason, took);
                Some(self.plan.interval.min(Duration::from_secs(60)))
            }
        }
    }

    /// When to look again for a first model's records, which cost a look at offsets only, or were `read`.
    fn next_try(&mut self, read: bool) -> Duration {
        if !read {
            return FIRST_TRY_EVERY;
        }
        let wait = self.patience;
        self.patience = (wait * 2).min(FIRST_TRY_MAX);
        wait
    }

    fn train(&mut self) -> Result<(ModelVersion, bool, String), Failure> {
        let cards = self
            .store
            .list()
            .map_err(|error| failed(ModelVersion(0), &error))?;
        let version = ModelVersion(cards.last().map_or(0, |card| card.version.0) + 1);
        self.running = version;
        let failed = |error: &dyn std::error::Error| failed(version, error);
        let champion = match self.store.champion().map_err(|error| failed(&error))? {
            Some(champion) => self.store.load(champion).map_err(|error| failed(&error))?,
            None => None,
        };
        let first = champion.is_none();
        let now = self.clock.now();
        let seed = self.plan.settings.seed_of(version);
        let available = self.available(now).map_err(|error| failed(&error))?;
        let held: u64 = available.iter().map(Span::len).sum();
        let needed = self.plan.settings.params.rows_min as u64;
        if held < needed {
            let left = self.rate.left(self.clock.monotonic(), held, needed);
            let reason = format!(
                "{held} records lie before the group's place in the log, but training needs {needed}: it waits for more{}",
                left.map_or_else(String::new, |left| format!(", at this pace for {left}"))
            );
            return Err(Failure::NotYet {
                version,
                reason,
                waits: Waits::Records,
                first,
                read: false,
            });
        }
        // Whoever writes under this identity from here on, a successor or a person who rolls back, makes the store refuse this run's model.
        self.store.claim().map_err(|error| failed(&error))?;
        let quarantine = self.history.quarantine().map_err(|error| failed(&error))?;
        self.observer.started(version);
        let (sample, tried) = self
            .sample(&available, seed)
            .map_err(|error| failed(&error))?;
        let change = change(&cards, champion.as_deref());
        let job = TrainJob {
            change,
            ..self.job(version, sample, (quarantine, champion))
        };
        let stop = Arc::clone(&self.stop);
        let Candidate { model, verdict } =
            match train::run(&job, &move || stop.load(Ordering::Relaxed)) {
                Ok(candidate) => candidate,
                Err(error) if error.is_cancelled() => return Err(Failure::Cancelled(version)),
                Err(error @ TrainError::TooFewRows { .. }) => {
                    let (waits, reason) = waiting(&error, &tried);
                    return Err(Failure::NotYet {
                        version,
                        reason,
                        waits,
                        first,
                        read: true,
                    });
                }
                Err(error) => return Err(failed(&error)),
            };
        self.observer.judged(version, &verdict);
        self.news.tell(&model.card);
        let promoted = verdict.is_promoted();
        self.store
            .save(&model, promoted)
            .map_err(|error| failed(&error))?;
        unlearnt::say(&model.card);
        Ok((version, promoted, verdict.to_string()))
    }

    fn job(
        &self,
        version: ModelVersion,
        sample: Sample,
        (quarantine, champion): (Quarantine, Option<Arc<TrainedModel>>),
    ) -> TrainJob {
        let settings = &self.plan.settings;
        let data = TrainData {
            columns: self.schema.columns().to_vec(),
            fill_last: filled_with_last(self.schema.missing()),
            rows: sample.rows,
            level_rows: sample.level_rows,
            spans: sample.stretches,
            source: None,
        };
        TrainJob {
            exclusions: quarantine.exclusions,
            feedback: quarantine.feedback,
            maintenance: [&*settings.maintenance, &quarantine.maintenance].concat(),
            champion,
            ..TrainJob::new(settings, (version, self.clock.now()), data)
        }
    }

    /// What may be read: `history`, or as much more as it takes to hold enough records.
    fn available(&mut self, now: Timestamp) -> Result<Vec<Span>, H::Error> {
        let needed = self.plan.settings.params.rows_min as u64;
        let held = |spans: &[Span]| spans.iter().map(Span::len).sum::<u64>();
        let mut back = self.plan.history;
        let stated = self.history.available(now.minus(back))?;
        if needed <= held(&stated) {
            return Ok(stated);
        }
        let all = self.history.available(Timestamp(0))?;
        if held(&all) < needed {
            return Ok(all);
        }
        loop {
            back = back.saturating_mul(2);
            let since = now.minus(back);
            if since <= Timestamp(0) {
                return Ok(all);
            }
            let more = self.history.available(since)?;
            if needed <= held(&more) {
                return Ok(more);
            }
        }
    }

    /// Reads and decodes a sample of the records; what cannot be read is left out, as scoring left it out.
    fn sample(&mut self, available: &[Span], seed: Seed) -> Result<(Sample, Tried), H::Error> {
        let mut tried = Tried::default();
        let wanted = self.plan.settings.wanted(self.schema.columns().len());
        let mut decoder = Decoder::new(Arc::clone(&self.schema));
        let history = &mut self.history;
        let sample = sample::draw(available, wanted, seed, &mut |span, visit| {
            let batch = history.read(span)?;
            let decoded = decoder.decode(&batch);
            tried.count(&decoded);
            sample::visit(&batch, &decoded, visit);
            Ok(())
        })?;
        Ok((sample, tried))
    }
}

/// Why a run brought no model.
enum Failure {
    NotYet {
        version: ModelVersion,
        reason: String,
        waits: Waits,
        first: bool,
        /// Records were read to find that out.
        read: bool,
    },
    Cancelled(ModelVersion),
    Failed {
        version: ModelVersion,
        reason: String,
    },
}

/// What the newest model was rejected for, if it was made after the one in use.
fn change(cards: &[Card], champion: Option<&TrainedModel>) -> Option<Change> {
    let last = cards.last()?;
    last.gate
        .may_have_changed()
        .filter(|_| last.version > champion.map_or(ModelVersion(0), |c| c.card.version))
}

fn failed(version: ModelVersion, error: &dyn std::error::Error) -> Failure {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    Failure::Failed { version, reason }
}

/// How many records were looked at, and how many of them could not be understood.
#[derive(Debug, Default)]
struct Tried {
    records: usize,
    unreadable: usize,
    /// Why the last of them could not be.
    why: Option<String>,
}

impl Tried {
    fn count(&mut self, decoded: &DecodedBatch) {
        let errors = || {
            decoded
                .outcomes
                .iter()
                .filter_map(|found| found.as_ref().err())
        };
        self.records += decoded.outcomes.len();
        self.unreadable += errors().count();
        self.why = errors()
            .next_back()
            .map(ToString::to_string)
            .or(self.why.take());
    }

    /// In words; `None`: all could be understood.
    fn said(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(format!(
            "{} of {} records cannot be read, the last because {why} (`anomalyd dead-letters list`)",
            self.unreadable, self.records
        ))
    }
}

/// What would help against too few windows, and what is said of it.
fn waiting(error: &TrainError, tried: &Tried) -> (Waits, String) {
    let unreadable = tried.said();
    let (waits, what) = match error {
        _ if tried.records < 2 * tried.unreadable => {
            (Waits::Unreadable, "records that can be read")
        }
        TrainError::TooFewRows { rows, excluded, .. } if 2 * excluded > *rows => (
            Waits::Episodes,
            "episodes to end, or to be dismissed (`anomalyd episodes`)",
        ),
        _ => (
            Waits::Windows,
            "more records of each key: a window takes `model.window` of them in a row",
        ),
    };
    let unreadable = unreadable.map_or_else(String::new, |said| format!("; {said}"));
    (waits, format!("{error}{unreadable}: it waits for {what}"))
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("nothing")
}

#[cfg(test)]
mod on_request;
#[cfg(test)]
mod tests;
