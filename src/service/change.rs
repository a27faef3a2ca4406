//! What people may change of a detector: what they say of its episodes, and which model is in use. The command line and the API both do it this way.

use std::sync::{Arc, PoisonError};

use super::models::{AnyStore, AnyStoreError, SharedStore};
use super::old_episodes::{self, OldEpisode};
use super::past::{self, Asked, Bounds, Found, ModelsOfThen, Past};
use super::reload::Reloader;
use super::reloaded::ReloadStatus;
use super::status::Status;
use crate::config::{Config, Problems};
use crate::kafka::KafkaFailure;
use crate::kafka::history::KafkaHistory;
use crate::kafka::watchdog::Watchdog;
use crate::model::card::{Card, Exclusion, Feedback, ModelVersion, Said, Suspect};
use crate::model::trained::TrainedModel;
use crate::pipeline::{Column, EpisodeRecord};
use crate::port::ModelStore;
use crate::record::decode::Decoder;
use crate::record::schema::Schema;
use crate::stream::TopicPartition;
use crate::time::Clock;
use crate::trainer::Control;

/// Models of then that are read from the store for one question.
const MODELS_READ: usize = 4;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Impossible(String),
    /// The configuration, read again, cannot be used.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The model store.
    #[error(transparent)]
    Store(#[from] AnyStoreError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaFailure),
}

/// What the API asks for. One at a time is at work; each may take as long as Kafka does.
pub trait Changes: std::fmt::Debug + Send + Sync {
    /// Says what an episode was, or takes that back; answers what is known of it then.
    fn say(&self, id: &str, says: Feedback, undo: bool) -> Result<Judged, ChangeError>;
    /// The cards of all stored models, and which is in use.
    fn models(&self) -> Result<(Vec<Card>, Option<ModelVersion>), ChangeError>;
    /// Takes a stored model into use.
    fn promote(&self, version: ModelVersion) -> Result<(), ChangeError>;
    /// Goes back to the version before the one in use; answers which that is.
    fn rollback(&self) -> Result<ModelVersion, ChangeError>;
    /// Records of a key that are not remembered, read again from the log and judged again.
    fn past(&self, asked: &Asked) -> Result<Past, ChangeError>;
    /// Trains now, if it is this process that trains.
    fn retrain(&self) -> Result<(), ChangeError>;
    /// Reads the configuration again, and takes over what may change while it runs.
    fn reload(&self) -> Result<ReloadStatus, ChangeError>;
}

/// [`Changes`] of a running daemon.
#[derive(Debug)]
pub struct Controls {
    /// The configuration.
    pub config: Config,
    /// The store that all threads share.
    pub store: SharedStore,
    /// Which features there are.
    pub schema: Arc<Schema>,
    /// The trainer.
    pub trainer: Control,
    /// Reads the configuration again.
    pub reloader: Reloader,
    /// Who knows which partitions are held.
    pub status: Arc<Status>,
    /// The partition whose holder trains.
    pub first: TopicPartition,
    /// For the time at which something is said.
    pub clock: Arc<dyn Clock>,
    /// How long Kafka is waited for.
    pub watchdog: Watchdog,
}

