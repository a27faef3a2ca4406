//! The configured model store, and the thread that follows it: whoever promotes a model, all workers of all processes take it up.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::metrics::Metrics;
use super::watch::watch;
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::models::{ModelTopic, TopicStore, TopicStoreError};
use crate::kafka::settings::Connection;
use crate::kafka::watchdog::Watchdog;
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::port::ModelStore;
use crate::store::{DirectoryStore, StoreError};
use crate::time::Clock;

/// Model versions kept for rollback, the one in use included.
const MODELS_KEPT: usize = 10;

/// How often the store is asked for its champion: with a rollback in mind, which should take less than a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The store that the configuration names.
#[derive(Debug)]
pub enum AnyStore {
    /// A compacted topic.
    Topic(Box<TopicStore>),
    /// A directory.
    Directory(DirectoryStore),
}

/// What failed in either.
#[derive(Debug, thiserror::Error)]
pub enum AnyStoreError {
    /// The topic.
    #[error(transparent)]
    Topic(#[from] TopicStoreError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] StoreError),
}

impl AnyStoreError {
    /// What failed of Kafka, if it did.
    pub fn kafka(&self) -> Option<&KafkaFailure> {
        match self {
            Self::Topic(TopicStoreError::Kafka(failure)) => Some(failure),
            Self::Topic(_) | Self::Directory(_) => None,
        }
    }
}

impl AnyStoreError {
    /// Whether what is stored is no model, so that reading it again does not help.
    pub fn is_content(&self) -> bool {
        matches!(
            self,
            Self::Topic(TopicStoreError::Store(StoreError::Model { .. }))
                | Self::Directory(StoreError::Model { .. } | StoreError::Content { .. })
        )
    }
}

impl AnyStore {
    /// Opens the store that `config` names.
    pub fn open(
        config: &Config,
        connection: &Connection,
        clock: Arc<dyn Clock>,
        watchdog: Watchdog,
    ) -> Result<Self, AnyStoreError> {
        let models = &config.models;
        if !models.in_kafka() {
            let store = DirectoryStore::open(&models.directory, &config.name, MODELS_KEPT)?;
            return Ok(Self::Directory(store));
        }
        let topic = ModelTopic {
            topic: models.topic.clone(),
            detector: config.name.clone(),
            group: connection.group.clone(),
            keep: MODELS_KEPT,
        };
        let store =
            TopicStore::open(topic, connection, clock, watchdog).map_err(TopicStoreError::Kafka)?;
        Ok(Self::Topic(Box::new(store)))
    }

    /// The features that were resolved for `auto`, as JSON, if they have been.
    pub fn schema(&mut self) -> Result<Option<String>, AnyStoreError> {
        match self {
            Self::Topic(store) => Ok(store.schema()?),
            Self::Directory(store) => Ok(store.schema()?),
        }
    }

    /// Records of the store that could not be read so far.
    pub fn unreadable(&self) -> u64 {
        match self {
            Self::Topic(store) => store.unreadable(),
            Self::Directory(_) => 0,
        }
    }

    /// Keeps the features that were resolved for `auto`, as JSON, unless another process was quicker; answers those that hold.
    pub fn keep_schema(&mut self, schema: &str) -> Result<String, AnyStoreError> {
        match self {
            Self::Topic(store) => Ok(store.keep_schema(schema)?),
            Self::Directory(store) => Ok(store.keep_schema(schema)?),
        }
    }
}

impl ModelStore for AnyStore {
    type Error = AnyStoreError;

    fn claim(&mut self) -> Result<(), Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.claim()?),
            Self::Directory(store) => Ok(store.claim()?),
        }
    }

    fn save(&mut self, model: &TrainedModel, promote: bool) -> Result<(), Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.save(model, promote)?),
            Self::Directory(store) => Ok(store.save(model, promote)?),
        }
    }

    fn load(&mut self, version: ModelVersion) -> Result<Option<Arc<TrainedModel>>, Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.load(version)?),
            Self::Directory(store) => Ok(store.load(version)?),
        }
    }

    fn champion(&mut self) -> Result<Option<ModelVersion>, Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.champion()?),
            Self::Directory(store) => Ok(store.champion()?),
        }
    }

    fn promote(&mut self, version: ModelVersion) -> Result<(), Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.promote(version)?),
            Self::Directory(store) => Ok(store.promote(version)?),
        }
    }

    fn list(&mut self) -> Result<Vec<Card>, Self::Error> {
        match self {
            Self::Topic(store) => Ok(store.list()?),
            Self::Directory(store) => Ok(store.list()?),
        }
    }
}

