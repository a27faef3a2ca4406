//! Which records to read: long stretches, because windows need neighbours, spread over the history; and where many keys share a partition, of
//! some of the keys only, so that what is kept is bounded and yet made of whole runs.
//!
//! A stretch grows backwards from its end until the records that it keeps lie in runs that are long enough. Whenever it holds too many, half
//! of the keys are dropped, by a hash: distinct sampling (Gibbons, "Distinct Sampling for Highly-Accurate Answers to Distinct Values Queries and
//! Event Reports", VLDB 2001). Which half differs from stretch to stretch and from training to training, so that in time every key is
//! learnt from. Keys that speak often need no long stretch: they are all kept, from its newest part, as often as they speak. Where keys are dropped, a few
//! records of every key are kept beside, so that what is usual for it is known (see `level_rows`).

use std::collections::BTreeMap;

use super::level_rows::{self, LevelRows};
use super::rows::PartitionRows;
use crate::model::card::{KeySample, Stretch};
use crate::record::{DecodedBatch, Key, RecordBatch};
use crate::seed::Seed;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;

/// Stretches that a sample of one partition is made of, at most.
const STRETCHES: u64 = 16;

/// Records of a key that are long enough a run, at least; and windows' lengths. An eighth of a run's records are then no window's newest.
const RUN_MIN: u64 = 64;
const RUN_WINDOWS: u64 = 8;

/// Runs of sufficient length that a stretch has room for, at least.
const STRETCH_RUNS: u64 = 4;

/// Share of a stretch's records that must lie in runs of sufficient length.
const LONG_SHARE: f64 = 0.75;

/// Records that are read for each one that may be kept, unless too few windows come of it.
const READ_FACTOR: u64 = 64;

/// Records that are read at once.
const PIECE: u64 = 65_536;

/// What is done with each readable record: its key, event time, place and numbers.
pub type Visit<'a> = dyn FnMut(&Key, Timestamp, Offset, &[f64]) + 'a;

/// Reads the readable records of a span, in the order of their offsets.
pub type Read<'a, E> = dyn FnMut(&Span, &mut Visit<'_>) -> Result<(), E> + 'a;

/// What is wanted of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Records that are kept at most.
    pub rows_max: u64,
    /// Windows below which it is of no use.
    pub rows_min: u64,
    /// W.
    pub window: u64,
    /// D.
    pub columns: usize,
}

impl Wanted {
    /// Records of one key that are long enough a run.
    fn run(&self) -> u64 {
        (RUN_WINDOWS * self.window).max(RUN_MIN)
    }
}

/// What was read, and how to read it again.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In order, none overlapping; the latest records of each partition are always among them.
    pub stretches: Vec<Stretch>,
    /// A part a partition.
    pub rows: Vec<PartitionRows>,
    /// A few records of every key, if `rows` has only some of the keys of a stretch; a part a partition that has any.
    pub level_rows: Vec<PartitionRows>,
}

impl Sample {
    /// Windows of length `window` that it may have, if nothing is kept out.
    #[must_use]
    pub fn windows(&self, window: u64) -> u64 {
        let of_part = |rows: &PartitionRows| -> u64 {
            let counts = rows.counts().into_iter();
            counts.map(|n| (n + 1).saturating_sub(window)).sum()
        };
        self.rows.iter().map(of_part).sum()
    }

    /// Adds what was kept of a later stretch.
    fn push(&mut self, filling: Filling, columns: usize) {
        let at = filling.span.at.clone();
        let (stretch, rows, levels) = filling.finish();
        self.stretches.push(stretch);
        part(&mut self.rows, &at, columns).append(&rows);
        if let Some(levels) = levels {
            levels.append_to(part(&mut self.level_rows, &at, columns));
        }
    }
}

/// The rows of a partition among those of several.
fn part<'p>(
    parts: &'p mut Vec<PartitionRows>,
    at: &TopicPartition,
    columns: usize,
) -> &'p mut PartitionRows {
    let known = parts.iter().position(|rows| rows.at == *at);
    let place = known.unwrap_or_else(|| {
        parts.push(PartitionRows::new(at.clone(), columns));
        parts.len() - 1
    });
    &mut parts[place]
}

