//! Clocks that are wrong: what they touch, and what they do not. Promise P8.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::alert::{Alert, AlertEvent, AlertKind, Score};
use crate::detect::Budget;
use crate::record::Decoded;
use crate::stats::calibration::Calibration;

const START: i64 = 1_700_000_000_000;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;
const CALM: [f64; 2] = [0.1, 0.2];
const WILD: [f64; 2] = [9.0, 9.0];

/// One record: whose, what its clock shows in milliseconds since the start, and its numbers. Kafka's timestamp is what the clock shows, as
/// it is where producers set it.
#[derive(Clone, Debug)]
struct Sent {
    key: usize,
    shows: i64,
    values: [f64; 2],
}

fn at() -> TopicPartition {
    TopicPartition::new("in", 0)
}

fn params() -> Params {
    Params {
        detector: "t".into(),
        budget: Budget::PerRecord(0.01),
        time_scales: vec![1],
        close_evidence: 3.0,
        cooldown: Duration::ZERO,
        storm_opens_max: 0,
        window: 3,
        snapshot_records: 700,
        emit_scores: true,
        ..Params::default()
    }
}

fn assignment(committed: i64, state: Vec<StateEntry>) -> PartitionAssignment {
    PartitionAssignment {
        at: at(),
        ..super::tests::assignment(committed, state)
    }
}

/// A pipeline under a model with windows of three records.
fn pipeline(params: &Params) -> Pipeline {
    assert_eq!(params.check(), Vec::new());
    let column = |name: &str| Column {
        name: name.to_owned(),
        missing: Missing::Mask,
        context: false,
    };
    let columns = [column("x"), column("y")];
    let mut pipeline = Pipeline::new(Arc::new(params.clone()), Arc::new(columns));
    let scores: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
    let model = TrainedModel::simple(1, &["x", "y"], 3, Calibration::fit(&scores));
    pipeline.promote(Arc::new(model)).unwrap();
    pipeline
}

fn name(key: usize) -> String {
    format!("k{key}")
}

/// Records from `from` on, staged.
fn stage(pipeline: &Pipeline, from: usize, sent: &[Sent]) -> Staged {
    let mut batch = RecordBatch::default();
    let mut decoded = DecodedBatch {
        columns: 2,
        ..DecodedBatch::default()
    };
    for (record, offset) in sent.iter().zip(from as i64..) {
        let time = Timestamp(START + record.shows);
        batch.push(&at(), (Offset(offset), time), None, Some(b"v"), Vec::new());
        decoded.values.extend(record.values);
        decoded.outcomes.push(Ok(Decoded {
            key: Key(Arc::from(name(record.key))),
            time,
        }));
    }
    pipeline.stage(&batch, &decoded)
}

/// What came of records.
#[derive(Clone, Debug, Default, PartialEq)]
struct Emitted {
    alerts: Vec<Alert>,
    scores: Vec<Score>,
    wrong: Vec<(String, i64)>,
    late: u64,
    snapshots: usize,
}

impl Emitted {
    fn take(&mut self, staged: &Staged) {
        let outbox = &staged.outbox;
        self.alerts.extend(outbox.alerts.iter().cloned());
        self.scores.extend(outbox.scores.iter().cloned());
        let wrong = staged.wrong_clocks.iter();
        self.wrong
            .extend(wrong.map(|found| (found.key.0.to_string(), found.ahead_ms)));
        self.late += staged.tally.late;
        self.snapshots += outbox
            .state
            .iter()
            .filter(|entry| entry.key.ends_with(b"/head"))
            .count();
    }

    /// Keys of which an episode of this kind opened.
    fn opened(&self, kind: AlertKind) -> BTreeSet<String> {
        self.alerts
            .iter()
            .filter(|alert| alert.kind == kind && alert.event == AlertEvent::Open)
            .map(|alert| alert.key.to_string())
            .collect()
    }

    /// Records whose window was filling, by key.
    fn warming(&self, key: usize) -> usize {
        let key = name(key);
        let warming = |score: &&Score| score.key.as_str() == key && score.warming_up;
        self.scores.iter().filter(warming).count()
    }

    fn named(&self) -> Vec<&str> {
        self.wrong.iter().map(|(key, _)| key.as_str()).collect()
    }
}

fn run_by(params: &Params, sent: &[Sent], size: usize) -> Emitted {
    let mut pipeline = pipeline(params);
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let mut emitted = Emitted::default();
    for (part, number) in sent.chunks(size).zip(0..) {
        let staged = stage(&pipeline, number * size, part);
        emitted.take(&staged);
        pipeline.apply(staged);
    }
    emitted
}

