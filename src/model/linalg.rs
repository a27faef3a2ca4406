//! What several kinds need of linear algebra in f64: moments of rows, Cholesky factors, and principal axes by linfa-reduction.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_linalg::eigh::{EigSort, EighInto};
use linfa_reduction::Pca;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::Rng;
use rand_distr::StandardNormal;

use super::FitError;
use crate::seed::Seed;

/// Rows of a block that is widened to f64 at a time, so that a large training set is never held twice.
const BLOCK_ROWS: usize = 1024;

/// Columns of a block of a symmetric matrix: what lies above the diagonal's blocks need not be multiplied.
const BLOCK_COLUMNS: usize = 48;

/// Mean (`width`) and covariance (`width × width`, divided by n) of rows, `n × width`, n ≥ 1.
pub fn moments(rows: ArrayView2<'_, f32>) -> (Array1<f64>, Array2<f64>) {
    let n = rows.nrows().max(1) as f64;
    let mean = rows
        .axis_iter(Axis(0))
        .fold(Array1::zeros(rows.ncols()), |mut sum, row| {
            sum.zip_mut_with(&row, |a: &mut f64, &b| *a += f64::from(b));
            sum
        })
        / n;
    let mut covariance = Array2::zeros((rows.ncols(), rows.ncols()));
    for block in rows.axis_chunks_iter(Axis(0), BLOCK_ROWS) {
        let centred = block.mapv(f64::from) - &mean;
        add_squares(1.0 / n, &centred, &mut covariance);
    }
    let width = covariance.nrows();
    for (i, j) in (0..width).flat_map(|i| (0..i).map(move |j| (i, j))) {
        covariance[[j, i]] = covariance[[i, j]];
    }
    (mean, covariance)
}

/// Adds `factor` times rowsᵀ rows to a symmetric matrix, below its diagonal at least.
fn add_squares(factor: f64, rows: &Array2<f64>, to: &mut Array2<f64>) {
    for (place, below) in to.axis_chunks_iter_mut(Axis(0), BLOCK_COLUMNS).enumerate() {
        let begin = place * BLOCK_COLUMNS;
        let end = begin + below.nrows();
        let left = rows.view().split_at(Axis(1), end).0;
        let own = left.split_at(Axis(1), begin).1;
        let mut below = below.split_at(Axis(1), end).0;
        general_mat_mul(factor, &own.t(), &left, 1.0, &mut below);
    }
}

/// The lower triangular L with L Lᵀ = `matrix`, or `None` if `matrix` is not positive definite.
pub fn cholesky(matrix: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    let n = matrix.nrows();
    let mut lower = Array2::<f64>::zeros((n, n));
    for j in 0..n {
        for i in j..n {
            let done = first(lower.row(i), j).dot(&first(lower.row(j), j));
            let rest = matrix[[i, j]] - done;
            lower[[i, j]] = if i == j {
                rest.sqrt()
            } else {
                rest / lower[[j, j]]
            };
        }
        if lower[[j, j]].is_nan() || lower[[j, j]] <= 0.0 {
            return None;
        }
    }
    Some(lower)
}

/// The inverse of a lower triangular matrix without zeros on its diagonal.
pub fn invert_lower(lower: ArrayView2<'_, f64>) -> Array2<f64> {
    let n = lower.nrows();
    let mut inverse = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        inverse[[column, column]] = 1.0 / lower[[column, column]];
        for i in column + 1..n {
            let done = first(lower.row(i), i).dot(&first(inverse.column(column), i));
            inverse[[i, column]] = -done / lower[[i, i]];
        }
    }
    inverse
}

/// Puts L⁻¹ b in the place of b, for a lower triangular L without zeros on its diagonal.
pub fn solve_lower(lower: ArrayView2<'_, f64>, b: &mut [f64]) {
    for (i, row) in lower.rows().into_iter().enumerate() {
        let (done, rest) = b.split_at_mut(i);
        rest[0] = (rest[0] - first(row, i).dot(&ArrayView1::from(&*done))) / row[i];
    }
}

