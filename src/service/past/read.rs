//! Reading records of one key from the log: backwards in growing steps from a place, and forwards from it, until there are enough or a bound is met.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::record::decode::Decoder;
use crate::record::writers::Writers;
use crate::record::{Header, RecordBatch};
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::{Clock, Timestamp};

/// Offsets of the first step, and of the largest: a step that a bound ends is lost, so that the first ones are small.
const STEP_MIN: i64 = 256;
const STEP_MAX: i64 = 16_384;

/// Which records are read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose.
    pub key: String,
    /// The partition that they lie in; `None`: that is not known, and all are looked through.
    pub at: Option<TopicPartition>,
    /// Records before this place are read, from there backwards; `None`: from the end.
    pub place: Option<Offset>,
    /// So many of the key before the place ...
    pub before: usize,
    /// ... and so many from there on.
    pub after: usize,
}

/// The log as it is read here.
pub trait Log {
    /// What failed.
    type Error;
    /// All partitions of the input.
    fn places(&self) -> Result<Vec<TopicPartition>, Self::Error>;
    /// The first offset of a partition, and the end of what is decided.
    fn ends(&self, at: &TopicPartition) -> Result<(Offset, Offset), Self::Error>;
    /// The records of a span, in offset order, if they have at most `bytes` and are read by `until`, a time of the monotonic clock; `None` if not.
    fn read_within(
        &mut self,
        span: &Span,
        bytes: usize,
        until: Duration,
    ) -> Result<Option<RecordBatch>, Self::Error>;
}

/// What may be read for one question.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Offsets.
    pub records: u64,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
    /// How long it may take.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            records: 200_000,
            bytes: 64 << 20,
            time: Duration::from_secs(15),
        }
    }
}

/// Why no more was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// As many records of the key were found as are shown.
    Enough,
    /// The log begins there.
    #[default]
    Beginning,
    /// [`Bounds::records`].
    Records,
    /// [`Bounds::bytes`].
    Bytes,
    /// [`Bounds::time`].
    Time,
}

impl Stopped {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Enough => "earlier records lie in the input topic",
            Self::Beginning => "the log begins there",
            Self::Records => "cut, for so many records are read at a time",
            Self::Bytes => "cut, for so many bytes are read at a time",
            Self::Time => "cut, for it took too long",
        }
    }
}

/// A record of the key.
#[derive(Clone, Debug)]
pub struct Own {
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<Header>,
    pub(super) writers: Option<Arc<Writers>>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Where the key's records lie; `None`: none was found.
    pub at: Option<TopicPartition>,
    /// They, in offset order.
    pub own: Vec<Own>,
    /// Records that were looked at, of whatever key.
    pub looked_at: u64,
    /// Why no more were.
    pub stopped: Stopped,
}

/// A partition, as far as it was read backwards.
struct Place {
    at: TopicPartition,
    first: Offset,
    /// Everything from here on was read.
    read_from: Offset,
}

struct Reading<'a, L> {
    log: &'a mut L,
    decoder: &'a mut Decoder,
    key: &'a str,
    bounds: Bounds,
    until: Duration,
    clock: &'a dyn Clock,
    offsets: u64,
    bytes: usize,
    looked_at: u64,
}

/// Reads what is asked for, within bounds.
///
/// # Errors
/// What the log says.
pub fn read<L: Log>(
    log: &mut L,
    decoder: &mut Decoder,
    asked: &Asked,
    (bounds, clock): (Bounds, &dyn Clock),
) -> Result<Found, L::Error> {
    let mut reading = Reading {
        log,
        decoder,
        key: &asked.key,
        until: clock.monotonic() + bounds.time,
        bounds,
        clock,
        offsets: 0,
        bytes: 0,
        looked_at: 0,
    };
    let (mut own, mut stopped) = (Vec::new(), Stopped::Enough);
    let mut found_at = None;
    // What came at the place and after it is what was asked for first.
    if let (Some(at), Some(place), true) = (&asked.at, asked.place, asked.after > 0) {
        stopped = reading.forwards(at, (place, asked.after), &mut own)?;
        found_at = (!own.is_empty()).then(|| at.clone());
    }
    if stopped == Stopped::Enough {
        let (before, why, at) = reading.backwards(asked)?;
        stopped = why;
        found_at = found_at.or(at);
        own.splice(0..0, before);
    }
    Ok(Found {
        at: found_at,
        own,
        looked_at: reading.looked_at,
        stopped,
    })
}

