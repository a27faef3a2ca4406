//! How many records were read, and how many of them could not be understood: for people, in bounded memory.
//!
//! Dead letters come by the thousand or one a day. So the log names the first of each reason at once and then one a minute with how many there
//! were, and a share is of the last minutes, or of as many more as it takes to have a few records: a stream of one an hour has a share, too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::record::dead_letter::DeadLetter;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// Between two lines on dead letters of one reason.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// What is counted together.
const PART: Duration = Duration::from_secs(60);
/// How far back "lately" goes ...
const LATELY: Duration = Duration::from_secs(600);
/// ... or as much farther as it takes for so many records.
const LATELY_RECORDS: u64 = 10;

/// What was read since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecordsStatus {
    /// Records read and committed.
    pub read: u64,
    /// Those of them that could not be understood, and went to the dead-letter topic.
    pub dead_letters: u64,
    /// The same of the last ten minutes, or of as much longer as ten records took.
    pub lately: LatelyStatus,
    /// The newest that could not be understood.
    pub newest_dead_letter: Option<DeadLetterStatus>,
    /// When records were last read, RFC 3339; null: not since the start.
    pub last_read: Option<String>,
    /// How long may pass without a record by what is usual; null: that is not known yet.
    pub patience_seconds: Option<f64>,
    /// Whether none has come for longer.
    pub silent: bool,
}

/// What was read lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatelyStatus {
    /// How long that is.
    pub seconds: u64,
    /// Records read.
    pub read: u64,
    /// Those of them that could not be understood.
    pub dead_letters: u64,
}

/// A record that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetterStatus {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why, as the label of the metric has it.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
}

impl From<&DeadLetter> for DeadLetterStatus {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            topic: letter.at.topic.to_string(),
            partition: letter.at.partition.0,
            offset: letter.offset.0,
            reason: letter.reason.name(),
            detail: letter.reason.to_string(),
        }
    }
}

/// What the log should say of dead letters of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// How many there were since it was last said.
    pub records: u64,
    /// Where the first of them lies ...
    pub at: TopicPartition,
    /// ... and at which offset.
    pub offset: Offset,
    /// Why, as the label of the metric has it.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
}

/// Counts what comes in.
#[derive(Debug, Default)]
pub(super) struct Intake {
    read: u64,
    dead: u64,
    /// Oldest first.
    parts: VecDeque<Part>,
    newest: Option<DeadLetterStatus>,
    /// What has not been said of each reason, and when anything last was.
    unsaid: BTreeMap<&'static str, (Option<Unreadable>, Option<Timestamp>)>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    from: Timestamp,
    read: u64,
    dead: u64,
}

impl Intake {
    /// A batch of `read` records was committed, and these of them went to the dead-letter topic.
    pub(super) fn take(&mut self, now: Timestamp, read: u64, dead: &[DeadLetter]) {
        if read == 0 {
            return;
        }
        self.read += read;
        self.dead += dead.len() as u64;
        match self.parts.back_mut() {
            Some(part) if now.since(part.from) < PART => {
                part.read += read;
                part.dead += dead.len() as u64;
            }
            _ => self.parts.push_back(Part {
                from: now,
                read,
                dead: dead.len() as u64,
            }),
        }
        let kept = self.lately(now).count();
        self.parts.drain(..self.parts.len() - kept);
        self.newest = dead.last().map(Into::into).or(self.newest.take());
        for letter in dead {
            let reason = letter.reason.name();
            let (unsaid, _) = self.unsaid.entry(reason).or_default();
            let first = unsaid.get_or_insert_with(|| Unreadable {
                records: 0,
                at: letter.at.clone(),
                offset: letter.offset,
                reason,
                detail: letter.reason.to_string(),
            });
            first.records += 1;
        }
    }

