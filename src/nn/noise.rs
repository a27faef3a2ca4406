//! Seeded noise: normal fills, random signs, masks.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Zip};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Fills `out` with normal noise of standard deviation `sigma`.
pub fn fill_normal(mut out: ArrayViewMut2<'_, f32>, sigma: f32, rng: &mut ChaCha8Rng) {
    out.map_inplace(|value| {
        let normal: f32 = StandardNormal.sample(rng);
        *value = sigma * normal;
    });
}

/// out = x + normal noise of standard deviation `sigma`.
pub fn add_normal(
    x: ArrayView2<'_, f32>,
    sigma: f32,
    mut out: ArrayViewMut2<'_, f32>,
    rng: &mut ChaCha8Rng,
) {
    Zip::from(&mut out).and(x).for_each(|out, &x| {
        let normal: f32 = StandardNormal.sample(rng);
        *out = x + sigma * normal;
    });
}

/// out = x, but 0 with probability `share`, each element on its own.
pub fn mask(
    x: ArrayView2<'_, f32>,
    share: f32,
    mut out: ArrayViewMut2<'_, f32>,
    rng: &mut ChaCha8Rng,
) {
    Zip::from(&mut out).and(x).for_each(|out, &x| {
        *out = if rng.r#gen::<f32>() < share { 0.0 } else { x };
    });
}

/// Fills `out` with 1 / (1 − rate), but 0 with probability `rate`: what inverted dropout multiplies by (Srivastava et al., JMLR 2014).
pub fn fill_dropout(out: &mut Array2<f32>, rate: f32, rng: &mut ChaCha8Rng) {
    let kept = 1.0 / (1.0 - rate);
    out.map_inplace(|value| {
        *value = if rng.r#gen::<f32>() < rate { 0.0 } else { kept };
    });
}

/// Fills `out` with +1 and −1, equally likely: Hutchinson's probes.
pub fn fill_signs(mut out: ArrayViewMut2<'_, f32>, rng: &mut ChaCha8Rng) {
    let mut bits = 0_u64;
    let mut left = 0_u32;
    out.map_inplace(|value| {
        if left == 0 {
            bits = rng.next_u64();
            left = 64;
        }
        *value = if bits & 1 == 0 { -1.0 } else { 1.0 };
        bits >>= 1;
        left -= 1;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn noise_has_the_moments_it_names() {
        let rng = &mut Seed(3).rng();
        let mut out = Array2::zeros((100, 100));
        fill_normal(out.view_mut(), 2.0, rng);
        let mean = out.mean().unwrap();
        let variance = out.mapv(|x| x * x).mean().unwrap();
        assert!(
            mean.abs() < 0.1 && (variance - 4.0).abs() < 0.25,
            "{mean} {variance}"
        );
        fill_dropout(&mut out, 0.25, rng);
        assert!((out.mean().unwrap() - 1.0).abs() < 0.03);
        fill_signs(out.view_mut(), rng);
        assert!(out.mean().unwrap().abs() < 0.05);
        assert!(out.iter().all(|x| (x.abs() - 1.0).abs() < 1e-9));
        let ones = Array2::ones((100, 100));
        mask(ones.view(), 0.3, out.view_mut(), rng);
        assert!((out.mean().unwrap() - 0.7).abs() < 0.03);
        add_normal(ones.view(), 0.0, out.view_mut(), rng);
        assert_eq!(out, ones);
    }
}