fn run(sent: &[Sent]) -> Emitted {
    run_by(&params(), sent, 500)
}

/// `rounds` records of each of `keys` keys, `every` apart and spread evenly. Each key but the last is WILD for three of them, at another time
/// each. The clock of key `bad` shows `shows` of the true time.
fn fleet(
    (keys, every): (usize, i64),
    rounds: i64,
    bad: usize,
    shows: impl Fn(i64) -> i64,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    for round in 0..rounds {
        for key in 0..keys {
            let time = round * every + key as i64 * every / keys as i64;
            let begins = rounds / 2 + key as i64 % (rounds / 2 - 5);
            let wild = key + 1 < keys && (begins..begins + 3).contains(&round);
            sent.push(Sent {
                key,
                shows: if key == bad { shows(time) } else { time },
                values: if wild { WILD } else { CALM },
            });
        }
    }
    sent
}

/// The faults of all keys but `bad` are found, their windows fill once, and nobody is called silent.
fn assert_untouched(emitted: &Emitted, keys: usize, bad: usize, case: &str) {
    let found = emitted.opened(AlertKind::Score);
    for key in (0..keys).filter(|key| *key != bad) {
        let faulty = key + 1 < keys;
        assert_eq!(found.contains(&name(key)), faulty, "{case}: key {key}");
        assert_eq!(emitted.warming(key), 2, "{case}: key {key}");
    }
    let silent = emitted.opened(AlertKind::Silence);
    assert!(silent.is_empty(), "{case}: {silent:?}");
    assert_eq!(emitted.late, 0, "{case}");
}

type Clock<'a> = (&'a str, &'a dyn Fn(i64) -> i64);

/// Clocks that are wrong, each in another way.
const CLOCKS: &[Clock<'static>] = &[
    ("55 minutes ahead", &|t| t + 55 * MINUTE),
    ("ahead from some time on", &|t| {
        if t > 40 * SECOND { t + 55 * MINUTE } else { t }
    }),
    ("ahead once", &|t| {
        if t / SECOND == 40 { t + 55 * MINUTE } else { t }
    }),
    ("in another time zone", &|t| t + HOUR),
    ("years ahead", &|t| t + 20 * YEAR),
    ("years ahead once", &|t| {
        if t / SECOND == 40 { t + 20 * YEAR } else { t }
    }),
    ("an hour behind", &|t| t - HOUR),
    ("years behind", &|t| t - 20 * YEAR),
    ("stuck", &|_| 7),
    ("all over the place", &|t| {
        t + (t / SECOND * 7919 % 7201 - 3600) * SECOND
    }),
];

#[test]
fn one_of_fifty_clocks_is_wrong_and_nobody_else_notices() {
    let late = Params {
        late_after: Some(Duration::from_secs(30)),
        ..params()
    };
    for (case, shows) in CLOCKS {
        for bad in [0, 20] {
            let sent = fleet((50, SECOND), 90, bad, shows);
            let emitted = run_by(&late, &sent, 500);
            let others: Vec<_> = emitted
                .scores
                .iter()
                .filter(|s| s.key.as_str() != name(bad))
                .collect();
            assert_eq!(others.len(), 49 * 90, "{case}");
            let silent = emitted.opened(AlertKind::Silence);
            assert!(silent.is_empty(), "{case}: {silent:?}");
            let emitted = run(&sent);
            assert_untouched(&emitted, 50, bad, case);
            assert_eq!(emitted.named(), [name(bad)], "{case}");
            // Of as many records, as many snapshots.
            assert!(emitted.snapshots <= 7, "{case}: {}", emitted.snapshots);
        }
    }
}

#[test]
fn two_keys_of_which_one_is_wrong() {
    for (case, shows) in CLOCKS {
        let emitted = run(&fleet((2, SECOND), 90, 1, shows));
        assert_eq!(
            emitted.opened(AlertKind::Score),
            BTreeSet::from([name(0)]),
            "{case}"
        );
        assert_eq!(emitted.warming(0), 2, "{case}");
        assert!(emitted.opened(AlertKind::Silence).is_empty(), "{case}");
        assert!(
            !emitted.named().contains(&"k0")
                || case.contains("behind")
                || ["stuck", "all over the place"].contains(case),
            "{case}: {:?}",
            emitted.wrong
        );
    }
}

