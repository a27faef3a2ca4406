//! Snapshots: the state of a partition as entries of a compacted topic, and back, bit for bit.
//!
//! Keys of entries are `{detector}/{topic}/{partition}/head`, `…/key/{key}`, and `…/episode/{id}`. Heads and episodes are JSON, which people and
//! the trainer read; keys are binary (see `bytes`), because there are many and their rows hold NaN. All are sealed (see `seal`): what was damaged is
//! not state, and the partition begins anew.
//! Every value has a version; an unknown one under a good seal is refused, not guessed at. A head names the consumer group whose state it is, so
//! that another does not take it for its own, and its model by the sha256 of its file: another that was given the same number is another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec::{FORMAT, read_key, write_key};
use super::seal;
use super::state::{Head, KeyEntry, KeyState, PartitionState, Quarantined, Storm};
use super::{Column, Discarded, PartitionAssignment, RestoreError, StateEntry};
use crate::detect::clock::StreamClock;
use crate::detect::{AlertParams, Params};
use crate::model::card::{Exclusion, ModelVersion, Said};
use crate::model::tensors::sha256;
use crate::model::trained::TrainedModel;
use crate::record::Key;
use crate::stream::{EpisodeId, Offset, TopicPartition};
use crate::time::Timestamp;

/// The `head` entry.
#[derive(Debug, Serialize, Deserialize)]
struct HeadEntry {
    v: u8,
    /// Where the snapshot was taken: the next record to read.
    offset: Offset,
    /// The model that judges from there on; 0: the cold start.
    model: ModelVersion,
    /// The sha256 of that model's file; absent of the cold start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model_sha256: Option<Arc<str>>,
    /// What else it judges by; absent in what older programs wrote, which were not told of changes: then as things are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alerts: Option<AlertParams>,
    clock: StreamClock,
    storm: Storm,
    /// The features that rows are made of.
    columns: Vec<String>,
    /// The consumer group whose state it is; absent in what older programs wrote, which belongs to whoever reads it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The id that brokers give to the topic; absent where they give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<Arc<str>>,
}

/// What an entry's key says.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Head,
    Key(&'a str),
    Episode(&'a str),
}

/// The bytes before an entry's kind.
fn prefix(detector: &str, at: &TopicPartition) -> String {
    format!("{detector}/{}/{}/", at.topic, at.partition.0)
}

pub(super) fn key_entry(detector: &str, at: &TopicPartition, key: &str) -> Vec<u8> {
    format!("{}key/{key}", prefix(detector, at)).into_bytes()
}

fn parse(key: &[u8]) -> Option<(&str, TopicPartition, Name<'_>)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(4, '/');
    let (detector, topic) = (parts.next()?, parts.next()?);
    let partition = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let name = if rest == "head" {
        Name::Head
    } else if let Some(key) = rest.strip_prefix("key/") {
        Name::Key(key)
    } else {
        Name::Episode(rest.strip_prefix("episode/")?)
    };
    Some((detector, TopicPartition::new(topic, partition), name))
}

/// The partition that an entry of the state topic belongs to, from its key; `None` if the key is not of `detector`.
pub fn owner(detector: &str, key: &[u8]) -> Option<TopicPartition> {
    let (theirs, at, _) = parse(key)?;
    (theirs == detector).then_some(at)
}

fn unreadable(entry: &StateEntry, problem: impl std::fmt::Display) -> RestoreError {
    RestoreError::Unreadable {
        at: entry.at.clone(),
        entry: String::from_utf8_lossy(&entry.key).into_owned(),
        problem: problem.to_string(),
    }
}

/// The head among some entries: `None` if there is none, or it was damaged.
fn read_head(state: &[StateEntry]) -> Result<Option<HeadEntry>, RestoreError> {
    for entry in state {
        let Some((_, _, Name::Head)) = parse(&entry.key) else {
            continue;
        };
        let Some(head) = entry.value.as_deref().and_then(seal::open_json) else {
            continue;
        };
        if head["v"] != FORMAT {
            let problem = format!("version {}, not {FORMAT}", head["v"]);
            return Err(unreadable(entry, problem));
        }
        return serde_json::from_value(head)
            .map(Some)
            .map_err(|error| unreadable(entry, error));
    }
    Ok(None)
}

/// Whether the head among some entries was damaged.
fn head_is_damaged(state: &[StateEntry]) -> bool {
    state.iter().any(|entry| {
        let damaged = |value: &[u8]| seal::open_json(value).is_none();
        matches!(parse(&entry.key), Some((_, _, Name::Head)))
            && entry.value.as_deref().is_some_and(damaged)
    })
}

/// Whether a model is the one that the state of a partition names, and not another of the same number.
///
/// # Errors
/// If the state's head cannot be read.
pub fn names(state: &[StateEntry], model: &TrainedModel) -> Result<bool, RestoreError> {
    names_with(state, model.card.version, || digest(model))
}

/// The same of a model by its number and, if it comes to that, the sha256 of its file.
pub(super) fn names_with(
    state: &[StateEntry],
    version: ModelVersion,
    sha256: impl FnOnce() -> Option<Arc<str>>,
) -> Result<bool, RestoreError> {
    let head = read_head(state)?.filter(|head| head.model == version);
    Ok(head.is_some_and(|head| head.model_sha256 == sha256()))
}

/// The sha256 of a model's file: what it is known by, whatever its number; `None` of one that has no file, because its card has numbers that are none.
pub(super) fn digest(model: &TrainedModel) -> Option<Arc<str>> {
    let bytes = model.written().ok()?;
    Some(Arc::from(sha256(&bytes)))
}

/// The model that the state of a partition names: the one that must judge its replay. `None`: there is no state. Version 0 is the cold start.
pub fn model_version(state: &[StateEntry]) -> Result<Option<ModelVersion>, RestoreError> {
    Ok(read_head(state)?.map(|head| head.model))
}

/// What the state of a partition is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The next record to read.
    pub offset: Offset,
    /// The id of its topic, if it names one.
    pub topic_id: Option<Arc<str>>,
}

