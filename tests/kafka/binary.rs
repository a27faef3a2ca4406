//! The program itself, as people run it: killed, stopped, fed rubbish, and asked to make its models again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anomalyd::seed::Seed;
use rand::Rng;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::cluster::{self, Record, Seen};
use crate::daemon::{Daemon, Site, Start};
use crate::plant::{self, Plant};

/// No training: no record is as young as that.
pub const NO_TRAINING: &str = "training.history=1s";
pub const PARTITIONS: i32 = 4;

pub fn site(brokers: &str, name: &str, plant: &Plant) -> Site {
    let features: Vec<&str> = plant.features.iter().map(String::as_str).collect();
    Site::new(brokers, name, PARTITIONS, &features)
}

pub fn start<'a>(group: &'a str, set: &'a [&'a str]) -> Start<'a> {
    Start {
        group,
        instance: "a",
        set,
    }
}

pub fn feed(site: &Site, records: Vec<Record>) {
    cluster::produce(&site.brokers, &site.input(), records);
}

/// Waits until a group has consumed that many records, while its processes must live.
pub fn wait_until_consumed(site: &Site, group: &str, records: usize, daemons: &mut [&mut Daemon]) {
    cluster::wait_for("all records consumed", Duration::from_secs(240), || {
        for daemon in daemons.iter_mut() {
            daemon.must_live();
        }
        consumed(site, group) >= records as i64
    });
}

/// Waits until a group has said of all partitions where it begins.
pub fn wait_until_started(site: &Site, group: &str) {
    cluster::wait_for("a start", Duration::from_secs(60), || {
        site.consumed(group).iter().all(|offset| *offset >= 0)
    });
}

/// How many records a group has consumed.
pub fn consumed(site: &Site, group: &str) -> i64 {
    site.consumed(group)
        .iter()
        .map(|offset| offset.max(&0))
        .sum()
}

/// Lets one process train the first model on what is in the log.
pub fn train_first(site: &Site) {
    let start = start("first", &[]);
    site.create_topics(start);
    let mut daemon = site.run(start);
    cluster::wait_for("a first model", Duration::from_secs(60), || {
        daemon.metric("anomalyd_model_version") >= 1
    });
    daemon.kill();
}

/// Gives another group the models of the first.
pub fn give_models(site: &Site, group: &str) {
    let models = cluster::read_committed(&site.brokers, &site.output("first", "models"));
    let records = models
        .into_iter()
        .filter(|seen| !seen.key.as_deref().unwrap_or_default().ends_with(b"/owner"))
        .map(|seen| (Some(0), seen.key, seen.value, None));
    cluster::produce(&site.brokers, &site.output(group, "models"), records);
}

/// What a group published, by key in the order of the log: alerts, and scores.
pub fn published(site: &Site, group: &str) -> [BTreeMap<Vec<u8>, Vec<String>>; 2] {
    ["alerts", "scores"].map(|which| {
        let mut by_key: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        for seen in cluster::read_committed(&site.brokers, &site.output(group, which)) {
            let text = format!("{} {:?}", seen.text(), text_headers(&seen));
            by_key
                .entry(seen.key.unwrap_or_default())
                .or_default()
                .push(text);
        }
        by_key
    })
}

fn text_headers(seen: &Seen) -> Vec<(&str, String)> {
    let text = |value: &Option<Vec<u8>>| {
        String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
    };
    seen.headers
        .iter()
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect()
}

/// How many messages of `calm` are missing in `found`, and how many of `found` come again or should not be.
pub fn lost_and_twice(
    calm: &BTreeMap<Vec<u8>, Vec<String>>,
    found: &BTreeMap<Vec<u8>, Vec<String>>,
) -> (usize, usize) {
    let count = |by_key: &BTreeMap<Vec<u8>, Vec<String>>| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for text in by_key.values().flatten() {
            *counts.entry(text.clone()).or_default() += 1;
        }
        counts
    };
    let (calm, found) = (count(calm), count(found));
    let beyond = |these: &BTreeMap<String, usize>, those: &BTreeMap<String, usize>| {
        these
            .iter()
            .map(|(text, n)| n.saturating_sub(those.get(text).copied().unwrap_or(0)))
            .sum()
    };
    (beyond(&calm, &found), beyond(&found, &calm))
}

