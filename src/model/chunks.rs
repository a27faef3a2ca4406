//! Rows in pieces that fit the cache. A row's result does not depend on the piece it is in, so neither do the bits.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Rows of a piece: 256 rows of 100 inputs and a hidden layer are some 200 KiB.
pub const CHUNK: usize = 256;

/// One number a row.
pub fn by_chunks(
    rows: ArrayView2<'_, f32>,
    each: impl Fn(ArrayView2<'_, f32>) -> Array1<f32>,
) -> Array1<f32> {
    let mut out = Array1::zeros(rows.nrows());
    let places = out.axis_chunks_iter_mut(Axis(0), CHUNK);
    for (mut place, chunk) in places.zip(rows.axis_chunks_iter(Axis(0), CHUNK)) {
        place.assign(&each(chunk));
    }
    out
}

/// One row a row.
pub fn by_chunks2(
    rows: ArrayView2<'_, f32>,
    each: impl Fn(ArrayView2<'_, f32>) -> Array2<f32>,
) -> Array2<f32> {
    let pieces: Vec<Array2<f32>> = rows.axis_chunks_iter(Axis(0), CHUNK).map(each).collect();
    let Some(first) = pieces.first() else {
        return Array2::zeros((0, rows.ncols()));
    };
    let mut out = Array2::zeros((rows.nrows(), first.ncols()));
    for (mut place, piece) in out.axis_chunks_iter_mut(Axis(0), CHUNK).zip(&pieces) {
        place.assign(piece);
    }
    out
}
