//! What a worker knows of each partition that it holds, beside the pipeline's state of it: it comes and goes with the assignment.

use std::collections::BTreeMap;

use crate::pipeline::PartitionAssignment;
use crate::record::RecordBatch;
use crate::stream::{Offset, Positions, TopicPartition};

/// One partition.
#[derive(Clone, Copy, Debug)]
struct HeldPartition {
    /// Where its next record lies that was not consumed before.
    unread: Offset,
    /// Where it begins, while that is not committed, and where reading begins: behind what was deleted, which the first snapshot counts.
    fresh: Option<(Offset, Offset)>,
    /// Where it stood when it was last looked at whether records come.
    stood: Option<Offset>,
}

/// All that a worker holds.
#[derive(Debug, Default)]
pub(super) struct HeldPartitions(BTreeMap<TopicPartition, HeldPartition>);

impl HeldPartitions {
    /// Takes one over.
    pub(super) fn assign(&mut self, assignment: &PartitionAssignment) {
        let from = assignment.committed.max(assignment.first);
        let held = HeldPartition {
            unread: from,
            fresh: assignment.fresh.then_some((assignment.committed, from)),
            stood: None,
        };
        self.0.insert(assignment.at.clone(), held);
    }

    /// Gives one back.
    pub(super) fn revoke(&mut self, at: &TopicPartition) {
        self.0.remove(at);
    }

    /// Where partitions begin that is not committed yet. Those that stand beyond it, as `here` says, have committed more.
    pub(super) fn fresh(&mut self, here: &Positions) -> Positions {
        let mut begins = Positions::new();
        for (at, held) in &mut self.0 {
            let stands = |from: &Offset| here.get(at).is_some_and(|here| here <= from);
            held.fresh = held.fresh.filter(|(_, from)| stands(from));
            begins.extend(held.fresh.map(|(begin, _)| (at.clone(), begin)));
        }
        begins
    }

    /// Positions of these partitions are committed: where they begin, or more. Never to be followed by a commit of where they begin.
    pub(super) fn begun(&mut self, committed: &Positions) {
        for at in committed.keys() {
            if let Some(held) = self.0.get_mut(at) {
                held.fresh = None;
            }
        }
    }

    /// Where partitions stood when this was last asked; they stand `here` now.
    pub(super) fn stood(&mut self, here: &Positions) -> Positions {
        let mut before = Positions::new();
        for (at, held) in &mut self.0 {
            let stood = std::mem::replace(&mut held.stood, here.get(at).copied());
            before.extend(stood.map(|stood| (at.clone(), stood)));
        }
        before
    }

    /// How many records of a batch of which all before `to` was committed had not been consumed before. By their offsets, not by what became of
    /// them: the two are compared by whoever watches.
    pub(super) fn consume(&mut self, batch: &RecordBatch, to: &Positions) -> u64 {
        let mut consumed = 0;
        let sources = batch.sources();
        let ends: Vec<Option<&Offset>> = sources.iter().map(|at| to.get(at)).collect();
        let unread = |at| self.0.get(at).map(|held| held.unread);
        let mut next: Vec<Option<Offset>> = sources.iter().map(unread).collect();
        for record in batch.records() {
            if let Some(unread) = next[record.source]
                .as_mut()
                .filter(|next| **next <= record.offset)
                && ends[record.source].is_some_and(|end| record.offset < *end)
            {
                *unread = record.offset.next();
                consumed += 1;
            }
        }
        for (at, next) in sources.iter().zip(next) {
            if let (Some(held), Some(next)) = (self.0.get_mut(at), next) {
                held.unread = next;
            }
        }
        consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> TopicPartition {
        TopicPartition::new("in", 0)
    }

    fn here(offset: i64) -> Positions {
        Positions::from([(at(), Offset(offset))])
    }

    /// One that the group begins at 2, of which all before 5 was deleted.
    fn held() -> HeldPartitions {
        let mut all = HeldPartitions::default();
        all.assign(&PartitionAssignment {
            at: at(),
            committed: Offset(2),
            fresh: true,
            first: Offset(5),
            topic_id: None,
            state: Vec::new(),
        });
        all
    }

    #[test]
    fn a_beginning_is_committed_until_more_is() {
        let mut all = held();
        assert_eq!(all.fresh(&here(5)), here(2));
        assert_eq!(all.fresh(&here(5)), here(2), "it was not committed");
        all.begun(&Positions::new());
        assert_eq!(all.fresh(&here(5)), here(2), "that was of others");
        // A snapshot that only counts what was deleted commits more while nothing moves.
        all.begun(&here(5));
        assert!(all.fresh(&here(5)).is_empty());
        let mut all = held();
        assert!(
            all.fresh(&here(6)).is_empty(),
            "later offsets are committed"
        );
        assert!(all.fresh(&here(5)).is_empty());
    }

    #[test]
    fn what_is_known_goes_with_the_partition() {
        let mut all = held();
        assert!(all.stood(&here(5)).is_empty());
        assert_eq!(all.stood(&here(6)), here(5));
        all.revoke(&at());
        assert!(all.fresh(&here(5)).is_empty());
        all = held();
        assert!(all.stood(&here(6)).is_empty(), "of another assignment");
    }
}
