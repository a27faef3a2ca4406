//! The card of a model that is being trained: what it is made from.

use std::collections::BTreeMap;

use super::job::TrainJob;
use super::rows::PartitionRows;
use super::window::Windows;
use crate::model::card::Card;
use crate::stream::{Offset, TopicPartition};

/// Where records begin that some model judged when they came: those after the first model's.
pub(super) fn judged_from(job: &TrainJob) -> Vec<(TopicPartition, Offset)> {
    if let Some(card) = &job.remake {
        return card.judged_from.clone();
    }
    if let Some(champion) = &job.champion {
        return champion.card.judged_from.clone();
    }
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for rows in job.rows.iter().filter(|rows| !rows.is_empty()) {
        let end = rows.offset(rows.len() - 1).next();
        ends.insert(rows.at.clone(), end);
    }
    ends.into_iter().collect()
}

/// Features that none of the records has.
pub(super) fn unobserved(job: &TrainJob) -> Vec<String> {
    let has = |rows: &PartitionRows, column: usize| {
        (0..rows.len()).any(|record| !rows.row(record)[column].is_nan())
    };
    let columns = job.columns.iter().enumerate();
    let lacked = columns.filter(|(at, _)| !job.rows.iter().any(|rows| has(rows, *at)));
    lacked.map(|(_, name)| name.clone()).collect()
}

/// The card of a model that is being trained, as far as the job and its windows say: as much as scoring with it needs. What training finds out
/// is added once, at the end, by `report`.
pub(super) fn begun(job: &TrainJob, windows: &Windows<'_>) -> Card {
    Card {
        version: job.version,
        detector: job.detector.clone(),
        created: job.created,
        columns: job.columns.clone(),
        spec: job.spec.clone(),
        schema: job.schema.clone(),
        seed: job.seed,
        spans: job.spans.clone(),
        source: job.source.clone(),
        exclusions: job.exclusions.clone(),
        maintenance: job.maintenance.clone(),
        rows: BTreeMap::from([
            ("read".to_owned(), windows.rows as u64),
            ("excluded".to_owned(), windows.excluded as u64),
            ("windows".to_owned(), windows.len() as u64),
            ("keys".to_owned(), windows.keys as u64),
            ("levels".to_owned(), windows.levels().len() as u64),
            ("late".to_owned(), windows.late as u64),
        ]),
        records_per_key_day: windows.records_per_key_day,
        time_scales: job.episodes.time_scales.clone(),
        close_evidence: job.episodes.close_evidence,
        ..Card::blank()
    }
}
