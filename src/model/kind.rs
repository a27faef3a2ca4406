//! What every kind of model is: the trait, what it is fitted on, and how it is found by its name.

use std::any::Any;
use std::fmt;
use std::ops::{ControlFlow, Deref};

use ndarray::{Array1, Array2, ArrayView2};

use super::spec::ModelSpec;
use super::tensors::{ModelFileError, Tensors};
use crate::seed::Seed;

/// What every kind of model can do once it is fitted. Inputs are scaled rows, `n × width` in f32, finite (missing values were
/// filled in by [`trained::TrainedModel`]). Results are finite.
pub trait Kind: Any + fmt::Debug + Send + Sync {
    /// Inputs a row: W · D, window length times feature columns, oldest record first.
    fn width(&self) -> usize;

    /// How strange each row is: higher is stranger. Length n. `seeds` has one seed a row, fixed by the record, for kinds that
    /// sample; the score of a row depends on nothing but the row and its seed.
    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32>;

    /// Whether [`Self::score`] takes rows that lie apart in memory, each of them in one piece, and gives them the same bits.
    fn takes_rows_apart(&self) -> bool {
        false
    }

    /// Whether `larger` does all that this model does on its way to a score, and more.
    fn is_part_of(&self, _larger: &dyn Kind) -> bool {
        false
    }

    /// Scores by this model and by one that it [`Self::is_part_of`], for little more than the latter's cost. The same bits as apart.
    fn score_with(
        &self,
        larger: &dyn Kind,
        rows: ArrayView2<'_, f32>,
        seeds: &[Seed],
    ) -> [Array1<f32>; 2] {
        [self.score(rows, seeds), larger.score(rows, seeds)]
    }

    /// As [`Self::score`], for rows that the model was fitted on. A kind that [`Trait::Remembers`] rows does not let one meet itself: a
    /// remembered row that equals it, if there is one, is left out once.
    fn score_training(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.score(rows, seeds)
    }

