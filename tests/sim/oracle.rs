//! The calm run: every partition by itself, one record at a time, nothing ever fails, each model taken up where the committed state says it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anomalyd::alert::{AlertEvent, AlertKind};
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::{PartitionAssignment, Pipeline};
use anomalyd::record::{DecodedBatch, RecordBatch};
use anomalyd::stream::{Offset, TopicPartition};

use crate::Counts;
use crate::committed::{Committed, Gaps};
use crate::faults::Outcome;
use crate::world::{Input, World, decode};

/// What must have been emitted often.
pub const MESSAGES: &[&str] = &[
    "alerts",
    "dead_letters",
    "late",
    "scores",
    "silences",
    "storms",
    "updates",
];

/// Compares what was committed with the calm run.
pub fn compare(world: &World, outcome: &Outcome) -> Result<(), String> {
    for log in outcome.expired.iter().chain([&outcome.log]) {
        for which in 0..world.partitions.len() {
            one(world, outcome, which, &log[&world.partitions[which]])?;
        }
    }
    gaps(world, outcome)
}

/// One partition.
fn one(world: &World, outcome: &Outcome, which: usize, found: &Committed) -> Result<(), String> {
    let lost = lost(world, which, found)?;
    if let Some(lost) = lost.iter().find(|lost| **lost >= outcome.first[which]) {
        return Err(format!("{lost} is still there, but nothing came of it"));
    }
    episodes_make_sense(found)?;
    // Where state was discarded, what came before it must be as if it had not been.
    let found = match found.calm_until {
        Some(until) => &found.clone().back_at(until),
        None => found,
    };
    let expected = calm(world, &outcome.models, which, (found, &lost));
    let at = &world.partitions[which];
    same(at, "scores", &found.scores, &expected.scores)?;
    same(at, "alerts", &found.alerts, &expected.alerts)?;
    let dead = (&found.dead_letters, &expected.dead_letters);
    same(at, "dead letters", dead.0, dead.1)?;
    same(at, "late records", &found.late, &expected.late)?;
    same(at, "drift", &found.drift, &expected.drift)
}

/// Every gap is counted: at least the records that were lost, at most the offsets that were passed over.
fn gaps(world: &World, outcome: &Outcome) -> Result<(), String> {
    let (mut records, mut offsets) = (0, 0);
    for (which, at) in world.partitions.iter().enumerate() {
        let found = &outcome.log[at];
        records += lost(world, which, found)?.len() as i64;
        offsets += found.until - found.begun.unwrap_or(found.until) - found.records();
    }
    let Gaps {
        reported,
        unheard,
        again,
    } = outcome.gaps;
    if records <= reported + unheard && reported <= offsets + again {
        return Ok(());
    }
    Err(format!(
        "{records} records in {offsets} offsets were deleted before they were read, but counted were {reported}: {:?}",
        outcome.gaps
    ))
}

fn same<T: PartialEq + std::fmt::Debug>(
    at: &TopicPartition,
    what: &str,
    found: &[T],
    expected: &[T],
) -> Result<(), String> {
    let text = |one: Option<&T>| one.map_or("nothing".into(), |one| format!("{one:?}"));
    if found == expected {
        return Ok(());
    }
    let place = found
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    Err(format!(
        "{what} of {at} differ at {place} ({} committed, {} expected):\n  {}\n  {}",
        found.len(),
        expected.len(),
        text(found.get(place)),
        text(expected.get(place))
    ))
}