/// What the state of a partition is of; `None` where there is no state.
///
/// # Errors
/// If the state's head cannot be read.
pub fn as_of(state: &[StateEntry]) -> Result<Option<AsOf>, RestoreError> {
    Ok(read_head(state)?.map(|head| AsOf {
        offset: head.offset,
        topic_id: head.topic_id,
    }))
}

/// The model that must judge what a partition has to replay; `None` if it has nothing to replay, no state, or the cold start judged.
///
/// # Errors
/// If the state's head cannot be read.
pub fn replayed_by(assignment: &PartitionAssignment) -> Result<Option<ModelVersion>, RestoreError> {
    Ok(read_head(&assignment.state)?
        .filter(|head| head.offset < assignment.committed && head.model != ModelVersion(0))
        .map(|head| head.model))
}

/// A flagged episode, as people and training see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpisodeRecord {
    /// Its records, and what somebody said of it.
    pub exclusion: Exclusion,
    /// Event time of its first record.
    pub from_time: Timestamp,
    /// Event time of the record that closed it; `None` while it is open.
    pub to_time: Option<Timestamp>,
    /// No alert of it was emitted, because somebody dismissed one like it.
    pub held: bool,
}

/// What the state topic remembers of episodes, open and closed ones, with what was `said` of them. Entries that are none are passed over.
pub fn episode_log(state: &[StateEntry], said: &Said) -> Vec<EpisodeRecord> {
    let record = |entry: &StateEntry| {
        let (_, at, Name::Episode(id)) = parse(&entry.key)? else {
            return None;
        };
        let read = seal::open_json(entry.value.as_deref()?)?;
        let read: Quarantined = serde_json::from_value(read).ok()?;
        // What is held back is what the one that it is like was called, unless it was called something itself.
        let like = || said.get(read.held.as_ref()?);
        let feedback = said.get(id).or_else(like).copied();
        Some(EpisodeRecord {
            held: read.held.is_some(),
            from_time: read.from_time,
            to_time: read.to_time,
            exclusion: Exclusion {
                feedback,
                at,
                key: read.key,
                from: read.from,
                to: read.to,
                because: id.into(),
            },
        })
    };
    state.iter().filter_map(record).collect()
}

