//! From rows to windows: runs of neighbours of one key, without what is kept out; and their split by time.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::job::{TrainError, TrainJob};
use super::rows::PartitionRows;
use crate::detect::pace::Sequence;
use crate::detect::windowing::{self, LateRecords};
use crate::model::card::{Exclusion, Stretch, Suspect, Usage};
use crate::model::levels::Levels;
use crate::model::spec::ModelSpec;
use crate::record::Key;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::Timestamp;

/// Windows below which nothing can be learnt and calibrated.
pub(super) const WINDOWS_MIN: usize = 30;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

/// The windows of a job, oldest first.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    job: &'a TrainJob,
    /// Records of one key that follow each other, as values `len × D` with `last` filled in.
    runs: Vec<Vec<f64>>,
    windows: Vec<Window>,
    /// Those with a record of a short episode, or of its guard: nothing is fitted on them, but what is normal they may tell.
    flagged: Vec<Window>,
    /// Records read.
    pub rows: usize,
    /// Records kept out.
    pub excluded: usize,
    /// Records that came too late.
    pub late: usize,
    /// Keys that records belong to, those of different partitions apart.
    pub keys: usize,
    /// Records of one key in a day.
    pub records_per_key_day: f64,
    /// Brings what is usual for a key to what is usual for all.
    levels: Levels,
    /// Records of a window.
    length: usize,
}

/// W records of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    run: usize,
    /// The place of its oldest record in the run.
    first: usize,
    /// The number of its key in the partition.
    key: u32,
    oldest: Timestamp,
    newest: Timestamp,
    /// Tells windows of the same time apart, in a fixed order.
    place: (usize, Offset),
}

impl Window {
    /// Its run, and its number among that run's windows.
    pub fn place_in_run(&self) -> (usize, usize) {
        (self.run, self.first)
    }

    /// Orders windows by time, and those of the same time in a fixed order.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (self.newest, self.place)
    }

    /// Which run of neighbours it lies in: records of one key that follow each other.
    pub(super) fn run(&self) -> usize {
        self.run
    }

    /// Where in the run it begins.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Tells keys apart: the number of the partition, and of the key in it.
    pub(super) fn key(&self) -> (usize, u32) {
        (self.place.0, self.key)
    }

    /// When its newest record happened.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }
}

/// The windows by use, each oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    /// All that training sees but for calibration and gate: the next two, and what was dropped between them.
    pub fitted: Vec<Window>,
    /// Weights are fitted on these ...
    pub train: Vec<Window>,
    /// ... watched by these ...
    pub validation: Vec<Window>,
    /// ... calibrated on these ...
    pub calibrate: Vec<Window>,
    /// ... and tried on these.
    pub gate: Vec<Window>,
}

/// Records of an episode that ended and may have been a false alarm, at most: three times the longest time scale that evidence gathers over by default.
const SHORT_MAX: usize = 900;

/// Which records of a partition are kept out: those of long episodes, of open ones, of suspects and of maintenance, for good; those of short
/// ones of the fit only.
struct KeptOut {
    long: Vec<bool>,
    short: Vec<bool>,
}

/// Neighbours that stay together where windows are too many, at least.
const NEIGHBOURS_MIN: usize = 128;

/// Share of the fitted windows that only validate.
const VALIDATION_SHARE: f64 = 0.15;

impl<'a> Windows<'a> {
    /// All windows of full length that have no record that is kept out.
    pub fn build(job: &'a TrainJob, exclusions: &[Exclusion], suspects: &[Suspect]) -> Self {
        Self::of_length(job, job.spec.window, (exclusions, suspects))
    }

