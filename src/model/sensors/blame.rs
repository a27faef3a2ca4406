//! Which columns are to blame for a window.

use ndarray::{Array2, ArrayView2, Axis};

use super::Sensors;
use super::precision::{inverse, without};

/// Columns that are reconstructed one after another to explain a record, at most.
const BLAMED_MAX: usize = 8;

/// The share of a column's own precision below which the others that are reconstructed leave nothing of it but rounding.
const DEPENDENT: f64 = 1e-12;

/// Mean square of a residual from which on a column is reconstructed, and from which on it stays so beside others.
const BLAMED_MIN: f64 = 4.0;
const BLAMED_KEPT: f64 = 9.0;

impl Sensors {
    /// How much each column is to blame for a window, `W × M` scaled records without gaps: what the squared distance loses when the column is
    /// reconstructed beside the others that are to blame.
    ///
    /// These are found by steps forward, the column that the rest contradicts most first, and back, because one that only stood for others is
    /// not to blame once these are reconstructed. Where it takes two, all pairs are compared: two faults can make a third column stand out.
    pub fn blame(&self, window: ArrayView2<'_, f32>, observed: &[bool]) -> Vec<f64> {
        let off = self.centred(window).mapv(f64::from);
        let records = off.nrows().max(1) as f64;
        let gone = (0..self.columns()).filter(|&column| !observed[column]);
        let known = gone.fold(self.precision.clone(), without);
        let pulled = off.dot(&known);
        let mut blamed: Vec<usize> = Vec::new();
        while blamed.len() < BLAMED_MAX.min(self.columns() - 1) {
            let gains = self.gains(&pulled, &known, &blamed);
            let most = (0..gains.len()).max_by(|&a, &b| gains[a].total_cmp(&gains[b]));
            let Some(column) = most.filter(|&column| gains[column] >= BLAMED_MIN * records) else {
                break;
            };
            blamed.push(column);
            if blamed.len() == 2 {
                blamed = best_pair(&pulled, &known).unwrap_or(blamed);
            }
        }
        loop {
            let own: Vec<f64> = (0..blamed.len())
                .map(|place| {
                    let mut others = blamed.clone();
                    let column = others.remove(place);
                    self.gains(&pulled, &known, &others)[column]
                })
                .collect();
            let least = (0..own.len()).min_by(|&a, &b| own[a].total_cmp(&own[b]));
            if let Some(place) = least.filter(|&place| own[place] < BLAMED_KEPT * records) {
                blamed.remove(place);
                continue;
            }
            let mut blame = self.gains(&pulled, &known, &blamed);
            for (&column, gain) in blamed.iter().zip(own) {
                blame[column] = gain;
            }
            return blame;
        }
    }

    /// What the squared distance of rows would lose by each column, when some are reconstructed already: these, and what is not known, 0. `pulled`
    /// are the rows times the precision of what is `known`; only its part for those that are reconstructed is inverted.
    fn gains(&self, pulled: &Array2<f64>, known: &Array2<f64>, blamed: &[usize]) -> Vec<f64> {
        let of_blamed = known.select(Axis(0), blamed);
        let among_them = of_blamed.select(Axis(1), blamed);
        let share = match inverse(among_them.view()) {
            Some(inverse) => inverse.dot(&of_blamed),
            None => Array2::zeros(of_blamed.raw_dim()),
        };
        let rest = pulled - &pulled.select(Axis(1), blamed).dot(&share);
        let gain = |j: usize| {
            let own = known[[j, j]] - of_blamed.column(j).dot(&share.column(j));
            if blamed.contains(&j) || own <= DEPENDENT * known[[j, j]] {
                return 0.0;
            }
            let squares: f64 = rest.column(j).iter().map(|pull| pull * pull).sum();
            squares / (own * self.unit[j] * self.unit[j])
        };
        (0..self.columns()).map(gain).collect()
    }
}

/// The two columns by which the squared distance of rows loses most, from rows times the precision: uᵀ P⁻¹ u over both, u what pulls them.
fn best_pair(pulled: &Array2<f64>, precision: &Array2<f64>) -> Option<Vec<usize>> {
    let moments = pulled.t().dot(pulled);
    let mut best = (0.0, None);
    for a in 0..precision.nrows() {
        for b in 0..a {
            let (p, q, r) = (precision[[a, a]], precision[[b, b]], precision[[a, b]]);
            let determinant = p * q - r * r;
            if determinant <= 1e-12 * p * q {
                continue;
            }
            let (u, v, w) = (moments[[a, a]], moments[[b, b]], moments[[a, b]]);
            let gain = (q * u - 2.0 * r * w + p * v) / determinant;
            if gain > best.0 {
                best = (gain, Some(vec![b, a]));
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::super::tests::fitted;
    use super::*;
    use crate::model::testing::correlated;
    use crate::seed::Seed;
    use rand::Rng;
    use rand_distr::StandardNormal;

    #[test]
    fn gains_beside_others_are_those_without_them() {
        let (judge, records) = (fitted(5), correlated(20, 5, Seed(3)));
        let off = judge.centred(records.view()).mapv(f64::from);
        for gone in [vec![], vec![3]] {
            let known = gone.into_iter().fold(judge.precision.clone(), without);
            for blamed in [vec![], vec![1], vec![4, 0, 2]] {
                let gains = judge.gains(&off.dot(&known), &known, &blamed);
                let rest = blamed.iter().copied().fold(known.clone(), without);
                let pulled = off.dot(&rest);
                for (j, gain) in gains.into_iter().enumerate() {
                    let own = rest[[j, j]] * judge.unit[j] * judge.unit[j];
                    let squares: f64 = pulled.column(j).iter().map(|pull| pull * pull).sum();
                    let expected = if own > 0.0 { squares / own } else { 0.0 };
                    assert!((gain - expected).abs() <= 1e-9 * (1.0 + expected), "{j}");
                }
            }
        }
    }

    #[test]
    fn two_broken_sensors_are_the_first_that_are_named() {
        let (mut right, mut all) = (0, 0);
        for case in 0..60 {
            let mut rng = Seed(case).rng();
            let (columns, causes) = (6 + case as usize % 7, 2 + case as usize % 3);
            let mixing = Array2::from_shape_fn((causes, columns), |_| {
                rng.sample::<f32, _>(StandardNormal) / (causes as f32).sqrt()
            });
            let mut draw = |n: usize| {
                let hidden =
                    Array2::from_shape_fn((n, causes), |_| rng.sample::<f32, _>(StandardNormal));
                let noise = Array2::from_shape_fn((n, columns), |_| {
                    0.4 * rng.sample::<f32, _>(StandardNormal)
                });
                hidden.dot(&mixing) + noise
            };
            let (train, held_out, mut struck) = (draw(1000), draw(300), draw(5));
            let sensors = Sensors::fit(train.view(), held_out.view(), (0.02, 10.0));
            let (a, b) = (case as usize % columns, (case as usize * 3 + 1) % columns);
            if a == b {
                continue;
            }
            for (at, mut row) in struck.rows_mut().into_iter().enumerate() {
                row[a] += 4.0;
                row[b] += if at % 2 == 0 { -4.0 } else { 4.0 };
                let row = row.insert_axis(Axis(0));
                let blame = sensors.blame(row.view(), &vec![true; columns]);
                let mut order: Vec<usize> = (0..columns).collect();
                order.sort_by(|&i, &j| blame[j].total_cmp(&blame[i]));
                all += 1;
                right += usize::from(order[..3].contains(&a) && order[..3].contains(&b));
            }
        }
        assert!(right * 100 >= all * 97, "{right} of {all}");
    }
}
