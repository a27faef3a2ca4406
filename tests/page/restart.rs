//! After a restart: what the process does not remember is read again from the log.

use std::sync::mpsc::channel;

use anomalyd::time::Timestamp;
use serde_json::json;

use crate::shown::{BEGAN, alert};
use crate::{FLAWS, LOOKS, PATIENCE, Visit};

#[test]
fn what_is_not_remembered_is_read_again_and_is_said_to_be() {
    let Some(Visit {
        at,
        mut browser,
        shown,
    }) = Visit::begin()
    else {
        return;
    };
    browser.look_like(1280, "light");
    // The log answers when it is told to.
    let ((begun, at_work), (go_on, held)) = (channel(), channel());
    *shown.notes.hold.lock().unwrap() = Some((begun, held));
    browser.open(&format!("{at}/key/restarted"));
    at_work.recv_timeout(PATIENCE).expect("the log is asked");
    browser.until("document.body.innerText.includes('being read again from the log')");
    assert_eq!(
        shown.notes.taken(),
        ["past of restarted at  : 600 before, 0 after"]
    );
    go_on.send(()).unwrap();
    browser.until("document.querySelectorAll('svg.chart path.expected').length > 0 && document.querySelectorAll('svg.chart circle').length === 400");
    let text = browser.text();
    let said = "read again from the log, judged by what the key did before at this time of day and week; cut, for so many records are read at a time.";
    assert!(text.contains(said), "{text}");

    // An episode from before the start is shown with the records around its beginning, before what is remembered.
    let mut before = alert("d/t/0/7", "open");
    before.approx_anomaly_start_time = Timestamp(BEGAN - 500_000);
    shown.status.alert(&before);
    browser.open(&format!("{at}/episode/d/t/0/7"));
    browser.until("document.body.innerText.includes('read again from the log') && document.querySelectorAll('svg.chart path.actual').length > 0");
    let asked = shown.notes.taken();
    assert_eq!(asked, ["past of pump 1/α at t[0] 7: 300 before, 400 after"]);
    browser.until("[...document.querySelectorAll('svg.chart title, svg.chart text, svg.chart line')].some(part => part.outerHTML.includes('remembered from here on'))");

    // Where enough is remembered, it is read on demand.
    browser.open(&format!("{at}/key/pump%201%2F%CE%B1"));
    assert!(shown.notes.taken().is_empty());
    browser.value("[...document.querySelectorAll('button')].find(b => b.textContent.startsWith('Read earlier')).focus()");
    browser.key("Enter");
    browser.until("document.querySelectorAll('svg.chart circle').length === 1000");
    for (width, scheme) in LOOKS {
        browser.look_like(width, scheme);
        for path in ["key/restarted", "episode/d/t/0/7"] {
            browser.open(&format!("{at}/{path}"));
            browser.until("document.body.innerText.includes('so many records')");
            let flaws = browser.value(FLAWS);
            assert_eq!(flaws, json!([]), "{path} at {width}, {scheme}");
        }
    }
    // That the key is not known here is all that the browser may complain of.
    let known = |problem: &String| !problem.contains("/api/v1/keys/restarted/series");
    let problems: Vec<&String> = browser.problems.iter().filter(|p| known(p)).collect();
    assert_eq!(problems, Vec::<&String>::new());
}
