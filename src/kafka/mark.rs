//! How a transaction is known again: each writes a mark of its own into the metadata of the offsets that it commits.
//!
//! A commit whose answer was lost is asked for by its mark. Positions alone prove nothing: a snapshot of a quiet partition commits the offset
//! that is committed already, and a partition's next owner may have gone past a transaction that was never committed.
//!
//! The same metadata says how many partitions the topic had when the group began to read it, so that one that is added later is not taken for
//! one that had nothing committed yet.

use std::collections::BTreeMap;

use crate::stream::{Offset, Positions, TopicPartition};

/// What the group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The next record to read.
    pub offset: Offset,
    /// What was written beside it: [`metadata`]'s, or someone else's.
    pub metadata: String,
}

/// What is written beside an offset: the mark of its transaction, and the topic's number of partitions when the group began.
pub fn metadata(mark: &str, began_with: i32) -> String {
    format!("{began_with} {mark}")
}

/// The topic's number of partitions when the group began, if `metadata` was written by [`metadata`].
pub fn began_with(metadata: &str) -> Option<i32> {
    metadata.split_once(' ')?.0.parse().ok()
}

/// How many partitions a topic of now `count` had when the group began to read it: where something is committed, whoever did so wrote it down; if they
/// did not, all that has no offset is new.
pub fn began<'a>(commits: impl Iterator<Item = &'a Commit>, count: i32) -> i32 {
    commits
        .map(|commit| began_with(&commit.metadata).unwrap_or(0))
        .min()
        .unwrap_or(count)
}

/// The mark beside a commit, if it was written by [`metadata`].
fn mark_of(commit: &Commit) -> Option<&str> {
    Some(commit.metadata.split_once(' ')?.1)
}

/// What became of a transaction whose commit was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its mark is in the log.
    Committed,
    /// What was committed before it is there still.
    Aborted,
    /// Neither: somebody else has committed since, or nothing is known of what was committed before.
    Unknown,
}

/// The marks of one producer's transactions.
#[derive(Clone, Debug)]
pub struct Marks {
    origin: String,
    count: u64,
    /// The mark of the last transaction that is known to have been committed, for each partition.
    last: BTreeMap<TopicPartition, String>,
}

impl Marks {
    /// Marks that nobody else makes: `origin` is unique among all producers there ever were.
    pub fn new(origin: String) -> Self {
        Self {
            origin,
            count: 0,
            last: BTreeMap::new(),
        }
    }

    /// The mark of the next transaction.
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: a counter that never ends"
    )]
    pub fn next(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.origin, self.count)
    }

    /// Partitions that came or went: others commit for them.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        self.last.retain(|at, _| !partitions.contains(at));
    }

    /// The transaction of `mark`, which committed `positions`, is in the log.
    pub fn committed(&mut self, positions: &Positions, mark: &str) {
        for at in positions.keys() {
            self.last.insert(at.clone(), mark.to_owned());
        }
    }

    /// What became of the transaction of `mark`, which was to commit `positions`, when the group's commits are `found` and none is pending.
    pub fn outcome(
        &self,
        positions: &Positions,
        mark: &str,
        found: &BTreeMap<TopicPartition, Option<Commit>>,
    ) -> Outcome {
        let all = |holds: &dyn Fn(&TopicPartition, Option<&str>) -> bool| {
            let mark_at = |at| mark_of(found.get(at)?.as_ref()?);
            !positions.is_empty() && positions.keys().all(|at| holds(at, mark_at(at)))
        };
        if all(&|_, found| found == Some(mark)) {
            Outcome::Committed
        } else if all(&|at, found| found.is_some() && found == self.last.get(at).map(|m| &**m)) {
            Outcome::Aborted
        } else {
            Outcome::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("in", partition)
    }

    fn found(commits: &[(i32, i64, &str)]) -> BTreeMap<TopicPartition, Option<Commit>> {
        let commit = |offset, mark| Commit {
            offset: Offset(offset),
            metadata: metadata(mark, 3),
        };
        commits
            .iter()
            .map(|(partition, offset, mark)| (at(*partition), Some(commit(*offset, mark))))
            .collect()
    }

    #[test]
    fn a_transaction_is_known_by_its_mark_and_not_by_where_it_stands() {
        let mut marks = Marks::new("us".to_owned());
        let positions = Positions::from([(at(0), Offset(7)), (at(1), Offset(9))]);
        let first = marks.next();
        let outcome = |marks: &Marks, mark: &str, commits: &[(i32, i64, &str)]| {
            marks.outcome(&positions, mark, &found(commits))
        };
        assert_eq!(
            outcome(&marks, &first, &[(0, 7, &first), (1, 9, &first)]),
            Outcome::Committed
        );
        // Nothing is known of what was there before: not even that nothing was.
        assert_eq!(outcome(&marks, &first, &[]), Outcome::Unknown);
        assert_eq!(
            outcome(&marks, &first, &[(0, 7, "them-1"), (1, 9, "them-1")]),
            Outcome::Unknown
        );
        marks.committed(&positions, &first);
        // A snapshot of the same positions: the offsets are the same whether it was committed or not.
        let second = marks.next();
        assert_ne!(first, second);
        assert_eq!(
            outcome(&marks, &second, &[(0, 7, &first), (1, 9, &first)]),
            Outcome::Aborted
        );
        assert_eq!(
            outcome(&marks, &second, &[(0, 7, &second), (1, 9, &second)]),
            Outcome::Committed
        );
        // Whoever took a partition over went past it.
        assert_eq!(
            outcome(&marks, &second, &[(0, 12, "them-3"), (1, 9, &first)]),
            Outcome::Unknown
        );
        assert_eq!(
            outcome(&marks, &second, &[(0, 12, "them-3"), (1, 9, &second)]),
            Outcome::Unknown
        );
        marks.forget(&[at(0)]);
        assert_eq!(
            outcome(&marks, &second, &[(0, 7, &first), (1, 9, &first)]),
            Outcome::Unknown
        );
    }

    #[test]
    fn a_transaction_that_commits_nothing_is_not_known() {
        let marks = Marks::new("us".to_owned());
        let none = marks.outcome(&Positions::new(), "us-1", &found(&[]));
        assert_eq!(none, Outcome::Unknown);
    }

    #[test]
    fn what_others_wrote_beside_an_offset_says_nothing() {
        assert_eq!(began_with(&metadata("m-1", 12)), Some(12));
        for foreign in ["", "x", "a b", "é"] {
            assert_eq!(began_with(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_group_began_with_the_partitions_that_its_commits_say() {
        let commit = |metadata: &str| Commit {
            offset: Offset(3),
            metadata: metadata.to_owned(),
        };
        assert_eq!(began([].iter(), 6), 6);
        let known = [commit("4 a-1"), commit("4 b-9")];
        assert_eq!(began(known.iter(), 6), 4);
        assert_eq!(began([commit("4 a-1"), commit("")].iter(), 6), 0);
    }
}
