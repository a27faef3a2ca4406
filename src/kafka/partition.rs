//! The partitions of one member of the group, each a state machine that reads like the protocol: assigned → restoring → live → revoked.
//!
//! The group assigns a partition; its state is read and handed to the worker, which says where reading begins; it is fetched; it is revoked and
//! gone. What is known of a partition lives and ends with it.

use std::collections::BTreeMap;

use super::context::PartitionStatistics;
use crate::stream::{Offset, Positions, TopicPartition};

/// A partition that the group assigned to this member.
#[derive(Debug)]
enum AssignedPartition {
    /// Its state has not been read.
    Assigned,
    /// The worker has its state, and may say where reading begins; if it says nothing, where the group stands.
    Restoring {
        committed: Offset,
        start: Option<Offset>,
    },
    /// It is fetched.
    Live(Live),
}

/// What is known of a partition that is fetched.
#[derive(Debug)]
struct Live {
    /// The offset after the last record handed out.
    next: Offset,
    /// Where reading goes on instead. It is sought as soon as no rebalance waits for its answer: librdkafka pauses everything until then.
    seek: Option<Offset>,
    /// Its end, as of the latest statistics.
    end: Option<Offset>,
    /// Up to where it was fetched, as of the latest statistics: past the markers of transactions, which are no records.
    fetched: Option<Offset>,
}

/// All partitions of a member.
#[derive(Debug, Default)]
pub(super) struct AssignedPartitions(BTreeMap<TopicPartition, AssignedPartition>);

impl AssignedPartitions {
    /// The group assigned these.
    pub(super) fn assign(&mut self, partitions: Vec<TopicPartition>) {
        let assigned = |at| (at, AssignedPartition::Assigned);
        self.0.extend(partitions.into_iter().map(assigned));
    }

