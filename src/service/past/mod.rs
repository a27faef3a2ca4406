//! The past of a key: records that the process does not remember, for it has started since or had no room for them, read again from the log and
//! judged again by the models of then.
//!
//! What is read is bounded by records, bytes and time, on a thread of whoever asks, never on a worker's. What comes of it is shown and forgotten:
//! nothing of it reaches state or output. It is not what was judged then, bit for bit: what the key's records before these had taught is not known.

mod judge;
mod kafka_log;
mod read;

use serde::Serialize;

pub use judge::{ModelsOfThen, judge};
pub use read::{Asked, Bounds, Found, Log, Stopped, read};

use super::recent::{Point, Recent};
use crate::alert::ScoredBy;
use crate::pipeline::Watched;

/// Records of the key that are wanted: for its course, ...
pub const COURSE: usize = 600;
/// ... and before and from the beginning of an episode on.
pub const LEAD: usize = 300;
pub const TAIL: usize = 400;

/// Records of a key, read again and judged again.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The features, in the order of values.
    pub columns: Vec<String>,
    /// The records, in the order of the log.
    pub records: Vec<Watched>,
    /// Records that were looked at, of whatever key.
    pub looked_at: u64,
    /// Why no more were read.
    pub stopped: Stopped,
}

/// [`Past`] as the API tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// The key.
    pub key: String,
    /// The features, in the order of `values` and `expected`.
    pub columns: Vec<String>,
    /// How far each feature usually is from what is expected of it, by these records; null where they do not say.
    pub spreads: Vec<Option<f64>>,
    /// The records, the oldest first: where there are many, the rarest of each stretch of them.
    pub points: Vec<Point>,
    /// Records that were looked at, of whatever key.
    pub looked_at: u64,
    /// Records of the key among them.
    pub found: usize,
    /// Versions of the models that judged, 0 where none did.
    pub models: Vec<u64>,
    /// Why no more were read: `enough`, `beginning` (of the log), or a bound: `records`, `bytes`, `time`.
    pub stopped: Stopped,
    /// All that in a sentence.
    pub message: String,
}

impl Past {
    /// For the API: at most `most` records of `key`.
    #[must_use]
    pub fn told(&self, key: &str, most: usize) -> Told {
        let mut kept = Recent::default();
        kept.name_columns(&self.columns);
        for seen in &self.records {
            kept.take(seen);
        }
        let series = kept.series(key, (i64::MIN, i64::MAX), most);
        let (spreads, points) = series.map(|s| (s.spreads, s.points)).unwrap_or_default();
        let mut models: Vec<u64> = self
            .records
            .iter()
            .map(|seen| seen.scored_by.version().unwrap_or_default().0)
            .collect();
        models.sort_unstable();
        models.dedup();
        let seasonal = self
            .records
            .iter()
            .any(|r| r.scored_by == ScoredBy::Seasonal);
        Told {
            key: key.to_owned(),
            columns: self.columns.clone(),
            spreads,
            points,
            looked_at: self.looked_at,
            found: self.records.len(),
            message: sentence(
                (self.records.len(), self.looked_at),
                (&models, seasonal),
                self.stopped,
            ),
            models,
            stopped: self.stopped,
        }
    }
}

/// What was read, who judged it, and whether it was cut.
fn sentence(
    (found, looked_at): (usize, u64),
    (models, seasonal): (&[u64], bool),
    stopped: Stopped,
) -> String {
    let cut = stopped.words();
    if found == 0 {
        return format!(
            "no record of it among {looked_at} that were read again from the log; {cut}"
        );
    }
    let by = match (seasonal, models) {
        (true, [] | [0]) => "what the key did before at this time of day and week".to_owned(),
        (true, _) => format!(
            "what the key did before at this time of day and week, and by {}",
            of_models(models)
        ),
        (_, [0]) => "the key's own past".to_owned(),
        (_, [0, ..]) => format!("the key's own past, then {}", of_models(models)),
        _ => of_models(models),
    };
    format!("read again from the log, judged by {by}; {cut}")
}

/// The models by name, whose versions ascend; 0 is none.
fn of_models(versions: &[u64]) -> String {
    let models = versions.iter().filter(|version| **version > 0);
    let named: Vec<String> = models.map(u64::to_string).collect();
    match &named[..] {
        [one] => format!("model {one}"),
        _ => format!("models {}", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod sentences {
    use super::*;

    #[test]
    fn the_sentence_says_who_judged_and_what_was_cut() {
        let said = |found, models: &[u64], seasonal, stopped| {
            sentence((found, 900), (models, seasonal), stopped)
        };
        assert_eq!(
            said(600, &[12], false, Stopped::Enough),
            "read again from the log, judged by model 12; earlier records lie in the input topic"
        );
        assert_eq!(
            said(600, &[0, 3, 4], false, Stopped::Beginning),
            "read again from the log, judged by the key's own past, then models 3, 4; the log begins there"
        );
        assert_eq!(
            said(0, &[], false, Stopped::Records),
            "no record of it among 900 that were read again from the log; cut, for so many records are read at a time"
        );
        assert!(said(1, &[0], true, Stopped::Time).contains("time of day and week; "));
        assert!(said(1, &[0, 5], true, Stopped::Time).contains("week, and by model 5; "));
        assert!(said(1, &[0], false, Stopped::Time).contains("the key's own past;"));
        assert!(said(1, &[1, 2], false, Stopped::Bytes).contains("models 1, 2; cut"));
    }
}
