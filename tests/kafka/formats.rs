//! Alerts, scores and drift in Avro and Protobuf: they say what JSON says, and who reads alerts here reads them all.

use std::time::Duration;

use serde_json::json;

use crate::binary::{self, NO_TRAINING, PARTITIONS, start};
use crate::cluster;
use crate::daemon::{Site, Start};
use crate::endpoint::{Answer, Endpoint};
use crate::plant::{self, Plant};

const MACHINES: usize = 4;
const CALM: usize = 500;
const ROWS: usize = 800;
/// The ids of the schemas of alerts, scores and drift.
const IDS: [u32; 3] = [7, 8, 9];

/// Lets the registry give out the schemas of what a group writes.
fn serve(registry: &Endpoint, site: &Site, group: &str, (kind, ending): (&str, &str)) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas");
    for (id, (topic, name)) in
        IDS.into_iter()
            .zip([("alerts", "alert"), ("scores", "score"), ("drift", "drift")])
    {
        let answer = |json: serde_json::Value| Answer::Status(200, json.to_string());
        let subject = format!("{}-value", site.output(group, topic));
        let path = format!("/token/subjects/{subject}/versions");
        registry.answer_at(&path, answer(json!({ "id": id })));
        let text = std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap();
        let schema = answer(json!({"schema": text, "schemaType": kind}));
        registry.answer_at(&format!("/token/schemas/ids/{id}"), schema);
    }
}

/// A site whose calm records are in the log, with a model of them.
fn trained(brokers: &str, name: &str) -> (Site, Plant) {
    let plant = plant::seeded(MACHINES, ROWS, CALM);
    let site = binary::site(brokers, name, &plant);
    site.create_topics(start("first", &[]));
    binary::feed(&site, plant.records(0, CALM, PARTITIONS as usize));
    binary::train_first(&site);
    (site, plant)
}

/// What people are told of a group's alerts.
fn told(site: &Site, start: Start<'_>) -> Vec<String> {
    let words = ["alerts", "tail", "--no-follow", "--json", "--last", "10000"];
    let (code, text) = site.ask(&words, start);
    assert_eq!(code, 0, "{text}");
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn alerts_in_avro_and_protobuf_say_what_they_say_in_json() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let (site, plant) = trained(brokers, "formats");
    binary::feed(&site, plant.records(CALM, ROWS, PARTITIONS as usize));
    let judged = |group: &str, set: &[&str]| {
        let start = start(group, set);
        site.create_topics(start);
        binary::give_models(&site, group);
        let mut daemon = site.run(start);
        binary::wait_until_consumed(&site, group, ROWS * MACHINES, &mut [&mut daemon]);
        let (ended, _) = daemon.terminate();
        assert_eq!(ended.code(), Some(0), "{}", daemon.log());
        told(&site, start)
    };
    let json = judged("json", &[NO_TRAINING]);
    assert!(!json.is_empty());
    for (group, kind, ending) in [("avro", "AVRO", "avsc"), ("protobuf", "PROTOBUF", "proto")] {
        let registry = Endpoint::start(Answer::Status(503, "starting".to_owned()));
        serve(&registry, &site, group, (kind, ending));
        let format = format!("output.format={group}");
        let url = format!("registry.url={}", registry.url());
        let set = [NO_TRAINING, &format, &url];
        assert_eq!(judged(group, &set), json, "{group}");
        for (id, topic) in IDS.into_iter().zip(["alerts", "scores", "drift"]) {
            let seen = cluster::read_committed(brokers, &site.output(group, topic));
            let begins = [&[0][..], &id.to_be_bytes()].concat();
            let of_it = |value: &Option<Vec<u8>>| {
                let value = value.as_deref().unwrap_or_default();
                value.starts_with(&begins)
            };
            assert!(seen.iter().all(|seen| of_it(&seen.value)), "{topic}");
        }
        let scores = cluster::read_committed(brokers, &site.output(group, "scores"));
        assert_eq!(scores.len(), ROWS * MACHINES);
    }
}

