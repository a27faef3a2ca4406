use std::sync::Arc;
use std::time::Duration;

use noise::noise;

use super::evaluate::{Outcome, Warmup, Watch, backtest, score};
use super::story::{self, ReportInput};
use crate::alert::{AlertEvent, ScoredBy};
use crate::config::{Config, Sources};
use crate::detect::Params;
use crate::model::Unwatched;
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::pipeline::{self, Pipeline};
use crate::port::{History, ModelStore, Quarantine, Ranges};
use crate::record::calendar::CalendarSpec;
use crate::record::{Decoded, DecodedBatch, Missing, RecordBatch};
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::{ManualClock, Timestamp};
use crate::tools::table::{Roles, Table};
use crate::tools::{ToolError, training};
use crate::trainer::{self, Trainer};

#[path = "../../tests/shared/noise.rs"]
mod noise;

pub(super) fn config(set: &[&str]) -> Config {
    let mut all = vec![
        "model.kind=pca".to_owned(),
        "model.window=3".to_owned(),
        "training.rows_min=100".to_owned(),
        "alerts.false_alarm_rate=0.001".to_owned(),
    ];
    all.extend(set.iter().map(|&pair| pair.to_owned()));
    let sources = Sources {
        files: Vec::new(),
        environment: Vec::new(),
        set: all,
        ..Sources::default()
    };
    Config::load(&sources).unwrap()
}

/// Two features that move together, with noise; from row `fault` on for 30 rows they do not.
fn rows(n: usize, fault: usize) -> Vec<[f64; 2]> {
    let mut noise = noise(17);
    (0..n)
        .map(|i| {
            let wave = (i as f64 / 10.0).sin() + noise();
            let other = if (fault..fault + 30).contains(&i) {
                -9.0
            } else {
                wave
            };
            [wave, other + 0.2 * noise()]
        })
        .collect()
}

fn csv(rows: &[[f64; 2]]) -> String {
    let lines: Vec<String> = rows.iter().map(|[a, b]| format!("{a},{b}\n")).collect();
    format!("a,b\n{}", lines.concat())
}

pub(super) fn table(text: &str, roles: &Roles) -> Table {
    let sha256 = crate::tools::table::hex_sha256(text.as_bytes());
    Table::parse("rows.csv", sha256, text.as_bytes(), roles).unwrap()
}

fn tested(set: &[&str], table: &Table, warmup: usize) -> Outcome {
    let mut watch = Watch {
        rows: &|_| {},
        monitor: &mut Unwatched,
    };
    backtest(&config(set), table, warmup, &mut watch).unwrap()
}

#[test]
fn a_backtest_scores_first_learns_after_and_finds_the_fault() {
    let table = table(&csv(&rows(900, 700)), &Roles::default());
    let set = ["training.every_records=200"];
    let found = tested(&set, &table, 300);
    assert_eq!(found.lines.len(), 900);
    let at: Vec<usize> = found.models.iter().map(|trained| trained.row).collect();
    assert_eq!(at, [300, 500, 700]);
    for (row, line) in found.lines.iter().enumerate() {
        // A row is judged by the latest model that was promoted before it.
        let mut before = found.models.iter().filter(|m| m.promoted && m.row <= row);
        let version = before
            .next_back()
            .map(|m| m.model.as_ref().unwrap().card.version);
        assert_eq!(line.scored_by.version(), version, "row {row}");
        assert!(line.score.is_finite());
    }
    assert!((705..730).all(|row| found.lines[row].alert));
    assert!(found.lines[..700].iter().filter(|line| line.alert).count() < 20);
}

#[test]
fn nothing_is_trained_that_would_judge_nothing() {
    // The next training would be due at the end of the rows.
    let table = table(&csv(&rows(500, 1000)), &Roles::default());
    let found = tested(&["training.every_records=200"], &table, 300);
    let at: Vec<usize> = found.models.iter().map(|trained| trained.row).collect();
    assert_eq!(at, [300]);
    // As if nothing were to be judged at all.
    assert!(tested(&[], &table, 500).models.is_empty());
}

