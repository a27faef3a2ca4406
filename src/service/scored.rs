//! The latest judged records of all keys, as a list: what programs ask for that want no chart.

use serde::Serialize;

use super::recent::Recent;
use crate::alert::{InputRef, ScoredBy};

/// A judged record in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Whose.
    pub key: String,
    /// Event time in milliseconds since 1970.
    pub time: i64,
    /// Higher is stranger.
    pub score: f64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// How strong the evidence of the key's records up to this one is, in nats ...
    pub evidence: f32,
    /// ... and what opens an episode, or opened the open one.
    pub evidence_threshold: f32,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// Whether it was too early to judge.
    pub warming_up: bool,
    /// What the score is by: `model_version` and `seasonal`.
    #[serde(flatten)]
    pub scored_by: ScoredBy,
    /// Where the record lies in the log.
    pub input: InputRef,
}

/// Which records are listed.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// Of this key alone.
    pub key: Option<&'a str>,
    /// With at most this p-value.
    pub p_max: f64,
    /// So many at most.
    pub most: usize,
}

/// The latest records, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredList {
    /// Records that fit, as far as they are remembered.
    pub found: usize,
    /// The newest of them.
    pub scores: Vec<Scored>,
}

impl ScoredList {
    /// What is remembered.
    #[must_use]
    pub fn of(recent: &Recent, which: Which<'_>) -> Self {
        let mut found: Vec<_> = recent
            .points(which.key)
            .filter(|(_, point)| point.p_value <= which.p_max)
            .collect();
        let total = found.len();
        let newest_first = |a: &(&str, &super::recent::Point),
                            b: &(&str, &super::recent::Point)| {
            (b.1.time, a.0, b.1.input.offset).cmp(&(a.1.time, b.0, a.1.input.offset))
        };
        if which.most < total {
            found.select_nth_unstable_by(which.most, newest_first);
            found.truncate(which.most);
        }
        found.sort_unstable_by(newest_first);
        let scores = found.into_iter().map(|(key, point)| Scored {
            key: key.to_owned(),
            time: point.time,
            score: point.score,
            p_value: point.p_value,
            evidence: point.evidence,
            evidence_threshold: point.evidence_threshold,
            alert: point.alert,
            warming_up: point.warming_up,
            scored_by: point.scored_by,
            input: point.input.clone(),
        });
        Self {
            found: total,
            scores: scores.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pipeline::Watched;
    use crate::record::Key;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;

    #[test]
    fn the_newest_come_first_and_filters_leave_the_others_out() {
        let mut recent = Recent::default();
        for second in 0..100 {
            recent.take(&Watched {
                key: Key(Arc::from(if second % 2 == 0 { "even" } else { "odd" })),
                time: Timestamp(1000 * second),
                p_value: if second % 10 == 0 { 1e-4 } else { 0.5 },
                evidence: 0.5,
                evidence_threshold: 9.0,
                alert: false,
                by_model: None,
                warming_up: false,
                record: 0,
                input: InputRef {
                    at: TopicPartition::new("t", 1),
                    offset: Offset(second),
                },
                score: 2.0,
                scored_by: ScoredBy::ColdStart,
                window: Vec::new(),
                row: Vec::new(),
                expected: Vec::new(),
            });
        }
        let list = |key, p_max, most| {
            let which = Which { key, p_max, most };
            let list = ScoredList::of(&recent, which);
            let offsets: Vec<i64> = list.scores.iter().map(|s| s.input.offset.0).collect();
            (list.found, offsets)
        };
        assert_eq!(list(None, 1.0, 3), (100, vec![99, 98, 97]));
        assert_eq!(list(Some("even"), 1.0, 2), (50, vec![98, 96]));
        assert_eq!(list(Some("even"), 0.001, 2), (10, vec![90, 80]));
        assert_eq!(list(Some("odd"), 0.001, 2), (0, vec![]));
        assert_eq!(list(Some("none"), 1.0, 2), (0, vec![]));
        assert_eq!(list(None, 1.0, 0), (100, vec![]));
        let which = Which {
            key: None,
            p_max: 1.0,
            most: 500,
        };
        let all = ScoredList::of(&recent, which);
        assert!(all.scores.is_sorted_by_key(|s| std::cmp::Reverse(s.time)));
        let last = serde_json::to_value(&all.scores[0]).unwrap();
        assert_eq!(last["key"], "odd");
        assert_eq!(last["input"]["partition"], 1);
    }
}
