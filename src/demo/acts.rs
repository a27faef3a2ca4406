//! What people do in the story: they dismiss a false alarm, ask for a training while a fault lasts, and bring a model that learnt the wrong units.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::faults::{Fault, routines};
use super::gateway::STEP;
use super::plant::{Pump, SENSORS};
use super::story::About;
use crate::alert::{Alert, AlertEvent};
use crate::config::Config;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::model::Unwatched;
use crate::model::card::{Feedback, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::record::{Key, Missing};
use crate::seed::Seed;
use crate::service::change::{Changes, chosen};
use crate::service::models::AnyStore;
use crate::service::run::Running;
use crate::stream::EpisodeId;
use crate::time::{Clock, SystemClock, Timestamp};
use crate::tools::table::Table;
use crate::tools::training::{self, Run};
use crate::train;

/// From where in the story on somebody asks for a training, as soon as the drift is told of, and at the latest.
const RETRAIN: (f64, f64) = (0.28, 0.40);
/// Where somebody brings the model that learnt the wrong units.
const SABOTAGE: f64 = 0.72;
/// Readings of each pump that such a model is made from, and the share of them that is wrong: the gate tries it on the rest.
const READINGS: usize = 2_000;
/// Readings before them, in which pumps warm up.
const WARMING: usize = 1_200;
const WRONG: f64 = 0.855;
/// By what they are too large.
const UNITS: f64 = 1.25;

/// What was done so far.
#[derive(Debug)]
pub struct Acts {
    config: Config,
    seed: Seed,
    changes: Option<Arc<dyn Changes>>,
    /// The false alarm that somebody dismissed.
    dismissed: Option<EpisodeId>,
    held_back: bool,
    /// Alerts of a routine after it had been dismissed.
    told_again: u32,
    asked: Asked,
    sabotage: Option<Receiver<Result<String, String>>>,
    sabotage_over: bool,
    refused: bool,
}

/// The training that somebody asks for.
#[derive(Debug)]
enum Asked {
    NotYet,
    /// When the last one before had ended, if there was one.
    After(Option<String>),
    Done,
}

/// A line of the story.
pub type Line = (About, String);

impl Acts {
    /// Nothing was done yet.
    pub fn new(config: &Config, seed: Seed, running: &Running) -> Self {
        Self {
            config: config.clone(),
            seed,
            changes: running.changes(),
            dismissed: None,
            held_back: false,
            told_again: 0,
            asked: Asked::NotYet,
            sabotage: None,
            sabotage_over: false,
            refused: false,
        }
    }

    /// An alert came: that of a routine is dismissed, once.
    pub fn hear(&mut self, alert: &Alert, fault: Option<&Fault>) -> Option<Line> {
        let routine = fault.is_some_and(|fault| fault.routine);
        if !routine || alert.event != AlertEvent::Open {
            return None;
        }
        if self.dismissed.is_some() {
            self.told_again += 1;
            return None;
        }
        let said = self
            .changes
            .as_ref()?
            .say(alert.id.as_str(), Feedback::FalsePositive, false);
        self.dismissed = Some(alert.id.clone());
        let text = match said {
            Ok(_) => format!(
                "somebody says: a false alarm ({} is flushed now and then)",
                alert.key
            ),
            Err(error) => format!("it cannot be dismissed: {error}"),
        };
        Some((About::People, text))
    }

    /// What is done and seen at `place` of the story. `lasts`: whether the drift is still told of.
    pub fn turn(&mut self, place: f64, running: &Running, lasts: bool) -> Option<Line> {
        self.look_back(place, running)
            .or_else(|| self.retrain(place, running, lasts))
            .or_else(|| self.sabotage(place))
    }

    /// Whether the routine came again without an alert.
    fn look_back(&mut self, place: f64, running: &Running) -> Option<Line> {
        let again = routines().last().map_or(1.0, |routine| routine.to);
        if self.held_back || place < again || self.dismissed.is_none() {
            return None;
        }
        self.held_back = true;
        let suppressed = &running.metrics().suppressed;
        let held = suppressed.with_label_values(&["dismissed"]).get();
        Some(if self.told_again > 0 {
            let text = "it was flushed again, and told of: it looked worse than the one that had been dismissed";
            (About::People, text.to_owned())
        } else if held > 0 {
            let text = "it was flushed again, and nobody was told: one like it had been dismissed";
            (About::People, text.to_owned())
        } else {
            let text = "it was flushed again, and nobody was told";
            (About::People, text.to_owned())
        })
    }

    fn retrain(&mut self, place: f64, running: &Running, lasts: bool) -> Option<Line> {
        let ended = || running.status().view().training;
        let before = match &self.asked {
            Asked::Done => return None,
            Asked::NotYet if place < RETRAIN.0 || (!lasts && place < RETRAIN.1) => return None,
            Asked::NotYet => {
                self.asked = Asked::After(ended().map(|training| training.ended));
                let text = match self.changes.as_ref()?.retrain() {
                    Ok(()) => {
                        "somebody asks for a training, while the drift of pump-4 goes on".to_owned()
                    }
                    Err(error) => format!("no training can be asked for: {error}"),
                };
                return Some((About::People, text));
            }
            Asked::After(before) => before.as_ref(),
        };
        let training = ended().filter(|training| Some(&training.ended) != before)?;
        self.asked = Asked::Done;
        let kept_out = self.changes.as_ref().and_then(|changes| {
            let (cards, _) = changes.models().ok()?;
            let newest = cards.into_iter().max_by_key(|card| card.version)?;
            Some(newest.exclusions.len())
        });
        let kept_out = kept_out.unwrap_or(0);
        let still = if lasts {
            "; pump-4 is still told of"
        } else {
            ""
        };
        Some((
            About::Model,
            format!(
                "trained again ({}): {kept_out} episodes were kept out, so that no fault is learnt{still}",
                training.outcome
            ),
        ))
    }

    /// A model that learnt the wrong units is held against the one in use, by the gate that every model passes.
    fn sabotage(&mut self, place: f64) -> Option<Line> {
        if self.sabotage_over || place < SABOTAGE {
            return None;
        }
        let Some(verdict) = &self.sabotage else {
            let (send, receive) = channel();
            let (config, seed) = (self.config.clone(), self.seed);
            thread::spawn(move || {
                // Who asked may have ended.
                send.send(brought(&config, seed)).unwrap_or_default();
            });
            self.sabotage = Some(receive);
            let text = "somebody brings a model that was trained on readings in other units";
            return Some((About::People, text.to_owned()));
        };
        let said = match verdict.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("it was not tried".to_owned()),
            Ok(said) => said,
        };
        self.sabotage_over = true;
        self.refused = said.is_ok();
        let text = match said {
            Ok(verdict) => format!("the gate refuses it, and the model in use goes on: {verdict}"),
            Err(problem) => format!("it is not refused: {problem}"),
        };
        Some((About::Model, text))
    }

    /// What of all this did not come about, of a story that was told to its end.
    pub fn missing(&self) -> Option<&'static str> {
        [
            (self.dismissed.is_some(), "no false alarm was dismissed"),
            (
                matches!(self.asked, Asked::Done),
                "the training that was asked for did not end",
            ),
            (
                self.refused,
                "the model that learnt the wrong units was not refused",
            ),
        ]
        .into_iter()
        .find_map(|(done, what)| (!done).then_some(what))
    }
}

