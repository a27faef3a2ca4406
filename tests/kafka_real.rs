//! The adapter and the daemon on a real Apache Kafka.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and read the clock"
)]

#[path = "kafka/avro.rs"]
mod avro;
#[path = "kafka/binary.rs"]
mod binary;
#[path = "kafka/chaos.rs"]
mod chaos;
#[path = "kafka/cluster.rs"]
mod cluster;
#[path = "kafka/daemon.rs"]
mod daemon;
#[path = "kafka/echo.rs"]
mod echo;
#[path = "kafka/endpoint.rs"]
mod endpoint;
#[path = "kafka/feedback.rs"]
mod feedback;
#[path = "kafka/formats.rs"]
mod formats;
#[path = "kafka/full_disk.rs"]
mod full_disk;
#[path = "kafka/notify.rs"]
mod notify;
#[path = "kafka/outage.rs"]
mod outage;
#[path = "kafka/past.rs"]
mod past;
#[path = "kafka/places.rs"]
mod places;
#[path = "kafka/plant.rs"]
mod plant;
#[path = "kafka/proxy.rs"]
mod proxy;
#[path = "kafka/refused.rs"]
mod refused;
#[path = "kafka/reload.rs"]
mod reload;
#[path = "kafka/rights.rs"]
mod rights;
#[path = "kafka/scaling.rs"]
mod scaling;
#[path = "kafka/seasons.rs"]
mod seasons;
#[path = "kafka/several.rs"]
mod several;
#[path = "kafka/three.rs"]
mod three;
#[path = "kafka/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anomalyd::port::{Input, Session};
use anomalyd::seed::Seed;
use anomalyd::time::{Clock, SystemClock};
use echo::{CHILD, Echo};
use rand::Rng;

const PARTITIONS: i32 = 4;

/// Not a test: the entry of child processes.
#[test]
fn echo_child() {
    if let Ok(settings) = std::env::var(CHILD) {
        let echo: Echo = serde_json::from_str(&settings).expect("settings");
        echo.run();
    }
}

fn echo(brokers: &str, name: &str, properties: &[(&str, &str)]) -> Echo {
    let echo = Echo {
        brokers: brokers.to_owned(),
        name: cluster::unique(name),
        instance: "a".to_owned(),
        workers: 2,
        exactly_once: true,
        // The last of two wins.
        properties: [("transaction.timeout.ms", "4000")]
            .iter()
            .chain(properties)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        limits: None,
    };
    cluster::create_topic(brokers, &echo.input(), PARTITIONS, &[]);
    cluster::create_topic(brokers, &echo.output(), PARTITIONS, &[]);
    let compacted = [("cleanup.policy", "compact")];
    cluster::create_topic(brokers, &echo.state(), PARTITIONS, &compacted);
    echo
}

fn feed(echo: &Echo, from: i64, to: i64) {
    let records = (from..to).flat_map(|n| {
        (0..PARTITIONS).map(move |partition| {
            let key = format!("{partition}-{}", n % 7).into_bytes();
            let value = format!("{n}").into_bytes();
            (Some(partition), Some(key), Some(value), None)
        })
    });
    cluster::produce(&echo.brokers, &echo.input(), records);
}

/// The places answered, by partition, in the order in which they were committed.
fn answers(echo: &Echo) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let mut answers: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    for seen in cluster::read_committed(&echo.brokers, &echo.output()) {
        let text = seen.text();
        let mut parts = text.split(':').map(|part| part.parse::<i64>().unwrap());
        let (partition, offset, count) = (
            parts.next().unwrap() as i32,
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        answers
            .entry(partition)
            .or_default()
            .push((offset, count as u64));
    }
    answers
}

/// How far the group has come in its slowest partition.
fn consumed(echo: &Echo) -> i64 {
    let offsets = cluster::committed(&echo.brokers, &echo.name, &echo.input(), PARTITIONS);
    offsets.into_iter().min().unwrap_or(0)
}

fn wait_until_consumed(echo: &Echo, records: i64, limit: Duration) {
    cluster::wait_for("all records consumed", limit, || consumed(echo) >= records);
}

