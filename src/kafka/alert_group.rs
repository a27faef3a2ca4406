//! The alerts topic, read by a consumer group of its own, at least once: what was read is committed when it was dealt with. A partition is read from
//! where the group stands; a group that is new begins with what comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};

use super::alert_reader::AlertReader;
use super::context::{self, MemberContext, Rebalance};
use super::keep_alive::tolerate;
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::{TopicReader, group_commits};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, bare, code, list, retry};
use crate::alert::Alert;
use crate::stream::{Offset, Positions, TopicPartition};
use crate::time::Clock;

/// The longest poll: how soon a stop is seen.
const POLL_MAX: Duration = Duration::from_millis(100);

/// A message of the alerts topic.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where it lies.
    pub at: TopicPartition,
    /// Where in it.
    pub offset: Offset,
    /// Which assignment of the partition it came by.
    pub assignment: u64,
    /// What it says; or why it is no alert.
    pub alert: Result<Alert, String>,
}

/// What is known of a partition held.
#[derive(Clone, Copy, Debug)]
struct Held {
    assignment: u64,
    committed: Offset,
    /// The offset after the last message handed out.
    next: Offset,
    /// Its end, and up to where it was fetched, markers of transactions included, as of the latest statistics by which all was handed out.
    end: Option<Offset>,
    fetched: Option<Offset>,
}

impl Held {
    /// Messages that are not dealt with. Behind the last one there may be a marker of a transaction, which is none.
    fn lag(&self) -> Option<u64> {
        let reached = match self.fetched {
            Some(fetched) if self.next <= self.committed => fetched.max(self.committed),
            _ => self.committed,
        };
        u64::try_from(self.end?.0.saturating_sub(reached.0).max(0)).ok()
    }
}

/// A member of the group that reads the alerts topic.
pub struct AlertGroup {
    consumer: Option<Authenticated<BaseConsumer<MemberContext>>>,
    reader: TopicReader,
    alerts: AlertReader,
    held: BTreeMap<TopicPartition, Held>,
    assignments: u64,
    paused: bool,
    /// Taken while nothing should have come.
    strayed: VecDeque<Taken>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
}

