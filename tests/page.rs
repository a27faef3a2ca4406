//! The pages in a real browser: Chromium without a window, over its debugging pipe. Skipped, with a word, where there is none.
#![cfg(feature = "daemon")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test's helpers, which read the clock"
)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anomalyd::alert::{AlertKind, InputRef, ScoredBy};
use anomalyd::model::card::Card;
use anomalyd::pipeline::Watched;
use anomalyd::record::dead_letter::{DeadLetter, Refusal};
use anomalyd::record::{DecodeError, Key};
use anomalyd::service::status::Status;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use serde_json::{Value, json};
use shown::{BEGAN, Shown, TOKEN, alert, shown};

#[expect(dead_code, reason = "others use the rest")]
#[path = "shared/shown.rs"]
mod shown;

#[path = "page/restart.rs"]
mod restart;
#[path = "page/several.rs"]
mod several;

/// Where the browser is; says so where there is none.
fn chromium() -> Option<PathBuf> {
    let named = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let each = named
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let given = std::env::var_os("ANOMALYD_CHROMIUM").map(PathBuf::from);
    let found = given.or_else(|| each.into_iter().find(|path| path.is_file()));
    if found.is_none() {
        println!("skipped: there is no Chromium in PATH (nor ANOMALYD_CHROMIUM)");
    }
    found
}

/// After so long a test that waits in vain fails, and says what for; what passes never waits for a clock.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one tab.
struct Browser {
    child: Child,
    to: File,
    /// What it says, message by message.
    from: Receiver<Vec<u8>>,
    session: Option<String>,
    next: u64,
    /// What the browser complained of.
    problems: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    fn start(program: &PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [to, from] = ["to", "from"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args([&to, &from]).status().unwrap();
        assert!(made.success());
        let script = r#"exec "$0" --headless=new --no-sandbox --disable-gpu --no-first-run --user-data-dir="$3" --remote-debugging-pipe about:blank 3<"$1" 4>"$2""#;
        let child = Command::new("sh")
            .args(["-c", script])
            .args([program, &to, &from, &folder.path().join("profile")])
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        // In the order in which the shell opens them: each waits for the other end.
        let to = OpenOptions::new().write(true).open(to).unwrap();
        let from = messages(File::open(from).unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            next: 0,
            problems: Vec::new(),
            _folder: folder,
        };
        let tab = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let whose = json!({"targetId": tab["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &whose);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    fn send(&mut self, method: &str, parameters: &Value) -> u64 {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        self.to.flush().unwrap();
        self.next
    }

    /// The next message, if one comes in time.
    fn receive(&mut self, by: Instant) -> Option<Value> {
        let left = by.saturating_duration_since(Instant::now());
        let bytes = match self.from.recv_timeout(left) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the browser has ended"),
        };
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        let parameters = &message["params"];
        let problem = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded") => Some(parameters["entry"].to_string()),
            Some("Runtime.consoleAPICalled") => Some(parameters["args"].to_string()),
            _ => None,
        };
        self.problems.extend(problem);
        Some(message)
    }

    /// What it answers to a message; `None` where it does not within [`PATIENCE`].
    fn answer(&mut self, id: u64) -> Option<Value> {
        let by = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(by)?;
            if message["id"] == id {
                return Some(message);
            }
        }
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let id = self.send(method, parameters);
        let Some(mut message) = self.answer(id) else {
            panic!("the browser does not answer {method} {parameters}");
        };
        assert!(message.get("error").is_none(), "{method}: {message}");
        message["result"].take()
    }

    /// Opens a page, and waits until it has drawn what is known.
    fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        self.until(&format!(
            "location.pathname === new URL('{url}').pathname && document.getElementById('main')?.dataset.drawn === 'yes'"
        ));
    }

