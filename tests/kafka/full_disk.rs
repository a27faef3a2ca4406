//! A broker whose disk is full: what becomes of records, results and state when there is room again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::binary::{self, NO_TRAINING, PARTITIONS};
use crate::cluster;
use crate::daemon::Site;
use crate::plant;

const MACHINES: usize = 8;
const ROWS: usize = 1_500;

/// A small disk with the data of a broker.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it at the folder; where that is not allowed, says so.
    fn mount(folder: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"]);
        let mounted = command.arg(&folder).output().expect("mount runs");
        if mounted.status.success() {
            return Some(Self(folder));
        }
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        eprintln!("skipped: no small disk can be made, which takes root: {why}");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Until nothing more goes on it.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        let zeros = vec![0; 64 * 1024];
        while file.write_all(&zeros).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        // The folder that the broker could not remove while it was there.
        if let Some(folder) = self.0.parent().filter(|_| unmounted.is_ok()) {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

/// A broker that cannot write to its only folder ends (`log.dirs`, one of one failed); the daemon waits for it, and goes on where it was.
#[test]
#[ignore = "as root, with a disk of its own: `make chaos`"]
fn a_full_disk_costs_no_record_and_gives_none_twice() {
    let folder = std::env::temp_dir().join(cluster::unique("anomalyd-full"));
    let Some(disk) = Disk::mount(folder.join("data-1")) else {
        return;
    };
    let Some(own) = cluster::Own::start_in(folder) else {
        return;
    };
    let plant = plant::seeded(MACHINES, ROWS, 100);
    let site = binary::site(&own.brokers, "full", &plant);
    let set = [NO_TRAINING, "batch.records_max=20"];
    let start = binary::start("g", &set);
    site.create_topics(start);
    binary::feed(&site, plant.records(0, ROWS, PARTITIONS as usize));
    let mut daemon = site.run(start);
    let all = MACHINES * ROWS;
    cluster::wait_for("that it works", Duration::from_secs(60), || {
        daemon.must_live();
        binary::consumed(&site, "g") > 0
    });
    disk.fill();
    cluster::wait_for("that the broker ends", Duration::from_secs(120), || {
        daemon.must_live();
        !own.signal_one(1, "-0")
    });
    cluster::wait_for("that it says so", Duration::from_secs(120), || {
        daemon.must_live();
        daemon.ask("/readyz").is_none_or(|(code, _)| code == 503)
    });
    // The process is well all the same: whoever restarts it by this would change nothing.
    assert_eq!(daemon.ask("/healthz").expect("an answer").0, 200);
    disk.make_room();
    own.again();
    let before = binary::consumed(&site, "g");
    assert!(before < all as i64, "all was done before the disk was full");
    eprintln!("the disk was full after {before} of {all} records");
    binary::wait_until_consumed(&site, "g", all, &mut [&mut daemon]);
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{}", daemon.log());
    once_each(&site, all);
}

/// Every record has one score, and no other has any.
fn once_each(site: &Site, all: usize) {
    let mut places: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for seen in cluster::read_committed(&site.brokers, &site.output("g", "scores")) {
        let score: serde_json::Value = serde_json::from_str(&seen.text()).unwrap();
        let number = |name: &str| score["input"][name].as_i64().expect("a place");
        *places
            .entry((number("partition"), number("offset")))
            .or_default() += 1;
    }
    let twice: Vec<_> = places.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "twice: {twice:?}");
    assert_eq!(places.len(), all, "lost");
}
