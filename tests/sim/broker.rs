//! The pretend broker: logs, a consumer group with generations, transactions, and the faults that a real one has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anomalyd::kafka::mark::{Commit, Marks, Outcome, metadata};
use anomalyd::pipeline::{Grant, Message, Outbox, StateEntry, model_version, owner};
use anomalyd::port::{self, Published, Session};
use anomalyd::record::RecordBatch;
use anomalyd::stream::{Offset, Positions, TopicPartition};
use anomalyd::time::Timestamp;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Counts;
use crate::faults::Sabotage;
use crate::world::World;

/// The process died, or was killed.
#[derive(Debug, thiserror::Error)]
#[error("crashed")]
pub struct Crash;

/// What a `read_committed` reader sees of one partition, and where its model changed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    pub alerts: Vec<Message>,
    pub scores: Vec<Message>,
    pub dead_letters: Vec<Message>,
    pub late: Vec<Message>,
    pub drift: Vec<Message>,
    /// Offset → version that judges from there on.
    pub models: BTreeMap<i64, u64>,
}

/// Who holds a partition, since which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holding {
    member: u64,
    since: u64,
}

pub struct Broker<'w> {
    pub world: &'w World,
    pub rng: ChaCha8Rng,
    pub sabotage: Option<Sabotage>,
    pub calm: bool,
    pub counts: Counts,
    pub log: BTreeMap<TopicPartition, Committed>,
    /// What the group has committed, and the mark of the transaction that did.
    committed: BTreeMap<TopicPartition, (i64, String)>,
    state: BTreeMap<Vec<u8>, StateEntry>,
    /// The same before the last transaction that wrote to it.
    state_before: BTreeMap<Vec<u8>, StateEntry>,
    generation: u64,
    members: Vec<u64>,
    holdings: BTreeMap<TopicPartition, Holding>,
}

