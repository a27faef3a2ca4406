//! A member of the pretend broker's group: what workers take for their session.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anomalyd::kafka::mark::{Marks, Outcome, metadata};
use anomalyd::pipeline::{Outbox, PartitionAssignment};
use anomalyd::port::{self, Published, Session};
use anomalyd::record::RecordBatch;
use anomalyd::stream::{Offset, Positions, TopicPartition};
use anomalyd::time::Timestamp;
use rand::Rng;

use crate::broker::{Broker, Holding, written};
use crate::faults::Sabotage;

/// The process died, or was killed.
#[derive(Debug, thiserror::Error)]
#[error("crashed")]
pub struct Crash;

/// One member's connection.
pub struct Member<'w> {
    pub id: u64,
    pub broker: Rc<RefCell<Broker<'w>>>,
    /// The generation that it has heard of.
    generation: u64,
    held: BTreeMap<TopicPartition, Holding>,
    /// Next offset to deliver; absent until the worker has said where to begin.
    positions: BTreeMap<TopicPartition, i64>,
    pending: Vec<PartitionAssignment>,
    aborted: bool,
    marks: Marks,
    /// How many partitions there were when the group began.
    began_with: i32,
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
            began_with: 0,
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
        if !won.is_empty() {
            self.began_with = broker.began_with();
        }
        self.pending = won.iter().map(|at| broker.assignment(at)).collect();
        self.held = ours;
        if !lost.is_empty() {
            return Some(port::Input::Revoked(lost));
        }
        if self.pending.is_empty() {
            return None;
        }
        Some(port::Input::Assigned(std::mem::take(&mut self.pending)))
    }

    /// The oldest records of partitions whose next ones were deleted.
    fn deleted_unread(&mut self) -> Positions {
        let mut broker = self.broker.borrow_mut();
        let mut oldest = Positions::new();
        for (at, position) in &mut self.positions {
            let first = broker.first(usize::try_from(at.partition.0).unwrap());
            if *position < first && broker.sabotage != Some(Sabotage::DeletionsUnseen) {
                *position = first;
                oldest.insert(at.clone(), Offset(first));
            }
        }
        if !oldest.is_empty() {
            broker.count("offset_out_of_range");
        }
        oldest
    }

    fn fetch(&mut self) -> RecordBatch {
        let mut broker = self.broker.borrow_mut();
        let world = broker.world;
        let mut batch = RecordBatch::default();
        for _ in 0..broker.rng.gen_range(1..4) {
            let present = broker.present;
            let which = broker.rng.gen_range(0..present);
            let at = &world.partitions[which];
            let Some(position) = self.positions.get_mut(at) else {
                continue;
            };
            let run = broker.rng.gen_range(1..12);
            let (from, first) = (*position, broker.first(which));
            let ahead = world.logs[which][..broker.stored[which].produced]
                .iter()
                .filter(|input| input.offset >= from.max(first))
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
        let metadata = metadata(mark, self.began_with);
        let shared = self.broker.clone();
        let mut broker = shared.borrow_mut();
        let kind = match outbox {
            Outbox { state, .. } if state.is_empty() && written(outbox) == 0 => "lost_starts",
            _ if written(outbox) == 0 => "lost_idle_snapshots",
            _ => "lost_batches",
        };
        broker.count(kind);
        let mut gap = 0;
        if broker.rng.r#gen() {
            gap = broker.commit(self.id, outbox, &metadata);
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
                broker.gaps.unheard += gap;
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

impl Session for Member<'_> {
    type Fatal = Crash;

    fn next(&mut self, _until: Timestamp) -> Result<port::Input, Crash> {
        if self.lost {
            return Ok(self.give_all_back());
        }
        if let Some(input) = self.hear() {
            return Ok(input);
        }
        let oldest = self.deleted_unread();
        if !oldest.is_empty() {
            return Ok(port::Input::OffsetOutOfRange(oldest));
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
        let metadata = metadata(&mark, self.began_with);
        let shared = self.broker.clone();
        let mut broker = shared.borrow_mut();
        let sabotage = broker.sabotage;
        let luck: f64 = if broker.calm { 1.0 } else { broker.rng.r#gen() };
        let stale = self.generation != broker.generation;
        if luck < 0.06 {
            if sabotage == Some(Sabotage::OffsetsOutsideTheTransaction) {
                broker.commit_positions(outbox, &metadata);
            }
            broker.count("crashes_before_commit");
            return Err(Crash);
        }
        if sabotage == Some(Sabotage::StateOutsideTheTransaction) {
            broker.write_state(outbox);
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
                    self.id,
                    &Outbox {
                        positions: Positions::new(),
                        state: Vec::new(),
                        ..outbox.clone()
                    },
                    &metadata,
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
        let gap = broker.commit(self.id, outbox, &metadata);
        broker.count("commits");
        if outbox.scores.is_empty() && outbox.dead_letters.is_empty() && !outbox.state.is_empty() {
            broker.count("idle_snapshots");
        }
        if luck < 0.21 {
            broker.count("crashes_after_commit");
            broker.gaps.unheard += gap;
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
