//! Several detectors in one process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::binary::{PARTITIONS, feed, lost_and_twice, site, start};
use crate::cluster;
use crate::daemon::{Daemon, Site};
use crate::plant::{self, Plant};

/// There are never enough records for a first model: the cold start judges, in every process alike.
pub const UNTRAINED: [&str; 2] = ["training.rows_min=100000000", "training.rows_max=100000000"];

/// Two read one topic, by other keys and budgets; one reads a topic that is not there.
fn write(site: &Site) {
    let file = site.path("site.toml");
    let shared = std::fs::read_to_string(&file).expect("the configuration");
    let text = shared.replace("name = \"pumps\"", "")
        + &format!(
            r#"
            [[detector]]
            name = "machines"
            [[detector]]
            name = "halls"
            alerts.false_alarm_rate = 0.05
            input.key = "hall"
            [[detector]]
            name = "nowhere"
            input.topics = ["{}.nowhere"]
            "#,
            site.name
        );
    std::fs::write(file, text).expect("written");
}

fn records(plant: &Plant, from: usize, to: usize) -> Vec<cluster::Record> {
    let records = plant.records(from, to, PARTITIONS as usize);
    let with_hall = |record: cluster::Record| {
        let (partition, key, value, time) = record;
        let mut object: Value = serde_json::from_slice(&value.expect("a value")).expect("JSON");
        object["hall"] = format!("hall-{}", partition.unwrap_or(0)).into();
        let value = serde_json::to_vec(&object).expect("JSON");
        (partition, key, Some(value), time)
    };
    records.into_iter().map(with_hall).collect()
}

/// Scores or alerts of a detector, by key.
fn told(site: &Site, group: &str, which: &str, detector: &str) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut by_key: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for seen in cluster::read_committed(&site.brokers, &site.output(group, which)) {
        let text = seen.text();
        let value: Value = serde_json::from_str(&text).expect("JSON");
        if value["detector"] == detector {
            by_key
                .entry(seen.key.unwrap_or_default())
                .or_default()
                .push(text);
        }
    }
    by_key
}

fn consumed(site: &Site, group: &str, detector: &str) -> i64 {
    let group = format!("{}.{detector}", site.group(group));
    let all = cluster::committed(&site.brokers, &group, &site.input(), PARTITIONS);
    all.iter().map(|offset| offset.max(&0)).sum()
}

fn wait_until_consumed(site: &Site, group: &str, records: i64, daemon: &mut Daemon) {
    cluster::wait_for("all records consumed", Duration::from_secs(240), || {
        daemon.must_live();
        ["machines", "halls"]
            .iter()
            .all(|detector| consumed(site, group, detector) >= records)
    });
}

fn json(daemon: &mut Daemon, page: &str) -> Value {
    let text = daemon.get(page);
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn one_that_fails_keeps_no_other_from_publishing_exactly_once() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(8, 500, 200);
    let site = site(brokers, "several", &plant);
    write(&site);
    let set = [UNTRAINED[0], UNTRAINED[1], "batch.records_max=40"];
    cluster::create_topic(brokers, &site.input(), PARTITIONS, &[]);
    for group in ["calm", "killed"] {
        // What one writes is what all write.
        let words = ["topics", "create", "--detector", "machines"];
        let (code, text) = Site::answer(site.several(&words, start(group, &[])));
        assert_eq!(code, 0, "{text}");
    }
    feed(&site, records(&plant, 0, 500));

    let run = || {
        let start = start("killed", &set);
        site.begin(site.several(&["run"], start), start)
    };
    let mut daemon = run();
    for part in 1..4 {
        cluster::wait_for("some records consumed", Duration::from_secs(120), || {
            daemon.must_live();
            consumed(&site, "killed", "machines") > part * 900
        });
        daemon.kill();
        daemon = run();
    }
    wait_until_consumed(&site, "killed", 8 * 500, &mut daemon);

    each_line_names_its_detector(&mut daemon);
    what_failed_is_said(&mut daemon);
    it_begins_once_its_topic_is_there(&site, &mut daemon);
    let (ended, took) = daemon.terminate();
    assert!(
        ended.success() && took < Duration::from_secs(5),
        "{ended} after {took:?}"
    );

    as_each_by_itself(&site);
}

