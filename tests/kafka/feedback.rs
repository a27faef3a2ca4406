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

/// What the API tells of an episode, and what can be done by it alone: the episode is dismissed, after all that cannot be done was tried.
fn by_http(site: &Site, daemon: &Daemon, id: &str) {
    let post = |path: &str, token: &str| {
        let (code, text) = daemon.post(&format!("/api/v1/{path}"), token).unwrap();
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        (code, body.to_owned())
    };
    let right = "0123456789abcdef";
    assert_eq!(post(&format!("episodes/{id}/dismiss"), "wrong").0, 401);
    assert_eq!(post("episodes/pumps/x/0/1/dismiss", right).0, 404);
    let undo = post(&format!("episodes/{id}/dismiss?undo=true"), right);
    assert!(
        undo.0 == 409 && undo.1.contains("nothing to take back"),
        "{undo:?}"
    );
    let (code, episode) = daemon.ask(&format!("/api/v1/episodes/{id}")).unwrap();
    assert!(
        code == 200 && episode.contains("\"cause\":\"flow "),
        "{episode}"
    );
    let address = format!("https://plant.example/episode/{id}");
    assert!(episode.contains(&address), "{episode}");
    let alerts = cluster::read_committed(&site.brokers, &site.output("g", "alerts"));
    assert!(alerts[0].text().contains(&address));
    let (code, models) = daemon.ask("/api/v1/models").unwrap();
    assert!(code == 200 && models.contains("\"in_use\":1"), "{models}");
    assert_eq!(post("models/1/promote", right).0, 200);
    assert_eq!(post("models/77/promote", right).0, 404);
    assert_eq!(post("models/rollback", right).0, 409);
    let (code, text) = post(&format!("episodes/{id}/dismiss"), right);
    assert!(code == 200 && text.contains("training learns"), "{text}");
}

#[test]
fn what_is_dismissed_under_way_is_held_back_until_that_is_taken_back() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(MACHINES, 1_600, 1_600);
    let site = binary::site(brokers, "said", &plant);
    let set = [
        "alerts.false_alarm_rate=0.00001",
        "alerts.cooldown=1s",
        "http.token=0123456789abcdef",
        "http.public_url=https://plant.example",
    ];
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
    by_http(&site, &daemon, id);
    let (code, text) = site.ask(&["episodes", "list"], start);
    assert!(
        code == 0 && text.contains("learnt: false positive"),
        "{text}"
    );
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
    let runs = daemon.metric("anomalyd_training_runs_total");
    let (code, _) = daemon.post("/api/v1/retrain", "0123456789abcdef").unwrap();
    assert_eq!(code, 202);
    cluster::wait_for("a training", Duration::from_secs(60), || {
        daemon.metric("anomalyd_training_runs_total") > runs
    });
    one_that_training_knows_no_more_is_judged(&site, &mut daemon, start);
    assert!(daemon.terminate().0.success());
}

/// Only its alerts know of it: it counts as judged, and that is all.
fn one_that_training_knows_no_more_is_judged(
    site: &Site,
    daemon: &mut Daemon,
    start: crate::daemon::Start<'_>,
) {
    let (alerts, id) = (
        site.output("g", "alerts"),
        format!("pumps/{}/0/3", site.input()),
    );
    let seen = &cluster::read_committed(&site.brokers, &alerts)[0];
    let mut alert: Value = serde_json::from_str(&seen.text()).unwrap();
    alert["id"] = id.as_str().into();
    let value = serde_json::to_vec(&alert).unwrap();
    let key = seen.key.clone();
    cluster::produce(&site.brokers, &alerts, [(Some(0), key, Some(value), None)]);
    let list = || {
        let (code, text) = site.ask(&["episodes", "list"], start);
        assert_eq!(code, 0, "{text}");
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{id} ")));
        line.map(str::to_owned).unwrap_or_default()
    };
    assert!(list().ends_with("older than what is read"));
    let path = format!("/api/v1/episodes/{id}/confirm");
    let (code, text) = daemon.post(&path, "0123456789abcdef").unwrap();
    assert!(code == 200 && text.contains("nothing follows"), "{text}");
    heard(daemon, 1);
    assert!(list().ends_with("older than what is read: true positive"));
    let (code, text) = site.ask(&["episodes", "confirm", &id, "--undo"], start);
    assert!(code == 0 && text.contains("judged no more"), "{text}");
    heard(daemon, 0);
}