    /// How much of a surprise the newest record of each row is to a forecast from those before it, squared, for kinds that have one: 1 where the mean of the last
    /// records' ([`crate::stats::memory`]) seldom is larger. Rows may lie apart in memory.
    fn surprise(&self, _rows: ArrayView2<'_, f32>) -> Option<Array1<f32>> {
        None
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

    /// What a kind that is made of others consists of, as `model.ensemble.members` would have it; nothing for the others.
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

impl FitData {
    /// How many rows there are to learn from.
    ///
    /// # Errors
    /// [`FitError::TooFewRows`] if they are fewer than this kind needs.
    pub fn rows(&self, kind: &'static str, needed: usize) -> Result<usize, FitError> {
        let rows = self.train.nrows();
        if rows < needed {
            return Err(FitError::TooFewRows { kind, needed, rows });
        }
        Ok(rows)
    }
}

/// Looks on while a model is fitted: progress, the losses of the card, and cancelling.
pub trait Monitor {
    /// Called after each epoch (or step, for kinds without epochs) with mean losses; `Break` ends the fit with
    /// [`FitError::Cancelled`].
    fn epoch(&mut self, epoch: usize, train_loss: f64, validation_loss: f64) -> ControlFlow<()>;

    /// As [`Self::epoch`], with [`FitError::Cancelled`] in place of `Break`.
    fn step(
        &mut self,
        epoch: usize,
        train_loss: f64,
        validation_loss: f64,
    ) -> Result<(), FitError> {
        match self.epoch(epoch, train_loss, validation_loss) {
            ControlFlow::Break(()) => Err(FitError::Cancelled),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

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

/// How a model of a kind comes to be.
pub trait Build: Kind + Sized + 'static {
    /// Fits a model to rows. All randomness comes from `seed`; the monitor is told of each step.
    ///
    /// # Errors
    /// Too few rows, a monitor that says stop, weights that are not finite, and what a library refuses.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError>;

    /// What models of this kind on the same rows have in common, whatever else their settings are.
    ///
    /// # Errors
    /// As [`Self::fit`].
    fn share(_spec: &ModelSpec, _data: &FitData) -> Result<Box<dyn Any>, FitError> {
        Ok(Box::new(()))
    }

    /// As [`Self::fit`], with what [`Self::share`] made of the same rows.
    ///
    /// # Errors
    /// As [`Self::fit`].
    fn fit_shared(
        spec: &ModelSpec,
        data: &FitData,
        _shared: &dyn Any,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        Self::fit(spec, data, seed, monitor)
    }

    /// Reads back what [`Kind::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent, of another shape, or does not fit the others.
    fn load(from: &Tensors) -> Result<Self, ModelFileError>;
}

/// [`Build::fit`] of some kind.
type Fit = fn(&ModelSpec, &FitData, Seed, &mut dyn Monitor) -> Result<Box<dyn Kind>, FitError>;

/// [`Build::share`] of some kind.
type Share = fn(&ModelSpec, &FitData) -> Result<Box<dyn Any>, FitError>;

/// [`Build::fit_shared`] of some kind.
type FitShared =
    fn(&ModelSpec, &FitData, &dyn Any, Seed, &mut dyn Monitor) -> Result<Box<dyn Kind>, FitError>;

/// One kind: its name in `model.kind`, what sets it apart, and how a model of it comes to be.
#[derive(Clone, Copy, Debug)]
pub struct KindEntry {
    name: &'static str,
    traits: &'static [Trait],
    fit: Fit,
    share: Share,
    fit_shared: FitShared,
    load: fn(&Tensors) -> Result<Box<dyn Kind>, ModelFileError>,
}

impl KindEntry {
    /// The kind `K`: its name, as `model.kind` and model files have it, and what sets it apart from others.
    pub const fn of<K: Build>(name: &'static str, traits: &'static [Trait]) -> Self {
        Self {
            name,
            traits,
            fit: |spec, data, seed, monitor| Ok(Box::new(K::fit(spec, data, seed, monitor)?)),
            share: K::share,
            fit_shared: |spec, data, shared, seed, monitor| {
                Ok(Box::new(K::fit_shared(spec, data, shared, seed, monitor)?))
            },
            load: |from| Ok(Box::new(K::load(from)?)),
        }
    }
}

/// A table of kinds.
#[derive(Clone, Copy, Debug)]
pub struct Kinds(pub &'static [&'static [KindEntry]]);

impl Kinds {
    /// Fits the kind that `spec.kind` names.
    ///
    /// # Errors
    /// What the kind says, and names that are not in the table.
    pub fn fit(
        &self,
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Model, FitError> {
        let entry = self.entry(&spec.kind)?;
        (entry.fit)(spec, data, seed, monitor).map(|kind| Model::new(entry.name, kind))
    }

    /// [`Build::share`] of the kind that `spec.kind` names.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn share(&self, spec: &ModelSpec, data: &FitData) -> Result<Box<dyn Any>, FitError> {
        (self.entry(&spec.kind)?.share)(spec, data)
    }

    /// As [`Self::fit`], with what [`Self::share`] made of the same rows.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_shared(
        &self,
        spec: &ModelSpec,
        (data, shared): (&FitData, &dyn Any),
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Model, FitError> {
        let entry = self.entry(&spec.kind)?;
        (entry.fit_shared)(spec, data, shared, seed, monitor)
            .map(|kind| Model::new(entry.name, kind))
    }

    fn entry(&self, name: &str) -> Result<&'static KindEntry, FitError> {
        let problem = || FitError::Library(format!("unknown model kind `{name}`"));
        self.find(name).ok_or_else(problem)
    }

    /// Reads back the kind called `name` from what [`Kind::save`] wrote.
    ///
    /// # Errors
    /// What the kind says, and names that are not in the table.
    pub fn load(&self, name: &str, from: &Tensors) -> Result<Model, ModelFileError> {
        let Some(entry) = self.find(name) else {
            let problem = format!("unknown model kind `{name}`");
            return Err(ModelFileError::Invalid(problem));
        };
        (entry.load)(from).map(|kind| Model::new(entry.name, kind))
    }

    /// All names, in the order of the table.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries().map(|entry| entry.name).collect()
    }

    /// The names of the kinds that have a trait.
    pub fn with(&self, wanted: Trait) -> Vec<&'static str> {
        self.entries()
            .filter(|entry| entry.traits.contains(&wanted))
            .map(|entry| entry.name)
            .collect()
    }

    fn entries(&self) -> impl Iterator<Item = &'static KindEntry> {
        self.0.iter().copied().flatten()
    }

    fn find(&self, name: &str) -> Option<&'static KindEntry> {
        self.entries().find(|entry| entry.name == name)
    }
}

/// A fitted model and the name of its kind.
#[derive(Debug)]
pub struct Model {
    name: &'static str,
    kind: Box<dyn Kind>,
}

impl Model {
    /// A fitted model of the kind called `name`.
    pub fn new(name: &'static str, kind: Box<dyn Kind>) -> Self {
        Self { name, kind }
    }

    /// The kind's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Deref for Model {
    type Target = dyn Kind;

    fn deref(&self) -> &Self::Target {
        self.kind.as_ref()
    }
}
