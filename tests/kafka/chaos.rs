//! `make chaos`: processes that are killed and paused, a broker that freezes and restarts, seed after seed. What is left in the log must be what a
//! calm run leaves: every place once, in order for each key, with the right count. Rounds that went well are noted in a journal, so that the next
//! run goes on behind them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anomalyd::seed::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::cluster;
use crate::echo::{Echo, Running};

/// Records of a partition that each action is among.
const SHARE: i64 = 150;

/// What happened, added up.
pub type Counts = BTreeMap<&'static str, u32>;

struct Scene {
    own: cluster::Own,
    members: Vec<(Echo, Running)>,
    rng: ChaCha8Rng,
    counts: Counts,
}

impl Scene {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn some_member(&mut self) -> &mut (Echo, Running) {
        let which = self.rng.gen_range(0..self.members.len());
        &mut self.members[which]
    }

    fn all(&self, signal: &str) {
        for (_, child) in &self.members {
            child.signal(signal);
        }
    }

    /// One thing that goes wrong.
    fn act(&mut self) {
        match self.rng.gen_range(0..20) {
            0..=9 => {
                self.count("kill -9");
                let (echo, child) = self.some_member();
                child.kill();
                *child = echo.spawn();
            }
            10..=12 => {
                self.count("pause beyond the session");
                let length = Duration::from_millis(self.rng.gen_range(3_500..6_000));
                self.some_member().1.freeze(length);
            }
            13..=14 => {
                self.count("short pause");
                let length = Duration::from_millis(self.rng.gen_range(50..2_000));
                self.some_member().1.freeze(length);
            }
            15..=17 => {
                self.count("frozen broker");
                let length = Duration::from_millis(self.rng.gen_range(200..7_000));
                self.own.freeze(length);
            }
            18 => self.restart_broker(),
            _ => {
                self.count("all killed");
                for (echo, child) in &mut self.members {
                    child.kill();
                    *child = echo.spawn();
                }
            }
        }
    }

    /// In order, when nothing is undecided: see [`cluster::Own::end`].
    fn restart_broker(&mut self) {
        self.count("restarted broker");
        self.all("-STOP");
        let echo = &self.members[0].0;
        let (input, output, state) = (echo.input(), echo.output(), echo.state());
        cluster::wait_for("what was begun aborted", Duration::from_secs(60), || {
            let topics = [output.as_str(), &state];
            let brokers = &self.own.brokers;
            !cluster::undecided(brokers, &echo.name, &input, &topics, crate::PARTITIONS)
        });
        self.own.end();
        self.own.again();
        self.all("-CONT");
    }
}

/// One seed. What happened; panics if the log is not as it should be.
fn round(seed: u64, actions: usize) -> Option<Counts> {
    let own = cluster::Own::start()?;
    let properties = [
        ("session.timeout.ms", "3000"),
        ("transaction.timeout.ms", "2000"),
    ];
    let first = Echo {
        limits: Some((500, 5_000)),
        ..crate::echo(&own.brokers, "chaos", &properties)
    };
    crate::feed(&first, 0, SHARE);
    let members = first.three();
    let mut scene = Scene {
        own,
        members,
        rng: Seed(seed).child("chaos").rng(),
        counts: Counts::new(),
    };
    for action in 1..=actions as i64 {
        crate::feed(&first, action * SHARE, (action + 1) * SHARE);
        let wait = scene.rng.gen_range(20..900);
        std::thread::sleep(Duration::from_millis(wait));
        scene.act();
    }
    let records = (actions as i64 + 1) * SHARE;
    crate::wait_until_consumed(&first, records, Duration::from_secs(180));
    for (_, child) in &mut scene.members {
        child.must_live();
        child.kill();
    }
    crate::each_place_once(&first, records);
    Some(scene.counts)
}

#[test]
fn a_short_chaos_changes_nothing() {
    if let Some(counts) = round(3, 6) {
        eprintln!("{counts:?}");
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Seed after seed for CHAOS_MINUTES, behind those that a journal names, to which those that go well are added.
pub fn rounds(journal: &str, round: impl Fn(u64) -> Option<Counts>) {
    let minutes: u64 = setting("CHAOS_MINUTES").map_or(10, |text| text.parse().expect("minutes"));
    let done = std::fs::read_to_string(journal).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    for seed in done.lines().count() as u64.. {
        if Instant::now() > until {
            break;
        }
        let Some(counts) = round(seed) else {
            return;
        };
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(journal);
        let line = format!("seed {seed}: nothing lost, nothing twice: {counts:?}");
        eprintln!("{line}");
        writeln!(file.expect("a journal"), "{line}").expect("noted");
    }
}

#[test]
#[ignore = "minutes to hours: `make chaos`"]
fn chaos() {
    rounds("target/chaos.txt", |seed| round(seed, 20));
}
