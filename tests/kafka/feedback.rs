//! What people and programs say while the daemon runs.

use std::time::Duration;

use serde_json::Value;

use crate::binary::{self, PARTITIONS};
use crate::cluster::{self, Record};
use crate::daemon::{Daemon, Site};
use crate::plant::{self, Plant};

const MACHINES: usize = 4;
/// Records of a key by which a fault begins, and how many it lasts.
const ONSET: usize = 20;
const LASTS: usize = 12;
/// Records between the begins of two faults.
const APART: usize = 200;

/// The records of so many rows from `from` on; those of machine 0 have a fault, the same each time, from the twentieth on.
fn faulty(plant: &Plant, from: usize, rows: std::ops::Range<usize>) -> Vec<Record> {
    let mut records = plant.records(from + rows.start, from + rows.end, PARTITIONS as usize);
    let of_one = records.iter_mut().filter(|record| record.0 == Some(0));
    for (row, record) in rows.zip(of_one) {
        if (ONSET..ONSET + LASTS).contains(&row) {
            let value = record.2.as_deref().unwrap();
            let mut value: Value = serde_json::from_slice(value).unwrap();
            value["flow"] = (value["flow"].as_f64().unwrap() + 6.0).into();
            record.2 = Some(serde_json::to_vec(&value).unwrap());
        }
    }
    records
}

/// The ids of the episodes that people were told of.
fn told(site: &Site) -> Vec<String> {
    let alerts = cluster::read_committed(&site.brokers, &site.output("g", "alerts"));
    let alerts = alerts.iter().map(cluster::Seen::text);
    let alerts = alerts.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    let opened = alerts.filter(|alert| alert["event"] == "open");
    opened
        .map(|alert| alert["id"].as_str().unwrap().to_owned())
        .collect()
}

fn say(site: &Site, key: &str, value: Option<&str>) {
    let (key, value) = (
        key.as_bytes().to_vec(),
        value.map(|v| v.as_bytes().to_vec()),
    );
    let topic = site.output("g", "feedback");
    cluster::produce(&site.brokers, &topic, [(Some(0), Some(key), value, None)]);
}

/// A stream in which the same thing happens again and again.
struct Story<'a> {
    site: &'a Site,
    plant: &'a Plant,
    row: usize,
}

impl Story<'_> {
    /// It happens once more, and is over. While it lasts, `/status` says whether people are told.
    fn goes_on(&mut self, daemon: &mut Daemon, told: bool) {
        let suppressed = if told { "null" } else { "\"dismissed\"" };
        let suppressed = format!("\"suppressed\":{suppressed}");
        let middle = ONSET + LASTS / 2;
        for rows in [0..middle, middle..APART] {
            let end = self.row + rows.end;
            binary::feed(self.site, faulty(self.plant, self.row, rows));
            binary::wait_until_consumed(self.site, "g", end * MACHINES, &mut [daemon]);
            if end < self.row + APART {
                cluster::wait_for("an open episode", Duration::from_secs(60), || {
                    let status = daemon.get("/status");
                    let open = status.split("\"episodes\":").nth(1).unwrap();
                    let open = open.split("\"closed\":").next().unwrap();
                    open.contains(&suppressed)
                });
            }
        }
        self.row += APART;
    }
}

fn heard(daemon: &mut Daemon, episodes: u64) {
    cluster::wait_for("what was said is heard", Duration::from_secs(60), || {
        daemon.metric("anomalyd_feedback_episodes") == episodes
    });
}

#[test]
fn what_is_dismissed_under_way_is_held_back_until_that_is_taken_back() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(MACHINES, 1_600, 1_600);
    let site = binary::site(brokers, "said", &plant);
    let set = ["alerts.false_alarm_rate=0.00001", "alerts.cooldown=1s"];
    let start = binary::start("g", &set);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 500, PARTITIONS as usize));
    let mut daemon = site.run(start);
    cluster::wait_for("a first model", Duration::from_secs(60), || {
        daemon.metric("anomalyd_model_version") >= 1
    });
    let mut story = Story {
        site: &site,
        plant: &plant,
        row: 500,
    };
    story.goes_on(&mut daemon, true);
    let first = told(&site);
    assert_eq!(first.len(), 1);
    let id = first[0].as_str();
    // Rubbish stops nothing, and hides nothing.
    say(
        &site,
        &format!("pumps/{}/0/1", site.input()),
        Some("rubbish"),
    );
    let (code, text) = site.ask(&["episodes", "dismiss", id], start);
    assert_eq!(code, 0, "{text}");
    heard(&mut daemon, 1);
    assert_eq!(daemon.metric("anomalyd_feedback_unreadable"), 1);
    story.goes_on(&mut daemon, false);
    assert_eq!(told(&site), first);
    // A crash in between changes nothing.
    daemon.kill();
    let mut daemon = site.run(start);
    story.goes_on(&mut daemon, false);
    assert_eq!(told(&site), first);
    // A program takes it back.
    say(&site, id, None);
    heard(&mut daemon, 0);
    story.goes_on(&mut daemon, true);
    assert_eq!(told(&site).len(), 2);
    assert!(daemon.terminate().0.success());
}