#[test]
fn what_was_flagged_is_not_learnt() {
    let table = table(&csv(&rows(900, 620)), &Roles::default());
    let set = ["training.every_records=400", "training.guard=5"];
    let found = tested(&set, &table, 300);
    let card = &found.models[1].model.as_ref().unwrap().card;
    assert_eq!(found.models[1].row, 700);
    assert!(
        card.exclusions
            .iter()
            .any(|out| (600..=625).contains(&out.from.0)),
        "{:?}",
        card.exclusions
    );
}

#[test]
fn the_size_of_batches_changes_nothing() {
    let table = table(&csv(&rows(700, 600)), &Roles::default());
    let every = "training.every_records=150";
    let whole = tested(&[every], &table, 300);
    // An alert is filed under the record that caused it, not under the last of its batch.
    let opened = whole.alerts.first().map(|(row, alert)| (*row, alert.event));
    assert!(
        matches!(opened, Some((600..606, AlertEvent::Open))),
        "{opened:?}"
    );
    for size in ["batch.records_max=1", "batch.records_max=64"] {
        let other = tested(&[every, size], &table, 300);
        assert_eq!(
            super::write::scores(&table, &whole),
            super::write::scores(&table, &other)
        );
        assert_eq!(whole.alerts, other.alerts);
    }
}

#[test]
fn a_window_holds_rows_of_one_key() {
    let (one, two) = (rows(200, 150), rows(200, 100));
    let fit = table(&csv(&rows(400, 1000)), &Roles::default());
    let config = config(&[]);
    let roles = Roles {
        key: vec!["k".to_owned()],
        ..Roles::default()
    };
    let mut text = "k,a,b\n".to_owned();
    for i in 0..200 {
        for (key, rows) in [("one", &one), ("two", &two)] {
            text += &format!("{key},{},{}\n", rows[i][0], rows[i][1]);
        }
    }
    let scored = |table: &Table| {
        let model = training::train(&config, &fit, Timestamp(0), &mut Unwatched)
            .unwrap()
            .model;
        let lines = score(&config, table, (model, false), &|_| {})
            .unwrap()
            .lines;
        lines
            .iter()
            .map(|line| line.score.to_bits())
            .collect::<Vec<_>>()
    };
    let mixed = scored(&table(&text, &roles));
    let every_other = |from: usize| mixed[from..].iter().step_by(2).copied().collect::<Vec<_>>();
    assert_eq!(
        every_other(0),
        scored(&table(&csv(&one), &Roles::default()))
    );
    assert_eq!(
        every_other(1),
        scored(&table(&csv(&two), &Roles::default()))
    );
}

#[test]
fn a_model_is_made_again_from_its_card_to_the_byte() {
    let text = csv(&rows(400, 1000));
    let table_ = table(&text, &Roles::default());
    // An autoencoder: seeds and epochs matter.
    let config_ = config(&["model.kind=autoencoder", "model.network.epochs=3"]);
    let first = training::train(&config_, &table_, Timestamp(7), &mut Unwatched)
        .unwrap()
        .model;
    assert_eq!(
        first.card.rows["fit"] + first.card.rows["validation"],
        398 - 2
    );
    // The card decides, not the configuration.
    let other = config(&[
        "seed=9",
        "training.rows_max=200",
        "training.guard=1",
        "training.calibration=held_out",
    ]);
    let again = training::again(&other, &table_, &first.card, &mut Unwatched).unwrap();
    assert_eq!(first.to_bytes().unwrap(), again.model.to_bytes().unwrap());
    let other = table(&text.replace("a,b", "a,c"), &Roles::default());
    let refused = training::again(&config_, &other, &first.card, &mut Unwatched);
    assert!(matches!(refused, Err(ToolError::Asked(_))));
}

#[test]
fn a_row_without_any_value_has_no_score_and_keeps_its_line() {
    let fit = table(&csv(&rows(400, 1000)), &Roles::default());
    let config = config(&[]);
    let model = training::train(&config, &fit, Timestamp(0), &mut Unwatched)
        .unwrap()
        .model;
    let table = table("a,b\n1,1\n,\n1,1\n", &Roles::default());
    let outcome = score(&config, &table, (model, false), &|_| {}).unwrap();
    let text = super::write::scores(&table, &outcome);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2], ",,0,0");
    assert!(lines[3].ends_with(",0,1"));
}

