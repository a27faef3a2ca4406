//! The default: a pool of kinds that fail in different ways, chosen and combined without labels.
//!
//! On **plain records** (W = 1): four members that look at the whole (distance from the centre, isolation forest, empirical tails,
//! histograms), and three that look at the neighbourhood, each robust in another way to faults among the training rows: random
//! samples too small to hold many of them; a sample that the first four have trimmed; and an untrimmed one, for data without
//! faults. A variational autoencoder on normal scores, its training rows trimmed by the same four, knows how inputs go together, which
//! none of the others does; it counts twice. Measures are tail probabilities.
//!
//! On **windows** (W > 1): principal components of the newest quarter, half and whole of the window, so that both short and long
//! faults show against what normally moves together, and, at half weight, the distance of the newest record from the centre.
//! Measures are multiples of the 99 % quantile, because how far a residual exceeds normal is worth knowing there.
//!
//! docs/quality.md has what each is worth, by ablation.

use ndarray::{Array1, Array2, ArrayView2};

use super::artefact::{ArtefactError, Tensors};
use super::ensemble::Ensemble;
use super::spec::{Combine, ModelSpec};
use super::{FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// The pool for plain records.
const RECORDS: &[&str] = &[
    "robust_z",
    "iforest",
    "ecod",
    "hbos",
    "bagged_nn",
    "knn:trim=0",
    "knn:gauss:trim=0.2",
    "vae:gauss:trim=0.1:weight=2",
];

/// An [`Ensemble`] whose members and rule follow from the window.
#[derive(Debug)]
pub struct Auto(Ensemble);

impl Auto {
    /// Fits the pool.
    ///
    /// # Errors
    /// As the members' own fits.
    pub fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let (members, combine) = pool(spec.window);
        Ensemble::fit(
            &ModelSpec {
                members,
                combine,
                ..spec.clone()
            },
            data,
            seed,
            monitor,
        )
        .map(Self)
    }

    /// Reads back what [`Kind::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent or of another shape.
    pub fn load(from: &Tensors) -> Result<Self, ArtefactError> {
        Ensemble::load(from).map(Self)
    }
}

/// The members for a window of so many records, and how they are combined.
pub fn pool(window: usize) -> (Vec<String>, Combine) {
    if window <= 1 {
        return (
            RECORDS.iter().map(ToString::to_string).collect(),
            Combine::Tail,
        );
    }
    let mut lengths = vec![window.div_ceil(4), window.div_ceil(2), window];
    lengths.dedup();
    let mut members: Vec<String> = lengths
        .iter()
        .map(|last| format!("pca:last={last}"))
        .collect();
    members.push("robust_z:last=1:weight=0.5".to_owned());
    (members, Combine::Quantile)
}

impl Kind for Auto {
    fn width(&self) -> usize {
        self.0.width()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.0.score(rows, seeds)
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.0.expected(rows)
    }

    fn reconstructs(&self) -> bool {
        self.0.reconstructs()
    }

    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.0.contributions(rows)
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        self.0.code(rows)
    }

    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        self.0.sample(n, seed, truncation)
    }

    fn save(&self, to: &mut Tensors) {
        self.0.save(to);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_kind;
    use super::*;

    #[test]
    fn the_pool_follows_the_window() {
        assert_eq!(pool(1).0.len(), RECORDS.len());
        assert_eq!(
            pool(20).0,
            [
                "pca:last=5",
                "pca:last=10",
                "pca:last=20",
                "robust_z:last=1:weight=0.5"
            ]
        );
        assert_eq!(
            pool(2).0,
            ["pca:last=1", "pca:last=2", "robust_z:last=1:weight=0.5"]
        );
    }

    #[test]
    fn behaves_as_a_kind_on_records_and_windows() {
        let spec = ModelSpec {
            kind: "auto".to_owned(),
            trees: 50,
            ..ModelSpec::default()
        };
        check_kind(&spec, 0.9);
        check_kind(&ModelSpec { window: 3, ..spec }, 0.9);
    }
}