/// By how far the group has come, so that a kill finds work half-done: one of two processes, and every other time both.
fn kill_while_it_works(
    site: &Site,
    starts: &[Start<'_>; 2],
    daemons: &mut [Daemon; 2],
    (all, kills): (usize, usize),
) {
    let mut random = Seed(29).child("kills").rng();
    for kill in 0..kills {
        let at = all as f64 * 0.9 * (kill as f64 + random.gen_range(0.2..0.8)) / kills as f64;
        cluster::wait_for("some records consumed", Duration::from_secs(120), || {
            consumed(site, "killed") as f64 >= at
        });
        std::thread::sleep(Duration::from_micros(random.gen_range(0..20_000)));
        let both = kill % 2 == 1;
        let which = random.gen_range(0..2);
        let hit = |number: &usize| both || *number == which;
        (0..2).filter(hit).for_each(|number| daemons[number].kill());
        for number in (0..2).filter(hit) {
            daemons[number] = site.run(starts[number]);
        }
    }
}

/// Two processes of two workers that are killed without warning `kills` times while they work. What they publish, alerts and
/// scores, is what one process publishes that nothing happens to: every byte, in order for each key.
fn killed_equals_calm(plant: &Plant, (calm_rows, rows): (usize, usize), kills: usize) {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    eprintln!("replaying {}", plant.source);
    let site = site(brokers, "binary", plant);
    let records = |from, to| plant.records(from, to, PARTITIONS as usize);
    site.create_topics(start("calm", &[]));
    feed(&site, records(0, calm_rows));
    train_first(&site);
    give_models(&site, "calm");

    let all = records(0, rows).len();
    // Small batches: there is always one half-done.
    let batch = format!("batch.records_max={}", all / 640);
    let set = [
        NO_TRAINING,
        "workers=2",
        &batch,
        "kafka.properties.session.timeout.ms=2000",
    ];
    let first = start("killed", &set);
    let starts = [
        first,
        Start {
            instance: "b",
            ..first
        },
    ];
    site.create_topics(first);
    give_models(&site, "killed");
    feed(&site, records(calm_rows, rows));
    let mut daemons = starts.map(|start| site.run(start));
    kill_while_it_works(&site, &starts, &mut daemons, (all, kills));
    let [a, b] = &mut daemons;
    wait_until_consumed(&site, "killed", all, &mut [a, b]);
    daemons.iter_mut().for_each(Daemon::kill);

    // Larger batches: they change nothing either.
    let mut calm = site.run(start("calm", &[NO_TRAINING, "batch.records_max=2000"]));
    wait_until_consumed(&site, "calm", all, &mut [&mut calm]);
    let (status, took) = calm.terminate();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} after {took:?}"
    );

    let expected = published(&site, "calm");
    let found = published(&site, "killed");
    let scores: usize = expected[1].values().map(Vec::len).sum();
    let alerts: usize = expected[0].values().map(Vec::len).sum();
    let figures: Vec<(usize, usize)> = (0..2)
        .map(|which| lost_and_twice(&expected[which], &found[which]))
        .collect();
    eprintln!(
        "{all} records, {scores} scores, {alerts} alerts, {kills} kills; alerts (lost, twice): {:?}; scores: {:?}",
        figures[0], figures[1]
    );
    assert_eq!(figures, [(0, 0), (0, 0)]);
    assert_eq!(scores, all, "a score a record");
    assert!(alerts > 0, "a plant without alerts shows nothing");
    assert!(
        expected == found,
        "the order of some key's messages differs"
    );
}

#[test]
fn the_program_killed_again_and_again_publishes_what_a_calm_run_does() {
    // SKAB's faults begin at about row 570.
    let (calm, rows) = (300, 800);
    let plant = plant::skab(8, rows).unwrap_or_else(|| plant::seeded(8, rows, calm));
    killed_equals_calm(&plant, (calm, rows), 3);
}

/// By hand, on three brokers: `KAFKA_BROKERS=3 scripts/kafka.sh with cargo test --test kafka_real -- --ignored twenty_kills --nocapture`
#[test]
#[ignore = "takes minutes"]
fn twenty_kills() {
    let plant = plant::seeded(64, 1_000, 300);
    killed_equals_calm(&plant, (300, 1_000), 20);
}

