//! Which types of keys there are, and what is usual for each key among those of its type.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis, concatenate};

use super::job::TrainJob;
use super::split::{Window, only};
use super::types::{self, OfType};
use super::window::Windows;
use crate::model::card::{Exclusion, Suspect, Usage};
use crate::model::levels::{Levels, ROWS_MIN};

/// Learns both from the windows that are fitted on: the others show how well that holds for what comes after. Where these are only some of those that were
/// read, levels are of all; where only some keys of a stretch were read, of the few records of every key that are no newer. Those of a key with too few of
/// them are of its windows.
pub(super) fn learn(
    job: &TrainJob,
    windows: &Windows<'_>,
    usage: &Usage,
    out: (&[Exclusion], &[Suspect]),
) -> (Levels, Vec<OfType>) {
    let mut seen = windows.split(usage, &job.spec).fitted;
    let fitted = seen.len();
    let mut newest = windows.recent(&seen, 1);
    let mut of_key = windows.by_key(&seen);
    if let Some(more) = Records::more(job, windows, &seen, out) {
        let mut theirs: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (key, place) in more.keys.iter().zip(fitted..) {
            theirs.entry(key).or_default().push(place);
        }
        theirs.retain(|_, places| places.len() >= ROWS_MIN);
        of_key.extend(theirs);
        seen.extend(more.windows);
        newest = concatenate(Axis(0), &[newest.view(), more.newest.view()])
            .unwrap_or_else(|error| unreachable!("rows have D columns: {error}"));
    }
    let context = job.context_columns();
    let levels = |ours: &dyn Fn(&Window) -> bool| {
        let mut of_key = of_key.clone();
        of_key.retain(|_, places| places.iter().any(|&place| ours(&seen[place])));
        Levels::fit(newest.view(), &of_key, &context)
    };
    let types = types::find(job, (&seen, fitted), newest.view());
    if types.is_empty() {
        return (levels(&|_| true), types);
    }
    let of_type = |of: &OfType| (of.columns.clone(), levels(&|window| of.has(window)));
    let of_types: Vec<_> = types.iter().map(of_type).collect();
    (Levels::of_types(&of_types, job.columns.len()), types)
}

/// Records besides those of the windows that are fitted on, none of them newer.
struct Records<'a> {
    keys: Vec<&'a str>,
    /// Numbered as the windows' keys are.
    windows: Vec<Window>,
    /// Their newest values, `n × D`.
    newest: Array2<f64>,
}

impl<'a> Records<'a> {
    /// Those that levels are learnt from; `None` where the windows are all there is.
    fn more(
        job: &'a TrainJob,
        windows: &Windows<'a>,
        fitted: &[Window],
        out: (&[Exclusion], &[Suspect]),
    ) -> Option<Self> {
        if !job.level_rows.is_empty() {
            return Self::of_every_key(job, fitted, out);
        }
        let thinned = windows.thinned();
        (!thinned.is_empty()).then(|| Self::of(windows, thinned))
    }

    /// Some windows' newest.
    fn of(windows: &Windows<'a>, some: &[Window]) -> Self {
        Self {
            keys: some.iter().map(|w| &*windows.place(w).1.0).collect(),
            windows: some.to_vec(),
            newest: windows.recent(some, 1),
        }
    }

