//! The empirical distribution of each input by itself: what tail scores and rank transforms are made of.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::model::tensors::{ModelFileError, Tensors};

/// Every order statistic is kept up to this many at each end of the sample, because tails are what matters …
const TAIL_KNOTS: usize = 256;

/// … and at most this many between them.
const BODY_KNOTS: usize = 512;

/// Order statistics of each input, thinned in the middle of the distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Marginals {
    /// Rows seen.
    rows: f32,
    /// The rank of each knot, from 0, ascending; the same for all inputs.
    ranks: Array1<f32>,
    /// The value at each rank, `width × ranks`, ascending along a row.
    knots: Array2<f32>,
}

impl Marginals {
    /// Reads rows, `n × width`, n ≥ 1.
    pub fn fit(rows: ArrayView2<'_, f32>) -> Self {
        let ranks = ranks(rows.nrows());
        let mut knots = Array2::zeros((rows.ncols(), ranks.len()));
        for (column, mut out) in rows.columns().into_iter().zip(knots.axis_iter_mut(Axis(0))) {
            let mut sorted = column.to_vec();
            sorted.sort_unstable_by(f32::total_cmp);
            for (cell, &rank) in out.iter_mut().zip(&ranks) {
                *cell = sorted[rank];
            }
        }
        Self {
            rows: rows.nrows() as f32,
            ranks: ranks.iter().map(|&rank| rank as f32).collect(),
            knots,
        }
    }

    /// Inputs a row.
    pub fn width(&self) -> usize {
        self.knots.nrows()
    }

    /// How many of the rows had at most, and how many at least, `value` in input `j`.
    pub fn counts(&self, j: usize, value: f32) -> (f32, f32) {
        let knots = self.knots.row(j);
        let place = |before: &dyn Fn(f32) -> bool| {
            let (mut low, mut high) = (0, knots.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if before(knots[middle]) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        let below = self.count_before(j, value, place(&|knot| knot < value));
        let up_to = self.count_before(j, value, place(&|knot| knot <= value));
        (up_to, self.rows - below)
    }

    /// How many rows come before `value`, of which `knots` knots do; between knots linearly.
    fn count_before(&self, j: usize, value: f32, knots: usize) -> f32 {
        let Some(last) = knots.checked_sub(1) else {
            return 0.0;
        };
        let (low, rank) = (self.knots[[j, last]], self.ranks[last]);
        let Some(&next) = self.ranks.get(knots) else {
            return self.rows;
        };
        let high = self.knots[[j, knots]];
        let part = if high > low {
            ((value - low) / (high - low)).clamp(0.0, 1.0)
        } else {
            1.0
        };
        rank + 1.0 + part * (next - rank - 1.0)
    }

    /// The normal score of each value: Φ⁻¹ of its mid-rank among the training rows, so that every input is standard normal whatever
    /// its shape was. Values beyond all training rows get Φ⁻¹(½ / (n + 1)).
    pub fn normal_scores(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let n = f64::from(self.rows);
        Array2::from_shape_fn(rows.dim(), |(i, j)| {
            let (up_to, from) = self.counts(j, rows[[i, j]]);
            let middle = 0.5 * f64::from(self.rows - from + up_to + 1.0) / (n + 1.0);
            let edge = 0.5 / (n + 1.0);
            inverse_normal(middle.clamp(edge, 1.0 - edge)) as f32
        })
    }

    /// Writes the knots.
    pub fn save(&self, to: &mut Tensors) {
        to.set("rows", &self.rows);
        to.put1("ranks", self.ranks.view());
        to.put2("knots", self.knots.view());
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent or of another shape.
    pub fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let marginals = Self {
            rows: from.get("rows")?,
            ranks: from.get1("ranks")?,
            knots: from.get2("knots")?,
        };
        if marginals.ranks.len() == marginals.knots.ncols() && !marginals.ranks.is_empty() {
            Ok(marginals)
        } else {
            Err(ModelFileError::Invalid(
                "ranks and knots differ in number".to_owned(),
            ))
        }
    }
}

/// The ranks that are kept of a sample of `n`, ascending.
fn ranks(n: usize) -> Vec<usize> {
    if n <= 2 * TAIL_KNOTS + BODY_KNOTS {
        return (0..n).collect();
    }
    let inner = n - 2 * TAIL_KNOTS;
    let body = (0..BODY_KNOTS).map(|i| TAIL_KNOTS + i * inner / BODY_KNOTS);
    (0..TAIL_KNOTS)
        .chain(body)
        .chain(n - TAIL_KNOTS..n)
        .collect()
}

/// Φ⁻¹, by Acklam's rational approximation (2003), relative error below 1.2e-9. `p` must lie in (0, 1).
pub fn inverse_normal(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * polynomial(&A, q * q) / polynomial(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn counts_by_hand() {
        let marginals = Marginals::fit(array![[1.0], [2.0], [2.0], [5.0]].view());
        assert_eq!(marginals.counts(0, 2.0), (3.0, 3.0));
        assert_eq!(marginals.counts(0, 0.0), (0.0, 4.0));
        assert_eq!(marginals.counts(0, 3.0), (3.0, 1.0));
        assert_eq!(marginals.counts(0, 9.0), (4.0, 0.0));
    }

    #[test]
    fn thinned_counts_are_close_and_exact_in_the_tails() {
        let n = 20_000;
        let marginals = Marginals::fit(Array2::from_shape_fn((n, 1), |(i, _)| i as f32).view());
        assert!(marginals.ranks.len() <= 2 * TAIL_KNOTS + BODY_KNOTS);
        for value in [3.0, 100.0, 9_999.0, 12_345.0, 19_998.0] {
            let (up_to, from) = marginals.counts(0, value);
            assert!((up_to - value - 1.0).abs() < 2.0, "{value}: {up_to}");
            assert!((from - (n as f32 - value)).abs() < 2.0, "{value}: {from}");
        }
        assert!((marginals.counts(0, 3.0).0 - 4.0).abs() < 1e-6);
    }

    #[test]
    fn inverse_normal_of_known_points() {
        for (p, z) in [
            (0.5, 0.0),
            (0.975, 1.959_963_985),
            (0.001, -3.090_232_306),
            (0.999_999, 4.753_424_309),
        ] {
            assert!((inverse_normal(p) - z).abs() < 1e-7, "{p}");
        }
    }

    #[test]
    fn normal_scores_by_hand() {
        // Of three distinct rows the middle one has mid-rank 2 of 4.
        let marginals = Marginals::fit(array![[1.0], [2.0], [7.0]].view());
        let scores = marginals.normal_scores(array![[2.0], [100.0]].view());
        assert!(scores[[0, 0]].abs() < 1e-6);
        assert!((scores[[1, 0]] - inverse_normal(0.875) as f32).abs() < 1e-6);
    }
}