/// Members of a group, as the broker sees them.
fn members(site: &Site, group: &str) -> usize {
    group_of(site, group).1
}

/// Whether the group is at rest, and how many members it has.
fn group_of(site: &Site, group: &str) -> (bool, usize) {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &site.brokers)
        .create()
        .expect("a client");
    let found = client
        .fetch_group_list(Some(&site.group(group)), Duration::from_secs(10))
        .expect("groups");
    let groups = found.groups();
    (
        groups.iter().all(|group| group.state() == "Stable"),
        groups.iter().map(|group| group.members().len()).sum(),
    )
}

#[test]
fn a_signal_ends_it_within_seconds_with_all_committed_and_the_group_left() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 500, 500);
    let site = site(brokers, "signal", &plant);
    let start = start("g", &[NO_TRAINING, "workers=2"]);
    site.create_topics(start);
    feed(&site, plant.records(0, 500, 4));
    let mut daemon = site.run(start);
    wait_until_consumed(&site, "g", 2_000, &mut [&mut daemon]);
    cluster::wait_for("both workers in the group", Duration::from_secs(60), || {
        daemon.must_live();
        group_of(&site, "g") == (true, 2)
    });
    let counted = daemon.metric("anomalyd_records_consumed_total");
    let (status, took) = daemon.terminate();
    eprintln!("ended {took:?} after SIGTERM");
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Much sooner than the session (10 s) would end by itself.
    cluster::wait_for("the group left", Duration::from_secs(3), || {
        members(&site, "g") == 0
    });
    assert_eq!(site.consumed("g"), [500; 4]);
    assert_eq!(counted, 2_000);
    // What was committed is not read again.
    let scores = site.output("g", "scores");
    assert_eq!(cluster::read_committed(brokers, &scores).len(), 2_000);
}

/// A model that one process trains is taken up by all, a rollback too, within a second of the command's end, and from its card it is made
/// again from Kafka's log, bit for bit.
#[test]
fn models_are_followed_rolled_back_and_made_again_from_the_log() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(8, 400, 400);
    let site = site(brokers, "models", &plant);
    let set = ["training.interval=5s"];
    let first = start("g", &set);
    site.create_topics(first);
    feed(&site, plant.records(0, 200, 4));
    let mut a = site.run(first);
    let mut b = site.run(Start {
        instance: "b",
        ..first
    });
    let mut took_up = |version: u64, limit: Duration| {
        let begun = Instant::now();
        cluster::wait_for("the model taken up by both", limit, || {
            [&mut a, &mut b]
                .into_iter()
                .all(|daemon| daemon.metric("anomalyd_model_version") == version)
        });
        begun.elapsed()
    };
    took_up(1, Duration::from_secs(60));
    feed(&site, plant.records(200, 400, 4));
    // The gate may not think that the second is better: it is stored all the same.
    let listed = |version: &str| {
        let (_, text) = site.ask(&["models", "list"], first);
        text.contains(version)
    };
    cluster::wait_for("a second model", Duration::from_secs(60), || {
        listed("\n*       2") || listed("\n        2")
    });
    let (code, text) = site.ask(&["models", "promote", "2"], first);
    assert_eq!(code, 0, "{text}");
    took_up(2, Duration::from_secs(5));
    let (code, text) = site.ask(&["models", "rollback"], first);
    assert_eq!(code, 0, "{text}");
    let rolled_back = took_up(1, Duration::from_secs(5));
    eprintln!("rolled back in both processes {rolled_back:?} after the command's end");
    assert!(rolled_back < Duration::from_secs(1), "{rolled_back:?}");
    drop((a, b));

    for version in ["1", "2"] {
        let old = site.path(&format!("{version}.safetensors"));
        let again = site.path(&format!("{version}-again.safetensors"));
        let (old_name, again_name) = (old.to_str().unwrap(), again.to_str().unwrap());
        let (code, text) = site.ask(&["models", "export", version, "--out", old_name], first);
        assert_eq!(code, 0, "{text}");
        let words = ["train", "--from-card", old_name, "--model", again_name];
        let (code, text) = site.ask(&words, first);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("the same bytes"), "model {version}: {text}");
        assert!(std::fs::read(&old).unwrap() == std::fs::read(&again).unwrap());
    }
}

