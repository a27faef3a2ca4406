//! Noise for tests that needs no crate: the same everywhere, in the library's tests and in those beside it.

/// Numbers from -0.5 to 0.5, by a linear congruential generator (Knuth's MMIX).
pub fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    }
}
