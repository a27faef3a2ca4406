//! Where a function of one number crosses a level: by bisection (Burden and Faires, "Numerical Analysis", section 2.1).

/// Halves the interval from `low` to `high` so many times, and answers the two ends that are left of it: `below` held at all that the lower one passed, and not at what
/// the upper one did. It must hold up to some number, and not beyond.
#[must_use]
pub fn crossing(
    (mut low, mut high): (f64, f64),
    halvings: usize,
    below: impl Fn(f64) -> bool,
) -> (f64, f64) {
    for _ in 0..halvings {
        let middle = 0.5 * (low + high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_two_lies_between_the_ends() {
        let (low, high) = crossing((0.0, 2.0), 50, |x| x * x < 2.0);
        assert!(low <= 2.0_f64.sqrt() && 2.0_f64.sqrt() <= high);
        assert!(high - low < 1e-14);
        // By hand: 1 is below, 1.5 is not.
        assert_eq!(crossing((0.0, 2.0), 2, |x| x * x < 2.0), (1.0, 1.5));
        assert_eq!(crossing((0.0, 2.0), 0, |_| true), (0.0, 2.0));
    }
}
