//! The kinds that stand by themselves. A new one is a file that implements [`Kind`], its `mod` line, and an entry in [`SIMPLE`].

pub mod autoencoder;
pub mod bagged_nn;
pub mod ecod;
mod epochs;
pub mod gan;
pub mod gmm;
pub mod hbos;
pub mod iforest;
pub mod knn;
pub mod linkage;
pub(super) mod near;
mod net_file;
pub mod pca;
pub mod robust_z;
pub mod vae;

use super::kind::{Kind, KindEntry, Kinds, Trait};

/// The kinds that an ensemble may have as members.
pub static SIMPLE: Kinds = Kinds(&[ENTRIES]);

/// Those of [`SIMPLE`], in the order in which they are listed to people.
pub const ENTRIES: &[KindEntry] = &[
    // Principal components: the best linear autoencoder, the line to beat.
    KindEntry {
        name: "pca",
        traits: &[Trait::Draws],
        fit: |spec, data, seed, monitor| boxed(pca::Pca::fit(spec, data, seed, monitor)),
        load: |from| boxed(pca::Pca::load(from)),
    },
    // An autoencoder, dense or convolutional: plain, sparse, denoising, contractive.
    KindEntry {
        name: "autoencoder",
        traits: &[Trait::Validates, Trait::Descends, Trait::Draws],
        fit: |spec, data, seed, monitor| {
            boxed(autoencoder::Autoencoder::fit(spec, data, seed, monitor))
        },
        load: |from| boxed(autoencoder::Autoencoder::load(from)),
    },
    // A variational autoencoder: a density, and a source of synthetic rows.
    KindEntry {
        name: "vae",
        traits: &[Trait::Validates, Trait::Descends, Trait::Draws],
        fit: |spec, data, seed, monitor| boxed(vae::Vae::fit(spec, data, seed, monitor)),
        load: |from| boxed(vae::Vae::load(from)),
    },
    // A generative adversarial network, dense or style-based: critics that tell real rows from generated ones.
    KindEntry {
        name: "gan",
        traits: &[Trait::Validates, Trait::Descends, Trait::Draws],
        fit: |spec, data, seed, monitor| boxed(gan::Gan::fit(spec, data, seed, monitor)),
        load: |from| boxed(gan::Gan::load(from)),
    },
    // A mixture of Gaussians on principal components.
    KindEntry {
        name: "gmm",
        traits: &[Trait::Validates],
        fit: |spec, data, seed, monitor| boxed(gmm::Gmm::fit(spec, data, seed, monitor)),
        load: |from| boxed(gmm::Gmm::load(from)),
    },
    // Robust z-score per input: the plainest model there is.
    KindEntry {
        name: "robust_z",
        traits: &[],
        fit: |spec, data, seed, monitor| boxed(robust_z::RobustZ::fit(spec, data, seed, monitor)),
        load: |from| boxed(robust_z::RobustZ::load(from)),
    },
    // Isolation forest.
    KindEntry {
        name: "iforest",
        traits: &[],
        fit: |spec, data, seed, monitor| boxed(iforest::IForest::fit(spec, data, seed, monitor)),
        load: |from| boxed(iforest::IForest::load(from)),
    },
    // Empirical tails per input.
    KindEntry {
        name: "ecod",
        traits: &[],
        fit: |spec, data, seed, monitor| boxed(ecod::Ecod::fit(spec, data, seed, monitor)),
        load: |from| boxed(ecod::Ecod::load(from)),
    },
    // Histograms per input.
    KindEntry {
        name: "hbos",
        traits: &[],
        fit: |spec, data, seed, monitor| boxed(hbos::Hbos::fit(spec, data, seed, monitor)),
        load: |from| boxed(hbos::Hbos::load(from)),
    },
    // Distance to the k-th nearest training row.
    KindEntry {
        name: "knn",
        traits: &[Trait::Remembers],
        fit: |spec, data, seed, monitor| boxed(knn::Knn::fit(spec, data, seed, monitor)),
        load: |from| boxed(knn::Knn::load(from)),
    },
    // Distance to the nearest of a few random training rows, many times.
    KindEntry {
        name: "bagged_nn",
        traits: &[Trait::Remembers],
        fit: |spec, data, seed, monitor| boxed(bagged_nn::BaggedNn::fit(spec, data, seed, monitor)),
        load: |from| boxed(bagged_nn::BaggedNn::load(from)),
    },
    // The gap to the nearest group of training rows that is large enough to be normal.
    KindEntry {
        name: "linkage",
        traits: &[Trait::Remembers],
        fit: |spec, data, seed, monitor| boxed(linkage::Linkage::fit(spec, data, seed, monitor)),
        load: |from| boxed(linkage::Linkage::load(from)),
    },
];

/// A kind as what all kinds are.
pub(super) fn boxed<K: Kind + 'static, E>(kind: Result<K, E>) -> Result<Box<dyn Kind>, E> {
    kind.map(|kind| Box::new(kind) as Box<dyn Kind>)
}
