//! `anomalyd notify` on a real Kafka: nobody is told of what is old, nothing is lost under kills and endpoints that fail, and it ends in order.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster;
use crate::daemon::{Daemon, Site, Start};
use crate::endpoint::{Answer, Endpoint};

const GROUP: &str = "a";
const PARTITIONS: i32 = 3;

struct Scene {
    site: Site,
    endpoint: Endpoint,
    set: Vec<String>,
}

fn good() -> Answer {
    Answer::Status(200, "ok".to_owned())
}

impl Scene {
    /// With an alerts topic that has one old alert.
    fn new(brokers: &str, name: &str, more: &str) -> Self {
        let site = Site::new(brokers, name, PARTITIONS, &["x"]);
        let endpoint = Endpoint::start(good());
        let url = endpoint.url();
        let set = vec![format!(
            "notify=[{{ kind = \"webhook\", url = \"{url}\", group_wait = \"100ms\", {more} }}]"
        )];
        let alerts = site.output(GROUP, "alerts");
        cluster::create_topic(brokers, &alerts, PARTITIONS, &[]);
        let scene = Self {
            site,
            endpoint,
            set,
        };
        scene.tell(["old"]);
        scene
    }

    /// Publishes openings of episodes of these keys.
    fn tell<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        let records = keys.into_iter().map(|key| {
            let value = alert(key).to_string().into_bytes();
            (None, Some(key.as_bytes().to_vec()), Some(value), None)
        });
        let topic = self.site.output(GROUP, "alerts");
        cluster::produce(&self.site.brokers, &topic, records);
    }

    fn start(&self, instance: &str) -> Daemon {
        let set: Vec<&str> = self.set.iter().map(String::as_str).collect();
        let start = Start {
            group: GROUP,
            instance,
            set: &set,
        };
        self.site.spawn("notify", start)
    }

    /// The keys of which the endpoint has taken a message.
    fn told(&self) -> BTreeSet<String> {
        let taken = self.endpoint.asked();
        let taken = taken.iter().filter(|asked| asked.status == 200);
        taken
            .flat_map(|asked| {
                let body: Value = serde_json::from_str(&asked.body).unwrap();
                let alerts = body["alerts"].as_array().unwrap().clone();
                alerts
                    .into_iter()
                    .map(|alert| alert["key"].as_str().unwrap().to_owned())
            })
            .collect()
    }
}

fn alert(key: &str) -> Value {
    json!({
        "schema": 1, "id": format!("pumps/in/0/{key}"), "event": "open", "kind": "score", "detector": "pumps", "key": key,
        "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
        "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
        "p_value": 1e-9, "threshold": 2.0, "records": 41, "model_version": 1,
        "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1,
        "relevant_attribution": [{"feature": "x", "share": 1.0, "actual": 61.0, "expected": 49.2}],
        "input": {"topic": "in", "partition": 0, "offset": 1},
    })
}

#[test]
fn what_comes_is_told_and_what_is_old_is_not_and_it_ends_in_order() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let scene = Scene::new(brokers, "notify", "secret = \"a-secret-key\"");
    let mut notifier = scene.start("a");
    notifier.wait_until_ready();
    scene.tell(["P-1", "P-2"]);
    let all = |keys: &[&str]| {
        keys.iter()
            .map(|key| (*key).to_owned())
            .collect::<BTreeSet<_>>()
    };
    cluster::wait_for("both are told", Duration::from_secs(30), || {
        scene.told() == all(&["P-1", "P-2"])
    });
    assert!(scene.endpoint.asked()[0].headers["webhook-signature"].starts_with("v1,"));
    assert!(notifier.get("/healthz").ends_with("ok\n"));
    assert_eq!(notifier.metric("anomalyd_notify_alerts_total"), 2);
    let status = notifier.get("/status");
    assert!(status.contains(r#""kind":"webhook","#), "{status}");
    let (ended, _) = notifier.terminate();
    assert_eq!(ended.code(), Some(0), "{}", notifier.log());
    // What comes while it is away is told when it is back, and nothing twice.
    scene.tell(["P-3"]);
    let mut notifier = scene.start("a");
    cluster::wait_for("the third is told", Duration::from_secs(30), || {
        notifier.must_live();
        scene.told() == all(&["P-1", "P-2", "P-3"])
    });
    let (ended, _) = notifier.terminate();
    assert_eq!(ended.code(), Some(0), "{}", notifier.log());
    let alerts: usize = scene
        .endpoint
        .asked()
        .iter()
        .map(|asked| asked.body.matches("\"event\"").count())
        .sum();
    assert_eq!(alerts, 3);
    let log = notifier.log();
    assert!(!log.contains("a-secret-key"), "{log}");
}

#[test]
fn nothing_is_lost_when_it_is_killed_and_the_endpoint_fails() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let more = "timeout = \"500ms\", rate_limit = \"1000/second\"";
    let scene = Scene::new(brokers, "notify-kill", more);
    let mut notifier = scene.start("a");
    notifier.wait_until_ready();
    let keys: Vec<String> = (0..120).map(|number| format!("P-{number}")).collect();
    let answers = [
        good(),
        Answer::Status(503, String::new()),
        Answer::Hang,
        Answer::Later(1),
        Answer::HangUp,
        good(),
    ];
    for (keys, answer) in keys.chunks(20).zip(answers) {
        scene.endpoint.answer(answer);
        let before = scene.endpoint.asked().len();
        scene.tell(keys.iter().map(String::as_str));
        // In the middle of it: a request was made, whatever came of it.
        cluster::wait_for("a request", Duration::from_secs(60), || {
            notifier.must_live();
            before < scene.endpoint.asked().len()
        });
        notifier.kill();
        notifier = scene.start("a");
    }
    let expected: BTreeSet<String> = keys.into_iter().collect();
    cluster::wait_for("all are told", Duration::from_secs(90), || {
        notifier.must_live();
        scene.told() == expected
    });
    notifier.wait_until_ready();
    let (ended, _) = notifier.terminate();
    assert_eq!(ended.code(), Some(0), "{}", notifier.log());
}

#[test]
fn a_second_process_takes_over_and_a_configuration_without_endpoints_is_refused() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let mut scene = Scene::new(brokers, "notify-two", "timeout = \"1s\"");
    let (mut first, mut second) = (scene.start("a"), scene.start("b"));
    first.wait_until_ready();
    second.wait_until_ready();
    first.kill();
    scene.tell(["P-1", "P-2", "P-3", "P-4", "P-5"]);
    cluster::wait_for("all are told", Duration::from_secs(60), || {
        second.must_live();
        scene.told().len() == 5
    });
    let (ended, _) = second.terminate();
    assert_eq!(ended.code(), Some(0), "{}", second.log());
    scene.set = vec!["notify=[]".to_owned()];
    let mut none = scene.start("c");
    assert_eq!(none.ended(Duration::from_secs(20)).code(), Some(78));
    drop(none);
}