    /// Waits until an expression holds: it is looked at with each change of the document. A page that goes away takes what waits in it along.
    fn until(&mut self, expression: &str) {
        let waits = format!(
            "new Promise(done => {{ const look = () => ({expression}) && done(true); look(); new MutationObserver(look).observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }}); }})"
        );
        let asked = json!({"expression": waits, "awaitPromise": true, "returnByValue": true});
        loop {
            let id = self.send("Runtime.evaluate", &asked);
            let Some(answer) = self.answer(id) else {
                let text = self.text();
                panic!("this did not come to hold: {expression}; the page says: {text}");
            };
            if answer["result"]["result"]["value"] == json!(true) {
                return;
            }
            let gone = answer.to_string();
            let moved = ["navigat", "context", "collected"]
                .iter()
                .any(|word| gone.contains(word));
            assert!(moved, "{expression}: {gone}");
        }
    }

    /// What an expression is.
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", &asked);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    fn text(&mut self) -> String {
        let text = self.value("document.body.innerText");
        text.as_str().unwrap().to_owned()
    }

    fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let code = if key == "Tab" { 9 } else { 13 };
            let text = match key {
                "Enter" => "\r",
                "+" => "+",
                _ => "",
            };
            let pressed = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", &pressed);
        }
    }

    /// How wide its window is, and whether people want it dark.
    fn look_like(&mut self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &scheme);
    }
}

/// What a browser says, read as it comes: each message ends with a zero.
fn messages(from: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(from).split(0) {
            let Ok(message) = message else { break };
            if sender.send(message).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What is wrong for people who see badly, have no mouse, or a narrow screen: text that stands out too little, things without a name, a page wider than its window.
const FLAWS: &str = r"(() => {
  const flaws = [];
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const parse = text => text.match(/[\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('svg') || e.classList.contains('skip') || !e.checkVisibility() || e.tagName === 'NOSCRIPT') continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5 && !e.disabled) flaws.push(`contrast ${ratio.toFixed(1)}: ${e.tagName} ${e.textContent.slice(0, 40)}`);
  }
  for (const e of document.querySelectorAll('a, button, input, select, svg[role=img], summary')) {
    const label = e.getAttribute('aria-label') || e.textContent.trim() || (e.id && document.querySelector(`label[for=${e.id}]`)?.textContent);
    if (!label) flaws.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) flaws.push(`wider than its window by ${wide}`);
  if (document.querySelectorAll('h1').length !== 1) flaws.push('not one main heading');
  return flaws;
})()";

/// Windows' widths, and whether it is day or night.
const LOOKS: [(u32, &str); 4] = [
    (1280, "light"),
    (1280, "dark"),
    (390, "light"),
    (390, "dark"),
];

/// The pages of a daemon of which one episode is open, and a browser.
struct Visit {
    shown: Shown,
    at: String,
    browser: Browser,
}

impl Visit {
    /// `None`, with a word, where there is no browser.
    fn begin() -> Option<Self> {
        let program = chromium()?;
        let shown = shown(&[&format!("http.token={TOKEN}")], true);
        Some(Self {
            at: format!("http://{}", shown.server.address()),
            shown,
            browser: Browser::start(&program),
        })
    }
}

#[test]
fn the_pages_say_what_is_wrong_and_are_drawn_well_wide_and_narrow_light_and_dark() {
    let Some(Visit {
        at,
        mut browser,
        shown: _shown,
    }) = Visit::begin()
    else {
        return;
    };
    let pages = [
        ("/", "One episode is open: pump 1/α is not as it should be."),
        ("/episode/d/t/0/1", "x 61.0, expected 49.0 (+19 spreads)"),
        ("/episode/d/t/0/9", "An episode that is not known here"),
        ("/key/pump%201%2F%CE%B1", "Evidence that something is wrong"),
        (
            "/models",
            "Refused: gives all held-out windows the same score.",
        ),
        ("/models", "Nothing was left to learn from 1 key:"),
        ("/models", "x: [input.calendar] would judge them by it"),
        ("/settings", "http.token"),
    ];
    for (width, scheme) in LOOKS {
        browser.look_like(width, scheme);
        for (path, words) in pages {
            browser.open(&format!("{at}{path}"));
            if path == "/" {
                // What is not shown is not explained.
                browser.until("document.querySelector('.strip .last')");
                let explained = browser.text().contains("At the right is");
                assert_eq!(explained, width > 640, "at {width}");
            }
            let text = browser.text();
            assert!(text.contains(words), "{path}: {text}");
            let flaws = browser.value(FLAWS);
            assert_eq!(flaws, json!([]), "{path} at {width}, {scheme}");
        }
    }
    // That an episode is not known is all that the browser may complain of.
    let known = |problem: &String| !problem.contains("/api/v1/episodes/d%2Ft%2F0%2F9");
    let problems: Vec<&String> = browser.problems.iter().filter(|p| known(p)).collect();
    assert_eq!(problems, Vec::<&String>::new());
}

