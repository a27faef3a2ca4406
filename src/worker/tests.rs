//! The loop against a session that is told what to bring. Faults, rebalances and crashes are in `tests/sim`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::mpsc::channel;

use super::*;
use crate::alert::AlertEvent;
use crate::detect::{Budget, Params};
use crate::model::card::Feedback;
use crate::pipeline::{Assigned, Column, Tally};
use crate::record::{Decoded, Key, Missing, RawRecord};
use crate::seed::Seed;
use crate::stats::calibration::Calibration;
use crate::stream::Offset;
use crate::time::{ManualClock, Timestamp};
use crate::trainer::Order;
use rand::Rng as _;

/// What went out.
#[derive(Debug, Default)]
struct Log {
    published: Vec<Outbox>,
    rewound: Vec<Positions>,
    discarded: Vec<Discarded>,
    skipped: u64,
    consumed: u64,
    ended: u64,
    /// So many transactions abort.
    aborts: u32,
    /// Records ahead, where that is known.
    lag: BTreeMap<TopicPartition, u64>,
}

#[derive(Clone, Debug, Default)]
struct Shared(Rc<RefCell<Log>>);

impl Session for Shared {
    type Fatal = Infallible;

    fn next(&mut self, _: Timestamp) -> Result<Input, Infallible> {
        Ok(Input::Idle)
    }
    fn publish(&mut self, outbox: &Outbox) -> Result<Published, Infallible> {
        let mut log = self.0.borrow_mut();
        if log.aborts > 0 {
            log.aborts -= 1;
            return Ok(Published::Aborted);
        }
        log.published.push(outbox.clone());
        Ok(Published::Committed)
    }
    fn rewind(&mut self, to: &Positions) -> Result<(), Infallible> {
        self.0.borrow_mut().rewound.push(to.clone());
        Ok(())
    }
    fn lag(&mut self) -> BTreeMap<TopicPartition, u64> {
        self.0.borrow().lag.clone()
    }
}

impl Observer for Shared {
    fn assigned(&mut self, _: &TopicPartition, assigned: &Assigned) {
        self.0.borrow_mut().discarded.extend(assigned.discarded);
    }
    fn discarded(&mut self, _: &TopicPartition, why: Discarded) {
        self.0.borrow_mut().discarded.push(why);
    }
    fn committed(&mut self, batch: &Committed<'_>) {
        let mut log = self.0.borrow_mut();
        log.skipped += batch.tally.skipped;
        log.consumed += batch.consumed;
        log.ended += batch.tally.scored + batch.tally.warming_up;
    }
    fn idle_snapshots_flushed(&mut self, tally: &Tally) {
        self.0.borrow_mut().skipped += tally.skipped;
    }
}

fn at() -> TopicPartition {
    TopicPartition::new("in", 0)
}

fn model(version: u64) -> Arc<TrainedModel> {
    let calibration = Calibration::fit(&(0..1000).map(f64::from).collect::<Vec<_>>());
    Arc::new(TrainedModel::simple(version, &["x"], 1, calibration))
}

/// A worker under `champion`; the store has these `models`.
fn worker(
    log: &Shared,
    champion: u64,
    models: &[u64],
) -> (Worker<Shared, Shared>, Arc<ManualClock>) {
    worker_with_feedback(log, (champion, models), (Box::new(|| Ok(())), channel().1))
}

/// The same, with feedback.
fn worker_with_feedback(
    log: &Shared,
    (champion, models): (u64, &[u64]),
    feedback: (Listen, Receiver<Arc<Said>>),
) -> (Worker<Shared, Shared>, Arc<ManualClock>) {
    let link = TrainerLink::unconnected();
    watched(log, (champion, models), feedback, (link, log.clone()))
}