/// Puts L⁻ᵀ b in the place of b.
pub fn solve_upper(lower: ArrayView2<'_, f64>, b: &mut [f64]) {
    for (i, row) in lower.rows().into_iter().enumerate().rev() {
        b[i] /= row[i];
        let solved = b[i];
        for (value, weight) in b[..i].iter_mut().zip(row) {
            *value -= weight * solved;
        }
    }
}

/// Variances in descending order, and the principal axes that belong to them (one a row), of a covariance matrix. Directions
/// without variance are left out, so there may be fewer than the matrix has columns, or none.
///
/// By linfa-reduction where that converges: its solver (LOBPCG) is made for few axes of many, and on wide windows whole bases come
/// back skewed. Those, and all wide matrices to begin with, go to linfa-linalg's dense solver.
///
/// # Errors
/// If the matrix is not finite, or both solvers fail.
pub fn principal_axes(
    covariance: ArrayView2<'_, f64>,
) -> Result<(Array1<f64>, Array2<f64>), FitError> {
    let width = covariance.nrows();
    let trace = covariance.diag().sum();
    if !trace.is_finite() || covariance.iter().any(|value| !value.is_finite()) {
        return Err(FitError::NotFinite {
            what: "covariance".to_owned(),
        });
    }
    if trace <= 0.0 {
        return Ok((Array1::zeros(0), Array2::zeros((0, width))));
    }
    // linfa's solvers stop at an absolute error, so the problem gets a known size.
    let scaled = covariance.mapv(|value| value / trace);
    let iterative = if width <= ITERATIVE_WIDTH_MAX {
        by_reduction(scaled.view()).filter(|(_, axes)| orthonormal(axes.view()))
    } else {
        None
    };
    let (variances, axes) = match iterative {
        Some(found) => found,
        None => by_dense_solver(scaled)?,
    };
    let kept = variances
        .iter()
        .take_while(|&&variance| variance > 1e-10)
        .count();
    let axes = first_rows(axes.view(), kept).to_owned();
    if !orthonormal(axes.view()) {
        return Err(FitError::Library(
            "linfa-linalg: axes are not orthonormal".to_owned(),
        ));
    }
    Ok((
        first(variances.view(), kept).mapv(|variance| variance * trace),
        axes,
    ))
}

/// Where rows lie, and in which directions they vary.
#[derive(Clone, Debug, PartialEq)]
pub struct RowAxes {
    /// The mean, `width` numbers.
    pub mean: Array1<f64>,
    /// The variances along the axes, descending.
    pub variances: Array1<f64>,
    /// The axes, `k × width`.
    pub axes: Array2<f64>,
    /// The sum of all inputs' variances, of which the axes hold all or the most.
    pub total: f64,
}

/// Mean of rows, `n × width`, and the variances and axes of their covariance, as [`principal_axes`] has them; of wide ones the leading axes, see
/// [`WIDE_AXES`]. Of fewer rows than inputs the products of rows with each other have the same variances, and are the smaller problem.
///
/// # Errors
/// As [`principal_axes`].
pub fn axes_of_rows(rows: ArrayView2<'_, f32>) -> Result<RowAxes, FitError> {
    if rows.nrows() < rows.ncols() {
        let n = rows.nrows().max(1) as f64;
        let mut centred = rows.mapv(f64::from);
        let mean = centred.sum_axis(Axis(0)) / n;
        centred -= &mean;
        let products = centred.dot(&centred.t()) / n;
        let (variances, weights, total) = most_of(products.view())?;
        let lengths = variances.mapv(|variance| (n * variance).sqrt());
        let axes = weights.dot(&centred) / &lengths.insert_axis(Axis(1));
        if orthonormal(axes.view()) {
            return Ok(RowAxes {
                mean,
                variances,
                axes,
                total,
            });
        }
    }
    let (mean, covariance) = moments(rows);
    let (variances, axes, total) = most_of(covariance.view())?;
    Ok(RowAxes {
        mean,
        variances,
        axes,
        total,
    })
}

/// The width from which on a matrix is wide. A dense solver takes the third power of it.
const WIDE: usize = 768;

/// Axes of a wide matrix, at most.
pub const WIDE_AXES: usize = 256;

