//! How many of some records a configuration can read, and why not the others: before they become dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::RecordBatch;
use crate::record::decode::Decoder;
use crate::record::schema::SchemaSpec;
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
}

impl Trial {
    /// What is to be said of all that were tried.
    #[must_use]
    pub fn words(&self) -> String {
        self.unread_words()
            .unwrap_or_else(|| format!("the newest {} records can all be read", self.records))
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
    match spec.check() {
        Ok(schema) if found => {
            let decoded = Decoder::new(Arc::new(schema)).decode(batch);
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
    Trial {
        records: batch.len(),
        unread: reasons.iter().map(|(_, count)| count).sum(),
        reasons,
    }
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