    /// The few records that were read of every key, without what is kept out. Keys that no window is of are numbered on.
    fn of_every_key(
        job: &'a TrainJob,
        fitted: &[Window],
        out: (&[Exclusion], &[Suspect]),
    ) -> Option<Self> {
        let end = fitted.last()?.newest;
        let all = Windows::of_level_rows(job, out);
        let records: Vec<Window> = only(all.all(), &|record: &Window| record.newest <= end);
        if records.is_empty() {
            return None;
        }
        let mut found = Self::of(&all, &records);
        let mut numbers: BTreeMap<(usize, &str), u32> = BTreeMap::new();
        for (part, rows) in job.rows.iter().enumerate() {
            let keys = rows.keys().iter().zip(0..);
            numbers.extend(keys.map(|(key, number)| ((part, &*key.0), number)));
        }
        let mut next = numbers.len() as u32;
        for (record, key) in found.windows.iter_mut().zip(&found.keys) {
            let at = &job.level_rows[record.place.0].at;
            let part = job.rows.iter().position(|rows| rows.at == *at);
            record.place.0 = part.unwrap_or(job.rows.len());
            record.key = *numbers.entry((record.place.0, key)).or_insert_with(|| {
                next += 1;
                next
            });
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::f64::consts::TAU;

    use rand::Rng;
    use rand_distr::StandardNormal;

    use super::super::rows::PartitionRows;
    use super::super::sample::{self, Sample, Wanted};
    use super::super::tests::job;
    use super::*;
    use crate::record::Key;
    use crate::seed::Seed;
    use crate::stream::{EpisodeId, Offset, Span, TopicPartition};
    use crate::time::Timestamp;

    const KEYS: i64 = 500;
    const RECORDS: i64 = 200 * KEYS;

    /// Where a key's values lie.
    fn centre(key: i64) -> f64 {
        40.0 * Seed(1)
            .nth(key as u64)
            .rng()
            .sample::<f64, _>(StandardNormal)
    }

    /// A training on five thousand records of keys that lie far apart and follow the same day; key 7 was broken for the first half.
    fn trained_on(at: &TopicPartition) -> TrainJob {
        let span = Span {
            at: at.clone(),
            from: Offset(0),
            to: Offset(RECORDS),
        };
        let wanted = Wanted {
            rows_max: 5000,
            rows_min: 500,
            window: 1,
            columns: 1,
        };
        let mut rng = Seed(2).rng();
        let noise: Vec<f64> = (0..RECORDS).map(|_| rng.sample(StandardNormal)).collect();
        let Ok(sample) =
            sample::draw::<Infallible>(&[span], wanted, Seed(3), &mut |span, visit| {
                for offset in span.from.0..span.to.0 {
                    let key = offset % KEYS;
                    let day = 3.0 * (TAU * offset as f64 / (50 * KEYS) as f64).sin();
                    let broken = f64::from(key == 7 && offset < RECORDS / 2);
                    let value = centre(key) + day + noise[offset as usize] + 500.0 * broken;
                    let key = Key(format!("k{key}").into());
                    visit(&key, Timestamp(1000 * offset), Offset(offset), &[value]);
                }
                Ok(())
            });
        let Sample {
            stretches,
            rows,
            level_rows,
        } = sample;
        TrainJob {
            columns: vec!["x".to_owned()],
            rows,
            level_rows,
            spans: stretches,
            ..job(10, "pca", 1)
        }
    }

    #[test]
    fn every_key_has_a_level_though_few_keys_are_learnt_from() {
        let at = TopicPartition::new("t", 0);
        let job = trained_on(&at);
        assert!(job.rows[0].keys().len() < KEYS as usize / 2);
        let broken = Exclusion {
            key: "k7".to_owned(),
            from: Offset(0),
            to: Some(Offset(RECORDS / 2)),
            because: EpisodeId::new("d", &at, Offset(0)),
            feedback: None,
            at,
        };
        let out = [broken];
        let windows = Windows::build(&job, &out, &[]);
        let usage = job.params.usage(windows.len());
        let (levels, types) = learn(&job, &windows, &usage, (&out, &[]));
        assert!(types.is_empty());
        // What is left of key 7 is less than twenty records that are no newer than those that are fitted on, or just as many.
        assert!(levels.len() >= KEYS as usize - 1, "{}", levels.len());
        let middle = |key: i64| {
            let mut value = [centre(key)];
            levels.apply(&format!("k{key}"), &mut value);
            value[0]
        };
        let middles: Vec<f64> = (0..KEYS).filter(|key| *key != 7).map(middle).collect();
        let mean = middles.iter().sum::<f64>() / middles.len() as f64;
        let off = middles.iter().map(|middle| (middle - mean).abs());
        let most = off.fold(0.0, f64::max);
        assert!(most < 4.0, "{most}");
        assert!((middle(7) - mean).abs() < 40.0, "{}", middle(7));
    }

    #[test]
    fn every_key_has_a_level_though_windows_are_thinned() {
        let mut job = trained_on(&TopicPartition::new("t", 0));
        job.rows = std::mem::take(&mut job.level_rows);
        job.spans = Vec::new();
        job.params.rows_max = 5000;
        let windows = Windows::build(&job, &[], &[]);
        assert!(windows.len() <= 5000, "{}", windows.len());
        let usage = job.params.usage(windows.len());
        let (levels, _) = learn(&job, &windows, &usage, (&[], &[]));
        // Ten windows of a key are fitted on.
        assert_eq!(levels.len(), KEYS as usize);
    }

    #[test]
    fn levels_are_of_no_records_that_are_newer_than_what_is_fitted_on() {
        let job = trained_on(&TopicPartition::new("t", 0));
        let windows = Windows::build(&job, &[], &[]);
        let usage = job.params.usage(windows.len());
        let fitted = windows.split(&usage, &job.spec).fitted;
        let end = fitted.last().unwrap().newest;
        let records = Records::of_every_key(&job, &fitted, (&[], &[])).unwrap();
        assert_eq!(records.windows.len(), records.newest.nrows());
        assert!(records.windows.iter().all(|record| record.newest <= end));
        let all: usize = job.level_rows.iter().map(PartitionRows::len).sum();
        assert!(
            (all / 2..all).contains(&records.keys.len()),
            "{} of {all}",
            records.keys.len()
        );
    }
}
