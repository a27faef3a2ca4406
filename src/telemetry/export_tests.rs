//! Against an endpoint of this machine that takes, refuses, wants patience and hangs.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};

use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::Value;

use super::super::trace::{Origin, Tracer};
use super::*;
use crate::https::Authorities;
use crate::kafka::endpoint::{Answer as TestAnswer, Endpoint};
use crate::seed::Seed;
use crate::time::ManualClock;
use crate::worker::{Attempt, Outcome, Steps};

pub(in crate::telemetry) fn counters() -> Counters {
    let vec = |name: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, "."), labels);
    Counters {
        spans: vec("spans_total", &["outcome"]).unwrap(),
        requests: vec("requests_total", &["signal", "code"]).unwrap(),
    }
}

pub(in crate::telemetry) fn tracer(
    queue: SyncSender<BatchTrace>,
    counters: &Counters,
    ratio: f64,
) -> Tracer {
    Tracer {
        origin: Arc::new(Origin {
            detector: "pumps".to_owned(),
            group: "plant".to_owned(),
            worker: 3,
        }),
        ratio,
        queue,
        counters: counters.clone(),
        clock: Arc::new(ManualClock::at(Timestamp(1_000_000))),
        rng: Seed(7).rng(),
    }
}

struct World {
    endpoint: Endpoint,
    clock: Arc<ManualClock>,
    counters: Counters,
    exporter: Exporter,
}

impl World {
    fn new() -> Self {
        let endpoint = Endpoint::start(TestAnswer::Status(200, "{}".to_owned()));
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let shared: Arc<dyn Clock> = clock.clone();
        let settings = Settings {
            endpoint: endpoint.url().trim_end_matches("/token").to_owned(),
            headers: BTreeMap::from([("Api-Key".to_owned(), "hunter2".to_owned())]),
            authorities: Authorities::Machine,
            trace_ratio: 1.0,
            metrics_interval: Duration::from_secs(60),
            timeout: Duration::from_millis(500),
            resource: BTreeMap::new(),
        };
        let registry = Registry::new();
        let counter = IntCounter::new("anomalyd_x_total", "X.").unwrap();
        registry.register(Box::new(counter)).unwrap();
        let (counters, rng) = (counters(), Seed(7).rng());
        let around = (&shared, rng);
        let exporter = Exporter::new(&settings, "i-1", (&registry, &counters), around).unwrap();
        Self {
            endpoint,
            clock,
            counters,
            exporter,
        }
    }

    /// Takes batches of a worker, each with the same steps.
    fn take(&mut self, batches: usize, outcome: Outcome) {
        let (send, told) = sync_channel(batches);
        let mut tracer = tracer(send, &self.counters, 1.0);
        tracer.clock = self.clock.clone();
        let ago = |milliseconds| {
            let now = self.clock.monotonic();
            now.saturating_sub(Duration::from_millis(milliseconds))
        };
        self.clock.advance(Duration::from_millis(100));
        let steps = Steps {
            asked: ago(90),
            fetched: ago(50),
            decoded: ago(40),
            staged: ago(10),
            published: ago(0),
        };
        for _ in 0..batches {
            tracer.tell(&Attempt {
                steps,
                outcome,
                records: 12,
                alerts: 1,
            });
        }
        for batch in told.try_iter() {
            self.exporter.take(batch);
        }
    }

    /// Lets time pass and does what is due then; answers the statuses of the requests that came of it.
    fn after(&mut self, wait: Duration) -> Vec<u16> {
        let before = self.endpoint.asked().len();
        self.clock.advance(wait);
        self.exporter.step();
        let asked = self.endpoint.asked();
        asked[before..].iter().map(|asked| asked.status).collect()
    }