impl std::fmt::Debug for AlertGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertGroup")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl AlertGroup {
    /// Joins the group of `connection`.
    ///
    /// # Errors
    /// Where Kafka does not let us, or there is no such topic.
    pub fn join(
        connection: &Connection,
        topic: &str,
        (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    ) -> Result<Self, KafkaFailure> {
        let reader = TopicReader::new(connection, Arc::clone(&clock), watchdog.clone())?;
        let mut config = connection.member(0);
        // What retention took nobody can be told of any more.
        config.set("auto.offset.reset", "earliest");
        let consumer: Authenticated<BaseConsumer<MemberContext>> =
            connection.client(&config, MemberContext::default(), Some(&watchdog))?;
        begin(&consumer, &reader, topic, &watchdog)?;
        consumer
            .subscribe(&[topic])
            .map_err(KafkaFailure::call("subscribe"))?;
        Ok(Self {
            consumer: Some(consumer),
            reader,
            alerts: AlertReader::new(connection.schemas.clone()),
            held: BTreeMap::new(),
            assignments: 0,
            paused: false,
            strayed: VecDeque::new(),
            clock,
            watchdog,
        })
    }

    fn consumer(&self) -> Result<&BaseConsumer<MemberContext>, KafkaFailure> {
        self.consumer
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))
    }

    /// The next message; `None` if there is none for so long, or the process is to end.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Taken>, KafkaFailure> {
        if let Some(taken) = self.strayed.pop_front() {
            return Ok(Some(taken));
        }
        if std::mem::take(&mut self.paused) {
            self.consumer()?
                .resume(&bare(self.held.keys()))
                .map_err(KafkaFailure::call("reading on"))?;
        }
        let until = self.clock.monotonic() + wait;
        loop {
            self.watchdog.beat();
            let left = until.saturating_sub(self.clock.monotonic());
            if let Some(taken) = self.poll(left.min(POLL_MAX))? {
                return Ok(Some(taken));
            }
            if left.is_zero() || self.watchdog.stopped() {
                return Ok(None);
            }
        }
    }

    /// Takes nothing for so long, while it stays a member; ends early when the process is to end.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    pub fn idle(&mut self, length: Duration) -> Result<(), KafkaFailure> {
        let until = self.clock.monotonic() + length;
        loop {
            self.watchdog.beat();
            if !self.paused && !self.held.is_empty() {
                self.consumer()?
                    .pause(&bare(self.held.keys()))
                    .map_err(KafkaFailure::call("pausing what is read"))?;
                self.paused = true;
            }
            let left = until.saturating_sub(self.clock.monotonic());
            if let Some(taken) = self.poll(left.min(POLL_MAX))? {
                self.strayed.push_back(taken);
            }
            if left.is_zero() || self.watchdog.stopped() {
                return Ok(());
            }
        }
    }

    /// Acts on rebalances, and takes one message if there is one.
    fn poll(&mut self, wait: Duration) -> Result<Option<Taken>, KafkaFailure> {
        while let Some(rebalance) = self.consumer()?.context().take() {
            match rebalance {
                Rebalance::Assign(partitions) => self.on_assigned(&partitions)?,
                Rebalance::Revoke(partitions) => self.on_revoked(&partitions)?,
            }
        }
        let consumer = self
            .consumer
            .as_deref()
            .ok_or(KafkaFailure::Client(KafkaError::Canceled))?;
        let polled = {
            let _guard = self.watchdog.guard("poll", CALL_MAX);
            consumer.poll(wait)
        };
        // Statistics come through the same queue as messages do. Once it is empty, all that was fetched before them was handed out.
        let drained = polled.is_none() && !self.paused;
        for (at, statistics) in consumer.context().take_statistics() {
            if let Some(held) = self.held.get_mut(&at) {
                held.end = Some(statistics.end);
                if drained {
                    held.fetched = Some(statistics.fetched);
                }
            }
        }
        match polled {
            Some(Ok(message)) => {
                let at = TopicPartition::new(message.topic(), message.partition());
                if let Some(held) = self.held.get_mut(&at) {
                    held.next = Offset(message.offset() + 1);
                }
                self.taken(&message)
            }
            Some(Err(error)) => tolerate(error).map(|()| None),
            None => Ok(None),
        }
    }

    fn taken(&self, message: &BorrowedMessage<'_>) -> Result<Option<Taken>, KafkaFailure> {
        let at = TopicPartition::new(message.topic(), message.partition());
        // What came of a partition that is not held any more another one reads.
        let Some(held) = self.held.get(&at) else {
            return Ok(None);
        };
        Ok(Some(Taken {
            offset: Offset(message.offset()),
            assignment: held.assignment,
            alert: self.alerts.read(message.payload(), &self.watchdog)?,
            at,
        }))
    }

    fn on_assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaFailure> {
        let commits = group_commits(self.consumer()?, &self.watchdog, partitions)?;
        let mut starts = Positions::new();
        for at in partitions {
            let commit = commits.get(at).and_then(Option::as_ref);
            let start = match commit {
                Some(commit) => commit.offset,
                // It was added since the group began.
                None => self.reader.ends(at)?.0,
            };
            starts.insert(at.clone(), start);
        }
        let assignment = list(&starts).map_err(KafkaFailure::call("assign"))?;
        {
            let _guard = self.watchdog.guard("assign", CALL_MAX);
            context::take(self.consumer()?, &assignment).map_err(KafkaFailure::call("assign"))?;
        }
        self.assignments += 1;
        for (at, committed) in starts {
            tracing::info!(%at, %committed, "partition assigned");
            let held = Held {
                assignment: self.assignments,
                committed,
                next: committed,
                end: None,
                fetched: None,
            };
            self.held.insert(at, held);
        }
        // They are not paused yet.
        self.paused = false;
        Ok(())
    }

    fn on_revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaFailure> {
        let _guard = self.watchdog.guard("giving partitions back", CALL_MAX);
        context::give_back(self.consumer()?, &bare(partitions))
            .map_err(KafkaFailure::call("giving partitions back"))?;
        for at in partitions {
            tracing::info!(%at, "partition given back");
            self.held.remove(at);
        }
        let held = &self.held;
        self.strayed.retain(|taken| held.contains_key(&taken.at));
        Ok(())
    }

    /// Whether the partition of this message was not given back since it was read.
    pub fn holds(&self, taken: &Taken) -> bool {
        let held = self.held.get(&taken.at);
        held.is_some_and(|held| held.assignment == taken.assignment)
    }

    /// Commits. What somebody else holds by now is theirs to commit: it is told once more.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    pub fn commit(&mut self, next: &Positions) -> Result<(), KafkaFailure> {
        let mut next = next.clone();
        next.retain(|at, _| self.held.contains_key(at));
        if next.is_empty() {
            return Ok(());
        }
        match commit(self.consumer()?, &next, &self.watchdog) {
            Err(KafkaFailure::Call { error, .. }) if is_others(&error) => {
                tracing::warn!(%error, "the group divided its partitions anew: the last message may be told once more");
                return Ok(());
            }
            committed => committed?,
        }
        for (at, offset) in next {
            if let Some(held) = self.held.get_mut(&at) {
                held.committed = offset;
            }
        }
        Ok(())
    }

    /// Messages of the partitions held that are not committed, as of some seconds ago; `None` before the group has given it anything to read.
    pub fn lag(&self) -> Option<u64> {
        if self.assignments == 0 {
            return None;
        }
        Some(self.held.values().filter_map(Held::lag).sum())
    }
}

