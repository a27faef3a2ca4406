//! The calm run: every partition by itself, one record at a time, nothing ever fails, each model taken up where the committed state says it was.

use std::collections::{BTreeMap, BTreeSet};

use anomalyd::alert::{Alert, AlertEvent, AlertKind, Score};
use anomalyd::pipeline::{Grant, Message, Pipeline};
use anomalyd::record::{DecodedBatch, RecordBatch};
use anomalyd::stream::{Offset, TopicPartition};

use crate::Counts;
use crate::broker::Committed;
use crate::faults::Outcome;
use crate::world::{NOW, World, decode};

/// What must have been told often.
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
    for (which, at) in world.partitions.iter().enumerate() {
        let found = &outcome.log[at];
        let expected = calm(world, which, &found.models);
        same(at, "scores", &found.scores, &expected.scores)?;
        same(at, "alerts", &found.alerts, &expected.alerts)?;
        same(
            at,
            "dead letters",
            &found.dead_letters,
            &expected.dead_letters,
        )?;
        same(at, "late records", &found.late, &expected.late)?;
        same(at, "drift", &found.drift, &expected.drift)?;
        every_record_once(world, which, found)?;
        episodes_make_sense(found)?;
    }
    Ok(())
}

fn same(
    at: &TopicPartition,
    what: &str,
    found: &[Message],
    expected: &[Message],
) -> Result<(), String> {
    let text = |message: Option<&Message>| {
        message.map_or("nothing".into(), |m| {
            String::from_utf8_lossy(m.value.as_deref().unwrap_or_default()).into_owned()
        })
    };
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
fn calm(world: &World, which: usize, models: &BTreeMap<i64, u64>) -> Committed {
    let at = &world.partitions[which];
    let mut pipeline = Pipeline::new(world.params.clone(), world.columns.clone());
    let judging = |offset: i64| {
        models
            .range(..=offset)
            .next_back()
            .map_or(0, |(_, version)| *version)
    };
    let mut version = judging(0);
    if version > 0 {
        pipeline.promote(world.model(version)).unwrap();
    }
    let grant = Grant {
        at: at.clone(),
        committed: Offset(0),
        fresh: true,
        first: Offset(0),
        topic_id: None,
        state: Vec::new(),
    };
    pipeline.assign(&grant, None).unwrap();
    let mut told = Committed::default();
    let mut decoded = DecodedBatch::default();
    for input in &world.logs[which] {
        let next = judging(input.offset);
        if next != version {
            version = next;
            pipeline.promote(world.model(version)).unwrap();
        }
        let mut batch = RecordBatch::default();
        let place = (Offset(input.offset), input.timestamp);
        batch.push(at, place, None, Some(&input.value), Vec::new());
        decode(&batch, &mut decoded);
        let staged = pipeline.stage(&batch, &decoded, NOW);
        told.alerts.extend(staged.outbox.alerts.iter().cloned());
        told.scores.extend(staged.outbox.scores.iter().cloned());
        told.dead_letters
            .extend(staged.outbox.dead_letters.iter().cloned());
        told.late.extend(staged.outbox.late.iter().cloned());
        told.drift.extend(staged.outbox.drift.iter().cloned());
        pipeline.apply(staged);
    }
    told
}

/// P2: each record is scored, a dead letter or late, and only one of them, once.
fn every_record_once(world: &World, which: usize, found: &Committed) -> Result<(), String> {
    let mut offsets: Vec<i64> = found
        .scores
        .iter()
        .map(|message| {
            serde_json::from_slice::<Score>(message.value.as_ref().unwrap())
                .unwrap()
                .input
                .offset
        })
        .collect();
    for message in found.dead_letters.iter().chain(&found.late) {
        let header = message
            .headers
            .iter()
            .find(|h| &*h.name == "__connect.errors.offset")
            .unwrap();
        let text = std::str::from_utf8(header.value.as_ref().unwrap()).unwrap();
        offsets.push(text.parse().unwrap());
    }
    offsets.sort_unstable();
    let expected: Vec<i64> = world.logs[which].iter().map(|input| input.offset).collect();
    if offsets == expected {
        Ok(())
    } else {
        Err(format!(
            "records went in as {expected:?} and came out as {offsets:?}"
        ))
    }
}

/// Every episode opens before it changes or closes, and never twice without closing.
fn episodes_make_sense(found: &Committed) -> Result<(), String> {
    let mut open = BTreeSet::new();
    for message in &found.alerts {
        let alert: Alert = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
        let fine = match alert.event {
            AlertEvent::Open => open.insert(alert.id.clone()),
            AlertEvent::Update => open.contains(&alert.id),
            AlertEvent::Close => open.remove(&alert.id),
        };
        let shares: f64 = alert.relevant_attribution.iter().map(|a| a.share).sum();
        let told = alert.relevant_attribution.is_empty() || (shares - 1.0).abs() < 1e-9;
        if !fine || !told {
            return Err(format!(
                "this alert makes no sense where it stands: {alert:?}"
            ));
        }
    }
    Ok(())
}

/// Counts what was told.
pub fn count(log: &BTreeMap<TopicPartition, Committed>, counts: &mut Counts) {
    let mut add = |what, n: usize| *counts.entry(what).or_default() += n as u64;
    for committed in log.values() {
        add("scores", committed.scores.len());
        add("dead_letters", committed.dead_letters.len());
        add("late", committed.late.len());
        for message in &committed.alerts {
            let alert: Alert = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
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
