//! `train`: a table to a model, by the daemon's own training.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::OfflineError;
use super::table::Table;
use crate::config::Config;
use crate::config::raw::Calibration;
use crate::model::Monitor;
use crate::model::card::{Card, Exclusion, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::port::History;
use crate::record::Missing;
use crate::record::decode::Decoder;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;
use crate::train::evidence::EpisodeSettings;
use crate::train::rows::PartitionRows;
use crate::train::{self, Candidate, TrainJob};

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

/// The rows `from..to` as training reads them, a part a partition, of which only those in `spans` if there are any; rows in which nothing
/// was observed never reach a model.
fn rows(
    table: &Table,
    file: &TopicPartition,
    range: Range<usize>,
    spans: Option<&[Span]>,
) -> Vec<PartitionRows> {
    let mut parts: BTreeMap<&TopicPartition, PartitionRows> = BTreeMap::new();
    for row in range.filter(|&row| !table.empty[row]) {
        let (at, offset) = table.place(row, file);
        let within = |span: &Span| span.at == *at && span.contains(offset);
        if spans.is_some_and(|spans| !spans.iter().any(within)) {
            continue;
        }
        parts
            .entry(at)
            .or_insert_with(|| PartitionRows::new(at.clone(), table.columns.len()))
            .push(&table.keys[row], table.times[row], offset, table.row(row));
    }
    parts.into_values().collect()
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
    /// Only those of them that lie in these spans, which windows do not cross.
    pub sample: Option<Vec<Span>>,
    /// How.
    pub params: train::Params,
    /// What to keep out.
    pub exclusions: Vec<Exclusion>,
    /// The model in use.
    pub champion: Option<Arc<TrainedModel>>,
}

/// The job of a run.
pub fn job(config: &Config, table: &Table, run: Run) -> TrainJob {
    TrainJob {
        detector: config.name.clone(),
        version: ModelVersion(run.version),
        created: run.created,
        columns: table.columns.clone(),
        fill_last: table.fill_last(),
        spec: config.model.clone(),
        schema: Some(table.schema.clone()),
        seed: config.seed.child("train").nth(run.version),
        rows: rows(
            table,
            &place(config),
            run.rows.clone(),
            run.sample.as_deref(),
        ),
        spans: run.sample.unwrap_or_else(|| match &table.places {
            Some(places) => places.spans(run.rows.start, run.rows.end),
            None => Vec::new(),
        }),
        source: table.places.is_none().then(|| source(table)),
        exclusions: run.exclusions,
        budget: config.detect.budget,
        episodes: EpisodeSettings::of(&config.detect),
        champion: run.champion,
        remake: None,
        params: run.params,
    }
}

/// The stretches of the rows `range` that the daemon would read for the training of this version, if they are more than it reads: drawn by
/// its sampler from the same seed. `None`: it would read them all.
pub fn sample(
    config: &Config,
    table: &Table,
    version: u64,
    range: &Range<usize>,
) -> Option<Vec<Span>> {
    let available = match &table.places {
        Some(places) => places.spans(range.start, range.end),
        None => vec![Span {
            at: place(config),
            from: Offset(range.start as i64),
            to: Offset(range.end as i64),
        }],
    };
    let most = config.training_params().rows_max as u64;
    let held: u64 = available.iter().map(Span::len).sum();
    let seed = config.seed.child("train").nth(version);
    (held > most).then(|| train::sample::choose(&available, most, seed))
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
) -> Result<Candidate, OfflineError> {
    let run = Run {
        version: 1,
        created,
        rows: 0..table.len(),
        sample: None,
        params: whole(config),
        exclusions: Vec::new(),
        champion: None,
    };
    finish(table, &job(config, table, run), monitor)
}

/// Makes the model of a card again, from the same file.
pub fn again(
    config: &Config,
    table: &Table,
    card: &Card,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, OfflineError> {
    let asked = |problem: String| Err(OfflineError::Asked(problem));
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
    let run = Run {
        version: card.version.0,
        created: card.created,
        rows: 0..table.len(),
        sample: None,
        params: whole(config).again(card),
        exclusions: card.exclusions.clone(),
        champion: None,
    };
    let job = TrainJob {
        detector: card.detector.clone(),
        spec: card.spec.clone(),
        schema: card.schema.clone(),
        seed: card.seed,
        source: card.source.clone(),
        remake: Some(card.clone()),
        ..job(config, table, run)
    };
    same_rows(&job, card)?;
    finish(table, &job, monitor)
}

/// Makes the model of a card again, from the spans of the topics that it names, if Kafka still has them whole.
pub fn again_from_log<H: History>(
    config: &Config,
    card: &Card,
    history: &mut H,
    monitor: &mut dyn Monitor,
) -> Result<Candidate, OfflineError> {
    let asked = |problem: String| OfflineError::Asked(problem);
    let configured = || config.input.schema.clone();
    let mut spec = card.schema.clone().unwrap_or_else(configured);
    spec.resolve_from_columns(&card.columns);
    let schema = spec.check().map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        asked(format!("input.{}", problems.join("; input.")))
    })?;
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
    let mut parts: BTreeMap<TopicPartition, PartitionRows> = BTreeMap::new();
    for span in &card.spans {
        let batch = history
            .read(span)
            .map_err(|error| OfflineError::Log(error.to_string()))?;
        let decoded = decoder.decode(&batch);
        parts
            .entry(span.at.clone())
            .or_insert_with(|| PartitionRows::new(span.at.clone(), card.columns.len()))
            .extend(&batch, &decoded);
    }
    let last = schema.missing().iter().enumerate();
    let job = TrainJob {
        detector: card.detector.clone(),
        version: card.version,
        created: card.created,
        columns: card.columns.clone(),
        fill_last: last
            .filter(|(_, missing)| **missing == Missing::Last)
            .map(|(column, _)| column)
            .collect(),
        spec: card.spec.clone(),
        schema: card.schema.clone(),
        seed: card.seed,
        rows: parts.into_values().collect(),
        spans: card.spans.clone(),
        source: None,
        exclusions: card.exclusions.clone(),
        budget: config.detect.budget,
        episodes: EpisodeSettings::of(&config.detect),
        champion: None,
        remake: Some(card.clone()),
        params: train::Params {
            rows_min: 0,
            ..config.training_params().again(card)
        },
    };
    same_rows(&job, card)?;
    train::run_watched(&job, monitor).map_err(|error| OfflineError::Train {
        path: format!("model {}", card.version),
        error,
    })
}

/// Fails unless as many rows were read as for the model of `card`: fewer, and Kafka has deleted some since.
fn same_rows(job: &TrainJob, card: &Card) -> Result<(), OfflineError> {
    let read: usize = job.rows.iter().map(PartitionRows::len).sum();
    match card.rows.get("read") {
        Some(&then) if then != read as u64 => Err(OfflineError::Differs(format!(
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
) -> Result<Candidate, OfflineError> {
    train::run_watched(job, monitor).map_err(|error| OfflineError::Train {
        path: table.path.clone(),
        error,
    })
}
