//! Runs that bring no model: how they are reported, and when the next one comes.

use std::convert::Infallible;
use std::sync::Mutex;

use super::*;
use crate::model::card::Card;
use crate::record::RecordBatch;
use crate::record::schema::{Features, SchemaSpec};
use crate::stream::{Offset, TopicPartition};
use crate::time::{ManualClock, Timestamp};

/// A log of one key.
#[derive(Debug)]
struct Log {
    records: i64,
    /// All of it is an open episode.
    flagged: bool,
    /// Reading it meets a mistake in the program.
    broken: bool,
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
            let value = format!("{{\"x\": {}}}", offset * 7919 % 101);
            let place = (Offset(offset), Timestamp(offset * 1000));
            batch.push(
                &span.at,
                place,
                Some(b"k"),
                Some(value.as_bytes()),
                Vec::new(),
            );
        }
        Ok(batch)
    }

    fn quarantine(&mut self) -> Result<Vec<Exclusion>, Infallible> {
        let flagged = self.flagged.then(|| Exclusion {
            at: Self::at(),
            key: "k".to_owned(),
            from: Offset(0),
            to: None,
            because: "episode".to_owned(),
            dismissed: None,
        });
        Ok(flagged.into_iter().collect())
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
struct Noting(Mutex<Vec<(&'static str, String)>>);

impl Observer for Noting {
    fn started(&self, _: ModelVersion) {}
    fn finished(&self, _: ModelVersion, outcome: &'static str, verdict: &str, _: Duration) {
        self.0.lock().unwrap().push((outcome, verdict.to_owned()));
    }
}

fn trainer(log: Log) -> (Trainer<Log, Empty>, Arc<Noting>) {
    let spec = SchemaSpec {
        features: Features::List(vec!["x".to_owned()]),
        ..SchemaSpec::default()
    };
    let plan = Plan {
        detector: "d".to_owned(),
        spec: ModelSpec {
            kind: "pca".to_owned(),
            ..ModelSpec::default()
        },
        schema: spec.clone(),
        budget: Budget::PerRecord(1e-3),
        episodes: crate::train::evidence::EpisodeSettings::default(),
        params: train::Params::default(),
        interval: Duration::from_secs(3600),
        jitter: 0.0,
        history: Duration::from_secs(86_400),
        seed: Seed(1),
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
        flagged: true,
        broken: false,
    });
    let waits: Vec<u64> = (0..9)
        .map(|_| trainer.attempt().unwrap().as_secs())
        .collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 120, 120, 120]);
    assert_eq!(trainer.store.0, 9);
    // Once they can be used they are.
    trainer.history.flagged = false;
    assert_eq!(trainer.attempt(), None);
    assert_eq!(noting.0.lock().unwrap()[0].0, "promoted");
}

#[test]
fn a_look_at_offsets_alone_is_cheap_and_stays_frequent() {
    let (mut trainer, _) = trainer(Log {
        records: 10,
        flagged: false,
        broken: false,
    });
    for _ in 0..5 {
        assert_eq!(trainer.attempt(), Some(FIRST_TRY_EVERY));
    }
    assert_eq!(trainer.store.0, 0);
}

#[test]
fn a_panic_is_a_failed_training_and_the_next_one_comes() {
    let (mut trainer, noting) = trainer(Log {
        records: 1000,
        flagged: false,
        broken: true,
    });
    assert_eq!(trainer.attempt(), Some(Duration::from_secs(60)));
    let told = noting.0.lock().unwrap()[0].clone();
    assert_eq!(told, ("failed", "training panicked: a mistake".to_owned()));
    trainer.history.broken = false;
    assert_eq!(trainer.attempt(), None);
    assert_eq!(noting.0.lock().unwrap()[1].0, "promoted");
}