    /// The same, whatever the length of the windows that are to be scored.
    pub fn of_length(
        job: &'a TrainJob,
        length: usize,
        (exclusions, suspects): (&[Exclusion], &[Suspect]),
    ) -> Self {
        let mut built = Self {
            job,
            runs: Vec::new(),
            windows: Vec::new(),
            flagged: Vec::new(),
            rows: job.rows.iter().map(PartitionRows::len).sum(),
            excluded: 0,
            late: 0,
            keys: job.rows.iter().map(|rows| rows.keys().len()).sum(),
            records_per_key_day: 0.0,
            levels: Levels::default(),
            length,
        };
        let mut gaps = Vec::new();
        for (part, rows) in job.rows.iter().enumerate() {
            let out = built.kept_out(rows, exclusions, suspects);
            built.add_part(part, rows, (&out, &mut gaps));
        }
        built
            .windows
            .sort_by_key(|window| (window.newest, window.place));
        built.thin();
        gaps.sort_unstable_by(f64::total_cmp);
        let gap = crate::stats::order::quantile_sorted(&gaps, 0.5);
        built.records_per_key_day = if gap > 0.0 { DAY_MS / gap } else { 86_400.0 };
        built
    }

    /// Leaves out windows that are too many. Those that are fitted on are thinned evenly, so that they are as unlike as may be; the later ones,
    /// which calibrate and are tried, stay together with their neighbours, so that they are sequences still.
    fn thin(&mut self) {
        let (n, most) = (
            self.windows.len(),
            self.job.params.rows_max.max(WINDOWS_MIN),
        );
        if n <= most {
            return;
        }
        let usage = self.job.params.usage(most);
        let apart = usage.gate_share.clamp(0.0, 0.5) + usage.calibrate_share.clamp(0.0, 0.5);
        let held_out = apart + VALIDATION_SHARE * (1.0 - apart);
        let late = self.windows.split_off(n - (n as f64 * held_out) as usize);
        let late = neighbours(&late, (most as f64 * held_out) as usize, self.length);
        let early = most - late.len();
        let step = self.windows.len() as f64 / early as f64;
        self.windows = (0..early.min(self.windows.len()))
            .map(|i| self.windows[(i as f64 * step.max(1.0)) as usize])
            .collect();
        self.windows.extend(late);
    }

    /// Adds the windows of one partition, and the gaps between a key's records in milliseconds.
    fn add_part(
        &mut self,
        part: usize,
        rows: &PartitionRows,
        (out, gaps): (&KeptOut, &mut Vec<f64>),
    ) {
        let either = out.long.iter().zip(&out.short);
        self.excluded += either.filter(|(long, short)| **long || **short).count();
        let spans: Vec<&Stretch> = self
            .job
            .spans
            .iter()
            .filter(|stretch| stretch.span.at == rows.at)
            .collect();
        let late = self.late(rows, &spans);
        self.late += late.iter().filter(|late| **late).count();
        let mut last = vec![f64::NAN; self.job.columns.len()];
        let mut filled = last.clone();
        for records in &by_key(rows) {
            last.fill(f64::NAN);
            let mut run: Vec<usize> = Vec::new();
            let mut values: Vec<f64> = Vec::new();
            let mut before: Option<usize> = None;
            let mut sequence = Sequence::default();
            // What came too late is not scored either, and no part of the windows that are.
            let on_time = |i: &&usize| !late.get(**i).copied().unwrap_or_default();
            for &i in records.iter().filter(on_time) {
                let apart = before.is_some_and(|before| {
                    stretch(&spans, rows.offset(before)) != stretch(&spans, rows.offset(i))
                });
                if apart {
                    sequence = Sequence::default();
                }
                // The windows that will be scored are cut at the same gaps.
                let follows = sequence.follows(rows.time(i), self.length);
                if let (Some(before), false) = (before, apart) {
                    gaps.push(rows.time(i).since(rows.time(before)).as_millis() as f64);
                }
                if apart {
                    last.fill(f64::NAN);
                }
                if !follows || out.long[i] {
                    self.close_run(part, rows, (&mut run, &out.short), &mut values);
                }
                before = Some(i);
                filled.copy_from_slice(rows.row(i));
                windowing::fill_last(self.job.fill_last.iter().copied(), &mut last, &mut filled);
                if !out.long[i] {
                    run.push(i);
                    values.extend_from_slice(&filled);
                }
            }
            self.close_run(part, rows, (&mut run, &out.short), &mut values);
        }
    }