/// A store that several threads use, one at a time.
pub type SharedStore = Arc<Mutex<AnyStore>>;

/// Tells all workers of each new champion.
#[derive(Debug)]
pub struct Follower {
    /// Where champions are looked up.
    pub store: SharedStore,
    /// The workers.
    pub workers: Vec<Sender<Arc<TrainedModel>>>,
    /// The champion that they have.
    pub current: Option<ModelVersion>,
    /// Counts what cannot be read.
    pub metrics: Metrics,
    /// Ends the thread.
    pub stop: Arc<AtomicBool>,
    /// Wakes the thread early, to end it.
    pub wake: Receiver<()>,
}

impl Follower {
    /// Looks until stopped.
    pub fn run(self) {
        let mut current = self.current;
        // A champion whose file is no model: it is not read again five times a second.
        let mut unusable = None;
        let warning = "the model store cannot be read: the model in use stays until it can be";
        watch(&self.stop, (&self.wake, LOOK_EVERY), warning, || {
            if let Some(model) = self.look(current, &mut unusable)? {
                current = Some(model.card.version);
                tracing::info!(version = %model.card.version, kind = model.model.name(), "a new champion");
                for worker in &self.workers {
                    // A worker that is gone needs no model.
                    worker.send(Arc::clone(&model)).unwrap_or_default();
                }
            }
            Ok::<(), AnyStoreError>(())
        });
    }

    /// The champion, if it is another than `current`.
    fn look(
        &self,
        current: Option<ModelVersion>,
        unusable: &mut Option<ModelVersion>,
    ) -> Result<Option<Arc<TrainedModel>>, AnyStoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let champion = store.champion();
        if champion.as_ref().is_ok_and(|version| version != unusable) {
            *unusable = None;
        }
        let found = match champion {
            Ok(Some(version)) if current != Some(version) && unusable.is_none() => {
                store.load(version).inspect_err(|error| {
                    *unusable = Some(version).filter(|_| error.is_content());
                })
            }
            found => found.map(|_| None),
        };
        let unreadable = store.unreadable() + u64::from(unusable.is_some());
        self.metrics
            .models_unreadable
            .set(i64::try_from(unreadable).unwrap_or(i64::MAX));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::calibration::Calibration;

    #[test]
    fn a_champion_whose_file_is_no_model_is_said_once_and_counted_until_another_is() {
        let place = tempfile::tempdir().unwrap();
        let mut store = DirectoryStore::open(place.path(), "pumps", 3).unwrap();
        let calibration = Calibration::fit(&[0.1, 0.5, 0.9]);
        for version in [1, 2] {
            let model = TrainedModel::simple(version, &["a", "b"], 2, calibration.clone());
            store.save(&model, version == 1).unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(place.path().join("pumps"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
            .collect();
        let first = files.iter().min().unwrap();
        std::fs::write(first, b"no model").unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new(), "pumps").unwrap();
        let (_wake, wake) = std::sync::mpsc::channel();
        let follower = Follower {
            store: Arc::new(Mutex::new(AnyStore::Directory(store))),
            workers: Vec::new(),
            current: None,
            metrics: metrics.clone(),
            stop: Arc::new(AtomicBool::new(false)),
            wake,
        };
        let mut unusable = None;
        assert!(follower.look(None, &mut unusable).is_err());
        assert_eq!(metrics.models_unreadable.get(), 1);
        assert!(follower.look(None, &mut unusable).unwrap().is_none());
        assert_eq!(metrics.models_unreadable.get(), 1);
        let second = ModelVersion(2);
        follower.store.lock().unwrap().promote(second).unwrap();
        let model = follower.look(None, &mut unusable).unwrap().unwrap();
        assert_eq!(model.card.version, second);
        assert_eq!(metrics.models_unreadable.get(), 0);
    }
}