impl<'w> Broker<'w> {
    pub fn new(world: &'w World, rng: ChaCha8Rng, sabotage: Option<Sabotage>) -> Self {
        Self {
            world,
            rng,
            sabotage,
            calm: false,
            counts: Counts::new(),
            log: world
                .partitions
                .iter()
                .map(|at| (at.clone(), Committed::default()))
                .collect(),
            committed: BTreeMap::new(),
            state: BTreeMap::new(),
            state_before: BTreeMap::new(),
            generation: 0,
            members: Vec::new(),
            holdings: BTreeMap::new(),
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn join(&mut self, member: u64) {
        self.members.push(member);
        self.rebalance();
    }

    pub fn leave(&mut self, member: u64) {
        self.members.retain(|m| *m != member);
        if !self.members.is_empty() {
            self.rebalance();
        }
    }

    /// Deals the partitions out anew, at random. Those that stay where they are stay undisturbed (cooperative), though their member must
    /// still hear of the new generation before it may commit.
    pub fn rebalance(&mut self) {
        self.generation += 1;
        self.count("rebalances");
        for at in &self.world.partitions {
            let member = self.members[self.rng.gen_range(0..self.members.len())];
            let stays = self
                .holdings
                .get(at)
                .is_some_and(|held| held.member == member);
            if !stays {
                let since = self.generation;
                self.holdings.insert(at.clone(), Holding { member, since });
            }
        }
    }

    /// Whether everything was read and committed.
    pub fn done(&self) -> bool {
        self.world
            .partitions
            .iter()
            .zip(&self.world.logs)
            .all(|(at, log)| {
                log.last()
                    .is_none_or(|last| self.committed(at) == Some(last.offset + 1))
            })
    }

    fn committed(&self, at: &TopicPartition) -> Option<i64> {
        self.committed.get(at).map(|(offset, _)| *offset)
    }

    fn grant(&mut self, at: &TopicPartition) -> Grant {
        let found = self.committed(at);
        let all = if self.sabotage == Some(Sabotage::StateReadTooShort) {
            &self.state_before
        } else {
            &self.state
        };
        let state: Vec<StateEntry> = all
            .iter()
            .filter(|(key, _)| owner("sim", key).as_ref() == Some(at))
            .map(|(_, entry)| entry.clone())
            .collect();
        let mut committed = found.unwrap_or(0);
        if self.sabotage == Some(Sabotage::EmissionDuringReplay)
            && let Some(head) = state.iter().find(|entry| entry.key.ends_with(b"/head"))
        {
            let head: serde_json::Value =
                serde_json::from_slice(head.value.as_ref().unwrap()).unwrap();
            committed = head["offset"].as_i64().unwrap();
        }
        Grant {
            at: at.clone(),
            committed: Offset(committed),
            fresh: found.is_none(),
            first: Offset(0),
            topic_id: None,
            state,
        }
    }

    /// Makes an outbox part of the log.
    fn commit(&mut self, outbox: &Outbox, mark: &str) {
        let mut outbox = outbox.clone();
        match self.sabotage {
            Some(Sabotage::PositionsTorn) => {
                outbox.positions = outbox.positions.into_iter().take(1).collect();
            }
            Some(Sabotage::ScoresTorn) => {
                let half = outbox.scores.len().div_ceil(2);
                outbox.scores.truncate(half);
            }
            Some(Sabotage::AlertsTwice) => outbox.alerts.extend(outbox.alerts.clone()),
            Some(Sabotage::AlertsReordered) => outbox.alerts.reverse(),
            _ => {}
        }
        if !outbox.state.is_empty() {
            self.state_before = self.state.clone();
        }
        let place = |log: &mut BTreeMap<TopicPartition, Committed>,
                     messages: &[Message],
                     pick: fn(&mut Committed) -> &mut Vec<Message>| {
            for message in messages {
                pick(log.get_mut(&message.cause).unwrap()).push(message.clone());
            }
        };
        place(&mut self.log, &outbox.alerts, |log| &mut log.alerts);
        place(&mut self.log, &outbox.scores, |log| &mut log.scores);
        place(&mut self.log, &outbox.dead_letters, |log| {
            &mut log.dead_letters
        });
        place(&mut self.log, &outbox.late, |log| &mut log.late);
        place(&mut self.log, &outbox.drift, |log| &mut log.drift);
        for (at, to) in &outbox.positions {
            let commit = (to.0, mark.to_owned());
            self.committed.insert(at.clone(), commit);
        }
        self.store(&outbox.state);
    }

    fn store(&mut self, entries: &[StateEntry]) {
        let is_head = |entry: &StateEntry| entry.key.ends_with(b"/head");
        for entry in entries.iter().filter(|entry| is_head(entry)) {
            let version = model_version(std::slice::from_ref(entry))
                .unwrap()
                .unwrap()
                .0;
            let before = self.state.get(&entry.key).map(std::slice::from_ref);
            let before = before.and_then(|entry| model_version(entry).unwrap());
            if before.is_some_and(|before| before.0 != version) {
                self.count("model_changes");
                if self.sabotage == Some(Sabotage::NoSnapshotAtModelChange) {
                    self.note_model(entry, version);
                    return;
                }
            }
            self.note_model(entry, version);
        }
        if self.sabotage == Some(Sabotage::SnapshotsLost) {
            return;
        }
        let torn = self.sabotage == Some(Sabotage::TornSnapshots);
        let forgetful = self.sabotage == Some(Sabotage::TombstonesLost);
        for entry in entries {
            if torn && is_head(entry) && self.state.contains_key(&entry.key) {
                continue;
            }
            match entry.value {
                Some(_) => _ = self.state.insert(entry.key.clone(), entry.clone()),
                None if forgetful => {}
                None => _ = self.state.remove(&entry.key),
            }
        }
    }

    /// What the group's offsets say of a transaction whose answer was lost.
    fn outcome(&self, marks: &Marks, positions: &Positions, mark: &str) -> Outcome {
        if self.sabotage == Some(Sabotage::LostAnswersByPosition) {
            let reached = |(at, to): (&TopicPartition, &Offset)| self.committed(at) >= Some(to.0);
            let committed = positions.iter().all(reached);
            return if committed {
                Outcome::Committed
            } else {
                Outcome::Aborted
            };
        }
        let commit = |(offset, mark): &(i64, String)| Commit {
            offset: Offset(*offset),
            metadata: metadata(mark, 3),
        };
        let found = positions
            .keys()
            .map(|at| (at.clone(), self.committed.get(at).map(commit)))
            .collect();
        marks.outcome(positions, mark, &found)
    }

    fn note_model(&mut self, entry: &StateEntry, version: u64) {
        let head: serde_json::Value =
            serde_json::from_slice(entry.value.as_ref().unwrap()).unwrap();
        let log = self.log.get_mut(&entry.at).unwrap();
        log.models.insert(head["offset"].as_i64().unwrap(), version);
    }
}

/// One member's connection.
pub struct Member<'w> {
    pub id: u64,
    pub broker: Rc<RefCell<Broker<'w>>>,
    /// The generation that it has heard of.
    generation: u64,
    held: BTreeMap<TopicPartition, Holding>,
    /// Next offset to deliver; absent until the worker has said where to begin.
    positions: BTreeMap<TopicPartition, i64>,
    pending: Vec<Grant>,
    aborted: bool,
    marks: Marks,
    /// The session begins anew: everything is given back next.
    lost: bool,
}

impl<'w> Member<'w> {
    pub fn new(id: u64, broker: Rc<RefCell<Broker<'w>>>) -> Self {
        Self {
            id,
            broker,
            generation: 0,
            held: BTreeMap::new(),
            positions: BTreeMap::new(),
            pending: Vec::new(),
            aborted: false,
            marks: Marks::new(format!("member-{id}")),
            lost: false,
        }
    }