#[test]
fn a_card_says_how_its_records_were_read() {
    let lines = rows(400, 1000).into_iter().enumerate();
    let line = |(i, [a, b]): (usize, [f64; 2])| match i % 50 {
        0 => format!("{i},{a},\n"),
        _ => format!("{i},{a},{b}\n"),
    };
    let text = format!("time,a,b\n{}", lines.map(line).collect::<String>());
    let roles = Roles {
        timestamp: Some("time".to_owned()),
        missing: Missing::Constant(7.0),
        calendar: Some(CalendarSpec {
            utc_offset: "+01:00".to_owned(),
            holidays: vec!["1970-01-02".to_owned()],
        }),
        ..Roles::default()
    };
    let table_ = table(&text, &roles);
    assert_eq!(table_.columns, ["a", "b", "calendar"]);
    let config = config(&["model.kind=pca"]);
    let first = training::train(&config, &table_, Timestamp(7), &mut Unwatched)
        .unwrap()
        .model;
    // Through the file, and without a word on the command line.
    let bytes = first.to_bytes().unwrap();
    let card = TrainedModel::from_bytes(&bytes).unwrap().card;
    let roles = Roles::of_schema(card.schema.as_ref().unwrap(), &card.columns);
    assert_eq!(roles.timestamp.as_deref(), Some("time"));
    assert_eq!(roles.missing, Missing::Constant(7.0));
    assert!(roles.calendar.is_some());
    let table_ = table(&text, &roles);
    let again = training::again(&config, &table_, &card, &mut Unwatched).unwrap();
    assert_eq!(bytes, again.model.to_bytes().unwrap());
    // A card of an older program has no schema, and loads.
    let mut old = serde_json::to_value(&card).unwrap();
    old.as_object_mut().unwrap().remove("schema");
    let old: crate::model::card::Card = serde_json::from_value(old).unwrap();
    assert_eq!(old.schema, None);
}

#[test]
fn a_model_whose_records_are_gone_is_not_made_again() {
    let mut log = Log::new(&rows(600, 500));
    let config_ = config(&["model.kind=pca", "input.missing=9"]);
    let range = (Timestamp(0), Some(Timestamp(450_000)));
    let fitted = crate::tools::topic::read(&config_, None, &mut log, range, &|_| {}).unwrap();
    let model = training::train(&config_, &fitted, Timestamp(7), &mut Unwatched)
        .unwrap()
        .model;
    // The card's policies, not those of the configuration at hand.
    let other = config(&["model.kind=pca", "input.key=a"]);
    let again = training::again_from_log(&other, &model.card, &mut log, &mut Unwatched).unwrap();
    assert_eq!(model.to_bytes().unwrap(), again.model.to_bytes().unwrap());
    log.0[0].drain(..5);
    let error =
        training::again_from_log(&config_, &model.card, &mut log, &mut Unwatched).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model 1 was made from 449 records, but 444 can be read now from its spans of the topics: it cannot be made again"
    );
}

/// A log of JSON records in two partitions, a second apart, with a record that cannot be read and an offset that a transaction took.
struct Log(Vec<Vec<(i64, i64, String)>>);

impl Log {
    fn new(rows: &[[f64; 2]]) -> Self {
        let mut parts = vec![Vec::new(), Vec::new()];
        for (i, [a, b]) in rows.iter().enumerate() {
            let text = if i == 60 {
                "{".to_owned()
            } else {
                format!("{{\"a\": {a:?}, \"b\": {b:?}}}")
            };
            let part: &mut Vec<(i64, i64, String)> = &mut parts[i % 2];
            let offset = 10 + part.len() as i64 + i64::from(i > 100);
            part.push((offset, 1000 * i as i64, text));
        }
        Self(parts)
    }

    fn at(part: usize) -> TopicPartition {
        TopicPartition::new("records", part as i32)
    }
}

impl History for Log {
    type Error = std::convert::Infallible;

    fn available(&mut self, since: Timestamp) -> Result<Vec<Span>, Self::Error> {
        self.between(since, None)
    }

    fn read(&mut self, span: &Span) -> Result<RecordBatch, Self::Error> {
        let mut batch = RecordBatch::default();
        let part = &self.0[span.at.partition.0 as usize];
        for (offset, time, text) in part.iter().filter(|r| span.contains(Offset(r.0))) {
            let place = (Offset(*offset), Timestamp(*time));
            batch.push(
                &span.at,
                place,
                Some(b"k"),
                Some(text.as_bytes()),
                Vec::new(),
            );
        }
        Ok(batch)
    }

