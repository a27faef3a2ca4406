//! A young detector: one that knows its process for less than [`Params::young`], and so may not have seen its days.
//!
//! A model that was fitted on the first night calls the first morning a fault. What is flagged is kept out of training, and the gate holds later models
//! against what earlier ones were accepted on: so a detector that is begun on an empty topic would call the rest of its life a fault. Two rules
//! let it grow. What was flagged is learnt once it is more of a key's records than a fault may be. And a model that was made when the
//! detector knew less is not asked about another.
//!
//! Assumes that a process is in order for most of its first days. A fault that begins in them, and comes to be a quarter of a key's records, is learnt,
//! unless somebody confirms it.
//!
//! [`Params::young`]: super::job::Params::young

use std::collections::BTreeMap;

use super::job::TrainJob;
use super::kept_out::OfKeys;
use super::suspects::SHARE_MAX;
use crate::model::card::Exclusion;
use crate::stream::EpisodeId;
use crate::time::Timestamp;

/// This share of the records at either end says nothing of when they began, lest a wrong clock make a detector old.
const ENDS: f64 = 0.01;

/// When the first records happened that a model of the detector learnt from, this one's among them, and the last of this one's.
pub(super) fn known(job: &TrainJob) -> Option<(Timestamp, Timestamp)> {
    if let Some(card) = &job.remake {
        return card.known;
    }
    let mut times: Vec<Timestamp> = Vec::new();
    for rows in &job.rows {
        times.extend((0..rows.len()).map(|i| rows.time(i)));
    }
    let last = times.len().checked_sub(1)?;
    let place = (ENDS * times.len() as f64) as usize;
    let mut at = |place: usize| *times.select_nth_unstable(place).1;
    let (from, to) = (at(place), at(last - place));
    let before = job.champion.as_ref().and_then(|model| model.card.known);
    Some((before.map_or(from, |before| before.0.min(from)), to))
}

/// How many times as long as the model in use a young detector must know its process to take up another without asking that one.
const LONGER: f64 = 1.25;

/// Whether the model in use is of a detector that knew its process for less than [`Params::young`], and knows it for [`LONGER`] now: what that model
/// holds against another is what it has not seen yet.
///
/// [`Params::young`]: super::job::Params::young
pub(super) fn outgrown(job: &TrainJob) -> bool {
    let before = job.champion.as_ref().and_then(|model| model.card.known);
    let (Some(now), Some(before)) = (known(job), before) else {
        return false;
    };
    let long = |(from, to): (Timestamp, Timestamp)| (to.0 - from.0).max(0);
    let young = long(before) < job.params.young.as_millis() as i64;
    young && LONGER * long(before) as f64 <= long(now) as f64
}

