//! A table's rows through the pipeline: those of a file as if they came from one partition of the input topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;

use super::feedback::Script;
use crate::alert::{Alert, ScoredBy};
use crate::detect::Params;
use crate::model::card::{Exclusion, Feedback, Maintenance, Said};
use crate::model::trained::TrainedModel;
use crate::pipeline::{self, Column, PartitionAssignment, Pipeline, StateEntry, Watched, Watching};
use crate::record::feedback::Says;
use crate::record::{DecodeError, Decoded, DecodedBatch, RecordBatch};
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::tools::ToolError;
use crate::tools::table::Table;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// How strange it is. NaN if it has none: the row came too late, or nothing was observed.
    pub score: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// The same by the model alone, before what is usual for the key; `None` where what judged is the key's own.
    pub by_model: Option<f64>,
    /// Whether it was judged at all, which it is not while windows fill.
    pub judged: bool,
    /// Whether it lies in an open episode.
    pub alert: bool,
    /// What the score is by.
    pub scored_by: ScoredBy,
}

impl Line {
    const NONE: Self = Self {
        score: f64::NAN,
        p_value: f64::NAN,
        by_model: None,
        judged: false,
        alert: false,
        scored_by: ScoredBy::ColdStart,
    };
}

/// Rows on their way through the pipeline; everything else is as live.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    table: &'a Table,
    at: TopicPartition,
    pipeline: Pipeline,
    /// Rows of one batch. Results do not depend on it.
    batch: usize,
    /// Episodes, as the state topic would remember them.
    episodes: BTreeMap<Vec<u8>, StateEntry>,
    /// What became of the rows so far.
    pub lines: Vec<Line>,
    /// The alerts, with the row that caused each.
    pub alerts: Vec<(usize, Alert)>,
    /// Times that a key began to drift.
    pub drifts: u64,
    /// Windows of some anomalous rows that a model judged.
    pub windows: Windows,
    /// What its season expected of a row with a single feature, by row.
    pub expected: BTreeMap<usize, f64>,
    /// Codes of the rows, if they were asked for; none of rows that no model with a code judged.
    pub codes: Option<Vec<Option<Vec<f32>>>>,
    /// What somebody says on the way ...
    pub script: Script,
    /// ... and what came of it.
    pub feedback: FeedbackCounts,
    said: Said,
    /// Somebody said that an episode is the new normal: a training is asked for.
    asked: bool,
    /// What training leaves out because somebody said so.
    pub maintenance: Vec<Maintenance>,
}

/// A bounded number of windows by row: of too many, every second, fourth, … is kept.
#[derive(Clone, Debug)]
pub struct Windows {
    kept: BTreeMap<usize, Vec<f64>>,
    seen: usize,
    every: usize,
}

/// Windows that are kept at most.
const WINDOWS_MAX: usize = 1200;

impl Default for Windows {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            seen: 0,
            every: 1,
        }
    }
}

impl Windows {
    fn add(&mut self, row: usize, window: Vec<f64>) {
        if self.seen.is_multiple_of(self.every) {
            self.kept.insert(row, window);
        }
        self.seen += 1;
        if self.kept.len() > WINDOWS_MAX {
            self.every *= 2;
            let mut odd = true;
            self.kept.retain(|_, _| {
                odd = !odd;
                !odd
            });
        }
    }

    /// Rows and windows, by row.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f64])> {
        self.kept.iter().map(|(&row, window)| (row, &window[..]))
    }
}

/// What became of what was said on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedbackCounts {
    /// Statements that were taken in.
    pub statements: u64,
    /// Those of episodes that had not opened by then, or not at all: they did nothing.
    pub unknown: u64,
    /// Episodes that nobody was told of when they opened, because one like them had been dismissed.
    pub held_back: u64,
}

impl<'a> Replay<'a> {
    /// Nothing was read yet.
    pub fn begin(
        table: &'a Table,
        params: &Params,
        at: &TopicPartition,
        batch: usize,
    ) -> Result<Self, ToolError> {
        // There is nothing to restore, so nothing is saved on the way.
        let params = Params {
            snapshot_records: u64::MAX,
            snapshot_interval: Duration::MAX,
            snapshot_bytes: u64::MAX,
            emit_scores: false,
            ..params.clone()
        };
        let context = table.schema.context_columns(&table.columns);
        let columns = Column::list(&table.columns, &table.missing, &context);
        let mut pipeline = Pipeline::new(Arc::new(params), columns).watching(Watching::All);
        let starts = match &table.places {
            None => vec![(at.clone(), Offset(0))],
            Some(places) => places
                .spans
                .iter()
                .map(|span| (span.at.clone(), span.from))
                .collect(),
        };
        for (at, committed) in starts {
            let assignment = PartitionAssignment::fresh(at, committed);
            pipeline
                .assign(&assignment, None)
                .map_err(|error| ToolError::Asked(error.to_string()))?;
        }
        Ok(Self {
            table,
            at: at.clone(),
            pipeline,
            batch: batch.max(1),
            episodes: BTreeMap::new(),
            lines: Vec::with_capacity(table.len()),
            alerts: Vec::new(),
            drifts: 0,
            windows: Windows::default(),
            expected: BTreeMap::new(),
            codes: None,
            script: Script::default(),
            feedback: FeedbackCounts::default(),
            said: Said::new(),
            asked: false,
            maintenance: Vec::new(),
        })
    }

    /// The same, noting the code of each row.
    #[must_use]
    pub fn with_codes(mut self) -> Self {
        self.codes = Some(Vec::with_capacity(self.table.len()));
        self
    }

