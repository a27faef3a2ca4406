//! Where alerts come from.

use std::time::Duration;

use crate::alert::Alert;
use crate::kafka::KafkaFailure;
use crate::kafka::alert_group::{AlertGroup, Taken};
use crate::stream::Positions;

/// A message of the alerts topic, and whether this reader still is the one to tell of it.
pub trait AlertSource {
    /// The next message; `None` if there is none for so long.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    fn next(&mut self, wait: Duration) -> Result<Option<Taken>, KafkaFailure>;

    /// Takes nothing for so long, and stays who it is.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    fn idle(&mut self, length: Duration) -> Result<(), KafkaFailure>;

    /// Whether no other reader has taken over what this message is of.
    fn holds(&self, taken: &Taken) -> bool;

    /// All before these places need not be read again.
    ///
    /// # Errors
    /// Where Kafka does not let us.
    fn commit(&mut self, next: &Positions) -> Result<(), KafkaFailure>;

    /// Messages that were not yet committed, as far as is known; `None` before there is anything to read.
    fn lag(&mut self) -> Option<u64>;
}

impl AlertSource for AlertGroup {
    fn next(&mut self, wait: Duration) -> Result<Option<Taken>, KafkaFailure> {
        AlertGroup::next(self, wait)
    }

    fn idle(&mut self, length: Duration) -> Result<(), KafkaFailure> {
        AlertGroup::idle(self, length)
    }

    fn holds(&self, taken: &Taken) -> bool {
        AlertGroup::holds(self, taken)
    }

    fn commit(&mut self, next: &Positions) -> Result<(), KafkaFailure> {
        AlertGroup::commit(self, next)
    }

    fn lag(&mut self) -> Option<u64> {
        AlertGroup::lag(self)
    }
}

/// The alert of a message, if it is one.
pub(super) fn alert(taken: &Taken) -> Option<&Alert> {
    taken.alert.as_ref().ok()
}
