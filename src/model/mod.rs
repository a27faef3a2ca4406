//! Models: what a record, or a window of records, normally looks like.
//!
//! A new kind is one file that implements [`Kind`] and one line in [`kinds!`](self)'s list below. Pure: no I/O, no clock; all
//! randomness comes from a [`Seed`]. There is one scoring path, through two-dimensional products, because only that gives a row
//! the same bits in any batch.

pub mod artefact;
pub mod card;
mod chunks;
pub mod context;
mod dependence;
mod epochs;
pub mod gaps;
pub mod golden;
pub mod held;
mod linalg;
mod marginals;
mod measure;
pub mod member;
mod near;
mod net_file;
pub mod options;
pub mod ranks;
pub mod reservoir;
mod residual;
pub mod scale;
pub mod sensors;
pub mod spec;
#[cfg(test)]
mod testing;
pub mod trained;

use std::fmt;
use std::ops::ControlFlow;

use ndarray::{Array1, Array2, ArrayView2};

use crate::seed::Seed;
use artefact::{ArtefactError, Tensors};
use spec::ModelSpec;

/// What every kind of model can do once it is fitted. Inputs are scaled rows, `n × width` in f32, finite (missing values were
/// filled in by [`trained::TrainedModel`]). Results are finite.
pub trait Kind: fmt::Debug + Send + Sync {
    /// Inputs a row: W · D, window length times feature columns, oldest record first.
    fn width(&self) -> usize;

    /// How strange each row is: higher is stranger. Length n. `seeds` has one seed a row, fixed by the record, for kinds that
    /// sample; the score of a row depends on nothing but the row and its seed.
    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32>;

    /// Whether [`Self::score`] takes rows that lie apart in memory, each of them in one piece, and gives them the same bits.
    fn takes_rows_apart(&self) -> bool {
        false
    }

    /// As [`Self::score`], for rows that the model was fitted on. A kind that [`Trait::Remembers`] rows does not let one meet itself: a
    /// remembered row that equals it, if there is one, is left out once.
    fn score_training(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.score(rows, seeds)
    }

    /// What the model would have expected in place of each row: `n × width`, in scaled units.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32>;

    /// Whether [`Self::expected`] looks at the row: `false` for kinds that expect the centre of everything.
    fn reconstructs(&self) -> bool {
        true
    }

    /// How much each input adds to the strangeness of its row: `n × width`, none negative. The default is the squared residual.
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut residual = &rows - &self.expected(rows);
        residual.mapv_inplace(|value| value * value);
        residual
    }

    /// The code of each row (`n × code`), for kinds that have one.
    fn code(&self, _rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        None
    }

    /// `n` synthetic normal rows (`n × width`, scaled units), for generative kinds. `truncation` is the ψ of style-based
    /// generators: 1 draws from the whole distribution, towards 0 from its centre.
    fn sample(&self, _n: usize, _seed: Seed, _truncation: f32) -> Option<Array2<f32>> {
        None
    }

    /// What a kind that is made of others consists of, as `model.members` would have it; nothing for the others.
    fn members(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes weights and settings; the kind's `load` reads them back to a model that scores bit for bit the same.
    fn save(&self, to: &mut Tensors);
}

/// Rows to learn from, scaled, `n × width`, finite. `validation` is later than `train` and never fitted on: early stopping.
#[derive(Clone, Debug)]
pub struct FitData {
    /// Rows that weights are fitted on.
    pub train: Array2<f32>,
    /// Rows that only measure.
    pub validation: Array2<f32>,
}

/// Looks on while a model is fitted: progress, the losses of the card, and cancelling.
pub trait Monitor {
    /// Called after each epoch (or step, for kinds without epochs) with mean losses; `Break` ends the fit with
    /// [`FitError::Cancelled`].
    fn epoch(&mut self, epoch: usize, train_loss: f64, validation_loss: f64) -> ControlFlow<()>;

    /// Called by a kind that is made of others before it fits each of them: the epochs that follow are that member's.
    fn member(&mut self, _name: &str) {}
}

/// A monitor that does not look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Monitor for Unwatched {
    fn epoch(&mut self, _: usize, _: f64, _: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Why a model could not be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// The monitor said stop.
    #[error("training was cancelled")]
    Cancelled,
    /// Too few rows for this kind.
    #[error("{kind} needs at least {needed} training rows, but has {rows}")]
    TooFewRows {
        /// The kind's name.
        kind: &'static str,
        /// Rows needed.
        needed: usize,
        /// Rows there are.
        rows: usize,
    },
    /// A weight or loss became infinite or NaN.
    #[error("{what} is not finite")]
    NotFinite {
        /// What.
        what: String,
    },
    /// A library refused.
    #[error("{0}")]
    Library(String),
}