#[test]
fn the_pages_can_be_told_what_an_episode_was() {
    let Some(Visit {
        at,
        mut browser,
        shown,
    }) = Visit::begin()
    else {
        return;
    };
    // From the sentence to the cause is one step, and the keyboard suffices.
    browser.open(&format!("{at}/"));
    browser.key("Tab");
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    browser.value(
        "[...document.querySelectorAll('#main a')].find(a => a.href.includes('/episode/')).focus()",
    );
    browser.key("Enter");
    browser.until("location.pathname === '/episode/d/t/0/1' && document.getElementById('main')?.dataset.drawn === 'yes'");
    let drawn = "document.querySelectorAll('svg.chart path.actual').length > 0 && document.querySelectorAll('svg.chart circle').length > 100";
    browser.until(drawn);

    // Who presses a button is asked for the token first, and told of the command.
    browser.value("[...document.querySelectorAll('button')].find(b => b.textContent === 'False alarm').click()");
    browser.until("document.querySelector('input[type=password]')");
    assert!(
        browser
            .text()
            .contains("anomalyd episodes dismiss d/t/0/1 --config FILE")
    );
    assert!(shown.notes.taken().is_empty());
    browser.value(&format!("document.querySelector('input[type=password]').value = '{TOKEN}'; document.querySelector('form').requestSubmit()"));
    browser.until("document.body.innerText.includes('training learns the records of d/t/0/1')");
    assert_eq!(shown.notes.taken(), ["d/t/0/1 false_positive false"]);

    // A token that comes with the address is kept for the tab, and no longer shown.
    browser.value("sessionStorage.clear()");
    browser.open(&format!("{at}/models#token={TOKEN}"));
    assert_eq!(
        browser.value("[sessionStorage.getItem('token'), location.hash]"),
        json!([TOKEN, ""])
    );
    browser.value(
        "[...document.querySelectorAll('button')].find(b => b.textContent === 'Train now').click()",
    );
    browser.until("document.body.innerText.includes('a training begins now')");
    assert_eq!(shown.notes.taken(), ["retrain"]);
}

/// Tells that a key sends nothing, and that records of another lack `y`, which counts.
fn gone(status: &Status) {
    let quiet = Key(Arc::from("quiet"));
    let records: Vec<Watched> = (0..50)
        .map(|second| Watched {
            key: quiet.clone(),
            time: Timestamp(BEGAN + 1000 * second),
            p_value: 0.5,
            evidence: 0.0,
            evidence_threshold: 9.2,
            alert: false,
            by_model: None,
            warming_up: false,
            record: 0,
            input: InputRef {
                at: TopicPartition::new("t", 0),
                offset: Offset(second),
            },
            score: 1.0,
            scored_by: ScoredBy::ColdStart,
            window: Vec::new(),
            row: vec![49.5, f64::from(second as i32)],
            expected: vec![49.0, f64::from(second as i32) - 0.25],
        })
        .collect();
    status.watched(&records);
    let mut card = Card::blank();
    card.counters = vec!["y".to_owned()];
    status.model(&card);
    let mut silence = alert("d/t/0/5-silence", "open");
    silence.kind = AlertKind::Silence;
    silence.key = quiet;
    silence.approx_anomaly_start_time = Timestamp(BEGAN + 49_000);
    silence.relevant_attribution.clear();
    let mut absence = alert("d/t/0/6-absence", "open");
    absence.kind = AlertKind::Silence;
    "y".clone_into(&mut absence.relevant_attribution[0].feature);
    absence.relevant_attribution[0].actual = None;
    for alert in [silence, absence] {
        status.alert(&alert);
    }
}

