//! Isolation forest: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. Trees split at random; what few splits set apart is strange.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// All trees in flat arrays, one element a node, each tree's nodes together and its root first.
#[derive(Clone, Debug, PartialEq)]
pub struct IForest {
    width: usize,
    /// c(ψ): what the mean path length is divided by.
    typical: f32,
    roots: Vec<u32>,
    /// The input that a node splits on.
    input: Vec<u32>,
    /// Rows below it go left.
    threshold: Vec<f32>,
    /// The left child; the right one follows it. 0: a leaf.
    left: Vec<u32>,
    /// Training rows in the node.
    size: Vec<f32>,
}

impl IForest {
    fn grow(&mut self, rows: ArrayView2<'_, f32>, drawn: Vec<usize>, rng: &mut ChaCha8Rng) {
        let depth_max = drawn.len().next_power_of_two().ilog2();
        let root = self.leaf(drawn.len());
        self.roots.push(root as u32);
        let mut open = vec![(root, drawn, 0)];
        while let Some((node, members, depth)) = open.pop() {
            if depth >= depth_max || members.len() < 2 {
                continue;
            }
            let Some((input, threshold)) = split(rows, &members, rng) else {
                continue;
            };
            let (below, above): (Vec<_>, Vec<_>) = members
                .into_iter()
                .partition(|&row| rows[[row, input]] < threshold);
            let left = self.leaf(below.len());
            let right = self.leaf(above.len());
            self.input[node] = input as u32;
            self.threshold[node] = threshold;
            self.left[node] = left as u32;
            open.push((left, below, depth + 1));
            open.push((right, above, depth + 1));
        }
    }

    /// Adds a leaf; it becomes a split when children are set.
    fn leaf(&mut self, size: usize) -> usize {
        self.input.push(0);
        self.threshold.push(0.0);
        self.left.push(0);
        self.size.push(size as f32);
        self.size.len() - 1
    }

    /// Visits the splits on a row's way down one tree, as (input, size before, size after), and returns the size of the leaf.
    fn descend(
        &self,
        root: u32,
        row: ArrayView1<'_, f32>,
        mut visit: impl FnMut(usize, f32, f32),
    ) -> f32 {
        let mut node = root as usize;
        while self.left[node] != 0 {
            let input = self.input[node] as usize;
            let right = usize::from(row[input] >= self.threshold[node]);
            let child = self.left[node] as usize + right;
            visit(input, self.size[node], self.size[child]);
            node = child;
        }
        self.size[node]
    }
}

impl Build for IForest {
    /// Grows `trees` trees, each from `tree_rows` rows drawn without replacement, to a depth of log₂ of that.
    ///
    /// # Errors
    /// If there are fewer than two training rows, or the monitor says stop.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("iforest", 2)?;
        let rows = data.train.view();
        let sample = spec.fixed.tree_rows.min(rows.nrows());
        let mut forest = Self {
            width: rows.ncols(),
            typical: path_beyond(sample as f32).max(f32::MIN_POSITIVE),
            roots: Vec::new(),
            input: Vec::new(),
            threshold: Vec::new(),
            left: Vec::new(),
            size: Vec::new(),
        };
        for tree in 0..spec.fixed.trees {
            let mut rng = seed.nth(tree as u64).rng();
            let drawn = index::sample(&mut rng, rows.nrows(), sample).into_vec();
            forest.grow(rows, drawn, &mut rng);
            if tree % 32 == 31 {
                monitor.step(tree / 32, 0.0, 0.0)?;
            }
        }
        Ok(forest)
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let forest = Self {
            width: from.get("width")?,
            typical: from.get("typical")?,
            roots: from.get("roots")?,
            input: whole(&from.get1("input")?),
            threshold: from.get1("threshold")?.to_vec(),
            left: whole(&from.get1("left")?),
            size: from.get1("size")?.to_vec(),
        };
        let nodes = forest.size.len();
        let sound = [forest.input.len(), forest.threshold.len(), forest.left.len()] == [nodes; 3]
            && forest.roots.iter().all(|&root| (root as usize) < nodes)
            && forest.input.iter().all(|&input| (input as usize) < forest.width)
            // Children come after their parent, so a walk ends.
            && forest.left.iter().enumerate().all(|(node, &left)| {
                left == 0 || (left as usize > node && (left as usize) + 1 < nodes)
            })
            && forest.typical > 0.0;
        if sound {
            Ok(forest)
        } else {
            Err(ModelFileError::Invalid(
                "iforest's nodes are unsound".to_owned(),
            ))
        }
    }
}

