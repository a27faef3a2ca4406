//! A mean of the last records that is kept as one number.

/// Records that it remembers: each weighs a twentieth of the mean when it comes, and 1/e of that when twenty more have come.
const RECORDS: u8 = 20;

/// An exponentially weighted mean (Roberts, "Control chart tests based on geometric moving averages", Technometrics 1, 1959); of the first records it is
/// their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// The mean.
    pub mean: f64,
    /// Records that came, as far as they are counted.
    pub records: u8,
}

impl Memory {
    /// Adds a record's value; gives the mean.
    pub fn add(&mut self, value: f64) -> f64 {
        self.records = (self.records + 1).min(RECORDS);
        self.mean += (value - self.mean) / f64::from(self.records);
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_the_mean_then_an_exponentially_weighted_one() {
        let mut memory = Memory::default();
        let means: Vec<f64> = [4.0, 0.0, 2.0].map(|value| memory.add(value)).to_vec();
        assert_eq!(means, [4.0, 2.0, 2.0]);
        for _ in 0..100 {
            memory.add(2.0);
        }
        assert!((memory.add(22.0) - 3.0).abs() < 1e-9);
        assert!((memory.add(2.0) - 2.95).abs() < 1e-9);
    }
}
