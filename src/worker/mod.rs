//! The loop of one worker: one member of the consumer group, one thread, one transactional producer.
//!
//! It runs at its own pace: it asks for input, does one thing with it, and asks again. No transaction is open while it asks, so a rebalance or
//! a stop finds nothing half-done. It knows no Kafka: the outside is a [`Session`], a function that finds models, a channel of
//! promotions, a link to the trainer, and an [`Observer`] that is told what happened and has no say.
//!
//! Invariants: nothing becomes state before it is committed; after an abort the session reads on from where the state stands; what is
//! counted was committed.

mod observe;
mod partition;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::detect::AlertParams;
use crate::model::card::{ModelVersion, Said};
use crate::model::trained::TrainedModel;
use crate::pipeline::{
    Discarded, Outbox, PartitionAssignment, Pipeline, RestoreError, Staged, model_version, names,
    replayed_by,
};
use crate::port::{Input, Published, Session};
use crate::record::limit::{DeadLetterLimit, TooManyDeadLetters, WINDOW_RECORDS};
use crate::record::{DecodedBatch, RecordBatch};
use crate::stream::{Positions, TopicPartition};
use crate::time::Clock;
use crate::trainer::TrainerLink;
pub use observe::{Attempt, Committed, Gauges, Observer, Outcome, Steps, Unobserved};
use partition::HeldPartitions;

/// Any error of a model store.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Finds a stored model by its version; `None` if there is none.
pub type LoadModel =
    Box<dyn FnMut(ModelVersion) -> Result<Option<Arc<TrainedModel>>, BoxError> + Send>;
/// Brings [`Ports::said`] up to date: what anyone has heard of by now lies there when it returns.
pub type Listen = Box<dyn FnMut() -> Result<(), BoxError> + Send>;
/// Reads a batch into rows, in place: [`crate::record::decode`]'s, with its templates.
pub type Decode = Box<dyn FnMut(&RecordBatch, &mut DecodedBatch) + Send>;

/// Aborts in a row after which the worker gives up: something is wrong that trying again does not mend.
const ABORTS_MAX: u32 = 1000;
/// Between two looks at numbers that cost a walk over all keys, and at partitions that nothing comes from.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Open episodes that people are shown at most.
const OPEN_MAX: usize = 200;
/// Wrong clocks that people are shown at most.
const CLOCKS_MAX: usize = 20;

/// What a worker may be set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest wait for input.
    pub poll_max: Duration,
    /// Dead letters among 10,000 records above which the worker stops rather than drain the topic; `None`: never.
    pub dead_letters_max: Option<u64>,
    /// The partition whose holder leads: it trains for the group.
    pub first: TopicPartition,
    /// A partition that nothing came from for this long is saved: [`crate::detect::Params::snapshot_interval`].
    pub quiet_after: Duration,
}

/// What a worker is given beside its session.
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct Ports<O> {
    /// Reads records.
    pub decode: Decode,
    /// Finds models.
    pub load: LoadModel,
    /// New champions, from whoever follows the store. The first may lie there before the worker runs.
    pub promotions: Receiver<Arc<TrainedModel>>,
    /// What alerts are due by, when that changes.
    pub alerts: Receiver<AlertParams>,
    /// Asks what people said, before a partition is taken over: its holder before may have heard what has not come yet.
    pub listen: Listen,
    /// What people said of episodes, all of it, each time that anything else is said.
    pub said: Receiver<Arc<Said>>,
    /// Hears whether this worker leads, and that keys drift.
    pub trainer: TrainerLink,
    /// Is told what happened, and changes nothing.
    pub observer: O,
    /// Polling, latencies, and the upper bound of message timestamps.
    pub clock: Arc<dyn Clock>,
    /// Set to end the loop before its next wait.
    pub stop: Arc<AtomicBool>,
}

/// Why a worker stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError<F: std::error::Error> {
    /// The session cannot go on.
    #[error(transparent)]
    Session(F),
    /// The state topic cannot be used.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The model store failed.
    #[error("model {version} cannot be loaded: {error}")]
    Load {
        /// Which model.
        version: ModelVersion,
        /// Why.
        error: BoxError,
    },
    /// What people said of episodes cannot be read.
    #[error("what was said of episodes cannot be read: {0}")]
    Feedback(BoxError),
    /// The limit on dead letters.
    #[error(transparent)]
    DeadLetters(#[from] TooManyDeadLetters),
    /// Transactions keep aborting, in a session that does not mend that by itself.
    #[error("{0} transactions in a row were aborted")]
    Aborts(u32),
}

