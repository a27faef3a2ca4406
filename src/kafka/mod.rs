//! The adapter: the ports of layer 7 over librdkafka, and nothing that decides what a record means.
//!
//! A worker's [`session::KafkaSession`] is one member of the consumer group with one producer; callbacks run inside its own polls, on its own
//! thread, and no transaction is open while it polls. What librdkafka says falls into four classes: try again (within a limit), abort
//! ([`crate::port::Published::Aborted`], a value), lost ([`crate::port::Published::Lost`], a value: the session begins anew), and fatal (the
//! process ends). The outcome of a transaction is never guessed: where a call's answer is missing, what it would have written beside the group's offsets decides (see [`mark`]).
//!
//! Next: [`settings`] (which properties, and which are refused), [`oauth`] and [`tokens`] (who we are, where that is said by tokens), [`reconnecting`] (a member that joins again after an outage) over [`session`]
//! (one member of the group) with `partition` (each from assignment to revocation), [`fetch`] (messages to records), [`restore`] (the committed offsets and the state of assigned partitions) and
//! [`start_offset`] (where reading begins, also where records were deleted), [`publish`] (transactions) with [`messages`] (what goes into them)
//! and [`error_class`] (what an error means), [`topic_reader`] (reading topics outside the group), [`history`] (what training reads), [`models`]
//! (the model store), [`topics`] (those that are written), [`forms`] (as what) and [`registration`] (by which schemas), [`admin`] (making topics), [`check`] (is all there, and allowed), [`reach`] (does it answer at all), [`watchdog`]
//! (waiting), `trouble` (what keeps a member from its records).

pub mod admin;
pub mod alert_group;
pub mod alert_log;
mod alert_reader;
mod avro;
mod busy_wait;
pub mod check;
mod context;
pub mod dead_letter_log;
mod encode;
#[cfg(test)]
#[path = "../../tests/kafka/endpoint.rs"]
pub(crate) mod endpoint;
mod error;
mod error_class;
pub mod feedback;
mod fetch;
mod fields;
pub mod forms;
pub mod history;
mod keep_alive;
pub mod mark;
mod messages;
pub mod models;
pub mod oauth;
mod partition;
mod protobuf;
pub mod publish;
pub mod reach;
pub mod reconnecting;
pub mod registration;
pub mod registry;
mod restore;
pub mod schemas;
pub mod session;
pub mod settings;
pub mod start_offset;
pub mod tokens;
mod topic_ids;
pub mod topic_reader;
pub mod topics;
mod trouble;
pub mod watchdog;

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as RawOffset, TopicPartitionList};

use crate::stream::{Offset, Positions, TopicPartition};
pub use error::KafkaFailure;
pub(crate) use error::{code, is_final, passes, refused};
use watchdog::Watchdog;

/// How long a command waits for one answer.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(30);

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// After this long it is said that something is still being tried.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Makes `call`, which is told how long it may take, again while it fails in a way that may pass, for at most [`Limits::retry`]. A stop
/// ends that after the attempt at hand.
///
/// [`Limits::retry`]: watchdog::Limits::retry
pub(crate) fn retry<T>(
    watchdog: &Watchdog,
    what: &'static str,
    mut call: impl FnMut(Duration) -> Result<T, KafkaError>,
) -> Result<T, KafkaFailure> {
    let limits = watchdog.limits();
    let clock = watchdog.clock();
    let begun = clock.monotonic();
    let mut said = false;
    loop {
        let result = {
            let _guard = watchdog.call(what, limits.call);
            call(limits.call)
        };
        let lasted = clock.monotonic().saturating_sub(begun);
        match result {
            Ok(value) => {
                if said {
                    watchdog.waits(None);
                }
                return Ok(value);
            }
            Err(error) if passes(&error) && lasted < limits.retry => {
                if SAY_AFTER < lasted && !said {
                    said = true;
                    tracing::warn!(%error, what, "Kafka does not answer: trying on");
                    watchdog.waits(Some(format!("{what}: {error}")));
                }
                watchdog.pause(AGAIN_AFTER)?;
            }
            Err(error) => return Err(KafkaFailure::call(what)(error)),
        }
    }
}

/// One name of several that is no other's: they are set apart by `/`, which within them is written `%2F`.
pub(crate) fn joined(names: &[&str]) -> String {
    let escaped = names
        .iter()
        .map(|name| name.replace('%', "%25").replace('/', "%2F"));
    escaped.collect::<Vec<_>>().join("/")
}

/// Positions as librdkafka takes them.
pub(crate) fn list(positions: &Positions) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (at, offset) in positions {
        list.add_partition_offset(&at.topic, at.partition.0, RawOffset::Offset(offset.0))?;
    }
    Ok(list)
}

/// Partitions as librdkafka takes them, without offsets.
pub(crate) fn bare<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for at in partitions {
        list.add_partition(&at.topic, at.partition.0);
    }
    list
}

/// The partitions of a list, with the offset where it has one.
pub(crate) fn places(list: &TopicPartitionList) -> Vec<(TopicPartition, Option<Offset>)> {
    list.elements()
        .iter()
        .map(|element| {
            let offset = match element.offset() {
                RawOffset::Offset(offset) if offset >= 0 => Some(Offset(offset)),
                _ => None,
            };
            (
                TopicPartition::new(element.topic(), element.partition()),
                offset,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_joined_are_no_others() {
        assert_eq!(joined(&["a-b", "c", "0"]), "a-b/c/0");
        assert_ne!(joined(&["a-b", "c"]), joined(&["a", "b-c"]));
        assert_ne!(joined(&["a/b", "c"]), joined(&["a", "b/c"]));
        assert_ne!(joined(&["a%2Fb"]), joined(&["a/b"]));
    }
}
