//! Windows as they lie in the rows that they share.

use ndarray::{Array2, ArrayView2, CowArray, Ix2};

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

/// Windows of one row, one after another: as they lie, or else copied.
pub fn rows_of<'a>(
    strips: &[&'a [f64]],
    windows: &[WindowAt],
    width: usize,
) -> CowArray<'a, f64, Ix2> {
    let shape = (windows.len(), width);
    let first = windows[0];
    let together = (first.end..)
        .zip(windows)
        .all(|(end, at)| at.strip == first.strip && at.end == end);
    if together {
        let from = (first.end - 1) * width;
        let rows = &strips[first.strip][from..from + windows.len() * width];
        return ArrayView2::from_shape(shape, rows)
            .unwrap_or_else(|_| unreachable!("as many rows as windows"))
            .into();
    }
    let row = |at: &WindowAt| &strips[at.strip][(at.end - 1) * width..at.end * width];
    let rows: Vec<f64> = windows.iter().flat_map(row).copied().collect();
    Array2::from_shape_vec(shape, rows)
        .unwrap_or_else(|_| unreachable!("as many rows as windows"))
        .into()
}
