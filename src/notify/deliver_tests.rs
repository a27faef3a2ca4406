//! The loop against a source and an endpoint that do as they are told, by a clock that goes only when somebody waits.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::super::endpoint::{Kind, Live};
use super::super::message::Message;
use super::super::message::tests::{alert, endpoint, words};
use super::*;
use crate::stream::{Offset, TopicPartition};
use crate::time::{ManualClock, Timestamp};

/// What the clock can tell apart.
const TICK: Duration = Duration::from_millis(1);

/// What comes when, in seconds, and what was committed.
struct Script {
    clock: Arc<ManualClock>,
    coming: VecDeque<(u64, Taken)>,
    committed: Arc<Mutex<Vec<i64>>>,
    stop: Arc<AtomicBool>,
    /// The assignment that counts.
    assignment: u64,
    /// From when on, in seconds, partitions are somebody else's.
    lost_at: Option<u64>,
}

impl Script {
    fn seconds(&self) -> u64 {
        self.clock.monotonic().as_secs()
    }
}

impl AlertSource for Script {
    fn next(&mut self, wait: Duration) -> Result<Option<Taken>, KafkaFailure> {
        let now = self.seconds();
        if self.coming.front().is_some_and(|(at, _)| *at <= now) {
            return Ok(self.coming.pop_front().map(|(_, taken)| taken));
        }
        self.clock.advance(wait.max(TICK));
        if self.coming.is_empty() && 3_000 < self.seconds() {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(None)
    }

    fn idle(&mut self, length: Duration) -> Result<(), KafkaFailure> {
        self.clock.advance(length.max(TICK));
        if self.lost_at.is_some_and(|at| at <= self.seconds()) {
            self.assignment = 2;
        }
        Ok(())
    }

    fn holds(&self, taken: &Taken) -> bool {
        taken.assignment == self.assignment
    }

    fn commit(&mut self, next: &Positions) -> Result<(), KafkaFailure> {
        let places = next.values().map(|offset| offset.0);
        self.committed.lock().unwrap().extend(places);
        Ok(())
    }

    fn lag(&mut self) -> Option<u64> {
        Some(self.coming.len() as u64)
    }
}

/// Answers by a script, then that it has it; remembers when it was asked, and what.
struct Endpoint {
    answers: VecDeque<Answer>,
    asked: Arc<Mutex<Vec<(i64, Message)>>>,
    committed: Arc<Mutex<Vec<i64>>>,
    /// What was committed when each was asked.
    before: Arc<Mutex<Vec<usize>>>,
    /// The process is told to end while it is asked for so many times.
    stop: Option<(usize, Arc<AtomicBool>)>,
    /// Where it was told that it is by now.
    urls: Arc<Mutex<Vec<String>>>,
    /// It becomes another while it is asked for so many times.
    becomes: Option<(usize, Live, super::super::endpoint::Endpoint)>,
}

impl Post for Endpoint {
    fn change(&mut self, endpoint: &super::super::endpoint::Endpoint) -> Result<(), String> {
        self.urls.lock().unwrap().push(endpoint.url.clone());
        Ok(())
    }

    fn post(&mut self, message: &Message, now: Timestamp) -> Answer {
        let mut asked = self.asked.lock().unwrap();
        asked.push((now.0 / 1000, message.clone()));
        self.before
            .lock()
            .unwrap()
            .push(self.committed.lock().unwrap().len());
        if let Some((at, stop)) = &self.stop
            && *at == asked.len()
        {
            stop.store(true, Ordering::Relaxed);
        }
        if let Some((at, live, other)) = &self.becomes
            && *at == asked.len()
        {
            live.set(other.clone());
        }
        self.answers.pop_front().unwrap_or(Answer::Delivered(200))
    }
}

/// What came of a run.
struct Ran {
    asked: Vec<(i64, Message)>,
    committed: Vec<i64>,
    before: Vec<usize>,
    events: Vec<Event>,
    urls: Vec<String>,
}

impl Ran {
    fn times(&self) -> Vec<i64> {
        self.asked.iter().map(|(at, _)| *at).collect()
    }

    fn bodies(&self) -> Vec<Value> {
        let each = self.asked.iter();
        each.map(|(_, message)| serde_json::from_slice(&message.body).unwrap())
            .collect()
    }

