//! The last step of training: what was found out, as the card keeps it.

use std::collections::BTreeMap;

use super::aside::Aside;
use super::card::{judged_from, unobserved};
use super::fit::FitLosses;
use super::job::TrainJob;
use super::split::Split;
use super::unlearnt::unlearnt;
use crate::model::card::{Card, TypeOfKeys, Usage};
use crate::model::gate_report::GateReport;

/// What a run found out.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    /// What stood out in a history that nobody had judged, and whether the quarantine counted for nothing.
    pub aside: Aside,
    /// Which windows were used for what.
    pub split: &'a Split,
    /// How windows were used.
    pub usage: Usage,
    /// How many windows calibrated.
    pub calibrated: usize,
    /// How the fit went.
    pub losses: FitLosses,
    /// What the model consists of, where its kind is made of others.
    pub members: Vec<String>,
    /// Types of keys that have a model of their own.
    pub types: Vec<TypeOfKeys>,
    /// The kind that was asked for, where the baseline took its place.
    pub asked: Option<String>,
    /// What the gate measured.
    pub measures: BTreeMap<String, f64>,
    /// What it said.
    pub verdict: GateReport,
}

/// The card of a model whose training is over: `begun` with all that was found out. What is no function of the rows is that of the card which is
/// made again, if one is.
pub(super) fn completed(begun: Card, job: &TrainJob, found: Findings<'_>) -> Card {
    let mut rows = begun.rows;
    for (name, windows) in [
        ("fit", found.split.train.len()),
        ("validation", found.split.validation.len()),
        ("calibrate", found.calibrated),
        ("gate", found.split.gate.len()),
    ] {
        rows.insert(name.to_owned(), windows as u64);
    }
    let remade = job.remake.as_ref();
    Card {
        rows,
        unobserved: unobserved(job),
        unlearnt: unlearnt(job, (&found.aside.out, &found.aside.suspects)),
        suspects: found.aside.suspects,
        waived: found.aside.waived,
        accepted: found.aside.accepted,
        known: found.aside.known,
        judged_from: judged_from(job),
        usage: Some(found.usage),
        losses: found.losses.model,
        member_losses: found.losses.members,
        members: found.members,
        types: found.types,
        asked: found.asked,
        measures: found.measures,
        gate: found.verdict,
        created: remade.map_or(begun.created, |card| card.created),
        program: remade.map_or(begun.program, |card| card.program.clone()),
        ..begun
    }
}