/// Directions beside those, so that the last of them are good, too; and rounds, each of which lets the leading ones grow beyond the others.
const MORE_AXES: usize = 16;
const ROUNDS: usize = 8;

/// All variances and axes of a matrix that is not wide, the leading ones of one that is; and the sum of all variances.
fn most_of(matrix: ArrayView2<'_, f64>) -> Result<(Array1<f64>, Array2<f64>, f64), FitError> {
    let total = matrix.diag().sum();
    let finite = matrix.iter().all(|value| value.is_finite());
    if matrix.nrows() > WIDE && finite && total > 0.0 {
        let (variances, axes) = leading_axes(matrix, WIDE_AXES)?;
        return Ok((variances, axes, total));
    }
    let (variances, axes) = principal_axes(matrix)?;
    let total = variances.sum();
    Ok((variances, axes, total))
}

/// The `most` largest variances of a covariance and their axes, one a row, by iteration of a random subspace (Halko, Martinsson and Tropp, "Finding Structure
/// with Randomness", SIAM Review 53, 2011, algorithm 4.4); fewer, if it has no more above some 1e-5 of the largest. From a seed of its own: the same matrix has the same axes.
fn leading_axes(
    matrix: ArrayView2<'_, f64>,
    most: usize,
) -> Result<(Array1<f64>, Array2<f64>), FitError> {
    let width = matrix.nrows();
    let scaled = &matrix / matrix.diag().sum();
    let mut rng = Seed(0).child("leading axes").rng();
    let wanted = (most + MORE_AXES).min(width);
    let mut within = Array2::from_shape_fn((width, wanted), |_| rng.sample(StandardNormal));
    for _ in 0..ROUNDS {
        within = at_right_angles(scaled.dot(&within))?;
    }
    let inner = within.t().dot(&scaled.dot(&within));
    let (variances, turned) = principal_axes(((&inner + &inner.t()) / 2.0).view())?;
    let k = variances.len().min(most);
    let axes = first_rows(turned.view(), k).dot(&within.t());
    if !orthonormal(axes.view()) {
        let problem = "axes of a wide matrix are not orthonormal";
        return Err(FitError::Library(problem.to_owned()));
    }
    let variances = first(variances.view(), k).mapv(|variance| variance * matrix.diag().sum());
    Ok((variances, axes))
}

/// An orthonormal basis of what the columns span, without directions that are rounding; twice, since once is not at right angles enough (Stathopoulos and Wu, "A
/// Block Orthogonalization Procedure with Constant Synchronization Requirements", SIAM Journal on Scientific Computing 23, 2002).
fn at_right_angles(mut columns: Array2<f64>) -> Result<Array2<f64>, FitError> {
    for _ in 0..2 {
        let (lengths, directions) = principal_axes(columns.t().dot(&columns).view())?;
        let scaled = directions / lengths.mapv(f64::sqrt).insert_axis(Axis(1));
        columns = columns.dot(&scaled.t());
    }
    Ok(columns)
}

/// The widest covariance that linfa-reduction is asked for.
const ITERATIVE_WIDTH_MAX: usize = 64;

/// Variances and axes by linfa-reduction's PCA; `None` if it fails.
///
/// It takes rows, not a covariance. It gets the 2·D rows [U; −U] with Uᵀ U = covariance, whose mean is 0 and whose principal axes are
/// the same: that costs nothing however many records there are, and works for fewer records than columns.
fn by_reduction(covariance: ArrayView2<'_, f64>) -> Option<(Array1<f64>, Array2<f64>)> {
    let width = covariance.nrows();
    let ridge = 1e-12;
    let mut definite = covariance.to_owned();
    definite.diag_mut().mapv_inplace(|value| value + ridge);
    let lower = cholesky(definite.view())?;
    let mut rows = Array2::zeros((2 * width, width));
    let (mut upper, mut mirrored) = rows.view_mut().split_at(Axis(0), width);
    upper.assign(&lower.t());
    mirrored.assign(&lower.t().mapv(|value| -value));
    let fitted = Pca::params(width).fit(&DatasetBase::from(rows)).ok()?;
    let variances = fitted
        .singular_values()
        .mapv(|sigma| sigma * sigma / 2.0 - ridge);
    Some((variances, fitted.components().to_owned()))
}

