//! What a partition without state learns before it begins.
//!
//! What a single feature does at which time takes days to learn, and no training learns it. So a group that begins amid a log reads what lies
//! before its beginning first: that changes state like any other record, and emits nothing. What goes on where it begins was told to nobody, and is
//! forgotten there; what is still strange then opens by the evidence that it has gathered. A batch is cut at the beginning, so that it does not
//! matter how records came in batches.

use super::Pipeline;
use super::state::{KeyState, PartitionState, Storm};
use crate::detect::absence::Absences;
use crate::detect::drift::Drift;
use crate::detect::silence::Rhythm;
use crate::stream::{Offset, TopicPartition};

/// Records before its beginning that a partition without state learns from, at most: two weeks of ten keys that send once a minute.
const LOOKBACK_RECORDS: u64 = 200_000;

impl Pipeline {
    /// From how many records before its beginning a partition without state learns: none where a model judges, which knows its history.
    pub(super) fn lookback(&self) -> u64 {
        if self.params.by_season(self.columns.len()) {
            LOOKBACK_RECORDS
        } else {
            0
        }
    }

    /// The partitions that still learn from records before their beginning.
    pub fn looking_back(&self) -> impl Iterator<Item = &TopicPartition> {
        let of = self.partitions.iter().filter(|(_, p)| p.looking_back);
        of.map(|(at, _)| at)
    }

    /// Nothing lies between the last record that was read of a partition and its beginning: it has learnt what there is.
    pub fn end_lookback(&mut self, at: &TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(at).filter(|p| p.looking_back) {
            partition.begin_live();
        }
    }
}

impl PartitionState {
    /// Begins so many records before the first that counts, or at the `first` that there is.
    pub fn look_back(&mut self, records: u64, first: Offset) {
        let earliest = Offset(self.emit_from.0.saturating_sub_unsigned(records));
        self.head.position = earliest.max(first).min(self.emit_from);
        self.looking_back = self.replaying();
    }

    /// Ends what was learnt from records before the first that counts. Nothing was told of what went on there, so nobody waits for its end: what is
    /// still strange opens with the next record, by the evidence that was gathered.
    pub fn begin_live(&mut self) {
        self.looking_back = false;
        self.head.position = self.head.position.max(self.emit_from);
        self.head.storm = Storm::default();
        let era = self.head.clock.era;
        #[expect(clippy::iter_over_hash_type, reason = "each is set alike")]
        for entry in self.keys.values_mut() {
            entry.state.begin_live(era);
        }
    }
}

impl KeyState {
    /// Forgets what goes on, of which nobody was told; see [`PartitionState::begin_live`]. A key that was silent then has no rhythm until it sends again.
    fn begin_live(&mut self, era: u32) {
        self.episodes.own.open = None;
        self.episodes.own.closed = None;
        self.episodes.within = None;
        if self.silence.take().is_some() {
            self.rhythm = Rhythm::begin(self.rhythm.last, era);
        }
        self.silence_suppressed = false;
        if self.absences.open().next().is_some() {
            self.absences = Absences::default();
        }
        if self.drift.drifting {
            self.drift = Drift::default();
        }
    }
}
