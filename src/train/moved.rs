//! Keys of which somebody said that a fault is the new normal: for training, their older records stand where the newer ones do.
//!
//! A new level is a step of the kind that interventions are (Box and Tiao, "Intervention analysis", JASA 70, 1975): the records before it say how a key varies, those
//! after it where. So that a model knows both within an hour or two, what came before the step is moved by it: a column's median, and its spread where that has
//! changed, as they were at the same time of earlier days, become those of the last day since. Columns move by more than days usually differ by, and others stay.
//! What went back to where it was moves nothing. Nor do commands and states of two values, counters, and context.

use std::collections::BTreeMap;
use std::time::Duration;

use ndarray::ArrayView1;

use super::job::TrainJob;
use super::kept_out::{KeptOut, OfKeys};
use super::rows::PartitionRows;
use crate::model::card::{Exclusion, Feedback};
use crate::model::scale::is_command;
use crate::stats::order::{median, quantile_sorted};
use crate::stream::Offset;
use crate::time::Timestamp;

/// Records since a step, and at the same time of each earlier day, from which on they tell where a column lies.
const RECORDS_MIN: usize = 30;

/// Of another day at least this share of as many records as the newest are at the same time.
const DAY_PART: f64 = 0.75;

/// A step is more than this many times as far as days usually differ ...
const USUAL_FACTOR: f64 = 2.0;

/// ... and than this part of the spread that a column has at the same time, or all of it where a single day is known.
const SPREAD_PART: f64 = 0.5;

/// A spread has changed if it did by more than this factor, or by its square where a single day is known.
const SPREAD_FACTOR: f64 = 1.4;

/// Earlier days that are looked at, and among how many.
const DAYS: (usize, u32) = (7, 14);

const DAY: Duration = Duration::from_secs(86_400);

/// Of a counter, one step in so many goes down at most, and so many go up at least.
const COUNTER_STEPS: (usize, usize) = (1000, 10);

/// How a column of older records is brought to where newer ones lie.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shift {
    from: f64,
    to: f64,
    /// How many times as large its spread is now.
    times: f64,
    /// It has whole numbers only.
    whole: bool,
}

impl Shift {
    fn of(self, value: f64) -> f64 {
        let moved = self.to + self.times * (value - self.from);
        if self.whole { moved.round() } else { moved }
    }
}

/// What moves of a key: the records before an offset, each column by its shift; and the records that are left out on either side of where somebody's episodes began,
/// for nobody knows to the record where that was.
#[derive(Debug, Default)]
struct Moves {
    before: Vec<(Offset, Vec<Option<Shift>>)>,
    unsure: Vec<(Offset, Offset)>,
    /// Less than a day tells where to.
    unsettled: bool,
}

/// The same job on records that were moved; `None` where none are.
pub(super) fn moved(job: &TrainJob) -> Option<TrainJob> {
    let said = said(job);
    if said.is_empty() {
        return None;
    }
    let found: Vec<Found<'_>> = job
        .rows
        .iter()
        .map(|rows| of_rows(job, rows, &said))
        .collect();
    if found.iter().all(BTreeMap::is_empty) {
        return None;
    }
    let of_part = |rows: &PartitionRows| {
        let part = job.rows.iter().position(|of| of.at == rows.at);
        with_moves(rows, part.map_or(&Found::new(), |part| &found[part]))
    };
    let all = |parts: &[PartitionRows]| parts.iter().map(of_part).collect();
    let unsettled = found.iter().flatten().filter(|(_, moves)| moves.unsettled);
    let unsettled = unsettled.map(|(key, _)| (*key).to_owned()).collect();
    Some(job.moved([all(&job.rows), all(&job.level_rows)], unsettled))
}

/// What moves of each key of a partition.
type Found<'a> = BTreeMap<&'a str, Moves>;