/// Two processes of two workers; one of them is killed without warning again and again. Afterwards every record has been answered
/// once, in order for each key, and with the right count, which lives in the state topic only.
fn killed_again_and_again(name: &str, properties: &[(&str, &str)], kills: u64) {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let records = 3_000;
    let first = echo(brokers, name, properties);
    let second = Echo {
        instance: "b".to_owned(),
        ..first.clone()
    };
    feed(&first, 0, 500);
    let mut rng = Seed(11).child(name).rng();
    let mut children = [(&first, first.spawn()), (&second, second.spawn())];
    std::thread::sleep(Duration::from_secs(2));
    let share = (records - 500) / kills as i64;
    for kill in 0..kills as i64 {
        let from = 500 + kill * share;
        let to = if kill + 1 == kills as i64 {
            records
        } else {
            from + share
        };
        feed(&first, from, to);
        std::thread::sleep(Duration::from_millis(rng.gen_range(20..600)));
        let (echo, child) = &mut children[rng.gen_range(0..2)];
        child.kill();
        *child = echo.spawn();
    }
    wait_until_consumed(&first, records, Duration::from_secs(60));
    for (_, child) in &mut children {
        child.kill();
    }
    each_place_once(&first, records);
}

fn each_place_once(echo: &Echo, records: i64) {
    let answers = answers(echo);
    for partition in 0..PARTITIONS {
        let mut places = answers[&partition].clone();
        // Keys of one input partition spread over the output's partitions: order holds for each key, so sort by place.
        places.sort_unstable();
        let expected: Vec<(i64, u64)> = (0..records).map(|n| (n, n as u64)).collect();
        let lost = expected
            .iter()
            .filter(|place| places.binary_search(place).is_err())
            .count();
        assert_eq!(
            (lost, places.len()),
            (0, expected.len()),
            "partition {partition}"
        );
    }
    in_order_for_each_key(echo);
}

fn in_order_for_each_key(echo: &Echo) {
    let mut last: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for seen in cluster::read_committed(&echo.brokers, &echo.output()) {
        let offset: i64 = seen.text().split(':').nth(1).unwrap().parse().unwrap();
        let key = seen.key.unwrap();
        if let Some(before) = last.insert(key, offset) {
            assert!(before < offset, "{before} before {offset}");
        }
    }
}

#[test]
fn exactly_once_under_kill_9_with_cooperative_rebalancing() {
    killed_again_and_again("coop", &[("session.timeout.ms", "3000")], 4);
}

#[test]
fn exactly_once_under_kill_9_with_the_new_group_protocol() {
    if std::env::var("KAFKA_VERSION").is_ok_and(|version| version.starts_with("3.")) {
        eprintln!("skipped: Kafka has the new group protocol from 4.0 on");
        return;
    }
    killed_again_and_again("kip848", &[("group.protocol", "consumer")], 4);
}

#[test]
fn exactly_once_under_kill_9_with_eager_rebalancing() {
    let properties = [
        ("partition.assignment.strategy", "range"),
        ("session.timeout.ms", "4000"),
    ];
    killed_again_and_again("eager", &properties, 4);
}

/// A broker that freezes while transactions commit: answers are lost, producers are made again, and the log decides what became of each
/// transaction. The broker is this test's own, for it disturbs everyone else.
#[test]
fn exactly_once_when_answers_are_lost() {
    let Some(own) = cluster::Own::start() else {
        return;
    };
    let records = 3_000;
    let properties = [
        ("session.timeout.ms", "30000"),
        ("transaction.timeout.ms", "2000"),
    ];
    let echo = echo(&own.brokers, "frozen", &properties);
    feed(&echo, 0, records);
    let mut child = echo.spawn();
    // The first is longer than a commit waits for its answer, the second only than the transaction may last.
    for (at, freeze) in [(200, 5_500), (1_200, 2_500)] {
        cluster::wait_for("some records consumed", Duration::from_secs(60), || {
            child.must_live();
            consumed(&echo) >= at
        });
        own.freeze(Duration::from_millis(freeze));
    }
    cluster::wait_for("all records consumed", Duration::from_secs(90), || {
        child.must_live();
        consumed(&echo) == records
    });
    child.kill();
    each_place_once(&echo, records);
}