impl Controls {
    fn with_store<T>(
        &self,
        then: impl FnOnce(&mut AnyStore) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        then(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Changes for Controls {
    fn say(&self, id: &str, says: Feedback, undo: bool) -> Result<Judged, ChangeError> {
        let waits = (Arc::clone(&self.clock), self.watchdog.clone());
        let connection = self.config.connection();
        let mut history =
            KafkaHistory::new(&connection, self.config.history_topics(), waits.clone())?;
        let known = self.with_store(|store| episodes(store, &mut history))?;
        let judged = judged(
            (&self.config, waits),
            (&known, &mut history),
            id,
            (says, undo),
        )?;
        history.say(&connection, (id, judged.says), self.clock.now())?;
        Ok(judged)
    }

    fn models(&self) -> Result<(Vec<Card>, Option<ModelVersion>), ChangeError> {
        self.with_store(|store| Ok((store.list()?, store.champion()?)))
    }

    fn promote(&self, version: ModelVersion) -> Result<(), ChangeError> {
        self.with_store(|store| promote(store, version))
    }

    fn rollback(&self) -> Result<ModelVersion, ChangeError> {
        self.with_store(rollback)
    }

    fn past(&self, asked: &Asked) -> Result<Past, ChangeError> {
        let topics = self.config.history_topics();
        if let Some(at) = &asked.at
            && !topics.inputs.iter().any(|topic| **topic == *at.topic)
        {
            return Err(ChangeError::Unknown(format!(
                "{at} is no partition of the input"
            )));
        }
        let waits = (Arc::clone(&self.clock), self.watchdog.clone());
        let mut history = KafkaHistory::new(&self.config.connection(), topics, waits)?;
        let mut decoder = Decoder::new(Arc::clone(&self.schema));
        let bounds = (Bounds::default(), &*self.clock);
        let found = past::read(&mut history, &mut decoder, asked, bounds)?;
        let models = self.with_store(|store| models_of(store, &found))?;
        let schema = &self.schema;
        let columns = Column::list(schema.columns(), schema.missing(), schema.context());
        let judging = (&*self.config.detect, columns);
        let records = past::judge(&found, &models, judging, &mut decoder);
        Ok(Past {
            columns: schema.columns().to_vec(),
            records: records.map_err(ChangeError::Impossible)?,
            looked_at: found.looked_at,
            stopped: found.stopped,
        })
    }

    fn retrain(&self) -> Result<(), ChangeError> {
        if !self.status.holds(&self.first) {
            return Err(ChangeError::Impossible(format!(
                "another process of the group trains: ask the one that holds {}",
                self.first
            )));
        }
        self.trainer.train_now();
        Ok(())
    }

    fn reload(&self) -> Result<ReloadStatus, ChangeError> {
        Ok(self.reloader.reload()?)
    }
}

/// The models that judged what was found, as far as they are stored, and the one in use.
fn models_of(store: &mut AnyStore, found: &Found) -> Result<ModelsOfThen, ChangeError> {
    let champion = store.champion()?;
    let mut models = ModelsOfThen::new(&store.list()?, champion);
    let mut needed = models.needed(found);
    // The latest, where there are many: each is read whole.
    needed.drain(..needed.len().saturating_sub(MODELS_READ));
    for version in needed.into_iter().chain(champion) {
        if let Some(model) = store.load(version)? {
            models.loaded(model);
        }
    }
    Ok(models)
}

/// What training knows of: flagged episodes, and what stood out in the history of the model in use before any model judged it.
pub fn episodes(
    store: &mut AnyStore,
    history: &mut KafkaHistory,
) -> Result<Vec<EpisodeRecord>, ChangeError> {
    let mut episodes = history.episodes()?;
    if let Some(champion) = store.champion()?
        && let Some(model) = store.load(champion)?
    {
        let said = history.said()?;
        episodes.extend(suspects(&model.card, &said));
    }
    Ok(episodes)
}

/// What stood out in the history of the model in use before any model judged it, as if it were episodes.
#[must_use]
pub fn suspects(card: &Card, said: &Said) -> Vec<EpisodeRecord> {
    let record = |suspect: &Suspect| EpisodeRecord {
        exclusion: Exclusion {
            feedback: said.get(&suspect.exclusion.because).copied(),
            ..suspect.exclusion.clone()
        },
        from_time: suspect.from_time,
        held: false,
        to_time: Some(suspect.to_time),
    };
    card.suspects.iter().map(record).collect()
}

/// What is known of an episode once it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What somebody says of it; `None`: what was said was taken back.
    pub says: Option<Feedback>,
    /// It is older than what training reads.
    pub old: bool,
}

/// What is to be written of an episode when somebody `says` something of it, or takes that back.
///
/// # Errors
/// If nobody was told of such an episode, or somebody takes back what nobody said; or where Kafka cannot be asked.
pub fn judged(
    (config, waits): (&Config, (Arc<dyn Clock>, Watchdog)),
    (known, history): (&[EpisodeRecord], &mut KafkaHistory),
    id: &str,
    (says, undo): (Feedback, bool),
) -> Result<Judged, ChangeError> {
    let mut old = Vec::new();
    if !known.iter().any(|one| one.exclusion.because == id) {
        old = old_episodes::read(config, waits, (known, &*history.said()?))?;
    }
    judged_among(known, &old, id, (says, undo))
}

fn judged_among(
    known: &[EpisodeRecord],
    old: &[OldEpisode],
    id: &str,
    (says, undo): (Feedback, bool),
) -> Result<Judged, ChangeError> {
    let known = known.iter().map(|one| &one.exclusion);
    let known = known.map(|one| (&one.because, one.feedback, false));
    let old = old.iter().map(|one| (&one.id, one.feedback, true));
    let Some((_, said, old)) = known.chain(old).find(|(its, ..)| **its == *id) else {
        return Err(ChangeError::Unknown(format!(
            "there is no episode `{id}`: `anomalyd episodes list` shows those there are; silences and storms are not learnt from"
        )));
    };
    let says = undone(id, said, says, undo)?;
    Ok(Judged { says, old })
}

/// What is known of an episode of which somebody `said` something, or nothing, once somebody `says` it, or takes that back.
///
/// # Errors
/// If somebody takes back what nobody said.
fn undone(
    id: &str,
    said: Option<Feedback>,
    says: Feedback,
    undo: bool,
) -> Result<Option<Feedback>, ChangeError> {
    match said {
        _ if !undo => Ok(Some(says)),
        Some(said) if said == says => Ok(None),
        said => Err(ChangeError::Impossible(format!(
            "nothing to take back: of `{id}` it was not said that it is a {}, but {}",
            word(says),
            said.map_or("nothing", word)
        ))),
    }
}

/// What was said, in words.
#[must_use]
pub fn word(said: Feedback) -> &'static str {
    match said {
        Feedback::FalsePositive => "false positive",
        Feedback::TruePositive => "true positive",
        Feedback::NewNormal => "new normal",
    }
}

/// What follows from what was said of an episode.
#[must_use]
pub fn follows(id: &str, judged: Judged) -> String {
    match judged.says {
        Some(_) if judged.old => format!(
            "{id} counts as judged; it is older than what training reads (`training.history`), so nothing follows for training"
        ),
        None if judged.old => format!(
            "{id} counts as judged no more; it is older than what training reads (`training.history`), so nothing follows for training"
        ),
        Some(Feedback::NewNormal) => format!(
            "training learns the records of {id} from its next run on, which the process that trains begins at once; where its model finds them normal, the episode closes"
        ),
        Some(said) if said.lets_in() => {
            format!("training learns the records of {id} from its next run on")
        }
        Some(_) => format!("training leaves the records of {id} out for good"),
        None => format!("training leaves the records of {id} out again from its next run on"),
    }
}

/// The model of this version; the champion if there is none.
pub fn chosen(
    store: &mut AnyStore,
    version: Option<ModelVersion>,
) -> Result<Arc<TrainedModel>, ChangeError> {
    let version = match version {
        Some(version) => version,
        None => store.champion()?.ok_or_else(none_in_use)?,
    };
    store.load(version)?.ok_or_else(|| {
        ChangeError::Unknown(format!(
            "there is no model {version}: `anomalyd models list` shows those there are"
        ))
    })
}

fn none_in_use() -> ChangeError {
    ChangeError::Impossible("no model is in use yet".to_owned())
}

/// Takes a stored version into use.
pub fn promote(store: &mut AnyStore, version: ModelVersion) -> Result<(), ChangeError> {
    chosen(store, Some(version))?;
    Ok(store.promote(version)?)
}

/// Goes back to the version before the one in use; answers which that is.
pub fn rollback(store: &mut AnyStore) -> Result<ModelVersion, ChangeError> {
    let target = before(&store.list()?, store.champion()?)?;
    promote(store, target)?;
    Ok(target)
}

/// The newest version before the champion that the gate had promoted.
fn before(cards: &[Card], champion: Option<ModelVersion>) -> Result<ModelVersion, ChangeError> {
    let champion = champion.ok_or_else(none_in_use)?;
    cards
        .iter()
        .filter(|card| card.version < champion && card.gate.is_promoted())
        .map(|card| card.version)
        .max()
        .ok_or_else(|| {
            ChangeError::Impossible(format!(
                "there is no promoted model before {champion}, which is in use"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate_report::{Decision, GateReport};
    use crate::stream::Offset;
    use crate::time::Timestamp;

    #[test]
    fn only_what_was_said_is_taken_back() {
        let says = Feedback::TruePositive;
        let back = |said, says| undone("a", said, says, true);
        assert_eq!(undone("a", None, says, false).unwrap(), Some(says));
        assert_eq!(back(Some(says), says).unwrap(), None);
        for (said, says) in [(None, says), (Some(says), Feedback::NewNormal)] {
            let error = back(said, says).unwrap_err();
            assert!(matches!(error, ChangeError::Impossible(_)), "{error}");
        }
    }

    #[test]
    fn an_episode_that_is_too_old_to_be_learnt_from_is_judged_all_the_same() {
        let known = EpisodeRecord {
            exclusion: Exclusion {
                at: TopicPartition::new("in", 0),
                key: "k".to_owned(),
                from: Offset(1),
                to: None,
                because: "a".into(),
                feedback: None,
            },
            from_time: Timestamp(0),
            to_time: None,
            held: false,
        };
        let old = OldEpisode {
            id: "b".into(),
            key: "k".to_owned(),
            from_time: Timestamp(0),
            to_time: None,
            feedback: Some(Feedback::TruePositive),
        };
        let judge = |id: &str, says, undo| {
            judged_among(
                std::slice::from_ref(&known),
                std::slice::from_ref(&old),
                id,
                (says, undo),
            )
        };
        let dismissed = judge("a", Feedback::FalsePositive, false).unwrap();
        assert!(!dismissed.old && follows("a", dismissed).contains("learns the records of a"));
        let says = Some(Feedback::FalsePositive);
        let dismissed = judge("b", Feedback::FalsePositive, false).unwrap();
        assert_eq!(dismissed, Judged { says, old: true });
        assert!(follows("b", dismissed).contains("nothing follows for training"));
        let taken_back = judge("b", Feedback::TruePositive, true).unwrap();
        assert!(follows("b", taken_back).contains("judged no more"));
        let unknown = judge("c", Feedback::FalsePositive, false).unwrap_err();
        assert!(matches!(unknown, ChangeError::Unknown(_)), "{unknown}");
    }

    #[test]
    fn rollback_goes_to_the_newest_promoted_version_before() {
        let card = |version, decision| Card {
            version: ModelVersion(version),
            gate: GateReport {
                decision,
                ..GateReport::default()
            },
            ..Card::blank()
        };
        let cards = [
            card(1, Decision::Promoted),
            card(2, Decision::Promoted),
            card(3, Decision::Rejected),
            card(4, Decision::Promoted),
        ];
        let target = |champion| before(&cards, Some(ModelVersion(champion))).ok();
        assert_eq!(target(4), Some(ModelVersion(2)));
        assert_eq!(target(2), Some(ModelVersion(1)));
        assert_eq!(target(1), None);
        assert!(before(&cards, None).is_err());
    }
}
