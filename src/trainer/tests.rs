//! Runs that bring no model: how they are reported, and when the next one comes.

use std::convert::Infallible;
use std::sync::Mutex;

use super::*;
use crate::detect::Budget;
use crate::model::card::{Card, Exclusion};
use crate::model::spec::ModelSpec;
use crate::port::Quarantine;
use crate::record::RecordBatch;
use crate::record::calendar::CalendarSpec;
use crate::record::schema::{Features, SchemaSpec};
use crate::stream::{Offset, TopicPartition};
use crate::time::{ManualClock, Timestamp};

/// A log of one key, or of several in turn.
#[derive(Clone, Debug)]
struct Log {
    records: i64,
    keys: i64,
    /// All of it is an open episode.
    flagged: bool,
    /// Reading it meets a mistake in the program.
    broken: bool,
    /// Every so many-th record can be read.
    readable: i64,
}

impl Log {
    fn at() -> TopicPartition {
        TopicPartition::new("in", 0)
    }
}

impl History for Log {
    type Error = Infallible;

    fn available(&mut self, _: Timestamp) -> Result<Vec<Span>, Infallible> {
        Ok(vec![Span {
            at: Self::at(),
            from: Offset(0),
            to: Offset(self.records),
        }])
    }

    fn read(&mut self, span: &Span) -> Result<RecordBatch, Infallible> {
        assert!(!self.broken, "a mistake");
        let mut batch = RecordBatch::default();
        for offset in span.from.0..span.to.0 {
            let name = if offset % self.readable == 0 {
                "x"
            } else {
                "a.x"
            };
            let value = format!("{{\"{name}\": {}}}", offset * 7919 % 101);
            let place = (Offset(offset), Timestamp(offset * 1000));
            let key = match offset % self.keys {
                0 => "k".to_owned(),
                other => other.to_string(),
            };
            batch.push(
                &span.at,
                place,
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                Vec::new(),
            );
        }
        Ok(batch)
    }

    fn quarantine(&mut self) -> Result<Quarantine, Infallible> {
        let flagged = self.flagged.then(|| Exclusion {
            at: Self::at(),
            key: "k".to_owned(),
            from: Offset(0),
            to: None,
            because: "episode".into(),
            feedback: None,
        });
        Ok(Quarantine {
            exclusions: flagged.into_iter().collect(),
            ..Quarantine::default()
        })
    }
}

/// A store without models, which counts claims.
#[derive(Debug, Default)]
struct Empty(u32);

impl ModelStore for Empty {
    type Error = Infallible;

