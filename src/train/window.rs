//! From rows to windows: runs of neighbours of one key, without what is kept out.

use std::collections::BTreeMap;

use ndarray::Array2;
use rand::Rng;

use super::job::{TrainError, TrainJob};
use super::kept_out::KeptOut;
use super::rows::PartitionRows;
use super::split::{Split, VALIDATION_SHARE, Window, neighbours, only};
use super::types::OfType;
use crate::detect::pace::Sequence;
use crate::detect::windowing::{self, LateRecords};
use crate::model::card::{Exclusion, Stretch, Suspect, Usage};
use crate::model::levels::Levels;
use crate::model::scale::changes::Changes;
use crate::model::spec::ModelSpec;
use crate::record::Key;
use crate::stream::{Offset, TopicPartition};

/// Windows below which nothing can be learnt and calibrated.
pub(super) const WINDOWS_MIN: usize = 30;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

/// The windows of a job, oldest first.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    job: &'a TrainJob,
    /// What was read, a part a partition.
    parts: &'a [PartitionRows],
    /// Records of one key that follow each other, as values `len × D` with `last` filled in.
    runs: Vec<Vec<f64>>,
    windows: Vec<Window>,
    /// Those that would be fitted on if they were not too many; empty where they are not.
    thinned: Vec<Window>,
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
    /// Types of keys; see [`Self::level`].
    types: Vec<OfType>,
    /// Records of a window.
    length: usize,
}

impl<'a> Windows<'a> {
    /// All windows of full length that have no record that is kept out.
    pub fn build(job: &'a TrainJob, exclusions: &[Exclusion], suspects: &[Suspect]) -> Self {
        Self::of_length(job, job.spec.window, (exclusions, suspects))
    }

    /// The same, whatever the length of the windows that are to be scored.
    pub fn of_length(job: &'a TrainJob, length: usize, out: (&[Exclusion], &[Suspect])) -> Self {
        let mut built = Self::of_rows(job, (&job.rows, job.params.guard), length, out);
        built.thin();
        built
    }

    /// The few records that were read of every key, each by itself, without a guard: they lie far apart.
    pub fn of_level_rows(job: &'a TrainJob, out: (&[Exclusion], &[Suspect])) -> Self {
        Self::of_rows(job, (&job.level_rows, 0), 1, out)
    }