/// A proxy that loses requests, answers and connections, and delays answers, of each call of a transaction: `each` times.
fn lost_by_a_proxy(seed: u64, each: u32) -> Option<BTreeMap<String, u32>> {
    let (proxy, listener) = proxy::Proxy::bind(seed);
    let own = cluster::Own::behind(&proxy.address)?;
    proxy.toward(listener, &own.brokers);
    let properties = [
        ("session.timeout.ms", "6000"),
        ("transaction.timeout.ms", "2000"),
    ];
    let first = Echo {
        limits: Some((500, 5_000)),
        ..echo(&proxy.address, "proxy", &properties)
    };
    let mut members = first.three();
    proxy.disturb(each);
    let mut records = 0;
    // There is always something to read while calls are disturbed.
    cluster::wait_for("all calls disturbed", Duration::from_secs(480), || {
        if records - consumed(&first) < 200 {
            feed(&first, records, records + 200);
            records += 200;
        }
        proxy.left() == 0
    });
    wait_until_consumed(&first, records, Duration::from_secs(90));
    for (_, child) in &mut members {
        child.must_live();
        child.kill();
    }
    each_place_once(&first, records);
    let mut counts = proxy.counts();
    for (echo, _) in &members {
        let log = std::fs::read_to_string(echo.log()).expect("a log");
        for outcome in ["Committed", "Aborted", "Unknown"] {
            let found = log.matches(&format!("outcome={outcome}")).count();
            *counts.entry(format!("asked for: {outcome}")).or_default() += found as u32;
        }
    }
    Some(counts)
}

#[test]
fn exactly_once_when_a_proxy_loses_what_is_said_of_transactions() {
    if let Some(counts) = lost_by_a_proxy(5, 8) {
        eprintln!("{counts:?}");
    }
}

#[test]
#[ignore = "minutes: `make chaos`"]
fn chaos_of_lost_answers() {
    if let Some(counts) = lost_by_a_proxy(7, 60) {
        eprintln!("{counts:?}");
        for outcome in ["Committed", "Aborted"] {
            let found = counts[&format!("asked for: {outcome}")];
            assert!(found > 0, "no transaction was found {outcome}");
        }
    }
}

#[test]
fn at_least_once_loses_nothing_when_killed() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let echo = Echo {
        exactly_once: false,
        ..echo(brokers, "atleast", &[("session.timeout.ms", "3000")])
    };
    feed(&echo, 0, 1_000);
    let mut child = echo.spawn();
    cluster::wait_for("work half-done", Duration::from_secs(30), || {
        consumed(&echo) >= 50
    });
    child.kill();
    let mut child = echo.spawn();
    wait_until_consumed(&echo, 1_000, Duration::from_secs(60));
    child.kill();
    for (partition, mut places) in answers(&echo) {
        places.dedup_by_key(|(offset, _)| *offset);
        let mut offsets: Vec<i64> = places.iter().map(|(offset, _)| *offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), 1_000, "partition {partition}");
    }
}

/// Control markers lie after the last record of a transactional input, and are no records that anyone waits for.
#[test]
fn lag_of_an_idle_transactional_input_is_nothing() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let echo = echo(brokers, "markers", &[]);
    for n in 0..4 {
        let records = (0..10).map(|n: i32| {
            let value = Some(n.to_string().into_bytes());
            (Some(n % PARTITIONS), None, value, None)
        });
        cluster::produce_in_transaction(brokers, &echo.input(), records, n != 3);
    }
    let mut session = echo.session(0).unwrap();
    let clock = SystemClock::default();
    let (mut read, mut idle) = (0, None);
    let limit = Instant::now() + Duration::from_secs(60);
    // Statistics come every two seconds: some of them after the last record.
    while idle.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(5)) {
        assert!(Instant::now() < limit, "{read} records read");
        match session
            .next(clock.now().plus(Duration::from_millis(100)))
            .unwrap()
        {
            Input::Batch(batch) => read += batch.len(),
            Input::Assigned(assignments) => {
                let start = assignments
                    .iter()
                    .map(|assignment| (assignment.at.clone(), assignment.committed));
                session.rewind(&start.collect()).unwrap();
            }
            Input::Revoked(_) | Input::OffsetOutOfRange(_) | Input::Idle => {}
        }
        if read == 30 {
            idle.get_or_insert_with(Instant::now);
        }
    }
    let lag: Vec<u64> = session.lag().into_values().collect();
    assert_eq!(lag, [0; PARTITIONS as usize]);
}