#[test]
fn what_does_not_come_and_what_counts_are_shown_as_such_without_being_asked_for() {
    let Some(Visit {
        at,
        mut browser,
        shown,
    }) = Visit::begin()
    else {
        return;
    };
    browser.look_like(1280, "light");
    browser.open(&format!("{at}/"));
    // What is new comes by itself: the page asks for the status no second time, not even once.
    gone(&shown.status);
    browser.until("document.body.innerText.includes('silent for longer than ever before')");
    browser.until("document.body.innerText.includes('no y in 1 record')");
    let asked = browser.value("performance.getEntriesByType('resource').filter(e => e.name.endsWith('/api/v1/status')).length");
    assert_eq!(asked, 0);
    // A silent key has nothing strange to show, and stands among the first all the same.
    browser.until(
        "document.querySelector('.strip rect.silence') && document.querySelector('.strip a.open')",
    );

    browser.open(&format!("{at}/key/quiet"));
    let text = browser.text();
    assert!(text.contains("it is silent for longer"), "{text}");
    assert!(
        text.contains("y (counts: more or less than expected"),
        "{text}"
    );
    browser.until("document.querySelectorAll('svg.chart rect.silence').length > 3 && document.querySelector('svg.chart path.bound')");
    browser.open(&format!("{at}/episode/d/t/0/5-silence"));
    let text = browser.text();
    assert!(text.contains("quiet: no records"), "{text}");
    assert!(text.contains("calling them false alarms would change nothing"));
    browser.open(&format!("{at}/episode/d/t/0/6-absence"));
    browser.until("[...document.querySelectorAll('svg.chart text')].some(text => text.textContent === 'no values')");
    for (width, scheme) in LOOKS {
        browser.look_like(width, scheme);
        for path in [
            "",
            "key/quiet",
            "episode/d/t/0/5-silence",
            "episode/d/t/0/6-absence",
        ] {
            browser.open(&format!("{at}/{path}"));
            assert_eq!(
                browser.value(FLAWS),
                json!([]),
                "{path} at {width}, {scheme}"
            );
        }
    }
    assert_eq!(browser.problems, Vec::<String>::new());
}

/// Records that cannot be read.
fn unread(many: i64) -> Vec<DeadLetter> {
    let letter = |offset| DeadLetter {
        detector: "d".into(),
        at: TopicPartition::new("t", 0),
        offset: Offset(offset),
        timestamp: Timestamp(BEGAN),
        key: None,
        value: None,
        headers: Vec::new(),
        reason: Refusal::Unreadable(DecodeError::NullValue),
    };
    (0..many).map(letter).collect()
}

/// What a page says first.
fn headline(browser: &mut Browser) -> String {
    let text = browser.value("document.querySelector('h1').innerText");
    text.as_str().unwrap().to_owned()
}

