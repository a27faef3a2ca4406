//! Products of rows with weights that stay, laid out once for the processor at hand.
//!
//! A row's result is the same bits alone or among others, and however many outputs are asked for with it: each number is one chain of additions, input after
//! input, from 0 (or from what was there) on. Multiplying and adding is one operation with one rounding where the processor has it (FMA), as in most products
//! of matrices, so the last bits differ between processors with and without.
//!
//! Tiles as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008): some rows by some vectors of outputs stay in registers.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use pulp::{Arch, Simd, WithSimd};

/// Vectors of outputs that are added up side by side: with [`ROWS`] and the inputs' they fill the registers.
const VECTORS: usize = 3;

/// Rows that are added up side by side, with sixteen registers and with thirty-two.
const ROWS: (usize, usize) = (4, 8);

/// Inputs between two looks at whether rows are long enough.
const STEPS: usize = 8;

/// Weights, `inputs × outputs`, in the order in which a product reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    inputs: usize,
    outputs: usize,
    /// Outputs with zeros up to a whole vector.
    padded: usize,
    /// Panels of up to [`VECTORS`] vectors of outputs, each `inputs × its outputs`.
    panels: Vec<f32>,
}

/// Rows of numbers, some more at the end of each than belong to it.
#[derive(Debug, Default)]
pub struct Products {
    values: Vec<f32>,
    rows: usize,
    outputs: usize,
    padded: usize,
}

impl Weights {
    /// Lays out `inputs × outputs` numbers.
    pub fn new(weights: ArrayView2<'_, f32>) -> Self {
        let (inputs, outputs) = weights.dim();
        let lanes = Arch::new().dispatch(Lanes);
        let padded = outputs.next_multiple_of(lanes);
        let mut panels = Vec::with_capacity(inputs * padded);
        for panel in (0..padded).step_by(VECTORS * lanes) {
            let columns = panel..(panel + VECTORS * lanes).min(padded);
            for row in weights.rows() {
                let padded = |column| row.get(column).copied().unwrap_or(0.0);
                panels.extend(columns.clone().map(padded));
            }
        }
        Self {
            inputs,
            outputs,
            padded,
            panels,
        }
    }

    /// None, of no inputs.
    pub fn none() -> Self {
        Self::new(ArrayView2::from(&[[0.0; 0]; 0]))
    }

    /// Puts the product of rows, `n × inputs`, with them in the place of what is in `to`.
    ///
    /// # Panics
    /// If rows have another number of inputs.
    pub fn put(&self, rows: ArrayView2<'_, f32>, to: &mut Products) {
        assert_eq!(rows.ncols(), self.inputs, "as many inputs");
        let copied;
        let lines: Option<Vec<&[f32]>> = rows.rows().into_iter().map(|r| r.to_slice()).collect();
        let lines = match lines {
            Some(lines) => lines,
            None => {
                copied = rows.iter().copied().collect::<Vec<f32>>();
                copied.chunks(self.inputs).collect()
            }
        };
        self.multiply(&lines, 0..self.inputs, to, false);
    }

    /// Puts the product of the first inputs of rows with the weights of those inputs in the place of what is in `to`.
    ///
    /// # Panics
    /// If rows or weights have fewer inputs.
    pub fn put_first(&self, inputs: usize, rows: &Products, to: &mut Products) {
        self.multiply(&rows.lines(), 0..inputs, to, false);
    }

    /// Adds the product of a range of rows' inputs with the weights of those inputs. After products of the inputs before, the bits are those of one product of all.
    ///
    /// # Panics
    /// If rows or weights have fewer inputs, or `to` is not of as many rows and of such weights.
    pub fn go_on(&self, inputs: Range<usize>, rows: &Products, to: &mut Products) {
        assert_eq!((to.rows, to.padded), (rows.rows, self.padded));
        self.multiply(&rows.lines(), inputs, to, true);
    }

