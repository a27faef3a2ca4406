//! The faults: workers step in random order, half a step at a time, while the group is dealt anew, processes die and models change.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anomalyd::detect::AlertParams;
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{Assigned, Discarded, Pipeline, Tally};
use anomalyd::port::Input;
use anomalyd::record::{DecodedBatch, RecordBatch};
use anomalyd::seed::Seed;
use anomalyd::stream::TopicPartition;
use anomalyd::time::{ManualClock, Timestamp};
use anomalyd::trainer::TrainerLink;
use anomalyd::worker::{Committed as Batch, Observer, Ports, Settings, Worker, WorkerError};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Counts;
use crate::broker::Broker;
use crate::committed::{Committed, Gaps};
use crate::member::{Crash, Member};
use crate::world::{NOW, World, decode, retrain};

/// A safeguard taken away. Each must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Stale members may commit.
    NoFencing,
    /// Nothing is ever restored.
    SnapshotsLost,
    /// The first batch under a new model carries no snapshot.
    NoSnapshotAtModelChange,
    /// Heads are lost, keys are not: keys are ahead of their head.
    TornSnapshots,
    /// Forgotten keys come back.
    TombstonesLost,
    /// Replay is judged by whatever model is at hand, not by the one that the state names.
    ReplayByAnotherModel,
    /// A record below the committed offset is emitted again.
    EmissionDuringReplay,
    /// An aborted batch becomes state.
    StateKeptAfterAbort,
    /// After an abort the session reads on.
    NoRewindAfterAbort,
    /// State is written beside the transaction, so that an aborted batch leaves a snapshot.
    StateOutsideTheTransaction,
    /// Alerts and scores are written beside the transaction, so that an aborted batch tells them.
    OutputOutsideTheTransaction,
    /// Offsets are committed before the transaction.
    OffsetsOutsideTheTransaction,
    /// A commit whose outcome is unknown is taken for an abort.
    CommitTakenForAbort,
    /// What became of a commit that was not answered is judged by where the group stands.
    LostAnswersByPosition,
    /// Whoever takes a partition over gets its state as of one transaction too early: the reading stopped before the end.
    StateReadTooShort,
    /// Of a transaction's positions only the first is committed.
    PositionsTorn,
    /// Of a transaction's scores only the first half is committed.
    ScoresTorn,
    /// A producer that is not idempotent sends alerts twice.
    AlertsTwice,
    /// Alerts that were sent again overtake others.
    AlertsReordered,
    /// Now and then a record is not delivered.
    RecordsSkipped,
    /// A partition that was added begins where a new group would.
    AddedPartitionsAsTheFirst,
    /// Where the group's offsets expired, nobody looks at the state for where it stood.
    ExpiredOffsetsForgetState,
    /// Nobody notices that the log begins later than what is to be read.
    DeletionsUnseen,
    /// Whoever takes a partition over begins at its oldest record, without a word of those before it.
    GapsUncounted,
    /// A process adds its own clock's error to the times of records.
    TimesByTheReader,
    /// Times never go back within a batch: one clock that is ahead moves all keys.
    TimesNeverGoBack,
    /// The first batch under another budget carries no snapshot.
    NoSnapshotAtAlertsChange,
    /// Replay goes by the present budget, not by the one that the state names.
    ReplayByPresentAlerts,
    /// A new model judges before it is stored.
    PromotedBeforeStored,
    /// Two trainings give their models the same number.
    VersionsGivenTwice,
}

impl Sabotage {
    pub const ALL: &[Self] = &[
        Self::NoFencing,
        Self::SnapshotsLost,
        Self::NoSnapshotAtModelChange,
        Self::TornSnapshots,
        Self::TombstonesLost,
        Self::ReplayByAnotherModel,
        Self::EmissionDuringReplay,
        Self::StateKeptAfterAbort,
        Self::NoRewindAfterAbort,
        Self::StateOutsideTheTransaction,
        Self::OutputOutsideTheTransaction,
        Self::OffsetsOutsideTheTransaction,
        Self::CommitTakenForAbort,
        Self::LostAnswersByPosition,
        Self::StateReadTooShort,
        Self::PositionsTorn,
        Self::ScoresTorn,
        Self::AlertsTwice,
        Self::AlertsReordered,
        Self::RecordsSkipped,
        Self::AddedPartitionsAsTheFirst,
        Self::ExpiredOffsetsForgetState,
        Self::DeletionsUnseen,
        Self::GapsUncounted,
        Self::TimesByTheReader,
        Self::TimesNeverGoBack,
        Self::NoSnapshotAtAlertsChange,
        Self::ReplayByPresentAlerts,
        Self::PromotedBeforeStored,
        Self::VersionsGivenTwice,
    ];
}