#[test]
fn a_page_is_not_green_while_records_cannot_be_read() {
    let Some(Visit {
        at,
        mut browser,
        shown,
    }) = Visit::begin()
    else {
        return;
    };
    let status = &shown.status;
    status.read(100, &unread(12));
    browser.open(&format!("{at}/"));
    // An episode is told first.
    let text = browser.text();
    let words = "12 % of the records of the last 60 seconds could not be read";
    assert!(text.contains("One episode is open"), "{text}");
    assert!(text.contains(words), "{text}");
    status.alert(&alert("d/t/0/1", "close"));
    browser.until("document.querySelector('.health').classList.contains('warn')");
    let headline = headline(&mut browser);
    assert!(headline.starts_with(words), "{headline}");
    assert!(
        headline.contains("anomalyd dead-letters list"),
        "{headline}"
    );
    // A few among many are no reason to come.
    status.read(10_000, &[]);
    browser.until("document.querySelector('.health').classList.contains('good')");
    let text = browser.text();
    assert!(text.contains("0.12 % of the records"), "{text}");
    assert_eq!(browser.problems, Vec::<String>::new());
}

#[test]
fn a_page_is_not_green_while_nothing_comes() {
    let Some(Visit {
        at,
        mut browser,
        shown,
    }) = Visit::begin()
    else {
        return;
    };
    let status = &shown.status;
    status.alert(&alert("d/t/0/1", "close"));
    browser.open(&format!("{at}/"));
    let words = headline(&mut browser);
    let nothing = "No record has been read since this process started";
    assert!(words.starts_with(nothing), "{words}");
    status.lag(&TopicPartition::new("t", 0), 0);
    let step = |second: i64| {
        status.stepped(0, Timestamp(BEGAN + second * 1000));
        status.looked(&Arc::default())
    };
    for second in 0..700 {
        step(second);
        status.read(1, &[]);
    }
    browser.until("document.querySelector('.health').classList.contains('good')");
    step(761);
    browser.until("document.querySelector('.health').classList.contains('warn')");
    let words = headline(&mut browser);
    assert!(words.starts_with("No record has come for "), "{words}");
    assert!(words.ends_with("longer than usual."), "{words}");
    assert_eq!(browser.problems, Vec::<String>::new());
}

#[test]
fn charts_are_looked_at_closer_by_the_keyboard_and_all_of_a_page_at_once() {
    let Some(Visit {
        at,
        mut browser,
        shown: _shown,
    }) = Visit::begin()
    else {
        return;
    };
    browser.look_like(1280, "light");
    browser.open(&format!("{at}/key/pump%201%2F%CE%B1"));
    let circles = "document.querySelectorAll('svg.chart circle').length";
    browser.until(&format!("{circles} === 600"));
    browser.value("document.getElementById('chart-x').focus()");
    browser.key("ArrowLeft");
    let said =
        "document.getElementById('chart-x').closest('figure').querySelector('output').textContent";
    browser.until(&format!("{said}.includes('61, expected 49')"));
    // Half of the time, and less, in all charts; then all of it again, and the focus stays.
    browser.key("+");
    browser.until(&format!(
        "{circles} < 400 && !document.getElementById('whole').hidden"
    ));
    browser.until("document.activeElement.id === 'chart-x'");
    browser.key("Escape");
    browser.until(&format!(
        "{circles} === 600 && document.getElementById('whole').hidden"
    ));
    // A key counts also when the charts were just made anew, and nothing is drawn yet. Those are not meant that an answer from before brings.
    browser.value("new MutationObserver((_, own) => { const chart = document.getElementById('chart-x'); if (chart && !chart.firstChild && !document.getElementById('whole').hidden) { own.disconnect(); window.early = true; chart.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' })); } }).observe(document.body, { subtree: true, childList: true })");
    browser.key("+");
    browser.until(&format!(
        "window.early && {circles} === 600 && document.getElementById('whole').hidden"
    ));
    assert_eq!(browser.problems, Vec::<String>::new());
}

