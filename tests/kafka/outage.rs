//! Brokers that are away, processes that are paused, and a process that is told to end meanwhile.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anomalyd::kafka::watchdog::{self, Watchdog, end_process};
use anomalyd::service::signal;
use anomalyd::time::{Clock, SystemClock};
use rdkafka::producer::Producer;

use crate::binary::{self, NO_TRAINING, PARTITIONS};
use crate::cluster::{self, Open};
use crate::daemon::{Daemon, Site, Start};
use crate::echo::{Echo, Running};
use crate::plant;

/// The environment variable that turns this test binary into a process that hangs, in one of two ways.
const HANGS: &str = "ANOMALYD_HANGING_CHILD";

/// Not a test: the entry of child processes that hang.
#[test]
fn hanging_child() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    match std::env::var(HANGS).as_deref() {
        Ok("call") => {
            let watchdog = Watchdog::start(clock, end_process);
            let _guard = watchdog.guard("a call that hangs", Duration::from_millis(300));
            loop {
                std::thread::park();
            }
        }
        Ok("stop") => {
            std::thread::spawn(|| {
                signal::listen(|| Duration::from_millis(500), false, |_| {});
            });
            // It is told to end, and does not.
            let pid = std::process::id().to_string();
            loop {
                let masks = std::fs::read_to_string("/proc/self/status").expect("a status");
                let caught = masks.lines().find(|line| line.starts_with("SigCgt:"));
                let caught = caught.and_then(|line| line.split_whitespace().nth(1));
                // Only when SIGTERM is listened for: signal 15 is bit 14.
                let caught = u64::from_str_radix(caught.expect("a mask"), 16).expect("bits");
                if caught & (1 << 14) != 0 && caught & (1 << 1) != 0 {
                    break;
                }
            }
            let sent = Command::new("kill").args(["-TERM", &pid]).status();
            assert!(sent.expect("kill runs").success());
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
}

/// How a child that hangs ended.
fn hang(how: &str) -> Option<i32> {
    let status = Command::new(std::env::current_exe().expect("this binary"))
        .args(["outage::hanging_child", "--exact"])
        .env(HANGS, how)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("a child").code()
}

#[test]
fn a_call_that_hangs_ends_the_process() {
    assert_eq!(hang("call"), Some(i32::from(watchdog::EXIT_CODE)));
}

#[test]
fn a_thread_that_hangs_keeps_no_process_from_ending() {
    assert_eq!(hang("stop"), Some(i32::from(signal::EXIT_CODE)));
}

/// Waits for Kafka, says so, and is healthy.
fn waits_for_kafka(daemon: &mut Daemon) {
    cluster::wait_for("that it says so", Duration::from_secs(30), || {
        daemon.must_live();
        daemon.log().contains("waiting for it")
    });
    let (code, _) = daemon.ask("/healthz").expect("an answer");
    assert_eq!(code, 200);
    let (code, text) = daemon.ask("/readyz").expect("an answer");
    assert!(
        code == 503 && text.contains("waiting for Kafka at `"),
        "{text}"
    );
}

#[test]
fn a_start_without_brokers_waits_and_a_signal_ends_it() {
    let site = Site::new("127.0.0.1:1", "closed", 1, &["temperature"]);
    let mut daemon = site.run(binary::start("g", &[]));
    waits_for_kafka(&mut daemon);
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Brokers that end, and brokers that freeze, for longer than every limit there is: the group is joined again and again.
#[test]
fn brokers_that_are_away_for_longer_than_every_limit_are_waited_for() {
    let Some(own) = cluster::Own::start() else {
        return;
    };
    let records = 3_000;
    let properties = [
        ("session.timeout.ms", "3000"),
        ("transaction.timeout.ms", "1000"),
    ];
    let echo = Echo {
        limits: Some((500, 3_000)),
        ..crate::echo(&own.brokers, "away", &properties)
    };
    crate::feed(&echo, 0, records);
    let mut child = echo.spawn();
    let reach = |child: &mut Running, at: i64| {
        cluster::wait_for("some records consumed", Duration::from_secs(60), || {
            child.must_live();
            crate::consumed(&echo) >= at
        });
    };
    reach(&mut child, 200);
    // Amid its work, and yet without a transaction that a broker of one's own may forget: see `Own::end`.
    child.signal("-STOP");
    let (input, output, state) = (echo.input(), echo.output(), echo.state());
    cluster::wait_for("what it began aborted", Duration::from_secs(30), || {
        let topics = [output.as_str(), &state];
        !cluster::undecided(&own.brokers, &echo.name, &input, &topics, crate::PARTITIONS)
    });
    own.end();
    child.signal("-CONT");
    std::thread::sleep(Duration::from_secs(8));
    own.again();
    reach(&mut child, 1_200);
    own.freeze(Duration::from_secs(9));
    reach(&mut child, records);
    child.must_live();
    child.kill();
    let log = std::fs::read_to_string(echo.log()).expect("its log");
    assert!(log.contains("joined again"), "the session was never lost");
    crate::each_place_once(&echo, records);
}

/// What a transaction holds back is named, and read as soon as it is ended.
#[test]
fn a_transaction_that_nobody_ends_is_named_and_waited_for() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let properties = [
        ("session.timeout.ms", "2000"),
        ("transaction.timeout.ms", "1000"),
    ];
    let echo = Echo {
        limits: Some((500, 2_000)),
        ..crate::echo(brokers, "undecided", &properties)
    };
    let (input, state) = (echo.input(), echo.state());
    let group = echo.name.as_str();
    let offsets = "the group's offsets (`__consumer_offsets`)".to_owned();
    for (round, (open, what)) in [
        (
            Open::Writes { topic: &state },
            format!("`{state}[0]` from offset"),
        ),
        (
            Open::Commits {
                group,
                input: &input,
            },
            offsets,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let records = 100 * (round as i64 + 1);
        crate::feed(&echo, records - 100, records);
        let open = open.begin(brokers);
        let mut child = echo.spawn();
        let held_back = format!("has held back {what}");
        cluster::wait_for(&held_back, Duration::from_secs(30), || {
            child.must_live();
            std::fs::read_to_string(echo.log()).is_ok_and(|log| log.contains(&held_back))
        });
        let limit = Duration::from_secs(30);
        open.abort_transaction(limit).expect("aborted");
        crate::wait_until_consumed(&echo, records, Duration::from_secs(60));
        child.kill();
    }
    crate::each_place_once(&echo, 200);
}

/// Reading the state may take longer than a member may be silent: it stays in the group, and the others get their partitions meanwhile.
#[test]
fn a_member_that_restores_for_long_stays_in_the_group() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let properties = [
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "6000"),
        ("transaction.timeout.ms", "5000"),
    ];
    let first = Echo {
        limits: Some((500, 60_000)),
        workers: 1,
        ..crate::echo(brokers, "slow", &properties)
    };
    crate::feed(&first, 0, 100);
    let mut child = first.spawn();
    crate::wait_until_consumed(&first, 100, Duration::from_secs(60));
    child.kill();
    let state = first.state();
    let open = Open::Writes { topic: &state }.begin(brokers);
    let mut child = first.spawn();
    let log = |echo: &Echo| std::fs::read_to_string(echo.log()).unwrap_or_default();
    let waits = "waiting for a transaction to be committed or aborted";
    cluster::wait_for("that it restores", Duration::from_secs(30), || {
        log(&first).contains(waits)
    });
    // One that joins need not wait for the other's state.
    let second = Echo {
        instance: "b".to_owned(),
        ..first.clone()
    };
    let mut other = second.spawn();
    cluster::wait_for("its share given up", Duration::from_secs(30), || {
        log(&first).contains("partition given back")
    });
    // More than twice as long as a member may be silent.
    std::thread::sleep(Duration::from_secs(13));
    open.commit_transaction(Duration::from_secs(30))
        .expect("committed");
    crate::feed(&first, 100, 200);
    crate::wait_until_consumed(&first, 200, Duration::from_secs(60));
    child.must_live();
    other.must_live();
    child.kill();
    other.kill();
    for echo in [&first, &second] {
        let log = log(echo);
        assert!(!log.contains("joined again"), "{log}");
        assert!(!log.contains("MAXPOLL"), "{log}");
    }
    crate::each_place_once(&first, 200);
}