    /// Which records of a partition came too late; empty where none can. Each stretch is looked at by itself.
    fn late(&self, rows: &PartitionRows, spans: &[&Stretch]) -> Vec<bool> {
        let Some(bound) = self.job.params.late_after else {
            return Vec::new();
        };
        let mut at = None;
        let mut late = LateRecords::new(bound, self.length);
        (0..rows.len())
            .map(|i| {
                let here = Some(stretch(spans, rows.offset(i)));
                if at != here {
                    (at, late) = (here, LateRecords::new(bound, self.length));
                }
                late.is_late(rows.key_number(i), rows.offset(i), rows.time(i))
            })
            .collect()
    }

    /// Makes windows of a run and begins another.
    fn close_run(
        &mut self,
        part: usize,
        rows: &PartitionRows,
        (run, short): (&mut Vec<usize>, &[bool]),
        values: &mut Vec<f64>,
    ) {
        let length = self.length;
        for first in 0..(run.len() + 1).saturating_sub(length) {
            let (oldest, newest) = (run[first], run[first + length - 1]);
            let flagged = run[first..first + length].iter().any(|&i| short[i]);
            let windows = if flagged {
                &mut self.flagged
            } else {
                &mut self.windows
            };
            windows.push(Window {
                run: self.runs.len(),
                first,
                key: rows.key_number(newest) as u32,
                oldest: rows.time(oldest),
                newest: rows.time(newest),
                place: (part, rows.offset(newest)),
            });
        }
        if run.len() >= length {
            self.runs.push(std::mem::take(values));
        }
        values.clear();
        run.clear();
    }

    /// Whether an episode ended, and all of its records lie where the log was read.
    fn read_whole(&self, exclusion: &Exclusion) -> bool {
        let Some(to) = exclusion.to else { return false };
        let mut spans = self.job.spans.iter().map(|stretch| &stretch.span);
        let whole =
            |span: &Span| span.at == exclusion.at && span.from <= exclusion.from && to <= span.to;
        self.job.spans.is_empty() || spans.any(whole)
    }

    /// Which records of a partition are kept out: those of excluded stretches, and `guard` records of the key on either side.
    /// Maintenance windows too, by event time.
    fn kept_out(
        &self,
        rows: &PartitionRows,
        exclusions: &[Exclusion],
        suspects: &[Suspect],
    ) -> KeptOut {
        let of_key = by_key(rows);
        let maintenance = &self.job.maintenance;
        let serviced = |i: usize| {
            let (key, time) = (&rows.keys()[rows.key_number(i)].0, rows.time(i));
            maintenance.iter().any(|window| window.has(key, time))
        };
        let mut long: Vec<bool> = (0..rows.len()).map(serviced).collect();
        let mut short = vec![false; rows.len()];
        let guard = usize::try_from(self.job.params.guard).unwrap_or(usize::MAX);
        let numbers: BTreeMap<&str, usize> = rows
            .keys()
            .iter()
            .enumerate()
            .map(|(i, key)| (&*key.0, i))
            .collect();
        let suspects = suspects.iter().map(|suspect| (&suspect.exclusion, true));
        let all = exclusions.iter().map(|e| (e, false)).chain(suspects);
        for (exclusion, suspect) in all.filter(|(e, _)| e.at == rows.at && !e.let_in()) {
            let Some(&number) = numbers.get(exclusion.key.as_str()) else {
                continue;
            };
            let records = &of_key[number];
            let from = records.partition_point(|&i| rows.offset(i) < exclusion.from);
            let to = exclusion.to.map_or(records.len(), |to| {
                records.partition_point(|&i| rows.offset(i) < to)
            });
            let is_short = !suspect
                && !exclusion.confirmed()
                && self.read_whole(exclusion)
                && to.saturating_sub(from) <= SHORT_MAX;
            let out = if is_short { &mut short } else { &mut long };
            // The guard also where the stretch itself was not sampled, if its neighbours were.
            let to = to.max(from).saturating_add(guard).min(records.len());
            for &i in &records[from.saturating_sub(guard)..to] {
                out[i] = true;
            }
        }
        KeptOut { long, short }
    }