/// The report of a backtest: two pumps, one of which goes wrong twice, the second time less so.
fn report(folder: &std::path::Path) -> String {
    let mut text = "time,pump,flow,pressure,fault\n".to_owned();
    for i in 0..1500_u32 {
        for pump in ["one & <only>", "two"] {
            let wave = (f64::from(i) / 9.0).sin() + f64::from(i * 7919 % 97) / 97.0;
            let by = match i {
                1000..1040 => 8.0,
                1200..1210 => 1.6,
                _ => 0.0,
            };
            let fault = by > 0.0 && pump != "two";
            let other = wave + f64::from(i * 104_729 % 89) / 300.0 + if fault { by } else { 0.0 };
            let (day, hour, minute) = (1 + i / 1440, i / 60 % 24, i % 60);
            text += &format!(
                "2026-03-{day:02}T{hour:02}:{minute:02}:00Z,{pump},{wave},{other},{}\n",
                u8::from(fault)
            );
        }
    }
    let [input, report] = ["pumps.csv", "pumps.html"].map(|name| folder.join(name));
    std::fs::write(&input, text).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_anomalyd"))
        .args([
            "backtest",
            "--key",
            "pump",
            "--labels",
            "fault",
            "--warmup",
            "800",
            "-s",
            "model.kind=pca",
        ])
        .args([
            "-s",
            "alerts.false_alarm_rate=1/month",
            "-s",
            "training.interval=30d",
        ])
        .arg("--input")
        .arg(&input)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    format!("file://{}", report.display())
}

#[test]
fn a_report_is_drawn_well_and_its_slider_tells_what_another_budget_would_have_opened() {
    let Some(program) = chromium() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = report(folder.path());
    let mut browser = Browser::start(&program);
    for (width, scheme) in LOOKS {
        browser.look_like(width, scheme);
        browser.open(&at);
        // Everything must be readable, also what is folded away.
        browser
            .value("document.querySelectorAll('details').forEach(part => { part.open = true; })");
        assert_eq!(browser.value(FLAWS), json!([]), "at {width}, {scheme}");
    }
    let text = browser.text();
    for words in [
        "labelled fault",
        "one & <only>: pressure",
        "expected",
        "Evidence",
        "Budget of false alarms",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // A card has its features over what was expected, and the evidence; a lane leads to it, by the keyboard as well.
    let drawn = "document.querySelectorAll('.card svg.chart path.actual').length > 1 && document.querySelectorAll('.card svg.chart path.expected').length > 0 && document.querySelectorAll('.card svg.chart path.band').length > 0";
    browser.until(drawn);
    browser.value("document.querySelector('.marks a').focus()");
    browser.key("Enter");
    browser.until("location.hash === '#e0' && document.activeElement.id === 'e0'");

    // The slider goes to budgets that open more, and back.
    let marks = "document.querySelectorAll('.marks .opened').length";
    let own = browser.value(marks);
    let said = "document.getElementById('said').textContent";
    assert!(
        browser
            .value(said)
            .as_str()
            .unwrap()
            .contains("\"1/month\" (configured): ")
    );
    browser.value("(() => { const rate = document.getElementById('rate'); rate.value = rate.max; rate.dispatchEvent(new Event('input')); })()");
    assert!(
        browser
            .value(said)
            .as_str()
            .unwrap()
            .contains("\"4/hour\": ")
    );
    let more = browser.value(marks);
    assert!(more.as_u64() > own.as_u64(), "{more} of {own}");
    browser.value("(() => { const rate = document.getElementById('rate'); rate.value = rate.defaultValue; rate.dispatchEvent(new Event('input')); })()");
    assert_eq!(browser.value(marks), own);
    assert_eq!(browser.problems, Vec::<String>::new());
}

#[test]
fn a_page_that_complains_would_be_noticed() {
    let Some(program) = chromium() else {
        return;
    };
    let mut browser = Browser::start(&program);
    let page = "data:text/html,<h1 style='color:%23eee'>pale</h1><button></button><div style='width:5000px'>wide</div><script>throw 1</script>";
    browser.call("Page.navigate", &json!({"url": page}));
    browser.until("document.querySelector('div') && document.querySelector('script')");
    let flaws = browser.value(FLAWS).to_string();
    for word in ["contrast", "no name", "wider"] {
        assert!(flaws.contains(word), "{word} is not among {flaws}");
    }
    assert!(!browser.problems.is_empty());
}