    fn quarantine(&mut self) -> Result<Quarantine, Self::Error> {
        Ok(Quarantine::default())
    }
}

impl Ranges for Log {
    fn between(
        &mut self,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Result<Vec<Span>, Self::Error> {
        let mut spans = Vec::new();
        for (part, records) in self.0.iter().enumerate() {
            let within = |time: i64| from.0 <= time && to.is_none_or(|to| time < to.0);
            let offsets = records.iter().filter(|r| within(r.1)).map(|r| r.0);
            if let (Some(first), Some(last)) = (offsets.clone().min(), offsets.max()) {
                spans.push(Span {
                    at: Self::at(part),
                    from: Offset(first),
                    to: Offset(last + 1),
                });
            }
        }
        Ok(spans)
    }
}

#[test]
fn a_stretch_of_a_topic_is_a_table_in_the_order_of_time() {
    let mut log = Log::new(&rows(300, 1000));
    let config = config(&["model.window=2"]);
    let (from, to) = (Timestamp(20_000), Some(Timestamp(200_000)));
    let table = crate::tools::topic::read(&config, None, &mut log, (from, to), &|_| {}).unwrap();
    assert_eq!(table.columns, ["a", "b"]);
    assert_eq!(table.len(), 180);
    let times: Vec<i64> = table.times.iter().map(|time| time.0 / 1000).collect();
    assert_eq!(times, (20..200).collect::<Vec<_>>());
    assert_eq!(table.empty.iter().filter(|&&empty| empty).count(), 1);
    assert!(table.empty[40]);
    let none = (Timestamp(999_000_000), None);
    let error = crate::tools::topic::read(&config, None, &mut log, none, &|_| {}).unwrap_err();
    assert!(
        error.to_string().ends_with("there are no records"),
        "{error}"
    );
}

#[test]
fn a_model_of_a_stretch_is_made_again_from_the_topic_and_judges_it_by_place() {
    let mut log = Log::new(&rows(600, 500));
    let config = config(&["model.kind=autoencoder", "model.network.epochs=3"]);
    let (from, to) = (Timestamp(0), Some(Timestamp(450_000)));
    let fitted = crate::tools::topic::read(&config, None, &mut log, (from, to), &|_| {}).unwrap();
    let model = training::train(&config, &fitted, Timestamp(7), &mut Unwatched)
        .unwrap()
        .model;
    assert_eq!(model.card.spans.len(), 2);
    assert_eq!(model.card.source, None);
    let again = training::again_from_log(&config, &model.card, &mut log, &mut Unwatched).unwrap();
    assert_eq!(model.to_bytes().unwrap(), again.model.to_bytes().unwrap());
    let columns = Some(&model.card.columns[..]);
    let table =
        crate::tools::topic::read(&config, columns, &mut log, (from, None), &|_| {}).unwrap();
    let outcome = score(&config, &table, (model, true), &|_| {}).unwrap();
    // Rows of the two partitions have windows of their own, and both see the fault from row 500 on.
    assert!((506..528).all(|row| outcome.lines[row].alert));
    let (row, alert) = &outcome.alerts[0];
    assert_eq!((*row % 2) as i32, alert.input.at.partition.0);
    let text = super::write::scores(&table, &outcome);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("topic,partition,offset,score,p_value,alert,model_version,code_0")
    );
    assert!(
        lines[1 + 103].starts_with("records,1,62,"),
        "{}",
        lines[104]
    );
}

