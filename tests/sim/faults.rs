//! The faults: workers step in random order, half a step at a time, while the group is dealt anew, processes die and models change.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{Assigned, Pipeline};
use anomalyd::port::Input;
use anomalyd::seed::Seed;
use anomalyd::stream::TopicPartition;
use anomalyd::time::ManualClock;
use anomalyd::worker::{Committed as Batch, Observer, Ports, Settings, Worker, WorkerError};
use rand::Rng;

use crate::Counts;
use crate::broker::{Broker, Committed, Crash, Member};
use crate::world::{NOW, World, decode};

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
    /// A record below the committed offset is told again.
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
    ];
}

/// What must have happened often.
pub const HAPPENINGS: &[&str] = &[
    "aborts",
    "commits",
    "crashes_after_commit",
    "crashes_before_commit",
    "fenced",
    "lost_and_aborted",
    "lost_batches",
    "lost_but_committed",
    "lost_sessions",
    "lost_settlements",
    "lost_starts",
    "model_changes",
    "rebalances",
    "replays",
    "settlements",
    "stale_steps",
];

/// What is left in the end.
#[derive(Debug)]
pub struct Outcome {
    pub log: BTreeMap<TopicPartition, Committed>,
    pub counts: Counts,
}

/// Counts what a worker reports.
struct Counting<'w>(Rc<RefCell<Broker<'w>>>);

impl Observer for Counting<'_> {
    fn committed(&mut self, batch: &Batch<'_>) {
        assert!(batch.tally.adds_up(), "P2");
    }
    fn assigned(&mut self, _: &TopicPartition, assigned: &Assigned) {
        if assigned.replay > 0 {
            self.0.borrow_mut().count("replays");
        }
        assert_eq!(assigned.discarded, None, "state can always be used");
    }
}

/// A process with one worker.
struct Actor<'w> {
    id: u64,
    worker: Worker<Member<'w>, Counting<'w>>,
    promotions: Sender<Arc<TrainedModel>>,
    clock: Arc<ManualClock>,
    /// What it was given and has not handled yet: the first half of a step is done.
    input: Option<Input>,
}

fn actor<'w>(
    world: &'w World,
    broker: &Rc<RefCell<Broker<'w>>>,
    id: u64,
    champion: u64,
) -> Actor<'w> {
    let (promotions, receiver) = mpsc::channel();
    if champion > 0 {
        promotions.send(world.model(champion)).unwrap();
    }
    let models = world.models.clone();
    let another = broker.borrow().sabotage == Some(Sabotage::ReplayByAnotherModel);
    let clock = Arc::new(ManualClock::at(NOW));
    let ports = Ports {
        decode: Box::new(decode),
        load: Box::new(move |version| {
            let index = usize::try_from(version.0).unwrap() - 1;
            let index = if another {
                (index + 1) % models.len()
            } else {
                index
            };
            Ok(models.get(index).cloned())
        }),
        promotions: receiver,
        listen: Box::new(|| Ok(())),
        said: mpsc::channel().1,
        observer: Counting(broker.clone()),
        clock: clock.clone(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let settings = Settings {
        poll_max: Duration::from_millis(100),
        dead_letters_max: None,
        first: TopicPartition::new("in", 0),
        quiet_after: Duration::from_secs(5),
    };
    let pipeline = Pipeline::new(world.params.clone(), world.columns.clone());
    let worker = Worker::new(Member::new(id, broker.clone()), pipeline, ports, settings);
    broker.borrow_mut().join(id);
    Actor {
        id,
        worker,
        promotions,
        clock,
        input: None,
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

/// Lets the faults loose until everything is committed.
pub fn run(world: &World, seed: u64, sabotage: Option<Sabotage>) -> Result<Outcome, String> {
    let mut rng = Seed(seed).child("faults").rng();
    let broker = Rc::new(RefCell::new(Broker::new(
        world,
        Seed(seed).child("broker").rng(),
        sabotage,
    )));
    let mut champion = rng.gen_range(0..3);
    let mut ids = 0..;
    let mut actors: Vec<Actor<'_>> = (0..rng.gen_range(2..4))
        .map(|_| actor(world, &broker, ids.next().unwrap(), champion))
        .collect();
    for tick in 0..20_000 {
        if broker.borrow().done() {
            drop(actors);
            let broker = Rc::into_inner(broker)
                .expect("all actors are gone")
                .into_inner();
            return Ok(Outcome {
                log: broker.log,
                counts: broker.counts,
            });
        }
        // After a while the weather clears, so that every run ends.
        broker.borrow_mut().calm = tick > 5_000;
        if tick < 5_000 && rng.gen_bool(0.03) {
            broker.borrow_mut().rebalance();
        }
        if rng.gen_bool(0.02) {
            // The champion moves, back as well as forward; each process hears of it when it does.
            champion = rng.gen_range(1..=world.models.len() as u64);
        }
        if champion > 0 && rng.gen_bool(0.05) {
            let to = rng.gen_range(0..actors.len());
            actors[to].promotions.send(world.model(champion)).unwrap();
        }
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
                actors.push(actor(world, &broker, ids.next().unwrap(), champion));
                break;
            }
        }
    }
    Err("it never ends".to_owned())
}