    fn spans(&self, outcome: &str) -> u64 {
        self.counters.spans.with_label_values(&[outcome]).get()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_batch_is_a_span_with_its_steps_within_it() {
    let mut world = World::new();
    world.take(1, Outcome::Aborted);
    assert_eq!(world.after(seconds(4)), [0; 0], "it waits for others");
    assert_eq!(world.after(seconds(1)), [200]);
    let asked = world.endpoint.asked().remove(0);
    assert_eq!(asked.headers[":path"], "/v1/traces");
    assert_eq!(asked.headers["api-key"], "hunter2");
    assert_eq!(asked.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let spans = spans.as_array().unwrap();
    let names: Vec<&str> = spans.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["process batch", "fetch wait", "decode", "stage", "publish"]
    );
    let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    let root = &spans[0];
    // The clock stood at 1,000.1 s when it was told of.
    assert_eq!(time(root, start), 1_000_010_000_000);
    assert_eq!(time(root, end), 1_000_100_000_000);
    let mut last = time(root, start);
    for step in &spans[1..] {
        assert_eq!(step["parentSpanId"], root["spanId"]);
        assert_eq!(step["traceId"], root["traceId"]);
        assert_ne!(step["spanId"], root["spanId"]);
        assert_eq!(time(step, start), last);
        assert!(time(step, end) >= last);
        last = time(step, end);
    }
    assert_eq!(last, time(root, end), "the steps fill the batch");
    assert_eq!(root["traceId"].as_str().unwrap().len(), 32);
    assert_eq!(root["spanId"].as_str().unwrap().len(), 16);
    assert_eq!(root["status"]["code"], 2, "it was aborted");
    let attribute = |key: &str| {
        let all = root["attributes"].as_array().unwrap().iter();
        all.clone().find(|a| a["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(attribute("anomalyd.detector")["stringValue"], "pumps");
    assert_eq!(attribute("anomalyd.outcome")["stringValue"], "aborted");
    assert_eq!(attribute("anomalyd.worker")["intValue"], "3");
    assert_eq!(attribute("anomalyd.records")["intValue"], "12");
    assert_eq!(attribute("anomalyd.alerts")["intValue"], "1");
    assert_eq!((world.spans("exported"), world.spans("dropped")), (5, 0));
}

#[test]
fn metrics_go_by_the_clock() {
    let mut world = World::new();
    assert_eq!(world.exporter.idle(), seconds(60));
    assert_eq!(world.after(seconds(59)), [0; 0]);
    assert_eq!(world.after(seconds(1)), [200]);
    let asked = world.endpoint.asked().remove(0);
    assert_eq!(asked.headers[":path"], "/v1/metrics");
    assert!(asked.body.contains("anomalyd_x_total"), "{}", asked.body);
    let requests = &world.counters.requests;
    assert_eq!(requests.with_label_values(&["metrics", "200"]).get(), 1);
    assert_eq!(world.after(seconds(59)), [0; 0]);
    assert_eq!(world.after(seconds(1)), [200]);
}

#[test]
fn what_wants_patience_gets_it_and_the_batches_later() {
    let mut world = World::new();
    world.take(2, Outcome::Committed);
    world.endpoint.answer(TestAnswer::Later(7));
    assert_eq!(world.after(seconds(5)), [429]);
    assert_eq!(world.exporter.idle(), seconds(7));
    assert_eq!(world.after(seconds(6)), [0; 0]);
    world
        .endpoint
        .answer(TestAnswer::Status(503, String::new()));
    assert_eq!(world.after(seconds(1)), [503]);
    // Without a word of when: twice as long as the time before.
    assert_eq!(world.exporter.idle(), seconds(2));
    for none in [TestAnswer::HangUp, TestAnswer::Hang] {
        world.endpoint.answer(none);
        let wait = world.exporter.idle();
        assert_eq!(world.after(wait), [0]);
    }
    let none = world
        .counters
        .requests
        .with_label_values(&["traces", "none"]);
    assert_eq!(none.get(), 2);
    assert_eq!(world.spans("exported"), 0);
    world
        .endpoint
        .answer(TestAnswer::Status(200, String::new()));
    let wait = world.exporter.idle();
    assert_eq!(world.after(wait), [200]);
    assert_eq!((world.spans("exported"), world.spans("dropped")), (10, 0));
}

#[test]
fn what_is_refused_is_dropped_and_counted() {
    let mut world = World::new();
    world.take(1, Outcome::Committed);
    world
        .endpoint
        .answer(TestAnswer::Status(400, "no".to_owned()));
    assert_eq!(world.after(seconds(5)), [400]);
    assert_eq!((world.spans("exported"), world.spans("dropped")), (0, 5));
    world.take(1, Outcome::Committed);
    let partly = r#"{"partialSuccess":{"rejectedSpans":"2"}}"#;
    world
        .endpoint
        .answer(TestAnswer::Status(200, partly.to_owned()));
    assert_eq!(world.after(seconds(5)), [200]);
    assert_eq!((world.spans("exported"), world.spans("dropped")), (3, 7));
}

#[test]
fn what_waits_is_bounded() {
    let mut world = World::new();
    world
        .endpoint
        .answer(TestAnswer::Status(503, String::new()));
    world.take(BATCHES_MAX + 3, Outcome::Committed);
    assert_eq!(world.spans("dropped"), 15);
    assert_eq!(world.exporter.idle(), Duration::ZERO, "a message is full");
    assert_eq!(world.after(Duration::ZERO), [503]);
    world
        .endpoint
        .answer(TestAnswer::Status(200, String::new()));
    assert_eq!(world.after(seconds(1)), [200]);
    assert_eq!(world.spans("exported"), (BATCHES_MAX * SPANS) as u64);
}

#[test]
fn the_end_posts_what_is_left_and_waits_for_nobody() {
    let mut world = World::new();
    world.take(1, Outcome::Committed);
    world.exporter.settings.timeout = seconds(30);
    world.exporter.finish(seconds(30));
    let asked = world.endpoint.asked();
    let paths: Vec<&str> = asked.iter().map(|a| a.headers[":path"].as_str()).collect();
    assert_eq!(paths, ["/v1/traces", "/v1/metrics"]);
    assert_eq!(world.spans("exported"), 5);
    world.take(1, Outcome::Committed);
    world.endpoint.answer(TestAnswer::Hang);
    world.exporter.finish(Duration::from_millis(100));
    assert_eq!(world.spans("dropped"), 5);
}

#[test]
fn neither_address_nor_headers_are_said() {
    let world = World::new();
    let address = world.exporter.settings.endpoint.clone();
    let said = format!("{address} does not know hunter2");
    let judged = world.exporter.judge(503, None, said.as_bytes());
    let Answer::Later(why, None) = judged else {
        panic!("503 passes");
    };
    assert_eq!(why, "it answers 503: *** does not know ***");
    let shown = format!("{:?}", world.exporter.settings);
    assert!(!shown.contains("hunter2") && !shown.contains("127.0.0.1"));
}
