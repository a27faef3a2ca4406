//! The default: a pool of kinds that fail in different ways, chosen and combined without labels.
//!
//! On **plain records** (W = 1): four families with an equal say, because no family is best on all data, and which one is cannot be
//! told without labels.
//!
//! 1. What looks at the whole, input by input or nearly so: distance from the centre, isolation forest, empirical tails, histograms.
//! 2. What knows how inputs go together: a variational autoencoder on normal scores, its training rows trimmed by the first family.
//! 3. Neighbours, by single linkage, which a small group of faults among the training rows does not blind: on the inputs as they
//!    are, and on their normal scores, there with a single neighbour.
//! 4. The same neighbours without the rows that the first family finds strangest: for data with many faults.
//!
//! Measures are tail probabilities.
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

/// The pool for plain records: each family's weights sum to 4.
const RECORDS: &[&str] = &[
    "robust_z",
    "iforest",
    "ecod",
    "hbos",
    "vae:gauss:trim=0.1:weight=4",
    "linkage:weight=2",
    "linkage:gauss:neighbours=1:weight=2",
    "linkage:trim=0.1:weight=2",
    "linkage:gauss:neighbours=1:trim=0.1:weight=2",
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

    fn score_training(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.0.score_training(rows, seeds)
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
