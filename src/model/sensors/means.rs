//! Means of windows, on which sensors judge what is small beside a single record's noise but lasts; and which records there are to judge.

use ndarray::{Array2, ArrayView2, Axis};

use crate::simd::{BLOCK, Loop, block, block_mut, blocks, wide};

/// The mean of each column over each window, `n × M` of `n × (W · M)`: NaN for a column of which nothing was observed, and for all where one was
/// observed in part. Means over fewer records are wilder, and what columns tell of each other is lost where they miss different ones.
pub fn means(rows: ArrayView2<'_, f32>, columns: usize) -> Array2<f32> {
    let mut means = Array2::zeros((rows.nrows(), columns));
    for (window, mut means) in rows.rows().into_iter().zip(means.rows_mut()) {
        let records = window.len() / columns;
        if let (Some(window), Some(means)) = (window.as_slice(), means.as_slice_mut())
            && wide(MeansOfWhole { window, means })
        {
            continue;
        }
        let mut in_part = false;
        for (column, mean) in means.iter_mut().enumerate() {
            let (mut sum, mut count) = (0.0, 0);
            for &value in window.iter().skip(column).step_by(columns) {
                if !value.is_nan() {
                    sum += value;
                    count += 1;
                }
            }
            in_part |= count > 0 && count < records;
            *mean = if count == records {
                sum / records as f32
            } else {
                f32::NAN
            };
        }
        if in_part {
            means.fill(f32::NAN);
        }
    }
    means
}

/// The mean of each column of a window that was observed as a whole: record by record, all columns side by side, to the same bits as column by
/// column. Says whether it was.
struct MeansOfWhole<'a> {
    window: &'a [f32],
    means: &'a mut [f32],
}

impl Loop for MeansOfWhole<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { window, means } = self;
        let columns = means.len();
        let number = (window.len() / columns) as f32;
        let mut gaps = 0;
        if columns < BLOCK {
            for (column, mean) in means.iter_mut().enumerate() {
                let values = window.iter().skip(column).step_by(columns);
                *mean = values.fold(0.0, |sum, value| sum + value) / number;
                gaps += u32::from(mean.is_nan());
            }
            return gaps == 0;
        }
        for from in blocks(columns) {
            let mut sums = [0.0_f32; BLOCK];
            for record in window.chunks_exact(columns) {
                for (sum, value) in sums.iter_mut().zip(block(record, from)) {
                    *sum += value;
                }
            }
            let mean = sums.map(|sum| sum / number);
            gaps += mean
                .iter()
                .fold(0, |gaps, mean| gaps + u32::from(mean.is_nan()));
            *block_mut(means, from) = mean;
        }
        gaps == 0
    }
}

/// How many records have all columns.
pub fn whole(records: ArrayView2<'_, f32>) -> usize {
    let rows = records.rows().into_iter();
    rows.filter(|row| row.iter().all(|value| !value.is_nan()))
        .count()
}

/// The newest records of windows, `n × (W · M)`.
pub fn newest(rows: ArrayView2<'_, f32>, columns: usize) -> ArrayView2<'_, f32> {
    let from = rows.ncols() - columns;
    rows.split_at(Axis(1), from).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::correlated;
    use crate::seed::Seed;

    #[test]
    fn means_have_the_same_bits_however_windows_lie_in_memory() {
        let rows = correlated(50, 12, Seed(4));
        let apart = rows.t().as_standard_layout().into_owned();
        assert_eq!(means(rows.view(), 4), means(apart.t(), 4));
    }

    #[test]
    fn means_are_of_columns_that_were_observed_as_a_whole() {
        let nan = f32::NAN;
        let rows = ndarray::array![
            [1.0, 10.0, 3.0, 30.0],
            [1.0, nan, 3.0, nan],
            [1.0, nan, 3.0, 30.0]
        ];
        let means = super::means(rows.view(), 2);
        assert_eq!(means.row(0).to_vec(), [2.0, 20.0]);
        assert!((means[[1, 0]] - 2.0).abs() < 1e-6 && means[[1, 1]].is_nan());
        assert!(means.row(2).iter().all(|mean| mean.is_nan()));
        assert_eq!(whole(means.view()), 1);
    }
}