#[test]
fn codes_are_those_of_the_scores_topic() {
    let fit = table(&csv(&rows(400, 1000)), &Roles::default());
    let config = config(&[
        "model.kind=autoencoder",
        "model.network.epochs=3",
        "model.network.code=2",
    ]);
    let model = training::train(&config, &fit, Timestamp(0), &mut Unwatched)
        .unwrap()
        .model;
    let columns = [0, 1].map(|i| pipeline::Column {
        name: fit.columns[i].clone(),
        missing: fit.missing[i],
        context: false,
    });
    let params = Params {
        emit_scores: true,
        emit_code: true,
        ..(*config.detect).clone()
    };
    let mut live = Pipeline::new(std::sync::Arc::new(params), columns.into());
    let at = training::place(&config);
    let assignment = pipeline::PartitionAssignment::fresh(at.clone(), Offset(0));
    live.assign(&assignment, None).unwrap();
    live.promote(std::sync::Arc::new(
        TrainedModel::from_bytes(&model.to_bytes().unwrap()).unwrap(),
    ))
    .unwrap();
    let mut batch = RecordBatch::default();
    let mut decoded = DecodedBatch {
        columns: 2,
        values: fit.values.clone(),
        outcomes: Vec::new(),
    };
    for row in 0..fit.len() {
        batch.push(
            &at,
            (Offset(row as i64), fit.times[row]),
            None,
            None,
            Vec::new(),
        );
        let (key, time) = (fit.keys[row].clone(), fit.times[row]);
        decoded.outcomes.push(Ok(Decoded { key, time }));
    }
    let staged = live.stage(&batch, &decoded);
    let found = score(&config, &fit, (model, true), &|_| {}).unwrap();
    let codes = found.codes.unwrap();
    for (row, score) in staged.outbox.scores.iter().enumerate() {
        assert_eq!(score.code, codes[row], "row {row}");
        assert_eq!(score.code.as_ref().map(Vec::len), Some(2));
    }
    assert_eq!(staged.outbox.scores.len(), codes.len());
}

/// An episode's course is that of its key, with what was expected of each record, and leaves the band where it began.
fn course_is_of_its_key(worst: &super::report::EpisodeRow) {
    let trace = worst.trace.as_ref().unwrap();
    assert!(worst.cause.starts_with("b "), "{}", worst.cause);
    assert!(trace.points.iter().all(|point| point.row % 2 == 0));
    let spread = trace.spreads[0].unwrap();
    let far = |point: &super::report::Point| (point.values[0] - point.expected[0]).abs() / spread;
    let (inside, before): (Vec<_>, Vec<_>) = trace
        .points
        .iter()
        .partition(|point| (1200..1260).contains(&point.row));
    assert!(inside.iter().all(|point| far(point) > 3.0));
    assert!(
        before
            .iter()
            .filter(|point| point.row < 1200)
            .all(|point| far(point) < 6.0)
    );
    assert!(
        trace
            .points
            .iter()
            .any(|point| point.strength >= trace.threshold)
    );
}

#[test]
fn a_report_tells_of_each_keys_own_records() {
    let (one, two) = (rows(700, 600), rows(700, 10_000));
    let mut text = "k,a,b,l\n".to_owned();
    for i in 0..700 {
        for (key, rows) in [("one", &one), ("two", &two)] {
            let label = u8::from(key == "one" && (600..630).contains(&i));
            text += &format!("{key},{},{},{label}\n", rows[i][0], rows[i][1]);
        }
    }
    let roles = Roles {
        key: vec!["k".to_owned()],
        labels: Some("l".to_owned()),
        ..Roles::default()
    };
    let table = table(&text, &roles);
    let config = config(&["training.interval=3650d"]);
    let mut watch = Watch {
        rows: &|_| {},
        monitor: &mut Unwatched,
    };
    let outcome = backtest(&config, &table, 800, &mut watch).unwrap();
    let report = story::report(ReportInput {
        budgets: &[],
        nothing: None,
        config: &config,
        table: &table,
        outcome: &outcome,
        warmup: 800,
        sentence: "",
        figures: &[("VUS-PR", f64::NAN)],
        timed: false,
    });
    let worst = report.episodes.iter().find(|e| e.from >= 1195).unwrap();
    assert_eq!((worst.key.as_str(), worst.labelled), ("one", Some(true)));
    // About as many as the fault has, though those of the other key lie between them.
    assert!((28..60).contains(&worst.records) && worst.to - worst.from >= 2 * worst.records - 1);
    course_is_of_its_key(worst);
    assert!(worst.p_value < 1e-3 && worst.features[0].name == "b");
    assert!(
        report
            .attribution
            .iter()
            .all(|(row, _)| outcome.lines[*row].alert)
    );
    assert!(report.warming_up[799] && !report.warming_up[800]);
    assert!(
        report
            .figures
            .contains(&("VUS-PR".to_owned(), "–".to_owned()))
    );
}

