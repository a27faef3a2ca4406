//! Which records are kept out of training: flagged, suspected, or of maintenance.

use std::collections::BTreeMap;
use std::ops::Range;

use super::job::TrainJob;
use super::rows::PartitionRows;
use crate::model::card::{Exclusion, Suspect};
use crate::stream::{Offset, Span};

/// Records of an episode that ended and may have been a false alarm, at most: three times the longest time scale that evidence gathers over by default.
const SHORT_MAX: usize = 900;

/// The records of each key of a partition, and where stretches of them lie.
pub(super) struct OfKeys<'a> {
    rows: &'a PartitionRows,
    numbers: BTreeMap<&'a str, usize>,
    records: Vec<Vec<usize>>,
}

impl<'a> OfKeys<'a> {
    /// Of all keys.
    pub(super) fn new(rows: &'a PartitionRows) -> Self {
        let keys = rows.keys().iter().enumerate();
        Self {
            rows,
            numbers: keys.map(|(number, key)| (&*key.0, number)).collect(),
            records: rows.of_keys(),
        }
    }

    /// The records of the key of what was flagged, and which of them lie in it, of those that were read; `None` if none of the key were.
    pub(super) fn flagged(&self, exclusion: &Exclusion) -> Option<(&[usize], Range<usize>)> {
        let records = &self.records[*self.numbers.get(exclusion.key.as_str())?];
        let place = |to: Offset| records.partition_point(|&i| self.rows.offset(i) < to);
        let from = place(exclusion.from);
        let to = exclusion.to.map_or(records.len(), place);
        Some((records, from..to.max(from)))
    }
}

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
        (rows, guard): (&PartitionRows, u64),
        (exclusions, suspects): (&[Exclusion], &[Suspect]),
    ) -> Self {
        let of_keys = OfKeys::new(rows);
        let maintenance = &job.maintenance;
        let serviced = |i: usize| {
            let (key, time) = (&rows.keys()[rows.key_number(i)].0, rows.time(i));
            maintenance.iter().any(|window| window.has(key, time))
        };
        let mut long: Vec<bool> = (0..rows.len()).map(serviced).collect();
        let mut short = vec![false; rows.len()];
        let guard = usize::try_from(guard).unwrap_or(usize::MAX);
        let suspects = suspects.iter().map(|suspect| (&suspect.exclusion, true));
        let all = exclusions.iter().map(|e| (e, false)).chain(suspects);
        for (exclusion, suspect) in all.filter(|(e, _)| e.at == rows.at && !e.let_in()) {
            let Some((records, flagged)) = of_keys.flagged(exclusion) else {
                continue;
            };
            let is_short = !suspect
                && !exclusion.confirmed()
                && Self::read_whole(job, exclusion)
                && flagged.len() <= SHORT_MAX;
            let out = if is_short { &mut short } else { &mut long };
            // The guard also where the stretch itself was not sampled, if its neighbours were.
            let to = flagged.end.saturating_add(guard).min(records.len());
            for &i in &records[flagged.start.saturating_sub(guard)..to] {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::job;
    use super::*;
    use crate::model::card::Feedback;
    use crate::record::Key;
    use crate::stream::{EpisodeId, TopicPartition};
    use crate::time::Timestamp;

    /// Records of three keys, some of whose neighbours were not sampled: offsets ascend, and not one by one.
    fn rows(keys: &[(usize, i64)]) -> PartitionRows {
        let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 1);
        let mut offset = 0;
        for &(key, step) in keys {
            offset += step;
            let key = Key(format!("k{key}").into());
            rows.push(&key, Timestamp(offset), Offset(offset), &[0.0]);
        }
        rows
    }

    proptest! {
        #[test]
        fn what_is_flagged_and_its_guard_are_kept_out_and_nothing_else(
            keys in proptest::collection::vec((0_usize..3, 1_i64..4), 1..60),
            flagged in proptest::collection::vec(
                (0_usize..4, 0_i64..120, proptest::option::of(0_i64..60), 0_usize..4), 0..4),
            guard in 0_u64..5,
        ) {
            let rows = rows(&keys);
            let exclusion = |&(key, from, length, feedback): &(usize, i64, Option<i64>, usize)| Exclusion {
                at: rows.at.clone(),
                key: format!("k{key}"),
                from: Offset(from),
                to: length.map(|length| Offset(from + length)),
                because: EpisodeId::new("d", &rows.at, Offset(from)),
                feedback: [None, Some(Feedback::FalsePositive), Some(Feedback::TruePositive), Some(Feedback::NewNormal)][feedback],
            };
            let exclusions: Vec<Exclusion> = flagged.iter().map(exclusion).collect();
            let job = job(100, "pca", 1);
            let out = KeptOut::of(&job, (&rows, guard), (&exclusions, &[]));
            // Record by record: it is flagged, or fewer than `guard` records of its key lie between it and the flagged stretch.
            let hits = |i: usize, exclusion: &Exclusion| {
                let own = |j: &usize| rows.key_number(*j) == rows.key_number(i);
                let before = (0..rows.len()).filter(own).filter(|&j| rows.offset(j) < exclusion.from);
                let after = (0..rows.len()).filter(own).filter(|&j| exclusion.to.is_some_and(|to| to.max(exclusion.from) <= rows.offset(j)));
                let guard = guard as usize;
                let near = if rows.offset(i) < exclusion.from {
                    before.filter(|&j| i < j).count() < guard
                } else if exclusion.to.is_some_and(|to| to.max(exclusion.from) <= rows.offset(i)) {
                    after.filter(|&j| j < i).count() < guard
                } else {
                    true
                };
                rows.keys()[rows.key_number(i)].0.as_ref() == exclusion.key && near
            };
            let lets_in = |e: &&Exclusion| matches!(e.feedback, Some(Feedback::FalsePositive | Feedback::NewNormal));
            for i in 0..rows.len() {
                let mut of = exclusions.iter().filter(|e| !lets_in(e) && hits(i, e));
                prop_assert_eq!(out.long[i] || out.short[i], of.next().is_some(), "record {}", i);
                // What somebody confirmed, and what is not over, is no false alarm.
                let sure = |e: &&Exclusion| e.to.is_none() || e.feedback == Some(Feedback::TruePositive);
                let mut of = exclusions.iter().filter(|e| !lets_in(e) && sure(e) && hits(i, e));
                prop_assert_eq!(out.long[i], of.next().is_some(), "record {} for good", i);
            }
        }
    }
}