/// One member of the group.
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct Worker<S, O> {
    session: S,
    pipeline: Pipeline,
    ports: Ports<O>,
    settings: Settings,
    /// Reused from batch to batch.
    decoded: DecodedBatch,
    held: HeldPartitions,
    aborts: u32,
    limit: DeadLetterLimit,
    /// When input was last asked for, on the monotonic clock.
    asked: Duration,
    /// When numbers were last looked at, on the monotonic clock; `None`: they are due ...
    looked: Option<Duration>,
    /// ... and when it was last looked at which partitions records come from.
    rested: Duration,
}

impl<S: Session, O: Observer> Worker<S, O> {
    /// A worker that holds nothing yet.
    pub fn new(session: S, pipeline: Pipeline, ports: Ports<O>, settings: Settings) -> Self {
        let limit = DeadLetterLimit::new(settings.dead_letters_max.unwrap_or(WINDOW_RECORDS));
        Self {
            session,
            pipeline,
            ports,
            settings,
            decoded: DecodedBatch::default(),
            held: HeldPartitions::default(),
            aborts: 0,
            limit,
            asked: Duration::ZERO,
            looked: None,
            rested: Duration::ZERO,
        }
    }

    /// Works until it is told to stop, or cannot go on.
    pub fn run(&mut self) -> Result<(), WorkerError<S::Fatal>> {
        while !self.ports.stop.load(Ordering::Relaxed) {
            let input = self.poll()?;
            self.handle(input)?;
        }
        Ok(())
    }

    /// What the loop waits for: the first half of a step.
    pub fn poll(&mut self) -> Result<Input, WorkerError<S::Fatal>> {
        self.take_promotions();
        self.take_alerts();
        self.hear();
        self.commit_fresh()?;
        let now = self.ports.clock.now();
        self.ports.observer.stepped(now);
        self.look()?;
        let until = now.plus(self.settings.poll_max);
        self.asked = self.ports.clock.monotonic();
        self.session.next(until).map_err(WorkerError::Session)
    }

    /// What the loop does with it: the second half of a step.
    pub fn handle(&mut self, input: Input) -> Result<(), WorkerError<S::Fatal>> {
        match input {
            Input::Batch(batch) => {
                let done = self.process(&batch);
                self.session.recycle(batch);
                done
            }
            Input::Assigned(assignments) => self.on_assigned(&assignments),
            Input::Revoked(partitions) => {
                self.on_revoked(&partitions);
                Ok(())
            }
            Input::OffsetOutOfRange(to) => self.skip(&to),
            Input::Idle => Ok(()),
        }
    }

    /// The worker's session: to end it.
    pub fn session(&mut self) -> &mut S {
        &mut self.session
    }