    /// Those whose state has not been read.
    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        let unread = |state: &AssignedPartition| matches!(state, AssignedPartition::Assigned);
        let of = self.0.iter().filter(|(_, state)| unread(state));
        of.map(|(at, _)| at.clone()).collect()
    }

    /// The state of this one goes to the worker; the group stands at `committed`.
    pub(super) fn restore(&mut self, at: &TopicPartition, committed: Offset) {
        let start = None;
        let restoring = AssignedPartition::Restoring { committed, start };
        self.0.insert(at.clone(), restoring);
    }

    /// Where each of those begins that are being restored: where the worker said, or where the group stands.
    pub(super) fn starts(&self) -> Positions {
        let start = |(at, state): (&TopicPartition, &AssignedPartition)| match state {
            AssignedPartition::Restoring { committed, start } => {
                Some((at.clone(), start.unwrap_or(*committed)))
            }
            _ => None,
        };
        self.0.iter().filter_map(start).collect()
    }

    /// These are fetched from now on.
    pub(super) fn begin(&mut self, starts: Positions) {
        for (at, next) in starts {
            let live = Live {
                next,
                seek: None,
                end: None,
                fetched: None,
            };
            self.0.insert(at, AssignedPartition::Live(live));
        }
    }

    /// The worker says where reading begins, or goes on. Answers whether that makes those complete that are being restored.
    pub(super) fn rewind(&mut self, to: &Positions) -> bool {
        let mut answered = false;
        for (at, offset) in to {
            match self.0.get_mut(at) {
                Some(AssignedPartition::Restoring { start, .. }) => {
                    *start = Some(*offset);
                    answered = true;
                }
                Some(AssignedPartition::Live(live)) => {
                    if live.next != *offset || live.seek.is_some() {
                        live.seek = Some(*offset);
                    }
                }
                Some(AssignedPartition::Assigned) | None => {}
            }
        }
        let silent = |state: &AssignedPartition| {
            matches!(state, AssignedPartition::Restoring { start: None, .. })
        };
        answered && !self.0.values().any(silent)
    }

    /// Those that are fetched.
    fn live(&self) -> impl Iterator<Item = (&TopicPartition, &Live)> {
        self.0.iter().filter_map(|(at, state)| match state {
            AssignedPartition::Live(live) => Some((at, live)),
            _ => None,
        })
    }

    fn live_mut(&mut self, at: &TopicPartition) -> Option<&mut Live> {
        match self.0.get_mut(at) {
            Some(AssignedPartition::Live(live)) => Some(live),
            _ => None,
        }
    }

    /// The names of those that are fetched.
    pub(super) fn fetched(&self) -> impl Iterator<Item = &TopicPartition> {
        self.live().map(|(at, _)| at)
    }

    /// The offset after the last record handed out, of one that is fetched.
    pub(super) fn next(&self, at: &TopicPartition) -> Option<Offset> {
        match self.0.get(at) {
            Some(AssignedPartition::Live(live)) => Some(live.next),
            _ => None,
        }
    }

    /// Records up to here were handed out.
    pub(super) fn handed_out(&mut self, at: &TopicPartition, next: Offset) {
        if let Some(live) = self.live_mut(at) {
            live.next = next;
        }
    }

    /// A record of this one came while nobody could take it: it has to be fetched again.
    pub(super) fn fetch_again(&mut self, at: &TopicPartition) {
        if let Some(live) = self.live_mut(at) {
            live.seek.get_or_insert(live.next);
        }
    }

    /// Where each of those that are fetched goes on.
    pub(super) fn positions(&self) -> Positions {
        self.live()
            .map(|(at, live)| (at.clone(), live.seek.unwrap_or(live.next)))
            .collect()
    }

    /// Fetching goes on here.
    pub(super) fn go_on(&mut self, positions: &Positions) {
        for (at, next) in positions {
            if let Some(live) = self.live_mut(at) {
                (live.next, live.seek) = (*next, None);
            }
        }
    }

    /// Where fetching has to go back to.
    pub(super) fn seeks(&self) -> Positions {
        self.live()
            .filter_map(|(at, live)| Some((at.clone(), live.seek?)))
            .collect()
    }

    /// It went there.
    pub(super) fn sought(&mut self, seeks: &Positions) {
        self.go_on(seeks);
        for at in seeks.keys() {
            if let Some(live) = self.live_mut(at) {
                live.fetched = None;
            }
        }
    }

    /// Takes in statistics; `drained`: all that was fetched before them was handed out.
    pub(super) fn note(
        &mut self,
        statistics: BTreeMap<TopicPartition, PartitionStatistics>,
        drained: bool,
    ) {
        for (at, of_this) in statistics {
            if let Some(live) = self.live_mut(&at) {
                live.end = Some(of_this.end);
                if drained {
                    live.fetched = Some(of_this.fetched);
                }
            }
        }
    }

    /// Records that lie ahead, where the end is known.
    pub(super) fn lag(&self) -> BTreeMap<TopicPartition, u64> {
        self.live()
            .filter_map(|(at, live)| {
                let next = live.fetched.max(Some(live.next))?;
                let ahead = live.end?.0.saturating_sub(next.0);
                Some((at.clone(), u64::try_from(ahead).unwrap_or(0)))
            })
            .collect()
    }

    /// Those that the worker knows of.
    pub(super) fn handed_over(&self) -> Vec<TopicPartition> {
        let known = |state: &AssignedPartition| !matches!(state, AssignedPartition::Assigned);
        let of = self.0.iter().filter(|(_, state)| known(state));
        of.map(|(at, _)| at.clone()).collect()
    }

    /// The group took these back: nothing is known of them any more.
    pub(super) fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.0.retain(|at, _| !partitions.contains(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("in", partition)
    }

    fn places<const N: usize>(of: [(i32, i64); N]) -> Positions {
        of.into_iter()
            .map(|(partition, offset)| (at(partition), Offset(offset)))
            .collect()
    }

    /// Two partitions: 0 is fetched from 10 on, the state of 1 was handed over.
    fn two() -> AssignedPartitions {
        let mut all = AssignedPartitions::default();
        all.assign(vec![at(0)]);
        all.restore(&at(0), Offset(10));
        all.begin(all.starts());
        all.assign(vec![at(1)]);
        all.restore(&at(1), Offset(20));
        all
    }

    #[test]
    fn a_partition_goes_from_assigned_to_revoked() {
        let mut all = AssignedPartitions::default();
        all.assign(vec![at(0), at(1)]);
        assert_eq!(all.assigned(), [at(0), at(1)]);
        assert!(all.handed_over().is_empty(), "the worker knows of none");
        all.restore(&at(0), Offset(3));
        all.restore(&at(1), Offset(4));
        assert!(all.assigned().is_empty());
        assert_eq!(all.handed_over(), [at(0), at(1)]);
        // Not before the worker has said of all where they begin; one that it says nothing of begins where the group stands.
        assert!(!all.rewind(&places([(0, 2)])));
        assert_eq!(all.starts(), places([(0, 2), (1, 4)]));
        assert!(all.rewind(&places([(1, 1)])));
        assert_eq!(all.fetched().count(), 0);
        all.begin(all.starts());
        assert!(all.starts().is_empty());
        assert_eq!(all.positions(), places([(0, 2), (1, 1)]));
        all.revoke(&[at(0)]);
        assert_eq!(all.next(&at(0)), None);
        assert_eq!(all.handed_over(), [at(1)]);
    }

    #[test]
    fn only_what_is_fetched_is_sought() {
        let mut all = two();
        all.handed_out(&at(0), Offset(15));
        all.handed_out(&at(1), Offset(99));
        assert!(all.seeks().is_empty());
        all.rewind(&places([(0, 15), (2, 7)]));
        assert!(all.seeks().is_empty(), "it stands there");
        all.rewind(&places([(0, 12)]));
        assert_eq!(all.seeks(), places([(0, 12)]));
        // The last word counts, also where it is the place that was read up to.
        all.rewind(&places([(0, 15)]));
        assert_eq!(all.seeks(), places([(0, 15)]));
        all.rewind(&places([(0, 12)]));
        all.fetch_again(&at(0));
        assert_eq!(all.seeks(), places([(0, 12)]));
        all.sought(&all.seeks());
        assert_eq!(all.next(&at(0)), Some(Offset(12)));
        assert!(all.seeks().is_empty());
        all.fetch_again(&at(0));
        assert_eq!(all.seeks(), places([(0, 12)]));
    }

    #[test]
    fn what_an_abort_goes_back_to_is_not_lost_when_all_are_assigned_again() {
        let mut all = two();
        all.handed_out(&at(0), Offset(15));
        all.rewind(&places([(0, 10)]));
        let positions = all.positions();
        assert_eq!(positions, places([(0, 10)]));
        all.go_on(&positions);
        assert_eq!(all.next(&at(0)), Some(Offset(10)));
        assert!(all.seeks().is_empty());
    }

    #[test]
    fn lag_counts_no_markers_and_ends_with_the_partition() {
        let mut all = two();
        let statistics = |end, fetched| {
            let of_this = PartitionStatistics {
                end: Offset(end),
                fetched: Offset(fetched),
            };
            BTreeMap::from([(at(0), of_this), (at(1), of_this)])
        };
        assert!(all.lag().is_empty(), "the end is not known");
        all.note(statistics(30, 12), false);
        assert_eq!(all.lag(), BTreeMap::from([(at(0), 20)]));
        // Fetched up to 30 and all of it handed out: what lies between is no record.
        all.note(statistics(30, 30), true);
        assert_eq!(all.lag(), BTreeMap::from([(at(0), 0)]));
        all.rewind(&places([(0, 9)]));
        all.sought(&all.seeks());
        assert_eq!(all.lag(), BTreeMap::from([(at(0), 21)]));
        all.revoke(&[at(0)]);
        all.assign(vec![at(0)]);
        all.restore(&at(0), Offset(30));
        all.begin(all.starts());
        assert!(all.lag().is_empty(), "known of another assignment");
    }
}
