//! Open and recent episodes as people see them: what alerts told of each, in words, and which earlier ones were like it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::recent::{Recent, Trouble};
use super::words;
use crate::alert::{Alert, AlertEvent, AlertKind, Attribution, InputRef, Severity};
use crate::model::card::Said;
use crate::pipeline::{OpenEpisode, Suppressed};
use crate::stream::{EpisodeId, TopicPartition};
use crate::time::{Timestamp, rfc3339};

/// Closed episodes that are kept.
const CLOSED_MAX: usize = 200;
/// Messages of an episode that are kept: the first, and the latest.
const TOLD_MAX: usize = 40;
/// Features that an episode shows.
const FEATURES_MAX: usize = 8;
/// How alike the shares of two episodes must be, as the cosine of the angle between them, and how many are named.
const ALIKE: f64 = 0.8;
const SIMILAR_MAX: usize = 10;

/// An episode in a list.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeStatus {
    /// The partition: whoever holds it knows whether the episode is still open.
    #[serde(skip)]
    at: TopicPartition,
    /// Its id.
    pub id: EpisodeId,
    /// Whose.
    pub key: String,
    /// `low` to `critical`.
    pub severity: Severity,
    /// `score`, `silence` or `storm`.
    pub kind: AlertKind,
    /// When it probably began, RFC 3339.
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
    /// When it ended, RFC 3339; null while it is open.
    #[serde(with = "rfc3339::option")]
    pub ended: Option<Timestamp>,
    /// Why, in words.
    pub cause: String,
    /// The features with the largest shares.
    pub features: Vec<Blamed>,
    /// The largest score so far.
    pub peak: f64,
    /// Records of its key since it began, up to now or to its end; 0 where they are not counted, as of a silence.
    pub records: u64,
    /// Where the record lies that its last alert was of; null if none was seen.
    pub input: Option<InputRef>,
    /// The id of the episode that it comes on top of.
    pub within: Option<EpisodeId>,
    /// Why nobody was told of it, `storm` or `dismissed`; null if somebody was.
    pub suppressed: Option<&'static str>,
    /// What somebody said of it, `false_positive`, `true_positive` or `new_normal`; null: nothing.
    pub feedback: Option<&'static str>,
}

/// What is wrong by an episode.
fn trouble(status: &EpisodeStatus) -> Trouble {
    match status.kind {
        AlertKind::Silence if status.id.is_of_absence() => Trouble::Absence,
        AlertKind::Silence => Trouble::Silence,
        AlertKind::Score | AlertKind::Storm => Trouble::Strange,
    }
}

/// A feature's part in an episode.
#[derive(Clone, Debug, Serialize)]
pub struct Blamed {
    /// Its share, what it was, and what was expected.
    #[serde(flatten)]
    pub part: Attribution,
    /// By how many times its usual distance it lies above what was expected; null if that is not known.
    pub spreads: Option<f64>,
}

/// One message of an episode.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// `open`, `update` or `close`.
    pub event: AlertEvent,
    /// Of the record that caused it, RFC 3339.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// `low` to `critical`.
    pub severity: Severity,
    /// How strong the evidence was, in nats ...
    pub evidence: f64,
    /// ... and how strong it had to be.
    pub evidence_threshold: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Records of the episode by then.
    pub records: u64,
    /// The features with the largest shares then.
    pub features: Vec<Attribution>,
}

/// An earlier episode for the same reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Similar {
    /// How alike the features' shares are, from 0 to 1.
    pub likeness: f64,
    /// The episode.
    #[serde(flatten)]
    pub episode: EpisodeStatus,
}

/// All that is known of an episode.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeDetail {
    /// As in the list.
    #[serde(flatten)]
    pub episode: EpisodeStatus,
    /// The alert of when it was worst; null if it opened before the process started and nothing was told of it since.
    pub alert: Option<Alert>,
    /// Its messages, the oldest first.
    pub told: Vec<Told>,
    /// Others for the same reasons, those of the same key first.
    pub similar: Vec<Similar>,
}

/// An episode with all that is kept of it.
#[derive(Debug)]
struct Known {
    status: EpisodeStatus,
    worst: Option<Alert>,
    told: VecDeque<Told>,
}

/// Open and recent episodes.
#[derive(Debug, Default)]
pub struct Episodes {
    open: BTreeMap<EpisodeId, Known>,
    closed: VecDeque<Known>,
}

