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

/// Deviations beyond this many spreads count as this many, in [`m_scale`].
const BEND: f64 = 1.5;

/// The mean of min(z², [`BEND`]²) of standard normal z, which makes [`m_scale`] their standard deviation.
const BENT_SQUARE: f64 = 0.778_465_216_174_47;

/// Huber's M-estimate of scale: the s for which the mean of min((d / s)², 1.5²) over the deviations d is what it is for a normal sample
/// (Huber, "Robust Statistics", 1981, 5.2). A third of the deviations may be infinite; 0 if two thirds are 0, not only half as with a
/// median. `sorted` is ascending and not negative; NaN when empty.
#[must_use]
pub fn m_scale(sorted: &[f64]) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let n = sorted.len();
    let mut squares = 0.0;
    for (at, &deviation) in sorted.iter().enumerate() {
        squares += deviation * deviation;
        let bent = (n - at - 1) as f64 * BEND * BEND;
        let scale = (squares / (n as f64 * BENT_SQUARE - bent)).sqrt();
        // Not a number while too many would be bent.
        let inside = deviation <= BEND * scale;
        let next = sorted.get(at + 1).copied().unwrap_or(f64::INFINITY);
        if scale > 0.0 && inside && next > BEND * scale {
            return scale;
        }
    }
    0.0
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

    #[test]
    fn m_scale_by_hand() {
        // All within 1.5 spreads: the root of the mean square over that of the bent normal.
        let scale = m_scale(&[1.0, 1.0, 1.0, 1.0]);
        assert!((scale - (1.0 / BENT_SQUARE).sqrt()).abs() < 1e-12);
        // The last is bent, however far: 3 / s² + 2.25 = 4 δ.
        for far in [1e3, 1e9] {
            let scale = m_scale(&[1.0, 1.0, 1.0, far]);
            let wanted = (3.0 / (4.0 * BENT_SQUARE - 2.25)).sqrt();
            assert!((scale - wanted).abs() < 1e-9, "{scale}, not {wanted}");
        }
        assert!(m_scale(&[0.0, 0.0, 0.0, 0.0, 1.0]).abs() < 1e-12);
        assert!(m_scale(&[]).is_nan());
    }
}