/// Also of a process that has just begun: those before it may have read all records.
fn each_line_names_its_detector(daemon: &mut Daemon) {
    for message in ["started", "partition assigned"] {
        for detector in ["machines", "halls"] {
            let line = format!(" of{{detector={detector}}}: {message} ");
            cluster::wait_for(&line, Duration::from_secs(60), || {
                daemon.must_live();
                daemon.log().contains(&line)
            });
        }
        let log = daemon.log();
        let mut lines = log.lines().filter(|line| line.contains(message));
        assert!(lines.all(|line| line.contains(" of{detector=")), "{log}");
    }
}

/// What failed is said, by its name, and what did not is ready.
fn what_failed_is_said(daemon: &mut Daemon) {
    // Kafka's client takes its time to say that a topic is not there.
    cluster::wait_for("a failure", Duration::from_secs(90), || {
        let page = daemon.get("/metrics");
        page.contains("anomalyd_detector_up{detector=\"nowhere\"} 0")
    });
    let metrics = daemon.get("/metrics");
    let up = |name: &str| format!("anomalyd_detector_up{{detector=\"{name}\"}} ");
    assert!(metrics.contains(&(up("nowhere") + "0")), "{metrics}");
    assert!(metrics.contains(&(up("halls") + "1")) && metrics.contains(&(up("machines") + "1")));
    assert!(metrics.contains("anomalyd_records_consumed_total{detector=\"halls\"}"));
    let help = "# HELP anomalyd_records_consumed_total";
    assert_eq!(metrics.matches(help).count(), 1);
    let status = json(daemon, "/status");
    let of = |name: &str| {
        let all = status["detectors"].as_array().expect("a list");
        all.iter().find(|one| one["detector"] == name).cloned()
    };
    let nowhere = of("nowhere").expect("its status");
    let waiting = nowhere["waiting"].as_str().expect("why");
    assert!(
        waiting.starts_with("failed: ") && waiting.contains("nowhere"),
        "{waiting}"
    );
    assert_eq!(of("halls").expect("its status")["ready"], true);
    assert_eq!(json(daemon, "/d/halls/api/v1/status")["detector"], "halls");
    assert!(daemon.get("/readyz").contains("ok") && daemon.get("/healthz").contains("ok"));
    assert!(daemon.get("/").contains("src=\"/assets/several.js\""));
    assert_eq!(daemon.ask("/d/machines").expect("a page").0, 200);
}

/// Once the topic is there, the third begins, without a restart of the process.
fn it_begins_once_its_topic_is_there(site: &Site, daemon: &mut Daemon) {
    cluster::create_topic(&site.brokers, &format!("{}.nowhere", site.name), 1, &[]);
    daemon.signal("-HUP");
    cluster::wait_for("the third", Duration::from_secs(60), || {
        let all = json(daemon, "/status");
        let mut all = all["detectors"].as_array().expect("a list").iter();
        all.any(|one| one["detector"] == "nowhere" && one["ready"] == true)
    });
}

/// One by itself, to which nothing happens, publishes what it did among others.
fn as_each_by_itself(site: &Site) {
    for detector in ["machines", "halls"] {
        let start = start("calm", &UNTRAINED);
        let own = ["run", "--detector", detector];
        let mut calm = site.begin(site.several(&own, start), start);
        cluster::wait_for("all records consumed", Duration::from_secs(120), || {
            calm.must_live();
            consumed(site, "calm", detector) >= 8 * 500
        });
        assert!(calm.terminate().0.success());
        for which in ["alerts", "scores"] {
            let [expected, found] =
                ["calm", "killed"].map(|group| told(site, group, which, detector));
            let many: usize = expected.values().map(Vec::len).sum();
            eprintln!("{detector}: {many} {which}");
            assert!(many > 0, "{detector} {which}");
            assert_eq!(
                lost_and_twice(&expected, &found),
                (0, 0),
                "{detector} {which}"
            );
            assert!(expected == found, "the order of {which} of {detector}");
        }
    }
}