/// The same, with a link to the trainer and an observer.
fn watched<O: Observer>(
    log: &Shared,
    (champion, models): (u64, &[u64]),
    (listen, said): (Listen, Receiver<Arc<Said>>),
    (trainer, observer): (TrainerLink, O),
) -> (Worker<Shared, O>, Arc<ManualClock>) {
    let params = Params {
        detector: "d".into(),
        budget: Budget::PerRecord(0.01),
        time_scales: vec![1],
        close_evidence: 3.0,
        cooldown: Duration::ZERO,
        silence_factor: 0.0,
        snapshot_records: 3,
        ..Params::default()
    };
    let column = Column {
        name: "x".to_owned(),
        missing: Missing::Mask,
        context: false,
    };
    let quiet_after = params.snapshot_interval;
    let pipeline = Pipeline::new(Arc::new(params), Arc::new([column]));
    let (send, promotions) = channel();
    send.send(model(champion)).unwrap();
    let models = models.to_vec();
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    let ports = Ports {
        decode: Box::new(|batch, decoded| {
            decoded.columns = 1;
            let values = batch.records().iter();
            let value = |raw: &RawRecord| match batch.value(raw) {
                Some(b"strange") => 900.0,
                Some(b"usual") => surprising(raw.offset, 1.0),
                Some(b"drifted") => surprising(raw.offset, 2.5),
                _ => 0.5,
            };
            decoded.values = values.map(value).collect();
            let outcome = |raw: &RawRecord| {
                Ok(Decoded {
                    key: Key("k".into()),
                    time: raw.timestamp,
                })
            };
            decoded.outcomes = batch.records().iter().map(outcome).collect();
        }),
        load: Box::new(move |version| Ok(models.contains(&version.0).then(|| model(version.0)))),
        promotions,
        alerts: channel().1,
        listen,
        said,
        trainer,
        observer,
        clock: clock.clone(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let settings = Settings {
        poll_max: Duration::from_millis(100),
        dead_letters_max: None,
        first: at(),
        quiet_after,
    };
    (Worker::new(log.clone(), pipeline, ports, settings), clock)
}

fn step<O: Observer>(worker: &mut Worker<Shared, O>, input: Input) {
    let idle = worker.poll().unwrap();
    assert!(matches!(idle, Input::Idle));
    worker.handle(input).unwrap();
}

fn batch(offsets: std::ops::Range<i64>) -> Input {
    let mut batch = RecordBatch::default();
    for offset in offsets {
        let place = (Offset(offset), Timestamp(offset * 1000));
        batch.push(&at(), place, None, Some(b"v"), Vec::new());
    }
    Input::Batch(batch)
}

/// A value that is as surprising to the model as its records are, times `factor`.
fn surprising(offset: Offset, factor: f64) -> f64 {
    let p = 1.0 - Seed(9).nth(offset.0 as u64).rng().gen_range(0.0..1.0_f64);
    (1000.0 * (1.0 - p.powf(factor))).sqrt()
}

/// Records whose value is this.
fn all(value: &[u8], offsets: std::ops::Range<i64>) -> Input {
    let mut batch = RecordBatch::default();
    for offset in offsets {
        let place = (Offset(offset), Timestamp(offset * 1000));
        batch.push(&at(), place, None, Some(value), Vec::new());
    }
    Input::Batch(batch)
}

fn strange(offset: i64) -> Input {
    let mut batch = RecordBatch::default();
    let place = (Offset(offset), Timestamp(offset * 1000));
    batch.push(&at(), place, None, Some(b"strange"), Vec::new());
    Input::Batch(batch)
}

/// The ids of the episodes of which alerts were emitted.
fn opened(log: &Log) -> Vec<String> {
    let alerts = log.published.iter().flat_map(|outbox| &outbox.alerts);
    alerts
        .filter(|alert| alert.event == AlertEvent::Open)
        .map(|alert| alert.id.to_string())
        .collect()
}

/// That the first strange record was nothing.
fn dismissal() -> Arc<Said> {
    Arc::new(Said::from([("d/in/0/5".into(), Feedback::FalsePositive)]))
}

/// A partition of which one episode was emitted.
fn one_episode<O: Observer>(worker: &mut Worker<Shared, O>) {
    step(worker, assignment(0, 0, &Log::default()));
    step(worker, batch(0..5));
    step(worker, strange(5));
    step(worker, batch(6..20));
}

#[test]
fn what_people_say_is_heard_between_batches_and_saved_with_the_next() {
    let log = Shared::default();
    let (say, said) = channel();
    let (mut worker, _) = worker_with_feedback(&log, (1, &[1]), (Box::new(|| Ok(())), said));
    one_episode(&mut worker);
    assert_eq!(opened(&log.0.borrow()), ["d/in/0/5"]);
    say.send(dismissal()).unwrap();
    log.0.borrow_mut().aborts = 1;
    for published in [0, 1] {
        log.0.borrow_mut().published.clear();
        step(&mut worker, strange(20));
        assert_eq!(log.0.borrow().published.len(), published);
    }
    {
        let log = log.0.borrow();
        assert_eq!(opened(&log), Vec::<String>::new());
        // Whoever replays this record does so by what was said.
        assert_eq!(head(&log.published[0]), Some((1, 20)));
        let knows = |entry: &crate::pipeline::StateEntry| {
            let text = String::from_utf8_lossy(entry.value.as_deref().unwrap_or_default());
            entry.key.ends_with(b"d/in/0/5") && text.contains("\"dismissed\":true")
        };
        assert!(log.published[0].state.iter().any(knows));
    }
    // Taken back, it is emitted again.
    step(&mut worker, batch(21..40));
    say.send(Arc::default()).unwrap();
    step(&mut worker, strange(40));
    assert_eq!(opened(&log.0.borrow()), ["d/in/0/40"]);
}

#[test]
fn what_was_said_before_a_partition_comes_is_heard_before_its_first_record() {
    let before = Shared::default();
    one_episode(&mut worker(&before, 1, &[1]).0);
    let tell = |dismissed: bool| {
        let log = Shared::default();
        let (say, said) = channel();
        let listen = move || {
            // It is only found when it is asked for.
            say.send(if dismissed {
                dismissal()
            } else {
                Arc::default()
            })?;
            Ok(())
        };
        let (mut successor, _) = worker_with_feedback(&log, (1, &[1]), (Box::new(listen), said));
        step(&mut successor, assignment(20, 0, &before.0.borrow()));
        successor.handle(batch(6..20)).unwrap();
        successor.handle(strange(20)).unwrap();
        let log = log.0.borrow();
        opened(&log)
    };
    assert_eq!(tell(true), Vec::<String>::new());
    assert_eq!(tell(false), ["d/in/0/20"]);
}

fn assignment(committed: i64, first: i64, state: &Log) -> Input {
    assigned(committed, first, state, false)
}

fn assigned(committed: i64, first: i64, state: &Log, fresh: bool) -> Input {
    let mut entries = BTreeMap::new();
    for entry in state.published.iter().flat_map(|outbox| &outbox.state) {
        entries.insert(entry.key.clone(), entry.clone());
    }
    Input::Assigned(vec![PartitionAssignment {
        at: at(),
        committed: Offset(committed),
        fresh,
        first: Offset(first),
        topic_id: None,
        state: entries.into_values().collect(),
    }])
}

/// What a worker under model 1 leaves that read ten records and then nothing; the last two came after its last snapshot.
fn left() -> Shared {
    let log = Shared::default();
    let (mut worker, _) = worker(&log, 1, &[1]);
    step(&mut worker, assignment(0, 0, &Log::default()));
    for from in [0, 2, 4, 6, 8] {
        step(&mut worker, batch(from..from + 2));
    }
    log
}

fn head(outbox: &Outbox) -> Option<(u64, i64)> {
    let entry = outbox
        .state
        .iter()
        .find(|entry| entry.key.ends_with(b"/head"))?;
    let head: serde_json::Value = serde_json::from_slice(entry.value.as_deref()?).unwrap();
    Some((head["model"].as_u64()?, head["offset"].as_i64()?))
}

#[test]
fn an_idle_partition_whose_model_is_deleted_starts_all_the_same() {
    let before = left();
    let before = before.0.borrow();
    assert_eq!(
        before.published.iter().filter_map(head).next_back(),
        Some((1, 8))
    );
    // Ten trainings later the store has forgotten model 1. Two records were to be replayed under it.
    let log = Shared::default();
    let (mut successor, _) = worker(&log, 11, &[11]);
    step(&mut successor, assignment(10, 0, &before));
    step(&mut successor, batch(10..11));
    assert_eq!(log.0.borrow().discarded, [Discarded::ModelGone]);
    assert_eq!(
        head(log.0.borrow().published.last().unwrap()),
        Some((11, 10))
    );
    // As long as the store has it, nothing is lost.
    let log = Shared::default();
    let (mut successor, _) = worker(&log, 11, &[1, 11]);
    step(&mut successor, assignment(10, 0, &before));
    assert_eq!(log.0.borrow().discarded, []);
    assert_eq!(
        log.0.borrow().rewound,
        [Positions::from([(at(), Offset(8))])]
    );
    // Nothing is to be replayed: model 1 is not even asked for.
    let log = Shared::default();
    let (mut successor, _) = worker(&log, 11, &[11]);
    step(&mut successor, assignment(8, 0, &before));
    assert_eq!(
        (log.0.borrow().discarded.len(), successor.pipeline().keys()),
        (0, 1)
    );
}

#[test]
fn an_idle_partition_takes_the_champion_up_within_a_second_and_is_saved_once_quiet() {
    let log = Shared::default();
    let (mut worker, clock) = worker(&log, 1, &[1]);
    step(&mut worker, assignment(0, 0, &Log::default()));
    step(&mut worker, batch(0..1));
    let mut pass = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        step(&mut worker, Input::Idle);
        let published = std::mem::take(&mut log.0.borrow_mut().published);
        published.iter().filter_map(head).collect::<Vec<_>>()
    };
    assert_eq!(pass(0), [(1, 0)]);
    // The one record is not in the snapshot. Where all stand is noted first; after ten more quiet minutes it is saved, once.
    assert_eq!(pass(2), []);
    assert_eq!(pass(601), []);
    assert_eq!(pass(601), [(1, 1)]);
    assert_eq!(pass(601), []);
    worker.pipeline.promote(model(2)).unwrap();
    let mut pass = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        step(&mut worker, Input::Idle);
        let published = std::mem::take(&mut log.0.borrow_mut().published);
        published.iter().filter_map(head).collect::<Vec<_>>()
    };
    assert_eq!(pass(1), [(2, 1)]);
    assert_eq!(pass(1), []);
}