/// The flagged episodes that training must know of, without guard bands, with what was `said` of them.
pub fn quarantine(state: &[StateEntry], said: &Said) -> Vec<Exclusion> {
    episode_log(state, said)
        .into_iter()
        .map(|n| n.exclusion)
        .collect()
}

/// One entry of the quarantine; `None` forgets it.
pub(super) fn quarantine_entry(
    detector: &str,
    at: &TopicPartition,
    id: &EpisodeId,
    quarantined: Option<&Quarantined>,
) -> StateEntry {
    StateEntry {
        at: at.clone(),
        key: format!("{}episode/{id}", prefix(detector, at)).into_bytes(),
        value: quarantined.map(seal::json),
    }
}

/// The entries of a snapshot of `partition`, which `model` judges by `params` from here on: the head, the keys changed since the last snapshot, and
/// tombstones for those forgotten.
pub(super) fn take(
    params: &Params,
    partition: &PartitionState,
    (model, model_sha256): (ModelVersion, Option<Arc<str>>),
    columns: &[Column],
) -> Vec<StateEntry> {
    let (at, detector) = (&partition.at, &*params.detector);
    let head = HeadEntry {
        v: FORMAT,
        offset: partition.head.position,
        model,
        model_sha256,
        alerts: Some(params.alerts()),
        clock: partition.head.clock.clone(),
        storm: partition.head.storm,
        columns: columns.iter().map(|column| column.name.clone()).collect(),
        group: Some(params.group.clone()).filter(|group| !group.is_empty()),
        topic_id: partition.topic_id.clone(),
    };
    let mut dirty: Vec<(&Key, &KeyState)> = partition
        .keys
        .iter()
        .filter(|(_, key_entry)| key_entry.dirty)
        .map(|(key, key_entry)| (key, &key_entry.state))
        .collect();
    dirty.sort_unstable_by_key(|(key, _)| *key);
    let entry = |key: Vec<u8>, value| StateEntry {
        at: at.clone(),
        key,
        value,
    };
    let mut entries = vec![entry(
        format!("{}head", prefix(detector, at)).into_bytes(),
        Some(seal::json(&head)),
    )];
    for (key, state) in dirty {
        entries.push(entry(
            key_entry(detector, at, &key.0),
            Some(seal::bytes(write_key(state))),
        ));
    }
    for key in &partition.forgotten {
        if !partition.keys.contains_key(key) {
            entries.push(entry(key_entry(detector, at, &key.0), None));
        }
    }
    entries
}

/// What a partition is restored for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestoreTarget<'a> {
    /// The detector's parameters: its group owns the state. What may change of them is the state's until it is saved again.
    pub params: &'a Arc<Params>,
    /// The features that records have.
    pub columns: &'a [Column],
    /// Whether the model that the state names is at hand; if it is, whether it has these features.
    pub model: Option<bool>,
    /// From so many records before its beginning a partition without state learns.
    pub lookback: u64,
}

impl RestoreTarget<'_> {
    /// Why the state under `head` cannot be used.
    fn refuses(
        self,
        head: Option<&HeadEntry>,
        assignment: &PartitionAssignment,
    ) -> Option<Discarded> {
        let Some(head) = head else {
            return Some(Discarded::NoHead);
        };
        if let (Some(theirs), Some(ours)) = (&head.topic_id, &assignment.topic_id)
            && theirs != ours
        {
            return Some(Discarded::OtherTopic);
        }
        let replays = head.offset < assignment.committed;
        let names = self.columns.iter().map(|column| &column.name);
        if head.offset > assignment.committed {
            Some(Discarded::Ahead)
        } else if !head.columns.iter().eq(names) || self.model == Some(false) {
            Some(Discarded::OtherFeatures)
        } else if replays && head.offset < assignment.first {
            Some(Discarded::RecordsDeleted)
        } else if replays && head.model != ModelVersion(0) && self.model.is_none() {
            Some(Discarded::ModelGone)
        } else {
            None
        }
    }
}

