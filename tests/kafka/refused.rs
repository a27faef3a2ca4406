//! What Kafka does not let the program do: topics that are missing, rights that are missing, messages that are too large.

use std::time::Duration;

use anomalyd::seed::Seed;
use rand::Rng;

use crate::binary::{self, NO_TRAINING};
use crate::cluster::{self, Acl};
use crate::daemon::{Site, Start};
use crate::plant;

const READ: u8 = 3;
const WRITE: u8 = 4;
const TOPIC: u8 = 2;
const GROUP: u8 = 3;

/// Rows of four machines without faults, and a site for them.
fn calm_site(name: &str) -> Option<(plant::Plant, Site)> {
    let brokers = cluster::brokers()?;
    let plant = plant::seeded(4, 400, 400);
    let site = binary::site(brokers, name, &plant);
    Some((plant, site))
}

/// Runs until it ends by itself: its exit code and its log.
fn run_to_the_end(site: &Site, start: Start<'_>) -> (Option<i32>, String) {
    let mut daemon = site.run(start);
    let status = daemon.ended(Duration::from_secs(60));
    (status.code(), daemon.log())
}

#[test]
fn a_missing_output_topic_is_named_at_the_start() {
    let Some((plant, site)) = calm_site("missing") else {
        return;
    };
    let good = binary::start("g", &[NO_TRAINING]);
    site.create_topics(good);
    binary::feed(&site, plant.records(0, 10, 4));
    let (code, log) = run_to_the_end(
        &site,
        Start {
            set: &[NO_TRAINING, "output.alerts=nowhere.to.be.found"],
            ..good
        },
    );
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains("`nowhere.to.be.found` does not exist") && log.contains("topics create"),
        "{log}"
    );
    assert!(site.consumed("g").iter().all(|offset| *offset <= 0));
}

#[test]
fn missing_rights_are_named_by_validate_and_by_the_program() {
    let Some((plant, site)) = calm_site("rights") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    site.create_topics(start);
    let words = ["validate", "--connect"];
    let (code, text) = site.ask(&words, start);
    assert_eq!(code, 0, "{text}");
    let outputs = ["alerts", "scores", "dead", "state"].map(|which| site.output("g", which));
    for topic in &outputs {
        let seen = cluster::read_committed(&site.brokers, topic);
        assert!(seen.is_empty(), "validate left something in {topic}");
    }
    let (input, group) = (site.input(), site.group("g"));
    if !cluster::set_acls(
        &site.brokers,
        &[
            (TOPIC, &outputs[1], Acl::Allow),
            (TOPIC, &outputs[1], Acl::Deny(WRITE)),
        ],
    ) {
        eprintln!("skipped: this broker has no authoriser");
        return;
    }
    binary::feed(&site, plant.records(0, 10, 4));
    let (code, log) = run_to_the_end(&site, start);
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains(&outputs[1]) && log.contains("ACLs"), "{log}");

    cluster::set_acls(
        &site.brokers,
        &[
            (TOPIC, &input, Acl::Allow),
            (TOPIC, &input, Acl::Deny(READ)),
            (GROUP, &group, Acl::Allow),
            (GROUP, &group, Acl::Deny(READ)),
        ],
    );
    let mut told = String::new();
    cluster::wait_for("all that is denied", Duration::from_secs(60), || {
        let (code, text) = site.ask(&words, start);
        told = text;
        code == 78 && told.contains("3 problem(s)")
    });
    for part in [
        format!("topic `{input}` cannot be read"),
        format!("topic `{}` cannot be written", outputs[1]),
        format!("offsets of group `{group}` cannot be committed"),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
    // At least once there is nothing that could be taken back, but the rights to transactions are there.
    let lax = Start {
        set: &[NO_TRAINING, "delivery=at_least_once"],
        ..start
    };
    let (code, text) = site.ask(&words, lax);
    assert!(code == 78 && text.contains("cannot be written"), "{text}");
}

/// Topics that take less than the program would like to send at once: batches get smaller, dead letters lose their values, nothing stops.
#[test]
fn topics_with_low_limits_stop_nothing() {
    let Some((plant, site)) = calm_site("low") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    for (which, limit) in [("dead", "20000"), ("scores", "3000")] {
        let topic = site.output("g", which);
        cluster::create_topic(&site.brokers, &topic, 4, &[("max.message.bytes", limit)]);
    }
    site.create_topics(start);
    let mut records = plant.records(0, 100, 4);
    // Not JSON, and nothing that could be compressed to fit.
    let mut noise = vec![0_u8; 100_000];
    Seed(3).rng().fill(&mut noise[..]);
    for (partition, value) in [(0, noise.clone()), (1, b"small".to_vec()), (1, noise)] {
        records.insert(
            40,
            (Some(partition), Some(b"k".to_vec()), Some(value), None),
        );
    }
    binary::feed(&site, records);
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 403, &mut [&mut daemon]);
    assert_eq!(daemon.metric("anomalyd_records_dead_lettered_total"), 3);
    let page = daemon.get("/metrics");
    let aborted = page.lines().find(|line| {
        line.starts_with("anomalyd_publish_seconds_count") && line.contains("outcome=\"aborted\"")
    });
    assert!(
        aborted.is_some_and(|line| !line.ends_with(" 0")),
        "{aborted:?}"
    );
    let dead = cluster::read_committed(&site.brokers, &site.output("g", "dead"));
    let mut lengths: Vec<Option<usize>> = dead
        .iter()
        .map(|seen| seen.value.as_ref().map(Vec::len))
        .collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [None, None, Some(5)]);
    for seen in dead.iter().filter(|seen| seen.value.is_none()) {
        let omitted = seen
            .headers
            .iter()
            .find(|(name, _)| name == "anomalyd.value.omitted");
        assert_eq!(
            omitted.and_then(|(_, value)| value.clone()).as_deref(),
            Some(&b"100000"[..])
        );
        assert_eq!(seen.key.as_deref(), Some(&b"k"[..]));
    }
    let scores = cluster::read_committed(&site.brokers, &site.output("g", "scores"));
    assert_eq!(scores.len(), 400);
}

/// Nothing can be left out of state.
#[test]
fn state_that_does_not_fit_ends_it_with_the_topics_name() {
    let Some((plant, site)) = calm_site("narrow") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING, "state.snapshot_records=20"]);
    let state = site.output("g", "state");
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "600")];
    cluster::create_topic(&site.brokers, &state, 4, &settings);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 400, 4));
    let (code, log) = run_to_the_end(&site, start);
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains(&state) && log.contains("max.message.bytes"),
        "{log}"
    );
}

/// Where state lies follows from the topic's number of partitions. With another number it must not pass for absent.
#[test]
fn a_state_topic_that_was_given_more_partitions_ends_it_with_its_name() {
    let Some((plant, site)) = calm_site("resized") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    let state = site.output("g", "state");
    cluster::create_topic(&site.brokers, &state, 2, &[("cleanup.policy", "compact")]);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 100, 4));
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 400, &mut [&mut daemon]);
    assert!(daemon.terminate().0.success());
    cluster::add_partitions(&site.brokers, &state, 3);
    let (code, log) = run_to_the_end(&site, start);
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains(&state) && log.contains("has 3 partitions"),
        "{log}"
    );
}
