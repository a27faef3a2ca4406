//! A configuration for records that nobody has described: what is the key, the time, a feature, a category. A guess from a sample, with a reason for
//! each, for a person to look over.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

use serde_json::Value;

pub use crate::record::whole::{Leaves, leaves};
use crate::record::{number, timestamp};
use crate::time::Timestamp;

/// Times that people have records of: from 2000 to 2100, in milliseconds.
const TIMES: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;
/// Values of a text at most that make it a category.
const CATEGORY_MAX: usize = 12;
/// The share of records that must have a field for it to count, of the keys that have it at all; and for it to name the key or the time, without which a
/// record cannot be read.
const COMMON: f64 = 0.5;
const NEARLY_ALL: f64 = 0.9;
/// The share of a key's records that share their time with others, or that follow one of another series, from which on a key has several series.
const SEVERAL: f64 = 0.5;
/// What fields are called that number records.
const NUMBER_WORDS: [&str; 7] = ["id", "uuid", "seq", "sequence", "number", "no", "nr"];
/// What fields are called that name a machine, or a time.
const KEY_WORDS: [&str; 22] = [
    "key", "machine", "pump", "device", "dev", "sensor", "host", "node", "instance", "unit",
    "meter", "asset", "robot", "turbine", "vehicle", "line", "station", "site", "plant", "serial",
    "name", "id",
];
const TIME_WORDS: [&str; 7] = [
    "ts",
    "time",
    "timestamp",
    "datetime",
    "date",
    "at",
    "created",
];
/// What numbers are called, beside those, that never change and are no readings.
const LABEL_WORDS: [&str; 15] = [
    "version", "revision", "rev", "firmware", "fw", "schema", "build", "release", "port", "pid",
    "type", "model", "tenant", "customer", "account",
];

/// What a field was in the sample.
#[derive(Debug, Default)]
struct Field {
    records: usize,
    numbers: usize,
    texts: usize,
    /// Texts that are numbers.
    written: usize,
    times: usize,
    /// Values as text; no more are kept than tell what it is.
    values: BTreeSet<String>,
    first: Option<f64>,
    whole: bool,
    constant: bool,
    rises: bool,
    last: f64,
}

impl Field {
    fn take(&mut self, value: &Value) {
        self.records += 1;
        let text = match value {
            Value::String(text) => {
                self.texts += 1;
                text.clone()
            }
            Value::Number(_) | Value::Bool(_) => {
                self.numbers += 1;
                value.to_string()
            }
            _ => return,
        };
        if let Some(number) = numeric(value) {
            self.written += usize::from(value.is_string());
            self.number(number);
        }
        let time = timestamp::read(&text);
        self.times += usize::from(time.is_ok_and(|Timestamp(ms)| TIMES.contains(&ms)));
        self.values.insert(text);
    }

    fn number(&mut self, value: f64) {
        if self.first.is_none() {
            (self.whole, self.constant, self.rises) = (true, true, true);
            self.last = value;
        }
        let first = *self.first.get_or_insert(value);
        self.whole &= value.fract() == 0.0;
        self.constant &= value.to_bits() == first.to_bits();
        self.rises &= self.last <= value;
        self.last = value;
    }

    fn is_time(&self) -> bool {
        0 < self.times && self.times == self.numbers + self.texts
    }

    /// Whether it is a number, or a text that is one and has decimals: whole numbers in texts are mostly names.
    fn is_number(&self) -> bool {
        let written = self.written == self.texts && self.numbers == 0 && !self.whole;
        0 < self.numbers + self.texts && (self.texts == 0 || written)
    }

    fn is_text(&self) -> bool {
        0 < self.texts && self.numbers == 0 && !self.is_number()
    }

    /// Whether it is only ever true or false, which names no machine.
    fn is_flag(&self) -> bool {
        let flag = |value: &String| ["true", "false"].contains(&value.to_lowercase().as_str());
        self.values.iter().all(flag)
    }

    /// Whether it has several values that come again and again.
    fn comes_again(&self) -> bool {
        2 <= self.values.len() && 3 * self.values.len() <= self.records
    }

    /// Whether it is another whole number in each record.
    fn numbers_records(&self) -> bool {
        self.is_number() && self.whole && self.values.len() == self.records && self.records > 1
    }
}

