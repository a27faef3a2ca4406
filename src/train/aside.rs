//! What training sets aside: the quarantine, and what stands out in a history that was never judged.

use super::card;
use super::job::{TrainError, TrainJob};
use super::suspects::{self, SHARE_MAX};
use super::types;
use super::window::{self, Windows};
use super::young;
use crate::model::card::{Exclusion, Suspect};
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::Timestamp;

/// Records of the windows that are looked at, at least.
const LENGTH_MIN: usize = 10;

/// Whether two stretches share records.
fn overlap(a: &Exclusion, b: &Exclusion) -> bool {
    let ends = |e: &Exclusion| e.to.unwrap_or(Offset(i64::MAX));
    a.at == b.at && a.key == b.key && a.from < ends(b) && b.from < ends(a)
}

/// What training sets aside besides the quarantine, and whether it had to do without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    /// Suspects, with what somebody said of them.
    pub suspects: Vec<Suspect>,
    /// What else is kept out.
    pub out: Vec<Exclusion>,
    /// What was flagged and is learnt all the same, see [`young::accepted`].
    pub accepted: Vec<EpisodeId>,
    /// Since when the process is known, and up to when.
    pub known: Option<(Timestamp, Timestamp)>,
    /// What was flagged before the first model counts for nothing.
    pub waived: bool,
}

/// The windows to learn from: without the quarantine, and without what stands out in a history that was never judged. What was flagged before
/// there was a model counts for nothing where that is too much, or leaves too little: a key's own last rows know no daily course, and a
/// model that was fitted on some faults is better than none, or one that knows a small part of what is normal. Its fit is trimmed, and suspects
/// are set aside all the same.
pub(super) fn set_aside(job: &TrainJob) -> Result<(Windows<'_>, Aside), TrainError> {
    let needed = job.params.rows_min.max(window::WINDOWS_MIN);
    let known = young::known(job);
    let mut aside = Aside {
        accepted: young::accepted(job, known),
        known,
        ..Aside::default()
    };
    let quarantine: Vec<Exclusion> = job
        .exclusions
        .iter()
        .filter(|exclusion| !aside.accepted.contains(&exclusion.because))
        .cloned()
        .collect();
    let mut windows = Windows::build(job, &quarantine, &[]);
    if let Some(card) = &job.remake {
        aside.waived = card.waived;
        aside.suspects = job.known_suspects();
    } else {
        aside.waived = match &job.champion {
            Some(champion) => champion.card.waived,
            None => windows.excluded > 0 && windows.len() < needed || mostly_flagged(job, &windows),
        };
    }
    aside.out = if aside.waived {
        flagged_by_models(job, &quarantine)
    } else {
        quarantine
    };
    if aside.waived {
        windows = Windows::build(job, &aside.out, &[]);
    }
    if windows.len() < needed {
        return Err(windows.too_few(needed));
    }
    if job.remake.is_none() {
        aside.suspects = known_and_found(job, &windows, &aside.out)?;
    }
    if aside.suspects.is_empty() {
        return Ok((windows, aside));
    }
    let without = Windows::build(job, &aside.out, &aside.suspects);
    if without.len() >= needed || job.remake.is_some() {
        return Ok((without, aside));
    }
    aside
        .suspects
        .retain(|suspect| suspect.exclusion.confirmed());
    if aside.suspects.is_empty() {
        return Ok((windows, aside));
    }
    let without = Windows::build(job, &aside.out, &aside.suspects);
    if without.len() < needed {
        return Err(without.too_few(needed));
    }
    Ok((without, aside))
}

/// Whether more records are flagged than a fault may have.
fn mostly_flagged(job: &TrainJob, windows: &Windows<'_>) -> bool {
    let may = SHARE_MAX * windows.rows() as f64;
    // Maintenance, and what somebody confirmed, is kept out in any case.
    let confirmed = job.exclusions.iter().filter(|e| e.confirmed());
    let confirmed: Vec<Exclusion> = confirmed.cloned().collect();
    let flagged = |all: &Windows<'_>| windows.excluded.saturating_sub(all.excluded) as f64;
    windows.excluded as f64 > may && flagged(&Windows::build(job, &confirmed, &[])) > may
}

/// Of what was flagged, what somebody confirmed, and the records that came after those that the first model learnt from.
fn flagged_by_models(job: &TrainJob, quarantine: &[Exclusion]) -> Vec<Exclusion> {
    let judged = card::judged_from(job);
    let read = |at: &TopicPartition, from: Offset| {
        let of = job.rows.iter().find(|rows| rows.at == *at);
        of.is_some_and(|rows| !rows.is_empty() && from <= rows.offset(rows.len() - 1))
    };
    let later = |exclusion: &Exclusion| {
        if exclusion.confirmed() {
            return Some(exclusion.clone());
        }
        let from = judged.iter().find(|(at, _)| *at == exclusion.at)?.1;
        let ended_before = exclusion.to.is_some_and(|to| to <= from);
        (!ended_before && read(&exclusion.at, from)).then(|| Exclusion {
            from: exclusion.from.max(from),
            ..exclusion.clone()
        })
    };
    quarantine.iter().filter_map(later).collect()
}

/// Windows of several records where those that will be scored have fewer: a mean, and whether a column stands still, say more than one record
/// does. None where keys send too few records in a row.
fn longer<'a>(job: &'a TrainJob, windows: &Windows<'_>, out: &[Exclusion]) -> Option<Windows<'a>> {
    if windows.length() >= LENGTH_MIN {
        return None;
    }
    let longer = Windows::of_length(job, LENGTH_MIN, (out, &[]));
    (2 * longer.len() >= windows.len()).then_some(longer)
}

/// The suspects found now: of each type of keys by itself, since what half of its keys do is no fault, however few they are among all.
fn found(job: &TrainJob, windows: &Windows<'_>) -> Result<Vec<Suspect>, TrainError> {
    let types = types::and_others(job, windows.all(), windows.recent(windows.all(), 1).view());
    if types.is_empty() {
        return suspects::find(job, windows);
    }
    let mut found = Vec::new();
    for of in types {
        let theirs = job.of_columns(&of.columns);
        found.extend(suspects::find(&theirs, &windows.of_type(&theirs, &of))?);
    }
    Ok(found)
}

/// The suspects that the model in use knows of, and those found now, in windows of several records first.
fn known_and_found(
    job: &TrainJob,
    windows: &Windows<'_>,
    out: &[Exclusion],
) -> Result<Vec<Suspect>, TrainError> {
    let mut suspects = job.known_suspects();
    let longer = longer(job, windows, out);
    for windows in longer.iter().chain([windows]) {
        let found = found(job, windows)?;
        let known: Vec<Exclusion> = suspects.iter().map(|s| s.exclusion.clone()).collect();
        let new = |found: &Suspect| !known.iter().any(|known| overlap(known, &found.exclusion));
        suspects.extend(found.into_iter().filter(new));
    }
    suspects.sort_by(|a, b| a.exclusion.cmp(&b.exclusion));
    Ok(suspects)
}