    /// The state.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    fn process(&mut self, batch: &RecordBatch) -> Result<(), WorkerError<S::Fatal>> {
        // What came while the batch was waited for, too.
        self.hear();
        let clock = &self.ports.clock;
        let fetched = clock.monotonic();
        (self.ports.decode)(batch, &mut self.decoded);
        let mut steps = Steps {
            asked: self.asked,
            fetched,
            ..Steps::from(clock.monotonic())
        };
        let mut bytes = batch.bytes_len() as u64;
        // A batch that changes more keys than one transaction should carry is several.
        while let ControlFlow::Continue(whole) = self.process_some(batch, (steps, bytes))? {
            if whole {
                break;
            }
            (steps, bytes) = (Steps::from(self.ports.clock.monotonic()), 0);
        }
        Ok(())
    }

    /// Works in as much of a batch as one transaction should carry, which took `steps` so far and has `bytes`. Answers whether that was all;
    /// `Break`: it was not published, and the session reads it again.
    fn process_some(
        &mut self,
        batch: &RecordBatch,
        (mut steps, bytes): (Steps, u64),
    ) -> Result<ControlFlow<(), bool>, WorkerError<S::Fatal>> {
        let staged = self.pipeline.stage(batch, &self.decoded);
        steps.staged = self.ports.clock.monotonic();
        steps.published = steps.staged;
        let whole = staged.whole;
        if staged.outbox.is_empty() {
            self.attempted(steps, Outcome::Replayed, &staged);
            self.ports.observer.replayed(staged.tally.replayed);
            self.pipeline.apply(staged);
            return Ok(ControlFlow::Continue(whole));
        }
        let outcome = self.publish(&staged.outbox)?;
        steps.published = self.ports.clock.monotonic();
        self.attempted(steps, outcome, &staged);
        if outcome != Outcome::Committed {
            return Ok(ControlFlow::Break(()));
        }
        let consumed = self.held.consume(batch, &staged.outbox.positions);
        let now = self.ports.clock.now();
        let latencies: Vec<Duration> = staged.alerted.iter().map(|at| now.since(*at)).collect();
        self.ports.observer.committed(&Committed {
            tally: &staged.tally,
            consumed,
            outbox: &staged.outbox,
            bytes,
            decode: steps.decoded.saturating_sub(steps.fetched),
            stage: steps.staged.saturating_sub(steps.decoded),
            publish: steps.published.saturating_sub(steps.staged),
            alert_latencies: &latencies,
            watched: &staged.watched,
            wrong_clocks: &staged.wrong_clocks,
        });
        if staged.tally.drift_began > 0 {
            self.ports.trainer.drift();
        }
        let dead: u64 = staged.tally.dead_lettered.values().sum();
        self.pipeline.apply(staged);
        self.limit.count(consumed, dead)?;
        Ok(ControlFlow::Continue(whole))
    }

    /// Tells what became of a batch, or of the part of it that was one transaction.
    fn attempted(&mut self, steps: Steps, outcome: Outcome, staged: &Staged) {
        let tally = &staged.tally;
        self.ports.observer.attempted(&Attempt {
            steps,
            outcome,
            records: tally.consumed + tally.replayed,
            alerts: staged.outbox.alerts.len(),
        });
    }

    /// Publishes. Where that was aborted, the session reads on from where the state stands.
    fn publish(&mut self, outbox: &Outbox) -> Result<Outcome, WorkerError<S::Fatal>> {
        let begun = self.ports.clock.monotonic();
        match self.session.publish(outbox).map_err(WorkerError::Session)? {
            Published::Committed => {
                self.aborts = 0;
                Ok(Outcome::Committed)
            }
            Published::Aborted => {
                let took = self.ports.clock.monotonic().saturating_sub(begun);
                self.ports.observer.aborted(took);
                self.aborts += 1;
                if self.aborts >= ABORTS_MAX {
                    return Err(WorkerError::Aborts(self.aborts));
                }
                self.session
                    .rewind(&self.pipeline.positions())
                    .map_err(WorkerError::Session)?;
                Ok(Outcome::Aborted)
            }
            // Whatever became of it: the state is taken back with the partitions, and comes back with them as it was committed.
            Published::Lost => {
                self.aborts = 0;
                Ok(Outcome::Lost)
            }
        }
    }

    fn on_assigned(
        &mut self,
        assignments: &[PartitionAssignment],
    ) -> Result<(), WorkerError<S::Fatal>> {
        (self.ports.listen)().map_err(WorkerError::Feedback)?;
        self.hear();
        let mut positions = Positions::new();
        for assignment in assignments {
            let judging = self.judging(assignment)?;
            let assigned = self.pipeline.assign(assignment, judging)?;
            positions.insert(assignment.at.clone(), assigned.read_from);
            self.held.assign(assignment);
            self.ports.observer.assigned(&assignment.at, &assigned);
        }
        self.session
            .rewind(&positions)
            .map_err(WorkerError::Session)?;
        self.report_holding();
        Ok(())
    }

    /// The model that must judge a partition's replay. `None` where there is none, or where it is gone: then the replay is impossible, the
    /// pipeline discards the state, and the partition begins anew rather than never.
    fn judging(
        &mut self,
        assignment: &PartitionAssignment,
    ) -> Result<Option<Arc<TrainedModel>>, WorkerError<S::Fatal>> {
        let current = self.pipeline.current();
        let named = match replayed_by(assignment)? {
            // Without a champion the model that judged before is better than none.
            None if current.is_none() => model_version(&assignment.state)?,
            named => named,
        };
        let Some(version) = named.filter(|version| *version != ModelVersion(0)) else {
            return Ok(None);
        };
        if let Some(current) = current
            && self.pipeline.is_named(&assignment.state)?
        {
            return Ok(Some(current.clone()));
        }
        let found =
            (self.ports.load)(version).map_err(|error| WorkerError::Load { version, error })?;
        // Another model that was given the same number, in a store made anew, is not the one that judged.
        match found {
            Some(model) if names(&assignment.state, &model)? => Ok(Some(model)),
            _ => Ok(None),
        }
    }

    /// Goes on behind what retention deleted before it was read.
    fn skip(&mut self, to: &Positions) -> Result<(), WorkerError<S::Fatal>> {
        for at in self.pipeline.skip(to) {
            let why = Discarded::RecordsDeleted;
            self.ports.observer.discarded(&at, why);
        }
        self.session
            .rewind(&self.pipeline.positions())
            .map_err(WorkerError::Session)
    }

    /// Saves what no record would bring to the state topic: see [`Pipeline::flush_idle_snapshots`].
    fn flush_idle_snapshots(&mut self, now: Duration) -> Result<(), WorkerError<S::Fatal>> {
        let mut quiet = Positions::new();
        if now.saturating_sub(self.rested) >= self.settings.quiet_after {
            self.rested = now;
            quiet = self.held.stood(&self.pipeline.positions());
        }
        while let Some(staged) = self.pipeline.flush_idle_snapshots(&quiet) {
            if self.publish(&staged.outbox)? != Outcome::Committed {
                break;
            }
            self.held.begun(&staged.outbox.positions);
            self.ports.observer.idle_snapshots_flushed(&staged.tally);
            self.pipeline.apply(staged);
        }
        Ok(())
    }

    /// Commits where partitions begin of which nothing was committed before: a crash must not move a start at "latest", nor lose count of what was
    /// deleted there.
    fn commit_fresh(&mut self) -> Result<(), WorkerError<S::Fatal>> {
        let positions = self.held.fresh(&self.pipeline.positions());
        if positions.is_empty() {
            return Ok(());
        }
        let outbox = Outbox {
            positions,
            ..Outbox::default()
        };
        if self.publish(&outbox)? == Outcome::Committed {
            self.held.begun(&outbox.positions);
        }
        Ok(())
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            self.pipeline.revoke(at);
            self.held.revoke(at);
        }
        self.ports.observer.revoked(partitions);
        self.report_holding();
    }

    fn report_holding(&mut self) {
        self.ports.trainer.leads(self.leads());
        let held = self.pipeline.positions().len();
        self.ports.observer.holds(held);
    }

    /// Whether this process trains for the group.
    fn leads(&self) -> bool {
        let held = self.pipeline.positions();
        held.contains_key(&self.settings.first)
    }

    fn take_promotions(&mut self) {
        // Only the last one counts: those before it never judged anything.
        let Some(model) = self.ports.promotions.try_iter().last() else {
            return;
        };
        match self.pipeline.promote(Arc::clone(&model)) {
            Ok(()) => {
                self.ports.observer.promoted(&model);
                // Partitions without records take it up now.
                self.looked = None;
            }
            Err(why) => self.ports.observer.refused(&why),
        }
    }

    /// Judges by what alerts are due by now, from the next batch on: the state says from where.
    fn take_alerts(&mut self) {
        let Some(alerts) = self.ports.alerts.try_iter().last() else {
            return;
        };
        self.pipeline.judge_by(alerts);
        let (params, model) = (self.pipeline.params(), self.pipeline.current());
        self.ports.observer.judges_by(params, model.map(|m| &**m));
        // Partitions without records take it up now.
        self.looked = None;
    }

    /// Takes in what people said. It becomes state with the next batch, or when a quiet partition is saved. Of the group's workers the one that leads asks for
    /// a training where anything is the new normal.
    fn hear(&mut self) {
        if let Some(said) = self.ports.said.try_iter().last()
            && self.pipeline.hear(said)
            && self.leads()
        {
            self.ports.trainer.new_normal();
        }
    }

    /// Where nothing lies ahead there is nothing more to learn from: markers of transactions, which are no records, may lie before the beginning.
    fn end_lookbacks(&mut self, lag: &BTreeMap<TopicPartition, u64>) {
        let read = |at: &&TopicPartition| lag.get(*at) == Some(&0);
        let done: Vec<TopicPartition> =
            self.pipeline.looking_back().filter(read).cloned().collect();
        for at in done {
            self.pipeline.end_lookback(&at);
        }
    }

    fn look(&mut self) -> Result<(), WorkerError<S::Fatal>> {
        let now = self.ports.clock.monotonic();
        let since = self.looked.map(|looked| now.saturating_sub(looked));
        if since.is_some_and(|since| since < LOOK_EVERY) {
            return Ok(());
        }
        self.looked = Some(now);
        let lag = self.session.lag();
        self.end_lookbacks(&lag);
        self.flush_idle_snapshots(now)?;
        let gauges = Gauges {
            episodes_open: self.pipeline.episodes_open(),
            open: self.pipeline.open(OPEN_MAX),
            keys: self.pipeline.keys(),
            wrong_clocks: self.pipeline.wrong_clocks(CLOCKS_MAX),
            replaying: self.pipeline.replaying(),
            judging: self.pipeline.judging(),
            lag,
        };
        self.ports.observer.gauges(&gauges);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