/// A value as a number; one that a text is, too.
fn numeric(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => number::written(text),
        Value::Bool(is) => Some(f64::from(u8::from(*is))),
        value => value.as_f64(),
    }
}

/// What was guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Records that were looked at.
    pub records: usize,
    /// The fields of the key; none: Kafka's key.
    pub key: Vec<String>,
    /// How many keys there were.
    pub keys: usize,
    /// The field of the event time; `None`: Kafka's timestamp.
    pub timestamp: Option<String>,
    /// Fields that are numbers, as people count.
    pub features: Vec<String>,
    /// Those of the features that never changed, and what they were.
    pub constant: Vec<(String, String)>,
    /// Texts of few values.
    pub categories: BTreeMap<String, Vec<String>>,
    /// Fields that are left out, and why.
    pub left_out: Vec<(String, &'static str)>,
}

/// Guesses from a sample of records.
#[must_use]
pub fn propose(sample: &[Leaves]) -> Proposal {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for record in sample {
        for (path, value) in record {
            fields.entry(path.clone()).or_default().take(value);
        }
    }
    let nearly_all = NEARLY_ALL * sample.len() as f64;
    let there = |field: &Field| nearly_all <= field.records as f64;
    let is_time = |_: &str, field: &Field| there(field) && field.is_time();
    let names = |path: &str, field: &Field| there(field) && names_machines(path, field);
    let mut proposal = Proposal {
        records: sample.len(),
        timestamp: best(&fields, &TIME_WORDS, is_time),
        ..Proposal::default()
    };
    let time = proposal.timestamp.as_ref();
    fields.retain(|path, _| Some(path) != time);
    proposal.key.extend(best(&fields, &KEY_WORDS, names));
    fields.retain(|path, _| !proposal.key.contains(path));
    let of_key = grouped(sample, &proposal.key);
    for (path, field) in &fields {
        // Pumps and ovens have fields of their own.
        let having = of_key
            .values()
            .filter(|all| all.iter().any(|record| record.contains_key(path)));
        place(path, field, having.map(Vec::len).sum(), &mut proposal);
    }
    proposal.features.sort_by(|a, b| natural(a, b));
    proposal.left_out.sort_by(|a, b| natural(&a.0, &b.0));
    fields.retain(|_, field| there(field) && is_key(field));
    for part in series(sample, &fields, &proposal) {
        proposal.categories.remove(&part);
        proposal.left_out.retain(|(path, _)| *path != part);
        proposal.key.push(part);
    }
    let of_key = grouped(sample, &proposal.key);
    proposal.keys = of_key.len();
    if !proposal.key.is_empty() {
        let changes = |path: &str| of_key.values().any(|records| changes(records, path) > 0);
        proposal.categories.retain(|path, _| {
            let condition = changes(path);
            if !condition {
                let why = "always the same for a key";
                proposal.left_out.push((path.clone(), why));
            }
            condition
        });
    }
    proposal
}

/// The records that have the same in these fields, in their order; without those that lack one.
fn grouped<'s>(sample: &'s [Leaves], paths: &[String]) -> BTreeMap<Vec<String>, Vec<&'s Leaves>> {
    let mut groups: BTreeMap<Vec<String>, Vec<&Leaves>> = BTreeMap::new();
    for record in sample {
        let text = |path| Some(record.get(path).filter(|v| !v.is_null())?.to_string());
        if let Some(of) = paths.iter().map(text).collect() {
            groups.entry(of).or_default().push(record);
        }
    }
    groups
}