/// Variances and axes by linfa-linalg.
fn by_dense_solver(covariance: Array2<f64>) -> Result<(Array1<f64>, Array2<f64>), FitError> {
    let found = covariance
        .eigh_into()
        .map_err(|error| FitError::Library(format!("linfa-linalg: {error}")))?;
    let (variances, columns) = found.sort_eig_desc();
    Ok((variances, columns.t().as_standard_layout().into_owned()))
}

/// How many of the descending `variances` sum to what is wanted; all, if they do not.
pub fn enough(variances: ArrayView1<'_, f64>, wanted: f64) -> usize {
    let mut held = 0.0;
    variances
        .iter()
        .take_while(|&&variance| {
            let more = held < wanted;
            held += variance;
            more
        })
        .count()
}

/// The first `count` elements.
pub fn first(values: ArrayView1<'_, f64>, count: usize) -> ArrayView1<'_, f64> {
    values.split_at(Axis(0), count).0
}

/// The first `count` rows.
pub fn first_rows(rows: ArrayView2<'_, f64>, count: usize) -> ArrayView2<'_, f64> {
    rows.split_at(Axis(0), count).0
}

/// Whether axes, one a row, are at right angles and of unit length, as an iterative solver may leave them or not.
fn orthonormal(axes: ArrayView2<'_, f64>) -> bool {
    let product = axes.dot(&axes.t());
    let off = (product - Array2::<f64>::eye(axes.nrows())).fold(0.0, |worst: f64, value| {
        // `max` would pass over NaN.
        if value.abs() > worst || value.is_nan() {
            value.abs()
        } else {
            worst
        }
    });
    off < 1e-5
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn moments_by_hand() {
        let (mean, covariance) = moments(array![[1.0f32, 0.0], [3.0, 4.0]].view());
        assert_eq!(mean, array![2.0, 2.0]);
        assert_eq!(covariance, array![[1.0, 2.0], [2.0, 4.0]]);
    }

    #[test]
    fn cholesky_by_hand() {
        let matrix = array![[4.0, 2.0], [2.0, 5.0]];
        let lower = cholesky(matrix.view()).unwrap();
        assert_eq!(lower, array![[2.0, 0.0], [1.0, 2.0]]);
        assert_eq!(invert_lower(lower.view()), array![[0.5, 0.0], [-0.25, 0.5]]);
        assert!(cholesky(array![[1.0, 2.0], [2.0, 1.0]].view()).is_none());
    }

    #[test]
    fn enough_counts_the_fewest() {
        let variances = array![6.0, 3.0, 1.0];
        assert_eq!(enough(variances.view(), 0.59 * 10.0), 1);
        assert_eq!(enough(variances.view(), 0.61 * 10.0), 2);
        assert_eq!(enough(variances.view(), 0.91 * 10.0), 3);
        assert_eq!(enough(array![].view(), 0.9), 0);
    }

    #[test]
    fn axes_by_hand() {
        // Variance 9 along (0.6, 0.8), 1 across.
        let covariance = array![
            [9.0 * 0.36 + 0.64, 8.0 * 0.48],
            [8.0 * 0.48, 9.0 * 0.64 + 0.36]
        ];
        let (variances, axes) = principal_axes(covariance.view()).unwrap();
        assert!((variances[0] - 9.0).abs() < 1e-6 && (variances[1] - 1.0).abs() < 1e-6);
        let along = axes[[0, 0]] * 0.6 + axes[[0, 1]] * 0.8;
        assert!((along.abs() - 1.0).abs() < 1e-6, "{along}");
    }

    #[test]
    fn axes_of_degenerate_covariances() {
        let (none, axes) = principal_axes(Array2::zeros((3, 3)).view()).unwrap();
        assert_eq!((none.len(), axes.dim()), (0, (0, 3)));
        let (one, _) = principal_axes(Array2::ones((4, 4)).view()).unwrap();
        assert_eq!(one.len(), 1);
        assert!((one[0] - 4.0).abs() < 1e-6);
    }

    #[test]
    fn axes_of_few_rows_are_those_of_their_covariance() {
        let mut rng = Seed(3).rng();
        for (n, width) in [(1, 4), (12, 30), (40, 150), (40, 7)] {
            let rows = Array2::from_shape_fn((n, width), |_| rng.gen_range(-1.0_f32..2.0));
            let (mean, covariance) = moments(rows.view());
            let found = axes_of_rows(rows.view()).unwrap();
            let RowAxes {
                variances, axes, ..
            } = &found;
            assert!((found.total - covariance.diag().sum()).abs() < 1e-9);
            assert!((&found.mean - &mean).iter().all(|off| off.abs() < 1e-9));
            let back = axes
                .t()
                .dot(&(axes * &variances.clone().insert_axis(Axis(1))));
            let worst = (&back - &covariance).fold(0.0, |w: f64, v| w.max(v.abs()));
            assert!(worst < 1e-6, "{n} rows of {width}: off by {worst}");
            assert!(axes.nrows() < n.max(2) || n > width);
        }
    }

    /// A covariance of `rank` directions that count, and noise in all others.
    fn wide(width: usize, rank: usize, noise: f64) -> Array2<f64> {
        let mut rng = Seed(5).rng();
        let factor = Array2::from_shape_fn((width, rank), |(_, j)| {
            rng.gen_range(-1.0..1.0) * 0.9_f64.powi(j as i32)
        });
        let mut matrix = factor.dot(&factor.t());
        matrix.diag_mut().mapv_inplace(|value| value + noise);
        matrix
    }

    #[test]
    fn the_leading_axes_are_found_by_themselves() {
        // The second is of less rank than axes are looked for.
        for noise in [0.01, 0.0] {
            let matrix = wide(150, 20, noise);
            let (all, _) = principal_axes(matrix.view()).unwrap();
            let (variances, axes) = leading_axes(matrix.view(), 40).unwrap();
            let expected = if noise > 0.0 { 40 } else { 20 };
            assert_eq!((variances.len(), axes.dim()), (expected, (expected, 150)));
            for (found, exact) in variances.iter().zip(&all).take(20) {
                assert!((found / exact - 1.0).abs() < 1e-6, "{found} {exact}");
            }
            let rest = matrix.dot(&axes.t()) - &axes.t() * &variances;
            let off = rest.fold(0.0_f64, |w, v| w.max(v.abs()));
            assert!(off < 1e-3, "{off}");
            assert_eq!(leading_axes(matrix.view(), 40).unwrap().1, axes);
        }
    }

    #[test]
    fn a_wide_matrix_has_its_leading_axes_and_the_whole_variance() {
        let matrix = wide(WIDE + 1, 20, 0.1);
        let (variances, axes, total) = most_of(matrix.view()).unwrap();
        assert_eq!(axes.dim(), (WIDE_AXES, WIDE + 1));
        assert!((total - matrix.diag().sum()).abs() < 1e-9 && variances.sum() < 0.999 * total);
    }

    #[test]
    fn axes_reproduce_covariances_of_many_widths_and_ranks() {
        for (width, rank) in [
            (1, 1),
            (2, 2),
            (9, 4),
            (38, 38),
            (60, 20),
            (190, 40),
            (130, 130),
        ] {
            let mut rng = Seed(width as u64).rng();
            let factor = Array2::from_shape_fn((width, rank), |(_, j)| {
                rng.gen_range(-1.0..1.0) * 0.8f64.powi(j as i32)
            });
            let covariance = factor.dot(&factor.t());
            let (variances, axes) = principal_axes(covariance.view()).unwrap();
            let back = axes.t().dot(&(&axes * &variances.insert_axis(Axis(1))));
            let trace = covariance.diag().sum();
            let worst = (&back - &covariance).fold(0.0, |w: f64, v| w.max(v.abs()));
            assert!(
                worst < 1e-6 * trace,
                "width {width}, rank {rank}: off by {worst}"
            );
        }
    }
}