#[test]
fn where_retention_overtakes_the_reader_goes_on_behind_it_and_counts() {
    let log = Shared::default();
    let (mut worker, clock) = worker(&log, 1, &[1]);
    step(&mut worker, assignment(5, 7, &Log::default()));
    assert_eq!(
        log.0.borrow().rewound,
        [Positions::from([(at(), Offset(7))])]
    );
    step(&mut worker, batch(7..9));
    assert_eq!(log.0.borrow().skipped, 2);
    let to = Positions::from([(at(), Offset(20))]);
    step(&mut worker, Input::OffsetOutOfRange(to.clone()));
    assert_eq!(log.0.borrow().rewound.last(), Some(&to));
    // Counted with the commit that says so, though no record comes.
    assert_eq!(log.0.borrow().skipped, 2);
    clock.advance(Duration::from_secs(1));
    step(&mut worker, Input::Idle);
    assert_eq!(log.0.borrow().skipped, 2 + 11);
    assert_eq!(log.0.borrow().published.last().unwrap().positions, to);
}

/// What was deleted before a partition was first read is counted by whoever saves its first state: not by who only began.
#[test]
fn a_crash_before_the_first_snapshot_loses_no_count_of_what_was_skipped() {
    let log = Shared::default();
    let (mut first, _) = worker(&log, 1, &[1]);
    first.handle(assigned(0, 7, &Log::default(), true)).unwrap();
    assert_eq!(
        log.0.borrow().rewound,
        [Positions::from([(at(), Offset(7))])]
    );
    // It dies between the commit of where it begins and that of its state.
    first.commit_fresh().unwrap();
    assert_eq!(log.0.borrow().published.len(), 1);
    let committed = log.0.borrow().published[0].positions[&at()];
    drop(first);
    assert_eq!(log.0.borrow().skipped, 0);
    let (mut second, _) = worker(&log, 1, &[1]);
    second
        .handle(assigned(committed.0, 7, &Log::default(), false))
        .unwrap();
    step(&mut second, batch(7..9));
    assert_eq!((log.0.borrow().skipped, log.0.borrow().consumed), (7, 2));
}