impl Episodes {
    /// A partition went, and its open episodes with it: its next holder shows them.
    pub fn revoked(&mut self, at: &TopicPartition) {
        self.open.retain(|_, episode| episode.status.at != *at);
    }

    /// What is open on the partitions `held` by a worker: restored episodes come, those that ended in a replay go. What was made known by
    /// an alert keeps what the alert said. No alert tells of the end of an episode that was held back: it ended `now`, or shortly before.
    pub fn open<'a>(
        &mut self,
        held: impl IntoIterator<Item = &'a TopicPartition>,
        open: &[OpenEpisode],
        now: Option<Timestamp>,
    ) {
        let held: BTreeSet<&TopicPartition> = held.into_iter().collect();
        let mut before = std::mem::take(&mut self.open);
        for found in open.iter().filter(|found| held.contains(&found.at)) {
            let known = before.remove(&found.id);
            self.open.insert(found.id.clone(), restored(found, known));
        }
        for (id, mut gone) in before {
            if !held.contains(&gone.status.at) {
                self.open.insert(id, gone);
            } else if gone.status.suppressed.is_some() && now.is_some() {
                gone.status.ended = now;
                self.close(gone);
            }
        }
    }

    /// An alert was published.
    pub fn alert(&mut self, alert: &Alert, recent: &Recent) {
        let mut known = self.known(alert, recent);
        known.told.push_back(told(alert));
        if known.told.len() > TOLD_MAX {
            known.told.remove(1);
        }
        if alert.event == AlertEvent::Close {
            self.close(known);
        } else {
            self.open.insert(alert.id.clone(), known);
        }
    }

    fn close(&mut self, known: Known) {
        self.closed.push_front(known);
        self.closed.truncate(CLOSED_MAX);
    }

    /// What is known of an alert's episode with it, taken out of the lists.
    fn known(&mut self, alert: &Alert, recent: &Recent) -> Known {
        let again = self
            .closed
            .iter()
            .position(|known| known.status.id == alert.id);
        let before = self
            .open
            .remove(&alert.id)
            .or_else(|| self.closed.remove(again?));
        let mut status = listed(alert, recent);
        let closes = alert.event == AlertEvent::Close;
        let Some(before) = before else {
            return Known {
                status,
                worst: (!closes).then(|| alert.clone()),
                told: VecDeque::new(),
            };
        };
        // The record that closes an episode is a normal one, and a later one may be less strange: what made the episode is told by the strangest.
        let worst = match before.worst {
            Some(worst) if closes || !words::tells_more(alert, &worst) => {
                status.features = before.status.features;
                status.cause = before.status.cause;
                Some(worst)
            }
            _ if closes => None,
            _ => Some(alert.clone()),
        };
        Known {
            status,
            worst,
            told: before.told,
        }
    }

    /// Open episodes, the worst first, those that nobody was told of last.
    #[must_use]
    pub fn all_open(&self, said: &Said) -> Vec<EpisodeStatus> {
        let mut all: Vec<EpisodeStatus> = self
            .open
            .values()
            .map(|known| with(&known.status, said))
            .collect();
        all.sort_by_key(|e| {
            (
                e.suppressed.is_some(),
                std::cmp::Reverse(e.severity),
                e.since,
            )
        });
        all
    }

    /// Closed episodes, the newest first.
    #[must_use]
    pub fn all_closed(&self, said: &Said) -> Vec<EpisodeStatus> {
        self.closed
            .iter()
            .map(|known| with(&known.status, said))
            .collect()
    }

    /// What each key's open episode that somebody was told of is: a silence where there is one.
    #[must_use]
    pub fn open_by_key(&self) -> BTreeMap<&str, Trouble> {
        let told = self.open.values().map(|known| &known.status);
        let mut open = BTreeMap::new();
        for status in told.filter(|status| status.suppressed.is_none()) {
            let found = trouble(status);
            let worst = open.entry(status.key.as_str()).or_insert(found);
            *worst = found.max(*worst);
        }
        open
    }

    /// All that is known of an episode; `None` of one that is not known.
    #[must_use]
    pub fn detail(&self, id: &str, said: &Said) -> Option<EpisodeDetail> {
        let known = self.all().find(|known| known.status.id == id)?;
        Some(EpisodeDetail {
            episode: with(&known.status, said),
            alert: known.worst.clone(),
            told: known.told.iter().cloned().collect(),
            similar: self.similar(known, said),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        self.open.values().chain(&self.closed)
    }

    fn similar(&self, to: &Known, said: &Said) -> Vec<Similar> {
        let others = self.all().filter(|known| known.status.id != to.status.id);
        let mut alike: Vec<Similar> = others
            .filter_map(|known| {
                let likeness = likeness(to, known)?;
                Some(Similar {
                    likeness,
                    episode: with(&known.status, said),
                })
            })
            .collect();
        alike.sort_by(|a, b| {
            let own = |similar: &Similar| similar.episode.key != to.status.key;
            own(a)
                .cmp(&own(b))
                .then(b.episode.since.cmp(&a.episode.since))
        });
        alike.truncate(SIMILAR_MAX);
        alike
    }
}

/// An episode with what somebody said of it.
fn with(episode: &EpisodeStatus, said: &Said) -> EpisodeStatus {
    EpisodeStatus {
        feedback: said.get(&episode.id).map(|said| said.name()),
        ..episode.clone()
    }
}

/// An open episode as a worker sees it, with what was known of it before.
fn restored(found: &OpenEpisode, known: Option<Known>) -> Known {
    let (before, worst, told) = match known {
        Some(known) => (Some(known.status), known.worst, known.told),
        None => (None, None, VecDeque::new()),
    };
    let untold = || match found.kind {
        AlertKind::Silence if found.id.is_of_absence() => {
            "features are missing for longer than ever before".to_owned()
        }
        AlertKind::Silence => "silent for longer than ever before".to_owned(),
        _ if found.suppressed.is_some() => "held back: no alert has said why".to_owned(),
        _ => "it opened before this process started: its alerts say why".to_owned(),
    };
    let status = EpisodeStatus {
        at: found.at.clone(),
        id: found.id.clone(),
        key: found.key.clone(),
        severity: found.severity,
        kind: found.kind,
        since: found.since,
        ended: None,
        peak: found.peak,
        suppressed: found.suppressed.map(Suppressed::name),
        cause: before
            .as_ref()
            .map_or_else(untold, |before| before.cause.clone()),
        features: before
            .as_ref()
            .map_or_else(Vec::new, |before| before.features.clone()),
        records: found
            .records
            .or_else(|| Some(before.as_ref()?.records))
            .unwrap_or_default(),
        input: before.as_ref().and_then(|before| before.input.clone()),
        within: before.and_then(|before| before.within),
        feedback: None,
    };
    Known {
        status,
        worst,
        told,
    }
}

/// An alert's episode in a list.
fn listed(alert: &Alert, recent: &Recent) -> EpisodeStatus {
    let blamed = |part: &Attribution| Blamed {
        spreads: part
            .actual
            .and_then(|actual| words::spreads(actual, part.expected, recent.spread(&part.feature))),
        part: part.clone(),
    };
    let features = alert.relevant_attribution.iter().take(FEATURES_MAX);
    EpisodeStatus {
        at: alert.input.at.clone(),
        id: alert.id.clone(),
        key: alert.key.0.to_string(),
        severity: alert.severity,
        kind: alert.kind,
        since: alert.approx_anomaly_start_time,
        ended: alert.end_time,
        cause: words::cause(alert, |feature| recent.spread(feature)),
        features: features.map(blamed).collect(),
        peak: alert.peak_score,
        records: alert.records,
        input: Some(alert.input.clone()),
        within: alert.within.clone(),
        suppressed: None,
        feedback: None,
    }
}

fn told(alert: &Alert) -> Told {
    let features = alert.relevant_attribution.iter().take(FEATURES_MAX);
    Told {
        event: alert.event,
        time: alert.data_time,
        severity: alert.severity,
        evidence: alert.evidence,
        evidence_threshold: alert.evidence_threshold,
        p_value: alert.p_value,
        records: alert.records,
        features: features.cloned().collect(),
    }
}

/// How alike the reasons of two episodes are; `None` if they are not.
fn likeness(a: &Known, b: &Known) -> Option<f64> {
    if a.status.kind != b.status.kind {
        return None;
    }
    if a.status.kind != AlertKind::Score {
        // A silence has no reasons: one of the same key is like it.
        return (a.status.key == b.status.key).then_some(1.0);
    }
    let shares = |known: &Known| -> BTreeMap<String, f64> {
        let parts = known
            .worst
            .iter()
            .flat_map(|alert| &alert.relevant_attribution);
        parts
            .map(|part| (part.feature.clone(), part.share))
            .collect()
    };
    let (a, b) = (shares(a), shares(b));
    let dot = |x: &BTreeMap<String, f64>, y: &BTreeMap<String, f64>| -> f64 {
        x.iter()
            .filter_map(|(name, share)| Some(share * y.get(name)?))
            .sum()
    };
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    (cosine >= ALIKE).then_some(cosine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::card::Feedback;

    fn alert(id: &str, event: &str, partition: i32, features: &[(&str, f64)]) -> Alert {
        let parts: Vec<serde_json::Value> = features
            .iter()
            .map(|(feature, share)| serde_json::json!({"feature": feature, "share": share, "actual": 9.0, "expected": 1.0}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "schema": 1, "id": id, "event": event, "kind": "score", "detector": "d", "key": "k",
            "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
            "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
            "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 1,
            "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1,
            "relevant_attribution": parts,
            "input": {"topic": "t", "partition": partition, "offset": 1},
        }))
        .unwrap()
    }

    fn open(id: &str, at: &TopicPartition, suppressed: Option<Suppressed>) -> OpenEpisode {
        OpenEpisode {
            at: at.clone(),
            id: id.into(),
            key: "k".to_owned(),
            kind: AlertKind::Score,
            severity: Severity::High,
            since: Timestamp(0),
            peak: 9.0,
            records: None,
            suppressed,
        }
    }

    fn take(episodes: &mut Episodes, id: &str, event: &str, partition: i32) {
        let alert = alert(id, event, partition, &[("faulty", 1.0)]);
        episodes.alert(&alert, &Recent::default());
    }

    fn ids(episodes: &Episodes) -> Vec<String> {
        let all = episodes.all_open(&Said::new());
        all.iter().map(|episode| episode.id.to_string()).collect()
    }

    #[test]
    fn open_episodes_are_those_of_the_partitions_held() {
        let mut episodes = Episodes::default();
        let [zero, one] = [0, 1].map(|partition| TopicPartition::new("t", partition));
        take(&mut episodes, "a", "open", 0);
        take(&mut episodes, "b", "open", 1);
        // What was restored shows; what ended while it was replayed goes; what an alert said of it is kept.
        let restored = [open("a", &zero, None), open("c", &zero, None)];
        episodes.open([&zero], &restored, None);
        let all = episodes.all_open(&Said::new());
        let causes: BTreeMap<&str, &str> = all
            .iter()
            .map(|e| (e.id.as_str(), e.cause.as_str()))
            .collect();
        assert!(causes["a"].starts_with("faulty 9.0, expected 1.0"));
        assert!(causes["c"].contains("before this process started"));
        episodes.open(
            [&zero],
            &[open("c", &zero, Some(Suppressed::Dismissed))],
            None,
        );
        let last = episodes.all_open(&Said::new()).pop().unwrap();
        assert_eq!(
            (last.id.as_str(), last.suppressed),
            ("c", Some("dismissed"))
        );
        take(&mut episodes, "c", "open", 0);
        assert!(
            episodes
                .all_open(&Said::new())
                .iter()
                .all(|e| e.suppressed.is_none())
        );
        // One that was held back ends without an alert; it is known all the same.
        episodes.open([&zero], &[open("g", &zero, Some(Suppressed::Storm))], None);
        episodes.open([&zero], &[], Some(Timestamp(7)));
        let detail = episodes.detail("g", &Said::new()).unwrap();
        assert_eq!(detail.episode.ended, Some(Timestamp(7)));
        // A partition that goes takes its episodes along.
        episodes.revoked(&zero);
        assert_eq!(ids(&episodes), ["b"]);
        episodes.revoked(&one);
        assert!(ids(&episodes).is_empty());
    }

    #[test]
    fn records_of_an_open_episode_are_counted_on_after_its_last_alert() {
        let mut episodes = Episodes::default();
        let at = TopicPartition::new("t", 0);
        let records = |episodes: &Episodes| episodes.all_open(&Said::new())[0].records;
        take(&mut episodes, "a", "open", 0);
        assert_eq!(records(&episodes), 1);
        let counted = OpenEpisode {
            records: Some(9_000),
            ..open("a", &at, None)
        };
        episodes.open([&at], &[counted], None);
        assert_eq!(records(&episodes), 9_000);
        // A storm's are not: what its alert said stays.
        take(&mut episodes, "a", "update", 0);
        episodes.open([&at], &[open("a", &at, None)], None);
        assert_eq!(records(&episodes), 1);
    }

    #[test]
    fn a_closed_episode_shows_what_made_it_and_not_the_normal_record_that_closed_it() {
        let mut episodes = Episodes::default();
        take(&mut episodes, "e", "open", 0);
        episodes.alert(
            &alert("e", "close", 0, &[("calm", 1.0)]),
            &Recent::default(),
        );
        assert!(ids(&episodes).is_empty());
        let said = Said::from([("e".into(), Feedback::FalsePositive)]);
        let closed = &episodes.all_closed(&said)[0];
        assert_eq!(closed.features[0].part.feature, "faulty");
        assert_eq!(closed.feedback, Some("false_positive"));
        let detail = episodes.detail("e", &said).unwrap();
        let events: Vec<AlertEvent> = detail.told.iter().map(|told| told.event).collect();
        assert_eq!(events, [AlertEvent::Open, AlertEvent::Close]);
        assert_eq!(
            detail.alert.unwrap().relevant_attribution[0].feature,
            "faulty"
        );
        assert!(episodes.detail("f", &said).is_none());
        // One that goes on after all is open again, once.
        take(&mut episodes, "e", "update", 0);
        assert_eq!(ids(&episodes), ["e"]);
        assert!(episodes.all_closed(&said).is_empty());
    }

    #[test]
    fn episodes_for_the_same_reasons_are_similar_and_others_are_not() {
        let mut episodes = Episodes::default();
        for (id, features) in [
            ("a", [("x", 0.9), ("y", 0.1)]),
            ("b", [("x", 0.8), ("y", 0.2)]),
            ("c", [("x", 0.1), ("y", 0.9)]),
        ] {
            episodes.alert(&alert(id, "open", 0, &features), &Recent::default());
        }
        let similar = episodes.detail("a", &Said::new()).unwrap().similar;
        let found: Vec<&str> = similar.iter().map(|s| s.episode.id.as_str()).collect();
        assert_eq!(found, ["b"]);
        assert!(0.95 < similar[0].likeness && similar[0].likeness < 1.0);
    }

    #[test]
    fn a_key_that_is_silent_is_known_as_such_whatever_else_is_open_of_it() {
        let mut episodes = Episodes::default();
        let at = TopicPartition::new("t", 0);
        let silence = |id: &str| OpenEpisode {
            kind: AlertKind::Silence,
            ..open(id, &at, None)
        };
        let held = open("e", &at, Some(Suppressed::Storm));
        let by_key =
            |episodes: &Episodes| episodes.open_by_key().into_iter().next().map(|(_, is)| is);
        episodes.open([&at], &[held], None);
        assert_eq!(by_key(&episodes), None);
        episodes.open(
            [&at],
            &[open("a", &at, None), silence("d/t/0/1-absence")],
            None,
        );
        assert_eq!(by_key(&episodes), Some(Trouble::Absence));
        let all = [silence("d/t/0/1-silence"), open("a", &at, None)];
        episodes.open([&at], &all, None);
        assert_eq!(by_key(&episodes), Some(Trouble::Silence));
    }

    #[test]
    fn an_episode_s_messages_are_bounded_and_the_first_one_stays() {
        let mut episodes = Episodes::default();
        for records in 1..200 {
            let mut update = alert("e", "update", 0, &[("x", 1.0)]);
            update.records = records;
            episodes.alert(&update, &Recent::default());
        }
        let told = episodes.detail("e", &Said::new()).unwrap().told;
        assert_eq!((told.len(), told[0].records), (TOLD_MAX, 1));
        assert_eq!(told[TOLD_MAX - 1].records, 199);
        for n in 0..2 * CLOSED_MAX {
            take(&mut episodes, &format!("d/t/0/{n}"), "close", 0);
        }
        assert_eq!(episodes.all_closed(&Said::new()).len(), CLOSED_MAX);
    }
}
