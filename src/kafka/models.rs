//! Models in a compacted topic: all processes of a group take the same version from there.
//!
//! All of a detector lies in partition 0: `DETECTOR/owner`, `DETECTOR/champion`, `DETECTOR/schema`, and for each version a manifest and its bytes in
//! pieces. Pieces, manifest, pointer and the tombstones of forgotten versions are one transaction; a trainer that lost its leadership is
//! fenced by the id, which is that of the place and not of the group: so is one of another group, before it can write.
//!
//! The first who writes says whose it is. Two groups would otherwise promote each other's models and give the same numbers away. What cannot be
//! read is passed over, and counted: one bad record must not keep all processes from starting.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::de::DeserializeOwned;

use super::context::PlainContext;
use super::settings::Connection;
use super::tokens::Authenticated;
use super::topic_reader::{TopicReader, nothing};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, code, is_final, joined, retry};
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::port::ModelStore;
use crate::store::{Champion, Manifest, StoreError, superseded};
use crate::stream::{Offset, Positions, Span, TopicPartition};
use crate::time::Clock;

/// Largest piece of a model's bytes in one record: below every broker's default limit.
const CHUNK: usize = 512 * 1024;

/// Why a model cannot be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum TopicStoreError {
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaFailure),
    /// The model cannot be made or used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process trains now.
    #[error("another process has taken over training: nothing was written")]
    Superseded,
}

/// Which topic, which detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTopic {
    /// The compacted topic.
    pub topic: String,
    /// The detector: the prefix of all keys.
    pub detector: String,
    /// The consumer group whose models these are.
    pub group: String,
    /// Versions kept.
    pub keep: usize,
}

/// A [`ModelStore`] over a compacted topic.
pub struct TopicStore {
    settings: ModelTopic,
    connection: Connection,
    reader: TopicReader,
    writer: Writer,
    next: Offset,
    index: Index,
    watchdog: Watchdog,
}

/// How often a process claims to keep a schema: as many processes as these may start in the same instant.
const CLAIMS_MAX: usize = 64;

enum Writer {
    /// Nothing has been written yet: the first write claims.
    Unclaimed,
    Held(Authenticated<BaseProducer<PlainContext>>),
    /// Someone else claimed: nothing is written until this process claims again.
    Fenced,
}

/// What the topic says, without the models' bytes.
#[derive(Debug, Default)]
struct Index {
    manifests: BTreeMap<ModelVersion, Manifest>,
    /// Offsets of the pieces.
    chunks: BTreeMap<ModelVersion, BTreeMap<u32, Offset>>,
    champion: Option<Champion>,
    schema: Option<String>,
    owner: Option<String>,
    /// Records that could not be read.
    unreadable: u64,
}

/// What a key names.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Owner,
    Champion,
    Schema,
    Manifest(ModelVersion),
    Chunk(ModelVersion, u32),
}