/// What must have happened often.
pub const HAPPENINGS: &[&str] = &[
    "aborts",
    "added_partitions",
    "alert_changes",
    "commits",
    "crashes_after_commit",
    "crashes_before_commit",
    "deletions",
    "discards",
    "emitted_again",
    "expired_offsets",
    "fenced",
    "gaps",
    "idle_snapshots",
    "lost_and_aborted",
    "lost_batches",
    "lost_but_committed",
    "lost_idle_snapshots",
    "lost_sessions",
    "lost_starts",
    "model_changes",
    "offset_out_of_range",
    "rebalances",
    "replays",
    "retrainings",
    "stale_steps",
    "wrong_clocks",
];

/// What is left in the end.
#[derive(Debug)]
pub struct Outcome {
    pub log: BTreeMap<TopicPartition, Committed>,
    /// The same when the group's offsets expired.
    pub expired: Option<BTreeMap<TopicPartition, Committed>>,
    /// The oldest offset that is left of each partition.
    pub first: Vec<i64>,
    pub gaps: Gaps,
    /// All models there were, by version from 1.
    pub models: Vec<Arc<TrainedModel>>,
    pub counts: Counts,
}

/// Where models are stored, by version from 1.
type Store = Arc<Mutex<Vec<Arc<TrainedModel>>>>;

/// Counts what a worker reports.
struct Counting<'w> {
    broker: Rc<RefCell<Broker<'w>>>,
    member: u64,
}

impl Counting<'_> {
    fn skipped(&mut self, tally: &Tally) {
        if tally.skipped > 0 {
            let mut broker = self.broker.borrow_mut();
            broker.count("gaps");
            broker.gaps.reported += i64::try_from(tally.skipped).unwrap();
        }
    }
}

impl Observer for Counting<'_> {
    fn committed(&mut self, batch: &Batch<'_>) {
        assert!(batch.tally.adds_up(), "P2");
        self.skipped(batch.tally);
        if !batch.wrong_clocks.is_empty() {
            self.broker.borrow_mut().count("wrong_clocks");
        }
    }
    fn idle_snapshots_flushed(&mut self, tally: &Tally) {
        self.skipped(tally);
    }
    fn assigned(&mut self, at: &TopicPartition, assigned: &Assigned) {
        let mut broker = self.broker.borrow_mut();
        if assigned.replay > 0 {
            broker.count("replays");
        }
        let discarded = assigned.discarded.is_some();
        broker.discarded(self.member, at, discarded);
        let excused = broker.world.deletes && assigned.discarded == Some(Discarded::RecordsDeleted);
        assert!(
            !discarded || excused,
            "state can always be used: {assigned:?}"
        );
    }
    fn discarded(&mut self, at: &TopicPartition, _: Discarded) {
        self.broker.borrow_mut().discarded(self.member, at, true);
    }
}

/// A process with one worker.
struct Actor<'w> {
    id: u64,
    worker: Worker<Member<'w>, Counting<'w>>,
    promotions: Sender<Arc<TrainedModel>>,
    reloads: Sender<AlertParams>,
    clock: Arc<ManualClock>,
    /// What it was given and has not handled yet: the first half of a step is done.
    input: Option<Input>,
}

/// How a process reads records.
fn decoder(sabotage: Option<Sabotage>, id: u64) -> impl Fn(&RecordBatch, &mut DecodedBatch) + Send {
    move |batch, into| {
        decode(batch, into);
        let mut newest = Timestamp::MIN;
        for decoded in into.outcomes.iter_mut().flatten() {
            newest = newest.max(decoded.time);
            match sabotage {
                Some(Sabotage::TimesByTheReader) => {
                    let error = Duration::from_millis(id * 50);
                    decoded.time = decoded.time.plus(error);
                }
                Some(Sabotage::TimesNeverGoBack) => decoded.time = newest,
                _ => {}
            }
        }
    }
}