/// What moves of a partition.
fn of_rows<'a>(job: &TrainJob, rows: &PartitionRows, said: &'a [Exclusion]) -> Found<'a> {
    let mut of_key: BTreeMap<&str, Vec<&Exclusion>> = BTreeMap::new();
    for exclusion in said.iter().filter(|exclusion| exclusion.at == rows.at) {
        of_key.entry(&exclusion.key).or_default().push(exclusion);
    }
    if of_key.is_empty() {
        return Found::new();
    }
    let out = KeptOut::of(job, (rows, job.params.guard), (&job.exclusions, &[]));
    let of_keys = OfKeys::new(rows);
    let of_job = Key {
        job,
        rows,
        out: &out,
    };
    let moves =
        |(key, of_it): (&'a str, Vec<&Exclusion>)| Some((key, of_job.moves(&of_keys, of_it)?));
    of_key.into_iter().filter_map(moves).collect()
}

/// Episodes and suspects of which somebody said that they are the new normal.
fn said(job: &TrainJob) -> Vec<Exclusion> {
    let suspects = job.known_suspects().into_iter().map(|of| of.exclusion);
    let all = job.exclusions.iter().cloned().chain(suspects);
    all.filter(|exclusion| exclusion.feedback == Some(Feedback::NewNormal))
        .collect()
}

/// The rows with what moves of some keys.
fn with_moves(rows: &PartitionRows, found: &Found<'_>) -> PartitionRows {
    let of_key: Vec<Option<&Moves>> = rows.keys().iter().map(|key| found.get(&*key.0)).collect();
    let mut out = rows.emptied();
    for i in 0..rows.len() {
        let (number, offset) = (rows.key_number(i), rows.offset(i));
        let key = &rows.keys()[number];
        let Some(moves) = of_key[number] else {
            out.push(key, rows.time(i), offset, rows.row(i));
            continue;
        };
        let unsure = |(from, to): &(Offset, Offset)| (*from..*to).contains(&offset);
        if moves.unsure.iter().any(unsure) {
            continue;
        }
        let mut row = rows.row(i).to_vec();
        if let Some((_, shifts)) = moves.before.iter().find(|(end, _)| offset < *end) {
            for (value, shift) in row.iter_mut().zip(shifts) {
                *value = shift.map_or(*value, |shift| shift.of(*value));
            }
        }
        out.push(key, rows.time(i), offset, &row);
    }
    out
}

/// A key's part of what was read.
struct Key<'a> {
    job: &'a TrainJob,
    rows: &'a PartitionRows,
    out: &'a KeptOut,
}

