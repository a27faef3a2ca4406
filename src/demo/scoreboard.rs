//! Alerts held against the faults that were really there: found or not, how soon, and by which sensor.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::Fault;
use crate::alert::{Alert, AlertEvent, AlertKind};
use crate::stream::EpisodeId;
use crate::time::Timestamp;

/// A fault with its place in the plant's time.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// What goes wrong.
    pub fault: Fault,
    /// The pump's name: the record key.
    pub key: String,
    /// When it begins, event time.
    pub from: Timestamp,
    /// When it ends, event time.
    pub to: Timestamp,
    /// When it must have been found.
    pub due: Timestamp,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// From the fault's beginning to the record that opened the episode, in the plant's time; `None`: not found.
    pub delay: Option<Duration>,
    /// What the first alert blamed ...
    pub first: Option<String>,
    /// ... and what the strongest did: a feature, or "silence".
    pub named: Option<String>,
    /// Whether that is right.
    pub right: bool,
}

/// All episodes seen so far.
#[derive(Debug)]
pub struct Scoreboard {
    schedule: Vec<Scheduled>,
    /// Event time after a fault in which its alerts still belong to it: windows and episodes need records to come to rest.
    grace: Duration,
    episodes: BTreeMap<EpisodeId, Episode>,
}

#[derive(Debug)]
struct Episode {
    key: String,
    opened: Timestamp,
    kind: AlertKind,
    peak: f64,
    first: Option<String>,
    named: Option<String>,
    open: bool,
    fault: Option<usize>,
    /// The fault that an update told of, where it was open for another reason before: when, and the sensor.
    came_on_top: Option<(usize, Timestamp, String)>,
}

impl Scoreboard {
    /// No alerts yet.
    pub fn new(schedule: Vec<Scheduled>, grace: Duration) -> Self {
        Self {
            schedule,
            grace,
            episodes: BTreeMap::new(),
        }
    }

    /// Takes in a message of the alerts topic. Answers the fault that its episode belongs to; `None`: a false alarm.
    pub fn see(&mut self, alert: &Alert) -> Option<&Fault> {
        if !self.episodes.contains_key(&alert.id) {
            let opened = alert.data_time;
            let fault = self.fault_at(alert.key.as_str(), opened);
            let episode = Episode {
                key: alert.key.to_string(),
                opened,
                kind: alert.kind,
                peak: f64::MIN,
                first: None,
                named: None,
                open: true,
                fault,
                came_on_top: None,
            };
            self.episodes.insert(alert.id.clone(), episode);
        }
        let now = self.fault_at(alert.key.as_str(), alert.data_time);
        let episode = self.episodes.get_mut(&alert.id)?;
        let top = alert
            .relevant_attribution
            .first()
            .map(|top| top.feature.clone());
        if let (AlertEvent::Update, None, None, Some(now), Some(top)) =
            (alert.event, episode.fault, &episode.came_on_top, now, &top)
            && self.schedule[now].fault.sensors.contains(&top.as_str())
        {
            episode.came_on_top = Some((now, alert.data_time, top.clone()));
        }
        episode.open = alert.event != AlertEvent::Close;
        if episode.first.is_none() {
            episode.first.clone_from(&top);
        }
        if alert.event != AlertEvent::Close && alert.anomaly_score > episode.peak && top.is_some() {
            episode.peak = alert.anomaly_score;
            episode.named = top;
        }
        let later = episode.came_on_top.as_ref().map(|(index, ..)| *index);
        let fault = episode.fault.or(later);
        fault.map(|index| &self.schedule[index].fault)
    }

    fn fault_at(&self, key: &str, at: Timestamp) -> Option<usize> {
        let covers = |s: &Scheduled| s.key == key && s.from <= at && at < s.to.plus(self.grace);
        self.schedule.iter().position(covers)
    }

    /// What became of each fault, in the schedule's order.
    pub fn findings(&self) -> Vec<(&Scheduled, Finding)> {
        let of = |index: usize, scheduled: &Scheduled| {
            let mut episodes: Vec<&Episode> = self
                .episodes
                .values()
                .filter(|episode| episode.fault == Some(index))
                .collect();
            episodes.sort_by_key(|episode| episode.opened);
            let Some(first) = episodes.first() else {
                return self.on_top(index);
            };
            let [at_first, named] = match first.kind {
                AlertKind::Silence => [(); 2].map(|()| Some("silence".to_owned())),
                AlertKind::Score | AlertKind::Storm => [first.first.clone(), first.named.clone()],
            };
            let right = match (&named, first.kind) {
                (Some(_), AlertKind::Silence) => scheduled.fault.sensors.is_empty(),
                (Some(name), AlertKind::Score) => scheduled.fault.sensors.contains(&name.as_str()),
                (Some(_), AlertKind::Storm) | (None, _) => false,
            };
            Some(Finding {
                delay: Some(first.opened.since(scheduled.from)),
                first: at_first,
                named,
                right,
            })
        };
        let faults = self.schedule.iter().enumerate();
        faults
            .filter(|(_, scheduled)| !scheduled.fault.routine)
            .map(|(index, scheduled)| (scheduled, of(index, scheduled).unwrap_or_default()))
            .collect()
    }