    fn count(&self, event: &Event) -> usize {
        self.events.iter().filter(|told| *told == event).count()
    }
}

fn taken(offset: i64, alert: Result<Alert, String>) -> Taken {
    Taken {
        at: TopicPartition::new("alerts", 0),
        offset: Offset(offset),
        assignment: 1,
        alert,
    }
}

/// Each alert by when it comes, its key, its episode, its event and severity.
fn coming(alerts: &[(u64, &str, i64, &str, &str)]) -> VecDeque<(u64, Taken)> {
    let each = alerts.iter().zip(0..);
    each.map(|((at, key, onset, event, severity), offset)| {
        (
            *at,
            taken(offset, Ok(alert(key, *onset, event, severity, offset))),
        )
    })
    .collect()
}

#[derive(Default)]
struct Plan {
    coming: VecDeque<(u64, Taken)>,
    answers: Vec<Answer>,
    lost_at: Option<u64>,
    stop_at: Option<usize>,
    becomes: Option<(usize, super::super::endpoint::Endpoint)>,
}

fn run(endpoint_: super::super::endpoint::Endpoint, plan: Plan) -> Ran {
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let committed = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let before = Arc::new(Mutex::new(Vec::new()));
    let urls = Arc::new(Mutex::new(Vec::new()));
    let live = Live::from(endpoint_);
    let source = Script {
        clock: Arc::clone(&clock),
        coming: plan.coming,
        committed: Arc::clone(&committed),
        stop: Arc::clone(&stop),
        assignment: 1,
        lost_at: plan.lost_at,
    };
    let poster = Endpoint {
        answers: plan.answers.into(),
        asked: Arc::clone(&asked),
        committed: Arc::clone(&committed),
        before: Arc::clone(&before),
        stop: plan.stop_at.map(|at| (at, Arc::clone(&stop))),
        urls: Arc::clone(&urls),
        becomes: plan.becomes.map(|(at, other)| (at, live.clone(), other)),
    };
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let around = Around {
        observer: Arc::new(move |event| {
            if !matches!(event, Event::Goes(_)) {
                heard.lock().unwrap().push(event);
            }
        }),
        clock,
        stop,
        words,
        seed: Seed(1),
    };
    Notifier::new(live.seen(), (source, poster), around)
        .run()
        .unwrap();
    let (asked, committed) = (
        asked.lock().unwrap().clone(),
        committed.lock().unwrap().clone(),
    );
    let (before, events) = (
        before.lock().unwrap().clone(),
        events.lock().unwrap().clone(),
    );
    Ran {
        asked,
        committed,
        before,
        events,
        urls: std::mem::take(&mut *urls.lock().unwrap()),
    }
}

fn later(after: Option<u64>) -> Answer {
    Answer::Later {
        code: Some(503),
        why: "it answers 503".to_owned(),
        after: after.map(Duration::from_secs),
    }
}

#[test]
fn what_comes_within_the_wait_is_one_message_and_is_committed_behind_it() {
    let coming = coming(&[
        (1, "a", 0, "open", "low"),
        (3, "b", 1, "open", "high"),
        (5, "a", 0, "close", "low"),
        (100, "b", 1, "close", "high"),
    ]);
    let ran = run(
        endpoint(Kind::Slack),
        Plan {
            coming,
            ..Plan::default()
        },
    );
    assert_eq!(ran.times(), [11, 110]);
    let texts: Vec<String> = ran
        .bodies()
        .iter()
        .map(|body| body["text"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        texts[0].starts_with("high: b:") && texts[0].contains("over: a:"),
        "{texts:?}"
    );
    assert_eq!((ran.committed, ran.before), (vec![3, 4], vec![0, 1]));
}

#[test]
fn what_nobody_is_told_of_is_committed_too() {
    let mut coming = coming(&[(1, "a", 0, "open", "low"), (2, "b", 1, "open", "high")]);
    coming.push_back((2, taken(2, Err("no JSON".to_owned()))));
    coming.push_back((50, taken(3, Ok(alert("a", 0, "close", "low", 3)))));
    coming.push_back((80, taken(4, Ok(alert("b", 1, "close", "high", 4)))));
    let mut slack = endpoint(Kind::Slack);
    slack.severity_min = crate::alert::Severity::High;
    slack.send_resolved = false;
    let ran = run(
        slack,
        Plan {
            coming,
            ..Plan::default()
        },
    );
    assert_eq!(ran.asked.len(), 1);
    assert_eq!(ran.committed, [3, 4, 5]);
    assert_eq!(ran.count(&Event::Unreadable), 1);
    assert_eq!(ran.count(&Event::PassedOver), 3);
}

#[test]
fn a_closing_is_told_only_after_its_opening_is_committed() {
    for kind in [Kind::Pagerduty, Kind::Alertmanager] {
        let coming = coming(&[
            (1, "a", 0, "open", "low"),
            (2, "a", 0, "update", "high"),
            (3, "a", 0, "close", "high"),
        ]);
        let ran = run(
            endpoint(kind),
            Plan {
                coming,
                ..Plan::default()
            },
        );
        assert_eq!(
            (ran.committed, ran.before),
            (vec![2, 3], vec![0, 1]),
            "{kind:?}"
        );
    }
}

#[test]
fn failures_are_tried_again_later_and_later_and_as_the_endpoint_wants() {
    let mut answers = vec![later(None); 8];
    answers.push(later(Some(200)));
    let coming = coming(&[(0, "a", 0, "open", "low"), (20, "b", 1, "open", "low")]);
    let ran = run(
        endpoint(Kind::Slack),
        Plan {
            coming,
            answers,
            ..Plan::default()
        },
    );
    let times = ran.times();
    let waits: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, most) in waits.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        assert!(
            most / 2 - 1 <= *wait && *wait <= most + 1,
            "{wait} of {most}"
        );
    }
    assert!((200..=201).contains(&waits[8]), "{waits:?}");
    // The same message until it is taken, and what came meanwhile is the next one.
    assert!(
        ran.asked[..10]
            .iter()
            .all(|(_, message)| message == &ran.asked[0].1)
    );
    assert_eq!((ran.asked.len(), &ran.committed[..]), (11, &[1, 2][..]));
    assert_eq!(ran.count(&Event::Answered(Some(503))), 9);
    assert_eq!(
        ran.events
            .iter()
            .filter(|event| matches!(event, Event::Waits(Some(_))))
            .count(),
        9
    );
}