impl<L: Log> Reading<'_, L> {
    /// Records from a place on, until there are `most` of the key, or the end.
    fn forwards(
        &mut self,
        at: &TopicPartition,
        (place, most): (Offset, usize),
        own: &mut Vec<Own>,
    ) -> Result<Stopped, L::Error> {
        let (first, end) = self.log.ends(at)?;
        let (mut from, mut step) = (place.max(first), STEP_MIN);
        while from < end && own.len() < most {
            let to = Offset(from.0.saturating_add(step)).min(end);
            let span = Span {
                at: at.clone(),
                from,
                to,
            };
            match self.own_of(&span)? {
                Ok(found) => own.extend(found),
                Err(stopped) => return Ok(stopped),
            }
            (from, step) = (to, (step * 2).min(STEP_MAX));
        }
        own.truncate(most);
        Ok(Stopped::Enough)
    }

    /// Records before the place, the latest first in growing steps; those of a key lie in one partition, so that the others are left as soon as one
    /// of them is found.
    fn backwards(
        &mut self,
        asked: &Asked,
    ) -> Result<(Vec<Own>, Stopped, Option<TopicPartition>), L::Error> {
        let mut places = Vec::new();
        let all = match &asked.at {
            Some(at) => vec![at.clone()],
            None => self.log.places()?,
        };
        for at in all {
            let (first, end) = self.log.ends(&at)?;
            let read_from = asked.place.map_or(end, |place| place.min(end));
            places.push(Place {
                at,
                first,
                read_from,
            });
        }
        let (mut own, mut step, mut found_at) = (Vec::new(), STEP_MIN, None);
        loop {
            places.retain(|place| place.first < place.read_from);
            if places.is_empty() {
                return Ok((own, Stopped::Beginning, found_at));
            }
            for place in &mut places {
                let from = Offset(place.read_from.0.saturating_sub(step)).max(place.first);
                let span = Span {
                    at: place.at.clone(),
                    from,
                    to: place.read_from,
                };
                match self.own_of(&span)? {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => {
                        found_at.get_or_insert_with(|| place.at.clone());
                        own.splice(0..0, found);
                    }
                    Err(stopped) => return Ok((own, stopped, found_at)),
                }
                place.read_from = from;
                if found_at.is_some() {
                    break;
                }
            }
            if let Some(at) = &found_at {
                places.retain(|place| place.at == *at);
            }
            if asked.before <= own.len() {
                own.drain(..own.len() - asked.before);
                return Ok((own, Stopped::Enough, found_at));
            }
            step = (step * 2).min(STEP_MAX);
        }
    }

    /// The key's records of a span; why not, where a bound does not allow it.
    fn own_of(&mut self, span: &Span) -> Result<Result<Vec<Own>, Stopped>, L::Error> {
        if self.bounds.records < self.offsets + span.len() {
            return Ok(Err(Stopped::Records));
        }
        let bytes = self.bounds.bytes.saturating_sub(self.bytes);
        let batch = self.log.read_within(span, bytes, self.until)?;
        let late = self.until <= self.clock.monotonic();
        let Some(batch) = batch else {
            let why = if late { Stopped::Time } else { Stopped::Bytes };
            return Ok(Err(why));
        };
        self.offsets += span.len();
        self.bytes += batch.bytes_len();
        self.looked_at += batch.len() as u64;
        let decoded = self.decoder.decode(&batch);
        let both = batch.records().iter().zip(&decoded.outcomes);
        let own = both.filter(|(_, outcome)| {
            outcome
                .as_ref()
                .is_ok_and(|found| found.key.as_str() == self.key)
        });
        Ok(Ok(own
            .map(|(record, _)| Own {
                offset: record.offset,
                timestamp: record.timestamp,
                key: batch.key(record).map(<[u8]>::to_vec),
                value: batch.value(record).map(<[u8]>::to_vec),
                headers: record.headers.clone(),
                writers: batch.writers().cloned(),
            })
            .collect()))
    }
}
