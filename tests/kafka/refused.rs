//! What Kafka does not let the program do: topics that are missing, rights that are missing, messages that are too large.

use std::time::Duration;

use anomalyd::seed::Seed;
use rand::Rng;

use crate::binary::{self, NO_TRAINING};
use crate::cluster::{self, Acl};
use crate::daemon::{Daemon, Site, Start};
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

/// A key of 600 KB would be in each alert and score twice, and in the state.
#[test]
fn a_huge_key_goes_to_the_dead_letters_and_stops_nothing() {
    let Some((plant, site)) = calm_site("key") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    site.create_topics(start);
    let mut records = plant.records(0, 100, 4);
    let huge = vec![b'k'; 600_000];
    let value = records[0].2.clone();
    records.insert(40, (Some(1), Some(huge.clone()), value, None));
    binary::feed(&site, records);
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 401, &mut [&mut daemon]);
    let dead = cluster::read_committed(&site.brokers, &site.output("g", "dead"));
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].key.as_ref(), Some(&huge));
    let why = dead[0]
        .headers
        .iter()
        .find(|(name, _)| name == "__connect.errors.exception.class.name");
    let why = why.and_then(|(_, value)| value.clone());
    assert_eq!(why.as_deref(), Some(&b"anomalyd.key_length"[..]));
}

/// Brokers may refuse old timestamps: what is told of old records is told now.
#[test]
fn records_of_long_ago_are_told_with_the_time_of_telling() {
    let Some((plant, site)) = calm_site("old") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    let young = [("message.timestamp.before.max.ms", "3600000")];
    for which in ["alerts", "scores", "dead"] {
        cluster::create_topic(&site.brokers, &site.output("g", which), 4, &young);
    }
    site.create_topics(start);
    let year = 365 * 86_400_000;
    let mut records = plant.records(0, 100, 4);
    for record in &mut records {
        record.3 = record.3.map(|time| time - year);
    }
    let time = records[7].3;
    records.push((
        Some(1),
        Some(b"k".to_vec()),
        Some(b"rubbish".to_vec()),
        time,
    ));
    binary::feed(&site, records);
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 401, &mut [&mut daemon]);
    let scores = cluster::read_committed(&site.brokers, &site.output("g", "scores"));
    assert_eq!(scores.len(), 400);
    let dead = cluster::read_committed(&site.brokers, &site.output("g", "dead"));
    let event_time = dead[0]
        .headers
        .iter()
        .find(|(name, _)| name == "__connect.errors.timestamp");
    assert_eq!(
        event_time.and_then(|(_, value)| value.clone()),
        time.map(|time| time.to_string().into_bytes())
    );
}

/// Two processes of one `instance` would fence each other for ever, if they were started again.
#[test]
fn of_two_processes_of_one_instance_one_ends_and_says_why() {
    let Some((plant, site)) = calm_site("instance") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 10, 4));
    let mut first = site.run(start);
    binary::wait_until_consumed(&site, "g", 40, &mut [&mut first]);
    let mut second = site.run(start);
    let mut ended = None;
    cluster::wait_for("one to end", Duration::from_secs(60), || {
        // Whoever was fenced finds out when it publishes next.
        binary::feed(&site, plant.records(10, 11, 4));
        ended = [&mut first, &mut second]
            .into_iter()
            .find_map(Daemon::has_ended);
        ended.is_some()
    });
    let log = first.log() + &second.log();
    assert_eq!(ended.and_then(|status| status.code()), Some(78), "{log}");
    assert!(log.contains("an `instance` of its own"), "{log}");
}

/// A topic that deletes by age as well as it compacts forgets keys that are quiet.
#[test]
fn a_state_topic_that_forgets_is_refused_by_run_and_by_validate() {
    let Some((plant, site)) = calm_site("forgets") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING]);
    let state = site.output("g", "state");
    let policy = [("cleanup.policy", "compact,delete")];
    cluster::create_topic(&site.brokers, &state, 4, &policy);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 10, 4));
    let (code, log) = run_to_the_end(&site, start);
    let (asked, told) = site.ask(&["validate", "--connect"], start);
    for (code, text) in [(code, log), (Some(asked), told)] {
        assert_eq!(code, Some(78), "{text}");
        let named = text.contains(&state) && text.contains("cleanup.policy");
        assert!(named && text.contains("compact,delete"), "{text}");
    }
}

