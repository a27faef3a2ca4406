//! The inverse of a covariance: what columns say of each other.

use ndarray::{Array2, ArrayView2, Axis};

use crate::model::linalg::{cholesky, invert_lower};

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

/// What the columns `gone` are expected to be, `gone × seen`: −P⁻¹ of the former times P between them.
pub fn regression(precision: &Array2<f64>, gone: &[usize], seen: &[usize]) -> Array2<f64> {
    let own = precision.select(Axis(0), gone).select(Axis(1), gone);
    let between = precision.select(Axis(0), gone).select(Axis(1), seen);
    match inverse(own.view()) {
        Some(inverse) => -inverse.dot(&between),
        None => Array2::zeros((gone.len(), seen.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn residuals_by_hand() {
        // Two columns of variance 1 and covariance 1/2: P = 4/3 (1, −1/2; −1/2, 1); z₀ = (x₀ − x₁/2) / √(3/4).
        let precision = inverse(array![[1.0, 0.5], [0.5, 1.0]].view()).unwrap();
        assert!((precision[[0, 0]] - 4.0 / 3.0).abs() < 1e-12);
        assert!((precision[[0, 1]] + 2.0 / 3.0).abs() < 1e-12);
        let alone = without(precision.clone(), 1);
        assert!((alone[[0, 0]] - 1.0).abs() < 1e-12 && alone[[1, 1]].abs() < 1e-12);
        let expected = regression(&precision, &[1], &[0]);
        assert!((expected[[0, 0]] - 0.5).abs() < 1e-12);
    }
}
