//! Processes of one group come and go under load: Kafka shares the partitions out, and nobody else is asked.

use std::time::{Duration, Instant};

use crate::binary::{
    NO_TRAINING, PARTITIONS, consumed, feed, give_models, lost_and_twice, published, site, start,
    train_first, wait_until_consumed,
};
use crate::cluster;
use crate::daemon::{Daemon, Site, Start};
use crate::plant::{self, Plant};

const MACHINES: usize = 16;
const CALM: usize = 300;
const ROWS: usize = 4_000;
/// So many records wait in the input, as long as there are any: whoever comes and goes does so under load.
const AHEAD: i64 = 400;
/// How long a change of the group may take.
const SOON: Duration = Duration::from_secs(60);

/// Keeps the input ahead of its readers.
struct Feeder<'a> {
    site: &'a Site,
    plant: &'a Plant,
    rows: usize,
}

impl Feeder<'_> {
    fn sent(&self) -> usize {
        self.rows * MACHINES
    }

    /// Sends what is due; answers how many records the group has consumed.
    fn top_up(&mut self) -> i64 {
        let consumed = consumed(self.site, "scaled");
        if self.sent() as i64 - consumed < AHEAD && self.rows < ROWS {
            let to = ROWS.min(self.rows + AHEAD as usize / MACHINES);
            let records = self.plant.records(self.rows, to, PARTITIONS as usize);
            feed(self.site, records);
            self.rows = to;
        }
        consumed
    }
}

/// Waits, under load, until each process holds its share; answers how long that took.
fn shared(feeder: &mut Feeder<'_>, daemons: &mut [Daemon]) -> Duration {
    let begun = Instant::now();
    let share = PARTITIONS as u64 / daemons.len() as u64;
    cluster::wait_for("a share for each process", SOON, || {
        feeder.top_up();
        daemons
            .iter_mut()
            .all(|daemon| daemon.metric("anomalyd_partitions_assigned") == share)
    });
    let took = begun.elapsed();
    // And they work: each partition gets on from where it was.
    let from = feeder.site.consumed("scaled");
    cluster::wait_for("each partition gets on", SOON, || {
        feeder.top_up();
        let now = feeder.site.consumed("scaled");
        from.iter().zip(&now).all(|(from, now)| from < now)
    });
    assert!(feeder.rows < ROWS, "the load ended before the change did");
    took
}

/// One process, four, two. What they publish is what one publishes that nothing happens to, every byte, in order for each key; and in the end
/// nothing is left to read.
#[test]
fn one_process_four_and_two_publish_what_one_does() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(MACHINES, ROWS, CALM);
    let site = site(brokers, "scaling", &plant);
    let set = [NO_TRAINING, "batch.records_max=200"];
    let first = start("scaled", &set);
    site.create_topics(start("calm", &[]));
    site.create_topics(first);
    feed(&site, plant.records(0, CALM, PARTITIONS as usize));
    train_first(&site);
    give_models(&site, "calm");
    give_models(&site, "scaled");

    let mut feeder = Feeder {
        site: &site,
        plant: &plant,
        rows: CALM,
    };
    let mut daemons = vec![site.run(first)];
    shared(&mut feeder, &mut daemons);
    for instance in ["b", "c", "d"] {
        daemons.push(site.run(Start { instance, ..first }));
    }
    let four = shared(&mut feeder, &mut daemons);
    for _ in 0..2 {
        let (status, took) = daemons.remove(0).terminate();
        assert!(
            status.success() && took < Duration::from_secs(5),
            "{status} after {took:?}"
        );
    }
    let two = shared(&mut feeder, &mut daemons);
    let left = ROWS - feeder.rows;
    feed(&site, plant.records(feeder.rows, ROWS, PARTITIONS as usize));
    let all = MACHINES * ROWS;
    let [c, d] = &mut daemons[..] else {
        panic!("two processes are left")
    };
    wait_until_consumed(&site, "scaled", all, &mut [c, d]);
    cluster::wait_for("no lag", SOON, || {
        c.metric("anomalyd_lag_records") + d.metric("anomalyd_lag_records") == 0
    });
    for daemon in &mut daemons {
        assert!(daemon.terminate().0.success());
    }

    let mut calm = site.run(start("calm", &[NO_TRAINING, "batch.records_max=2000"]));
    wait_until_consumed(&site, "calm", all, &mut [&mut calm]);
    assert!(calm.terminate().0.success());
    let (expected, found) = (published(&site, "calm"), published(&site, "scaled"));
    let figures: Vec<(usize, usize)> = (0..2)
        .map(|which| lost_and_twice(&expected[which], &found[which]))
        .collect();
    let [alerts, scores] =
        [0, 1].map(|which| expected[which].values().map(Vec::len).sum::<usize>());
    eprintln!(
        "{all} records, {scores} scores, {alerts} alerts; one to four {four:?}, to two {two:?}, {left} rows left then; (lost, twice): {figures:?}"
    );
    assert_eq!(figures, [(0, 0), (0, 0)]);
    assert!(
        scores == all && alerts > 0,
        "{scores} scores, {alerts} alerts"
    );
    assert!(
        expected == found,
        "the order of some key's messages differs"
    );
}
