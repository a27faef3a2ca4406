//! How far a row is from belonging to a group that is large enough to be normal: the height at which single linkage joins it.
//!
//! The distance to the nearest training rows finds most where these are clean, and is blind to a fault that was trained on, because
//! the fault's rows are each other's neighbours. Cutting off what others find strange makes up for that, but cuts off rare normal
//! rows too. Here a group of few rows counts as normal only at the length of the gap that it would have to cross to join the rest:
//! the rows of a fault sit together beside a gap, while rare normal rows trail off from the others by small steps. Distances are
//! mutual reachabilities, so that no single row bridges a gap.
//!
//! Single linkage: Gower and Ross, "Minimum Spanning Trees and Single Linkage Cluster Analysis", Applied Statistics 18, 1969; with
//! mutual reachability: Campello, Moulavi and Sander, "Density-Based Clustering Based on Hierarchical Density Estimates", PAKDD
//! 2013, and, as an outlier score by the group that a point leaves, Campello, Moulavi, Zimek and Sander, TKDD 10, 2015 (GLOSH).

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::index;

use crate::model::kinds::near::{References, mean_of_nearest, squared_distance};
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// A group with less than this share of the rows is not normal by itself.
const SHARE: f64 = 0.1;

/// Rows of which all pairs' bounds are kept while the tree grows: 50 MB.
const BOUNDED_ROWS_MAX: usize = 5000;

/// Steps of the tree between two looks at the monitor.
const LOOK_EVERY: usize = 512;

/// Training rows, and what joining each of them costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Linkage {
    neighbours: usize,
    /// What inputs are divided by, at least 1: a heavy-tailed input, which varies by more than the unit that most of its values keep to,
    /// must not outweigh the others in every distance.
    spread: Array1<f32>,
    /// `m × width`, divided.
    references: References,
    /// The squared height at which each reference is in a group of [`SHARE`] of them, m.
    heights: Array1<f32>,
}

impl Linkage {
    /// The least height at which each row is in a large group: it must reach a reference, as that reference must the group, and have
    /// `neighbours` of them near.
    fn height(&self, rows: ArrayView2<'_, f32>, skip_self: bool) -> Array1<f32> {
        let rows = &rows / &self.spread;
        let heights = self.heights.as_slice().unwrap_or_default();
        Array1::from(self.references.each(rows.view(), |row| {
            let (core, joined) = row.joining(self.neighbours, heights, skip_self);
            core.map_or(joined, |core| joined.max(core)).sqrt()
        }))
    }
}

impl Build for Linkage {
    /// Draws at most `reference_rows` of the training rows and grows their minimum spanning tree.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or the monitor says stop.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let rows = data.rows("linkage", 2)?;
        let mut rng = seed.child("references").rng();
        let mut drawn = index::sample(&mut rng, rows, spec.knn.reference_rows.min(rows)).into_vec();
        drawn.sort_unstable();
        let spread = data.train.std_axis(Axis(0), 0.0).mapv(|s| s.max(1.0));
        let references = References::new(data.train.select(Axis(0), &drawn) / &spread);
        let neighbours = spec.knn.neighbours.min(drawn.len() - 1);
        let (cores, bounds) = cores(&references, neighbours);
        let edges = spanning_tree(references.rows(), (&cores, &bounds), monitor)?;
        drop(bounds);
        let enough = (SHARE * drawn.len() as f64).ceil() as usize;
        let heights = heights(edges, drawn.len(), enough);
        Ok(Self {
            neighbours,
            spread,
            references,
            heights: heights
                .iter()
                .zip(&cores)
                .map(|(height, core)| height.max(*core))
                .collect(),
        })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let model = Self {
            neighbours: from.get("neighbours")?,
            spread: from.get1("spread")?,
            references: References::new(from.get2("references")?),
            heights: from.get1("heights")?,
        };
        let (rows, width) = model.references.rows().dim();
        let whole = (model.heights.len(), model.spread.len()) == (rows, width);
        if whole && (1..=rows).contains(&model.neighbours) {
            Ok(model)
        } else {
            Err(ModelFileError::Invalid(
                "linkage's tensors do not fit together".to_owned(),
            ))
        }
    }
}

/// The squared distance of each row to the k-th nearest of the others, and lower bounds of all squared distances: the upper halves of these
/// numbers, which are not above them. None where they are too many.
fn cores(rows: &References, k: usize) -> (Vec<f32>, Vec<u16>) {
    let mut bounds = Vec::new();
    let kept = rows.len() <= BOUNDED_ROWS_MAX;
    let cores = rows.each(rows.rows(), |row| {
        if kept {
            let halves = row.bounds().iter().map(|b| b.max(0.0).to_bits() >> 16);
            bounds.extend(halves.map(|half| half as u16));
        }
        // The row itself is the nearest.
        row.nearest(k + 1).last().map_or(0.0, |found| found.0)
    });
    (cores, bounds)
}

/// An edge of a tree over rows: squared length, and the rows that it joins.
type Edge = (f32, usize, usize);