/// What retention deletes before it is read is counted, and reading goes on behind it: after a stop, and under way. State that had to be
/// brought up to date with what is gone begins anew.
#[test]
fn what_retention_deletes_is_counted_and_reading_goes_on() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 1_000, 1_000);
    let site = site(brokers, "retention", &plant);
    let set = [NO_TRAINING, "kafka.properties.session.timeout.ms=45000"];
    let start = start("g", &set);
    site.create_topics(start);
    let delete = |partition: usize, offset: i64| {
        cluster::delete_before(brokers, &site.input(), partition as i32, offset);
    };
    let wait = |to: i64, daemon: &mut Daemon| {
        cluster::wait_for("all consumed", Duration::from_secs(60), || {
            daemon.must_live();
            site.consumed("g").iter().all(|offset| *offset == to)
        });
    };
    feed(&site, plant.records(0, 100, 4));
    let mut daemon = site.run(start);
    wait(100, &mut daemon);
    assert!(daemon.terminate().0.success());
    feed(&site, plant.records(100, 200, 4));
    delete(0, 150);
    let mut daemon = site.run(start);
    wait(200, &mut daemon);
    // Partition 0 lost 50 records that were never read, and those behind its last snapshot.
    assert_eq!(daemon.metric("anomalyd_records_skipped_total"), 50);
    assert_eq!(daemon.metric("anomalyd_state_discarded_total"), 1);
    assert_eq!(daemon.metric("anomalyd_records_consumed_total"), 350);
    // Under way: nothing of what comes meanwhile has been fetched, not even by a fetch that waits at the broker, as it may for 20 ms.
    daemon.pause(|| {
        std::thread::sleep(Duration::from_millis(500));
        feed(&site, plant.records(200, 400, 4));
        delete(1, 300);
        delete(2, 270);
    });
    wait(400, &mut daemon);
    // Metrics follow the commit.
    cluster::wait_for("all counted", Duration::from_secs(60), || {
        daemon.metric("anomalyd_records_consumed_total") >= 350 + 800 - 170
    });
    assert_eq!(
        daemon.metric("anomalyd_records_skipped_total"),
        50 + 100 + 70
    );
    assert_eq!(daemon.metric("anomalyd_state_discarded_total"), 1);
    assert_eq!(
        daemon.metric("anomalyd_records_consumed_total"),
        350 + 800 - 170
    );
    feed(&site, plant.records(400, 500, 4));
    wait(500, &mut daemon);
    assert!(daemon.terminate().0.success());
}