    /// Records of a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// How many records were read.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Windows of short episodes and their guard that are no older than the calibration's, oldest first.
    pub fn flagged(&self, split: &Split) -> Vec<Window> {
        let begin = split.calibrate.first().or(split.gate.first());
        let begin = begin.map(|window| window.newest);
        let late = |window: &&Window| begin.is_some_and(|begin| begin <= window.newest);
        let mut late: Vec<Window> = self.flagged.iter().filter(late).copied().collect();
        late.sort_by_key(|window| (window.newest, window.place));
        late
    }

    /// All of them, oldest first.
    pub fn all(&self) -> &[Window] {
        &self.windows
    }

    /// Where a window's newest record lies: its partition, key and offset.
    pub fn place(&self, window: &Window) -> (&'a TopicPartition, &'a Key, Offset) {
        let (part, offset) = window.place;
        let rows = &self.job.rows[part];
        (&rows.at, &rows.keys()[window.key as usize], offset)
    }

    /// That they are too few.
    pub fn too_few(&self, needed: usize) -> TrainError {
        TrainError::TooFewRows {
            needed,
            windows: self.windows.len(),
            rows: self.rows,
            excluded: self.excluded,
        }
    }

    /// Cuts by time: fitted first, gated last. A window that reaches back over a cut is dropped, so that no record is on both sides.
    pub fn split(&self, usage: &Usage, spec: &ModelSpec) -> Split {
        let n = self.windows.len();
        let gate = (n as f64 * usage.gate_share.clamp(0.0, 0.5)) as usize;
        let calibrate = (n as f64 * usage.calibrate_share.clamp(0.0, 0.5)) as usize;
        let fitted = n - gate - calibrate;
        let (train, validation) = validated(&self.windows[..fitted], spec, usage);
        Split {
            fitted: self.windows[..fitted].to_vec(),
            train,
            validation,
            calibrate: purged(&self.windows[fitted..fitted + calibrate]),
            gate: purged(&self.windows[fitted + calibrate..]),
        }
    }

    /// The key of each of the windows.
    pub fn keys(&self, windows: &[Window]) -> Vec<String> {
        let key = |window: &Window| self.place(window).1.0.as_ref().to_owned();
        windows.iter().map(key).collect()
    }

    /// Learns what is usual for each key, from the windows that are fitted on: the others show how well that holds for what comes after.
    pub fn level(&mut self, usage: &Usage) {
        let fitted = self.split(usage, &self.job.spec).fitted;
        let mut of_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, window) in fitted.iter().enumerate() {
            of_key.entry(&self.place(window).1.0).or_default().push(row);
        }
        let newest = self.recent(&fitted, 1);
        self.levels = Levels::fit(newest.view(), &of_key, &self.job.context_columns());
    }

    /// What is usual for each key.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The values of windows, `n × (W · D)`, by what is usual for their keys.
    pub fn matrix(&self, windows: &[Window]) -> Array2<f64> {
        let mut rows = self.raw(windows);
        for (window, mut row) in windows.iter().zip(rows.rows_mut()) {
            self.levels.apply(&self.place(window).1.0, &mut row);
        }
        rows
    }

    /// The values of windows, `n × (W · D)`, as they were observed.
    pub fn raw(&self, windows: &[Window]) -> Array2<f64> {
        self.recent(windows, self.length)
    }

    /// The values of the newest `length` records of windows, `n × (length · D)`, as they were observed.
    pub fn recent(&self, windows: &[Window], length: usize) -> Array2<f64> {
        let columns = self.job.columns.len();
        let width = length * columns;
        let skipped = self.length - length;
        let mut values = Vec::with_capacity(windows.len() * width);
        for window in windows {
            let from = (window.first + skipped) * columns;
            values.extend_from_slice(&self.runs[window.run][from..from + width]);
        }
        Array2::from_shape_vec((windows.len(), width), values)
            .unwrap_or_else(|error| unreachable!("windows have one width: {error}"))
    }
}