    /// All windows of the rows, with so many records of the key kept out around an episode.
    fn of_rows(
        job: &'a TrainJob,
        (parts, guard): (&'a [PartitionRows], u64),
        length: usize,
        out: (&[Exclusion], &[Suspect]),
    ) -> Self {
        let mut built = Self {
            job,
            parts,
            runs: Vec::new(),
            windows: Vec::new(),
            thinned: Vec::new(),
            flagged: Vec::new(),
            rows: parts.iter().map(PartitionRows::len).sum(),
            excluded: 0,
            late: 0,
            keys: parts.iter().map(|rows| rows.keys().len()).sum(),
            records_per_key_day: 0.0,
            levels: Levels::default(),
            types: Vec::new(),
            length,
        };
        let mut gaps = Vec::new();
        for (part, rows) in parts.iter().enumerate() {
            let out = KeptOut::of(job, (rows, guard), out);
            built.add_part(part, rows, (&out, &mut gaps));
        }
        built
            .windows
            .sort_by_key(|window| (window.newest, window.place));
        gaps.sort_unstable_by(f64::total_cmp);
        let gap = crate::stats::order::quantile_sorted(&gaps, 0.5);
        built.records_per_key_day = if gap > 0.0 { DAY_MS / gap } else { 86_400.0 };
        built
    }

    /// The windows of a type of keys: with its columns only, by what is usual for each key, for a job of these columns.
    pub fn of_type<'b>(&'b self, job: &'b TrainJob, of: &OfType) -> Windows<'b> {
        let columns = self.job.columns.len();
        let mut runs = vec![Vec::new(); self.runs.len()];
        let windows = only(&self.windows, &|window| of.has(window));
        let flagged = only(&self.flagged, &|window| of.has(window));
        for window in windows.iter().chain(&flagged) {
            let run = &mut runs[window.run];
            if run.is_empty() {
                let mut values = self.runs[window.run].clone();
                self.levels.apply(&self.place(window).1.0, &mut values);
                let rows = values.chunks_exact(columns);
                run.extend(rows.flat_map(|row| of.columns.iter().map(|&column| row[column])));
            }
        }
        Windows {
            job,
            parts: self.parts,
            runs,
            windows,
            thinned: Vec::new(),
            flagged,
            keys: of.keys.len(),
            levels: Levels::default(),
            types: Vec::new(),
            ..*self
        }
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
        // Of keys that take turns, every so-manyth window may be of the same few: one of as many as lie in a step.
        let mut rng = self.job.seed.child("thin").rng();
        let mut within = || {
            if self.keys > 1 {
                rng.gen_range(0.0..1.0)
            } else {
                0.0
            }
        };
        let chosen = (0..early.min(self.windows.len()))
            .map(|i| self.windows[((i as f64 + within()) * step.max(1.0)) as usize])
            .collect();
        self.thinned = std::mem::replace(&mut self.windows, chosen);
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
        for records in &rows.of_keys() {
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

    /// Those that would be fitted on if they were not too many, oldest first; none where they are not.
    pub fn thinned(&self) -> &[Window] {
        &self.thinned
    }

    /// All of them, oldest first.
    pub fn all(&self) -> &[Window] {
        &self.windows
    }

    /// Where a window's newest record lies: its partition, key and offset.
    pub fn place(&self, window: &Window) -> (&'a TopicPartition, &'a Key, Offset) {
        let (part, offset) = window.place;
        let rows = &self.parts[part];
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

    /// Cuts by time: fitted first, gated last.
    pub fn split(&self, usage: &Usage, spec: &ModelSpec) -> Split {
        Split::of(&self.windows, usage, spec)
    }

    /// The key of each of the windows.
    pub fn keys(&self, windows: &[Window]) -> Vec<String> {
        let key = |window: &Window| self.place(window).1.0.as_ref().to_owned();
        windows.iter().map(key).collect()
    }

    /// Says what is usual for each key, and which types of keys there are.
    pub fn level(&mut self, (levels, types): (Levels, Vec<OfType>)) {
        (self.levels, self.types) = (levels, types);
    }

    /// Types of keys that have a model of their own.
    pub fn types(&self) -> &[OfType] {
        &self.types
    }

    /// Which of these windows are of each key, in their order.
    pub fn by_key(&self, windows: &[Window]) -> BTreeMap<&'a str, Vec<usize>> {
        let mut of_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, window) in windows.iter().enumerate() {
            of_key.entry(&self.place(window).1.0).or_default().push(row);
        }
        of_key
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

    /// The columns that are judged by their changes, by the newest records of these windows and the steps to them.
    pub fn changes(&self, windows: &[Window]) -> Changes {
        let columns = self.job.columns.len();
        let mut values = Vec::with_capacity(2 * windows.len() * columns);
        let mut runs = Vec::with_capacity(windows.len());
        for window in windows {
            let newest = window.first + self.length - 1;
            if let Some(before) = newest.checked_sub(1) {
                values.extend_from_slice(
                    &self.runs[window.run][before * columns..(newest + 1) * columns],
                );
                runs.push(window.run);
            }
        }
        let steps = Array2::from_shape_vec((runs.len(), 2 * columns), values)
            .unwrap_or_else(|error| unreachable!("steps are of two records: {error}"));
        let context = self.job.context_columns();
        let judged = |column| !context.has(column);
        let (newest, of_key) = (self.recent(windows, 1), self.by_key(windows));
        let counters = Changes::find(steps.view(), &runs, judged);
        let counters = counters.with_seldom(newest.view(), &of_key, judged);
        if self.length == 1 {
            // Single records do not say how they changed.
            return counters;
        }
        counters.with_trends(newest.view(), &of_key, judged)
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