#[test]
fn a_daemon_waits_for_the_registry_at_the_start_and_an_endpoint_is_told_of_what_it_wrote() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let (site, plant) = trained(brokers, "formats-notify");
    let registry = Endpoint::start(Answer::Status(503, "starting".to_owned()));
    let endpoint = Endpoint::start(Answer::Status(200, "ok".to_owned()));
    let url = format!("registry.url={}", registry.url());
    let notify = format!(
        "notify=[{{ kind = \"webhook\", url = \"{}\", group_wait = \"100ms\" }}]",
        endpoint.url()
    );
    let set = [NO_TRAINING, "output.format=avro", &url, &notify];
    let start = start("g", &set);
    site.create_topics(start);
    binary::give_models(&site, "g");
    let mut daemon = site.run(start);
    cluster::wait_for("it says what it waits for", Duration::from_secs(60), || {
        daemon.must_live();
        daemon.log().contains("it answers 503: starting")
    });
    serve(&registry, &site, "g", ("AVRO", "avsc"));
    let mut notifier = site.spawn(
        "notify",
        Start {
            instance: "n",
            ..start
        },
    );
    notifier.wait_until_ready();
    binary::feed(&site, plant.records(CALM, ROWS, PARTITIONS as usize));
    binary::wait_until_consumed(&site, "g", ROWS * MACHINES, &mut [&mut daemon]);
    let alerts = cluster::read_committed(brokers, &site.output("g", "alerts")).len();
    assert!(alerts > 0);
    cluster::wait_for("all are told", Duration::from_secs(60), || {
        notifier.must_live();
        let asked = endpoint.asked();
        let told = asked
            .iter()
            .map(|asked| asked.body.matches("\"event\"").count());
        alerts <= told.sum()
    });
    assert!(!notifier.log().contains("no alert"), "{}", notifier.log());
    for running in [&mut daemon, &mut notifier] {
        let (ended, _) = running.terminate();
        assert_eq!(ended.code(), Some(0), "{}", running.log());
    }
}

#[test]
fn a_real_registry_gives_the_ids_of_our_schemas_and_the_schemas_of_our_alerts() {
    let Ok(url) = std::env::var("ANOMALYD_TEST_REGISTRY") else {
        eprintln!("skipped: ANOMALYD_TEST_REGISTRY names no schema registry");
        return;
    };
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let (site, plant) = trained(brokers, "formats-real");
    binary::feed(&site, plant.records(CALM, ROWS, PARTITIONS as usize));
    let url = format!("registry.url={url}");
    for format in ["avro", "protobuf"] {
        let output = format!("output.format={format}");
        let looked_up = "output.register_schemas=false";
        let strict = [NO_TRAINING, &output, &url, looked_up];
        let strict = start(format, &strict);
        site.create_topics(strict);
        binary::give_models(&site, format);
        // Nobody has registered them, and then the daemon has.
        let (code, text) = site.ask(&["validate", "--connect"], strict);
        assert!(
            code == 78 && text.contains("-value`: it has not"),
            "{code} {text}"
        );
        let (ended, log) = {
            let mut refused = site.run(strict);
            (refused.ended(Duration::from_secs(60)), refused.log())
        };
        assert_eq!(ended.code(), Some(78), "{log}");
        let set = [NO_TRAINING, &output, &url];
        let mut daemon = site.run(start(format, &set));
        binary::wait_until_consumed(&site, format, ROWS * MACHINES, &mut [&mut daemon]);
        let (ended, _) = daemon.terminate();
        assert_eq!(ended.code(), Some(0), "{}", daemon.log());
        assert!(!told(&site, strict).is_empty());
        let (code, text) = site.ask(&["validate", "--connect"], strict);
        assert_eq!(code, 0, "{text}");
    }
}
