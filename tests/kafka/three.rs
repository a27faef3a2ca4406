//! `make chaos` on three brokers, with the program itself and its models: processes that are killed and paused, one broker at a time that is killed,
//! frozen or restarted, rolling restarts of all three, leaders that move. What a `read_committed` reader sees in the end, every byte of every alert and
//! score, in order for each key, is what one process publishes that nothing happens to.

use std::time::{Duration, Instant};

use anomalyd::seed::Seed;
use rand::Rng;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::binary::{self, NO_TRAINING, PARTITIONS};
use crate::chaos::{self, Counts};
use crate::cluster::{self, Leaders, Own};
use crate::daemon::{Daemon, Site, Start};
use crate::plant::{self, Plant};

const MACHINES: usize = 12;
/// Rows that the model is trained on.
const CALM_ROWS: usize = 300;
/// Rows that each action is among.
const SHARE: usize = 30;
/// Rows at most, with those that are fed while brokers are waited for.
const ROWS_MAX: usize = 8_000;

/// Small batches: there is always a transaction under way.
const CHAOS: Start<'_> = Start {
    group: "chaos",
    instance: "a",
    set: &[NO_TRAINING, "workers=2", "batch.records_max=20"],
};

/// What a supervisor would start again: the watchdog's exit code.
const HUNG: i32 = 75;

struct Scene<'a> {
    own: &'a Own,
    site: Site,
    plant: Plant,
    daemons: Vec<(Start<'static>, Daemon)>,
    rng: ChaCha8Rng,
    counts: Counts,
    fed: usize,
}