/// People see what the program waits for before it gives up.
#[test]
fn a_transaction_that_nobody_ends_is_why_the_program_is_not_ready() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let site = Site::new(brokers, "held", 1, &["temperature"]);
    let start = binary::start("g", &[]);
    site.create_topics(start);
    let topic = site.output("g", "state");
    let open = Open::Writes { topic: &topic }.begin(brokers);
    let mut daemon = site.run(start);
    let mut ready = |says: &str| {
        cluster::wait_for(says, Duration::from_secs(30), || {
            daemon.must_live();
            let answer = daemon.ask("/readyz");
            answer.is_some_and(|(_, text)| text.contains(says))
        });
    };
    ready(&format!("a transaction that holds back `{topic}[0]`"));
    open.abort_transaction(Duration::from_secs(30))
        .expect("aborted");
    ready("ok");
    daemon.kill();
}

/// The program on a broker that freezes while it works, and ends while the broker is frozen.
#[test]
fn an_outage_leaves_the_program_healthy_and_changes_nothing() {
    let Some(own) = cluster::Own::start() else {
        return;
    };
    let (calm_rows, rows) = (300, 800);
    let plant = plant::seeded(8, rows, calm_rows);
    let site = binary::site(&own.brokers, "outage", &plant);
    let records = |from, to| plant.records(from, to, PARTITIONS as usize);
    site.create_topics(binary::start("calm", &[]));
    binary::feed(&site, records(0, calm_rows));
    binary::train_first(&site);
    binary::give_models(&site, "calm");
    let away = binary::start("away", &[NO_TRAINING, "batch.records_max=20"]);
    site.create_topics(away);
    binary::give_models(&site, "away");
    binary::feed(&site, records(calm_rows, rows));
    let all = 8 * rows;
    let mut daemon = site.run(away);
    cluster::wait_for("some records consumed", Duration::from_secs(60), || {
        daemon.must_live();
        binary::consumed(&site, "away") > all as i64 / 4
    });
    own.signal("-STOP");
    healthy(&mut daemon, Duration::from_secs(12));
    own.signal("-CONT");
    binary::wait_until_consumed(&site, "away", all, &mut [&mut daemon]);
    let mut calm = site.run(binary::start("calm", &[NO_TRAINING]));
    binary::wait_until_consumed(&site, "calm", all, &mut [&mut calm]);
    calm.kill();
    let expected = binary::published(&site, "calm");
    let found = binary::published(&site, "away");
    for which in 0..2 {
        let figures = binary::lost_and_twice(&expected[which], &found[which]);
        assert_eq!(figures, (0, 0), "{which}");
    }
    assert!(!expected[0].is_empty(), "no alerts show nothing");
    assert!(
        expected == found,
        "the order of some key's messages differs"
    );

    own.signal("-STOP");
    // Leaving the group takes longer than this; the second signal does not wait for it. Within a second it would be the first one, sent twice.
    let told = Instant::now();
    daemon.signal("-TERM");
    cluster::wait_for("the first signal", Duration::from_secs(2), || {
        daemon.log().contains("stopping") && told.elapsed() > Duration::from_millis(1_050)
    });
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(128 + 15), "{}", daemon.log());
    assert!(took < Duration::from_secs(1), "{took:?}");
    let mut late = site.run(Start {
        instance: "late",
        ..away
    });
    waits_for_kafka(&mut late);
    let (status, took) = late.terminate();
    assert_eq!(status.code(), Some(0), "{}", late.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// It answers, says that it is healthy, and its worker goes on, all the time.
fn healthy(daemon: &mut Daemon, length: Duration) {
    let clock = SystemClock::default();
    let until = Instant::now() + length;
    while Instant::now() < until {
        daemon.must_live();
        let (code, text) = daemon.ask("/healthz").expect("an answer");
        assert_eq!(code, 200, "{text}");
        let step = daemon.metric("anomalyd_last_step_timestamp_seconds") as i64;
        let ago = clock.now().0 / 1000 - step;
        assert!(ago <= 6, "no step for {ago} s: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Two processes; one is stopped where it is, with a batch in flight, until the group has given its partitions to the other. When it goes on
/// it publishes nothing of what is not its own any more.
fn paused_beyond_its_session(name: &str, properties: &[(&str, &str)], rounds: i64) {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let first = crate::echo(brokers, name, properties);
    let second = Echo {
        instance: "b".to_owned(),
        ..first.clone()
    };
    let mut children = [first.spawn(), second.spawn()];
    let share = 600;
    for round in 0..rounds {
        let from = round * share;
        crate::feed(&first, from, from + share);
        cluster::wait_for("work half-done", Duration::from_secs(30), || {
            crate::consumed(&first) >= from + 50
        });
        children[round as usize % 2].freeze(Duration::from_millis(4_500));
    }
    let records = rounds * share;
    crate::wait_until_consumed(&first, records, Duration::from_secs(60));
    for child in &mut children {
        child.must_live();
        child.kill();
    }
    crate::each_place_once(&first, records);
}

#[test]
fn a_process_paused_beyond_its_session_publishes_nothing_stale() {
    paused_beyond_its_session("paused", &[("session.timeout.ms", "2000")], 3);
}

#[test]
fn nor_does_it_with_the_new_group_protocol() {
    if std::env::var("KAFKA_VERSION").is_ok_and(|version| version.starts_with("3.")) {
        eprintln!("skipped: Kafka has the new group protocol from 4.0 on");
        return;
    }
    paused_beyond_its_session("paused848", &[("group.protocol", "consumer")], 2);
}