    /// Whether the group has moved on without it.
    pub fn stale(&self) -> bool {
        self.generation != self.broker.borrow().generation
    }

    /// Hears of a rebalance: first what was lost, then what was won.
    fn hear(&mut self) -> Option<port::Input> {
        let mut broker = self.broker.borrow_mut();
        if !self.pending.is_empty() {
            return Some(port::Input::Assigned(std::mem::take(&mut self.pending)));
        }
        if self.generation == broker.generation {
            return None;
        }
        self.generation = broker.generation;
        let ours: BTreeMap<_, _> = broker
            .holdings
            .iter()
            .filter(|(_, held)| held.member == self.id)
            .map(|(at, held)| (at.clone(), *held))
            .collect();
        let lost: Vec<_> = self
            .held
            .iter()
            .filter(|(at, h)| ours.get(*at) != Some(*h))
            .map(|(at, _)| at.clone())
            .collect();
        let won: Vec<_> = ours
            .iter()
            .filter(|(at, h)| self.held.get(*at) != Some(*h))
            .map(|(at, _)| at.clone())
            .collect();
        for at in &lost {
            self.positions.remove(at);
        }
        self.marks.forget(&lost);
        self.marks.forget(&won);
        self.pending = won.iter().map(|at| broker.grant(at)).collect();
        self.held = ours;
        if !lost.is_empty() {
            return Some(port::Input::Revoked(lost));
        }
        if self.pending.is_empty() {
            return None;
        }
        Some(port::Input::Assigned(std::mem::take(&mut self.pending)))
    }

    fn fetch(&mut self) -> RecordBatch {
        let mut broker = self.broker.borrow_mut();
        let world = broker.world;
        let mut batch = RecordBatch::default();
        for _ in 0..broker.rng.gen_range(1..4) {
            let which = broker.rng.gen_range(0..world.partitions.len());
            let at = &world.partitions[which];
            let Some(position) = self.positions.get_mut(at) else {
                continue;
            };
            let run = broker.rng.gen_range(1..12);
            let from = *position;
            let ahead = world.logs[which]
                .iter()
                .filter(|input| input.offset >= from)
                .take(run);
            for input in ahead {
                if broker.sabotage == Some(Sabotage::RecordsSkipped) && broker.rng.gen_ratio(1, 100)
                {
                    continue;
                }
                let place = (Offset(input.offset), input.timestamp);
                batch.push(at, place, None, Some(&input.value), Vec::new());
                *position = input.offset + 1;
            }
        }
        batch
    }
}

impl Member<'_> {
    /// The commit of `outbox` is not answered. What became of it is found out; if it cannot be, the session begins anew.
    fn unanswered(&mut self, outbox: &Outbox, mark: &str) -> Published {
        let mut broker = self.broker.borrow_mut();
        let kind = match outbox {
            Outbox { state, .. } if state.is_empty() && written(outbox) == 0 => "lost_starts",
            _ if written(outbox) == 0 => "lost_settlements",
            _ => "lost_batches",
        };
        broker.count(kind);
        if broker.rng.r#gen() {
            broker.commit(outbox, mark);
        }
        match broker.outcome(&self.marks, &outbox.positions, mark) {
            Outcome::Committed => {
                broker.count("lost_but_committed");
                self.marks.committed(&outbox.positions, mark);
                Published::Committed
            }
            Outcome::Aborted => {
                broker.count("lost_and_aborted");
                self.aborted = true;
                Published::Aborted
            }
            Outcome::Unknown => {
                broker.count("lost_sessions");
                self.lost = true;
                Published::Lost
            }
        }
    }

    /// What a session that begins anew gives back.
    fn give_all_back(&mut self) -> port::Input {
        self.lost = false;
        self.generation = 0;
        self.positions.clear();
        let mut gone: Vec<_> = std::mem::take(&mut self.held).into_keys().collect();
        gone.retain(|at| !self.pending.iter().any(|pending| pending.at == *at));
        self.pending.clear();
        self.marks.forget(&gone);
        port::Input::Revoked(gone)
    }
}