/// What was flagged in the first days and is more of a key's records than a fault may be ([`SHARE_MAX`]): which of the two is the fault, nobody can tell,
/// and a model that knows the first night alone would call every day one, and never learn it. What was learnt so before stays so; what somebody
/// confirmed stays out.
pub(super) fn accepted(job: &TrainJob, known: Option<(Timestamp, Timestamp)>) -> Vec<EpisodeId> {
    if let Some(card) = &job.remake {
        return card.accepted.clone();
    }
    let Some((known_from, _)) = known else {
        return Vec::new();
    };
    let champion = job.champion.as_ref();
    let before = champion.map_or(&[][..], |model| &model.card.accepted);
    let young = job.params.young.as_millis() as i64;
    let mut found = Vec::new();
    for rows in &job.rows {
        let of_keys = OfKeys::new(rows);
        // Of each key: how many of its records, of how many, and by which episodes.
        let mut flagged: BTreeMap<&str, (usize, usize, Vec<&EpisodeId>)> = BTreeMap::new();
        let of_here = |e: &&Exclusion| e.at == rows.at && !e.confirmed() && !e.let_in();
        for exclusion in job.exclusions.iter().filter(of_here) {
            let Some((records, within)) = of_keys.flagged(exclusion) else {
                continue;
            };
            if before.contains(&exclusion.because) {
                found.push(exclusion.because.clone());
                continue;
            }
            let begun = records[within.clone()].first().map(|&i| rows.time(i));
            if begun.is_some_and(|begun| (begun.0 - known_from.0).max(0) < young) {
                let of_key = flagged.entry(exclusion.key.as_str()).or_default();
                of_key.0 += within.len();
                of_key.1 = records.len();
                of_key.2.push(&exclusion.because);
            }
        }
        let too_many =
            |(count, all, _): &(usize, usize, _)| *count as f64 > SHARE_MAX * *all as f64;
        let learnt = flagged.into_values().filter(too_many);
        found.extend(learnt.flat_map(|(_, _, ids)| ids.into_iter().cloned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::rows::PartitionRows;
    use super::super::tests::{changed, flagged, job, trained};
    use super::*;
    use crate::model::card::Feedback;

    /// A second model of a detector that learnt from the first 350 of so many seconds: `young` or not.
    fn second(seconds: usize, young: bool) -> TrainJob {
        let hour = Duration::from_secs(if young { 3600 } else { 0 });
        let mut job = job(seconds, "pca", 1);
        job.champion = Some(Arc::new(
            trained(&super::super::tests::job(350, "pca", 1)).model,
        ));
        job.params.young = hour;
        job
    }

    #[test]
    fn what_is_more_than_a_fault_may_be_is_learnt_by_the_young() {
        let learnt = |young, exclusions: &[Exclusion]| {
            let mut job = second(1000, young);
            job.exclusions = exclusions.to_vec();
            let card = trained(&job).model.card;
            (card.accepted.len(), card.rows["excluded"])
        };
        // 300 records of 500 of one key, and together as many.
        assert_eq!(learnt(true, &[flagged(400, None)]), (1, 0));
        assert_eq!(learnt(false, &[flagged(400, None)]), (0, 300 + 20));
        let two = [flagged(400, Some(600)), flagged(700, None)];
        assert_eq!(learnt(true, &two), (2, 0));
        // 125 records are not too many; nor is anything that somebody confirmed.
        assert_eq!(learnt(true, &[flagged(750, None)]), (0, 125 + 20));
        let confirmed = Exclusion {
            feedback: Some(Feedback::TruePositive),
            ..flagged(400, None)
        };
        assert_eq!(learnt(true, &[confirmed]), (0, 300 + 20));
    }

    #[test]
    fn what_was_learnt_once_stays_so() {
        let mut job = second(1000, true);
        job.exclusions = vec![flagged(400, Some(700))];
        let first = trained(&job).model;
        assert_eq!(first.card.accepted.len(), 1);
        let mut later = super::super::tests::job(2000, "pca", 1);
        later.exclusions = job.exclusions.clone();
        later.champion = Some(Arc::new(first));
        assert_eq!(trained(&later).model.card.rows["excluded"], 0);
        later.champion = None;
        assert_eq!(trained(&later).model.card.rows["excluded"], 150 + 40);
    }

    #[test]
    fn a_model_that_learnt_what_was_accepted_is_made_again_to_the_bit() {
        let mut job = second(1000, true);
        job.exclusions = vec![flagged(400, None)];
        let first = trained(&job).model;
        assert_eq!(first.card.accepted, [EpisodeId::from("episode")]);
        job.remake = Some(first.card.clone());
        job.champion = None;
        assert_eq!(trained(&job).model.card, first.card);
    }

    #[test]
    fn a_model_that_knows_little_has_no_say_about_one_that_knows_more() {
        let wider = |rows: &PartitionRows| {
            changed(rows, |i, row| {
                if i % 350 > 100 {
                    for value in row {
                        *value *= 100.0;
                    }
                }
            })
        };
        let verdict = |seconds, young| {
            let mut job = second(seconds, young);
            job.rows = vec![wider(&job.rows[0])];
            trained(&job).verdict
        };
        assert!(verdict(1000, false).is_rejected());
        let grown = verdict(1000, true);
        assert!(grown.is_promoted() && grown.outgrows, "{grown}");
        let told = "promoted, for it knows more of a young process than the one in use";
        assert!(grown.to_string().starts_with(told), "{grown}");
        // Hardly more is known than before.
        assert!(verdict(400, true).is_rejected());
    }
}