    fn claim(&mut self) -> Result<(), Infallible> {
        self.0 += 1;
        Ok(())
    }
    fn save(&mut self, _: &TrainedModel, _: bool) -> Result<(), Infallible> {
        Ok(())
    }
    fn load(&mut self, _: ModelVersion) -> Result<Option<Arc<TrainedModel>>, Infallible> {
        Ok(None)
    }
    fn champion(&mut self) -> Result<Option<ModelVersion>, Infallible> {
        Ok(None)
    }
    fn promote(&mut self, _: ModelVersion) -> Result<(), Infallible> {
        Ok(())
    }
    fn list(&mut self) -> Result<Vec<Card>, Infallible> {
        Ok(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Noting(
    Mutex<Vec<(&'static str, String)>>,
    Mutex<Option<(Waits, String)>>,
);

impl Observer for Noting {
    fn started(&self, _: ModelVersion) {}
    fn waits(&self, why: Option<(Waits, &str)>) {
        *self.1.lock().unwrap() = why.map(|(waits, text)| (waits, text.to_owned()));
    }
    fn finished(&self, _: ModelVersion, outcome: &'static str, verdict: &str, _: Duration) {
        self.0.lock().unwrap().push((outcome, verdict.to_owned()));
    }
}

fn trainer(log: Log) -> (Trainer<Log, Empty>, Arc<Noting>) {
    trainer_of(log, &["x"])
}

fn trainer_of(log: Log, features: &[&str]) -> (Trainer<Log, Empty>, Arc<Noting>) {
    let spec = SchemaSpec {
        features: Features::List(features.iter().map(|path| (*path).to_owned()).collect()),
        ..SchemaSpec::default()
    };
    let plan = Plan {
        settings: TrainSettings {
            detector: "d".to_owned(),
            spec: ModelSpec {
                kind: "pca".to_owned(),
                ..ModelSpec::default()
            },
            schema: Some(spec.clone()),
            maintenance: Vec::new(),
            budget: Budget::PerRecord(1e-3),
            episodes: crate::train::evidence::EpisodeSettings::default(),
            params: train::Params::default(),
            seed: Seed(1),
        },
        interval: Duration::from_secs(3600),
        jitter: 0.0,
        on_drift: true,
        history: Duration::from_secs(86_400),
    };
    let noting = Arc::new(Noting::default());
    let observer: Arc<dyn Observer> = noting.clone();
    let sources = Sources {
        history: log,
        store: Empty::default(),
        schema: Arc::new(spec.check().unwrap()),
    };
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let (trainer, _) = Trainer::new(sources, plan, clock, observer);
    (trainer, noting)
}

#[test]
fn records_that_cannot_be_used_are_read_again_ever_more_seldom() {
    let (mut trainer, noting) = trainer(Log {
        records: 1000,
        keys: 1,
        flagged: false,
        broken: false,
        readable: 1,
    });
    // No key has as many records as a window takes.
    trainer.history.keys = 500;
    trainer.plan.settings.spec.window = 10;
    let waits: Vec<u64> = (0..9)
        .map(|_| trainer.attempt().unwrap().as_secs())
        .collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 120, 120, 120]);
    assert_eq!(trainer.store.0, 9);
    assert!(
        noting
            .0
            .lock()
            .unwrap()
            .iter()
            .all(|(outcome, _)| *outcome == "skipped")
    );
    assert_eq!(noting.0.lock().unwrap().len(), 9);
    let why = noting.1.lock().unwrap().clone().unwrap();
    assert_eq!(why.0, Waits::Windows);
    assert!(why.1.ends_with("in a row"), "{}", why.1);
    // Once they can be used they are, even if all of them were flagged: this is the first model.
    trainer.history.keys = 1;
    trainer.history.flagged = true;
    assert_eq!(trainer.attempt(), None);
    assert_eq!(noting.0.lock().unwrap().last().unwrap().0, "promoted");
    assert_eq!(*noting.1.lock().unwrap(), None);
}

#[test]
fn records_that_cannot_be_read_are_said_to_be_what_a_first_model_lacks() {
    let (mut trainer, noting) = trainer(Log {
        records: 1000,
        keys: 1,
        flagged: false,
        broken: false,
        readable: 1001,
    });
    trainer.attempt().unwrap();
    let (waits, why) = noting.1.lock().unwrap().clone().unwrap();
    assert_eq!(waits, Waits::Unreadable);
    assert!(why.contains("999 of 1000 records cannot be read"), "{why}");
    let command = "(`anomalyd dead-letters list`): it waits for records that can be read";
    assert!(why.ends_with(command), "{why}");
    // Where all can be read nothing is said of that.
    trainer.history.readable = 1;
    trainer.history.keys = 500;
    trainer.plan.settings.spec.window = 10;
    trainer.attempt().unwrap();
    let (waits, why) = noting.1.lock().unwrap().clone().unwrap();
    assert_eq!(waits, Waits::Windows);
    assert!(!why.contains("cannot be read"), "{why}");
}

#[test]
fn a_look_at_offsets_alone_is_cheap_and_stays_frequent() {
    let (mut trainer, noting) = trainer(Log {
        records: 10,
        keys: 1,
        flagged: false,
        broken: false,
        readable: 1,
    });
    for _ in 0..5 {
        assert_eq!(trainer.attempt(), Some(FIRST_TRY_EVERY));
    }
    assert_eq!(trainer.store.0, 0);
    // It is said what is waited for; that it still is, is no news.
    let why = noting.1.lock().unwrap().clone().unwrap();
    let text = "10 records lie before the group's place in the log, but training needs 500: it waits for more";
    assert_eq!((why.0, why.1.as_str()), (Waits::Records, text));
    assert_eq!(noting.0.lock().unwrap().len(), 1);
}

#[test]
fn a_panic_is_a_failed_training_and_the_next_one_comes() {
    let (mut trainer, noting) = trainer(Log {
        records: 1000,
        keys: 1,
        flagged: false,
        broken: true,
        readable: 1,
    });
    assert_eq!(trainer.attempt(), Some(Duration::from_secs(60)));
    let told = noting.0.lock().unwrap()[0].clone();
    assert_eq!(told, ("failed", "training panicked: a mistake".to_owned()));
    trainer.history.broken = false;
    assert_eq!(trainer.attempt(), None);
    assert_eq!(noting.0.lock().unwrap()[1].0, "promoted");
}

fn a_first_model_of(keys: i64) -> String {
    let (mut trainer, noting) = trainer(Log {
        records: 50 * keys,
        keys,
        flagged: false,
        broken: false,
        readable: 1,
    });
    assert_eq!(trainer.attempt(), None);
    let (outcome, verdict) = noting.0.lock().unwrap().last().unwrap().clone();
    assert_eq!(outcome, "promoted");
    verdict
}

#[test]
fn a_thousand_keys_in_one_partition_have_a_model() {
    a_first_model_of(1000);
}

#[test]
#[ignore = "five million records"]
fn a_hundred_thousand_keys_in_one_partition_have_a_model() {
    let clock = crate::time::SystemClock::default();
    let began = clock.monotonic();
    a_first_model_of(100_000);
    let took = clock.monotonic().saturating_sub(began);
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_feature_that_no_record_has_is_told_of_once() {
    let mut said = News::default();
    let (latncy, both) = (
        ["latncy".to_owned()],
        ["heat".to_owned(), "latncy".to_owned()],
    );
    assert_eq!(said.of_unobserved(&[]), None);
    let words = said.of_unobserved(&latncy).unwrap();
    assert!(
        words.starts_with("none of the records has latncy: "),
        "{words}"
    );
    assert_eq!(said.of_unobserved(&latncy), None);
    assert!(
        said.of_unobserved(&both)
            .is_some_and(|words| words.contains("heat, latncy"))
    );
    // It came, and went again.
    assert_eq!(said.of_unobserved(&[]), None);
    assert!(said.of_unobserved(&latncy).is_some());
}

#[test]
fn features_that_follow_the_hour_are_told_of_once_and_not_where_they_are_judged_by_it() {
    let mut said = News::default();
    let mut card = Card::blank();
    assert_eq!(said.of_hourly(&card), None);
    card.hourly = vec!["load".to_owned(), "rate".to_owned()];
    let words = said.of_hourly(&card).unwrap();
    assert!(
        words.starts_with("load, rate follow the hour of the day: "),
        "{words}"
    );
    assert_eq!(said.of_hourly(&card), None);
    card.schema = Some(SchemaSpec {
        calendar: Some(CalendarSpec {
            utc_offset: "Z".to_owned(),
            holidays: Vec::new(),
        }),
        ..SchemaSpec::default()
    });
    assert_eq!(said.of_hourly(&card), None);
}

#[test]
fn a_model_names_the_features_that_none_of_its_records_had() {
    let log = Log {
        records: 2_000,
        keys: 1,
        flagged: false,
        broken: false,
        readable: 1,
    };
    for (features, unobserved) in [(&["x"][..], &[][..]), (&["x", "y"], &["y"])] {
        let (mut trainer, noting) = trainer_of(log.clone(), features);
        assert_eq!(trainer.attempt(), None, "{noting:?}");
        assert_eq!(trainer.news.unobserved, unobserved);
    }
}