    /// What the log should say now, each once.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Unreadable> {
        let due = |(unsaid, said): &mut (Option<Unreadable>, Option<Timestamp>)| {
            if said.is_some_and(|said| now.since(said) < SAY_EVERY) {
                return None;
            }
            let found = unsaid.take()?;
            *said = Some(now);
            Some(found)
        };
        self.unsaid.values_mut().filter_map(due).collect()
    }

    /// The parts that are of late, the newest first.
    fn lately(&self, now: Timestamp) -> impl Iterator<Item = &Part> {
        let mut read = 0;
        self.parts.iter().rev().take_while(move |part| {
            let counts = now.since(part.from) < LATELY || read < LATELY_RECORDS;
            read += part.read;
            counts
        })
    }

    /// For people.
    pub(super) fn view(&self, now: Timestamp) -> RecordsStatus {
        let mut lately = LatelyStatus::default();
        for part in self.lately(now) {
            lately.seconds = now.since(part.from).max(PART).as_secs();
            lately.read += part.read;
            lately.dead_letters += part.dead;
        }
        RecordsStatus {
            read: self.read,
            dead_letters: self.dead,
            lately,
            newest_dead_letter: self.newest.clone(),
            ..RecordsStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DecodeError;
    use crate::record::dead_letter::Refusal;

    fn letter(offset: i64, error: DecodeError) -> DeadLetter {
        DeadLetter {
            detector: "d".into(),
            at: TopicPartition::new("t", 3),
            offset: Offset(offset),
            timestamp: Timestamp(0),
            key: None,
            value: None,
            headers: Vec::new(),
            reason: Refusal::Unreadable(error),
        }
    }

    fn nulls(offsets: std::ops::Range<i64>) -> Vec<DeadLetter> {
        let letters = offsets.map(|offset| letter(offset, DecodeError::NullValue));
        letters.collect()
    }

    /// The lines of a second: how many, of which reason, and from which offset on.
    fn lines(intake: &mut Intake, second: i64) -> Vec<(u64, &'static str, i64)> {
        let said = intake.due(Timestamp(second * 1000)).into_iter();
        said.map(|line| (line.records, line.reason, line.offset.0))
            .collect()
    }

    #[test]
    fn the_first_of_each_reason_is_said_at_once_and_the_rest_once_a_minute() {
        let mut intake = Intake::default();
        let at = |second: i64| Timestamp(second * 1000);
        intake.take(at(0), 5, &nulls(0..3));
        assert_eq!(lines(&mut intake, 0), [(3, "null_value", 0)]);
        intake.take(at(1), 5, &nulls(3..5));
        let nothing = DecodeError::NothingObserved { columns: 2 };
        intake.take(at(2), 1, &[letter(5, nothing)]);
        assert_eq!(lines(&mut intake, 2), [(1, "nothing_observed", 5)]);
        intake.take(at(59), 1, &nulls(6..7));
        assert_eq!(lines(&mut intake, 59), []);
        // Also where none came after them.
        assert_eq!(lines(&mut intake, 60), [(3, "null_value", 3)]);
        assert_eq!(lines(&mut intake, 600), []);
        intake.take(at(600), 1, &nulls(7..8));
        assert_eq!(lines(&mut intake, 600), [(1, "null_value", 7)]);
    }

    #[test]
    fn a_share_is_of_the_last_minutes_and_the_newest_one_is_named() {
        let mut intake = Intake::default();
        let minute = |minute: i64| Timestamp(minute * 60_000);
        let shown = |intake: &Intake, at| {
            let view = intake.view(minute(at));
            let lately = view.lately;
            (lately.seconds, lately.read, lately.dead_letters)
        };
        assert_eq!(intake.view(minute(0)), RecordsStatus::default());
        intake.take(minute(0), 100, &nulls(0..50));
        assert_eq!(shown(&intake, 0), (60, 100, 50));
        intake.take(minute(4), 100, &[]);
        assert_eq!(shown(&intake, 4), (240, 200, 50));
        assert_eq!(shown(&intake, 11), (420, 100, 0));
        let view = intake.view(minute(11));
        let newest = view.newest_dead_letter.unwrap();
        assert_eq!(
            (&*newest.topic, newest.partition, newest.offset),
            ("t", 3, 49)
        );
        assert_eq!(newest.detail, DecodeError::NullValue.to_string());
        assert_eq!((view.read, view.dead_letters), (200, 50));
    }

    #[test]
    fn of_a_record_an_hour_the_last_ten_are_counted_and_no_more_is_kept() {
        let mut intake = Intake::default();
        let hour = |hour: i64| Timestamp(hour * 3_600_000);
        for at in 0..500 {
            intake.take(hour(at), 1, &nulls(at..at + 1));
        }
        let lately = intake.view(hour(499)).lately;
        assert_eq!((lately.seconds, lately.read), (9 * 3600, 10));
        assert_eq!(lately.dead_letters, 10);
        assert!(intake.parts.len() <= 10, "{}", intake.parts.len());
    }
}