impl<'a> Scene<'a> {
    fn new(own: &'a Own, seed: u64) -> Self {
        let plant = plant::seeded(MACHINES, ROWS_MAX, CALM_ROWS);
        let site = binary::site(&own.brokers, "three", &plant);
        let mut scene = Self {
            own,
            site,
            plant,
            daemons: Vec::new(),
            rng: Seed(seed).child("three").rng(),
            counts: Counts::new(),
            fed: 0,
        };
        scene.site.create_topics(binary::start("calm", &[]));
        scene.feed(CALM_ROWS);
        binary::train_first(&scene.site);
        scene.site.create_topics(CHAOS);
        for group in ["calm", "chaos"] {
            binary::give_models(&scene.site, group);
        }
        for instance in ["a", "b", "c"] {
            let start = Start { instance, ..CHAOS };
            scene.daemons.push((start, scene.site.run(start)));
        }
        scene
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn feed(&mut self, rows: usize) {
        let to = ROWS_MAX.min(self.fed + rows);
        let records = self.plant.records(self.fed, to, PARTITIONS as usize);
        self.fed = to;
        binary::feed(&self.site, records);
    }

    /// Starts those again that ended because something hung, or by an assertion of librdkafka's. They end for no other reason.
    fn supervise(&mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        for number in 0..self.daemons.len() {
            let (start, daemon) = &mut self.daemons[number];
            let Some(status) = daemon.has_ended() else {
                continue;
            };
            let log = daemon.log();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            eprintln!("{status}: {last:#?}");
            let what = match (status.code(), status.signal()) {
                (Some(HUNG), _) => "ended by its watchdog",
                (None, Some(6)) => "ended by an assertion of librdkafka's",
                _ => panic!("{status}: {log}"),
            };
            *daemon = self.site.run(*start);
            self.count(what);
        }
    }

    /// Waits, while records come and processes are looked after.
    fn wait(&mut self, what: &str, limit: Duration, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < until, "{what}: not within {limit:?}");
            self.supervise();
            self.feed(2);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// All brokers have all there is: the next one may go.
    fn wait_until_in_sync(&mut self) {
        self.wait("all in sync", Duration::from_secs(180), |scene| {
            Leaders::of(&scene.own.brokers).is_some_and(|found| found.in_sync(3))
        });
    }

    fn some_daemon(&mut self) -> usize {
        self.rng.gen_range(0..self.daemons.len())
    }

    fn kill(&mut self, number: usize) {
        let (start, daemon) = &mut self.daemons[number];
        daemon.kill();
        *daemon = self.site.run(*start);
    }

    fn pause(&mut self, millis: std::ops::Range<u64>) {
        let length = Duration::from_millis(self.rng.gen_range(millis));
        let number = self.some_daemon();
        self.daemons[number].1.pause(|| std::thread::sleep(length));
    }

    /// One thing that goes wrong.
    fn act(&mut self) {
        match self.rng.gen_range(0..20) {
            0..=8 => {
                self.count("kill -9");
                let number = self.some_daemon();
                self.kill(number);
            }
            9..=10 => {
                self.count("pause beyond the session");
                self.pause(3_500..6_000);
            }
            11 => {
                self.count("short pause");
                self.pause(50..2_000);
            }
            12 => {
                self.count("all killed");
                (0..self.daemons.len()).for_each(|number| self.kill(number));
            }
            13..=15 => self.kill_a_broker(),
            16 => self.freeze_a_broker(),
            17 => self.roll(),
            _ => self.move_leaders(),
        }
    }

    fn kill_a_broker(&mut self) {
        self.count("killed broker");
        let node = self.rng.gen_range(1..=3);
        let away = self.rng.gen_range(0..12_000);
        assert!(self.own.signal_one(node, "-9"));
        self.away_for(away);
        self.own.again_one(node);
        self.wait_until_in_sync();
    }

    fn freeze_a_broker(&mut self) {
        self.count("frozen broker");
        let node = self.rng.gen_range(1..=3);
        let away = self.rng.gen_range(500..14_000);
        assert!(self.own.signal_one(node, "-STOP"));
        self.away_for(away);
        assert!(self.own.signal_one(node, "-CONT"));
        self.wait_until_in_sync();
    }

    fn away_for(&mut self, millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        self.wait("a while", Duration::from_secs(180), |_| {
            until <= Instant::now()
        });
    }

    /// Each broker in turn is stopped in order and started again.
    fn roll(&mut self) {
        self.count("rolling restart");
        for node in 1..=3 {
            assert!(self.own.signal_one(node, "-TERM"));
            self.wait("a broker's end", Duration::from_secs(120), |scene| {
                !scene.own.signal_one(node, "-0")
            });
            self.own.again_one(node);
            self.wait_until_in_sync();
        }
    }

    /// Every partition gets another order of its replicas, of which the first leads.
    fn move_leaders(&mut self) {
        let brokers = &self.own.brokers;
        let before = Leaders::of(brokers).expect("metadata");
        before.reassign(brokers, |replicas| replicas.shuffle(&mut self.rng));
        cluster::elect_preferred_leaders(brokers);
        let after = Leaders::of(brokers).expect("metadata");
        *self.counts.entry("leaders moved").or_default() += after.moved_since(&before);
        self.count("move of leaders");
        self.wait_until_in_sync();
    }

    /// All is as if nothing had happened.
    fn end(mut self) -> Counts {
        let all = MACHINES * self.fed;
        let until = Instant::now() + Duration::from_secs(300);
        while binary::consumed(&self.site, "chaos") < all as i64 {
            let logs = || self.daemons.iter().map(|(_, daemon)| daemon.log());
            assert!(Instant::now() < until, "{}", logs().collect::<String>());
            self.supervise();
            std::thread::sleep(Duration::from_millis(200));
        }
        for (_, daemon) in &mut self.daemons {
            daemon.kill();
        }
        let set = [NO_TRAINING, "batch.records_max=2000"];
        let mut calm = self.site.run(binary::start("calm", &set));
        binary::wait_until_consumed(&self.site, "calm", all, &mut [&mut calm]);
        calm.kill();
        let expected = binary::published(&self.site, "calm");
        let found = binary::published(&self.site, "chaos");
        let figures = [0, 1].map(|which| binary::lost_and_twice(&expected[which], &found[which]));
        assert_eq!(figures, [(0, 0), (0, 0)], "alerts, scores: lost, twice");
        let number = |which: usize| expected[which].values().map(Vec::len).sum::<usize>();
        assert_eq!(number(1), all, "a score a record");
        assert!(number(0) > 0, "a plant without alerts shows nothing");
        assert!(
            expected == found,
            "the order of some key's messages differs"
        );
        *self.counts.entry("records").or_default() += all as u32;
        *self.counts.entry("alerts").or_default() += number(0) as u32;
        self.counts
    }
}

/// One seed. What happened; panics if the log is not as it should be.
fn round(own: &Own, seed: u64, actions: usize) -> Counts {
    let mut scene = Scene::new(own, seed);
    for _ in 0..actions {
        scene.feed(SHARE);
        let wait = scene.rng.gen_range(20..900);
        std::thread::sleep(Duration::from_millis(wait));
        scene.act();
        scene.supervise();
    }
    scene.end()
}

#[test]
#[ignore = "minutes to hours: `make chaos`"]
fn chaos_of_three_brokers() {
    let Some(own) = Own::three() else {
        return;
    };
    chaos::rounds("target/chaos-three.txt", |seed| Some(round(&own, seed, 20)));
}