/// At most `most` of the windows, in whole stretches of neighbours of one run, spread evenly over time, the latest among them. In order.
fn neighbours(windows: &[Window], most: usize, length: usize) -> Vec<Window> {
    let stretch = NEIGHBOURS_MIN.max(8 * length);
    let mut stretches: BTreeMap<(usize, usize), Vec<Window>> = BTreeMap::new();
    for window in windows {
        let place = (window.run, window.first / stretch);
        stretches.entry(place).or_default().push(*window);
    }
    let mut stretches: Vec<Vec<Window>> = stretches.into_values().collect();
    stretches.sort_by_key(|stretch| stretch.last().map(|w| (w.newest, w.place)));
    let wanted = (stretches.len() * most)
        .div_ceil(windows.len().max(1))
        .max(1);
    let step = stretches.len() as f64 / wanted as f64;
    let mut kept: Vec<Window> = Vec::new();
    for i in 0..wanted {
        let stretch = &stretches[stretches.len() - 1 - (i as f64 * step) as usize];
        let room = (most - kept.len()).min(stretch.len());
        kept.extend(&stretch[stretch.len() - room..]);
    }
    kept.sort_by_key(|window| (window.newest, window.place));
    kept
}

/// Windows that are fitted on, and later ones that validate. Across folds, windows validate only for kinds that need it: the others learn
/// from every one.
pub(super) fn validated(
    windows: &[Window],
    spec: &ModelSpec,
    usage: &Usage,
) -> (Vec<Window>, Vec<Window>) {
    if usage.folds > 0 && !spec.validates() {
        return (windows.to_vec(), Vec::new());
    }
    let train = windows.len() - (windows.len() as f64 * VALIDATION_SHARE) as usize;
    (windows[..train].to_vec(), purged(&windows[train..]))
}

/// Contiguous folds of windows in order of time, each with the windows that share no record with it; with all others where that would
/// leave next to nothing.
pub(super) fn folds(windows: &[Window], folds: usize, length: usize) -> Vec<Fold> {
    let n = windows.len();
    (0..folds)
        .map(|i| {
            let (from, to) = (i * n / folds, (i + 1) * n / folds);
            let mut held: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
            for window in &windows[from..to] {
                let range = held
                    .entry(window.run)
                    .or_insert((window.first, window.first));
                range.0 = range.0.min(window.first);
                range.1 = range.1.max(window.first);
            }
            let apart = |window: &Window| {
                held.get(&window.run).is_none_or(|&(low, high)| {
                    window.first + length <= low || high + length <= window.first
                })
            };
            let others = || windows[..from].iter().chain(&windows[to..]).copied();
            let rest: Vec<Window> = others().filter(apart).collect();
            let enough = rest.len() * 2 >= n - (to - from);
            Fold {
                held_out: windows[from..to].to_vec(),
                rest: if enough { rest } else { others().collect() },
            }
        })
        .collect()
}

/// Windows of one fold, and those that its model is fitted on.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    /// Scored by a model that has not seen them.
    pub held_out: Vec<Window>,
    /// The others.
    pub rest: Vec<Window>,
}

