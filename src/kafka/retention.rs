//! Where reading can begin, and go on, when the log is not what it was: retention deletes records before they are read, and a log that was
//! made anew, or lost its end with its leader, ends before the offsets that are known of it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::restore::TopicReader;
use super::session::Start;
use super::{KafkaFailure, code};
use crate::stream::{Offset, Positions, TopicPartition};

/// Where the group begins in a partition whose log spans `(first, end)`, and whether that must be committed because it was not.
pub(super) fn begin(
    at: &TopicPartition,
    committed: Option<Offset>,
    (first, end): (Offset, Offset),
    start: Start,
) -> (Offset, bool) {
    match (committed, start) {
        (Some(committed), _) if committed > end => {
            // Not at its beginning: what is left there was read before.
            tracing::error!(%at, %committed, %end, "the log ends before the group's offset: it was made anew, or cut off; reading on from its end");
            (end, true)
        }
        (Some(committed), _) => (committed, false),
        (None, Start::Earliest) => (first, true),
        (None, Start::Latest) => (end, true),
    }
}

/// Whether some partition's fetch position lies outside the log. librdkafka does not say which, and stops fetching it.
pub(super) fn lost(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

/// The oldest record of each partition whose `next` one was deleted.
///
/// # Errors
/// If the log cannot be asked, or ends before `next`: then the process must begin anew.
pub(super) fn oldest(reader: &TopicReader, next: &Positions) -> Result<Positions, KafkaFailure> {
    let mut oldest = Positions::new();
    for (at, next) in next {
        let (first, end) = reader.ends(at)?;
        if *next > end {
            return Err(KafkaFailure::Content {
                topic: at.topic.to_string(),
                problem: format!(
                    "{at} ends at {end}, before offset {next}, which is to be read next: it was made anew, or cut off"
                ),
            });
        }
        if *next < first {
            oldest.insert(at.clone(), first);
        }
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_begins_where_it_stands_if_the_log_goes_so_far() {
        let at = TopicPartition::new("in", 0);
        let begin = |committed: Option<i64>, start| {
            let (from, fresh) = begin(&at, committed.map(Offset), (Offset(5), Offset(9)), start);
            (from.0, fresh)
        };
        assert_eq!(begin(Some(7), Start::Latest), (7, false));
        // Retention overtook it: the pipeline counts what was lost.
        assert_eq!(begin(Some(2), Start::Latest), (2, false));
        assert_eq!(begin(Some(10), Start::Earliest), (9, true));
        assert_eq!(begin(None, Start::Earliest), (5, true));
        assert_eq!(begin(None, Start::Latest), (9, true));
    }

    #[test]
    fn only_a_position_outside_the_log_counts_as_lost() {
        assert!(lost(&KafkaError::MessageConsumption(
            RDKafkaErrorCode::AutoOffsetReset
        )));
        assert!(!lost(&KafkaError::MessageConsumption(
            RDKafkaErrorCode::BrokerTransportFailure
        )));
    }
}
