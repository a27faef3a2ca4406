//! What is in the log in the end: outputs of each partition, where its model changed, and gaps.

use std::collections::BTreeMap;

use anomalyd::alert::{Alert, Drift, Score};
use anomalyd::detect::AlertParams;
use anomalyd::record::dead_letter::DeadLetter;

/// What a `read_committed` reader sees of one partition, and where its model changed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    pub alerts: Vec<Alert>,
    pub scores: Vec<Score>,
    pub dead_letters: Vec<DeadLetter>,
    pub late: Vec<DeadLetter>,
    pub drift: Vec<Drift>,
    /// Offset → version that judges from there on.
    pub models: BTreeMap<i64, u64>,
    /// Offset → what alerts are due by from there on.
    pub alerts_by: BTreeMap<i64, AlertParams>,
    /// Where the group began.
    pub begun: Option<i64>,
    /// The next offset to read.
    pub until: i64,
    /// Offset → how much was emitted of what lies before.
    pub emitted: BTreeMap<i64, Emitted>,
    /// State had to be discarded: up to which offset nothing of that shows.
    pub calm_until: Option<i64>,
}

/// How many messages of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Emitted {
    pub alerts: usize,
    pub scores: usize,
    pub dead_letters: usize,
    pub late: usize,
    pub drift: usize,
}

impl Committed {
    pub fn count(&self) -> Emitted {
        Emitted {
            alerts: self.alerts.len(),
            scores: self.scores.len(),
            dead_letters: self.dead_letters.len(),
            late: self.late.len(),
            drift: self.drift.len(),
        }
    }

    /// Records that came out, as whatever they came out.
    pub fn records(&self) -> i64 {
        let records = self.scores.len() + self.dead_letters.len() + self.late.len();
        i64::try_from(records).unwrap()
    }

    /// The same as it was when the group stood at `offset`.
    pub fn back_at(mut self, offset: i64) -> Self {
        let emitted = self.emitted.range(..=offset).next_back();
        let emitted = emitted.map_or_else(Emitted::default, |(_, emitted)| *emitted);
        self.alerts.truncate(emitted.alerts);
        self.scores.truncate(emitted.scores);
        self.dead_letters.truncate(emitted.dead_letters);
        self.late.truncate(emitted.late);
        self.drift.truncate(emitted.drift);
        self.models.retain(|from, _| *from <= offset);
        self.alerts_by.retain(|from, _| *from <= offset);
        self.emitted.retain(|to, _| *to <= offset);
        self.until = offset;
        self
    }
}

/// Gaps: records that were deleted before they were read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gaps {
    /// What workers reported.
    pub reported: i64,
    /// What commits may have skipped that nobody lived to report.
    pub unheard: i64,
    /// What may have been reported twice, because offsets expired.
    pub again: i64,
}
