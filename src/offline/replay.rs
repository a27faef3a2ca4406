//! A table's rows through the pipeline, as if they came from one partition of the input topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::OfflineError;
use super::table::Table;
use crate::alert::Alert;
use crate::detect::Params;
use crate::model::card::{Exclusion, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::pipeline::{self, Column, Grant, Pipeline, StateEntry};
use crate::record::{DecodeError, Decoded, DecodedBatch, RecordBatch};
use crate::stream::{Offset, TopicPartition};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// How strange it is. NaN if it has none: the row came too late, or nothing was observed.
    pub score: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Whether it lies in an open episode.
    pub alert: bool,
    /// What judged it; 0: the cold start.
    pub version: ModelVersion,
}

impl Line {
    const NONE: Self = Self {
        score: f64::NAN,
        p_value: f64::NAN,
        alert: false,
        version: ModelVersion(0),
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
}

impl<'a> Replay<'a> {
    /// Nothing was read yet.
    pub fn begin(
        table: &'a Table,
        params: &Params,
        at: &TopicPartition,
        batch: usize,
    ) -> Result<Self, OfflineError> {
        // There is nothing to restore, so nothing is saved on the way.
        let params = Params {
            snapshot_records: u64::MAX,
            emit_scores: false,
            ..params.clone()
        };
        let columns = table
            .columns
            .iter()
            .zip(&table.missing)
            .map(|(name, &missing)| Column {
                name: name.clone(),
                missing,
            })
            .collect();
        let mut pipeline = Pipeline::new(Arc::new(params), columns).watching_all();
        let grant = Grant {
            at: at.clone(),
            committed: Offset(0),
            fresh: true,
            state: Vec::new(),
        };
        pipeline
            .assign(&grant, None)
            .map_err(|error| OfflineError::Asked(error.to_string()))?;
        Ok(Self {
            table,
            at: at.clone(),
            pipeline,
            batch: batch.max(1),
            episodes: BTreeMap::new(),
            lines: Vec::with_capacity(table.len()),
            alerts: Vec::new(),
        })
    }

    /// The model to judge by from the next row on.
    pub fn promote(&mut self, model: Arc<TrainedModel>) -> Result<(), OfflineError> {
        self.pipeline
            .promote(model)
            .map_err(|error| OfflineError::Asked(error.to_string()))
    }

    /// The model in use.
    pub fn champion(&self) -> Option<Arc<TrainedModel>> {
        self.pipeline.current().cloned()
    }

    /// Takes in the rows before `to`. `seen` is told how far it is.
    pub fn advance(&mut self, to: usize, seen: &dyn Fn(usize)) {
        let to = to.min(self.table.len());
        while self.lines.len() < to {
            let from = self.lines.len();
            self.take(from, to.min(from + self.batch));
            seen(self.lines.len());
        }
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
            let place = (Offset(row as i64), table.times[row]);
            batch.push(&self.at, place, None, None, Vec::new());
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
        let now = table.times[to - 1];
        let mut staged = self.pipeline.stage(&batch, &decoded, now);
        for judged in &staged.watched {
            self.lines[from + judged.record] = Line {
                score: judged.score,
                p_value: judged.p_value,
                alert: judged.alert,
                version: judged.model,
            };
        }
        for entry in std::mem::take(&mut staged.outbox.state) {
            if entry.value.is_some() {
                self.episodes.insert(entry.key.clone(), entry);
            } else {
                self.episodes.remove(&entry.key);
            }
        }
        for message in std::mem::take(&mut staged.outbox.alerts) {
            let value = message.value.unwrap_or_default();
            match serde_json::from_slice::<Alert>(&value) {
                // Offsets are rows here.
                Ok(alert) => self.alerts.push((alert.input.offset as usize, alert)),
                Err(error) => unreachable!("an alert reads back as it was written: {error}"),
            }
        }
        self.pipeline.apply(staged);
    }

    /// What was flagged so far, for training to leave out.
    pub fn quarantine(&self) -> Vec<Exclusion> {
        let entries: Vec<StateEntry> = self.episodes.values().cloned().collect();
        pipeline::quarantine(&entries)
    }
}