/// What sets a kind apart from others, before one is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// It needs rows that it does not learn from: to know when to stop, or how large to be.
    Validates,
    /// It learns epoch by epoch, with losses that fall.
    Descends,
    /// It can [`Kind::sample`].
    Draws,
    /// It keeps training rows: what it says of these is not what it says of others.
    Remembers,
    /// It is made of other kinds, and has of their traits what they have.
    Combines,
}

/// Lists the kinds, once: the enum, its names in the configuration, traits, fitting, loading, and the view as a [`Kind`].
macro_rules! kinds {
    ($( $(#[$doc:meta])* $variant:ident = $module:ident :: $type:ident, $name:literal, [$($trait:ident),*]; )+) => {
        $( pub mod $module; )+

        /// A fitted model of one of the kinds.
        #[derive(Debug)]
        pub enum Model { $( $(#[$doc])* $variant($module::$type), )+ }

        /// The names of all kinds, as `model.kind` takes them.
        pub const KINDS: &[&str] = &[$($name),+];

        /// What sets each of them apart, in the same order.
        const TRAITS: &[&[Trait]] = &[$(&[$(Trait::$trait),*]),+];

        impl Model {
            /// Fits the kind that `spec.kind` names.
            pub fn fit(spec: &ModelSpec, data: &FitData, seed: Seed, monitor: &mut dyn Monitor) -> Result<Self, FitError> {
                match spec.kind.as_str() {
                    $( $name => $module::$type::fit(spec, data, seed, monitor).map(Self::$variant), )+
                    other => Err(FitError::Library(format!("unknown model kind `{other}`"))),
                }
            }

            /// Reads back what [`Kind::save`] wrote.
            pub fn load(kind: &str, from: &Tensors) -> Result<Self, ArtefactError> {
                match kind {
                    $( $name => $module::$type::load(from).map(Self::$variant), )+
                    other => Err(ArtefactError::Invalid(format!("unknown model kind `{other}`"))),
                }
            }

            /// The kind's name.
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $name, )+ }
            }

            /// The model as what all kinds are.
            pub fn as_kind(&self) -> &dyn Kind {
                match self { $( Self::$variant(model) => model, )+ }
            }
        }
    };
}

/// The kinds that have a trait.
pub fn kinds_with(wanted: Trait) -> Vec<&'static str> {
    let all = KINDS.iter().zip(TRAITS);
    all.filter(|(_, traits)| traits.contains(&wanted))
        .map(|(kind, _)| *kind)
        .collect()
}

kinds! {
    /// Principal components: the best linear autoencoder, the line to beat.
    Pca = pca::Pca, "pca", [Draws];
    /// An autoencoder, dense or convolutional: plain, sparse, denoising, contractive.
    Autoencoder = autoencoder::Autoencoder, "autoencoder", [Validates, Descends, Draws];
    /// A variational autoencoder: a density, and a source of synthetic rows.
    Vae = vae::Vae, "vae", [Validates, Descends, Draws];
    /// A generative adversarial network, dense or style-based: critics that tell real rows from generated ones.
    Gan = gan::Gan, "gan", [Validates, Descends, Draws];
    /// A mixture of Gaussians on principal components.
    Gmm = gmm::Gmm, "gmm", [Validates];
    /// Robust z-score per input: the plainest model there is.
    RobustZ = robust_z::RobustZ, "robust_z", [];
    /// Isolation forest.
    IForest = iforest::IForest, "iforest", [];
    /// Empirical tails per input.
    Ecod = ecod::Ecod, "ecod", [];
    /// Histograms per input.
    Hbos = hbos::Hbos, "hbos", [];
    /// Distance to the k-th nearest training row.
    Knn = knn::Knn, "knn", [Remembers];
    /// Distance to the nearest of a few random training rows, many times.
    BaggedNn = bagged_nn::BaggedNn, "bagged_nn", [Remembers];
    /// The gap to the nearest group of training rows that is large enough to be normal.
    Linkage = linkage::Linkage, "linkage", [Remembers];
    /// Several kinds together.
    Ensemble = ensemble::Ensemble, "ensemble", [Combines];
    /// The pool that is chosen and combined without labels: the default.
    Auto = auto::Auto, "auto", [Combines];
}