/// Takes an entry of a key or of an episode in. If it is damaged, the state is `discarded`.
fn read_entry(
    entry: &StateEntry,
    partition: &mut PartitionState,
    discarded: &mut Option<Discarded>,
) -> Result<(), RestoreError> {
    let Some(value) = &entry.value else {
        return Ok(());
    };
    match parse(&entry.key) {
        Some((_, _, Name::Key(key))) => {
            let key = Key(Arc::from(key));
            let whole = seal::open_bytes(value);
            if let Some(state) = whole.and_then(read_key) {
                let key_entry = KeyEntry {
                    state,
                    dirty: false,
                };
                partition.names += key.0.len() as u64;
                partition.keys.insert(key, key_entry);
                return Ok(());
            }
            if whole.is_none() {
                discarded.get_or_insert(Discarded::Damaged);
            } else if discarded.is_none() {
                return Err(unreadable(entry, "another version"));
            }
            partition.forgotten.insert(key);
        }
        Some((_, _, Name::Episode(id))) => {
            let quarantined = if let Some(quarantined) = seal::open_json(value) {
                serde_json::from_value(quarantined).map_err(|error| unreadable(entry, error))?
            } else {
                // Nobody knows its records any more: the next snapshot forgets it.
                discarded.get_or_insert(Discarded::Damaged);
                Quarantined::nothing()
            };
            partition.quarantine.insert(id.into(), quarantined);
        }
        Some((_, _, Name::Head)) | None => {}
    }
    Ok(())
}

/// A partition as its entries left it, and, if they could not be used, why.
pub(super) fn restore(
    assignment: &PartitionAssignment,
    target: RestoreTarget<'_>,
) -> Result<(PartitionState, Option<Discarded>), RestoreError> {
    // Retention may have deleted records that the group has not read.
    let from = assignment.committed.max(assignment.first);
    let mut partition = PartitionState::new(assignment.at.clone(), from, (None, target.params));
    partition.skipped = u64::try_from(from.0 - assignment.committed.0).unwrap_or(0);
    let head = read_head(&assignment.state)?;
    let named = head.as_ref().and_then(|head| head.topic_id.clone());
    partition.topic_id = assignment.topic_id.clone().or(named);
    if let Some(theirs) = head.as_ref().and_then(|head| head.group.as_ref())
        && *theirs != target.params.group
    {
        return Err(RestoreError::Foreign {
            at: assignment.at.clone(),
            theirs: theirs.clone(),
            ours: target.params.group.clone(),
        });
    }
    let mut discarded = if head_is_damaged(&assignment.state) {
        Some(Discarded::Damaged)
    } else {
        target.refuses(head.as_ref(), assignment)
    };
    for entry in &assignment.state {
        read_entry(entry, &mut partition, &mut discarded)?;
    }
    if discarded.is_some() {
        if let Some(head) = head {
            partition.head.clock = head.clock;
            partition.head.storm = head.storm;
        }
        partition.discard(from, None, target.params);
        if discarded == Some(Discarded::OtherTopic) {
            partition
                .quarantine
                .values_mut()
                .for_each(Quarantined::empty);
        }
        partition.look_back(target.lookback, assignment.first);
    } else if let Some(head) = head {
        let replays = head.offset < assignment.committed;
        let judged_by = |alerts: &AlertParams| *alerts != target.params.alerts();
        if let Some(alerts) = head.alerts.filter(judged_by) {
            partition.params = Arc::new(target.params.with_alerts(alerts));
        }
        partition.head = Head {
            saved_time: head.clock.elapsed,
            clock: head.clock,
            storm: head.storm,
            ..Head::at(if replays { head.offset } else { from })
        };
        // With nothing to replay the champion may judge from here on, whether the model that did is at hand or not.
        let another = target.model.is_none() && head.model != ModelVersion(0);
        partition.unsaved = partition.skipped > 0 || (!replays && another);
        partition.due = partition.due_by(&partition.params);
    }
    partition.remember_dismissed();
    let had_state = assignment.state.iter().any(|entry| entry.value.is_some());
    Ok((partition, discarded.filter(|_| had_state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_even_with_slashes() {
        let at = TopicPartition::new("plant.records", 7);
        let key = key_entry("pumps", &at, "hall/3");
        assert_eq!(owner("pumps", &key), Some(at.clone()));
        assert_eq!(owner("fans", &key), None);
        assert_eq!(parse(&key), Some(("pumps", at, Name::Key("hall/3"))));
        assert_eq!(owner("pumps", b"something else"), None);
    }
}
