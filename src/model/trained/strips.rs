//! Windows as they lie in the rows that they share.

use ndarray::{Array2, ArrayView2, CowArray, Ix2, ShapeBuilder};

use super::{Judged, RawScores, TrainedModel, has_gaps};
use crate::model::chunks::CHUNK;
use crate::seed::Seed;

/// Rows of strips up to which, for each of their windows, all places where a window may lie are scored, those among them where none does.
const SPARE: f64 = 1.25;

/// Windows that share rows: raw values of D columns, one row after another in strips, and a window is W rows of a strip in a row.
#[derive(Clone, Copy, Debug)]
pub struct Strips<'a> {
    /// Each a multiple of D numbers, NaN where a feature was not observed.
    pub strips: &'a [&'a [f64]],
    /// Where each window lies.
    pub windows: &'a [WindowAt],
}

/// Where a window lies among [`Strips`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAt {
    /// In which strip.
    pub strip: usize,
    /// The row after its newest.
    pub end: usize,
}

/// The scaled rows of all strips, one strip after another.
struct Scaled {
    /// `rows × M`.
    rows: Array2<f32>,
    /// The first row of each strip.
    begins: Vec<usize>,
}

impl Scaled {
    /// The row in which a window begins.
    fn first(&self, at: WindowAt, window: usize) -> usize {
        self.begins[at.strip] + at.end - window
    }
}

impl TrainedModel {
    /// Judges n windows that share rows; bit for bit what [`Self::judge`] says of each, but every row is scaled once, not W times.
    ///
    /// # Panics
    /// If there is not one seed a window, or a window does not lie in its strip.
    pub fn judge_strips(&self, Strips { strips, windows }: Strips<'_>, seeds: &[Seed]) -> Judged {
        assert_eq!(windows.len(), seeds.len(), "one seed a window");
        let width = self.width();
        if !self.types.is_empty() && !windows.is_empty() {
            let rows = windows_of(strips, windows, (width, self.card.columns.len()));
            return self.judge_by_type(rows.view(), seeds);
        }
        if width == self.card.columns.len() || !self.scaler.changes.is_empty() {
            // What changed is of a window: rows cannot be scaled by themselves.
            let mut raw = RawScores::default();
            let pieces = windows.chunks(CHUNK).zip(seeds.chunks(CHUNK));
            for (windows, seeds) in pieces {
                let columns = self.card.columns.len();
                let rows = windows_of(strips, windows, (width, columns));
                let rows = self.scaler.transform(rows.view());
                self.add_scores(rows, seeds, true, &mut raw);
            }
            return self.judged(raw);
        }
        let scaled = self.scaled(strips);
        let dense = scaled.rows.nrows() as f64 <= SPARE * windows.len() as f64;
        let raw = if dense && !has_gaps(&scaled.rows) {
            self.scores_in_place(&scaled, windows, seeds)
        } else {
            self.scores_of_copies(&scaled, windows, seeds)
        };
        self.judged(raw)
    }

    fn scaled(&self, strips: &[&[f64]]) -> Scaled {
        let (columns, measured) = (self.card.columns.len(), self.scaler.measured().len());
        let mut begins = Vec::with_capacity(strips.len());
        let numbers: usize = strips.iter().map(|strip| strip.len()).sum();
        let mut rows = Vec::with_capacity(numbers / columns * measured);
        for strip in strips {
            begins.push(rows.len() / measured);
            let strip = ArrayView2::from_shape((strip.len() / columns, columns), strip);
            let strip = strip.unwrap_or_else(|_| unreachable!("strips are rows"));
            rows.extend(self.scaler.transform(strip));
        }
        let rows = Array2::from_shape_vec((rows.len() / measured, measured), rows);
        Scaled {
            rows: rows.unwrap_or_else(|_| unreachable!("strips are rows")),
            begins,
        }
    }

    /// Scores of windows, each copied out of its strip.
    fn scores_of_copies(&self, scaled: &Scaled, windows: &[WindowAt], seeds: &[Seed]) -> RawScores {
        let mut raw = RawScores::default();
        let (window, inputs) = (self.card.spec.window, self.inputs());
        for (windows, seeds) in windows.chunks(CHUNK).zip(seeds.chunks(CHUNK)) {
            let mut copies = Vec::with_capacity(windows.len() * inputs);
            for at in windows {
                let first = scaled.first(*at, window);
                copies.extend_from_slice(records(&scaled.rows, first, window));
            }
            let copies = Array2::from_shape_vec((windows.len(), inputs), copies)
                .unwrap_or_else(|_| unreachable!("windows are W · M inputs"));
            self.add_scores(copies, seeds, true, &mut raw);
        }
        raw
    }

    /// Scores of windows without gaps where they lie: a view in which each row begins one record after the one before. Where strips meet there are
    /// windows that nobody asked for, which are scored and passed over.
    fn scores_in_place(&self, scaled: &Scaled, windows: &[WindowAt], seeds: &[Seed]) -> RawScores {
        let window = self.card.spec.window;
        let places = scaled.rows.nrows() + 1 - window;
        let mut by_place = vec![Seed(0); places];
        for (at, seed) in windows.iter().zip(seeds) {
            by_place[scaled.first(*at, window)] = *seed;
        }
        let mut cut = scaled.rows.clone();
        self.cut_off(&mut cut);
        let mut all = RawScores::default();
        for (piece, seeds) in by_place.chunks(CHUNK).enumerate() {
            let first = piece * CHUNK;
            let view = |rows| overlapping(rows, first, (seeds.len(), window));
            all.beside
                .extend(self.judges.judge(view(&scaled.rows), false));
            all.add(&self.model, view(&cut), seeds);
        }
        all.picked(windows.iter().map(|at| scaled.first(*at, window)))
    }
}

/// So many records, one after another.
fn records(rows: &Array2<f32>, first: usize, count: usize) -> &[f32] {
    let columns = rows.ncols();
    let values = rows.as_slice();
    let values = values.unwrap_or_else(|| unreachable!("strips were laid out row by row"));
    &values[first * columns..(first + count) * columns]
}

/// So many windows of so many records, each of which begins one record after the one before.
fn overlapping(
    rows: &Array2<f32>,
    first: usize,
    (count, window): (usize, usize),
) -> ArrayView2<'_, f32> {
    let columns = rows.ncols();
    let shape = (count, window * columns).strides((columns, 1));
    ArrayView2::from_shape(shape, records(rows, first, count + window - 1))
        .unwrap_or_else(|error| unreachable!("windows lie within: {error}"))
}

/// Windows of so many numbers, one after another: where they are single records as they lie, or else copied.
fn windows_of<'a>(
    strips: &[&'a [f64]],
    windows: &[WindowAt],
    (width, columns): (usize, usize),
) -> CowArray<'a, f64, Ix2> {
    let shape = (windows.len(), width);
    let first = windows[0];
    let together = (first.end..)
        .zip(windows)
        .all(|(end, at)| at.strip == first.strip && at.end == end);
    if together && width == columns {
        let from = (first.end - 1) * width;
        let rows = &strips[first.strip][from..from + windows.len() * width];
        return ArrayView2::from_shape(shape, rows)
            .unwrap_or_else(|_| unreachable!("as many rows as windows"))
            .into();
    }
    let row = |at: &WindowAt| &strips[at.strip][at.end * columns - width..at.end * columns];
    let rows: Vec<f64> = windows.iter().flat_map(row).copied().collect();
    Array2::from_shape_vec(shape, rows)
        .unwrap_or_else(|_| unreachable!("as many rows as windows"))
        .into()
}