/// Lets a group that never committed anything begin with what comes: nobody is told of what is long over.
fn begin(
    consumer: &BaseConsumer<MemberContext>,
    reader: &TopicReader,
    topic: &str,
    watchdog: &Watchdog,
) -> Result<(), KafkaFailure> {
    let partitions: Vec<TopicPartition> = (0..reader.partitions(topic)?)
        .map(|number| TopicPartition::new(topic, number))
        .collect();
    let is_new = || -> Result<bool, KafkaFailure> {
        let offsets = reader.group_offsets(&partitions)?;
        Ok(offsets.values().all(Option::is_none))
    };
    if !is_new()? {
        return Ok(());
    }
    let mut ends = Positions::new();
    for at in partitions.clone() {
        let end = reader.ends(&at)?.1;
        ends.insert(at, end);
    }
    match commit(consumer, &ends, watchdog) {
        // Another one did so at the same time, and has joined.
        Err(error) if is_new()? => Err(error),
        _ => Ok(()),
    }
}

fn commit(
    consumer: &BaseConsumer<MemberContext>,
    next: &Positions,
    watchdog: &Watchdog,
) -> Result<(), KafkaFailure> {
    retry(watchdog, "committing what was told", |_| {
        consumer.commit(&list(next)?, CommitMode::Sync)
    })
}

/// Whether a commit failed because the group does not count this member as the reader any more.
fn is_others(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::AssignmentLost
        )
    )
}

impl Drop for AlertGroup {
    /// Leaves the group.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            context::answer_all(&consumer);
            self.watchdog.close("leaving the group", consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_behind_the_last_message_is_no_lag() {
        let held = Held {
            assignment: 1,
            committed: Offset(7),
            next: Offset(7),
            end: Some(Offset(8)),
            fetched: None,
        };
        assert_eq!(held.lag(), Some(1));
        let fetched = Some(Offset(8));
        assert_eq!(Held { fetched, ..held }.lag(), Some(0));
        // What was handed out but is not told yet counts, with all behind it.
        let next = Offset(8);
        let untold = Held {
            next,
            fetched,
            ..held
        };
        assert_eq!(untold.lag(), Some(1));
        let end = None;
        assert_eq!(Held { end, ..held }.lag(), None);
    }
}