impl Key<'_> {
    /// By episodes of the key with these records. Between two of them it had a level of its own, which each becomes the last.
    fn moves(&self, of_keys: &OfKeys<'_>, mut said: Vec<&Exclusion>) -> Option<Moves> {
        said.sort_unstable();
        let last = said.last()?;
        let (records, flagged) = of_keys.flagged(last)?;
        let guard = usize::try_from(self.job.params.guard).unwrap_or(usize::MAX);
        let near = |at: usize| (at.saturating_sub(guard), (at + guard).min(records.len()));
        let learnt = |from: usize, to: usize| -> Vec<usize> {
            let some = records.get(from..to).unwrap_or_default().iter().copied();
            some.filter(|&i| !self.out.long[i] && !self.out.short[i])
                .collect()
        };
        let since = learnt(near(flagged.start).1, records.len());
        // None while it is open.
        let left = learnt(flagged.end, records.len());
        let newest = self.last_day(if left.len() < RECORDS_MIN {
            &since
        } else {
            &left
        });
        let span =
            |some: &[usize]| Some(self.rows.time(*some.last()?).since(self.rows.time(some[0])));
        let mut moves = Moves {
            unsettled: span(&since)? < DAY,
            ..Moves::default()
        };
        let mut begin = 0;
        for exclusion in &said {
            let (end, after) = near(of_keys.flagged(exclusion)?.1.start);
            let earlier = learnt(begin, end);
            let first = begin == 0;
            begin = after.max(begin);
            let days = self.days((&earlier, &newest), first);
            let Some(shifts) = self.shifts((&earlier, &newest), &days, &left) else {
                continue;
            };
            let offset = |at: usize| {
                records
                    .get(at)
                    .map_or(Offset(i64::MAX), |&i| self.rows.offset(i))
            };
            moves.before.push((exclusion.from, shifts));
            moves.unsure.push((offset(end), offset(after)));
        }
        (!moves.before.is_empty()).then_some(moves)
    }

    /// The records of the last day of some.
    fn last_day(&self, some: &[usize]) -> Vec<usize> {
        let Some(&last) = some.last() else {
            return Vec::new();
        };
        let from = self.rows.time(last).minus(DAY);
        let within = |i: &usize| from < self.rows.time(*i);
        some.iter().copied().filter(within).collect()
    }

    /// How far each column went between earlier records and the newest; `None` if too little is known, none went, or they are back with those that are `left` since it ended.
    fn shifts(
        &self,
        (earlier, newest): (&[usize], &[usize]),
        days: &[Vec<usize>],
        left: &[usize],
    ) -> Option<Vec<Option<Shift>>> {
        if newest.len() < RECORDS_MIN || earlier.len() < RECORDS_MIN {
            return None;
        }
        let context = self.job.context_columns();
        let columns = 0..self.job.columns.len();
        let shift = |column: usize| {
            let measured = !context.has(column) && self.is_measured(earlier, newest, column);
            measured.then(|| self.shift(days, newest, column)).flatten()
        };
        let shifts: Vec<Option<Shift>> = columns.map(shift).collect();
        let (mut stays, mut back) = (0, 0);
        for (column, shift) in shifts.iter().enumerate() {
            let Some(shift) = shift else { continue };
            if let Some(now) = self.middle(left, column, 1) {
                let is_back = (now.0 - shift.from).abs() < (now.0 - shift.to).abs();
                (stays, back) = (stays + usize::from(!is_back), back + usize::from(is_back));
            }
        }
        let any = shifts.iter().any(Option::is_some);
        (any && back <= stays).then_some(shifts)
    }

    /// Earlier records at the time of day of the newest, the latest day first; or just as many, of the first where they
    /// reach back over less than a day.
    fn days(&self, (earlier, newest): (&[usize], &[usize]), first: bool) -> Vec<Vec<usize>> {
        let time = |of: Option<&usize>| of.map_or(Timestamp(0), |&i| self.rows.time(i));
        let (from, to) = (time(newest.first()), time(newest.last()));
        let day = |day: u32| -> Vec<usize> {
            let (from, to) = (from.minus(DAY * day), to.minus(DAY * day));
            let within = |i: &usize| (from..=to).contains(&self.rows.time(*i));
            earlier.iter().copied().filter(within).collect()
        };
        let enough = RECORDS_MIN.max((DAY_PART * newest.len() as f64) as usize);
        let days = (1..=DAYS.1).map(day).filter(|day| day.len() >= enough);
        let days: Vec<Vec<usize>> = days.take(DAYS.0).collect();
        if days.is_empty() && first {
            let from = earlier.len().saturating_sub(newest.len());
            return vec![earlier[from..].to_vec()];
        }
        days
    }

    /// Whether a column is a measurement, and no command or counter.
    fn is_measured(&self, earlier: &[usize], newest: &[usize], column: usize) -> bool {
        let values = |some: &[usize]| -> Vec<f64> {
            let of = some.iter().map(|&i| self.rows.row(i)[column]);
            of.filter(|value| value.is_finite()).collect()
        };
        let (before, now) = (values(earlier), values(newest));
        let command = |values: &[f64]| is_command(ArrayView1::from(values));
        let steps = |up: bool| {
            before
                .windows(2)
                .filter(move |two| (two[0] < two[1]) == up && two[0].total_cmp(&two[1]).is_ne())
        };
        let (ups, downs) = (steps(true).count(), steps(false).count());
        let counts = ups >= COUNTER_STEPS.1 && downs * COUNTER_STEPS.0 <= before.len();
        !counts && !command(&before) && !command(&now)
    }

    /// How far a column went; `None` if no farther than it does from day to day.
    fn shift(&self, days: &[Vec<usize>], newest: &[usize], column: usize) -> Option<Shift> {
        let (to, spread) = self.middle(newest, column, RECORDS_MIN)?;
        let middle = |day: &Vec<usize>| self.middle(day, column, RECORDS_MIN);
        let days: Vec<(f64, f64)> = days.iter().filter_map(middle).collect();
        let usual_of = |of: fn(&(f64, f64)) -> f64| {
            let all: Vec<f64> = days.iter().map(of).collect();
            // Of two days, the later: which way a trend goes shows in three.
            let usual = if all.len() > 2 {
                median(&mut all.clone())
            } else {
                *all.first()?
            };
            let off = all.iter().map(|of| (of - usual).abs());
            Some((usual, off.fold(0.0, f64::max)))
        };
        let (from, off) = usual_of(|day| day.0)?;
        let (before, _) = usual_of(|day| day.1)?;
        let ratios: Vec<f64> = days.iter().map(|day| (day.1 / before).ln().abs()).collect();
        let several = days.len() > 1;
        let part = if several {
            SPREAD_PART
        } else {
            2.0 * SPREAD_PART
        };
        let far = (to - from).abs() > (USUAL_FACTOR * off).max(part * before);
        let factor = SPREAD_FACTOR.ln() * if several { 1.0 } else { 2.0 };
        let usual = ratios.iter().copied().fold(0.0, f64::max);
        let times = spread / before;
        let wider = before > 0.0 && times.ln().abs() > (USUAL_FACTOR * usual).max(factor);
        let rests = before <= 0.0 && spread > 0.0;
        let values = newest.iter().map(|&i| self.rows.row(i)[column]);
        let whole = values
            .filter(|value| value.is_finite())
            .all(|value| value.fract().abs() <= 0.0);
        (!rests && (far || wider)).then_some(Shift {
            from,
            to: if far { to } else { from },
            times: if wider { times } else { 1.0 },
            whole,
        })
    }

    /// Median and spread of a column of some records; `None` if fewer than `least` have it.
    fn middle(&self, some: &[usize], column: usize, least: usize) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = some.iter().map(|&i| self.rows.row(i)[column]).collect();
        values.retain(|value| value.is_finite());
        if values.len() < least {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let [low, middle, high] = [0.16, 0.5, 0.84].map(|q| quantile_sorted(&values, q));
        Some((middle, (high - low) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;
    use std::sync::Arc;

    use ndarray::Array2;
    use rand::Rng;
    use rand_distr::StandardNormal;

    use super::super::tests::{job as any_job, trained};
    use super::*;
    use crate::model::trained::TrainedModel;
    use crate::record::Key as RecordKey;
    use crate::seed::Seed;
    use crate::stream::{EpisodeId, TopicPartition};

    /// Records of a key in a day: one in ten minutes.
    const OF_DAY: i64 = 144;

    /// When a step comes, and how many records of a key come after it.
    const STEP: i64 = 5 * OF_DAY;

    /// What a record of key `a` or `b` is, by its number: a daily course, noise, a counter and a command.
    type Record<'a> = &'a dyn Fn(&str, i64, [f64; 4]) -> [f64; 4];

    /// Two keys by turns, up to `records` of each.
    fn rows(records: i64, record: Record<'_>) -> PartitionRows {
        let mut rng = Seed(4).rng();
        let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 4);
        let mut counted = [0.0; 2];
        for i in 0..records {
            for (number, name) in (0..).zip(["a", "b"]) {
                let noise: f64 = rng.sample(StandardNormal);
                let day = 5.0 * (TAU * i as f64 / OF_DAY as f64).sin();
                counted[number] += rng.gen_range(1.0..3.0_f64);
                let usual = [
                    100.0 + day + noise,
                    rng.sample(StandardNormal),
                    counted[number],
                    f64::from(i / 50 % 2 == 0),
                ];
                let place = (Timestamp(600_000 * i), Offset(2 * i + number as i64));
                let key = RecordKey(name.into());
                rows.push(&key, place.0, place.1, &record(name, i, usual));
            }
        }
        rows
    }

    /// A job on them, of which somebody says that what began at the step of key `a`, and perhaps ended, is the new normal.
    fn job(rows: PartitionRows, to: Option<i64>) -> TrainJob {
        let from = Offset(2 * STEP);
        let normal = Exclusion {
            key: "a".to_owned(),
            from,
            to: to.map(|to| Offset(2 * to)),
            because: EpisodeId::new("d", &rows.at, from),
            feedback: Some(Feedback::NewNormal),
            at: rows.at.clone(),
        };
        let mut job = any_job(10, "pca", 1);
        job.columns = ["x", "noise", "count", "on"].map(str::to_owned).to_vec();
        job.rows = vec![rows];
        job.exclusions = vec![normal];
        job.params.guard = 3;
        job
    }

    /// Key `a` has 30 more of the first feature from the step on.
    fn stepped(name: &str, i: i64, mut usual: [f64; 4]) -> [f64; 4] {
        usual[0] += f64::from(name == "a" && i >= STEP) * 30.0;
        usual
    }

    fn unmoved(_: &str, _: i64, usual: [f64; 4]) -> [f64; 4] {
        usual
    }

    /// Each record by its offset.
    fn by_offset(job: &TrainJob) -> BTreeMap<Offset, Vec<f64>> {
        let rows = &job.rows[0];
        let record = |i: usize| (rows.offset(i), rows.row(i).to_vec());
        (0..rows.len()).map(record).collect()
    }

    fn of_a(offset: Offset) -> bool {
        offset.0 % 2 == 0
    }

    #[test]
    fn older_records_of_the_key_stand_where_the_newer_do_and_nothing_else_moves() {
        let job = job(rows(STEP + 50, &stepped), None);
        let found = by_offset(&moved(&job).unwrap());
        let before = by_offset(&job);
        let mut off = Vec::new();
        for (offset, was) in &before {
            let near = of_a(*offset) && (STEP - 3..STEP + 3).contains(&(offset.0 / 2));
            let Some(now) = found.get(offset) else {
                assert!(near, "{offset:?}");
                continue;
            };
            assert!(!near, "{offset:?}");
            assert_eq!(was[1..], now[1..]);
            if of_a(*offset) && offset.0 < 2 * STEP {
                off.push(now[0] - was[0]);
            } else {
                assert_eq!(was, now);
            }
        }
        assert_eq!(off.len() as i64, STEP - 3);
        let by = off[0];
        assert!(
            (by - 30.0).abs() < 1.0 && off.iter().all(|of| (of - by).abs() < 1e-9),
            "{by}"
        );
        // Less than a day tells where to; a day later, a day does.
        assert_eq!(
            moved(&job)
                .unwrap()
                .unsettled
                .into_iter()
                .collect::<Vec<_>>(),
            ["a"]
        );
        let later = self::job(self::rows(STEP + OF_DAY + 50, &stepped), None);
        assert!(moved(&later).unwrap().unsettled.is_empty());
        // Of too few records since nobody can tell.
        assert!(moved(&self::job(rows(STEP + 30, &stepped), None)).is_none());
    }

    #[test]
    fn what_went_back_or_never_went_moves_nothing() {
        assert!(moved(&job(rows(STEP + 100, &unmoved), None)).is_none());
        let hour = |name: &str, i: i64, usual| {
            if i < STEP + 40 {
                stepped(name, i, usual)
            } else {
                usual
            }
        };
        // Over for long, and for a few records only.
        for records in [STEP + 200, STEP + 45] {
            assert!(moved(&job(rows(records, &hour), Some(STEP + 40))).is_none());
        }
        // The episode closed because a model has learnt it: it is as it was, whatever few records came since.
        for records in [STEP + 200, STEP + 45] {
            assert!(moved(&job(rows(records, &stepped), Some(STEP + 40))).is_some());
        }
        // What nobody says moves nothing.
        let mut job = job(rows(STEP + 100, &stepped), None);
        for feedback in [
            None,
            Some(Feedback::FalsePositive),
            Some(Feedback::TruePositive),
        ] {
            job.exclusions[0].feedback = feedback;
            assert!(moved(&job).is_none());
        }
    }

    #[test]
    fn two_episodes_of_one_step_move_it_once_and_a_later_step_moves_all() {
        let mut twice = job(rows(STEP + 200, &stepped), Some(STEP + 60));
        let once = by_offset(&moved(&twice).unwrap());
        let mut again = twice.exclusions[0].clone();
        again.from = Offset(2 * (STEP + 100));
        again.to = None;
        twice.exclusions.push(again);
        let found = by_offset(&moved(&twice).unwrap());
        let off = found[&Offset(0)][0] - once[&Offset(0)][0];
        assert!(off.abs() < 1.0, "{off}");
        let more = |name: &str, i: i64, usual| {
            let mut record = stepped(name, i, usual);
            record[0] += f64::from(name == "a" && i >= STEP + 100) * 30.0;
            record
        };
        let levels = job(rows(STEP + 200, &more), None);
        twice.rows = levels.rows;
        let (was, found) = (by_offset(&twice), by_offset(&moved(&twice).unwrap()));
        // Of less than a day between them nobody knows what its course is.
        for (at, by) in [(0, 60.0), (STEP + 50, 0.0), (STEP + 150, 0.0)] {
            let offset = Offset(2 * at);
            let off = found[&offset][0] - was[&offset][0] - by;
            assert!(off.abs() < 1.0, "{at}: {off}");
        }
    }

    #[test]
    fn a_spread_that_has_changed_is_brought_along() {
        let wilder = |name: &str, i: i64, mut usual: [f64; 4]| {
            usual[1] *= if name == "a" && i >= STEP { 4.0 } else { 1.0 };
            usual
        };
        let job = job(rows(STEP + OF_DAY, &wilder), None);
        let found = by_offset(&moved(&job).unwrap());
        let was = by_offset(&job);
        let times = (found[&Offset(3)][1] / was[&Offset(3)][1], {
            let two = [Offset(0), Offset(20)];
            let apart = |of: &BTreeMap<Offset, Vec<f64>>| of[&two[0]][1] - of[&two[1]][1];
            apart(&found) / apart(&was)
        });
        assert!(
            (times.0 - 1.0).abs() < 1e-12 && (3.0..5.0).contains(&times.1),
            "{times:?}"
        );
    }

    /// How rare a model finds the newest records of key `a`: the median p-value.
    fn newest(model: &TrainedModel, rows: &PartitionRows) -> f64 {
        let some = (rows.len() - 40..rows.len()).filter(|&i| of_a(rows.offset(i)));
        let some: Vec<usize> = some.collect();
        let mut values: Vec<f64> = some.iter().flat_map(|&i| rows.row(i)).copied().collect();
        model.levels.apply("a", &mut values);
        let windows = Array2::from_shape_vec((some.len(), 4), values).unwrap();
        let seeds = vec![Seed(1); some.len()];
        median(&mut model.judge(windows.view(), &seeds).p_value)
    }

    #[test]
    fn the_next_model_knows_the_new_level_and_is_made_again_from_its_card() {
        let mut first = job(rows(STEP, &stepped), None);
        first.exclusions.clear();
        let champion = Arc::new(trained(&first).model);
        let mut next = job(rows(STEP + 40, &stepped), None);
        next.champion = Some(Arc::clone(&champion));
        let found = trained(&next);
        assert!(found.verdict.is_promoted(), "{}", found.verdict);
        let p = [&*champion, &found.model].map(|model| newest(model, &next.rows[0]));
        assert!(p[0] < 1e-3 && p[1] > 0.1, "{p:?}");
        let mut again = TrainJob {
            champion: None,
            remake: Some(found.model.card.clone()),
            ..next
        };
        again.feedback.clear();
        let mut again = trained(&again).model;
        again.reservoir = found.model.reservoir.clone();
        assert_eq!(again.to_bytes().unwrap(), found.model.to_bytes().unwrap());
    }
}