    fn multiply(&self, rows: &[&[f32]], inputs: Range<usize>, to: &mut Products, onto: bool) {
        assert!(inputs.end <= self.inputs, "as many inputs");
        if !onto {
            (to.rows, to.outputs, to.padded) = (rows.len(), self.outputs, self.padded);
            to.values.resize(rows.len() * self.padded, 0.0);
        }
        Arch::new().dispatch(Product {
            weights: self,
            rows,
            inputs,
            out: &mut to.values,
            onto,
        });
    }
}

impl Products {
    /// How many rows there are.
    pub fn nrows(&self) -> usize {
        self.rows
    }

    /// One row of them.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.padded..][..self.outputs]
    }

    fn lines(&self) -> Vec<&[f32]> {
        (0..self.rows).map(|row| self.row(row)).collect()
    }

    /// As a matrix.
    pub fn to_matrix(&self) -> Array2<f32> {
        Array2::from_shape_fn((self.nrows(), self.outputs), |(row, column)| {
            self.row(row)[column]
        })
    }
}

/// How many numbers a vector has.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Puts a product in the place of what is in `out`, `rows × padded`, or adds it to that.
struct Product<'a> {
    weights: &'a Weights,
    rows: &'a [&'a [f32]],
    inputs: Range<usize>,
    out: &'a mut [f32],
    onto: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT < 32 {
            self.by_panel::<S, { ROWS.0 }>(simd);
        } else {
            self.by_panel::<S, { ROWS.1 }>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn by_panel<S: Simd, const R: usize>(mut self, simd: S) {
        let Weights { inputs, padded, .. } = *self.weights;
        let rest = padded % (VECTORS * S::F32_LANES);
        for first in (0..padded - rest).step_by(VECTORS * S::F32_LANES) {
            self.panel::<S, R, VECTORS>(simd, inputs * first, first);
        }
        let first = padded - rest;
        match rest / S::F32_LANES {
            0 => {}
            1 => self.panel::<S, R, 1>(simd, inputs * first, first),
            _ => self.panel::<S, R, 2>(simd, inputs * first, first),
        }
    }

    /// The outputs from `first` on, V vectors of them, whose weights begin at `begin`.
    #[inline(always)]
    fn panel<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        begin: usize,
        first: usize,
    ) {
        let width = V * S::F32_LANES;
        let panel = &self.weights.panels[begin..][..self.weights.inputs * width];
        let panel = &panel[self.inputs.start * width..self.inputs.end * width];
        let weights = S::as_simd_f32s(panel).0.as_chunks::<V>().0;
        let out = self.out.chunks_mut(R * self.weights.padded);
        for (rows, out) in self.rows.chunks(R).zip(out) {
            // Where there are fewer rows than R, the last is taken again, and nothing is written of it.
            let mut inputs: [&[f32]; R] = [&[]; R];
            let mut sums = [[simd.splat_f32s(0.0); V]; R];
            for row in 0..R {
                inputs[row] = &rows[row.min(rows.len() - 1)][self.inputs.clone()];
            }
            let places = out.chunks(self.weights.padded);
            for (sums, place) in sums.iter_mut().zip(places).filter(|_| self.onto) {
                let before = S::as_simd_f32s(&place[first..first + width]).0;
                sums.copy_from_slice(before);
            }
            let sums = add_up::<S, R, V>(simd, weights, inputs, sums);
            let places = out.chunks_mut(self.weights.padded);
            for (sums, place) in sums.iter().zip(places) {
                let after = S::as_mut_simd_f32s(&mut place[first..first + width]).0;
                after.copy_from_slice(sums);
            }
        }
    }
}

