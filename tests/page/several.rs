//! The pages of a process of several detectors.

use std::sync::Arc;

use anomalyd::service::http::Server;
use anomalyd::service::many_http::{Door, Reload, router};
use anomalyd::time::{Clock, ManualClock, Timestamp};
use prometheus::Registry;
use serde_json::json;

use crate::shown::answering;
use crate::{Browser, FLAWS, LOOKS, chromium};

#[test]
fn several_detectors_are_listed_with_one_sentence_each_and_lead_to_their_pages() {
    let Some(program) = chromium() else {
        return;
    };
    let (one, _) = answering("halls", &[], true);
    let (other, _) = answering("machines", &[], true);
    let failed = other.status.clone();
    let doors = [one, other].map(|sources| Door {
        name: sources.status.view().process.detector,
        sources,
    });
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    let reload: Reload = Arc::new(Vec::new);
    let router = router(doors.to_vec(), (&Registry::new(), &clock), reload, None);
    let server = Server::serving(([127, 0, 0, 1], 0).into(), router).unwrap();
    let at = format!("http://{}", server.address());
    let mut browser = Browser::start(&program);
    browser.look_like(1280, "light");
    browser.open(&format!("{at}/"));
    let text = browser.text();
    assert!(
        text.contains("2 of 2 detectors need somebody to look."),
        "{text}"
    );
    assert!(
        text.contains("halls: One episode is open: pump 1/α is not as it should be."),
        "{text}"
    );

    // What changes is shown by itself, what is worst first, and whoever stands on a link by the keyboard stays there.
    browser.value("document.querySelector('#main a[href=\"/d/halls\"]').focus()");
    failed.failed("the topic `nowhere` is not there".to_owned());
    browser.until("document.querySelector('#main li').innerText.includes('machines: Not ready: the topic nowhere is not there')");
    browser.until("document.activeElement.getAttribute('href') === '/d/halls'");
    browser.key("Enter");
    browser.until("location.pathname === '/d/halls' && document.getElementById('main')?.dataset.drawn === 'yes'");

    // Everything below it leads to what is below it, and back to all.
    let links = browser.value("[...document.querySelectorAll('a[href^=\"/\"]')].map(a => a.getAttribute('href')).filter(href => href !== '/' && !href.startsWith('/d/halls'))");
    assert_eq!(links, json!([]));
    browser.value(
        "[...document.querySelectorAll('#main a')].find(a => a.href.includes('/episode/')).focus()",
    );
    browser.key("Enter");
    browser.until("location.pathname.startsWith('/d/halls/episode/') && document.querySelectorAll('svg.chart path.actual').length > 0");
    browser.value("[...document.querySelectorAll('nav a')].find(a => a.textContent === 'All detectors').focus()");
    browser.key("Enter");
    browser.until(
        "location.pathname === '/' && document.getElementById('main')?.dataset.drawn === 'yes'",
    );

    for (width, scheme) in LOOKS {
        browser.look_like(width, scheme);
        for path in [
            "",
            "d/halls",
            "d/halls/models",
            "d/halls/settings",
            "d/halls/episode/d/t/0/1",
            "d/halls/key/pump%201%2F%CE%B1",
            "d/machines",
        ] {
            browser.open(&format!("{at}/{path}"));
            let flaws = browser.value(FLAWS);
            assert_eq!(flaws, json!([]), "{path} at {width}, {scheme}");
        }
    }
    assert_eq!(browser.problems, Vec::<String>::new());
}
