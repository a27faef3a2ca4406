//! Where reading can begin, and go on, when the log is not what it was: retention deletes records before they are read, and a log that was
//! made anew, or lost its end with its leader, ends before the offsets that are known of it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::topic_reader::TopicReader;
use super::{KafkaFailure, code};
use crate::stream::{Offset, Positions, TopicPartition};

/// Where a group begins that has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the oldest record there is.
    Earliest,
    /// After the newest: history is for training only.
    Latest,
}

/// What is known of a partition when it is taken over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The group's offset.
    pub committed: Option<Offset>,
    /// The oldest record.
    pub first: Offset,
    /// The end of what is decided.
    pub end: Offset,
    /// The next record to read as of the state.
    pub as_of: Option<Offset>,
    /// The state is of another topic, which had the same name.
    pub anew: bool,
    /// The partition was added after the group had begun to read the topic.
    pub added: bool,
}

/// Where the group begins in a partition, and whether that must be committed because it was not. What lies between there and the oldest record
/// was deleted before anyone read it.
pub fn begin(at: &TopicPartition, known: Known, start: Start) -> (Offset, bool) {
    let Known { first, end, .. } = known;
    match (known.committed, known.as_of, start) {
        _ if known.anew => {
            tracing::error!(%at, "the topic was deleted and made anew: reading it from its first record; windows and episodes begin anew");
            (Offset(0), true)
        }
        (Some(committed), _, _) if committed > end => {
            // Not at its beginning: what is left there was read before.
            tracing::error!(%at, %committed, %end, "the log ends before the group's offset: it was cut off; reading on from its end");
            (end, true)
        }
        (Some(committed), _, _) => (committed, false),
        (None, Some(as_of), _) => {
            tracing::warn!(%at, %as_of, "the group's offset is gone, its state is not: reading on from there; what was told since is told again, under the same ids");
            (as_of.min(end), true)
        }
        (None, None, _) if known.added => {
            tracing::info!(%at, "a new partition: reading it from its first record");
            (Offset(0), true)
        }
        (None, None, Start::Earliest) => (first, true),
        (None, None, Start::Latest) => (end, true),
    }
}

/// Whether some partition's fetch position lies outside the log. librdkafka does not say which, and stops fetching it.
pub(super) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

/// The oldest record of each partition whose `next` one was deleted.
///
/// # Errors
/// If the log cannot be asked, or ends before `next`: then the session must begin anew.
pub(super) fn oldest(reader: &TopicReader, next: &Positions) -> Result<Positions, KafkaFailure> {
    let mut oldest = Positions::new();
    for (at, next) in next {
        let (first, end) = reader.ends(at)?;
        if *next > end {
            return Err(KafkaFailure::OtherLog(format!(
                "{at} ends at {end}, before offset {next}, which is to be read next: it was made anew, or cut off"
            )));
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
        let known = Known {
            first: Offset(5),
            end: Offset(9),
            ..Known::default()
        };
        let begin = |known: Known, start| {
            let (from, fresh) = begin(&at, known, start);
            (from.0, fresh)
        };
        let committed = |offset| Known {
            committed: Some(Offset(offset)),
            ..known
        };
        assert_eq!(begin(committed(7), Start::Latest), (7, false));
        // Retention overtook it: the pipeline counts what was lost.
        assert_eq!(begin(committed(2), Start::Latest), (2, false));
        assert_eq!(begin(committed(10), Start::Earliest), (9, true));
        assert_eq!(begin(known, Start::Earliest), (5, true));
        assert_eq!(begin(known, Start::Latest), (9, true));
        for start in [Start::Earliest, Start::Latest] {
            let added = Known {
                added: true,
                ..known
            };
            assert_eq!(begin(added, start), (0, true));
            let as_of = |offset| Known {
                as_of: Some(Offset(offset)),
                ..known
            };
            assert_eq!(begin(as_of(6), start), (6, true));
            assert_eq!(begin(as_of(2), start), (2, true));
            assert_eq!(begin(as_of(12), start), (9, true));
            let anew = Known {
                anew: true,
                ..committed(7)
            };
            assert_eq!(begin(anew, start), (0, true));
        }
    }

    #[test]
    fn only_a_position_outside_the_log_counts_as_lost() {
        assert!(is_out_of_range(&KafkaError::MessageConsumption(
            RDKafkaErrorCode::AutoOffsetReset
        )));
        assert!(!is_out_of_range(&KafkaError::MessageConsumption(
            RDKafkaErrorCode::BrokerTransportFailure
        )));
    }
}