/// Reads all of `available` if they hold at most `rows_max` records, else stretches of them.
pub fn draw<E>(
    available: &[Span],
    wanted: Wanted,
    seed: Seed,
    read: &mut Read<'_, E>,
) -> Result<Sample, E> {
    let total: u64 = available.iter().map(Span::len).sum();
    let mut sample = Sample::default();
    for span in available.iter().filter(|span| !span.is_empty()) {
        let drawn = if total <= wanted.rows_max {
            vec![whole(span, wanted, seed, read)?]
        } else {
            // Each partition's share, by its size.
            let share =
                |of: u64| (u128::from(of) * u128::from(span.len()) / u128::from(total)) as u64;
            let room = Room {
                rows: share(wanted.rows_max).max(1),
                level_rows: share(level_rows::NUMBERS_MAX / wanted.columns.max(1) as u64).max(1),
            };
            partition(span, room, wanted, (seed, read))?
        };
        for filling in drawn {
            sample.push(filling, wanted.columns);
        }
    }
    Ok(sample)
}

/// Reads the same records once more.
pub fn again<E>(
    stretches: &[Stretch],
    columns: usize,
    seed: Seed,
    read: &mut Read<'_, E>,
) -> Result<Sample, E> {
    let mut sample = Sample::default();
    for stretch in stretches {
        let span = &stretch.span;
        let mut filling = Filling::new(span, columns, seed);
        match stretch.keys {
            Some(keys) => {
                filling.often = keys.often;
                filling.one_in = keys.one_in;
                filling.levels = keys.levels.map(|rule| filling.level_rows().by(rule));
                filling.grow(keys.near, read)?;
            }
            None => filling.often = u64::MAX,
        }
        filling.grow(span.from, read)?;
        sample.push(filling, columns);
    }
    Ok(sample)
}

/// All records of a span.
fn whole<E>(span: &Span, wanted: Wanted, seed: Seed, read: &mut Read<'_, E>) -> Result<Filling, E> {
    let mut filling = Filling::new(span, wanted.columns, seed);
    filling.often = u64::MAX;
    filling.grow(span.from, read)?;
    Ok(filling)
}

/// Records of a partition that may be kept.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: u64,
    level_rows: u64,
}