/// What somebody calls the new normal, training learns, and the card of the next model says so.
#[test]
fn what_is_the_new_normal_is_learnt_and_the_card_says_so() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(8, 900, 500);
    let site = site(brokers, "dismissed", &plant);
    let set = ["training.interval=5s"];
    let start = start("g", &set);
    site.create_topics(start);
    feed(&site, plant.records(0, 500, 4));
    let mut daemon = site.run(start);
    cluster::wait_for("a first model", Duration::from_secs(60), || {
        daemon.metric("anomalyd_model_version") >= 1
    });
    feed(&site, plant.records(500, 900, 4));
    wait_until_consumed(&site, "g", 8 * 900, &mut [&mut daemon]);
    let listed = || {
        let (code, text) = site.ask(&["episodes", "list"], start);
        assert_eq!(code, 0, "{text}");
        text.lines()
            .filter(|line| line.starts_with("pumps/"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = listed();
    assert!(!before.is_empty() && before.iter().all(|line| line.ends_with("left out")));
    let id = before[0].split_whitespace().next().unwrap();
    let (code, text) = site.ask(&["episodes", "new-normal", id], start);
    assert_eq!(code, 0, "{text}");
    assert!(listed()[0].ends_with("learnt: new normal"));
    assert_eq!(
        site.ask(&["episodes", "dismiss", "pumps/x/0/1"], start).0,
        64
    );
    cluster::wait_for("a model that learnt it", Duration::from_secs(90), || {
        daemon.must_live();
        let (_, text) = site.ask(&["models", "list"], start);
        let newest = text.lines().filter_map(|line| {
            let line = line.trim_start_matches(['*', ' ']);
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        let newest = newest.max().unwrap_or(1).to_string();
        let (_, card) = site.ask(&["models", "show", &newest], start);
        card.contains("\"feedback\": \"new_normal\"")
    });
}

/// A second group on the same state topic is refused, with what to do.
#[test]
fn another_group_leaves_the_state_alone() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 100, 100);
    let site = site(brokers, "groups", &plant);
    let first = start("g", &[NO_TRAINING]);
    site.create_topics(first);
    feed(&site, plant.records(0, 100, 4));
    let mut daemon = site.run(first);
    wait_until_consumed(&site, "g", 400, &mut [&mut daemon]);
    let state = format!("output.state={}", site.output("g", "state"));
    let set = [NO_TRAINING, &state];
    let second = start("h", &set);
    site.create_topics(second);
    let mut other = site.run(second);
    assert_eq!(
        other.ended(Duration::from_secs(60)).code(),
        Some(78),
        "{}",
        other.log()
    );
    assert!(
        other.log().contains("belongs to the consumer group"),
        "{}",
        other.log()
    );
    assert!(daemon.terminate().0.success());
}

/// Nor may it use the same models: each would promote what the other judges by. Of two that have written nothing the first to write has them.
#[test]
fn another_group_leaves_the_models_alone() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 500, 500);
    let site = site(brokers, "owners", &plant);
    let first = start("first", &[]);
    site.create_topics(first);
    feed(&site, plant.records(0, 500, 4));
    train_first(&site);
    let models = format!("models.topic={}", site.output("first", "models"));
    let set = [NO_TRAINING, &models];
    let second = start("second", &set);
    site.create_topics(second);
    let mut other = site.run(second);
    let code = other.ended(Duration::from_secs(60)).code();
    assert_eq!(code, Some(78), "{}", other.log());
    assert!(other.log().contains("`models.topic`"), "{}", other.log());
    let (code, text) = site.ask(&["models", "rollback"], second);
    assert!(code == 78 && text.contains("belong to"), "{code} {text}");
}

/// A static member that comes back has its partitions at once, although its session has not run out.
#[test]
fn static_members_come_back_at_once() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 300, 300);
    let site = site(brokers, "static", &plant);
    let set = [
        NO_TRAINING,
        "workers=2",
        "kafka.properties.group.instance.id=host-1",
        "kafka.properties.session.timeout.ms=45000",
    ];
    let start = start("g", &set);
    site.create_topics(start);
    let mut daemon = site.run(start);
    // One worker alone may be done with all records before the other has joined; who was no member cannot come back.
    cluster::wait_for("both workers in the group", Duration::from_secs(60), || {
        daemon.must_live();
        group_of(&site, "g") == (true, 2)
    });
    feed(&site, plant.records(0, 150, 4));
    wait_until_consumed(&site, "g", 600, &mut [&mut daemon]);
    daemon.kill();
    feed(&site, plant.records(150, 300, 4));
    let begun = Instant::now();
    let mut daemon = site.run(start);
    wait_until_consumed(&site, "g", 1_200, &mut [&mut daemon]);
    let took = begun.elapsed();
    eprintln!("a static member went on {took:?} after its start");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(members(&site, "g"), 2, "the same two, and nobody new");
}

