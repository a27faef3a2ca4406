//! Records in Avro by a schema registry, which the program waits for.

use std::time::Duration;

use crate::binary::{self, NO_TRAINING, start};
use crate::cluster;
use crate::daemon::Site;
use crate::endpoint::{Answer, Endpoint};

const SCHEMA: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"note\",\"type\":\"string\"},{\"name\":\"x\",\"type\":\"double\"}]}"}"#;

/// A value with the schema 7.
fn reading(number: u32) -> Vec<u8> {
    let mut value = vec![0, 0, 0, 0, 7, 4, b'o', b'k'];
    value.extend(f64::from(number % 10).to_le_bytes());
    value
}

#[test]
fn records_in_avro_wait_for_the_registry_and_an_unknown_schema_is_a_dead_letter() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let site = Site::new(brokers, "avro", 2, &["x"]);
    let registry = Endpoint::start(Answer::Status(503, "starting".to_owned()));
    let url = format!("registry.url={}", registry.url());
    let set = [
        "input.format=avro",
        url.as_str(),
        "registry.user=me",
        "registry.password=hunter2",
        NO_TRAINING,
    ];
    let start = start("a", &set);
    site.create_topics(start);
    let records = (0..400).map(|number| {
        let key = format!("P-{}", number % 3).into_bytes();
        (None, Some(key), Some(reading(number)), None)
    });
    binary::feed(&site, records.collect());
    let mut daemon = site.run(start);
    cluster::wait_for("it says what it waits for", Duration::from_secs(60), || {
        daemon.must_live();
        let status = daemon.ask("/status");
        status.is_some_and(|(_, text)| text.contains("it answers 503: starting"))
    });
    assert_eq!(daemon.metric("anomalyd_worker_waits"), 1);
    assert_eq!(daemon.metric("anomalyd_records_consumed_total"), 0);
    registry.answer(Answer::Status(200, SCHEMA.to_owned()));
    binary::wait_until_consumed(&site, "a", 400, &mut [&mut daemon]);
    assert_eq!(daemon.metric("anomalyd_worker_waits"), 0);
    assert_eq!(daemon.metric("anomalyd_records_dead_lettered_total"), 0);
    // The metrics follow the commit.
    cluster::wait_for("all are counted", Duration::from_secs(20), || {
        daemon.metric("anomalyd_records_consumed_total") == 400
    });
    let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
    registry.answer(Answer::Status(404, unknown.to_owned()));
    let mut other = reading(1);
    other[4] = 8;
    binary::feed(
        &site,
        vec![(None, Some(b"P-1".to_vec()), Some(other), None)],
    );
    cluster::wait_for("a dead letter", Duration::from_secs(60), || {
        daemon.must_live();
        cluster::read_committed(&site.brokers, &site.output("a", "dead")).len() == 1
    });
    let (ended, _) = daemon.terminate();
    assert_eq!(ended.code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("hunter2"));
}

/// Gives a schema to the registry at `url`. Answers its id.
fn register(url: &str, subject: &str, schema: &str) -> u32 {
    let body = serde_json::json!({ "schema": schema }).to_string();
    let address = format!("{url}/subjects/{subject}/versions");
    let request = ureq::post(address).header("Content-Type", "application/json");
    let mut answer = request.send(&body).expect("it is taken");
    let answer = answer.body_mut().read_to_string().expect("an answer");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    answer["id"].as_u64().expect("an id") as u32
}

#[test]
fn a_real_registry_gives_the_schemas_of_records_whose_fields_come_and_go() {
    let Ok(url) = std::env::var("ANOMALYD_TEST_REGISTRY") else {
        eprintln!("skipped: ANOMALYD_TEST_REGISTRY names no schema registry");
        return;
    };
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let site = Site::new(brokers, "avro-real", 2, &["x", "inner.y"]);
    let subject = cluster::unique("avro-value");
    let earlier = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"double"},{"name":"gone","type":"string"}]}"#;
    let later = r#"{"type":"record","name":"R","fields":[{"name":"gone","type":"string","default":""},{"name":"x","type":["double","null"]},
        {"name":"inner","type":{"type":"record","name":"I","fields":[{"name":"y","type":"long"}]},"default":{"y":0}}]}"#;
    let ids = [earlier, later].map(|schema| register(&url, &subject, schema).to_be_bytes());
    assert_ne!(ids[0], ids[1]);
    let value = |number: u32| {
        let x = f64::from(number % 10).to_le_bytes();
        let body = if number.is_multiple_of(2) {
            [&x[..], &[4], b"ok"].concat()
        } else {
            [&[4][..], b"ok", &[0], &x, &[6]].concat()
        };
        [&[0], &ids[(number % 2) as usize][..], &body].concat()
    };
    let registry = format!("registry.url={url}");
    let set = ["input.format=avro", registry.as_str(), NO_TRAINING];
    let start = start("a", &set);
    site.create_topics(start);
    let records = (0..300).map(|number| (None, Some(b"P-1".to_vec()), Some(value(number)), None));
    binary::feed(&site, records.collect());
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "a", 300, &mut [&mut daemon]);
    cluster::wait_for("all are counted", Duration::from_secs(20), || {
        daemon.metric("anomalyd_records_consumed_total") == 300
    });
    assert_eq!(daemon.metric("anomalyd_records_dead_lettered_total"), 0);
    // The registry has no such schema.
    let mut other = value(0);
    other[1..5].copy_from_slice(&0x7fff_fff0_u32.to_be_bytes());
    binary::feed(&site, vec![(None, None, Some(other), None)]);
    cluster::wait_for("a dead letter", Duration::from_secs(60), || {
        daemon.must_live();
        cluster::read_committed(&site.brokers, &site.output("a", "dead")).len() == 1
    });
}