/// Trains on readings in other units, and answers what the gate says of the model; an error if it accepts it.
fn brought(config: &Config, seed: Seed) -> Result<String, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    let now = clock.now();
    let mut store =
        AnyStore::open(config, &config.connection(), clock, watchdog).map_err(|e| e.to_string())?;
    let champion = chosen(&mut store, None).map_err(|error| error.to_string())?;
    verdict(config, &wrong(seed), champion, now)
}

fn verdict(
    config: &Config,
    table: &Table,
    champion: Arc<TrainedModel>,
    now: Timestamp,
) -> Result<String, String> {
    let mut config = config.clone();
    // The quickest kind: which one it is makes no difference.
    "pca".clone_into(&mut config.model.kind);
    let run = Run {
        version: ModelVersion::default().0 + 1,
        created: now,
        rows: 0..table.len(),
        sampled: false,
        params: config.training_params(),
        exclusions: Vec::new(),
        champion: Some(champion),
        change: None,
    };
    let job = training::job(&config, table, run);
    let candidate = train::run_watched(&job, &mut Unwatched).map_err(|error| error.to_string())?;
    if candidate.verdict.is_promoted() {
        return Err("the gate accepts it".to_owned());
    }
    Ok(candidate.verdict.to_string())
}

/// Readings of two pumps, most of them in other units: what a model learns from them is not how the plant is.
fn wrong(seed: Seed) -> Table {
    let mut table = honest(seed);
    let rows = (WRONG * table.len() as f64) as usize;
    for value in &mut table.values[..rows * SENSORS.len()] {
        *value *= UNITS;
    }
    table
}

/// Readings of two pumps as they are.
fn honest(seed: Seed) -> Table {
    let mut table = Table {
        path: "readings".to_owned(),
        columns: SENSORS.map(str::to_owned).to_vec(),
        missing: vec![Missing::Mask; SENSORS.len()],
        ..Table::default()
    };
    let mut pumps = [0, 1].map(|index| Pump::new(index, seed));
    for step in 0..WARMING + READINGS {
        for pump in &mut pumps {
            let reading = pump.read(step as f64 * STEP, STEP);
            if step < WARMING {
                continue;
            }
            table.values.extend_from_slice(&reading);
            table.keys.push(Key(pump.name.as_str().into()));
            table.times.push(Timestamp(step as i64 * 50));
            table.empty.push(false);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_gate_refuses_a_model_that_learnt_the_wrong_units_for_what_it_flags() {
        let sources = Sources {
            files: Vec::new(),
            environment: Vec::new(),
            set: vec!["model.kind=pca".to_owned()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let readings = honest(Seed(7));
        let champion = training::train(&config, &readings, Timestamp(0), &mut Unwatched).unwrap();
        let champion = Arc::new(champion.model);
        let said = |table: &Table| verdict(&config, table, Arc::clone(&champion), Timestamp(0));
        let refused = said(&wrong(Seed(7))).unwrap();
        assert!(refused.contains("rejected: flags"), "{refused}");
        // That is not said of a model of the same readings in their order.
        let other = said(&readings).unwrap_or_else(|accepted| accepted);
        assert!(!other.contains("flags"), "{other}");
    }
}
