//! Episodes that training knows of no more, for they are older than what it reads: by what was told of them. They can be judged all the same, for how
//! many of the alerts were right is asked of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::alert::{Alert, AlertKind};
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::alert_log::AlertLog;
use crate::kafka::watchdog::Watchdog;
use crate::model::card::{Feedback, Said};
use crate::pipeline::EpisodeRecord;
use crate::stream::EpisodeId;
use crate::time::{Clock, Timestamp};

/// Messages of each partition of the alerts topic that are looked through for those of an episode.
pub const SEARCHED: i64 = 100_000;

/// An episode that somebody was told of once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldEpisode {
    /// Its id.
    pub id: EpisodeId,
    /// Whose.
    pub key: String,
    /// When it probably began.
    pub from_time: Timestamp,
    /// When it ended, as far as its alerts say.
    pub to_time: Option<Timestamp>,
    /// What somebody said of it.
    pub feedback: Option<Feedback>,
}

/// Reads what the last alerts told of episodes that are not among `known`, the oldest first.
///
/// # Errors
/// Where Kafka cannot be asked.
pub fn read(
    config: &Config,
    (clock, watchdog): (Arc<dyn Clock>, Watchdog),
    (known, said): (&[EpisodeRecord], &Said),
) -> Result<Vec<OldEpisode>, KafkaFailure> {
    let topic = (config.output.alerts.as_str(), SEARCHED);
    let mut log = AlertLog::open(&config.connection(), topic, (clock, watchdog))?;
    let alerts = log.more()?;
    let ours = alerts
        .iter()
        .filter(|alert| *alert.detector == *config.name);
    Ok(among(ours, (known, said)))
}

/// The episodes of `alerts` that are not `known`.
fn among<'a>(
    alerts: impl Iterator<Item = &'a Alert>,
    (known, said): (&[EpisodeRecord], &Said),
) -> Vec<OldEpisode> {
    let known = known.iter().map(|record| &record.exclusion.because);
    let known: BTreeSet<&EpisodeId> = known.collect();
    let mut found: BTreeMap<&EpisodeId, OldEpisode> = BTreeMap::new();
    let learnt = |alert: &&Alert| alert.kind == AlertKind::Score && !known.contains(&alert.id);
    for alert in alerts.filter(learnt) {
        let episode = OldEpisode {
            id: alert.id.clone(),
            key: alert.key.0.to_string(),
            from_time: alert.approx_anomaly_start_time,
            to_time: alert.end_time,
            feedback: said.get(&alert.id).copied(),
        };
        found.insert(&alert.id, episode);
    }
    let mut found: Vec<OldEpisode> = found.into_values().collect();
    found.sort_by(|a, b| (a.from_time, &a.id).cmp(&(b.from_time, &b.id)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::card::Exclusion;
    use crate::stream::{Offset, TopicPartition};

    fn alert(id: &str, kind: &str, began: &str, ended: Option<&str>) -> Alert {
        serde_json::from_value(serde_json::json!({
            "schema": 1, "id": id, "event": if ended.is_some() { "close" } else { "open" }, "kind": kind, "detector": "d", "key": "k",
            "data_time": began, "approx_anomaly_start_time": began, "end_time": ended,
            "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
            "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 1,
            "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1, "relevant_attribution": [],
            "input": {"topic": "t", "partition": 0, "offset": 1},
        }))
        .unwrap()
    }

    #[test]
    fn what_alerts_told_of_and_training_does_not_know_is_found_once_with_its_end() {
        let (day, later) = ("2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z");
        let alerts = [
            alert("d/t/0/9", "score", day, None),
            alert("d/t/0/9", "score", day, Some(later)),
            alert("d/t/0/1", "score", "2026-01-01T00:00:00Z", None),
            // Neither silences nor storms are learnt from, and what training knows is no old one.
            alert("d/t/0/5-silence", "silence", day, None),
            alert("d/t/0/20", "score", day, None),
        ];
        let known = EpisodeRecord {
            exclusion: Exclusion {
                at: TopicPartition::new("t", 0),
                key: "k".to_owned(),
                from: Offset(20),
                to: None,
                because: "d/t/0/20".into(),
                feedback: None,
            },
            from_time: Timestamp(0),
            to_time: None,
            held: false,
        };
        let said = Said::from([("d/t/0/9".into(), Feedback::TruePositive)]);
        let found = among(alerts.iter(), (&[known], &said));
        let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["d/t/0/1", "d/t/0/9"]);
        assert_eq!(found[1].to_time, alerts[1].end_time);
        assert_eq!(found[1].feedback, Some(Feedback::TruePositive));
        assert_eq!((found[0].to_time, found[0].feedback), (None, None));
    }
}