/// The windows that lie wholly within the stretch; all of them where that would leave next to nothing.
fn purged(windows: &[Window]) -> Vec<Window> {
    let Some(begin) = windows.first().map(|window| window.newest) else {
        return Vec::new();
    };
    let within: Vec<Window> = windows
        .iter()
        .filter(|w| begin <= w.oldest)
        .copied()
        .collect();
    if within.len() * 2 < windows.len() {
        windows.to_vec()
    } else {
        within
    }
}

/// The records of each key, in order.
fn by_key(rows: &PartitionRows) -> Vec<Vec<usize>> {
    let mut of_key: Vec<Vec<usize>> = vec![Vec::new(); rows.keys().len()];
    for i in 0..rows.len() {
        of_key[rows.key_number(i)].push(i);
    }
    of_key
}

/// Which stretch of reading an offset belongs to; adjoining spans are one, unless other keys were kept of them.
fn stretch(spans: &[&Stretch], offset: Offset) -> usize {
    let mut number = 0;
    for (i, stretch) in spans.iter().enumerate() {
        if i > 0 {
            let before = spans[i - 1];
            let whole = before.keys.is_none() && stretch.keys.is_none();
            number += usize::from(before.span.to != stretch.span.from || !whole);
        }
        if stretch.span.contains(offset) {
            return number;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(run: usize, first: usize) -> Window {
        Window {
            run,
            first,
            key: 0,
            oldest: Timestamp(first as i64),
            newest: Timestamp(first as i64),
            place: (run, Offset(first as i64)),
        }
    }

    #[test]
    fn of_too_many_windows_whole_stretches_of_neighbours_are_kept() {
        // Two runs side by side.
        let windows: Vec<Window> = (0..20_000).map(|i| window(i % 2, i / 2)).collect();
        let kept = neighbours(&windows, 3000, 10);
        assert!((2800..=3000).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().first, 9999);
        let mut of_run: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for window in &kept {
            of_run.entry(window.run).or_default().push(window.first);
        }
        for firsts in of_run.values() {
            let next = firsts.windows(2).filter(|pair| pair[0] + 1 == pair[1]);
            assert!(next.count() > firsts.len() * 19 / 20);
            // Over all of the time.
            assert!(firsts[0] < 1500, "{}", firsts[0]);
        }
    }

    proptest! {
        #[test]
        fn every_window_is_held_out_once_by_windows_that_share_no_record_with_it(
            runs in proptest::collection::vec(0usize..150, 1..4), length in 1usize..12,
        ) {
            let mut windows: Vec<Window> = runs.iter().enumerate()
                .flat_map(|(run, &n)| (0..n).map(move |first| window(run, first)))
                .collect();
            windows.sort_by_key(|window| (window.newest, window.place));
            let folds = folds(&windows, 4, length);
            let id = |w: &Window| (w.run, w.first);
            let held: Vec<_> = folds.iter().flat_map(|fold| fold.held_out.iter().map(id)).collect();
            prop_assert_eq!(held, windows.iter().map(id).collect::<Vec<_>>());
            for fold in &folds {
                let gap = fold.rest.len() + fold.held_out.len() < windows.len();
                for a in &fold.rest {
                    for b in &fold.held_out {
                        prop_assert!(id(a) != id(b));
                        prop_assert!(!gap || a.run != b.run || a.first.abs_diff(b.first) >= length);
                    }
                }
                prop_assert!(2 * (fold.rest.len() + fold.held_out.len()) >= windows.len());
            }
        }

        #[test]
        fn a_gap_is_no_wider_than_the_window(n in 200usize..400, length in 1usize..12) {
            let windows: Vec<Window> = (0..n).map(|first| window(0, first)).collect();
            for (i, fold) in folds(&windows, 4, length).iter().enumerate() {
                let sides = if i == 0 || i == 3 { 1 } else { 2 };
                prop_assert_eq!(fold.rest.len(), n - fold.held_out.len() - sides * (length - 1));
            }
        }
    }
}