/// The calm run over one partition.
fn calm(
    world: &World,
    all: &[Arc<TrainedModel>],
    which: usize,
    (found, lost): (&Committed, &BTreeSet<i64>),
) -> Committed {
    let at = &world.partitions[which];
    let begun = found.begun.unwrap_or(0);
    let model = |version: u64| all[usize::try_from(version).unwrap() - 1].clone();
    let mut pipeline = Pipeline::new(world.params.clone(), world.columns.clone());
    let judging = |offset: i64| {
        found
            .models
            .range(..=offset)
            .next_back()
            .map_or(0, |(_, version)| *version)
    };
    let alerts_by = |offset: i64| {
        let found = found.alerts_by.range(..=offset).next_back();
        found.map_or(world.params.alerts(), |(_, alerts)| *alerts)
    };
    pipeline.judge_by(alerts_by(begun));
    let mut version = judging(begun);
    if version > 0 {
        pipeline.promote(model(version)).unwrap();
    }
    let assignment = PartitionAssignment {
        first: Offset(0),
        ..PartitionAssignment::fresh(at.clone(), Offset(begun))
    };
    pipeline.assign(&assignment, None).unwrap();
    let mut emitted = Committed::default();
    let mut decoded = DecodedBatch::default();
    let read = |input: &&Input| {
        (begun..found.until).contains(&input.offset) && !lost.contains(&input.offset)
    };
    for input in world.logs[which].iter().filter(read) {
        let next = judging(input.offset);
        if next != version {
            version = next;
            pipeline.promote(model(version)).unwrap();
        }
        if alerts_by(input.offset) != pipeline.params().alerts() {
            pipeline.judge_by(alerts_by(input.offset));
        }
        let mut batch = RecordBatch::default();
        let place = (Offset(input.offset), input.timestamp);
        batch.push(at, place, None, Some(&input.value), Vec::new());
        decode(&batch, &mut decoded);
        let staged = pipeline.stage(&batch, &decoded);
        emitted.alerts.extend(staged.outbox.alerts.iter().cloned());
        emitted.scores.extend(staged.outbox.scores.iter().cloned());
        emitted
            .dead_letters
            .extend(staged.outbox.dead_letters.iter().cloned());
        emitted.late.extend(staged.outbox.late.iter().cloned());
        emitted.drift.extend(staged.outbox.drift.iter().cloned());
        pipeline.apply(staged);
    }
    emitted
}

/// P2: each record that was passed is scored, a dead letter or late, and only one of them, once. Answers those that are nothing.
fn lost(world: &World, which: usize, found: &Committed) -> Result<BTreeSet<i64>, String> {
    let letters = found.dead_letters.iter().chain(&found.late);
    let scores = found.scores.iter().map(|score| score.input.offset);
    let offsets = scores.chain(letters.map(|letter| letter.offset));
    let mut offsets: Vec<i64> = offsets.map(|offset| offset.0).collect();
    let begun = found.begun.unwrap_or(found.until);
    let passed = |offset: &i64| (begun..found.until).contains(offset);
    let expected: BTreeSet<i64> = world.logs[which]
        .iter()
        .map(|input| input.offset)
        .filter(passed)
        .collect();
    let emitted: BTreeSet<i64> = offsets.iter().copied().collect();
    if emitted.len() == offsets.len() && emitted.is_subset(&expected) {
        return Ok(expected.difference(&emitted).copied().collect());
    }
    offsets.sort_unstable();
    Err(format!(
        "records went in as {expected:?} and came out as {offsets:?}"
    ))
}

/// Every episode opens before it changes or closes, and never twice without closing.
fn episodes_make_sense(found: &Committed) -> Result<(), String> {
    let mut open = BTreeSet::new();
    for alert in &found.alerts {
        let fine = match alert.event {
            AlertEvent::Open => open.insert(alert.id.clone()),
            AlertEvent::Update => open.contains(&alert.id),
            // Of what was discarded it is not known whether it has ended.
            AlertEvent::Close => open.remove(&alert.id) || alert.abandoned,
        };
        let shares: f64 = alert.relevant_attribution.iter().map(|a| a.share).sum();
        let summed = alert.relevant_attribution.is_empty() || (shares - 1.0).abs() < 1e-9;
        if !fine || !summed {
            return Err(format!(
                "this alert makes no sense where it stands: {alert:?}"
            ));
        }
    }
    Ok(())
}

/// Counts what was emitted.
pub fn count(log: &BTreeMap<TopicPartition, Committed>, counts: &mut Counts) {
    let mut add = |what, n: usize| *counts.entry(what).or_default() += n as u64;
    for committed in log.values() {
        add("scores", committed.scores.len());
        add("dead_letters", committed.dead_letters.len());
        add("late", committed.late.len());
        for alert in &committed.alerts {
            add("alerts", 1);
            match alert.kind {
                AlertKind::Silence => add("silences", 1),
                AlertKind::Storm => add("storms", 1),
                AlertKind::Score if alert.event == AlertEvent::Update => add("updates", 1),
                AlertKind::Score => {}
            }
        }
    }
}
