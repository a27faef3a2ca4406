//! The kinds that stand by themselves. A new one is a file that implements [`Kind`](super::Kind) and [`Build`](super::Build), its `mod` line, and an entry in [`SIMPLE`].

pub mod autoencoder;
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
mod samples;
pub mod vae;

use super::kind::{KindEntry, Kinds, Trait};

/// The kinds that an ensemble may have as members.
pub static SIMPLE: Kinds = Kinds(&[ENTRIES]);

/// Those of [`SIMPLE`], in the order in which they are listed to people.
pub const ENTRIES: &[KindEntry] = &[
    // Principal components: the best linear autoencoder, the line to beat.
    KindEntry::of::<pca::Pca>("pca", &[Trait::Draws]),
    // An autoencoder, dense or convolutional: plain, sparse, denoising, contractive.
    KindEntry::of::<autoencoder::Autoencoder>(
        "autoencoder",
        &[Trait::Validates, Trait::Descends, Trait::Draws],
    ),
    // A variational autoencoder: a density, and a source of synthetic rows.
    KindEntry::of::<vae::Vae>("vae", &[Trait::Validates, Trait::Descends, Trait::Draws]),
    // A generative adversarial network, dense or style-based: critics that tell real rows from generated ones.
    KindEntry::of::<gan::Gan>("gan", &[Trait::Validates, Trait::Descends, Trait::Draws]),
    // A mixture of Gaussians on principal components.
    KindEntry::of::<gmm::Gmm>("gmm", &[Trait::Validates]),
    // Robust z-score per input: the plainest model there is.
    KindEntry::of::<robust_z::RobustZ>("robust_z", &[]),
    // Isolation forest.
    KindEntry::of::<iforest::IForest>("iforest", &[]),
    // Empirical tails per input.
    KindEntry::of::<ecod::Ecod>("ecod", &[]),
    // Histograms per input.
    KindEntry::of::<hbos::Hbos>("hbos", &[]),
    // Distance to the k-th nearest training row.
    KindEntry::of::<knn::Knn>("knn", &[Trait::Remembers]),
    // The gap to the nearest group of training rows that is large enough to be normal.
    KindEntry::of::<linkage::Linkage>("linkage", &[Trait::Remembers]),
];
