//! How many of some records a configuration can read, and why not the others: before they become dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::nearest;
use crate::record::decode::Decoder;
use crate::record::schema::{Features, SchemaSpec};
use crate::record::{DecodedBatch, Missing, RecordBatch, whole};
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// Reasons that are told.
const REASONS_MAX: usize = 3;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Records that were tried.
    pub records: usize,
    /// Those that cannot be read.
    pub unread: usize,
    /// Why, and how many each, the most first.
    pub reasons: Vec<(String, usize)>,
    /// Keys of those that can be read, how many of them are in several partitions of a topic, and the first of these with how many.
    pub keys: usize,
    /// See `keys`.
    pub spread: usize,
    /// See `keys`.
    pub for_one: Option<(String, usize)>,
    /// Features and categories that none of those that can be read has, each with the field that may be meant.
    pub unseen: Vec<(String, Option<String>)>,
}

impl Trial {
    /// What is to be said of all that were tried.
    #[must_use]
    pub fn words(&self) -> String {
        self.unread_words()
            .unwrap_or_else(|| format!("the newest {} records can all be read", self.records))
    }

    /// What is to be said of keys that are in several partitions; `None` if there are none.
    #[must_use]
    pub fn spread_words(&self) -> Option<String> {
        let (key, partitions) = self.for_one.as_ref()?;
        Some(format!(
            "{} of {} keys are in several partitions (`{key}` in {partitions}): each is judged in each partition by itself, on a part of its records, and alerts.false_alarm_rate counts for each; produce records with the key as \
             Kafka's key, or into one partition",
            self.spread, self.keys
        ))
    }

    /// What is to be said of features that no record has; `None` if each is in some.
    #[must_use]
    pub fn unseen_words(&self) -> Option<String> {
        if self.unseen.is_empty() {
            return None;
        }
        let told = self.unseen.iter().map(|(path, meant)| match meant {
            Some(meant) => format!("`{path}` (did you mean `{meant}`?)"),
            None => format!("`{path}`"),
        });
        let told: Vec<String> = told.collect();
        Some(format!(
            "none of the {} records that can be read has {}: it is not judged until one has",
            self.records - self.unread,
            told.join(", ")
        ))
    }

    /// What is to be said of those that cannot be read; `None` if all can.
    #[must_use]
    pub fn unread_words(&self) -> Option<String> {
        if self.unread == 0 {
            return None;
        }
        let told = self.reasons.iter().take(REASONS_MAX);
        let told: Vec<String> = told.map(|(why, n)| format!("{n} because {why}")).collect();
        let more = self.reasons.len().saturating_sub(REASONS_MAX);
        let more = match more {
            0 => String::new(),
            more => format!("; and {more} more reasons"),
        };
        Some(format!(
            "{} of {} records cannot be read like this and become dead letters: {}{more}",
            self.unread,
            self.records,
            told.join("; ")
        ))
    }
}

/// Tries to read all records of a batch. Where the features are still to be found, they are found in the batch.
#[must_use]
pub fn trial(spec: &SchemaSpec, batch: &RecordBatch) -> Trial {
    let mut spec = spec.clone();
    let values = batch
        .records()
        .iter()
        .filter_map(|record| batch.value(record));
    let found = spec.resolve(values);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut unseen, mut keys) = (Vec::new(), BTreeMap::new());
    match spec.check() {
        Ok(schema) if found => {
            let decoded = Decoder::new(Arc::new(schema)).decode(batch);
            unseen = never_seen(&spec, batch);
            keys = spread(&decoded, batch);
            for error in decoded.outcomes.iter().filter_map(|one| one.as_ref().err()) {
                *reasons.entry(one_line(&error.to_string())).or_default() += 1;
            }
        }
        Ok(_) => _ = reasons.insert("no field is a number".to_owned(), batch.len()),
        Err(problems) => {
            let why = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            reasons.insert(one_line(&why), batch.len());
        }
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().filter(|(_, n)| 0 < *n).collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let several = keys.iter().filter(|(_, partitions)| 1 < **partitions);
    let for_one = several
        .clone()
        .next()
        .map(|(key, partitions)| (one_line(key), *partitions));
    Trial {
        keys: keys.len(),
        spread: several.count(),
        for_one,
        records: batch.len(),
        unread: reasons.iter().map(|(_, count)| count).sum(),
        reasons,
        unseen,
    }
}

/// Of each key, in how many partitions of one topic it is.
fn spread(decoded: &DecodedBatch, batch: &RecordBatch) -> BTreeMap<String, usize> {
    let mut of_key: BTreeMap<&str, BTreeMap<&str, BTreeSet<u32>>> = BTreeMap::new();
    for (outcome, record) in decoded.outcomes.iter().zip(batch.records()) {
        if let Ok(read) = outcome {
            let at = &batch.sources()[record.source];
            let topics = of_key.entry(read.key.as_str()).or_default();
            topics
                .entry(&*at.topic)
                .or_default()
                .insert(at.partition.0 as u32);
        }
    }
    let most = |topics: BTreeMap<_, BTreeSet<u32>>| topics.values().map(BTreeSet::len).max();
    let each = of_key.into_iter();
    each.map(|(key, topics)| (key.to_owned(), most(topics).unwrap_or(0)))
        .collect()
}

