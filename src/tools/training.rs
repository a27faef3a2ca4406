//! `train`: a table to a model, by the daemon's own training.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::ToolError;
use super::table::Table;
use crate::config::Config;
use crate::config::raw::Calibration;
use crate::model::Monitor;
use crate::model::card::{Card, Exclusion, ModelVersion};
use crate::model::gate_report::Change;
use crate::model::trained::TrainedModel;
use crate::port::History;
use crate::record::decode::Decoder;
use crate::record::filled_with_last;
use crate::record::problem;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;
use crate::train::rows::PartitionRows;
use crate::train::sample::{self, Visit};
use crate::train::{self, Candidate, TrainData, TrainJob, TrainSettings};

/// The partition that rows of a file stand in: so scores, which are seeded by a record's place, equal those of the topic's first partition.
pub fn place(config: &Config) -> TopicPartition {
    let topic = config
        .input
        .topics
        .first()
        .map_or("records", String::as_str);
    TopicPartition::new(topic, 0)
}

/// Windows below which a file's calibrate across folds. With more, the 15 % that validate are enough to calibrate on: 750, where a tail is
/// fitted from 400 on (with fewer it is guessed, cautiously). Below, five fits cost no more than one of 25,000 windows.
const CROSS_BELOW: usize = 5000;

/// How rows of a whole file are used. There is no model that the new one would replace, so no rows are held back for a gate, and none only to
/// calibrate: those that validate do, or, of few rows, all.
pub fn whole(config: &Config) -> train::Params {
    let live = config.training_params();
    train::Params {
        rows_min: 0,
        calibrate_share: 0.0,
        gate_share: 0.0,
        cross_below: match config.training.calibration {
            Calibration::Auto => CROSS_BELOW,
            Calibration::HeldOut | Calibration::Cross => live.cross_below,
        },
        ..live
    }
}

/// Rows of a table as training reads them: by partition and place. Rows in which nothing was observed never reach a model.
#[derive(Debug)]
struct Log<'a> {
    table: &'a Table,
    /// Offsets in order, and the rows they stand in.
    parts: BTreeMap<TopicPartition, Vec<(Offset, usize)>>,
}

impl<'a> Log<'a> {
    fn new(table: &'a Table, file: &TopicPartition, range: Range<usize>) -> Self {
        let mut parts: BTreeMap<TopicPartition, Vec<(Offset, usize)>> = BTreeMap::new();
        for row in range {
            let (at, offset) = table.place(row, file);
            match parts.get_mut(at) {
                Some(part) => part.push((offset, row)),
                None => {
                    parts.insert(at.clone(), vec![(offset, row)]);
                }
            }
        }
        Self { table, parts }
    }

    /// The offsets that there are.
    fn spans(&self) -> Vec<Span> {
        let parts = self.parts.iter();
        parts
            .filter_map(|(at, part)| {
                Some(Span {
                    at: at.clone(),
                    from: part.first()?.0,
                    to: part.last()?.0.next(),
                })
            })
            .collect()
    }

    fn read(&self, span: &Span, visit: &mut Visit<'_>) {
        let Some(part) = self.parts.get(&span.at) else {
            return;
        };
        let table = self.table;
        let from = part.partition_point(|(offset, _)| *offset < span.from);
        for &(offset, row) in part[from..].iter().take_while(|(o, _)| *o < span.to) {
            if !table.empty[row] {
                visit(&table.keys[row], table.times[row], offset, table.row(row));
            }
        }
    }
}

/// A run on rows of a table, with the seed that the daemon would take.
#[derive(Debug)]
pub struct Run {
    /// The number of the model to be.
    pub version: u64,
    /// Goes into the card.
    pub created: Timestamp,
    /// The rows to learn from.
    pub rows: Range<usize>,
    /// Only as many of them as the daemon would read, drawn by its sampler from the same seed.
    pub sampled: bool,
    /// How.
    pub params: train::Params,
    /// What to keep out.
    pub exclusions: Vec<Exclusion>,
    /// The model in use.
    pub champion: Option<Arc<TrainedModel>>,
    /// What the last model before this one was rejected for, if only for earlier records.
    pub change: Option<Change>,
}

/// The job of a run.
pub fn job(config: &Config, table: &Table, run: Run) -> TrainJob {
    let settings = TrainSettings {
        schema: Some(table.schema.clone()),
        params: run.params,
        ..config.train_settings()
    };
    let version = ModelVersion(run.version);
    let data = read(&settings, table, &run, &place(config));
    TrainJob {
        exclusions: run.exclusions,
        champion: run.champion,
        change: run.change,
        ..TrainJob::new(&settings, (version, run.created), data)
    }
}

/// Rows of a table, whole or as many as the daemon would read.
fn read(settings: &TrainSettings, table: &Table, run: &Run, file: &TopicPartition) -> TrainData {
    let log = Log::new(table, file, run.rows.clone());
    let mut wanted = settings.wanted(table.columns.len());
    if !run.sampled {
        wanted.rows_max = u64::MAX;
    }
    let seed = settings.seed_of(ModelVersion(run.version));
    let Ok(mut sample) = sample::draw::<Infallible>(&log.spans(), wanted, seed, &mut |s, v| {
        log.read(s, v);
        Ok(())
    });
    // Nothing was left out of a file that was read whole: its name and sha256 say where the rows are.
    if !run.sampled && table.places.is_none() {
        sample.stretches.clear();
    }
    TrainData {
        columns: table.columns.clone(),
        fill_last: table.fill_last(),
        rows: sample.rows,
        level_rows: sample.level_rows,
        spans: sample.stretches,
        source: table.places.is_none().then(|| source(table)),
    }
}

