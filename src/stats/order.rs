//! Order statistics: quantile, median, median absolute deviation.

/// Scales a median absolute deviation to the standard deviation of a normal sample: 1 / Φ⁻¹(3/4).
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The `q`-quantile of `sorted` (ascending, no NaN), interpolated linearly: type 7 of Hyndman and Fan (1996).
/// NaN when `sorted` is empty.
#[must_use]
pub fn quantile_sorted(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// The median of `values`, which are sorted in place. NaN when empty.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile_sorted(values, 0.5)
}

/// Median, and median absolute deviation times [`MAD_TO_SIGMA`]. `values` are reordered.
#[must_use]
pub fn median_and_spread(values: &mut [f64]) -> (f64, f64) {
    let centre = median(values);
    for value in values.iter_mut() {
        *value = (*value - centre).abs();
    }
    (centre, MAD_TO_SIGMA * median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert!((quantile_sorted(&sorted, 0.5) - 2.5).abs() < 1e-12);
        assert!((quantile_sorted(&sorted, 0.0) - 1.0).abs() < 1e-12);
        assert!((quantile_sorted(&sorted, 1.0) - 4.0).abs() < 1e-12);
        assert!(quantile_sorted(&[], 0.5).is_nan());
    }

    #[test]
    fn spread_of_a_known_sample() {
        let (centre, spread) = median_and_spread(&mut [1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]);
        assert!((centre - 2.0).abs() < 1e-12);
        assert!((spread - MAD_TO_SIGMA).abs() < 1e-12);
    }
}
