//! What training reads: decoded records of one partition, in offset order.

use rustc_hash::FxHashMap;

use crate::record::Key;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// Decoded records of one partition. Columns of the same length, so that a week of records costs little more than its numbers.
#[derive(Clone, Debug)]
pub struct PartitionRows {
    /// The partition.
    pub at: TopicPartition,
    /// D.
    columns: usize,
    /// Distinct keys, in order of appearance.
    keys: Vec<Key>,
    index: FxHashMap<Key, u32>,
    key_of: Vec<u32>,
    times: Vec<Timestamp>,
    offsets: Vec<Offset>,
    /// `n × D`, row-major, NaN where not observed.
    values: Vec<f64>,
}

impl PartitionRows {
    /// None yet, of `columns` features each.
    pub fn new(at: TopicPartition, columns: usize) -> Self {
        Self {
            at,
            columns,
            keys: Vec::new(),
            index: FxHashMap::default(),
            key_of: Vec::new(),
            times: Vec::new(),
            offsets: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Of the same partition and columns, without records.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.at.clone(), self.columns)
    }

    /// Adds a record; offsets ascend.
    ///
    /// # Panics
    /// If `row` has not as many numbers as there are columns.
    pub fn push(&mut self, key: &Key, time: Timestamp, offset: Offset, row: &[f64]) {
        assert_eq!(row.len(), self.columns, "a row has D numbers");
        let number = match self.index.get(key) {
            Some(&number) => number,
            None => {
                let number = self.keys.len() as u32;
                self.keys.push(key.clone());
                self.index.insert(key.clone(), number);
                number
            }
        };
        self.key_of.push(number);
        self.times.push(time);
        self.offsets.push(offset);
        self.values.extend_from_slice(row);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Distinct keys; [`Self::key_number`] counts in it.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Which key record `i` belongs to.
    pub fn key_number(&self, i: usize) -> usize {
        self.key_of[i] as usize
    }

    /// When record `i` happened.
    pub fn time(&self, i: usize) -> Timestamp {
        self.times[i]
    }

    /// Where record `i` is.
    pub fn offset(&self, i: usize) -> Offset {
        self.offsets[i]
    }

    /// The numbers of record `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// The records of each of [`Self::keys`], in order.
    pub fn of_keys(&self) -> Vec<Vec<usize>> {
        let mut of_key: Vec<Vec<usize>> = vec![Vec::new(); self.keys.len()];
        for i in 0..self.len() {
            of_key[self.key_number(i)].push(i);
        }
        of_key
    }

    /// How many records each of [`Self::keys`] has.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.keys.len()];
        for &key in &self.key_of {
            counts[key as usize] += 1;
        }
        counts
    }

    /// Adds the records of a later stretch of the same partition.
    pub fn append(&mut self, later: &Self) {
        for i in 0..later.len() {
            let key = &later.keys[later.key_number(i)];
            self.push(key, later.times[i], later.offsets[i], later.row(i));
        }
    }

    /// Keeps only the records of some keys.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        let kept: Vec<bool> = self.keys.iter().map(keep).collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let old = std::mem::replace(self, Self::new(self.at.clone(), self.columns));
        for i in (0..old.len()).filter(|&i| kept[old.key_number(i)]) {
            self.push(
                &old.keys[old.key_number(i)],
                old.times[i],
                old.offsets[i],
                old.row(i),
            );
        }
    }

    /// Forgets records below `offset`: for callers that keep a bounded history.
    pub fn forget_before(&mut self, offset: Offset) {
        let keep = self.offsets.partition_point(|&at| at < offset);
        self.key_of.drain(..keep);
        self.times.drain(..keep);
        self.offsets.drain(..keep);
        self.values.drain(..keep * self.columns);
    }
}