/// The texts that name series of their own under a key, as the names of metrics do where each record has one value: records of one key and one
/// time differ by them. Where times say nothing, and there is but one feature, by what changes from one record of a key to the next and says most
/// of what the feature is; a mode stays for a while, or says less.
fn series(sample: &[Leaves], texts: &BTreeMap<String, Field>, found: &Proposal) -> Vec<String> {
    let key = &found.key;
    let shared = |parts: &[String]| {
        let Some(time) = &found.timestamp else {
            return 0.0;
        };
        let together = grouped(sample, &[parts, from_ref(time)].concat());
        let several = together.values().filter(|records| records.len() > 1);
        several.map(Vec::len).sum::<usize>() as f64 / sample.len().max(1) as f64
    };
    let mut parts = key.clone();
    let mut before = shared(&parts);
    while before >= SEVERAL {
        let rest = texts.keys().filter(|text| !parts.contains(text));
        let with = rest.map(|text| [&parts[..], from_ref(text)].concat());
        let tried = with.map(|with| (shared(&with), with));
        match tried.min_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((after, with)) if after < SEVERAL * before => (before, parts) = (after, with),
            _ => break,
        }
    }
    let moves = |path: &&String| !found.constant.iter().any(|(constant, _)| constant == *path);
    let moving: Vec<&String> = found.features.iter().filter(moves).collect();
    if let ([feature], true) = (&moving[..], parts.len() == key.len()) {
        let names = texts.iter().filter(|(text, _)| {
            changes_often(sample, key, text) && explains(sample, key, text, feature) > SEVERAL
        });
        // A unit may change with the metric: what has more values says more.
        let most = names.max_by_key(|(_, field)| field.values.len());
        parts.extend(most.map(|(text, _)| text.clone()));
    }
    parts.split_off(key.len())
}