/// Adds the product of R rows with V vectors of weights an input. Sums are handed over by value, or the compiler keeps them in memory.
#[inline(always)]
fn add_up<S: Simd, const R: usize, const V: usize>(
    simd: S,
    weights: &[[S::f32s; V]],
    rows: [&[f32]; R],
    mut sums: [[S::f32s; V]; R],
) -> [[S::f32s; V]; R] {
    let (blocks, rest) = weights.as_chunks::<STEPS>();
    for (block, weights) in blocks.iter().enumerate() {
        let mut values = [&[0.0; STEPS]; R];
        for row in 0..R {
            values[row] = super::block(rows[row], block * STEPS);
        }
        for step in 0..STEPS {
            for row in 0..R {
                let value = simd.splat_f32s(values[row][step]);
                for v in 0..V {
                    sums[row][v] = simd.mul_add_e_f32s(value, weights[step][v], sums[row][v]);
                }
            }
        }
    }
    for (step, weights) in rest.iter().enumerate() {
        for row in 0..R {
            let value = simd.splat_f32s(rows[row][blocks.len() * STEPS + step]);
            for v in 0..V {
                sums[row][v] = simd.mul_add_e_f32s(value, weights[v], sums[row][v]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use ndarray::Axis;
    use rand::Rng;

    fn numbers(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut rng = Seed(seed).rng();
        Array2::from_shape_simple_fn((rows, columns), || rng.gen_range(-2.0..2.0))
    }

    fn of(weights: &Weights, rows: ArrayView2<'_, f32>) -> Products {
        let mut products = Products::default();
        weights.put(rows, &mut products);
        products
    }

    /// Inputs and outputs around the sizes of blocks and panels.
    const SHAPES: [(usize, usize); 9] = [
        (1, 1),
        (7, 3),
        (8, 16),
        (9, 17),
        (38, 40),
        (114, 48),
        (190, 49),
        (23, 95),
        (40, 101),
    ];

    #[test]
    fn products_are_those_added_one_by_one() {
        for (seed, (inputs, outputs)) in SHAPES.into_iter().enumerate() {
            let weights = numbers(inputs, outputs, seed as u64);
            let rows = numbers(21, inputs, 100 + seed as u64);
            let found = of(&Weights::new(weights.view()), rows.view()).to_matrix();
            let wanted = rows.mapv(f64::from).dot(&weights.mapv(f64::from));
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!(
                    (f64::from(*found) - wanted).abs() < 1e-4,
                    "{found} {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others_wherever_it_lies() {
        for (seed, (inputs, outputs)) in SHAPES.into_iter().enumerate() {
            let weights = Weights::new(numbers(inputs, outputs, seed as u64).view());
            let rows = numbers(21, inputs, 100 + seed as u64);
            let all = of(&weights, rows.view());
            let columns = rows.t().as_standard_layout().into_owned();
            let apart = of(&weights, columns.t());
            for (place, row) in rows.axis_chunks_iter(Axis(0), 1).enumerate() {
                assert_eq!(of(&weights, row).row(0), all.row(place));
                assert_eq!(apart.row(place), all.row(place));
            }
        }
    }

    #[test]
    fn products_of_fewer_outputs_and_in_two_parts_have_the_same_bits() {
        for (seed, (inputs, outputs)) in SHAPES.into_iter().enumerate() {
            let weights = numbers(inputs, outputs, seed as u64);
            let before = Weights::new(numbers(5, inputs, 50).view());
            let rows = of(&before, numbers(21, 5, 100 + seed as u64).view());
            let packed = Weights::new(weights.view());
            let (mut all, mut parts) = (Products::default(), Products::default());
            packed.put_first(inputs, &rows, &mut all);
            let part = inputs / 3;
            packed.put_first(part, &rows, &mut parts);
            packed.go_on(part..inputs, &rows, &mut parts);
            let fewer = outputs.div_ceil(2);
            let left = Weights::new(weights.view().split_at(Axis(1), fewer).0);
            for row in 0..rows.nrows() {
                assert_eq!(parts.row(row), all.row(row));
            }
            // What was there before is gone.
            left.put_first(inputs, &rows, &mut parts);
            for row in 0..rows.nrows() {
                assert_eq!(parts.row(row), &all.row(row)[..fewer]);
            }
        }
    }

    #[test]
    fn there_may_be_nothing_to_multiply() {
        for (n, inputs, outputs) in [(3, 4, 0), (3, 0, 4), (0, 4, 4)] {
            let weights = Weights::new(numbers(inputs, outputs, 1).view());
            let products = of(&weights, numbers(n, inputs, 2).view()).to_matrix();
            assert_eq!(products.dim(), (n, outputs));
            assert!(products.iter().all(|&product| product == 0.0));
        }
    }
}
