//! Judging a key's records again: through a pipeline of their own, which begins with nothing, by the model that was in use when each of them came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::read::Found;
use crate::detect::Params;
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::pipeline::{Column, PartitionAssignment, Pipeline, Watched, Watching};
use crate::record::RecordBatch;
use crate::record::decode::Decoder;
use crate::time::Timestamp;

/// Records of one batch. Results do not depend on it.
const BATCH: usize = 200;

/// Which model was in use when.
#[derive(Clone, Debug, Default)]
pub struct ModelsOfThen {
    /// When those that the gate let through were made, with their versions, the oldest first.
    made: Vec<(Timestamp, ModelVersion)>,
    /// The one in use.
    champion: Option<ModelVersion>,
    loaded: BTreeMap<ModelVersion, Arc<TrainedModel>>,
}

impl ModelsOfThen {
    /// Of the stored models that these cards are of. What somebody promoted or rolled back by hand is in no card: it is taken to have been in use since it
    /// was made, and the one in use where none that is stored is as old as a record.
    #[must_use]
    pub fn new(cards: &[Card], champion: Option<ModelVersion>) -> Self {
        let used = |card: &&Card| card.gate.is_promoted() || Some(card.version) == champion;
        let mut made: Vec<(Timestamp, ModelVersion)> = cards
            .iter()
            .filter(used)
            .map(|card| (card.created, card.version))
            .collect();
        made.sort_unstable();
        Self {
            made,
            champion,
            loaded: BTreeMap::new(),
        }
    }

    /// The version that judged what came at a time.
    fn of(&self, time: Timestamp) -> Option<ModelVersion> {
        let before = self.made.partition_point(|(made, _)| *made <= time);
        let of_then = before.checked_sub(1).and_then(|at| self.made.get(at));
        of_then.map(|(_, version)| *version).or(self.champion)
    }

    /// The versions that what was found needs.
    #[must_use]
    pub fn needed(&self, found: &Found) -> Vec<ModelVersion> {
        let mut needed: Vec<ModelVersion> = found
            .own
            .iter()
            .filter_map(|own| self.of(own.timestamp))
            .collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// A model was read from the store. One that is not is replaced by the one in use.
    pub fn loaded(&mut self, model: Arc<TrainedModel>) {
        self.loaded.insert(model.card.version, model);
    }

    fn model(&self, time: Timestamp) -> Option<&Arc<TrainedModel>> {
        let of_then = self.of(time).and_then(|version| self.loaded.get(&version));
        of_then.or_else(|| self.loaded.get(&self.champion?))
    }
}

/// Judges what was found, with what was expected of each record.
///
/// # Errors
/// If the models have other features than the detector, in words.
pub fn judge(
    found: &Found,
    models: &ModelsOfThen,
    (params, columns): (&Params, Arc<[Column]>),
    decoder: &mut Decoder,
) -> Result<Vec<Watched>, String> {
    let (Some(at), Some(first)) = (&found.at, found.own.first()) else {
        return Ok(Vec::new());
    };
    // There is nothing to restore, so nothing is saved on the way.
    let params = Params {
        snapshot_records: u64::MAX,
        snapshot_interval: Duration::MAX,
        snapshot_bytes: u64::MAX,
        emit_scores: false,
        ..params.clone()
    };
    let mut pipeline = Pipeline::new(Arc::new(params), columns).watching(Watching::Each);
    let mut watched = Vec::with_capacity(found.own.len());
    let (mut rest, mut begun) = (&found.own[..], false);
    while let Some(next) = rest.first() {
        let model = models.model(next.timestamp);
        let version = |time| models.model(time).map(|model| model.card.version);
        let alike = rest.iter().take(BATCH).take_while(|own| {
            version(own.timestamp) == model.map(|model| model.card.version)
                && own.writers.as_ref().map(Arc::as_ptr) == next.writers.as_ref().map(Arc::as_ptr)
        });
        let (run, later) = rest.split_at(alike.count().max(1));
        rest = later;
        if let Some(model) = model {
            let same = pipeline
                .current()
                .is_some_and(|now| Arc::ptr_eq(now, model));
            if !same {
                let promoted = pipeline.promote(Arc::clone(model));
                promoted.map_err(|error| error.to_string())?;
            }
        }
        if !begun {
            let assignment = PartitionAssignment::fresh(at.clone(), first.offset);
            let assigned = pipeline.assign(&assignment, None);
            assigned.map_err(|error| error.to_string())?;
            begun = true;
        }
        let mut batch = RecordBatch::default();
        for own in run {
            let (key, value) = (own.key.as_deref(), own.value.as_deref());
            let place = (own.offset, own.timestamp);
            batch.push(at, place, key, value, own.headers.clone());
        }
        if let Some(writers) = &next.writers {
            batch.set_writers(Arc::clone(writers));
        }
        let decoded = decoder.decode(&batch);
        loop {
            let mut staged = pipeline.stage(&batch, &decoded);
            watched.append(&mut staged.watched);
            let whole = staged.whole;
            pipeline.apply(staged);
            if whole {
                break;
            }
        }
    }
    Ok(watched)
}