/// The share of a feature's variance under a key that lies between the values of a text.
fn explains(sample: &[Leaves], key: &[String], path: &str, feature: &str) -> f64 {
    let within = |parts: &[String]| {
        let squares = |records: &Vec<&Leaves>| {
            let values = records
                .iter()
                .filter_map(|record| numeric(record.get(feature)?));
            let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        grouped(sample, parts).values().map(squares).sum::<f64>()
    };
    let parts = [key, &[path.to_owned()]].concat();
    1.0 - within(&parts) / within(key).max(f64::MIN_POSITIVE)
}

/// Whether a field mostly has another value than in the record of its key before.
fn changes_often(sample: &[Leaves], key: &[String], path: &str) -> bool {
    let of_key = grouped(sample, key);
    let changed: usize = of_key.values().map(|records| changes(records, path)).sum();
    let pairs = sample.len().saturating_sub(of_key.len());
    changed as f64 > SEVERAL * pairs as f64
}

/// How often a field has another value than in the record before.
fn changes(records: &[&Leaves], path: &str) -> usize {
    let pairs = records.windows(2);
    pairs
        .filter(|pair| pair[0].get(path) != pair[1].get(path))
        .count()
}

/// The field of the event time among those that are `free`: a text that is a time, or a number that is called one, too.
#[must_use]
pub fn time_column(sample: &[Leaves], free: impl Fn(&str) -> bool) -> Option<String> {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for record in sample {
        for (path, value) in record.iter().filter(|(path, _)| free(path)) {
            fields.entry(path.clone()).or_default().take(value);
        }
    }
    fields.retain(|path, field| {
        let is = field.is_time() && (field.records < 2 || field.values.len() > 1);
        is && (field.is_text() || called(path, &TIME_WORDS) < TIME_WORDS.len())
    });
    best(&fields, &TIME_WORDS, |_, field| field.is_time())
}

/// Which of the words is a field's name, or a part of it; as many as there are: none.
fn called(path: &str, words: &[&str]) -> usize {
    let parts = words_of(path);
    let place = |word: &&str| parts.iter().any(|part| part == *word);
    words.iter().position(place).unwrap_or(words.len())
}

/// The words that a field's name is made of, in small letters: `orderId` is `order_id`.
fn words_of(path: &str) -> Vec<String> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let mut parts = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (small && c.is_uppercase()) {
            parts.push(String::new());
        }
        small = c.is_lowercase();
        if let Some(last) = parts.last_mut()
            && c.is_alphanumeric()
        {
            last.extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Names in the order in which people count: f2 before f10.
fn natural(a: &str, b: &str) -> Ordering {
    let pieces = |text: &str| {
        let mut pieces: Vec<(bool, String)> = Vec::new();
        for c in text.chars() {
            let digit = c.is_ascii_digit();
            match pieces.last_mut() {
                Some((digits, piece)) if *digits == digit => piece.push(c),
                _ => pieces.push((digit, c.to_string())),
            }
        }
        // Of numbers without leading zeros the longer is the larger.
        let ranked = pieces.into_iter().map(|(digits, piece)| {
            let length = if digits {
                piece.trim_start_matches('0').len()
            } else {
                0
            };
            (length, piece)
        });
        ranked.collect::<Vec<_>>()
    };
    pieces(a).cmp(&pieces(b)).then_with(|| a.cmp(b))
}

/// The field that fits best: one that is called so, or else the first.
fn best(
    fields: &BTreeMap<String, Field>,
    words: &[&str],
    fits: impl Fn(&str, &Field) -> bool,
) -> Option<String> {
    let fitting = fields.keys().filter(|path| fits(path, &fields[*path]));
    fitting.min_by_key(|path| called(path, words)).cloned()
}

/// Whether a field can name a machine: a text of several values that come again and again.
fn is_key(field: &Field) -> bool {
    !field.is_time() && field.comes_again() && field.is_text() && !field.is_flag()
}

/// Whether a field is a text that can name a machine, or is called like one and is a whole number that comes again and again: `pump_no` is, `pump_speed`
/// is not.
fn names_machines(path: &str, field: &Field) -> bool {
    let number = field.is_number() && field.whole && !field.is_time() && field.comes_again();
    let (words, known) = (words_of(path), |word: &String| {
        KEY_WORDS.contains(&word.as_str()) || NUMBER_WORDS.contains(&word.as_str())
    });
    let named = called(path, &KEY_WORDS) < KEY_WORDS.len() && words.iter().all(known);
    is_key(field) || (number && named && !field.is_flag())
}

/// Whether a number that never changes is called like an identifier or a version: `schema_version` is, `version_errors` is not.
fn is_label(path: &str) -> bool {
    let last = words_of(path).pop().unwrap_or_default();
    let words = [&NUMBER_WORDS[..], &KEY_WORDS, &LABEL_WORDS];
    words.iter().any(|words| words.contains(&last.as_str()))
}

fn place(path: &str, field: &Field, records: usize, into: &mut Proposal) {
    let common = COMMON * records as f64 <= field.records as f64;
    let reason = if !common {
        "few records have it"
    } else if field.is_time() {
        "a time, but not the one of the event"
    } else if field.is_text() && (2..=CATEGORY_MAX).contains(&field.values.len()) {
        let values = field.values.iter().cloned().collect();
        into.categories.insert(path.to_owned(), values);
        return;
    } else if field.is_text() {
        "a text"
    } else if !field.is_number() {
        "neither a number nor a text"
    } else if field.constant && is_label(path) {
        "always the same, and called like an identifier or a version"
    } else if field.constant {
        // A count of errors is 0 until it is not.
        into.features.push(path.to_owned());
        let value = field.values.first().cloned().unwrap_or_default();
        into.constant.push((path.to_owned(), value));
        return;
    } else if field.rises && field.values.len() == field.records {
        "it only rises: a counter, or a number of the record"
    } else if field.numbers_records() && called(path, &NUMBER_WORDS) < NUMBER_WORDS.len() {
        "another one in each record: a number of the record"
    } else {
        into.features.push(path.to_owned());
        return;
    };
    into.left_out.push((path.to_owned(), reason));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(records: usize) -> Vec<Leaves> {
        let record = |i: usize| {
            json!({
                "ts": format!("2026-03-01T12:{:02}:{:02}Z", i / 60 % 60, i % 60),
                "pump": format!("P-{}", i % 5),
                "mode": if i.is_multiple_of(7) { "eco" } else { "full" },
                "motor": {"temperature": 60.0 + (i * 37 % 11) as f64, "current": (i * 31 % 17) as f64},
                "sequence": i, "firmware": 3, "note": format!("free text {i}"), "seen": 1_772_366_400 + (i * 7 % 5), "tags": ["a"],
            })
        };
        (0..records).filter_map(|i| leaves(&record(i))).collect()
    }

    #[test]
    fn key_time_features_and_categories_are_told_apart() {
        let found = propose(&sample(300));
        assert_eq!((&found.key[..], found.keys), (&["pump".to_owned()][..], 5));
        assert_eq!(found.timestamp.as_deref(), Some("ts"));
        assert_eq!(found.features, ["motor.current", "motor.temperature"]);
        assert_eq!(found.categories["mode"], ["eco", "full"]);
        let left: Vec<&str> = found
            .left_out
            .iter()
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(left, ["firmware", "note", "seen", "sequence", "tags"]);
        assert_eq!(propose(&[]), Proposal::default());
    }

    fn proposed(records: usize, record: impl Fn(usize) -> Value) -> Proposal {
        let all = (0..records).filter_map(|i| leaves(&record(i)));
        propose(&all.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_true_or_false_names_no_machine() {
        let flags = [json!("true"), json!("False")];
        for flag in [&flags, &[json!(true), json!(false)]] {
            let record = |i: usize| json!({"unit": flag[i % 2], "x": (i * 37 % 101) as f64});
            assert!(proposed(300, record).key.is_empty(), "{flag:?}");
        }
    }

    #[test]
    fn a_metric_in_each_record_is_a_part_of_the_key() {
        let record = |i: usize| {
            json!({
                "ts": 1_772_366_400 + i / 60 * 60, "host": format!("h-{}", i % 2), "metric": format!("m-{}", i / 2 % 30), "unit": (["ms", "s"][i / 2 % 2]),
                "value": (i * 37 % 101) as f64,
            })
        };
        let found = proposed(600, record);
        assert_eq!(
            (&found.key[..], found.keys),
            (&["host".to_owned(), "metric".to_owned()][..], 60)
        );
        assert_eq!(found.features, ["value"]);
        assert!(found.categories.is_empty(), "{found:?}");
        // The same, each record with a time of its own.
        let later = |i: usize| {
            let mut record = record(i);
            record["ts"] = json!(1_772_366_400 + i);
            record["value"] = json!((1000 * (i / 2 % 30) + i * 37 % 101) as f64);
            record
        };
        assert_eq!(proposed(600, later).key, ["host", "metric"]);
        // Where it says nothing of the value, it is a condition, however often it changes.
        let often = |i: usize| {
            let paid = ["card", "cash"][i / 2 % 2];
            json!({"ts": 1_772_366_400 + i, "host": format!("h-{}", i % 2), "paid": paid, "value": (i * 37 % 101) as f64})
        };
        assert_eq!(proposed(600, often).key, ["host"]);
        // A mode that changes now and then is none, whatever else there is.
        let mode = |i: usize| {
            let mode = ["idle", "full"][i / 50 % 2];
            json!({"ts": 1_772_366_400 + i / 2, "host": format!("h-{}", i % 2), "mode": mode, "value": (i * 37 % 101) as f64})
        };
        let found = proposed(600, mode);
        assert_eq!(found.key, ["host"]);
        assert_eq!(found.categories["mode"], ["full", "idle"]);
    }

    #[test]
    fn numbers_in_texts_are_features() {
        // As an adapter writes what Prometheus scraped.
        let found = proposed(300, |i| {
            let name = ["node_load1", "node_memory_free_bytes"][i % 2];
            let instance = ["a:9100", "b:9100"][i / 2 % 2];
            json!({
                "labels": {"__name__": name, "instance": instance, "job": "node"}, "name": name,
                "timestamp": format!("2026-03-01T12:{:02}:00Z", i / 4 % 60), "value": format!("{}", (i * 37 % 101) as f64 / 8.0),
            })
        });
        assert_eq!(found.features, ["value"]);
        assert_eq!(found.keys, 4, "{found:?}");
    }

    #[test]
    fn numbers_that_name_a_machine_or_a_record_are_no_features() {
        let record = |i: usize| {
            // Of two partitions, one after the other.
            let order = if i < 150 { 2 * i } else { 2 * i - 299 };
            json!({"at": 1_772_366_400 + i, "machineId": i % 4, "orderId": order, "site": (["a", "b"][i % 4 / 2]), "load": (i * 37 % 101) as f64})
        };
        let found = proposed(300, record);
        assert_eq!(found.key, ["machineId"]);
        assert_eq!(found.keys, 4);
        assert_eq!(found.features, ["load"]);
        let left: Vec<&str> = found
            .left_out
            .iter()
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(left, ["orderId", "site"]);
    }

    #[test]
    fn what_is_always_the_same_for_a_key_is_no_condition() {
        let found = proposed(300, |i| {
            let site = ["north", "south"][i % 4 / 2];
            json!({"ts": 1_772_366_400 + i, "machine": format!("m-{}", i % 4), "where": site, "load": (i * 37 % 101) as f64})
        });
        assert_eq!(found.key, ["machine"]);
        assert!(found.categories.is_empty());
        assert_eq!(
            found.left_out,
            [("where".to_owned(), "always the same for a key")]
        );
    }
}