/// A random input that varies among the rows, and a random threshold within its range; `None` if none varies.
fn split(
    rows: ArrayView2<'_, f32>,
    members: &[usize],
    rng: &mut ChaCha8Rng,
) -> Option<(usize, f32)> {
    let width = rows.ncols();
    // A few random tries, then whichever comes next: varying inputs are the rule.
    let start = rng.gen_range(0..width);
    let tries = (0..8).map(|_| rng.gen_range(0..width)).collect::<Vec<_>>();
    for input in tries
        .into_iter()
        .chain((0..width).map(|i| (start + i) % width))
    {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &row in members {
            low = low.min(rows[[row, input]]);
            high = high.max(rows[[row, input]]);
        }
        if low < high {
            let threshold = low + rng.r#gen::<f32>() * (high - low);
            // Rounding must not leave a side empty.
            return Some((input, if threshold > low { threshold } else { high }));
        }
    }
    None
}

/// c(n): the mean length of an unsuccessful search in a binary search tree of n: 2 H(n − 1) − 2 (n − 1) / n, with the harmonic number
/// H(i) ≈ ln i + γ.
fn path_beyond(n: f32) -> f32 {
    const EULER: f32 = 0.577_215_7;
    if n > 2.0 {
        2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
    } else if n > 1.0 {
        1.0
    } else {
        0.0
    }
}

/// Small whole numbers from their exact f32 form.
fn whole(values: &Array1<f32>) -> Vec<u32> {
    values.iter().map(|&value| value as u32).collect()
}

impl Kind for IForest {
    fn width(&self) -> usize {
        self.width
    }

    /// 2^(−E[h] / c(ψ)), in (0, 1).
    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        let trees = self.roots.len().max(1) as f32;
        let depth = |row: ArrayView1<'_, f32>| {
            let lengths = self.roots.iter().map(|&root| {
                let mut splits = 0.0;
                let leaf = self.descend(root, row, |_, _, _| splits += 1.0);
                splits + path_beyond(leaf)
            });
            lengths.sum::<f32>() / trees
        };
        rows.rows()
            .into_iter()
            .map(|row| (-depth(row) / self.typical).exp2())
            .collect()
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::zeros(rows.raw_dim())
    }

    fn reconstructs(&self) -> bool {
        false
    }

    /// How much more than half of its company each split on an input took from the row: Σ max(0, log₂(before / after) − 1).
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut shares = Array2::zeros(rows.raw_dim());
        for (row, mut out) in rows.rows().into_iter().zip(shares.rows_mut()) {
            for &root in &self.roots {
                self.descend(root, row, |input, before, after| {
                    out[input] += ((before / after.max(1.0)).log2() - 1.0).max(0.0);
                });
            }
        }
        shares
    }

    fn save(&self, to: &mut Tensors) {
        let exact = |values: &[u32]| -> Array1<f32> { values.iter().map(|&v| v as f32).collect() };
        to.set("width", &self.width);
        to.set("typical", &self.typical);
        to.set("roots", &self.roots);
        to.put1("input", exact(&self.input).view());
        to.put1("threshold", ArrayView1::from(&self.threshold));
        to.put1("left", exact(&self.left).view());
        to.put1("size", ArrayView1::from(&self.size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{check_kind, of_kind};
    use ndarray::array;

    #[test]
    fn path_lengths_by_hand() {
        // The paper's c(2) = 1; c(256) = 2 (ln 255 + 0.5772) − 2 · 255 / 256.
        assert!((path_beyond(1.0) - 0.0).abs() < 1e-6);
        assert!((path_beyond(2.0) - 1.0).abs() < 1e-6);
        assert!((path_beyond(256.0) - 10.244_77).abs() < 1e-3);
    }

    #[test]
    fn a_tree_by_hand() {
        // One split at 0.5 of 4 rows: 3 left, 1 right. Right: h = 1. Left: h = 1 + c(3), c(3) = 2 (ln 2 + γ) − 4/3 = 1.2074.
        let forest = IForest {
            width: 1,
            typical: 2.0,
            roots: vec![0],
            input: vec![0; 3],
            threshold: vec![0.5, 0.0, 0.0],
            left: vec![1, 0, 0],
            size: vec![4.0, 3.0, 1.0],
        };
        let scores = forest.score(array![[0.9f32], [0.1]].view(), &[]);
        assert!((scores[0] - 0.5f32.sqrt()).abs() < 1e-6);
        assert!((scores[1] - (-2.2074f32 / 2.0).exp2()).abs() < 1e-4);
        let shares = forest.contributions(array![[0.9f32], [0.1]].view());
        assert_eq!(shares, array![[1.0], [0.0]]);
    }

    #[test]
    fn behaves_as_a_kind() {
        check_kind(&of_kind("iforest").with(|spec| spec.fixed.trees = 100), 0.8);
    }
}
