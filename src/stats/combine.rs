//! P-values of the same record as one.

use std::f64::consts::PI;

use super::calibration::P_MIN;

/// The largest p-value that speaks against another: that something is perfectly ordinary does not outweigh that another thing is not.
const ORDINARY: f64 = 0.99;

/// Two p-values as one, by Cauchy's rule (Liu and Xie, "Cauchy Combination Test", JASA 115, 2020), which holds however they depend on each other where they
/// are small. `say` is the weight of the second, in [0, 1].
#[must_use]
pub fn cauchy(one: f64, other: f64, say: f64) -> f64 {
    let tail = |p: f64| {
        // tan(π / 2 − π p), which is 1 / (π p) where p is small.
        if p < 1e-6 {
            1.0 / (PI * p)
        } else {
            ((0.5 - p.min(ORDINARY)) * PI).tan()
        }
    };
    let sum = (1.0 - say) * tail(one) + say * tail(other);
    let p = if sum > 1e6 {
        1.0 / (PI * sum)
    } else {
        0.5 - sum.atan() / PI
    };
    p.clamp(P_MIN, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rare_counts_as_much_as_its_say() {
        assert!((cauchy(0.3, 0.3, 0.5) - 0.3).abs() < 1e-12);
        assert!((cauchy(1e-9, 0.5, 0.25) * 0.75 / 1e-9 - 1.0).abs() < 1e-3);
        assert!((cauchy(0.5, 1e-9, 0.25) * 0.25 / 1e-9 - 1.0).abs() < 1e-3);
        assert!((cauchy(1.0, 1e-200, 0.25) * 0.25 / 1e-200 - 1.0).abs() < 1e-3);
        assert!((cauchy(P_MIN, P_MIN, 0.5) / P_MIN - 1.0).abs() < 1e-6);
    }
}