impl std::fmt::Debug for TopicStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicStore")
            .field("settings", &self.settings)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl TopicStore {
    /// A store over a topic that must exist.
    pub fn open(
        settings: ModelTopic,
        connection: &Connection,
        clock: Arc<dyn Clock>,
        watchdog: Watchdog,
    ) -> Result<Self, KafkaFailure> {
        let reader = TopicReader::new(connection, clock, watchdog.clone())?;
        reader.partitions(&settings.topic)?;
        Ok(Self {
            settings,
            connection: connection.clone(),
            reader,
            writer: Writer::Unclaimed,
            next: Offset(0),
            index: Index::default(),
            watchdog,
        })
    }

    /// The feature columns that were resolved for `auto`, if they have been.
    pub fn schema(&mut self) -> Result<Option<String>, TopicStoreError> {
        self.refresh()?;
        Ok(self.index.schema.clone())
    }

    /// Keeps the feature columns that were resolved for `auto`, unless another process was quicker; answers those that hold.
    ///
    /// Whoever claims ends what others had begun to write, and sees what they had committed: of two that start together, one writes and
    /// the other reads.
    pub fn keep_schema(&mut self, schema: &str) -> Result<String, TopicStoreError> {
        let record = [(self.key("schema"), Some(schema.as_bytes().to_vec()))];
        let mut last = TopicStoreError::Superseded;
        for _ in 0..CLAIMS_MAX {
            self.claim()?;
            if let Some(kept) = self.schema()? {
                return Ok(kept);
            }
            match self.write(&record) {
                Ok(()) => return Ok(schema.to_owned()),
                // Another one claimed in between: it has written, or is about to. Where its claim met the end of this transaction, brokers
                // may answer with any error, and what was written is seen after the next claim.
                Err(TopicStoreError::Superseded) => {}
                Err(TopicStoreError::Kafka(failure)) if failure.passes() => {
                    tracing::info!(error = %failure, "keeping the features failed: looking again");
                    last = failure.into();
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Reads what is new in the topic.
    fn refresh(&mut self) -> Result<(), TopicStoreError> {
        let at = self.place();
        let from = Positions::from([(at.clone(), self.next)]);
        let prefix = format!("{}/", self.settings.detector);
        let index = &mut self.index;
        let mut visit = |message: &BorrowedMessage<'_>| {
            let name = message
                .key()
                .and_then(|key| std::str::from_utf8(key).ok())
                .and_then(|key| key.strip_prefix(&prefix));
            if let Some(entry) = name.and_then(Entry::parse) {
                index.take_in(entry, Offset(message.offset()), message.payload());
            }
            Ok(ControlFlow::Continue(()))
        };
        let next = self.reader.read_on(&from, &mut visit, &mut nothing)?;
        self.next = next.get(&at).copied().unwrap_or(self.next);
        match &self.index.owner {
            Some(theirs) if *theirs != self.settings.group => Err(KafkaFailure::ForeignModels {
                topic: self.settings.topic.clone(),
                detector: self.settings.detector.clone(),
                theirs: theirs.clone(),
                ours: self.settings.group.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Records that could not be read so far.
    pub fn unreadable(&self) -> u64 {
        self.index.unreadable
    }

    fn bytes(&self, manifest: &Manifest) -> Result<Vec<u8>, TopicStoreError> {
        let offsets = self.index.chunks.get(&manifest.version);
        let ends = offsets.and_then(|offsets| {
            let first = offsets.values().min()?;
            Some((*first, offsets.values().max()?.next()))
        });
        let mut chunks: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut left = manifest.bytes;
        if let Some((from, to)) = ends {
            let span = Span {
                at: self.place(),
                from,
                to,
            };
            let prefix = format!("{}/", self.settings.detector);
            self.reader
                .read_spans(std::slice::from_ref(&span), &mut |message| {
                    let name = message
                        .key()
                        .and_then(|key| std::str::from_utf8(key).ok())
                        .and_then(|key| key.strip_prefix(&prefix));
                    if let (Some(Entry::Chunk(version, number)), Some(bytes)) =
                        (name.and_then(Entry::parse), message.payload())
                        && version == manifest.version
                    {
                        // More than the manifest says cannot be its model: its checksum will say so.
                        let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                            return Ok(ControlFlow::Break(()));
                        };
                        left = rest;
                        chunks.insert(number, bytes.to_vec());
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
        }
        Ok(chunks.into_values().flatten().collect())
    }

    fn place(&self) -> TopicPartition {
        TopicPartition::new(&self.settings.topic, 0)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.detector)
    }

    fn manifest_key(&self, version: ModelVersion) -> String {
        self.key(&format!("model/{:08}/manifest", version.0))
    }

    fn chunk_key(&self, version: ModelVersion, number: u32) -> String {
        self.key(&format!("model/{:08}/chunk/{number:06}", version.0))
    }

    fn champion_record(&self, version: ModelVersion) -> Result<Written, TopicStoreError> {
        Ok((
            self.key("champion"),
            Some(self.json(&Champion::new(version))?),
        ))
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<Vec<u8>, TopicStoreError> {
        serde_json::to_vec(value).map_err(|error| {
            TopicStoreError::Kafka(KafkaFailure::Content {
                topic: self.settings.topic.clone(),
                problem: error.to_string(),
            })
        })
    }

    /// Writes records in one transaction, claiming the topic if that has not been done.
    fn write(&mut self, records: &[Written]) -> Result<(), TopicStoreError> {
        if matches!(self.writer, Writer::Unclaimed) {
            self.claim()?;
        }
        let Writer::Held(producer) = &self.writer else {
            return Err(TopicStoreError::Superseded);
        };
        let mut records = records.to_vec();
        if self.index.owner.is_none() {
            let group = self.settings.group.clone().into_bytes();
            records.insert(0, (self.key("owner"), Some(group)));
        }
        let _guard = self.watchdog.guard("storing a model", CALL_MAX * 4);
        match transact(producer, &self.settings.topic, &records) {
            Ok(()) => Ok(()),
            Err(error) if is_fenced(&error) => {
                self.writer = Writer::Fenced;
                Err(TopicStoreError::Superseded)
            }
            Err(error) => {
                // Whether it was committed will be seen when the topic is read next; a new producer resolves what is pending.
                if let Err(error) = producer.abort_transaction(CALL_MAX) {
                    tracing::debug!(%error, "abort failed");
                }
                self.writer = Writer::Unclaimed;
                Err(KafkaFailure::call("storing a model")(error).into())
            }
        }
    }
}

/// A record of the topic: key, and value or tombstone.
type Written = (String, Option<Vec<u8>>);

impl ModelStore for TopicStore {
    type Error = TopicStoreError;

    fn claim(&mut self) -> Result<(), TopicStoreError> {
        self.writer = Writer::Unclaimed;
        let config = self.connection.transactional(&self.settings.writer());
        let producer: Authenticated<BaseProducer<PlainContext>> =
            (self.connection).client(&config, PlainContext::default(), Some(&self.watchdog))?;
        retry(&self.watchdog, "init_transactions", |limit| {
            producer.init_transactions(limit)
        })?;
        // What others had written when they were fenced, whose it is included.
        self.refresh()?;
        self.writer = Writer::Held(producer);
        Ok(())
    }

    fn save(&mut self, model: &TrainedModel, promote: bool) -> Result<(), TopicStoreError> {
        self.refresh()?;
        let version = model.card.version;
        if self.index.manifests.contains_key(&version) {
            // Versions are immutable: someone else was quicker, and was the leader.
            return Err(TopicStoreError::Superseded);
        }
        let bytes = model
            .to_bytes()
            .map_err(|error| StoreError::Model { version, error })?;
        let manifest = Manifest::new(model, &bytes, CHUNK);
        let mut records: Vec<Written> = (0..)
            .zip(bytes.chunks(CHUNK))
            .map(|(number, chunk)| (self.chunk_key(version, number), Some(chunk.to_vec())))
            .collect();
        records.push((self.manifest_key(version), Some(self.json(&manifest)?)));
        let before = self.index.champion.map(|champion| champion.version);
        let mut champion = before;
        if promote {
            champion = Some(version);
            records.push(self.champion_record(version)?);
        }
        let cards = self.index.manifests.values().map(|manifest| &manifest.card);
        let stored = cards
            .chain([&model.card])
            .map(|card| (card.version, card.gate.is_rejected()))
            .collect();
        for old in superseded(&stored, &[before, champion], self.settings.keep) {
            let chunks = self.index.manifests.get(&old).map_or(0, |old| old.chunks);
            records.push((self.manifest_key(old), None));
            records.extend((0..chunks).map(|number| (self.chunk_key(old, number), None)));
        }
        self.write(&records)
    }

    fn load(
        &mut self,
        version: ModelVersion,
    ) -> Result<Option<Arc<TrainedModel>>, TopicStoreError> {
        self.refresh()?;
        let Some(manifest) = self.index.manifests.get(&version) else {
            return Ok(None);
        };
        let bytes = self.bytes(manifest)?;
        let model = manifest
            .open(&bytes)
            .map_err(|error| StoreError::Model { version, error })?;
        Ok(Some(Arc::new(model)))
    }

    fn champion(&mut self) -> Result<Option<ModelVersion>, TopicStoreError> {
        self.refresh()?;
        Ok(self.index.champion.map(|champion| champion.version))
    }

    fn promote(&mut self, version: ModelVersion) -> Result<(), TopicStoreError> {
        self.refresh()?;
        if !self.index.manifests.contains_key(&version) {
            return Err(StoreError::Absent(version).into());
        }
        let record = self.champion_record(version)?;
        self.write(&[record])
    }

    fn list(&mut self) -> Result<Vec<Card>, TopicStoreError> {
        self.refresh()?;
        Ok(self
            .index
            .manifests
            .values()
            .map(|manifest| manifest.card.clone())
            .collect())
    }
}

impl Index {
    fn take_in(&mut self, entry: Entry, offset: Offset, value: Option<&[u8]>) {
        match (entry, value) {
            (Entry::Owner, value) => {
                self.owner = value.map(|value| String::from_utf8_lossy(value).into_owned());
            }
            (Entry::Champion, None) => self.champion = None,
            // The one before stays.
            (Entry::Champion, Some(value)) => {
                self.champion = self.parse("champion", offset, value).or(self.champion);
            }
            (Entry::Schema, value) => {
                self.schema = value.map(|value| String::from_utf8_lossy(value).into_owned());
            }
            (Entry::Manifest(version), value) => {
                self.manifests.remove(&version);
                let what = format!("the manifest of model {version}");
                let manifest: Option<Manifest> =
                    value.and_then(|value| self.parse(&what, offset, value));
                match manifest {
                    Some(manifest) if manifest.version == version => {
                        self.manifests.insert(version, manifest);
                    }
                    Some(manifest) => {
                        self.unreadable += 1;
                        tracing::error!(%offset, theirs = %manifest.version, "{what} in the models topic is another's: passed over");
                    }
                    None => {}
                }
            }
            (Entry::Chunk(version, number), Some(_)) => {
                self.chunks
                    .entry(version)
                    .or_default()
                    .insert(number, offset);
            }
            (Entry::Chunk(version, _), None) => {
                self.chunks.remove(&version);
            }
        }
    }

    /// What a record says; `None`, counted, where it cannot be read.
    fn parse<T: DeserializeOwned>(
        &mut self,
        what: &str,
        offset: Offset,
        value: &[u8],
    ) -> Option<T> {
        serde_json::from_slice(value)
            .inspect_err(|error| {
                self.unreadable += 1;
                tracing::error!(%error, %offset, "{what} in the models topic cannot be read: passed over");
            })
            .ok()
    }
}

impl ModelTopic {
    /// The transactional id of whoever writes: that of the place, so that a stale trainer is fenced, and so is one of another group.
    fn writer(&self) -> String {
        joined(&[&self.topic, &self.detector, "trainer"])
    }
}

impl Entry {
    fn parse(name: &str) -> Option<Self> {
        match *name.split('/').collect::<Vec<_>>() {
            ["owner"] => Some(Self::Owner),
            ["champion"] => Some(Self::Champion),
            ["schema"] => Some(Self::Schema),
            ["model", version, "manifest"] => {
                Some(Self::Manifest(ModelVersion(version.parse().ok()?)))
            }
            ["model", version, "chunk", number] => Some(Self::Chunk(
                ModelVersion(version.parse().ok()?),
                number.parse().ok()?,
            )),
            _ => None,
        }
    }
}

fn transact(
    producer: &BaseProducer<PlainContext>,
    topic: &str,
    records: &[Written],
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    for (key, value) in records {
        let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(topic).partition(0).key(key);
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, _)| error)?;
    }
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    producer.commit_transaction(CALL_MAX)
}

/// Whether another one may have claimed: librdkafka calls an epoch that is no longer the newest fatal, but so it does a missing right.
fn is_fenced(error: &KafkaError) -> bool {
    if is_final(error) {
        return false;
    }
    let fatal = matches!(error, KafkaError::Transaction(inner) if inner.is_fatal());
    fatal
        || matches!(
            code(error),
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
                    | RDKafkaErrorCode::Fatal
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::stats::calibration::Calibration;
    use rand::Rng;

    /// Damages manifests again and again: how many could still be read, none of which lets another model through.
    fn damaged(rounds: u64, from: u64) -> u64 {
        let model = TrainedModel::simple(7, &["a", "b"], 2, Calibration::fit(&[1.0, 2.0, 3.0]));
        let bytes = model.to_bytes().unwrap();
        let whole = serde_json::to_vec(&Manifest::new(&model, &bytes, CHUNK)).unwrap();
        let mut readable = 0;
        for round in from..from + rounds {
            let mut rng = Seed(round).child("manifest").rng();
            let mut text = whole.clone();
            for _ in 0..rng.gen_range(1..4) {
                let at = rng.gen_range(0..text.len());
                match rng.gen_range(0..6) {
                    0 => text.truncate(at + 1),
                    1 => text.insert(at, rng.r#gen()),
                    2 => text[at] = rng.gen_range(b'0'..=b'9'),
                    _ => text[at] = rng.r#gen(),
                }
            }
            let mut index = Index::default();
            index.take_in(Entry::Manifest(ModelVersion(7)), Offset(1), Some(&text));
            let Some(manifest) = index.manifests.get(&ModelVersion(7)) else {
                assert_eq!(index.unreadable, 1, "seed {round}");
                continue;
            };
            readable += 1;
            let mut other = bytes.clone();
            let at = rng.gen_range(0..other.len());
            other[at] ^= 1;
            assert!(manifest.open(&other).is_err(), "seed {round}");
            if let Ok(open) = manifest.open(&bytes) {
                assert_eq!(open.to_bytes().unwrap(), bytes, "seed {round}");
            }
        }
        readable
    }

    #[test]
    fn damaged_manifests_are_passed_over_and_counted() {
        let readable = damaged(1_000, 0);
        assert!(readable < 900, "{readable}");
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a long run shows its figures")]
    #[ignore = "ten thousand: `make fuzz`"]
    fn fuzz_damaged_manifests_are_passed_over_and_counted() {
        println!(
            "10,000 damaged manifests, {} could still be read",
            damaged(10_000, 1_000_000)
        );
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_counted() {
        let mut index = Index::default();
        let champion = serde_json::to_vec(&Champion::new(ModelVersion(3))).unwrap();
        index.take_in(Entry::Champion, Offset(0), Some(&champion));
        index.take_in(Entry::Champion, Offset(1), Some(b"{"));
        index.take_in(Entry::Manifest(ModelVersion(3)), Offset(2), Some(b"[]"));
        let found = index.champion.map(|champion| champion.version);
        assert_eq!(found, Some(ModelVersion(3)));
        assert_eq!((index.manifests.len(), index.unreadable), (0, 2));
        index.take_in(Entry::Champion, Offset(3), None);
        assert_eq!((index.champion, index.unreadable), (None, 2));
    }

    #[test]
    fn names_in_the_topic_are_read_back() {
        assert_eq!(Entry::parse("champion"), Some(Entry::Champion));
        assert_eq!(
            Entry::parse("model/00000012/manifest"),
            Some(Entry::Manifest(ModelVersion(12)))
        );
        assert_eq!(
            Entry::parse("model/00000012/chunk/000003"),
            Some(Entry::Chunk(ModelVersion(12), 3))
        );
        assert_eq!(Entry::parse("owner"), Some(Entry::Owner));
        assert_eq!(Entry::parse("model/x/manifest"), None);
        assert_eq!(Entry::parse("something/else"), None);
    }
}
