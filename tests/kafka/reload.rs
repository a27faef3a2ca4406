//! The configuration read again while the program runs.

use std::time::Duration;

use crate::binary::{PARTITIONS, feed, published, site, start};
use crate::binary::{wait_until_consumed, wait_until_started};
use crate::cluster;
use crate::daemon::{Daemon, Site, Start};
use crate::plant;
use crate::several::UNTRAINED;

const TOKEN: &str = "0123456789abcdef";

/// Whether all partitions are judged by this budget.
fn all_by(site: &Site, budget: f64) -> bool {
    let bits = |budget: &f64| budget.to_bits();
    budgets(site)
        .iter()
        .map(bits)
        .all(|found| found == budget.to_bits())
}

/// The budgets that the heads of the state name.
fn budgets(site: &Site) -> Vec<f64> {
    let mut latest = std::collections::BTreeMap::new();
    for seen in cluster::read_committed(&site.brokers, &site.output("told", "state")) {
        let key = seen.key.clone().unwrap_or_default();
        if key.ends_with(b"/head") {
            let head: serde_json::Value = serde_json::from_str(&seen.text()).expect("JSON");
            let budget = head["alerts"]["budget"]["per_record"].as_f64();
            latest.insert(key, budget.expect("a budget"));
        }
    }
    latest.into_values().collect()
}

fn status(daemon: &mut Daemon) -> serde_json::Value {
    let text = daemon.get("/status");
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

/// How often reading the configuration again came to this.
fn count(daemon: &mut Daemon, outcome: &str) -> u64 {
    let name = format!("outcome=\"{outcome}\"");
    let page = daemon.get("/metrics");
    let line = page
        .lines()
        .find(|line| line.starts_with("anomalyd_reloads_total") && line.contains(&name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.expect("the metric")
}

#[test]
fn another_budget_needs_no_restart_and_survives_a_kill() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(8, 600, 300);
    let site = site(brokers, "reload", &plant);
    let records = |from, to| plant.records(from, to, PARTITIONS as usize);
    let token = format!("http.token={TOKEN}");
    let set = [UNTRAINED[0], UNTRAINED[1], token.as_str()];
    let told = start("told", &set);
    site.create_topics(told);
    feed(&site, records(0, 300));
    let file = site.path("site.toml");
    let written = std::fs::read_to_string(&file).expect("the configuration");
    let write = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        std::fs::write(&file, written.replace(from, to)).expect("written");
    };

    let mut daemon = site.run(told);
    wait_until_started(&site, "told");
    wait_until_consumed(&site, "told", 8 * 300, &mut [&mut daemon]);
    let rate = "false_alarm_rate = 0.02";
    write(rate, "false_alarm_rate = 0.2\nsilence = 1");
    daemon.signal("-HUP");
    cluster::wait_for("a refusal", Duration::from_secs(20), || {
        count(&mut daemon, "refused") == 1
    });
    let problems = status(&mut daemon)["reload"]["problems"].to_string();
    assert!(problems.contains("alerts.silence") && problems.contains("alerts.false_alarm_rate"));
    let (code, answer) = daemon.post("/api/v1/reload", TOKEN).expect("an answer");
    assert!(code == 422 && answer.contains("2 problem(s)"), "{answer}");
    assert!(all_by(&site, 0.02));

    write(
        rate,
        "false_alarm_rate = 1e-9\n[gate]\nrecall_tolerance = 0.1",
    );
    let (code, answer) = daemon.post("/api/v1/reload", TOKEN).expect("an answer");
    assert!(code == 200 && answer.contains("\"applied\""), "{answer}");
    // Partitions without records take it up, too, before long.
    cluster::wait_for("a snapshot", Duration::from_secs(20), || {
        all_by(&site, 1e-9)
    });
    let alerts = || -> usize { published(&site, "told")[0].values().map(Vec::len).sum() };
    let before = alerts();

    write("records_max = 200", "records_max = 20");
    daemon.signal("-HUP");
    cluster::wait_for("what takes a restart", Duration::from_secs(20), || {
        count(&mut daemon, "needs_restart") == 1
    });
    let reload = &status(&mut daemon)["reload"];
    assert_eq!(reload["needs_restart"][0]["key"], "batch.records_max");
    assert_eq!(
        reload["applied"].as_array().map(Vec::len),
        Some(2),
        "{reload}"
    );
    assert_eq!(daemon.metric("anomalyd_restart_needed_settings"), 1);
    assert_eq!(
        daemon.metric("anomalyd_model_version"),
        0,
        "nothing was trained"
    );

    killed_it_goes_on(&site, told, (records(300, 450), records(450, 600)), daemon);
    assert!(before < alerts());
}

/// The budget is back; killed in the middle of what comes, it goes on where it was, by what judged there.
fn killed_it_goes_on(
    site: &Site,
    told: Start<'_>,
    (first, second): (Vec<cluster::Record>, Vec<cluster::Record>),
    mut daemon: Daemon,
) {
    feed(site, first);
    wait_until_consumed(site, "told", 8 * 320, &mut [&mut daemon]);
    daemon.kill();
    let mut daemon = site.run(told);
    feed(site, second);
    wait_until_consumed(site, "told", 8 * 600, &mut [&mut daemon]);
    let (ended, _) = daemon.terminate();
    assert!(ended.success());
    let [_, scores] = published(site, "told");
    assert_eq!(scores.values().map(Vec::len).sum::<usize>(), 8 * 600);
    assert!(all_by(site, 0.02));
}