/// Values that are no records, each in its own way.
fn rubbish(number: usize) -> Option<Vec<u8>> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    match number % 9 {
        0 => text(r#"{"temperature":1.0,"flow":"#),
        1 => text(r#"{"temperature":"hot","flow":[1],"current":{}}"#),
        2 => Some(b"{\"temperature\":1.0,\"\xff\xfe\":2}\xc3".to_vec()),
        3 => text(r#"{"temperature":1e999,"flow":1e999,"current":-1e999}"#),
        4 => text(r#"{"temperature":NaN,"flow":NaN,"current":NaN}"#),
        5 => Some([vec![b'['; 10_000], vec![b']'; 10_000]].concat()),
        6 => text(""),
        // Most of them small, or a million good records would drown in them.
        7 if number.is_multiple_of(100) => {
            Some([&b"{\"x\":\""[..], &b"y".repeat(900_000), b"\"}"].concat())
        }
        7 => text("{\"x\":\"y\"}"),
        _ => None,
    }
}

/// Feeds `good` records with `bad` ones among them, and checks that each is accounted for. Answers the resident memory over time, in KiB.
fn rubbish_among_records(machines: usize, rows: usize, bad: usize) -> Vec<u64> {
    let Some(brokers) = cluster::brokers() else {
        return Vec::new();
    };
    let plant = plant::seeded(machines, rows, rows);
    let site = site(brokers, "rubbish", &plant);
    let start = start("g", &[NO_TRAINING, "batch.records_max=5000"]);
    site.create_topics(start);
    let mut daemon = site.run(start);
    let good = machines * rows;
    let every = good / bad;
    let mut resident = Vec::new();
    let mut sent = 0;
    for from in (0..rows).step_by(2_000) {
        let mut records = Vec::new();
        for record in plant.records(from, rows.min(from + 2_000), 4) {
            if sent % every == 0 && sent / every < bad {
                let (partition, key, _, time) = record.clone();
                records.push((partition, key, rubbish(sent / every), time));
            }
            records.push(record);
            sent += 1;
        }
        feed(&site, records);
        daemon.must_live();
        resident.push(daemon.resident());
    }
    cluster::wait_for("all records consumed", Duration::from_secs(300), || {
        daemon.must_live();
        resident.push(daemon.resident());
        let sum: i64 = site.consumed("g").iter().sum();
        sum >= (good + bad) as i64
    });
    let mut count = |name: &str| daemon.metric(&format!("anomalyd_records_{name}_total")) as usize;
    let consumed = count("consumed");
    let parts = ["scored", "warming_up", "late", "dead_lettered"].map(&mut count);
    eprintln!("consumed {consumed} = scored, warming up, late, dead-lettered {parts:?}");
    assert_eq!(consumed, good + bad);
    assert_eq!(consumed, parts.iter().sum::<usize>());
    assert_eq!(parts[3], bad);
    let dead = cluster::read_committed(brokers, &site.output("g", "dead"));
    assert_eq!(dead.len(), bad);
    let untouched = dead.iter().filter(|seen| seen.value.is_none()).count();
    assert_eq!(
        untouched,
        (0..bad).filter(|n| n % 9 == 8).count(),
        "null stays null"
    );
    resident
}

#[test]
fn every_record_is_accounted_for_among_rubbish() {
    rubbish_among_records(8, 625, 200);
}

/// By hand: `cargo test --release --test kafka_real -- --ignored a_million --nocapture`
#[test]
#[ignore = "takes minutes"]
fn a_million_records_with_rubbish_among_them_in_flat_memory() {
    let resident = rubbish_among_records(100, 10_000, 100_000);
    eprintln!("resident KiB over time: {resident:?}");
    let (half, last) = (resident[resident.len() / 2], resident[resident.len() - 1]);
    assert!(
        last * 10 < half * 12,
        "it grows: {half} KiB, then {last} KiB"
    );
}

#[test]
fn too_much_rubbish_stops_it() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(4, 100, 100);
    let site = site(brokers, "limit", &plant);
    let start = start("g", &[NO_TRAINING, "input.dead_letters_max=50"]);
    let (code, text) = site.ask(&["topics", "create"], start);
    assert_eq!(code, 64, "no input topic: {text}");
    assert!(text.contains("--input-partitions"), "{text}");
    site.create_topics(start);
    let bad = |n| (Some(n % 4), None, Some(b"{".to_vec()), None);
    feed(&site, (0..100).map(bad).collect());
    let mut daemon = site.run(start);
    let status = daemon.ended(Duration::from_secs(60));
    assert_eq!(status.code(), Some(76), "{}", daemon.log());
    assert!(daemon.log().contains("dead"), "{}", daemon.log());
}

#[test]
fn a_property_that_a_promise_rests_on_is_refused() {
    let site = Site::new("127.0.0.1:1", "refused", 1, &["temperature"]);
    let set = ["kafka.properties.isolation.level=read_uncommitted"];
    let (code, text) = site.ask(&["run"], start("g", &set));
    assert_eq!(code, 78, "{text}");
    assert!(
        text.contains("isolation.level") && text.contains("replay would differ"),
        "{text}"
    );
}