/// Partitions that are added while it runs are read from their first record, whatever `input.start` says of new groups.
#[test]
fn a_partition_that_is_added_is_read_from_its_first_record() {
    let Some((plant, site)) = calm_site("added") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING, "input.start=latest"]);
    site.create_topics(start);
    // History, which a new group that starts at the latest passes over.
    binary::feed(&site, plant.records(0, 50, 4));
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 200, &mut [&mut daemon]);
    assert_eq!(daemon.metric("anomalyd_records_consumed_total"), 0);
    binary::feed(&site, plant.records(50, 60, 4));
    cluster::wait_for("live records", Duration::from_secs(60), || {
        daemon.metric("anomalyd_records_consumed_total") == 40
    });
    assert!(daemon.terminate().0.success());
    cluster::add_partitions(&site.brokers, &site.input(), 6);
    let mut added = plant.records(60, 70, 1);
    for (number, record) in added.iter_mut().enumerate() {
        record.0 = Some(4 + (number % 2) as i32);
    }
    cluster::wait_for("the new partitions", Duration::from_secs(20), || {
        cluster::committed(&site.brokers, "nobody", &site.input(), 6).len() == 6
    });
    binary::feed(&site, added);
    let mut daemon = site.run(start);
    cluster::wait_for("what was added", Duration::from_secs(60), || {
        daemon.must_live();
        daemon.metric("anomalyd_records_consumed_total") == 40
    });
    assert_eq!(daemon.metric("anomalyd_records_skipped_total"), 0);
}

/// A topic that is deleted and made anew is another one: neither the group's offsets nor the state are of it.
#[test]
fn a_topic_made_anew_is_read_from_its_first_record() {
    let Some((plant, site)) = calm_site("anew") else {
        return;
    };
    let start = binary::start("g", &[NO_TRAINING, "input.start=latest"]);
    site.create_topics(start);
    let mut daemon = site.run(start);
    binary::wait_until_started(&site, "g");
    binary::feed(&site, plant.records(0, 50, 4));
    binary::wait_until_consumed(&site, "g", 200, &mut [&mut daemon]);
    assert!(daemon.terminate().0.success());
    cluster::delete_topic(&site.brokers, &site.input());
    cluster::create_topic(&site.brokers, &site.input(), 4, &[]);
    binary::feed(&site, plant.records(50, 130, 4));
    let mut daemon = site.run(start);
    cluster::wait_for("the new topic", Duration::from_secs(60), || {
        daemon.must_live();
        daemon.metric("anomalyd_records_consumed_total") == 320
    });
    assert!(daemon.log().contains("made anew"), "{}", daemon.log());
}

/// Offsets expire when a group is away for a week; its state does not.
#[test]
fn a_group_whose_offsets_expired_goes_on_where_its_state_stands() {
    let Some((plant, site)) = calm_site("expired") else {
        return;
    };
    let start = binary::start(
        "g",
        &[
            NO_TRAINING,
            "state.snapshot_records=10",
            "batch.records_max=8",
        ],
    );
    site.create_topics(start);
    binary::feed(&site, plant.records(0, 50, 4));
    let mut daemon = site.run(start);
    binary::wait_until_consumed(&site, "g", 200, &mut [&mut daemon]);
    assert!(daemon.terminate().0.success());
    cluster::delete_group(&site.brokers, &site.group("g"));
    binary::feed(&site, plant.records(50, 70, 4));
    // A quarter of what came since is gone.
    cluster::delete_before(&site.brokers, &site.input(), 0, 55);
    let latest = binary::start("g", &[NO_TRAINING, "input.start=latest"]);
    let mut daemon = site.run(latest);
    binary::wait_until_consumed(&site, "g", 280, &mut [&mut daemon]);
    let scores = cluster::read_committed(&site.brokers, &site.output("g", "scores"));
    let offsets = |partition: i64| {
        let read = |seen: &cluster::Seen| -> serde_json::Value {
            serde_json::from_str(&seen.text()).unwrap()
        };
        let of_this = scores
            .iter()
            .map(read)
            .filter(|score| score["input"]["partition"] == partition)
            .map(|score| score["input"]["offset"].as_i64().unwrap());
        of_this.collect::<std::collections::BTreeSet<i64>>()
    };
    for partition in 1..4 {
        assert_eq!(
            offsets(partition),
            (0..70).collect(),
            "nothing is passed over"
        );
    }
    assert!(daemon.metric("anomalyd_records_skipped_total") >= 5);
    // What came since the last snapshot is told again, under the same ids: ten records and a batch or two.
    assert!(scores.len() <= 275 + 4 * (10 + 8 + 8), "{}", scores.len());
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