/// Features and categories that no record has of those that can be read, and what may be meant. What stands in for a missing value is not a value.
fn never_seen(spec: &SchemaSpec, batch: &RecordBatch) -> Vec<(String, Option<String>)> {
    let as_it_is = SchemaSpec {
        missing: Missing::Mask,
        missing_for: BTreeMap::new(),
        ..spec.clone()
    };
    let Ok(schema) = as_it_is.check().map(Arc::new) else {
        return Vec::new();
    };
    let decoded = Decoder::new(Arc::clone(&schema)).decode(batch);
    let read = |record: &usize| decoded.outcomes[*record].is_ok();
    let rows: Vec<&[f64]> = (0..batch.len())
        .filter(read)
        .map(|at| decoded.row(at))
        .collect();
    let seen = |name: &String| {
        let column = schema.columns().iter().position(|column| column == name);
        column.is_none_or(|column| rows.iter().any(|row| !row[column].is_nan()))
    };
    let listed = match &spec.features {
        Features::List(paths) => &paths[..],
        Features::Auto(_) | Features::Array { .. } => &[],
    };
    let measured = listed
        .iter()
        .filter(|path| !spec.categories.contains_key(*path));
    let measured = measured.filter(|path| !seen(path));
    let categories = spec.categories.iter().filter(|(path, values)| {
        let names = values.iter().map(|value| format!("{path}={value}"));
        !names.into_iter().any(|name| seen(&name))
    });
    let unseen: Vec<&String> = measured.chain(categories.map(|(path, _)| path)).collect();
    if unseen.is_empty() || rows.is_empty() {
        return Vec::new();
    }
    let there: BTreeSet<String> = whole::all(spec, batch)
        .0
        .into_iter()
        .flatten()
        .map(|(path, _)| path)
        .collect();
    let there: Vec<String> = there
        .into_iter()
        .filter(|path| !listed.contains(path))
        .collect();
    let meant = |path: &str| nearest(path, &there).cloned();
    unseen
        .into_iter()
        .map(|path| (path.clone(), meant(path)))
        .collect()
}

/// A reason quotes what records have: it is a comment of one line, and nothing that a terminal obeys.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The lines of a file as records of a topic, without those that are blank.
#[must_use]
pub fn lines(content: &[u8]) -> RecordBatch {
    let mut batch = RecordBatch::default();
    let at = TopicPartition::new("", 0);
    for line in content.split(|&byte| byte == b'\n') {
        if !line.iter().all(u8::is_ascii_whitespace) {
            let place = (Offset(batch.len() as i64), Timestamp(0));
            batch.push(&at, place, None, Some(line), Vec::new());
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(spec: &str, records: &str) -> Trial {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        trial(&spec, &lines(records.as_bytes()))
    }

    #[test]
    fn keys_that_are_spread_over_partitions_are_told_of() {
        let spec: SchemaSpec =
            serde_json::from_str(r#"{"features": ["x"], "key": ["host"]}"#).unwrap();
        let tried = |place: &dyn Fn(i64) -> (&'static str, i32)| {
            let mut batch = RecordBatch::default();
            for offset in 0..12 {
                let (topic, partition) = place(offset);
                let value = format!(r#"{{"host": "h{}", "x": 1}}"#, offset % 3);
                let at = TopicPartition::new(topic, partition);
                let place = (Offset(offset), Timestamp(0));
                batch.push(&at, place, None, Some(value.as_bytes()), Vec::new());
            }
            trial(&spec, &batch)
        };
        // As somebody produces who names no key.
        let words = tried(&|offset| ("t", (offset % 2) as i32))
            .spread_words()
            .unwrap();
        assert!(
            words.starts_with("3 of 3 keys are in several partitions (`h0` in 2): "),
            "{words}"
        );
        assert_eq!(
            tried(&|offset| ("t", (offset % 3) as i32)).spread_words(),
            None
        );
        // Topics are judged apart anyway.
        let topics = ["a", "b"];
        assert_eq!(
            tried(&|offset| (topics[offset as usize % 2], (offset % 2) as i32)).spread_words(),
            None
        );
    }

    #[test]
    fn a_misspelt_feature_is_named_with_the_field_that_may_be_meant() {
        let records = r#"{"host": "a", "requests": 5, "latency_p50": 3.5, "mode": "on"}
{"host": "b", "requests": null, "latency_p50": 3.5}
no record"#;
        for missing in [r#""mask""#, "0.0", r#""dead_letter""#] {
            let spec = format!(
                r#"{{"features": ["requests", "latncy_p50", "heat"], "categories": {{"mode": ["on"], "moode": ["on"]}}, "key": ["host"], "missing": {missing}}}"#
            );
            let found = tried(&spec, records);
            let named =
                |path: &str, meant: Option<&str>| (path.to_owned(), meant.map(str::to_owned));
            let wanted = [
                named("latncy_p50", Some("latency_p50")),
                named("heat", None),
                named("moode", Some("mode")),
            ];
            assert_eq!(found.unseen, wanted, "{missing}");
        }
        let found = tried(r#"{"features": ["requests", "latncy_p50"]}"#, records);
        assert_eq!(
            found.unseen_words().unwrap(),
            "none of the 1 records that can be read has `latncy_p50` (did you mean `latency_p50`?): it is not judged until one has"
        );
        // What says nothing of features says nothing of this either.
        for features in [r#"["requests", "latency_p50"]"#, r#""auto""#] {
            let spec = format!(r#"{{"features": {features}}}"#);
            assert_eq!(tried(&spec, records).unseen_words(), None);
        }
        let all_lack_the_key = tried(r#"{"features": ["latncy"], "key": ["machine"]}"#, records);
        assert_eq!(
            (all_lack_the_key.unseen, all_lack_the_key.unread),
            (vec![], 3)
        );
    }
}