/// How a card names a file.
fn source(table: &Table) -> String {
    let name = Path::new(&table.path).file_name().map_or_else(
        || table.path.clone(),
        |name| name.to_string_lossy().into_owned(),
    );
    format!("{name} sha256:{}", table.sha256)
}

/// Trains on a whole table.
pub fn train(
    config: &Config,
    table: &Table,
    created: Timestamp,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, ToolError> {
    let run = Run {
        version: 1,
        created,
        rows: 0..table.len(),
        sampled: false,
        params: whole(config),
        exclusions: Vec::new(),
        champion: None,
        change: None,
    };
    finish(table, &job(config, table, run), monitor)
}

/// Makes the model of a card again, from the same file.
pub fn again(
    config: &Config,
    table: &Table,
    card: &Card,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, ToolError> {
    let asked = |problem: String| Err(ToolError::Asked(problem));
    let Some(named) = &card.source else {
        return asked(format!(
            "model {} was trained on a topic, not on a file",
            card.version
        ));
    };
    if named.rsplit("sha256:").next() != Some(table.sha256.as_str()) {
        return asked(format!(
            "model {} was made from {named}, but {} has sha256 {}",
            card.version, table.path, table.sha256
        ));
    }
    if card.columns != table.columns {
        return asked(format!(
            "model {} was made from the columns {}, but the table has {}: give the same --key, --timestamp, --labels and --ignore",
            card.version,
            card.columns.join(", "),
            table.columns.join(", ")
        ));
    }
    let settings = TrainSettings {
        seed: card.seed,
        params: whole(config),
        ..config.train_settings()
    };
    let run = Run {
        version: card.version.0,
        created: card.created,
        rows: 0..table.len(),
        sampled: false,
        params: settings.params,
        exclusions: Vec::new(),
        champion: None,
        change: None,
    };
    let data = TrainData {
        source: card.source.clone(),
        ..read(&settings, table, &run, &place(config))
    };
    let job = TrainJob::again(card, &settings, data);
    same_rows(&job, card)?;
    finish(table, &job, monitor)
}

/// Makes the model of a card again, from the spans of the topics that it names, if Kafka still has them whole.
pub fn again_from_log<H: History>(
    config: &Config,
    card: &Card,
    history: &mut H,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, ToolError> {
    let asked = |problem: String| ToolError::Asked(problem);
    let configured = || config.input.schema();
    let mut spec = card.schema.clone().unwrap_or_else(configured);
    spec.resolve_from_columns(&card.columns);
    let schema = spec
        .check()
        .map_err(|problems| asked(problem::listed(&problems)))?;
    if schema.columns() != card.columns {
        return Err(asked(format!(
            "model {} was made from the columns {}, but [input] has {}",
            card.version,
            card.columns.join(", "),
            schema.columns().join(", ")
        )));
    }
    let schema = Arc::new(schema);
    let mut decoder = Decoder::new(Arc::clone(&schema));
    let columns = card.columns.len();
    let sample = sample::again(&card.spans, columns, card.seed, &mut |span, visit| {
        let batch = history.read(span)?;
        sample::visit(&batch, &decoder.decode(&batch), visit);
        Ok(())
    });
    let sample = sample.map_err(|error: H::Error| ToolError::Log(error.to_string()))?;
    let data = TrainData {
        columns: card.columns.clone(),
        fill_last: filled_with_last(schema.missing()),
        rows: sample.rows,
        level_rows: sample.level_rows,
        spans: card.spans.clone(),
        source: None,
    };
    let settings = TrainSettings {
        params: train::Params {
            rows_min: 0,
            ..config.training_params()
        },
        ..config.train_settings()
    };
    let job = TrainJob::again(card, &settings, data);
    same_rows(&job, card)?;
    train::run_watched(&job, monitor).map_err(|error| ToolError::Train {
        path: format!("model {}", card.version),
        error,
    })
}

/// Fails unless as many rows were read as for the model of `card`: fewer, and Kafka has deleted some since.
fn same_rows(job: &TrainJob, card: &Card) -> Result<(), ToolError> {
    let read: usize = job.rows.iter().map(PartitionRows::len).sum();
    match card.rows.get("read") {
        Some(&then) if then != read as u64 => Err(ToolError::Differs(format!(
            "model {} was made from {then} records, but {read} can be read now{}: it cannot be made again",
            card.version,
            if card.spans.is_empty() {
                ""
            } else {
                " from its spans of the topics"
            },
        ))),
        _ => Ok(()),
    }
}

fn finish(
    table: &Table,
    job: &TrainJob,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, ToolError> {
    train::run_watched(job, monitor).map_err(|error| ToolError::Train {
        path: table.path.clone(),
        error,
    })
}