#[test]
fn a_report_of_a_single_feature_has_what_its_season_judged_and_expected() {
    let lines = rows(900, 700);
    let lines = lines.iter().map(|[_, b]| format!("{b}\n"));
    let table = table(
        &format!("b\n{}", lines.collect::<String>()),
        &Roles::default(),
    );
    let set = [
        "model.kind=auto",
        "model.window=1",
        "training.interval=3650d",
    ];
    let outcome = tested(&set, &table, 300);
    assert_eq!(outcome.lines[850].scored_by, ScoredBy::Seasonal);
    assert!(outcome.expected[&850].is_finite());
    let report = story::report(ReportInput {
        budgets: &[],
        nothing: None,
        config: &config(&set),
        table: &table,
        outcome: &outcome,
        warmup: 300,
        sentence: "",
        figures: &[],
        timed: false,
    });
    assert!(report.warming_up[299] && !report.warming_up[300]);
    let worst = report.episodes.iter().find(|e| e.from >= 690).unwrap();
    let trace = worst.trace.as_ref().unwrap();
    assert!(
        trace
            .points
            .iter()
            .all(|point| point.expected[0].is_finite())
    );
    assert!(trace.spreads[0].is_some());
}

/// Models of a daemon: one champion, and what its trainer made.
#[derive(Clone, Debug)]
struct Store(Arc<TrainedModel>, std::sync::mpsc::Sender<Vec<u8>>);

impl ModelStore for Store {
    type Error = std::convert::Infallible;

    fn save(&mut self, model: &TrainedModel, _: bool) -> Result<(), Self::Error> {
        self.1.send(model.to_bytes().unwrap()).unwrap();
        Ok(())
    }

    fn load(&mut self, _: ModelVersion) -> Result<Option<Arc<TrainedModel>>, Self::Error> {
        Ok(Some(Arc::clone(&self.0)))
    }

    fn champion(&mut self) -> Result<Option<ModelVersion>, Self::Error> {
        Ok(Some(self.0.card.version))
    }

