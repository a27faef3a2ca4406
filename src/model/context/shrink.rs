//! Centres and spreads of combinations with few rows, by what they have in common.

use ndarray::ArrayView1;

use super::seen::Combination;

/// Rows that the spread within all combinations counts as, beside a combination's own.
const PRIOR_ROWS: f64 = 20.0;

/// The least spread, as a share of that within all combinations: a column that rests in one mode is not infinitely strict there.
const SPREAD_MIN: f64 = 0.1;

/// One column's values in one combination.
pub struct Own {
    rows: f64,
    stays: f64,
    centre: f64,
    variance: f64,
}

impl Own {
    /// Of the column's values in its rows, by the scale that `fit` finds.
    pub fn of(
        of: &Combination,
        column: ArrayView1<'_, f64>,
        fit: &dyn Fn(&mut [f64]) -> (f64, f64),
    ) -> Self {
        let mut observed: Vec<f64> = of.rows.iter().map(|&row| column[row]).collect();
        observed.retain(|value| value.is_finite());
        if observed.is_empty() {
            return Self {
                rows: 0.0,
                stays: 0.0,
                centre: 0.0,
                variance: 0.0,
            };
        }
        let (centre, spread) = fit(&mut observed);
        Self {
            rows: observed.len() as f64,
            stays: of.stays * observed.len() as f64 / of.rows.len() as f64,
            centre,
            variance: spread * spread,
        }
    }
}

/// Centres and spreads of one column in all combinations, shrunk.
pub fn shrunk(own: &[Own], (centre, spread): (f64, f64)) -> Vec<(f64, f64)> {
    let rows: f64 = own.iter().map(|own| own.rows).sum();
    let within = own.iter().map(|own| own.rows * own.variance).sum::<f64>() / rows.max(1.0);
    // A column that is constant within every combination has no spread there: its change between them is all there is.
    let floor = 1e-9 * centre.abs().max(spread);
    let within = if within > floor * floor {
        within
    } else {
        (0.01 * spread).powi(2)
    };
    // As much as all differ more than those within; or as the centres themselves do, where the shared spread does not know rare ones.
    let mean = own.iter().map(|own| own.rows * own.centre).sum::<f64>() / rows.max(1.0);
    let apart = own.iter().map(|own| own.rows * (own.centre - mean).powi(2));
    let stays = own.iter().map(|own| own.stays).sum::<f64>();
    let noise = within * own.len() as f64 / stays.max(f64::MIN_POSITIVE);
    let between = (spread * spread - within)
        .max(apart.sum::<f64>() / rows.max(1.0) - noise)
        .max(0.0);
    let of = |own: &Own| {
        let noise = within / own.stays.max(f64::MIN_POSITIVE);
        let known = if between > 0.0 {
            between / (between + noise)
        } else {
            0.0
        };
        let own_spread = (own.rows * own.variance + PRIOR_ROWS * within) / (own.rows + PRIOR_ROWS);
        let variance = own_spread.max(SPREAD_MIN * SPREAD_MIN * within) + (1.0 - known) * between;
        (centre + known * (own.centre - centre), variance.sqrt())
    };
    own.iter().map(of).collect()
}