/// Alerts, scores, drift and records sent on.
fn written(outbox: &Outbox) -> usize {
    let kinds = [
        &outbox.alerts,
        &outbox.scores,
        &outbox.dead_letters,
        &outbox.late,
        &outbox.drift,
    ];
    kinds.iter().map(|messages| messages.len()).sum()
}

impl Session for Member<'_> {
    type Fatal = Crash;

    fn next(&mut self, _until: Timestamp) -> Result<port::Input, Crash> {
        if self.lost {
            return Ok(self.give_all_back());
        }
        if let Some(input) = self.hear() {
            return Ok(input);
        }
        let batch = self.fetch();
        Ok(if batch.is_empty() {
            port::Input::Idle
        } else {
            port::Input::Batch(batch)
        })
    }

    fn publish(&mut self, outbox: &Outbox) -> Result<Published, Crash> {
        if self.lost {
            return Ok(Published::Lost);
        }
        let mark = self.marks.next();
        let shared = self.broker.clone();
        let mut broker = shared.borrow_mut();
        let sabotage = broker.sabotage;
        let luck: f64 = if broker.calm { 1.0 } else { broker.rng.r#gen() };
        let stale = self.generation != broker.generation;
        if luck < 0.06 {
            if sabotage == Some(Sabotage::OffsetsOutsideTheTransaction) {
                let commit =
                    |(at, to): (&TopicPartition, &Offset)| (at.clone(), (to.0, mark.clone()));
                let positions: Vec<_> = outbox.positions.iter().map(commit).collect();
                broker.committed.extend(positions);
            }
            broker.count("crashes_before_commit");
            return Err(Crash);
        }
        if sabotage == Some(Sabotage::StateOutsideTheTransaction) {
            let entries = outbox
                .state
                .iter()
                .map(|entry| (entry.key.clone(), entry.clone()));
            broker
                .state
                .extend(entries.filter(|(_, entry)| entry.value.is_some()));
        }
        if stale && sabotage != Some(Sabotage::NoFencing) {
            broker.count("fenced");
            self.aborted = true;
            return Ok(Published::Aborted);
        }
        if luck < 0.16 {
            broker.count("aborts");
            self.aborted = true;
            if sabotage == Some(Sabotage::OutputOutsideTheTransaction) {
                broker.commit(
                    &Outbox {
                        positions: Positions::new(),
                        state: Vec::new(),
                        ..outbox.clone()
                    },
                    &mark,
                );
            }
            if sabotage == Some(Sabotage::StateKeptAfterAbort) {
                return Ok(Published::Committed);
            }
            return Ok(Published::Aborted);
        }
        if !broker.calm && broker.rng.gen_bool(0.05) {
            drop(broker);
            return Ok(self.unanswered(outbox, &mark));
        }
        broker.commit(outbox, &mark);
        broker.count("commits");
        if outbox.scores.is_empty() && outbox.dead_letters.is_empty() && !outbox.state.is_empty() {
            broker.count("settlements");
        }
        if luck < 0.21 {
            broker.count("crashes_after_commit");
            return Err(Crash);
        }
        if luck < 0.25 && sabotage == Some(Sabotage::CommitTakenForAbort) {
            self.aborted = true;
            return Ok(Published::Aborted);
        }
        self.marks.committed(&outbox.positions, &mark);
        Ok(Published::Committed)
    }

    fn rewind(&mut self, to: &Positions) -> Result<(), Crash> {
        let after_abort = std::mem::take(&mut self.aborted);
        if after_abort && self.broker.borrow().sabotage == Some(Sabotage::NoRewindAfterAbort) {
            return Ok(());
        }
        for (at, offset) in to {
            if self.held.contains_key(at) {
                self.positions.insert(at.clone(), offset.0);
            }
        }
        Ok(())
    }
}