#[test]
fn records_a_millisecond_and_an_hour_apart() {
    for every in [20, HOUR] {
        for ahead in [HOUR, 20 * YEAR] {
            let emitted = run(&fleet((20, every), 60, 3, |t| t + ahead));
            assert_untouched(&emitted, 20, 3, &format!("{every} {ahead}"));
            let named: BTreeSet<&str> = emitted.named().into_iter().collect();
            assert!(
                named.iter().all(|key| *key == "k3"),
                "{every} {ahead}: {named:?}"
            );
        }
    }
    // Once it is an hour later, with a record an hour.
    let emitted = run(&fleet((20, HOUR), 60, 3, |t| {
        if t / HOUR == 40 { t + YEAR } else { t }
    }));
    assert_untouched(&emitted, 20, 3, "once");
}

#[test]
fn who_really_falls_silent_is_told_whatever_other_clocks_show() {
    for (case, shows) in CLOCKS {
        for keys in [3, 50] {
            let mut sent = fleet((keys, SECOND), 200, 1, shows);
            for record in &mut sent {
                record.values = CALM;
            }
            // Key 2 says nothing from 100 s on; patience is a minute.
            let mut number = 0;
            let true_time: Vec<i64> = sent
                .iter()
                .map(|_| {
                    number += 1;
                    (number - 1) / keys as i64
                })
                .collect();
            let kept: Vec<(i64, Sent)> = true_time
                .into_iter()
                .zip(sent)
                .filter(|(second, record)| record.key != 2 || *second < 100)
                .collect();
            let (seconds, sent): (Vec<i64>, Vec<Sent>) = kept.into_iter().unzip();
            let emitted = run(&sent);
            let silent: Vec<&Alert> = emitted
                .alerts
                .iter()
                .filter(|alert| alert.kind == AlertKind::Silence && alert.event == AlertEvent::Open)
                .collect();
            let keys_told: Vec<&str> = silent.iter().map(|alert| alert.key.as_str()).collect();
            // With three keys one that jumps about may be taken for the time.
            if keys == 3 && *case == "all over the place" {
                assert!(keys_told.contains(&"k2"), "{case}");
                continue;
            }
            assert_eq!(keys_told, ["k2"], "{case} {keys}");
            let when = seconds[silent[0].input.offset.0 as usize];
            assert!((158..170).contains(&when), "{case} {keys}: {when}");
        }
    }
}

#[test]
fn a_key_that_catches_up_is_scored_without_a_gap() {
    let mut sent = fleet((20, SECOND), 60, 99, |t| t);
    let records = |key: usize, from: i64, to: i64| {
        (from..to).map(move |second| Sent {
            key,
            shows: second * SECOND,
            values: CALM,
        })
    };
    // Key 19 is cut off for half an hour, and then sends what it kept, with a fault in it.
    for second in 60..1800 {
        sent.extend((0..19).flat_map(|key| records(key, second, second + 1)));
    }
    let from = sent.len();
    sent.extend(records(19, 60, 1800));
    for record in &mut sent[from + 500..from + 503] {
        record.values = WILD;
    }
    for second in 1800..1900 {
        sent.extend((0..20).flat_map(|key| records(key, second, second + 1)));
    }
    let emitted = run(&sent);
    assert_eq!(emitted.warming(19), 2);
    assert!(emitted.opened(AlertKind::Score).contains("k19"));
    // It was silent, as far as one could know, once, and only it.
    let silences: Vec<(&str, AlertEvent)> = emitted
        .alerts
        .iter()
        .filter(|alert| alert.kind == AlertKind::Silence)
        .map(|alert| (alert.key.as_str(), alert.event))
        .collect();
    assert_eq!(
        silences,
        [("k19", AlertEvent::Open), ("k19", AlertEvent::Close)]
    );
    assert!(emitted.wrong.is_empty(), "{:?}", emitted.wrong);
}

#[test]
fn one_record_years_ahead_makes_nothing_late() {
    let params = Params {
        late_after: Some(Duration::from_secs(30)),
        ..params()
    };
    let sent = fleet((5, SECOND), 90, 2, |t| {
        if t / SECOND == 40 { t + 20 * YEAR } else { t }
    });
    assert_eq!(run_by(&params, &sent, 500).late, 0);
    let alone = fleet((1, SECOND), 90, 0, |t| {
        if t / SECOND == 40 { t + 20 * YEAR } else { t }
    });
    assert!(run_by(&params, &alone, 500).late <= 30);
}