#[test]
fn other_settings_are_in_effect_between_two_attempts() {
    // What it answers would be waited for long: the new address is tried at once.
    let mut other = endpoint(Kind::Pagerduty);
    other.url = "https://other".to_owned();
    other.severity_min = crate::alert::Severity::High;
    let coming = coming(&[
        (0, "a", 0, "open", "low"),
        (0, "b", 1, "open", "high"),
        (50, "c", 2, "open", "low"),
        (90, "c", 2, "update", "high"),
    ]);
    let ran = run(
        endpoint(Kind::Pagerduty),
        Plan {
            coming,
            answers: vec![later(Some(3_000))],
            becomes: Some((1, other)),
            ..Plan::default()
        },
    );
    assert_eq!(ran.urls, ["https://other"]);
    let times = ran.times();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(times[1] - times[0] <= 1, "{times:?}");
    // What was not delivered before is looked at again: it is below the least severity by now.
    for (number, onset) in [(0, 0), (1, 1), (2, 2)] {
        let body = String::from_utf8_lossy(&ran.asked[number].1.body);
        let id = format!("pumps/records/3/{onset}\"");
        assert!(body.contains(&id), "{number}: {body}");
    }
    assert_eq!(ran.committed, [2, 3, 4]);
}

#[test]
fn what_is_refused_is_passed_over_and_counted() {
    let answers = vec![Answer::Refused {
        code: 404,
        said: "no such hook".to_owned(),
    }];
    let coming = coming(&[
        (0, "a", 0, "open", "low"),
        (1, "b", 1, "open", "low"),
        (99, "b", 1, "close", "low"),
    ]);
    let ran = run(
        endpoint(Kind::Slack),
        Plan {
            coming,
            answers,
            ..Plan::default()
        },
    );
    assert_eq!((ran.asked.len(), &ran.committed[..]), (2, &[2, 3][..]));
    assert_eq!(
        (
            ran.count(&Event::Refused(2)),
            ran.count(&Event::Delivered(1))
        ),
        (1, 1)
    );
}

#[test]
fn a_storm_waits_for_the_rate_and_is_one_message() {
    let mut slack = endpoint(Kind::Slack);
    slack.group_wait = Duration::ZERO;
    slack.rate_limit = super::super::rate::Rate::parse("2/minute").unwrap();
    let many: Vec<(u64, String)> = (0..40)
        .map(|second| (second, format!("P-{second}")))
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|(at, key)| (*at, key.as_str(), *at as i64, "open", "low"))
        .collect();
    let ran = run(
        slack,
        Plan {
            coming: coming(&many),
            ..Plan::default()
        },
    );
    assert_eq!(ran.times(), [0, 1, 30, 60]);
    assert_eq!(ran.committed, [1, 2, 30, 40]);
}

#[test]
fn what_another_reader_has_taken_over_is_theirs_to_tell() {
    let coming = coming(&[(0, "a", 0, "open", "low")]);
    let plan = Plan {
        coming,
        answers: vec![later(Some(60))],
        lost_at: Some(20),
        ..Plan::default()
    };
    let ran = run(endpoint(Kind::Slack), plan);
    assert_eq!((ran.asked.len(), ran.committed.len()), (1, 0));
}

#[test]
fn a_stop_lets_the_request_in_flight_end_and_no_other_begin() {
    let events = [(0, "a", 0, "open", "low"), (0, "b", 1, "open", "low")];
    let of = |answers, stop_at| Plan {
        coming: coming(&events),
        answers,
        stop_at,
        ..Plan::default()
    };
    let ran = run(endpoint(Kind::Pagerduty), of(vec![], Some(1)));
    assert_eq!((ran.asked.len(), &ran.committed[..]), (1, &[1][..]));
    let ran = run(endpoint(Kind::Pagerduty), of(vec![later(None)], Some(1)));
    assert_eq!((ran.asked.len(), ran.committed.len()), (1, 0));
}