/// At most about as many records of one partition as there is room for, as stretches in order.
fn partition<E>(
    span: &Span,
    Room { rows, level_rows }: Room,
    wanted: Wanted,
    (seed, read): (Seed, &mut Read<'_, E>),
) -> Result<Vec<Filling>, E> {
    let most = (rows / (STRETCH_RUNS * wanted.run())).clamp(1, STRETCHES);
    // The newest stretch shows how long one must be.
    let mut newest = Filling::new(span, wanted.columns, seed);
    newest.often = wanted.run();
    newest.levels = Some(newest.level_rows());
    newest.grow(back(span, span.to, rows / most), read)?;
    let limit = READ_FACTOR * rows;
    let enough = wanted.rows_min * rows / wanted.rows_max.max(1);
    while span.from < newest.from && !newest.is_long(wanted) {
        let length = newest.length();
        if length >= limit && newest.windows(wanted.window) >= enough {
            break;
        }
        // By little, so that it is hardly longer than it must be: the shorter stretches are, the more there are.
        newest.grow(back(span, newest.from, length / 4), read)?;
        newest.shrink(rows);
        newest.shrink_levels(level_rows, 1);
    }
    let length = newest.length().max(1);
    let parts = (limit / length).min(span.len() / length).clamp(1, most);
    newest.shrink(rows / parts);
    newest.shrink_levels(level_rows, parts);
    if newest.one_in == 1 {
        newest.levels = None;
    }
    let mut drawn = Vec::new();
    let mut rng = seed.child("sample").rng();
    let rest = Span {
        to: newest.from,
        ..span.clone()
    };
    for i in 1..parts {
        let part = rest.len() / (parts - 1);
        let begin = rest.from.0 + ((i - 1) * part) as i64;
        let slack = part.saturating_sub(length);
        let from = begin + rand::Rng::gen_range(&mut rng, 0..=slack) as i64;
        let place = Span {
            at: span.at.clone(),
            from: Offset(from),
            to: Offset(from + length.min(part) as i64),
        };
        let mut filling = Filling::new(&place, wanted.columns, seed);
        filling.often = wanted.run();
        filling.one_in = newest.one_in;
        let levels = newest.levels.as_ref();
        filling.levels = levels.map(|levels| filling.level_rows().by(levels.rule()));
        filling.grow(back(&place, place.to, rows / parts), read)?;
        while place.from < filling.from {
            let length = filling.length();
            filling.grow(back(&place, filling.from, length), read)?;
            filling.shrink(rows / parts);
            filling.shrink_levels(level_rows, parts);
        }
        drawn.push(filling);
    }
    drawn.push(newest);
    Ok(drawn)
}

/// The offset `records` before `to`, within the span.
fn back(span: &Span, to: Offset, records: u64) -> Offset {
    let records = i64::try_from(records.max(1)).unwrap_or(i64::MAX);
    Offset(to.0.saturating_sub(records).max(span.from.0))
}

/// A stretch that grows backwards.
#[derive(Debug)]
struct Filling {
    seed: Seed,
    span: Span,
    salt: Seed,
    columns: usize,
    /// Records in the newest part that make a key a frequent one.
    often: u64,
    /// One key in so many is kept: a power of two.
    one_in: u64,
    from: Offset,
    /// Where the newest part begins, once it was read, and its frequent keys.
    near: Option<(Offset, BTreeMap<Key, u64>)>,
    /// What is kept, the newest first.
    pieces: Vec<PartitionRows>,
    /// A few records of every key, where some keys are not kept.
    levels: Option<LevelRows>,
}

impl Filling {
    fn new(span: &Span, columns: usize, seed: Seed) -> Self {
        let salt = seed.child("keys").child(&span.at.to_string());
        Self {
            seed,
            span: span.clone(),
            salt: salt.nth(span.to.0 as u64),
            columns,
            often: u64::MAX,
            one_in: 1,
            from: span.to,
            near: None,
            pieces: Vec::new(),
            levels: None,
        }
    }

    /// A few records of every key, none of them seen yet.
    fn level_rows(&self) -> LevelRows {
        LevelRows::new(&self.span.at, self.seed)
    }

    /// Reads back to `from`. The first time that is the newest part, of which all frequent keys are kept.
    fn grow<E>(&mut self, from: Offset, read: &mut Read<'_, E>) -> Result<(), E> {
        let whole = Span {
            from,
            to: self.from,
            ..self.span.clone()
        };
        while from < self.from {
            let span = Span {
                from: back(&whole, self.from, PIECE),
                to: self.from,
                ..self.span.clone()
            };
            let mut piece = PartitionRows::new(self.span.at.clone(), self.columns);
            let (salt, one_in, near) = (self.salt, self.one_in, &self.near);
            let levels = &mut self.levels;
            read(&span, &mut |key, time, offset, row| {
                if let Some(levels) = levels {
                    levels.push(key, time, offset, row);
                }
                let kept = match near {
                    None => true,
                    Some((_, frequent)) => {
                        salt.picks(&key.0, one_in) && !frequent.contains_key(key)
                    }
                };
                if kept {
                    piece.push(key, time, offset, row);
                }
            })?;
            self.from = span.from;
            self.pieces.push(piece);
        }
        if self.near.is_none() {
            let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
            for piece in &self.pieces {
                for (key, n) in piece.keys().iter().zip(piece.counts()) {
                    *counts.entry(key.clone()).or_default() += n;
                }
            }
            counts.retain(|_, n| *n >= self.often);
            self.near = Some((from, counts));
            self.drop_keys();
        }
        Ok(())
    }

    /// Halves the keys until no more than `rows` records are kept, frequent ones aside.
    fn shrink(&mut self, rows: u64) {
        let frequent: u64 = self.near.iter().flat_map(|(_, keys)| keys.values()).sum();
        let room = rows.saturating_sub(frequent).max(1);
        while self.slow().values().sum::<u64>() > room {
            self.one_in *= 2;
            self.drop_keys();
        }
    }

    /// Keeps fewer records for levels, so that `most` are enough for `parts` stretches like this.
    fn shrink_levels(&mut self, most: u64, parts: u64) {
        if let Some(levels) = &mut self.levels {
            levels.shrink(most, parts);
        }
    }

    /// Leaves out the keys that are not kept.
    fn drop_keys(&mut self) {
        let Some((_, frequent)) = &self.near else {
            return;
        };
        if self.one_in > 1 {
            for piece in &mut self.pieces {
                piece.retain(|key| {
                    frequent.contains_key(key) || self.salt.picks(&key.0, self.one_in)
                });
            }
        }
    }

    /// Records kept of each key that is not frequent.
    fn slow(&self) -> BTreeMap<&Key, u64> {
        let mut counts = BTreeMap::new();
        for piece in &self.pieces {
            for (key, n) in piece.keys().iter().zip(piece.counts()) {
                *counts.entry(key).or_default() += n;
            }
        }
        if let Some((_, frequent)) = &self.near {
            counts.retain(|key, _| !frequent.contains_key(*key));
        }
        counts
    }

    /// Whether most records lie in runs of sufficient length: of all where only the newest part was read, else of those of slow keys.
    fn is_long(&self, wanted: Wanted) -> bool {
        let slow = self.slow();
        let all: u64 = slow.values().sum();
        let long: u64 = slow.values().filter(|n| **n >= wanted.run()).sum();
        let (near, frequent) = match &self.near {
            Some((near, frequent)) => (self.from == *near, frequent.values().sum()),
            None => (true, 0),
        };
        let also = if near { frequent } else { 0 };
        (long + also) as f64 >= LONG_SHARE * (all + also) as f64
    }

    /// Windows of the records kept.
    fn windows(&self, window: u64) -> u64 {
        let slow = self.slow().into_values();
        let frequent = self
            .near
            .iter()
            .flat_map(|(_, keys)| keys.values().copied());
        slow.chain(frequent)
            .map(|n| (n + 1).saturating_sub(window))
            .sum()
    }

    /// Offsets read.
    fn length(&self) -> u64 {
        u64::try_from(self.span.to.0 - self.from.0).unwrap_or(0)
    }

    /// How to read it again; what was kept, in order; and what was kept for levels.
    fn finish(self) -> (Stretch, PartitionRows, Option<LevelRows>) {
        let mut rows = PartitionRows::new(self.span.at.clone(), self.columns);
        for piece in self.pieces.iter().rev() {
            rows.append(piece);
        }
        let part_of = |(near, frequent): (Offset, BTreeMap<Key, u64>)| {
            let some = self.one_in > 1 || (near > self.from && !frequent.is_empty());
            some.then_some(KeySample {
                near,
                often: self.often,
                one_in: self.one_in,
                levels: self.levels.as_ref().map(LevelRows::rule),
            })
        };
        let stretch = Stretch {
            keys: self.near.and_then(part_of),
            span: Span {
                from: self.from,
                ..self.span
            },
        };
        (stretch, rows, self.levels)
    }
}

/// Shows the readable records of a batch; the rest are passed over, as they never reach a model.
pub fn visit(batch: &RecordBatch, decoded: &DecodedBatch, visit: &mut Visit<'_>) {
    for (i, raw) in batch.records().iter().enumerate() {
        if let Ok(found) = &decoded.outcomes[i] {
            visit(&found.key, found.time, raw.offset, decoded.row(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::TopicPartition;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn span(partition: i32, from: i64, to: i64) -> Span {
        Span {
            at: TopicPartition::new("t", partition),
            from: Offset(from),
            to: Offset(to),
        }
    }

    fn wanted(rows_max: u64, window: u64) -> Wanted {
        Wanted {
            rows_max,
            rows_min: 500.min(rows_max),
            window,
            columns: 1,
        }
    }

    /// A log in which record `offset` is of key `key(offset)`; counts what is read.
    struct Log<'a>(&'a dyn Fn(i64) -> u64, u64);

    impl Log<'_> {
        fn draw(&mut self, available: &[Span], wanted: Wanted, seed: u64) -> Sample {
            let Ok(sample) = draw::<Infallible>(available, wanted, Seed(seed), &mut |s, v| {
                self.read(s, v);
                Ok(())
            });
            sample
        }

        fn again(&mut self, stretches: &[Stretch], seed: u64) -> Sample {
            let Ok(sample) = again::<Infallible>(stretches, 1, Seed(seed), &mut |s, v| {
                self.read(s, v);
                Ok(())
            });
            sample
        }

        fn read(&mut self, span: &Span, visit: &mut Visit<'_>) {
            for offset in span.from.0..span.to.0 {
                self.1 += 1;
                let key = Key(format!("key-{}", (self.0)(offset)).into());
                visit(&key, Timestamp(offset), Offset(offset), &[offset as f64]);
            }
        }
    }

    fn offsets(rows: &[PartitionRows]) -> Vec<Vec<Offset>> {
        let of = |rows: &PartitionRows| (0..rows.len()).map(|i| rows.offset(i)).collect();
        rows.iter().map(of).collect()
    }

    /// Distinct keys of a sample.
    fn keys(sample: &Sample) -> usize {
        sample.rows.iter().map(|rows| rows.keys().len()).sum()
    }

    #[test]
    fn little_is_read_whole() {
        let spans = [span(0, 5, 105), span(1, 0, 0)];
        let sample = Log(&|_| 0, 0).draw(&spans, wanted(100, 1), 1);
        assert_eq!(sample.stretches, [Stretch::from(span(0, 5, 105))]);
        assert_eq!(sample.rows[0].len(), 100);
    }

    #[test]
    fn any_number_of_keys_has_windows() {
        for keys_of_log in [1, 4, 120, 140, 1000, 20_000] {
            let records = (keys_of_log * 50).max(60_000);
            for window in [1, 10] {
                let key = |offset: i64| offset as u64 % keys_of_log;
                let mut log = Log(&key, 0);
                let wanted = wanted(5000, window);
                let sample = log.draw(&[span(0, 0, records as i64)], wanted, 7);
                let found = sample.windows(window);
                assert!(found > 1500, "{keys_of_log} keys, {window}: {found}");
                assert!(sample.rows[0].len() <= 5000, "{keys_of_log} keys");
                assert!(log.1 <= records, "{keys_of_log} keys: {} read", log.1);
                // Few keys cost no more than is kept.
                assert!(keys_of_log > 4 || log.1 <= 5000, "{} read", log.1);
                // Another training learns from others; none is lost for ever.
                if keys_of_log == 1000 {
                    let mut seen = std::collections::BTreeSet::new();
                    for seed in 0..60 {
                        let sample = log.draw(&[span(0, 0, records as i64)], wanted, seed);
                        seen.extend(sample.rows[0].keys().to_vec());
                    }
                    assert!(seen.len() > 900, "{} keys in 60 trainings", seen.len());
                }
            }
        }
    }

    #[test]
    fn a_key_that_speaks_often_is_learnt_from_as_often_as_it_speaks() {
        // Every second record is of key 0, the others of 5,000 keys.
        let key = |offset: i64| {
            if offset % 2 == 0 {
                0
            } else {
                offset as u64 % 9973
            }
        };
        let sample = Log(&key, 0).draw(&[span(0, 0, 1_000_000)], wanted(20_000, 10), 3);
        let rows = &sample.rows[0];
        let hot = (0..rows.len())
            .filter(|&i| rows.offset(i).0 % 2 == 0)
            .count();
        assert!(rows.len() > 5000 && rows.len() <= 20_000, "{}", rows.len());
        assert!(
            hot >= 600 && hot <= rows.len() / 2 + 1250,
            "{hot} of {}",
            rows.len()
        );
        assert!(keys(&sample) > 30, "{}", keys(&sample));
        assert!(sample.windows(10) > rows.len() as u64 / 2);
    }

    #[test]
    fn a_few_records_of_every_key_are_read_from_all_of_the_history() {
        // The records of a tenth of the keys lie in the last third only.
        let (keys, records) = (1000, 300_000);
        let key = |offset: i64| {
            let key = Seed(offset as u64).nth(1).0 % keys;
            let young = key.is_multiple_of(10) && offset < 200_000;
            if young { key + 1 } else { key }
        };
        let sample = Log(&key, 0).draw(&[span(0, 0, records)], wanted(20_000, 10), 5);
        assert!(sample.rows[0].keys().len() < 500);
        let rows = &sample.level_rows[0];
        assert_eq!(rows.keys().len(), keys as usize);
        for (key, records) in rows.keys().iter().zip(rows.of_keys()) {
            let late = records.iter().filter(|&&i| rows.offset(i).0 >= 200_000);
            let (all, late) = (records.len(), late.count());
            let young = key.0.ends_with('0');
            assert!(all <= 48, "{key:?}: {all}");
            assert!(young || all >= 30, "{key:?}: {all}");
            let early = all - late;
            assert!(
                late >= 8 && (young || early >= 8),
                "{key:?}: {late} of {all}"
            );
        }
        // All keys of few are kept anyway.
        let few =
            Log(&|offset| offset as u64 % 8, 0).draw(&[span(0, 0, records)], wanted(20_000, 10), 5);
        assert!(few.level_rows.is_empty());
    }

    #[test]
    fn of_too_many_keys_fewer_records_are_read_and_then_fewer_keys() {
        let keys_and_records = |most: u64| {
            let mut levels = LevelRows::new(&TopicPartition::new("t", 0), Seed(3));
            for offset in 0..100_000 {
                let key = Key(format!("key-{}", offset % 1000).into());
                levels.push(&key, Timestamp(offset), Offset(offset), &[0.0]);
                if offset % 10_000 == 0 {
                    levels.shrink(most, 1);
                }
            }
            levels.shrink(most, 4);
            let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 1);
            levels.append_to(&mut rows);
            (rows.keys().len(), rows.len())
        };
        assert_eq!(keys_and_records(u64::MAX), (1000, 10_000));
        assert_eq!(keys_and_records(24_000), (1000, 6000));
        let (keys, records) = keys_and_records(10_000);
        assert!((300..=500).contains(&keys), "{keys}");
        assert_eq!(records, 5 * keys);
    }

    proptest! {
        #[test]
        fn much_is_sampled_within_bounds(
            sizes in proptest::collection::vec(0i64..40_000, 1..5), rows_max in 100u64..10_000, seed in any::<u64>(),
            keys in 1u64..3000, window in 1u64..12,
        ) {
            let spans: Vec<Span> = sizes.iter().zip(0..).map(|(&n, p)| span(p, 7, 7 + n)).collect();
            let key = |offset: i64| Seed(offset as u64).nth(1).0 % keys;
            let mut log = Log(&key, 0);
            let sample = log.draw(&spans, wanted(rows_max, window), seed);
            let kept: u64 = sample.rows.iter().map(|rows| rows.len() as u64).sum();
            prop_assert!(kept <= rows_max + spans.len() as u64);
            // The card's stretches are enough to read the same again.
            let again = log.again(&sample.stretches, seed);
            prop_assert_eq!(offsets(&again.rows), offsets(&sample.rows));
            prop_assert_eq!(offsets(&again.level_rows), offsets(&sample.level_rows));
            for pair in sample.stretches.windows(2) {
                let (a, b) = (&pair[0].span, &pair[1].span);
                prop_assert!(a.at != b.at || a.to <= b.from, "{:?}", pair);
            }
            for stretch in &sample.stretches {
                let whole = spans.iter().find(|span| span.at == stretch.span.at).unwrap();
                prop_assert!(whole.from <= stretch.span.from && stretch.span.to <= whole.to);
            }
            // The latest stretch of each partition ends with its latest record.
            for whole in spans.iter().filter(|span| !span.is_empty()) {
                prop_assert!(sample.stretches.iter().any(|s| s.span.at == whole.at && s.span.to == whole.to));
            }
        }
    }
}
