//! The inverse of a covariance: what columns say of each other.

use ndarray::{Array1, Array2, ArrayView2};

use crate::model::linalg::{cholesky, invert_lower, solve_lower, solve_upper};

/// The inverse of a covariance.
pub fn inverse(covariance: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    let root = invert_lower(cholesky(covariance)?.view());
    Some(root.t().dot(&root))
}

/// The precision of the other columns when one is not known: its Schur complement, with zeros for the column.
pub fn without(mut precision: Array2<f64>, column: usize) -> Array2<f64> {
    let pivot = precision[[column, column]];
    if pivot <= 0.0 {
        return precision;
    }
    let of_column = precision.row(column).to_vec();
    for (mut row, own) in precision.rows_mut().into_iter().zip(&of_column) {
        for (value, other) in row.iter_mut().zip(&of_column) {
            *value -= own * other / pivot;
        }
        row[column] = 0.0;
    }
    precision.row_mut(column).fill(0.0);
    precision
}

/// Columns of which nothing is known, among others.
#[derive(Debug)]
pub struct Gone {
    columns: Vec<usize>,
    /// The Cholesky factor of the precision among them; none where that is singular: then they are expected at their means.
    root: Option<Array2<f64>>,
}

impl Gone {
    /// Those that were not observed.
    pub fn of(precision: &Array2<f64>, observed: &[bool]) -> Self {
        let columns = 0..observed.len();
        let columns: Vec<usize> = columns.filter(|&column| !observed[column]).collect();
        let among = Array2::from_shape_fn([columns.len(); 2], |(i, j)| {
            precision[[columns[i], columns[j]]]
        });
        Self {
            root: cholesky(among.view()),
            columns,
        }
    }

    /// Which they are, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// What the others let expect in their place: of a record less its mean, −P⁻¹ of those gone times P between them and the others times these.
    pub fn fill(&self, precision: &Array2<f64>, off: &mut Array1<f64>) {
        for &column in &self.columns {
            off[column] = 0.0;
        }
        let Some(root) = &self.root else { return };
        let pulls = self.columns.iter().map(|&column| precision.row(column));
        let mut expected: Vec<f64> = pulls.map(|pull| -pull.dot(&*off)).collect();
        solve_lower(root.view(), &mut expected);
        solve_upper(root.view(), &mut expected);
        for (&column, expected) in self.columns.iter().zip(expected) {
            off[column] = expected;
        }
    }

    /// The precision of a column that was observed, when they are not known: its Schur complement.
    pub fn own(&self, precision: &Array2<f64>, column: usize) -> f64 {
        let own = precision[[column, column]];
        let Some(root) = &self.root else { return own };
        let between = self.columns.iter().map(|&gone| precision[[column, gone]]);
        let mut known: Vec<f64> = between.collect();
        solve_lower(root.view(), &mut known);
        own - known.iter().map(|value| value * value).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::linalg::moments;
    use crate::model::testing::correlated;
    use crate::seed::Seed;
    use ndarray::{Axis, array};

    #[test]
    fn residuals_by_hand() {
        // Two columns of variance 1 and covariance 1/2: P = 4/3 (1, −1/2; −1/2, 1); z₀ = (x₀ − x₁/2) / √(3/4).
        let precision = inverse(array![[1.0, 0.5], [0.5, 1.0]].view()).unwrap();
        assert!((precision[[0, 0]] - 4.0 / 3.0).abs() < 1e-12);
        assert!((precision[[0, 1]] + 2.0 / 3.0).abs() < 1e-12);
        let alone = without(precision.clone(), 1);
        assert!((alone[[0, 0]] - 1.0).abs() < 1e-12 && alone[[1, 1]].abs() < 1e-12);
        let gone = Gone::of(&precision, &[true, false]);
        assert!((gone.own(&precision, 0) - 1.0).abs() < 1e-12);
        let mut off = array![3.0, 9.0];
        gone.fill(&precision, &mut off);
        assert!((off[0] - 3.0).abs() < 1e-12 && (off[1] - 1.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_gone_is_what_the_inverse_of_the_rest_says() {
        let rows = correlated(400, 7, Seed(3));
        let (_, covariance) = moments(rows.view());
        let precision = inverse(covariance.view()).unwrap();
        let observed = [true, false, true, true, false, false, true];
        let seen = [0, 2, 3, 6];
        let gone = Gone::of(&precision, &observed);
        assert_eq!(gone.columns(), [1, 4, 5]);
        let of_seen = covariance.select(Axis(0), &seen).select(Axis(1), &seen);
        let known = inverse(of_seen.view()).unwrap();
        for (place, &column) in seen.iter().enumerate() {
            assert!((gone.own(&precision, column) / known[[place, place]] - 1.0).abs() < 1e-9);
        }
        let mut off = rows.row(5).mapv(f64::from);
        let weights = covariance.select(Axis(0), gone.columns());
        let weights = weights.select(Axis(1), &seen).dot(&known);
        let wanted = weights.dot(&off.select(Axis(0), &seen));
        gone.fill(&precision, &mut off);
        for (&column, wanted) in gone.columns().iter().zip(&wanted) {
            assert!((off[column] - wanted).abs() < 1e-9);
        }
    }
}