/// The minimum spanning tree under mutual reachability, by Prim's algorithm: quadratic in the rows.
fn spanning_tree(
    rows: ArrayView2<'_, f32>,
    (cores, bounds): (&[f32], &[u16]),
    monitor: &mut dyn Monitor,
) -> Result<Vec<Edge>, FitError> {
    let whole = rows.as_standard_layout();
    let row = |at: usize| {
        let width = whole.ncols();
        whole
            .as_slice()
            .unwrap_or_default()
            .get(at * width..(at + 1) * width)
            .unwrap_or_default()
    };
    // Rows outside of the tree, with the shortest edge that leads there.
    let mut outside: Vec<Edge> = (1..rows.nrows()).map(|at| (f32::INFINITY, 0, at)).collect();
    let mut tree = Vec::with_capacity(outside.len());
    let mut newest = 0;
    while !outside.is_empty() {
        let bounds = bounds.get(newest * rows.nrows()..).unwrap_or_default();
        let mut next = 0;
        for at in 0..outside.len() {
            let (length, _, to) = outside[at];
            let bound = bounds.get(to).map_or(0, |&half| u32::from(half) << 16);
            let least = cores[newest].max(cores[to]).max(f32::from_bits(bound));
            if least < length {
                let square = least.max(squared_distance(row(newest), row(to)));
                if square < length {
                    outside[at] = (square, newest, to);
                }
            }
            if outside[at].0 < outside[next].0 {
                next = at;
            }
        }
        let edge = outside.swap_remove(next);
        newest = edge.2;
        tree.push(edge);
        if tree.len().is_multiple_of(LOOK_EVERY) {
            monitor.step(tree.len() / LOOK_EVERY, 0.0, 0.0)?;
        }
    }
    Ok(tree)
}

/// For each of n rows the length of the edge by which it comes into a group of `enough` rows, shortest edges first.
fn heights(mut edges: Vec<Edge>, n: usize, enough: usize) -> Vec<f32> {
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut heights = vec![0.0; n];
    let mut group: Vec<usize> = (0..n).collect();
    let mut members: Vec<Vec<usize>> = (0..n).map(|row| vec![row]).collect();
    for (length, a, b) in edges {
        let (mut large, mut small) = (group[a], group[b]);
        if members[large].len() < members[small].len() {
            (large, small) = (small, large);
        }
        let joining = std::mem::take(&mut members[small]);
        if members[large].len() + joining.len() >= enough {
            for group in [&joining, &members[large]] {
                if group.len() < enough {
                    for &row in group {
                        heights[row] = length;
                    }
                }
            }
        }
        for &row in &joining {
            group[row] = large;
        }
        members[large].extend(joining);
    }
    heights
}

impl Kind for Linkage {
    fn width(&self) -> usize {
        self.references.rows().ncols()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.height(rows, false)
    }

    fn score_training(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        self.height(rows, true)
    }

    /// The mean of the k nearest.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let rows = &rows / &self.spread;
        mean_of_nearest(&self.references, rows.view(), self.neighbours) * &self.spread
    }

    fn save(&self, to: &mut Tensors) {
        to.set("neighbours", &self.neighbours);
        to.put1("spread", self.spread.view());
        to.put2("references", self.references.rows());
        to.put1("heights", self.heights.view());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unwatched;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    fn spec() -> ModelSpec {
        of_kind("linkage")
    }

    fn tree(references: &References, k: usize) -> Vec<Edge> {
        let (cores, bounds) = cores(references, k);
        spanning_tree(references.rows(), (&cores, &bounds), &mut Unwatched).unwrap()
    }

    #[test]
    fn worked_by_hand() {
        // On a line: 0 1 2 3 | 10 11. Groups of three are enough: the right pair needs the gap of 7 for that.
        let rows = array![[0.0f32], [1.0], [2.0], [3.0], [10.0], [11.0]];
        let references = References::new(rows);
        let edges = tree(&references, 1);
        let heights = heights(edges, 6, 3);
        assert_eq!(heights, vec![1.0, 1.0, 1.0, 1.0, 49.0, 49.0]);
        let model = Linkage {
            neighbours: 1,
            spread: array![1.0],
            references,
            heights: Array1::from(heights),
        };
        // Beside the large group; beside the pair, which does not help; between both.
        let scores = model.score(array![[5.0f32], [10.5], [-0.5]].view(), &[]);
        assert_eq!(scores, array![2.0, 7.0, 1.0]);
        // A row of the training set does not meet itself.
        let own = model.score_training(array![[10.0f32], [3.0]].view(), &[]);
        assert_eq!(own, array![7.0, 1.0]);
    }

    #[test]
    fn mutual_reachability_by_hand() {
        // The second nearest of 0 is 3 away, of 1 and 3 two; so each edge is at least that long.
        let rows = array![[0.0f32], [1.0], [3.0]];
        let references = References::new(rows);
        assert_eq!(cores(&references, 2).0, vec![9.0, 4.0, 9.0]);
        assert_eq!(tree(&references, 2), vec![(9.0, 0, 1), (9.0, 0, 2)]);
    }

    #[test]
    fn a_tree_with_bounds_is_the_tree_without() {
        for k in [1, 5] {
            let references = References::new(crate::model::testing::fit_data(6).train);
            let (cores, bounds) = cores(&references, k);
            let with = spanning_tree(references.rows(), (&cores, &bounds), &mut Unwatched).unwrap();
            let without = spanning_tree(references.rows(), (&cores, &[]), &mut Unwatched).unwrap();
            assert_eq!(with, without);
        }
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&spec(), 0.9);
    }

    #[test]
    fn a_fault_that_was_trained_on_stays_strange() {
        let mut data = crate::model::testing::fit_data(6);
        for row in 0..24 {
            data.train.row_mut(row * 25).fill(8.0 + row as f32 / 100.0);
        }
        let fault = Array2::from_elem((1, 6), 8.1);
        let model = Linkage::fit(&spec(), &data, Seed(3), &mut Unwatched).unwrap();
        let normal = model.score(data.validation.view(), &[]);
        let most = normal.fold(0.0f32, |a, &b| a.max(b));
        let score = model.score(fault.view(), &[])[0];
        assert!(score > 2.0 * most, "{score} beside {most}");
    }
}