    /// A fault that came on top of what was told already, where an update said so.
    fn on_top(&self, index: usize) -> Option<Finding> {
        let mut told = self
            .episodes
            .values()
            .filter_map(|e| e.came_on_top.as_ref());
        let (_, at, sensor) = told.find(|(fault, ..)| *fault == index)?;
        Some(Finding {
            delay: Some(at.since(self.schedule[index].from)),
            first: Some(sensor.clone()),
            named: Some(sensor.clone()),
            right: true,
        })
    }

    /// Whether an episode of this key is open.
    pub fn is_open(&self, key: &str) -> bool {
        let mut all = self.episodes.values();
        all.any(|episode| episode.open && episode.key == key)
    }

    /// Keys of the episodes that no fault explains.
    pub fn false_alarms(&self) -> Vec<&str> {
        let unexplained = self
            .episodes
            .values()
            .filter(|episode| episode.fault.is_none());
        unexplained.map(|episode| episode.key.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Attribution, InputRef, ScoredBy, Severity};
    use crate::demo::faults::story;
    use crate::model::card::ModelVersion;
    use crate::record::Key;
    use crate::stream::{Offset, TopicPartition};

    fn board() -> Scoreboard {
        let schedule = story()
            .into_iter()
            .map(|fault| Scheduled {
                key: format!("pump-{}", fault.pump + 1),
                from: Timestamp((fault.from * 1e6) as i64),
                to: Timestamp((fault.to * 1e6) as i64),
                due: Timestamp((fault.to * 1e6) as i64),
                fault,
            })
            .collect();
        Scoreboard::new(schedule, Duration::from_secs(10))
    }

    fn alert(id: &str, key: &str, at: i64, feature: &str, score: f64) -> Alert {
        Alert {
            schema: 1,
            id: id.into(),
            event: AlertEvent::Open,
            kind: AlertKind::Score,
            detector: "demo".into(),
            key: Key(key.into()),
            data_time: Timestamp(at),
            approx_anomaly_start_time: Timestamp(at),
            end_time: None,
            anomaly_score: score,
            peak_score: score,
            anomaly_grade: 1.0,
            confidence: 1.0,
            severity: Severity::High,
            p_value: 1e-6,
            threshold: 1.0,
            records: 1,
            evidence: 20.0,
            evidence_threshold: 10.0,
            evidence_records: 1,
            relevant_attribution: vec![Attribution {
                feature: feature.to_owned(),
                share: 1.0,
                actual: None,
                expected: 0.0,
                still: None,
            }],
            suppressed: None,
            abandoned: false,
            url: None,
            within: None,
            scored_by: ScoredBy::Model(ModelVersion(1)),
            input: InputRef {
                at: TopicPartition::new("t", 0),
                offset: Offset(0),
            },
        }
    }

    #[test]
    fn an_alert_in_its_fault_is_a_finding_with_a_delay() {
        let mut board = board();
        assert!(
            board
                .see(&alert("a", "pump-2", 75_000, "discharge_bar", 5.0))
                .is_some()
        );
        let findings = board.findings();
        assert_eq!(findings[1].1.delay, Some(Duration::from_secs(5)));
        assert!(findings[1].1.right);
        assert_eq!(findings[0].1, Finding::default());
        assert!(board.false_alarms().is_empty());
    }

    #[test]
    fn the_peak_names_the_sensor() {
        let mut board = board();
        board.see(&alert("a", "pump-2", 75_000, "flow_m3h", 5.0));
        assert!(!board.findings()[1].1.right);
        board.see(&alert("a", "pump-2", 76_000, "discharge_bar", 9.0));
        board.see(&alert("a", "pump-2", 77_000, "flow_m3h", 6.0));
        assert!(board.findings()[1].1.right);
        // What it was at first is remembered, too.
        assert_eq!(board.findings()[1].1.first.as_deref(), Some("flow_m3h"));
        assert!(board.is_open("pump-2") && !board.is_open("pump-1"));
    }

    #[test]
    fn an_update_that_names_the_sensor_tells_of_a_fault_on_top_of_a_false_alarm() {
        let mut board = board();
        board.see(&alert("a", "pump-2", 69_000, "flow_m3h", 5.0));
        let update = |feature| Alert {
            event: AlertEvent::Update,
            ..alert("a", "pump-2", 75_000, feature, 9.0)
        };
        assert!(board.see(&update("flow_m3h")).is_none());
        assert_eq!(board.findings()[1].1, Finding::default());
        assert!(board.see(&update("discharge_bar")).is_some());
        let found = &board.findings()[1].1;
        assert!(found.right && found.delay == Some(Duration::from_secs(5)));
        assert_eq!(board.false_alarms(), ["pump-2"]);
    }

    #[test]
    fn an_alert_elsewhere_is_a_false_alarm() {
        let mut board = board();
        assert!(
            board
                .see(&alert("a", "pump-2", 1_000, "discharge_bar", 5.0))
                .is_none()
        );
        assert!(
            board
                .see(&alert("b", "pump-1", 65_000, "discharge_bar", 5.0))
                .is_none()
        );
        assert_eq!(board.false_alarms(), ["pump-2", "pump-1"]);
    }
}