    /// The model to judge by from the next row on.
    pub fn promote(&mut self, model: Arc<TrainedModel>) -> Result<(), ToolError> {
        self.pipeline
            .promote(model)
            .map_err(|error| ToolError::Asked(error.to_string()))
    }

    /// The model in use.
    pub fn champion(&self) -> Option<Arc<TrainedModel>> {
        self.pipeline.current().cloned()
    }

    /// Takes in the rows before `to`, or those before which a training was asked for. `seen` is told how far it is.
    pub fn advance(&mut self, to: usize, seen: &dyn Fn(usize)) {
        let to = to.min(self.table.len());
        while self.lines.len() < to {
            let from = self.lines.len();
            self.listen(from);
            if self.asked {
                return;
            }
            let next = self.script.next_row().unwrap_or(to);
            self.take(from, to.min(from + self.batch).min(next));
            seen(self.lines.len());
        }
    }

    /// Takes in what is said before the row after `row` others.
    fn listen(&mut self, row: usize) {
        let before = self.feedback.statements;
        while let Some(says) = self.script.take(row) {
            self.feedback.statements += 1;
            if let Some((id, called)) = Feedback::of(&says) {
                self.say(id, called);
            } else if let Says::Maintenance { key, from, to } = says {
                self.maintenance.push(Maintenance { key, from, to });
            }
        }
        if self.feedback.statements > before {
            self.pipeline.hear(Arc::new(self.said.clone()));
        }
    }

    /// Whether a training was asked for since this was last answered.
    pub fn asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    fn say(&mut self, id: &EpisodeId, called: Option<Feedback>) {
        if !self.quarantine().iter().any(|known| known.because == *id) {
            self.feedback.unknown += 1;
            return;
        }
        let before = self.said.get(id);
        self.asked |= called == Some(Feedback::NewNormal) && before != called.as_ref();
        match called {
            Some(feedback) => self.said.insert(id.clone(), feedback),
            None => self.said.remove(id),
        };
    }

    /// What was said of episodes so far.
    pub fn said(&self) -> &Said {
        &self.said
    }

    fn take(&mut self, from: usize, to: usize) {
        let table = self.table;
        let columns = table.columns.len();
        let mut batch = RecordBatch::default();
        let mut decoded = DecodedBatch {
            columns,
            values: table.values[from * columns..to * columns].to_vec(),
            outcomes: Vec::with_capacity(to - from),
        };
        for row in from..to {
            let (at, offset) = table.place(row, &self.at);
            batch.push(at, (offset, table.times[row]), None, None, Vec::new());
            decoded.outcomes.push(if table.empty[row] {
                Err(DecodeError::NothingObserved { columns })
            } else {
                Ok(Decoded {
                    key: table.keys[row].clone(),
                    time: table.times[row],
                })
            });
        }
        self.lines.resize(to, Line::NONE);
        let mut staged = self.pipeline.stage(&batch, &decoded);
        self.note_codes(to, from, &staged.watched);
        for judged in std::mem::take(&mut staged.watched) {
            let row = from + judged.record;
            self.lines[row] = Line {
                score: judged.score,
                p_value: judged.p_value,
                by_model: judged.by_model,
                judged: !judged.warming_up,
                alert: judged.alert,
                scored_by: judged.scored_by,
            };
            if let [expected] = judged.expected[..] {
                self.expected.insert(row, expected);
            }
            if judged.alert && judged.scored_by.version().is_some() {
                self.windows.add(row, judged.window);
            }
        }
        self.feedback.held_back += staged.tally.held_back;
        self.drifts += staged.tally.drift_began;
        for entry in std::mem::take(&mut staged.outbox.state) {
            if entry.value.is_some() {
                self.episodes.insert(entry.key.clone(), entry);
            } else {
                self.episodes.remove(&entry.key);
            }
        }
        for alert in std::mem::take(&mut staged.outbox.alerts) {
            let place = (&alert.input.at, alert.input.offset);
            let caused = (from..to).find(|&row| table.place(row, &self.at) == place);
            self.alerts.push((caused.unwrap_or(to - 1), alert));
        }
        self.pipeline.apply(staged);
    }

    /// Codes of a batch's rows, by the model that judged them.
    fn note_codes(&mut self, to: usize, from: usize, watched: &[Watched]) {
        let Some(codes) = &mut self.codes else { return };
        codes.resize(to, None);
        let Some(model) = self.pipeline.current() else {
            return;
        };
        // Where the season judges, the model at hand has a code all the same.
        let version = |w: &Watched| w.scored_by.version().unwrap_or(model.card.version);
        let judged = watched.iter().filter(|w| version(w) == model.card.version);
        let judged: Vec<&Watched> = judged.filter(|w| w.window.len() == model.width()).collect();
        let values = judged.iter().flat_map(|w| w.window.iter().copied());
        let shape = (judged.len(), model.width());
        let found = Array2::from_shape_vec(shape, values.collect())
            .ok()
            .filter(|windows| windows.nrows() > 0)
            .and_then(|windows| model.codes(windows.view()));
        if let Some(found) = found {
            for (code, watched) in found.rows().into_iter().zip(judged) {
                codes[from + watched.record] = Some(code.to_vec());
            }
        }
    }

    /// What was flagged so far, for training to leave out.
    pub fn quarantine(&self) -> Vec<Exclusion> {
        let entries: Vec<StateEntry> = self.episodes.values().cloned().collect();
        pipeline::quarantine(&entries, &self.said)
    }
}