#[test]
fn where_it_begins_is_committed_while_it_learns_from_what_lies_before() {
    let log = Shared::default();
    let (mut worker, clock) = worker(&log, 1, &[1]);
    let params = Params {
        seasonal: true,
        ..worker.pipeline.params().as_ref().clone()
    };
    let column = Column {
        name: "x".to_owned(),
        missing: Missing::Mask,
        context: false,
    };
    worker.pipeline = Pipeline::new(Arc::new(params), Arc::new([column]));
    worker
        .handle(assigned(40, 0, &Log::default(), true))
        .unwrap();
    let here = |offset| Positions::from([(at(), Offset(offset))]);
    assert_eq!(log.0.borrow().rewound, [here(0)]);
    step(&mut worker, batch(0..30));
    step(&mut worker, batch(30..38));
    let positions = |log: &Shared| {
        let log = log.0.borrow();
        let all = log.published.iter().map(|outbox| outbox.positions.clone());
        all.collect::<Vec<_>>()
    };
    assert_eq!(positions(&log), [here(40)], "a crash does not move it");
    // What lies between is no record.
    log.0.borrow_mut().lag = BTreeMap::from([(at(), 0)]);
    clock.advance(LOOK_EVERY);
    worker.poll().unwrap();
    assert_eq!(worker.pipeline().replaying(), 0);
    step(&mut worker, batch(40..45));
    assert_eq!(positions(&log).last(), Some(&here(45)));
    assert_eq!((log.0.borrow().consumed, log.0.borrow().ended), (5, 5));
}