fn actor<'w>(
    world: &'w World,
    (broker, store): (&Rc<RefCell<Broker<'w>>>, &Store),
    id: u64,
    (champion, alerts): (u64, AlertParams),
) -> Actor<'w> {
    let (promotions, receiver) = mpsc::channel();
    let (reloads, reloaded) = mpsc::channel();
    if champion > 0 {
        promotions.send(stored(store, champion).unwrap()).unwrap();
    }
    let sabotage = broker.borrow().sabotage;
    let models = store.clone();
    let original = world.models.len();
    let unstored = sabotage == Some(Sabotage::PromotedBeforeStored);
    let another = broker.borrow().sabotage == Some(Sabotage::ReplayByAnotherModel);
    let clock = Arc::new(ManualClock::at(NOW));
    let ports = Ports {
        decode: Box::new(decoder(sabotage, id)),
        load: Box::new(move |version| {
            let all = models.lock().unwrap().len() as u64;
            let version = if another {
                version.0 % all + 1
            } else {
                version.0
            };
            let there = !unstored || version <= original as u64;
            Ok(stored(&models, version).filter(|_| there))
        }),
        promotions: receiver,
        alerts: reloaded,
        listen: Box::new(|| Ok(())),
        said: mpsc::channel().1,
        trainer: TrainerLink::unconnected(),
        observer: Counting {
            broker: broker.clone(),
            member: id,
        },
        clock: clock.clone(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let settings = Settings {
        poll_max: Duration::from_millis(100),
        dead_letters_max: None,
        first: TopicPartition::new("in", 0),
        quiet_after: Duration::from_secs(5),
    };
    // A process begins with what is configured by then.
    let params = Arc::new(world.params.with_alerts(alerts));
    let pipeline = Pipeline::new(params, world.columns.clone());
    let worker = Worker::new(Member::new(id, broker.clone()), pipeline, ports, settings);
    broker.borrow_mut().join(id);
    Actor {
        id,
        worker,
        promotions,
        reloads,
        clock,
        input: None,
    }
}

fn stored(store: &Store, version: u64) -> Option<Arc<TrainedModel>> {
    let index = usize::try_from(version).unwrap().checked_sub(1)?;
    store.lock().unwrap().get(index).cloned()
}

/// A training: what was committed when it began, of which it will make a model.
struct Training {
    actor: u64,
    spans: Vec<(i64, i64)>,
    done: u32,
}

impl Training {
    fn begin(broker: &Broker<'_>, actor: u64, lasts: u32) -> Self {
        Self {
            actor,
            spans: broker.spans(),
            done: lasts,
        }
    }

    /// Fits a model to what was committed and not flagged, and stores it. Answers its version.
    fn end(self, broker: &mut Broker<'_>, store: &Store) -> Option<u64> {
        let records = broker.history(&self.spans);
        let mut models = store.lock().unwrap();
        let twice = broker.sabotage == Some(Sabotage::VersionsGivenTwice);
        let again = twice && models.len() > broker.world.models.len();
        let version = models.len() as u64 + u64::from(!again);
        let model = Arc::new(retrain(version, records.len() % 3 + 1, &records)?);
        models.truncate(usize::try_from(version).unwrap() - 1);
        models.push(model);
        broker.count("retrainings");
        Some(version)
    }
}

/// Half a step. `false`: the process died.
fn half_step(actor: &mut Actor<'_>) -> Result<bool, String> {
    let done = match actor.input.take() {
        Some(input) => actor.worker.handle(input),
        None => actor.worker.poll().map(|input| actor.input = Some(input)),
    };
    match done {
        Ok(()) => Ok(true),
        Err(WorkerError::Session(Crash)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Now and then begins a training, and goes on with it. Answers the version of a new model.
fn train(
    training: &mut Option<Training>,
    rng: &mut ChaCha8Rng,
    actors: &[Actor<'_>],
    (broker, store): (&RefCell<Broker<'_>>, &Store),
) -> Option<u64> {
    if rng.gen_bool(0.01) && training.is_none() {
        let by = actors[rng.gen_range(0..actors.len())].id;
        let lasts = rng.gen_range(5..40);
        *training = Some(Training::begin(&broker.borrow(), by, lasts));
    }
    // It ends with its process.
    training.take_if(|training| actors.iter().all(|actor| actor.id != training.actor));
    training.as_mut()?.done -= 1;
    let ended = training.take_if(|training| training.done == 0)?;
    ended.end(&mut broker.borrow_mut(), store)
}

/// Nobody is there for so long that the group's offsets expire.
fn all_leave(broker: &RefCell<Broker<'_>>, actors: Vec<Actor<'_>>) {
    for actor in actors {
        broker.borrow_mut().leave(actor.id);
    }
    broker.borrow_mut().expire();
}

fn outcome(broker: Broker<'_>, store: &Store) -> Outcome {
    let partitions = 0..broker.world.partitions.len();
    Outcome {
        first: partitions.map(|which| broker.first(which)).collect(),
        log: broker.log,
        expired: broker.expired,
        gaps: broker.gaps,
        models: store.lock().unwrap().clone(),
        counts: broker.counts,
    }
}

/// Now and then another champion, or another configuration; each process hears of it when it does.
fn change(
    world: &World,
    (mut champion, mut alerts): (u64, AlertParams),
    rng: &mut ChaCha8Rng,
    (actors, store): (&[Actor<'_>], &Store),
) -> (u64, AlertParams) {
    if rng.gen_bool(0.02) {
        // The champion moves, back as well as forward.
        champion = rng.gen_range(1..=store.lock().unwrap().len() as u64);
    }
    if rng.gen_bool(0.01) {
        alerts = world.alerts[rng.gen_range(0..world.alerts.len())];
    }
    if rng.gen_bool(0.03) {
        let to = rng.gen_range(0..actors.len());
        actors[to].reloads.send(alerts).unwrap();
    }
    if champion > 0 && rng.gen_bool(0.05) {
        let to = rng.gen_range(0..actors.len());
        let model = stored(store, champion).unwrap();
        actors[to].promotions.send(model).unwrap();
    }
    (champion, alerts)
}

/// Lets the faults loose until everything is committed.
pub fn run(world: &World, seed: u64, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
    let mut rng = Seed(seed).child("faults").rng();
    let broker = Rc::new(RefCell::new(Broker::new(
        world,
        Seed(seed).child("broker").rng(),
        sabotage,
    )));
    let store: Store = Arc::new(Mutex::new(world.models.clone()));
    let mut training: Option<Training> = None;
    let mut champion = rng.gen_range(0..3);
    let mut alerts = world.params.alerts();
    let mut ids = 0..;
    let mut actors: Vec<Actor<'_>> = (0..rng.gen_range(2..4))
        .map(|_| {
            let id = ids.next().unwrap();
            actor(world, (&broker, &store), id, (champion, alerts))
        })
        .collect();
    for tick in 0..20_000 {
        if broker.borrow().done() {
            drop(actors);
            let broker = Rc::into_inner(broker).expect("all actors are gone");
            return Ok(outcome(broker.into_inner(), &store));
        }
        // After a while the weather clears, so that every run ends.
        broker.borrow_mut().calm = tick > 5_000;
        broker.borrow_mut().turn();
        if world.expires && rng.gen_bool(0.01) && broker.borrow().expired.is_none() {
            all_leave(&broker, std::mem::take(&mut actors));
            let ids = ids.by_ref().take(2);
            actors = ids
                .map(|id| actor(world, (&broker, &store), id, (champion, alerts)))
                .collect();
        }
        if let Some(version) = train(&mut training, &mut rng, &actors, (&broker, &store)) {
            champion = version;
        }
        if tick < 5_000 && rng.gen_bool(0.03) {
            broker.borrow_mut().rebalance();
        }
        (champion, alerts) = change(world, (champion, alerts), &mut rng, (&actors, &store));
        let next = rng.gen_range(0..actors.len());
        // Sometimes one member runs ahead while the others stand still.
        for _ in 0..if rng.gen_bool(0.1) { 8 } else { 1 } {
            if actors[next].input.is_some() {
                let stale = actors[next].worker.session().stale();
                if stale {
                    broker.borrow_mut().count("stale_steps");
                }
            }
            if rng.gen_bool(0.1) {
                // Time passes: partitions without records are looked after.
                actors[next].clock.advance(Duration::from_secs(2));
            }
            if !half_step(&mut actors[next])? {
                broker.borrow_mut().leave(actors[next].id);
                drop(actors.swap_remove(next));
                let id = ids.next().unwrap();
                actors.push(actor(world, (&broker, &store), id, (champion, alerts)));
                break;
            }
        }
    }
    Err("it never ends".to_owned())
}
