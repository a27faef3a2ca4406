//! Centre and spread of one column.

use ndarray::ArrayView1;

use crate::model::spec::Scaling;
use crate::stats::order::{m_scale, median};

/// Robust spreads from the median beyond which a value is wild, and has no say in the scale.
const WILD: f64 = 10.0;

/// The share of values up to which they may be wild. What a column takes more often is one of its ways, such as another regime.
const WILD_SHARE: f64 = 0.1;

/// Records from which on a column of two values is taken for a command or a state, not for a measurement.
const OBSERVED_MIN: usize = 20;

/// Centre and spread of one combination's values of a column, at least one; the spread may be 0.
pub fn own_scale(values: &mut [f64], scaling: Scaling) -> (f64, f64) {
    if constant(values) {
        return (values[0], 0.0);
    }
    if scaling == Scaling::Robust {
        return robust(values);
    }
    standard(values)
}

/// Mean and standard deviation of at least one value. About the first, because large numbers that hardly differ have an inexact mean.
fn standard(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let first = values[0];
    let mean = first + values.iter().map(|value| value - first).sum::<f64>() / n;
    let square = values.iter().map(|value| (value - mean) * (value - mean));
    (mean, (square.sum::<f64>() / n).sqrt())
}

/// Centre and spread of one column.
pub fn fit_column(column: ArrayView1<'_, f64>, scaling: Scaling) -> (f64, f64) {
    let mut observed: Vec<f64> = column
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    if observed.is_empty() || scaling == Scaling::None {
        return (0.0, 1.0);
    }
    let unchanging = constant(&observed);
    let (centre, spread) = match scaling {
        // A mean of equal numbers need not be that number.
        _ if unchanging => (observed[0], 0.0),
        Scaling::None => (0.0, 1.0),
        Scaling::Robust => robust(&mut observed),
        Scaling::Standard | Scaling::RankGauss => standard(&observed),
        Scaling::MinMax => {
            let least = observed.iter().copied().fold(f64::INFINITY, f64::min);
            let most = observed.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (least, most - least)
        }
    };
    let noise = 1e-9 * centre.abs();
    if spread.is_finite() && spread > noise.max(f64::MIN_POSITIVE) {
        return (centre, spread);
    }
    let one_percent = 0.01 * centre.abs();
    let normal = one_percent.is_normal();
    (centre, if normal { one_percent } else { 1.0 })
}

/// Whether a column takes two values and no more.
pub fn is_command(column: ArrayView1<'_, f64>) -> bool {
    let (mut states, mut observed) = (Vec::new(), 0);
    for value in column.iter().filter(|value| value.is_finite()) {
        observed += 1;
        let bits = (value + 0.0).to_bits();
        if !states.contains(&bits) {
            states.push(bits);
            if states.len() > 2 {
                return false;
            }
        }
    }
    states.len() == 2 && observed >= OBSERVED_MIN
}

/// Whether all values are the same.
#[expect(
    clippy::float_cmp,
    reason = "a constant column repeats the very same number"
)]
fn constant(values: &[f64]) -> bool {
    values.iter().all(|&value| value == values[0])
}

/// Mean and standard deviation of the values that are not wild: within [`WILD`] spreads of the median, by an estimate that a third of wild
/// values does not reach. So faults in the history do not set the scale, but every value that a column often takes does: a median absolute
/// deviation knows only the nearer half of them, and makes wild values of the rest where a column is nearly discrete. Where two thirds of
/// the values are equal nothing tells what is wild, and where more than a tenth would be wild they are no accidents, but another of the
/// column's ways: all of them set the scale.
fn robust(values: &mut [f64]) -> (f64, f64) {
    let middle = median(values);
    let mut off: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    off.sort_unstable_by(f64::total_cmp);
    let bound = WILD * m_scale(&off);
    let near = off.partition_point(|&deviation| deviation <= bound);
    let rare = (off.len() - near) as f64 <= WILD_SHARE * off.len() as f64;
    let tame = |value: &f64| !(bound > 0.0 && rare) || (value - middle).abs() <= bound;
    let mean_of = |of: &dyn Fn(f64) -> f64| {
        let (mut sum, mut count) = (0.0, 0.0_f64);
        for &value in values.iter().filter(|value| tame(value)) {
            sum += of(value);
            count += 1.0;
        }
        sum / count.max(1.0)
    };
    // About the median first, because large numbers that hardly differ have an inexact mean.
    let centre = middle + mean_of(&|value| value - middle);
    let square = mean_of(&|value| (value - centre) * (value - centre));
    (centre, square.sqrt())
}