#[test]
fn what_is_told_is_the_same_in_any_batch_and_after_any_restart() {
    let params = Params {
        storm_opens_max: 3,
        storm_window: Duration::from_secs(7),
        snapshot_records: 40,
        late_after: Some(Duration::from_secs(50)),
        silence_min: Duration::from_secs(4),
        ..params()
    };
    for (case, shows) in CLOCKS {
        let mut sent = fleet((12, SECOND), 60, 1, shows);
        // Some fall silent for a while.
        let mut number = 0;
        sent.retain(|record| {
            number += 1;
            !(record.key > 6 && (number / 150) % 3 == 1)
        });
        let whole = run_by(&params, &sent, sent.len());
        assert!(
            !whole.opened(AlertKind::Silence).is_empty()
                && !whole.opened(AlertKind::Storm).is_empty()
        );
        for size in [1, 7, 64] {
            let found = run_by(&params, &sent, size);
            assert_eq!(
                (&found.alerts, &found.scores, &found.wrong),
                (&whole.alerts, &whole.scores, &whole.wrong),
                "{case}: batches of {size}"
            );
        }
        for stop in [50, 130, 333, 517] {
            let found = restarted(&params, &sent, stop);
            assert_eq!(
                (&found.alerts, &found.scores),
                (&whole.alerts, &whole.scores),
                "{case}: restart at {stop}"
            );
        }
    }
}

/// In batches of 10, taken over from its state topic after `stop` records.
fn restarted(params: &Params, sent: &[Sent], stop: usize) -> Emitted {
    let mut first = pipeline(params);
    first.assign(&assignment(0, Vec::new()), None).unwrap();
    let (mut emitted, mut state) = (Emitted::default(), BTreeMap::new());
    let mut next = 0;
    while next < stop {
        let to = (next + 10).min(stop);
        let staged = stage(&first, next, &sent[next..to]);
        emitted.take(&staged);
        state.extend(
            staged
                .outbox
                .state
                .iter()
                .map(|entry| (entry.key.clone(), entry.clone())),
        );
        first.apply(staged);
        next = to;
    }
    let mut second = pipeline(params);
    let assignment = assignment(stop as i64, state.into_values().collect());
    let judging = replayed_by(&assignment)
        .unwrap()
        .and_then(|_| second.current().cloned());
    let assigned = second.assign(&assignment, judging).unwrap();
    assert_eq!(assigned.discarded, None);
    let mut next = usize::try_from(assigned.read_from.0).unwrap();
    assert!(next > 0 && next <= stop);
    while next < sent.len() {
        let to = (next + 10).min(sent.len());
        let staged = stage(&second, next, &sent[next..to]);
        emitted.take(&staged);
        second.apply(staged);
        next = to;
    }
    emitted
}

#[test]
fn what_a_storm_held_back_is_told_of_by_and_by() {
    let params = Params {
        storm_opens_max: 100,
        storm_window: Duration::from_secs(600),
        ..params()
    };
    // All of 300 keys are shifted for good, one after the other within ten minutes.
    let mut sent = Vec::new();
    for round in 0..300 {
        for key in 0..300 {
            sent.push(Sent {
                key,
                shows: round * 10 * SECOND + key as i64 * 10,
                values: if round > 60 { WILD } else { CALM },
            });
        }
    }
    let emitted = run_by(&params, &sent, 5000);
    let mut opens: BTreeMap<i64, usize> = BTreeMap::new();
    for alert in &emitted.alerts {
        if alert.event == AlertEvent::Open && alert.kind == AlertKind::Score {
            *opens
                .entry((START + sent[alert.input.offset.0 as usize].shows) / (600 * SECOND))
                .or_default() += 1;
        }
    }
    let opens: Vec<usize> = opens.into_values().collect();
    assert_eq!(opens, [100, 100, 100]);
    let storms: Vec<(AlertEvent, Option<u64>)> = emitted
        .alerts
        .iter()
        .filter(|alert| alert.kind == AlertKind::Storm)
        .map(|alert| (alert.event, alert.suppressed))
        .collect();
    assert_eq!(
        storms,
        [(AlertEvent::Open, None), (AlertEvent::Close, Some(200))]
    );
}

#[test]
fn wrong_clocks_are_shown_the_worst_first() {
    let mut pipeline = pipeline(&params());
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let mut sent = fleet((20, SECOND), 60, 3, |t| t + HOUR);
    for record in sent.iter_mut().filter(|record| record.key == 5) {
        record.shows -= 2 * HOUR;
    }
    let staged = stage(&pipeline, 0, &sent);
    pipeline.apply(staged);
    let shown = pipeline.wrong_clocks(1);
    assert_eq!((shown.ahead, shown.behind), (1, 1));
    let close = |found: u64, expected: i64| {
        assert!(found.abs_diff(expected.unsigned_abs()) < 1000, "{found}");
    };
    close(shown.most_ahead_ms, HOUR);
    close(shown.most_behind_ms, 2 * HOUR);
    assert_eq!((shown.worst.len(), &*shown.worst[0].key.0), (1, "k5"));
}
