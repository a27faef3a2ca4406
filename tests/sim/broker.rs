//! The pretend broker: logs, a consumer group with generations, transactions, and the faults that a real one has.

use std::collections::{BTreeMap, BTreeSet};

use anomalyd::detect::AlertParams;
use anomalyd::kafka::mark::{Commit, Marks, Outcome, began};
use anomalyd::kafka::start_offset::Start;
use anomalyd::kafka::start_offset::{Known, begin};
use anomalyd::model::card::Exclusion;
use anomalyd::pipeline::{
    Outbox, PartitionAssignment, StateEntry, as_of, model_version, owner, quarantine,
};
use anomalyd::stream::{Offset, Positions, TopicPartition};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Counts;
use crate::committed::{Committed, Gaps};
use crate::faults::Sabotage;
use crate::world::{Input, World};

/// What brokers have of one partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The oldest offset that is left.
    pub first: i64,
    /// How many records were produced.
    pub produced: usize,
}

/// Who holds a partition, since which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub member: u64,
    pub since: u64,
}

pub struct Broker<'w> {
    pub world: &'w World,
    pub rng: ChaCha8Rng,
    pub sabotage: Option<Sabotage>,
    pub calm: bool,
    pub counts: Counts,
    pub log: BTreeMap<TopicPartition, Committed>,
    /// What was committed when the offsets expired.
    pub expired: Option<BTreeMap<TopicPartition, Committed>>,
    pub gaps: Gaps,
    pub stored: Vec<Stored>,
    /// How many partitions there were when the group began, and are now.
    pub known: usize,
    pub present: usize,
    /// Where the next to be given a partition without offset and state should begin.
    pub begins: BTreeMap<TopicPartition, i64>,
    /// Members that have discarded a partition's state, which is not committed.
    pub discards: BTreeSet<(u64, TopicPartition)>,
    /// What the group has committed.
    pub committed: BTreeMap<TopicPartition, Commit>,
    pub state: BTreeMap<Vec<u8>, StateEntry>,
    /// The same before the last transaction that wrote to it.
    pub state_before: BTreeMap<Vec<u8>, StateEntry>,
    pub generation: u64,
    pub members: Vec<u64>,
    pub holdings: BTreeMap<TopicPartition, Holding>,
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
            expired: None,
            gaps: Gaps::default(),
            stored: vec![Stored::default(); world.partitions.len()],
            known: world.first_partitions,
            present: world.first_partitions,
            begins: BTreeMap::new(),
            discards: BTreeSet::new(),
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
        for at in &self.world.partitions[..self.present] {
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

    /// Whether everything was produced, read and committed.
    pub fn done(&self) -> bool {
        let world = self.world;
        self.present == world.partitions.len()
            && (0..self.present).all(|which| {
                self.stored[which].produced == world.logs[which].len()
                    && self.committed(&world.partitions[which]) == Some(self.end(which))
            })
    }

    pub fn committed(&self, at: &TopicPartition) -> Option<i64> {
        self.committed.get(at).map(|commit| commit.offset.0)
    }

    /// The next offset to be written.
    pub fn end(&self, which: usize) -> i64 {
        let produced = self.stored[which].produced;
        let last = produced.checked_sub(1);
        last.map_or(0, |last| self.world.logs[which][last].offset + 1)
    }

    /// Time passes: records are produced, partitions added, records deleted.
    pub fn turn(&mut self) {
        let which = self.rng.gen_range(0..self.present);
        if self.calm || self.rng.gen_bool(0.3) {
            let more = if self.calm {
                1000
            } else {
                self.rng.gen_range(1..10)
            };
            let all = self.world.logs[which].len();
            self.stored[which].produced = all.min(self.stored[which].produced + more);
        }
        let read = |at| self.committed.contains_key(at);
        let all_read = self.world.partitions[..self.present].iter().all(read);
        if self.present < self.world.partitions.len()
            && all_read
            && !self.members.is_empty()
            && (self.calm || self.rng.gen_bool(0.05))
        {
            // It has records before anyone knows of it.
            self.stored[self.present].produced = self.rng.gen_range(0..30);
            self.present += 1;
            self.count("added_partitions");
            self.rebalance();
        }
        if self.world.deletes && !self.calm && self.rng.gen_bool(0.01) {
            self.delete(which);
        }
    }

    /// Deletes records that were not read, or that must be replayed.
    fn delete(&mut self, which: usize) {
        let at = &self.world.partitions[which];
        let from = self.committed(at).unwrap_or(0);
        let to = from + self.rng.gen_range(-10..15);
        let end = self.end(which);
        let stored = &mut self.stored[which];
        stored.first = stored.first.max(to.min(end));
        self.count("deletions");
    }

    /// For each partition the offsets that are committed, as training finds them.
    pub fn spans(&self) -> Vec<(i64, i64)> {
        let span = |which: usize| {
            let committed = self.committed(&self.world.partitions[which]);
            (self.first(which), committed.unwrap_or(0))
        };
        (0..self.present).map(span).collect()
    }

    /// The records of spans that lie in no episode.
    pub fn history(&self, spans: &[(i64, i64)]) -> Vec<&'w Input> {
        let all: Vec<StateEntry> = self.state.values().cloned().collect();
        let flagged = quarantine(&all, &BTreeMap::new());
        let world = self.world;
        let mut records = Vec::new();
        for (which, (from, to)) in spans.iter().enumerate() {
            let at = &world.partitions[which];
            let normal = |input: &&Input| {
                let lies = |e: &Exclusion| {
                    e.at == *at
                        && e.from.0 <= input.offset
                        && e.to.is_none_or(|to| input.offset < to.0)
                };
                (*from..*to).contains(&input.offset) && !flagged.iter().any(lies)
            };
            records.extend(world.logs[which].iter().filter(normal));
        }
        records
    }

    /// The oldest offset of a partition.
    pub fn first(&self, which: usize) -> i64 {
        self.stored[which].first
    }

    /// The group's offsets are gone: it had no member for long. What was committed since its state stands is told again.
    pub fn expire(&mut self) {
        self.count("expired_offsets");
        self.committed.clear();
        self.discards.clear();
        self.known = self.present;
        self.expired = Some(self.log.clone());
        for at in self.world.partitions.clone() {
            let log = self.log.remove(&at).unwrap();
            let log = match as_of(&self.state_of(&at)).unwrap() {
                Some(as_of) => {
                    let (records, until) = (log.records(), log.until);
                    let log = log.back_at(as_of.offset.0);
                    self.gaps.again += until - log.until - (records - log.records());
                    if records > log.records() {
                        self.count("emitted_again");
                    }
                    log
                }
                None => Committed::default(),
            };
            self.log.insert(at, log);
        }
    }

    fn state_of(&self, at: &TopicPartition) -> Vec<StateEntry> {
        let all = if self.sabotage == Some(Sabotage::StateReadTooShort) {
            &self.state_before
        } else {
            &self.state
        };
        all.iter()
            .filter(|(key, _)| owner("sim", key).as_ref() == Some(at))
            .map(|(_, entry)| entry.clone())
            .collect()
    }

    /// A member could not use a partition's state; or could.
    pub fn discarded(&mut self, member: u64, at: &TopicPartition, discarded: bool) {
        if discarded {
            self.count("discards");
            self.discards.insert((member, at.clone()));
        } else {
            self.discards.remove(&(member, at.clone()));
        }
    }

    /// What is known of a partition, as `kafka::restore` finds it out.
    fn known(&self, which: usize, state: &[StateEntry]) -> Known {
        let at = &self.world.partitions[which];
        let present = i32::try_from(self.present).unwrap();
        let began = began(self.committed.values(), present);
        Known {
            committed: self.committed.get(at).map(|commit| commit.offset),
            first: Offset(self.first(which)),
            end: Offset(self.end(which)),
            as_of: as_of(state).unwrap().map(|as_of| as_of.offset),
            anew: false,
            added: began <= at.partition.0,
        }
    }

    /// What a new owner is told of the topic's beginning, to be written beside its commits.
    pub fn began_with(&self) -> i32 {
        began(
            self.committed.values(),
            i32::try_from(self.present).unwrap(),
        )
    }

    /// Where a partition of which nothing is known begins, told without looking at commits.
    fn must_begin(&self, which: usize) -> i64 {
        match self.world.start {
            _ if which >= self.known => 0,
            Start::Earliest => self.first(which),
            Start::Latest => self.end(which),
        }
    }

    pub fn assignment(&mut self, at: &TopicPartition) -> PartitionAssignment {
        let which = usize::try_from(at.partition.0).unwrap();
        let mut state = self.state_of(at);
        if self.sabotage == Some(Sabotage::ReplayByPresentAlerts) {
            let heads = state
                .iter_mut()
                .filter(|entry| entry.key.ends_with(b"/head"));
            heads.for_each(|head| *head = without_alerts(head));
        }
        let mut known = self.known(which, &state);
        if known.committed.is_none() && known.as_of.is_none() {
            self.begins.insert(at.clone(), self.must_begin(which));
        }
        match self.sabotage {
            Some(Sabotage::AddedPartitionsAsTheFirst) => known.added = false,
            Some(Sabotage::ExpiredOffsetsForgetState) => known.as_of = None,
            Some(Sabotage::DeletionsUnseen) => known.first = Offset(0),
            _ => {}
        }
        let (Offset(mut committed), fresh) = begin(at, known, self.world.start);
        if self.sabotage == Some(Sabotage::GapsUncounted) {
            committed = committed.max(known.first.0);
        }
        if self.sabotage == Some(Sabotage::EmissionDuringReplay)
            && let Some(head) = state.iter().find(|entry| entry.key.ends_with(b"/head"))
        {
            let head: serde_json::Value =
                serde_json::from_slice(head.value.as_ref().unwrap()).unwrap();
            committed = head["offset"].as_i64().unwrap();
        }
        PartitionAssignment {
            at: at.clone(),
            committed: Offset(committed),
            fresh,
            first: known.first,
            topic_id: None,
            state,
        }
    }

    /// Makes an outbox of `member` part of the log. Answers how many offsets it may have skipped.
    pub fn commit(&mut self, member: u64, outbox: &Outbox, metadata: &str) -> i64 {
        let gap = self.gap(outbox);
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
        for alert in &outbox.alerts {
            self.log_of(&alert.input.at).alerts.push(alert.clone());
        }
        for score in &outbox.scores {
            self.log_of(&score.input.at).scores.push(score.clone());
        }
        for letter in &outbox.dead_letters {
            self.log_of(&letter.at).dead_letters.push(letter.clone());
        }
        for letter in &outbox.late {
            self.log_of(&letter.at).late.push(letter.clone());
        }
        for drift in &outbox.drift {
            self.log_of(&drift.input.at).drift.push(drift.clone());
        }
        self.commit_positions(&outbox, metadata);
        for (at, to) in &outbox.positions {
            let saved = outbox.state.iter().any(|entry| entry.at == *at);
            let discards = saved && self.discards.remove(&(member, at.clone()));
            let log = self.log.get_mut(at).unwrap();
            log.begun = log.begun.or_else(|| self.begins.get(at).copied());
            let emitted = log.count();
            if discards {
                log.calm_until.get_or_insert(log.until);
            }
            if log.calm_until == Some(to.0) {
                // What a discard says is not of before.
                log.emitted.entry(to.0).or_insert(emitted);
            } else {
                log.emitted.insert(to.0, emitted);
            }
            log.until = to.0;
        }
        self.store(&outbox.state);
        // Where a partition begins skips nothing that could go unheard.
        let begins = outbox.state.is_empty() && written(&outbox) == 0;
        if begins { 0 } else { gap }
    }

    fn log_of(&mut self, at: &TopicPartition) -> &mut Committed {
        self.log.get_mut(at).unwrap()
    }

    /// Offsets that an outbox goes past without a word.
    fn gap(&self, outbox: &Outbox) -> i64 {
        let emitted = outbox.scores.len() + outbox.dead_letters.len() + outbox.late.len();
        let emitted = i64::try_from(emitted).unwrap();
        let from =
            |at: &TopicPartition| self.committed(at).or_else(|| self.begins.get(at).copied());
        let past = |(at, to): (&TopicPartition, &Offset)| to.0 - from(at).unwrap_or(to.0);
        outbox.positions.iter().map(past).sum::<i64>() - emitted
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
            let before = self.state.get(&entry.key).map(alerts_of);
            if before.is_some_and(|before| before != alerts_of(entry)) {
                self.count("alert_changes");
                if self.sabotage == Some(Sabotage::NoSnapshotAtAlertsChange) {
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
    pub fn outcome(&self, marks: &Marks, positions: &Positions, mark: &str) -> Outcome {
        if self.sabotage == Some(Sabotage::LostAnswersByPosition) {
            let reached = |(at, to): (&TopicPartition, &Offset)| self.committed(at) >= Some(to.0);
            let committed = positions.iter().all(reached);
            return if committed {
                Outcome::Committed
            } else {
                Outcome::Aborted
            };
        }
        let found = positions
            .keys()
            .map(|at| (at.clone(), self.committed.get(at).cloned()))
            .collect();
        marks.outcome(positions, mark, &found)
    }

    fn note_model(&mut self, entry: &StateEntry, version: u64) {
        let head: serde_json::Value =
            serde_json::from_slice(entry.value.as_ref().unwrap()).unwrap();
        let log = self.log.get_mut(&entry.at).unwrap();
        let from = head["offset"].as_i64().unwrap();
        log.models.insert(from, version);
        log.alerts_by.insert(from, alerts_of(entry));
    }

    /// Commits positions beside a transaction.
    pub fn commit_positions(&mut self, outbox: &Outbox, metadata: &str) {
        for (at, to) in &outbox.positions {
            let commit = Commit {
                offset: *to,
                metadata: metadata.to_owned(),
            };
            self.committed.insert(at.clone(), commit);
        }
    }

    /// Writes state beside a transaction.
    pub fn write_state(&mut self, outbox: &Outbox) {
        let entries = outbox.state.iter().filter(|entry| entry.value.is_some());
        let entries = entries.map(|entry| (entry.key.clone(), entry.clone()));
        self.state.extend(entries);
    }
}

/// What alerts are due by, as a head says.
fn alerts_of(head: &StateEntry) -> AlertParams {
    let head: serde_json::Value = serde_json::from_slice(head.value.as_ref().unwrap()).unwrap();
    serde_json::from_value(head["alerts"].clone()).unwrap()
}

/// A head as programs wrote it that knew of no changes, with its seal.
fn without_alerts(head: &StateEntry) -> StateEntry {
    let read: serde_json::Value = serde_json::from_slice(head.value.as_ref().unwrap()).unwrap();
    let mut fields = read.as_object().unwrap().clone();
    fields.remove("alerts");
    fields.remove("seal");
    let text = serde_json::Value::Object(fields.clone()).to_string();
    let seal = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    fields.insert("seal".into(), format!("{seal:016x}").into());
    StateEntry {
        value: Some(serde_json::Value::Object(fields).to_string().into_bytes()),
        ..head.clone()
    }
}

/// Alerts, scores, drift and records sent on.
pub fn written(outbox: &Outbox) -> usize {
    let letters = outbox.dead_letters.len() + outbox.late.len();
    outbox.alerts.len() + outbox.scores.len() + letters + outbox.drift.len()
}
