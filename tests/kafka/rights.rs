//! The rights that docs/security.md lists are enough, and none of them can be left out.

use std::time::Duration;

use crate::binary;
use crate::cluster::{self, Acl};
use crate::daemon::{Daemon, Site};
use crate::plant;

/// A right: the kind of resource, its name in the document, and the operation, in Kafka's numbers.
type Right = (u8, String, u8);

/// The table of the document.
fn listed() -> Vec<Right> {
    let text = std::fs::read_to_string("docs/security.md").unwrap();
    let table = text.split("<!-- rights -->").nth(1).unwrap();
    let table = table.split("<!-- /rights -->").next().unwrap();
    table
        .lines()
        .filter(|line| line.contains('`'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let kind = match cells[1] {
                "topic" => 2,
                "group" => 3,
                "transactional id" => 5,
                other => panic!("{other}"),
            };
            let operation = match cells[3] {
                "Read" => 3,
                "Write" => 4,
                other => panic!("{other}"),
            };
            (kind, cells[2].trim_matches('`').to_owned(), operation)
        })
        .collect()
}

/// The name of a resource at a site.
fn name(site: &Site, named: &str) -> String {
    match named {
        "input.topics" => site.input(),
        "input.group" => site.group("g"),
        "output.alerts" => site.output("g", "alerts"),
        "output.scores" => site.output("g", "scores"),
        "output.dead_letters" => site.output("g", "dead"),
        "output.state" => site.output("g", "state"),
        "models.topic" => site.output("g", "models"),
        "feedback.topic" => site.output("g", "feedback"),
        "GROUP/*" => format!("{}/*", site.group("g")),
        "MODELS/*" => format!("{}/*", site.output("g", "models")),
        other => panic!("{other}"),
    }
}

/// Whether the program trains a model, has everything scored, and goes on after a restart, with these rights and no other.
fn works(rights: &[Right], without: Option<usize>) -> Option<bool> {
    let brokers = cluster::brokers()?;
    let plant = plant::seeded(4, 700, 700);
    let site = binary::site(brokers, "least", &plant);
    let start = binary::start("g", &[]);
    site.create_topics(start);
    let names: Vec<String> = rights
        .iter()
        .map(|(_, named, _)| name(&site, named))
        .collect();
    let mut acls: Vec<(u8, &str, Acl)> = Vec::new();
    for (at, ((kind, _, operation), name)) in rights.iter().zip(&names).enumerate() {
        // Some right on each, so that all others are denied: to create implies none of those that count.
        acls.push((*kind, name, Acl::Grant(5)));
        if Some(at) != without {
            acls.push((*kind, name, Acl::Grant(*operation)));
        }
    }
    let mut rubbish = plant.records(0, 350, 4);
    rubbish.push((
        Some(0),
        Some(b"k".to_vec()),
        Some(b"rubbish".to_vec()),
        None,
    ));
    binary::feed(&site, rubbish);
    if !cluster::set_acls(brokers, &acls) {
        eprintln!("skipped: this broker has no authoriser");
        return None;
    }
    for (from, to) in [(0, 350 * 4 + 1), (350, 350 * 4)] {
        if from > 0 {
            cluster::set_acls(brokers, &[(2, &site.input(), Acl::Grant(4))]);
            binary::feed(&site, plant.records(from, 700, 4));
        }
        let mut daemon = site.run(start);
        let mut found = None;
        cluster::wait_for("work, or a refusal", Duration::from_secs(90), || {
            found = works_or_says_why_not(&mut daemon, to);
            found.is_some()
        });
        if daemon.has_ended().is_none() {
            daemon.kill();
        }
        if found == Some(false) {
            return found;
        }
    }
    Some(true)
}

/// Whether a process has a model and has consumed so many records; `Some(false)`: a right is missing, as its log says.
fn works_or_says_why_not(daemon: &mut Daemon, records: u64) -> Option<bool> {
    if daemon.log().contains("uthorization") {
        return Some(false);
    }
    assert!(daemon.has_ended().is_none(), "{}", daemon.log());
    let (_, page) = daemon.ask("/metrics")?;
    let sum = |name: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    let done = sum("anomalyd_model_version") >= 1.0
        && sum("anomalyd_records_consumed_total") >= records as f64;
    done.then_some(true)
}

#[test]
fn the_rights_that_are_listed_are_enough_and_none_can_be_left_out() {
    let rights = listed();
    assert_eq!(rights.len(), 12);
    match works(&rights, None) {
        None => return,
        Some(enough) => assert!(enough, "the rights listed are not enough"),
    }
    // All at once: each waits for what it must not do.
    std::thread::scope(|scope| {
        let tried: Vec<_> = (0..rights.len())
            .map(|at| {
                let rights = &rights;
                scope.spawn(move || (at, works(rights, Some(at))))
            })
            .collect();
        for tried in tried {
            let (at, found) = tried.join().unwrap();
            assert_eq!(found, Some(false), "it works without {:?}", rights[at]);
        }
    });
}
