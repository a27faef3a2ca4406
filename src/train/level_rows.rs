//! A few records of every key, from all over the history: what is usual for a key is learnt from them where stretches keep only some of the keys.
//!
//! Of each key and stretch the records with the least hashes are kept (bottom-k sampling: Cohen and Kaplan, "Summarizing Data Using Bottom-k
//! Sketches", PODC 2007): a uniform sample that is the same in whatever order records are read, and whatever else is kept.

use rustc_hash::FxHashMap;

use super::rows::PartitionRows;
use crate::model::card::LevelSample;
use crate::model::levels;
use crate::record::Key;
use crate::seed::Seed;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// Records of a key over all stretches, as wanted and at least: blocks of its time are medians of five.
const RECORDS: u64 = 40;
const RECORDS_MIN: u64 = levels::ROWS_MIN as u64;

/// Numbers in all, at most: 80 MB.
pub(super) const NUMBERS_MAX: u64 = 10_000_000;

/// A record that is kept while no other of its key and stretch has a lesser hash.
#[derive(Clone, Debug)]
struct Kept {
    hash: u64,
    offset: Offset,
    time: Timestamp,
    row: Box<[f64]>,
}

/// What is kept of one stretch.
#[derive(Clone, Debug)]
pub(super) struct LevelRows {
    seed: Seed,
    rule: LevelSample,
    /// Of each key in order of their hashes.
    of_key: FxHashMap<Key, Vec<Kept>>,
}

impl LevelRows {
    /// None yet. Of one partition, by the seed of the training.
    pub fn new(at: &TopicPartition, seed: Seed) -> Self {
        Self {
            seed: seed.child("levels").child(&at.to_string()),
            rule: LevelSample {
                each: RECORDS,
                one_in: 1,
            },
            of_key: FxHashMap::default(),
        }
    }

    /// By the rule of other stretches.
    pub fn by(self, rule: LevelSample) -> Self {
        Self { rule, ..self }
    }

    /// How many records are kept of how many keys.
    pub fn rule(&self) -> LevelSample {
        self.rule
    }

    /// Sees a record.
    pub fn push(&mut self, key: &Key, time: Timestamp, offset: Offset, row: &[f64]) {
        let each = self.rule.each as usize;
        let hash = self.seed.nth(offset.0 as u64).0;
        let kept = match self.of_key.get_mut(key) {
            Some(kept) => kept,
            None if self.seed.picks(&key.0, self.rule.one_in) => {
                self.of_key.entry(key.clone()).or_default()
            }
            None => return,
        };
        if kept.len() < each || kept.last().is_some_and(|last| hash < last.hash) {
            let place = kept.partition_point(|other| other.hash < hash);
            let row = row.into();
            let record = Kept {
                hash,
                offset,
                time,
                row,
            };
            kept.insert(place, record);
            kept.truncate(each);
        }
    }

    /// Keeps fewer records of each key, and fewer keys where the least of each are too many, so that `parts` stretches like this have about `most` records.
    pub fn shrink(&mut self, most: u64, parts: u64) {
        while self.of_key.len() as u64 * RECORDS_MIN > most && self.of_key.len() > 1 {
            self.rule.one_in *= 2;
            let (seed, one_in) = (self.seed, self.rule.one_in);
            self.of_key.retain(|key, _| seed.picks(&key.0, one_in));
        }
        let keys = self.of_key.len() as u64;
        let records = (most / keys.max(1)).clamp(RECORDS_MIN, RECORDS);
        let each = records.div_ceil(parts).min(self.rule.each);
        if each < self.rule.each {
            self.rule.each = each;
            self.of_key.retain(|_, kept| {
                kept.truncate(each as usize);
                true
            });
        }
    }

    /// Adds what is kept to the rows of earlier stretches, in order.
    pub fn append_to(self, rows: &mut PartitionRows) {
        let of_key = self.of_key.into_iter();
        let mut all: Vec<(Key, Kept)> = of_key
            .flat_map(|(key, kept)| kept.into_iter().map(move |record| (key.clone(), record)))
            .collect();
        all.sort_unstable_by_key(|(_, record)| record.offset);
        for (key, record) in &all {
            rows.push(key, record.time, record.offset, &record.row);
        }
    }
}
