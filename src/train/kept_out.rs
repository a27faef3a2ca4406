//! Which records are kept out of training: flagged, suspected, or of maintenance.

use std::collections::BTreeMap;

use super::job::TrainJob;
use super::rows::PartitionRows;
use crate::model::card::{Exclusion, Suspect};
use crate::stream::Span;

/// Records of an episode that ended and may have been a false alarm, at most: three times the longest time scale that evidence gathers over by default.
const SHORT_MAX: usize = 900;

/// Which records of a partition are kept out: those of long episodes, of open ones, of suspects and of maintenance, for good; those of short
/// ones of the fit only.
pub(super) struct KeptOut {
    pub(super) long: Vec<bool>,
    pub(super) short: Vec<bool>,
}

impl KeptOut {
    /// Which records of a partition are kept out: those of excluded stretches, and `guard` records of the key on either side.
    /// Maintenance windows too, by event time.
    pub(super) fn of(
        job: &TrainJob,
        rows: &PartitionRows,
        (exclusions, suspects): (&[Exclusion], &[Suspect]),
    ) -> Self {
        let of_key = rows.of_keys();
        let maintenance = &job.maintenance;
        let serviced = |i: usize| {
            let (key, time) = (&rows.keys()[rows.key_number(i)].0, rows.time(i));
            maintenance.iter().any(|window| window.has(key, time))
        };
        let mut long: Vec<bool> = (0..rows.len()).map(serviced).collect();
        let mut short = vec![false; rows.len()];
        let guard = usize::try_from(job.params.guard).unwrap_or(usize::MAX);
        let numbers: BTreeMap<&str, usize> = rows
            .keys()
            .iter()
            .enumerate()
            .map(|(i, key)| (&*key.0, i))
            .collect();
        let suspects = suspects.iter().map(|suspect| (&suspect.exclusion, true));
        let all = exclusions.iter().map(|e| (e, false)).chain(suspects);
        for (exclusion, suspect) in all.filter(|(e, _)| e.at == rows.at && !e.let_in()) {
            let Some(&number) = numbers.get(exclusion.key.as_str()) else {
                continue;
            };
            let records = &of_key[number];
            let from = records.partition_point(|&i| rows.offset(i) < exclusion.from);
            let to = exclusion.to.map_or(records.len(), |to| {
                records.partition_point(|&i| rows.offset(i) < to)
            });
            let is_short = !suspect
                && !exclusion.confirmed()
                && Self::read_whole(job, exclusion)
                && to.saturating_sub(from) <= SHORT_MAX;
            let out = if is_short { &mut short } else { &mut long };
            // The guard also where the stretch itself was not sampled, if its neighbours were.
            let to = to.max(from).saturating_add(guard).min(records.len());
            for &i in &records[from.saturating_sub(guard)..to] {
                out[i] = true;
            }
        }
        Self { long, short }
    }

    /// Whether an episode ended, and all of its records lie where the log was read.
    fn read_whole(job: &TrainJob, exclusion: &Exclusion) -> bool {
        let Some(to) = exclusion.to else { return false };
        let mut spans = job.spans.iter().map(|stretch| &stretch.span);
        let whole =
            |span: &Span| span.at == exclusion.at && span.from <= exclusion.from && to <= span.to;
        job.spans.is_empty() || spans.any(whole)
    }
}
