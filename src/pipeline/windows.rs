//! The windows of a batch, laid out so that neighbours share their rows: a key's rows lie one after another in a strip, and a window is W of
//! them in a row. A batch of n records then costs n rows of memory, not n · W.
//!
//! Where windows are one record long and nothing is filled in, not even that: a window is the decoded row itself.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::Column;
use super::state::KeyState;
use crate::detect::{Params, windowing};
use crate::model::levels::Levels;
use crate::model::trained::{Judged, Strips, TrainedModel, WindowAt};
use crate::record::{DecodedBatch, Key, Missing};
use crate::seed::Seed;

/// How the records of a batch become windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub params: &'a Params,
    pub columns: &'a [Column],
    /// Some column takes a key's last value where it was not observed.
    pub fill_last: bool,
}

/// The windows that one model judges.
#[derive(Debug)]
pub(super) struct Group {
    /// What judges; `None`: the cold start, which looks at each key's own past.
    pub model: Option<Arc<TrainedModel>>,
    /// W: records a window.
    window: usize,
    /// Rows of a key that are remembered from batch to batch.
    keep: usize,
    /// D: numbers a row.
    columns: usize,
    /// Windows are decoded rows: one strip, the batch, and nothing is remembered.
    in_place: bool,
    strips: Vec<Strip>,
    windows: Vec<WindowAt>,
    seeds: Vec<Seed>,
}

/// The rows of one key: as many as a window before its first record of this batch needs, then the batch's.
#[derive(Debug)]
struct Strip {
    key: Key,
    values: Vec<f64>,
    /// Its first row that is neither padding nor from before a silence; `None`: the next.
    first: Option<usize>,
}

impl Group {
    pub fn new(model: Option<Arc<TrainedModel>>, rules: Rules<'_>) -> Self {
        let window = model
            .as_ref()
            .map_or(1, |model| model.card.spec.window.max(1));
        let keep = window.max(rules.params.window);
        let levelled = model.as_ref().is_some_and(|model| !model.levels.is_empty());
        Self {
            model,
            window,
            keep,
            columns: rules.columns.len(),
            in_place: keep == 1 && !rules.fill_last && !levelled,
            strips: Vec::new(),
            windows: Vec::new(),
            seeds: Vec::new(),
        }
    }

    /// Adds the window of a key that ends with `row`, record `record` of the batch. `strip` is the key's strip, made here for its first.
    /// Answers the window's number, and whether it is still filling: then it is padded with its oldest row.
    pub fn add(
        &mut self,
        (key, strip, state): (&Key, &mut Option<usize>, &mut KeyState),
        (record, row): (usize, &[f64]),
        seed: Seed,
        rules: Rules<'_>,
    ) -> (usize, bool) {
        let number = self.windows.len();
        self.seeds.push(seed);
        if self.in_place {
            self.windows.push(WindowAt {
                strip: 0,
                end: record + 1,
            });
            return (number, false);
        }
        let at = *strip.get_or_insert_with(|| {
            self.strips
                .push(Strip::begin(key, &state.rows, (self.window, self.columns)));
            self.strips.len() - 1
        });
        let strip = &mut self.strips[at];
        let begin = strip.values.len();
        strip.values.extend_from_slice(row);
        if rules.fill_last {
            fill_last(state, &mut strip.values[begin..], rules.columns);
        }
        let end = strip.end(begin, self.window, self.columns);
        self.windows.push(WindowAt { strip: at, end });
        let filling = strip.first.is_none_or(|first| end - first < self.window);
        (number, filling)
    }

    /// From here on no window of the key reaches back: its records before and after a silence are no neighbours.
    pub fn cut(&mut self, strip: Option<usize>) {
        if let Some(at) = strip {
            self.strips[at].first = None;
        }
    }

