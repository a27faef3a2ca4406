//! What the gate remembers: raw windows that models were accepted on, kept with the model in use.
//!
//! A challenger is tried on its own latest records and on these. A stretch of records that are wrong can then not vouch for the model that
//! was learnt from it.

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rand::seq::index;

use crate::seed::Seed;

/// Windows that are kept at most, of the model's own and of earlier ones each, and at least where they are wide.
const WINDOWS: (usize, usize) = (60, 1000);

/// Numbers that are kept of each, about.
const NUMBERS: usize = 30_000;

/// The part of earlier windows that the newest of them take where there are more than can be kept: at each generation a window stays with a
/// probability of three in four, so that slow change is followed and a few generations are remembered.
const NEWEST: f64 = 0.25;

/// Raw windows, oldest first, with the keys that they are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reservoir {
    /// The key of each window.
    pub keys: Vec<String>,
    /// `n × (W · D)` raw values, NaN where not observed.
    pub windows: Array2<f64>,
    /// How many, the latest, are the model's own: held out when it was fitted. The others are those of the models before it, and may have been
    /// fitted on.
    pub own: usize,
}

impl Reservoir {
    /// Some of the windows that a model was not fitted on, evenly: all where there are few.
    ///
    /// # Panics
    /// If there is not one key a window.
    pub fn of(keys: &[String], windows: ArrayView2<'_, f64>) -> Self {
        assert_eq!(keys.len(), windows.nrows(), "one key a window");
        let (n, most) = (windows.nrows(), capacity(windows.ncols()));
        let count = n.min(most);
        let kept: Vec<usize> = (0..count).map(|i| i * n / count).collect();
        Self {
            keys: keys.to_vec(),
            windows: windows.to_owned(),
            own: n,
        }
        .select(&kept)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Only the windows whose keys pass.
    #[must_use]
    pub fn of_keys(&self, passes: impl Fn(&str) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len()).filter(|&i| passes(&self.keys[i])).collect();
        self.select(&kept)
    }

    /// Only the model's own.
    #[must_use]
    pub fn own(&self) -> Self {
        let kept: Vec<usize> = (self.len() - self.own..self.len()).collect();
        self.select(&kept)
    }

    /// That of the model after this one, which has windows of its own.
    #[must_use]
    pub fn then(&self, later: &Self, seed: Seed) -> Self {
        let width = later.windows.ncols();
        if self.is_empty() || self.windows.ncols() != width {
            return later.own();
        }
        let most = capacity(width);
        let share = (most as f64 * NEWEST) as usize;
        let before = self.len() - self.own;
        let new = self.own.min(share.max(most.saturating_sub(before)));
        let old = before.min(most - new);
        let mut rng = seed.child("reservoir").rng();
        let mut kept = index::sample(&mut rng, before, old).into_vec();
        let newest = index::sample(&mut rng, self.own, new).into_iter();
        kept.extend(newest.map(|i| before + i));
        kept.sort_unstable();
        let (older, newer) = (self.select(&kept), later.own());
        let parts = [older.windows.view(), newer.windows.view()];
        Self {
            windows: concatenate(Axis(0), &parts)
                .unwrap_or_else(|error| unreachable!("windows of one width: {error}")),
            keys: [older.keys, newer.keys].concat(),
            own: newer.own,
        }
    }

    /// Those at these places, which ascend.
    fn select(&self, kept: &[usize]) -> Self {
        let first = self.len() - self.own;
        Self {
            keys: kept.iter().map(|&i| self.keys[i].clone()).collect(),
            windows: self.windows.select(Axis(0), kept),
            own: kept.iter().filter(|&&i| i >= first).count(),
        }
    }
}

/// How many windows of this width are kept.
fn capacity(width: usize) -> usize {
    (NUMBERS / width.max(1)).clamp(WINDOWS.0, WINDOWS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservoir(from: usize, n: usize, key: &str) -> Reservoir {
        let windows = Array2::from_shape_fn((n, 2), |(i, j)| (2 * (from + i) + j) as f64);
        Reservoir::of(&vec![key.to_owned(); n], windows.view())
    }

    #[test]
    fn keeps_few_windows_evenly_and_wide_ones_fewer() {
        let kept = reservoir(0, 2000, "a");
        assert_eq!((kept.len(), kept.own), (1000, 1000));
        assert!((kept.windows[(999, 0)] - 2.0 * 1998.0).abs() < 1e-9);
        assert_eq!(reservoir(0, 7, "a").windows.nrows(), 7);
        assert_eq!((capacity(300), capacity(100_000)), (100, 60));
    }

    #[test]
    fn remembers_earlier_generations_less_and_less() {
        let mut kept = reservoir(0, 1000, "0");
        let mut shares = Vec::new();
        for generation in 1..=6 {
            let later = reservoir(1000 * generation, 1000, &generation.to_string());
            kept = kept.then(&later, Seed(generation as u64));
            assert_eq!(kept.own(), later);
            shares.push(kept.keys.iter().filter(|key| *key == "0").count());
        }
        assert_eq!((kept.len(), kept.own), (2000, 1000));
        assert_eq!(shares[..2], [1000, 750]);
        // 1,000 · 0.75⁵.
        assert!((180..300).contains(&shares[5]), "{shares:?}");
        // Few new windows do not make it forget.
        let few = kept.then(&reservoir(0, 10, "new"), Seed(1));
        assert_eq!((few.len(), few.keys[1009].as_str()), (1010, "new"));
        // Nor do others of another width stay.
        let wide = Reservoir::of(&["w".to_owned()], Array2::zeros((1, 3)).view());
        assert_eq!(kept.then(&wide, Seed(1)), wide);
        let without = kept.of_keys(|key| key != "6");
        assert_eq!((without.len(), without.own), (1000, 0));
    }
}
