//! Keys of which nothing is left to learn from: all of their records that were read are kept out as flagged. The model knows them by others alone.

use std::collections::BTreeSet;

use super::job::TrainJob;
use super::kept_out::KeptOut;
use crate::model::card::{Exclusion, Suspect, Unlearnt};

/// Keys that are named at most.
const NAMED_MAX: usize = 20;

/// Those of a job that keeps these stretches `out`.
pub(super) fn unlearnt(
    job: &TrainJob,
    out @ (exclusions, suspects): (&[Exclusion], &[Suspect]),
) -> Unlearnt {
    let suspects = suspects.iter().map(|suspect| &suspect.exclusion);
    let flagged = exclusions.iter().chain(suspects);
    let mut gone: BTreeSet<&str> = flagged.map(|exclusion| exclusion.key.as_str()).collect();
    let (mut read, mut left) = (BTreeSet::new(), BTreeSet::new());
    for (parts, guard) in [(&job.rows, job.params.guard), (&job.level_rows, 0)] {
        for rows in parts {
            let out = KeptOut::of(job, (rows, guard), out);
            for i in 0..rows.len() {
                let key = rows.key_number(i);
                read.insert(&*rows.keys()[key].0);
                if !(out.long[i] || out.short[i]) {
                    left.insert(&*rows.keys()[key].0);
                }
            }
        }
    }
    gone.retain(|key| read.contains(key) && !left.contains(key));
    Unlearnt {
        keys: gone.len() as u64,
        named: gone
            .into_iter()
            .take(NAMED_MAX)
            .map(str::to_owned)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::PartitionRows;
    use super::super::tests::{job, trained};
    use super::*;
    use crate::model::card::Feedback;
    use crate::record::Key;
    use crate::stream::{EpisodeId, Offset, TopicPartition};
    use crate::time::Timestamp;

    /// Records of six keys that take turns.
    fn six(records: i64) -> PartitionRows {
        let mut rows = PartitionRows::new(TopicPartition::new("in", 0), 3);
        for i in 0..records {
            let key = Key(format!("k{}", i % 6).into());
            let x = (i as f64 * 0.7).sin();
            rows.push(&key, Timestamp(i * 1000), Offset(i), &[x, 2.0 - x, 2.0]);
        }
        rows
    }

    fn flagged(key: &str, to: Option<i64>, feedback: Option<Feedback>) -> Exclusion {
        let at = TopicPartition::new("in", 0);
        Exclusion {
            key: key.to_owned(),
            from: Offset(0),
            to: to.map(Offset),
            because: EpisodeId::new("d", &at, Offset(0)),
            feedback,
            at,
        }
    }

    fn of(rows: Vec<PartitionRows>, level_rows: Vec<PartitionRows>, out: &[Exclusion]) -> Unlearnt {
        let job = TrainJob {
            rows,
            level_rows,
            ..job(10, "pca", 1)
        };
        unlearnt(&job, (out, &[]))
    }

    #[test]
    fn a_key_is_named_once_no_record_of_it_is_left() {
        let open = [flagged("k1", None, None)];
        let found = of(vec![six(900)], Vec::new(), &open);
        assert_eq!((found.keys, &found.named[..]), (1, &["k1".to_owned()][..]));
        // Some are left, or somebody let them in, or none was read.
        let let_in = Some(Feedback::NewNormal);
        for out in [
            flagged("k1", Some(600), None),
            flagged("k1", None, let_in),
            flagged("k9", None, None),
        ] {
            assert_eq!(of(vec![six(900)], Vec::new(), &[out]), Unlearnt::default());
        }
        // Of the few records of every key some are left, though the windows' are not.
        let early = six(300);
        let ended = [flagged("k1", Some(300), None)];
        assert_eq!(of(vec![early.clone()], Vec::new(), &ended).keys, 1);
        assert_eq!(of(vec![early], vec![six(900)], &ended).keys, 0);
    }

    #[test]
    fn the_card_names_them() {
        let mut job = job(900, "pca", 1);
        job.rows = vec![six(1800)];
        assert_eq!(trained(&job).model.card.unlearnt, Unlearnt::default());
        job.exclusions = vec![flagged("k2", None, None)];
        assert_eq!(trained(&job).model.card.unlearnt.named, ["k2"]);
    }
}
