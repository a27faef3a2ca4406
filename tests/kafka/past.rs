//! What people see after a restart: records are read again from the log.

use anomalyd::time::Timestamp;
use serde_json::Value;

use crate::binary::{PARTITIONS, feed, give_models, site, start, train_first};
use crate::binary::{wait_until_consumed, wait_until_started};
use crate::cluster;
use crate::daemon::{Daemon, Site, Start};
use crate::plant;

const TOKEN: &str = "0123456789abcdef";

fn ask(daemon: &mut Daemon, path: &str) -> Value {
    let text = daemon.get(path);
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn after_a_restart_the_course_of_a_key_and_of_an_episode_come_from_the_log() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let plant = plant::seeded(8, 600, 500);
    let site = site(brokers, "past", &plant);
    let token = format!("http.token={TOKEN}");
    let never = "training.rows_min=100000000";
    let set = [never, "training.rows_max=100000000", token.as_str()];
    let told = start("told", &set);
    site.create_topics(told);
    feed(&site, plant.records(0, 500, PARTITIONS as usize));
    train_first(&site);
    give_models(&site, "told");
    let mut daemon = site.run(told);
    wait_until_started(&site, "told");
    feed(&site, plant.records(500, 600, PARTITIONS as usize));
    wait_until_consumed(&site, "told", 8 * 600, &mut [&mut daemon]);
    let episodes = ask(&mut daemon, "/api/v1/episodes");
    let both = ["open", "closed"].map(|which| episodes[which].as_array().expect("a list").clone());
    let episode = both
        .concat()
        .into_iter()
        .find(|e| e["kind"] == "score")
        .expect("an episode");
    let (id, key) = (
        episode["id"].as_str().expect("id"),
        episode["key"].as_str().expect("key"),
    );
    let since = episode["since"].as_str().expect("when").to_owned();
    let (key, id) = (key.replace(' ', "%20"), id.to_owned());
    let (ended, _) = daemon.terminate();
    assert!(ended.success(), "{ended}");

    let mut daemon = site.run(told);
    daemon.wait_until_ready();
    the_past_is_told(&mut daemon, &key, (&id, &since));
    the_command_line_asks_it_to_train(&site, &daemon, told);
}

/// Of a key and an episode that the process does not remember.
fn the_past_is_told(daemon: &mut Daemon, key: &str, (id, since): (&str, &str)) {
    let series = format!("/api/v1/keys/{key}/series");
    assert_eq!(daemon.ask(&series).map(|(code, _)| code), Some(404));
    let past = ask(daemon, &format!("/api/v1/keys/{key}/past?most=5000"));
    assert!(past["found"].as_u64() >= Some(590), "{past}");
    assert_eq!(
        past["models"],
        serde_json::json!([1]),
        "{}",
        past["message"]
    );
    let message = past["message"].as_str().expect("a sentence");
    assert!(
        message.starts_with("read again from the log, judged by model 1;"),
        "{message}"
    );
    let points = past["points"].as_array().expect("points");
    assert!(points.iter().any(|point| point["alert"] == true));
    let explained = points
        .iter()
        .filter(|point| point["expected"][0].is_number());
    assert!(explained.count() > 500);
    let around = format!("/api/v1/keys/{key}/past?episode={id}&most=5000");
    let around = ask(daemon, &around);
    let found = around["found"].as_u64().expect("a number");
    // 300 records before it began, and 400 from there on, as far as there are so many.
    let before = points.iter().filter(|point| {
        let time = point["time"].as_i64().expect("a time");
        Timestamp(time).rfc3339().as_str() < since
    });
    let before = before.count() as u64;
    let after = points.len() as u64 - before;
    let wanted = before.min(300) + after.min(400);
    assert_eq!(found, wanted, "{before} before, {after} after: {around}");
    // What is no partition of the input is not read.
    let other = format!("/api/v1/keys/{key}/past?episode=pumps/other/0/1");
    assert_eq!(daemon.ask(&other).map(|(code, _)| code), Some(404));
}

/// The command line asks the process that runs, and says what it answers.
fn the_command_line_asks_it_to_train(site: &Site, daemon: &Daemon, told: Start<'_>) {
    let listens = daemon.address().expect("an address");
    let at = format!("http://{listens}");
    let (code, text) = site.ask(&["retrain", "--at", &at], told);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
    assert!(text.starts_with("a training begins now"), "{text}");
    let wrong = start("told", &["http.token=not-the-right-token"]);
    let (code, text) = site.ask(&["retrain", "--at", &at], wrong);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("this is not the token"), "{text}");
}