    /// Brings up to date what is remembered of a key's rows.
    pub fn remember(&self, strip: Option<usize>, rows: &mut VecDeque<f64>) {
        let Some(strip) = strip.map(|at| &self.strips[at]).filter(|_| self.keep > 1) else {
            return;
        };
        rows.clear();
        if let Some(first) = strip.first {
            let have = strip.values.len() / self.columns;
            let from = first.max(have.saturating_sub(self.keep));
            rows.extend(&strip.values[from * self.columns..]);
        }
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Window `number`: W · D numbers.
    pub fn window<'a>(&'a self, number: usize, decoded: &'a DecodedBatch) -> &'a [f64] {
        let WindowAt { strip, end } = self.windows[number];
        let values = if self.in_place {
            &decoded.values
        } else {
            &self.strips[strip].values
        };
        &values[(end - self.window) * self.columns..end * self.columns]
    }

    /// The model's codes of all windows, for kinds that have one.
    pub fn codes(&self, decoded: &DecodedBatch) -> Option<Array2<f32>> {
        let model = self.model.as_ref().filter(|_| self.len() > 0)?;
        let strips = self.strips(&model.levels, decoded);
        let rows = |at: &WindowAt| {
            let rows = (at.end - self.window) * self.columns..at.end * self.columns;
            &strips[at.strip][rows]
        };
        let numbers: Vec<f64> = self.windows.iter().flat_map(rows).copied().collect();
        let width = self.window * self.columns;
        let windows = ArrayView2::from_shape((self.len(), width), &numbers);
        model.codes(windows.unwrap_or_else(|error| unreachable!("n windows: {error}")))
    }

    /// The rows that windows lie in, by what is usual for their keys.
    fn strips<'a>(&'a self, levels: &Levels, decoded: &'a DecodedBatch) -> Vec<Cow<'a, [f64]>> {
        if self.in_place {
            return vec![Cow::Borrowed(&decoded.values)];
        }
        let strips = self.strips.iter();
        strips.map(|strip| strip.by_level(levels)).collect()
    }

    /// Scores all windows by the model, at once; nothing for the cold start.
    pub fn judge(&self, decoded: &DecodedBatch) -> Judged {
        let Some(model) = self.model.as_ref().filter(|_| self.len() > 0) else {
            return Judged::default();
        };
        let strips = self.strips(&model.levels, decoded);
        let strips: Vec<&[f64]> = strips.iter().map(|strip| &**strip).collect();
        let strips = Strips {
            strips: &strips,
            windows: &self.windows,
        };
        let judged = model.judge_strips(strips, &self.seeds);
        assert_eq!(judged.score.len(), self.len(), "one score a window");
        assert_eq!(judged.p_value.len(), self.len(), "one p-value a window");
        judged
    }
}

impl Strip {
    /// What is remembered of a key, padded with its oldest row where a window wants more.
    fn begin(key: &Key, rows: &VecDeque<f64>, (window, columns): (usize, usize)) -> Self {
        let key = key.clone();
        let have = rows.len() / columns.max(1);
        if have == 0 {
            return Self {
                key,
                values: Vec::new(),
                first: None,
            };
        }
        let padding = (window - 1).saturating_sub(have);
        let mut values = Vec::with_capacity((padding + have + 1) * columns);
        for _ in 0..padding {
            values.extend(rows.range(..columns));
        }
        values.extend(rows);
        Self {
            key,
            values,
            first: Some(padding),
        }
    }

    /// Its rows by what is usual for the key.
    fn by_level(&self, levels: &Levels) -> Cow<'_, [f64]> {
        let mut values = Cow::Borrowed(&*self.values);
        if !levels.is_empty() {
            levels.apply(&self.key.0, values.to_mut());
        }
        values
    }

    /// The row after the newest, whose numbers begin at `begin`. The first row after a beginning or a cut is padded with itself.
    fn end(&mut self, begin: usize, window: usize, columns: usize) -> usize {
        if self.first.is_none() {
            for _ in 1..window {
                self.values.extend_from_within(begin..begin + columns);
            }
            self.first = Some(begin / columns + window - 1);
        }
        self.values.len() / columns
    }
}

/// Fills what was not observed with the key's last value, in the columns that ask for it, and remembers what was.
fn fill_last(state: &mut KeyState, row: &mut [f64], columns: &[Column]) {
    state.last_values.resize(columns.len(), f64::NAN);
    let last = |index: &usize| columns[*index].missing == Missing::Last;
    let filled = (0..columns.len()).filter(last);
    windowing::fill_last(filled, &mut state.last_values, row);
}