#[test]
fn what_is_consumed_is_counted_by_offsets_and_apart_from_what_became_of_it() {
    let log = Shared::default();
    let (mut worker, _) = worker(&log, 1, &[1]);
    step(&mut worker, assignment(4, 2, &Log::default()));
    step(&mut worker, batch(4..9));
    assert_eq!((log.0.borrow().consumed, log.0.borrow().ended), (5, 5));
    // Of a partition that is not held nothing is consumed, and nothing becomes of it.
    worker.handle(Input::Revoked(vec![at()])).unwrap();
    step(&mut worker, batch(9..12));
    assert_eq!((log.0.borrow().consumed, log.0.borrow().ended), (5, 5));
    // Records that are replayed were consumed before.
    let state = Log {
        published: std::mem::take(&mut log.0.borrow_mut().published),
        ..Log::default()
    };
    step(&mut worker, assignment(9, 0, &state));
    step(&mut worker, batch(4..12));
    assert_eq!((log.0.borrow().consumed, log.0.borrow().ended), (8, 8));
}

/// What goes out and what the trainer hears of a worker whose observer is `observe`d.
fn told<O: Observer>(observe: impl Fn(&Shared) -> O) -> (Vec<Outbox>, Vec<Positions>, Vec<Order>) {
    let log = Shared::default();
    let (trainer, orders) = TrainerLink::connected(7);
    let feedback: (Listen, _) = (Box::new(|| Ok(())), channel().1);
    let (mut worker, clock) = watched(&log, (1, &[1]), feedback, (trainer, observe(&log)));
    one_episode(&mut worker);
    step(&mut worker, all(b"usual", 20..6_000));
    step(&mut worker, all(b"drifted", 6_000..9_000));
    clock.advance(Duration::from_secs(3_600));
    step(&mut worker, Input::Idle);
    step(&mut worker, Input::Revoked(vec![at()]));
    let log = log.0.take();
    (log.published, log.rewound, orders.try_iter().collect())
}

#[test]
fn a_training_is_asked_for_once_where_somebody_says_what_is_normal_from_now_on() {
    let log = Shared::default();
    let (trainer, orders) = TrainerLink::connected(7);
    let (say, said) = channel();
    let feedback: (Listen, _) = (Box::new(|| Ok(())), said);
    let (mut worker, _) = watched(&log, (1, &[1]), feedback, (trainer, log.clone()));
    let heard = |worker: &mut Worker<Shared, Shared>, called: &[(&str, Feedback)]| {
        let called = called.iter().map(|(id, called)| ((*id).into(), *called));
        say.send(Arc::new(called.collect::<Said>())).unwrap();
        worker.poll().unwrap();
        orders
            .try_iter()
            .filter(|order| *order == Order::Now)
            .count()
    };
    let (normal, nothing) = (Feedback::NewNormal, Feedback::FalsePositive);
    step(&mut worker, assignment(0, 0, &Log::default()));
    // What was said before it began has been trained, or is with the interval.
    assert_eq!(heard(&mut worker, &[("a", normal)]), 0);
    assert_eq!(heard(&mut worker, &[("a", normal), ("b", nothing)]), 0);
    assert_eq!(heard(&mut worker, &[("a", normal), ("b", normal)]), 1);
    assert_eq!(heard(&mut worker, &[("a", normal), ("b", normal)]), 0);
    assert_eq!(heard(&mut worker, &[("b", normal)]), 0);
    // The one that leads is another.
    worker.handle(Input::Revoked(vec![at()])).unwrap();
    assert_eq!(heard(&mut worker, &[("c", normal)]), 0);
}

#[test]
fn an_observer_has_no_say() {
    let (published, rewound, orders) = told(Shared::clone);
    let lead = |leads| Order::Lead { worker: 7, leads };
    assert_eq!(orders, [lead(true), Order::Drift, lead(false)]);
    assert!(!published.is_empty() && !rewound.is_empty());
    // Without it everything goes on as with it.
    assert_eq!(told(|_| Unobserved), (published, rewound, orders));
}