    fn promote(&mut self, _: ModelVersion) -> Result<(), Self::Error> {
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Card>, Self::Error> {
        Ok(vec![self.0.card.clone()])
    }
}

/// Tells nobody.
#[derive(Debug)]
struct Deaf;

impl trainer::Observer for Deaf {
    fn started(&self, _: ModelVersion) {}
    fn finished(&self, _: ModelVersion, _: &'static str, _: &str, _: Duration) {}
}

#[test]
fn a_later_model_of_a_backtest_is_the_one_that_the_daemon_would_make() {
    let all = rows(3600, 9000);
    let set = [
        "training.every_records=1400",
        // Less than there is, so that the sampler chooses.
        "training.rows_max=1100",
        "alerts.false_alarm_rate=1e-7",
    ];
    let (config, mut log) = (config(&set), Log::new(&all));
    let range = (Timestamp(0), None);
    let read = crate::tools::topic::read(&config, None, &mut log, range, &|_| {}).unwrap();
    let mut watch = Watch {
        rows: &|_| {},
        monitor: &mut Unwatched,
    };
    let first = Warmup {
        rows: 1000,
        as_live: true,
    };
    let outcome = backtest(&config, &read, first, &mut watch).unwrap();
    assert!(outcome.alerts.is_empty());
    let [first, second] = &outcome.models[..] else {
        panic!("{:?}", outcome.models.len());
    };
    assert_eq!(second.row, 2400);
    let (first, second) = (
        first.model.as_ref().unwrap(),
        second.model.as_ref().unwrap(),
    );
    let (send, made) = std::sync::mpsc::channel();
    let mut spec = config.input.schema();
    spec.resolve_from_columns(&read.columns);
    let schema = Arc::new(spec.check().unwrap());
    let sources = trainer::Sources {
        history: Log::new(&all[..2400]),
        store: Store(Arc::clone(first), send),
        schema,
    };
    let clock = Arc::new(ManualClock::at(first.card.created));
    let plan = trainer::Plan {
        settings: config.train_settings(),
        interval: config.training.interval,
        jitter: 0.0,
        on_drift: true,
        history: config.training.history,
    };
    let (trainer, control) = Trainer::new(sources, plan, clock, Arc::new(Deaf));
    let thread = std::thread::spawn(move || trainer.run());
    control.link(0).leads(true);
    control.train_now();
    let live = made.recv_timeout(Duration::from_secs(60)).unwrap();
    control.stop();
    thread.join().unwrap();
    let mut live = TrainedModel::from_bytes(&live).unwrap();
    // When it was made is the clock's.
    live.card.created = second.card.created;
    assert_eq!(live.card, second.card);
    assert_eq!(live.to_bytes().unwrap(), second.to_bytes().unwrap());
}

#[test]
fn the_configured_budget_opens_what_the_run_opened() {
    let roles = Roles {
        labels: Some("fault".to_owned()),
        ..Roles::default()
    };
    let lines = rows(900, 700);
    let lines = lines.iter().enumerate().map(|(i, [a, b])| {
        let fault = u8::from((700..730).contains(&i));
        format!("{a},{b},{fault}\n")
    });
    let text = format!("a,b,fault\n{}", lines.collect::<String>());
    let table = table(&text, &roles);
    let set = ["training.every_records=200"];
    let outcome = tested(&set, &table, 300);
    let params = &config(&set).detect;
    let found = super::budgets::table(params, &table, &outcome, 300);
    assert_eq!(found.len(), 10);
    assert_eq!(found.iter().filter(|row| row.in_table).count(), 5);
    let own = found.iter().find(|row| row.configured).unwrap();
    let opened = outcome
        .alerts
        .iter()
        .filter(|(row, alert)| *row >= 300 && alert.event == crate::alert::AlertEvent::Open);
    assert_eq!(own.episodes, opened.count());
    assert!(own.episodes > 0);
    let labelled = own.labelled.unwrap();
    assert_eq!((labelled.faults, labelled.found), (1, 1));
    let first = (700..730).find(|&row| outcome.lines[row].alert).unwrap();
    assert!((labelled.delay_records - (first - 700) as f64).abs() < 1e-12);
    let text = super::budgets::shown(&found, None, 300);
    assert!(text.contains("alerts.false_alarm_rate = 0.001"), "{text}");
    assert!(
        text.contains("alerts.false_alarm_rate = \"1/week\""),
        "{text}"
    );
}

#[test]
fn where_nothing_opened_it_says_what_would_have() {
    let table = table(&csv(&rows(900, 2000)), &Roles::default());
    for budget in ["1/month", "0.0000001", "1/month/fleet"] {
        let rate = format!("alerts.false_alarm_rate={budget}");
        let set = [rate.as_str(), "training.every_records=1000"];
        let outcome = tested(&set, &table, 300);
        let params = &config(&set).detect;
        let found = super::budgets::table(params, &table, &outcome, 300);
        let said = super::budgets::nothing_opened(&found, params, (&table, &outcome), 300);
        let said = said.unwrap();
        assert!(said.contains("smallest p-value"), "{said}");
        let named = said.split("false_alarm_rate = ").nth(1).unwrap();
        let named = named.split(" would").next().unwrap().trim_matches('"');
        // It does, by a run of its own; and what opened something needs no such line.
        let rate = format!("alerts.false_alarm_rate={named}");
        let set = [rate.as_str(), "training.every_records=1000"];
        let outcome = tested(&set, &table, 300);
        let params = &config(&set).detect;
        assert!(outcome.alerts.iter().any(|(row, _)| *row >= 300), "{said}");
        let found = super::budgets::table(params, &table, &outcome, 300);
        let own = found.iter().find(|row| row.configured).unwrap();
        assert!(own.episodes > 0, "{said}");
        let said = super::budgets::nothing_opened(&found, params, (&table, &outcome), 300);
        assert_eq!(said, None);
        let budgeted = |row: &super::budgets::Row| super::report::Budgeted {
            row: row.clone(),
            words: String::new(),
        };
        let report = super::report::Report {
            budgets: found.iter().map(budgeted).collect(),
            keys: table.keys.clone(),
            places: (0..table.len() as i64).collect(),
            p_values: vec![0.5; table.len()],
            warming_up: vec![false; table.len()],
            ..super::report::Report::default()
        };
        let html = report.html();
        assert!(
            html.contains("<code>alerts.false_alarm_rate = \"1/week\"</code>")
                || html.contains("<code>alerts.false_alarm_rate = &quot;1/week&quot;</code>"),
            "{html}"
        );
    }
}
