//! Golden rows: windows that a model's file has beside the judgements that the model must give of them. A model is tried on them before it
//! judges anything else, so that a file that came about in another way than by [`TrainedModel::to_bytes`], or a program that computes something else
//! than the one that wrote it, is refused rather than believed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array2, Axis};
use rand::Rng;
use rand_distr::StandardNormal;

use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::trained::TrainedModel;
use crate::seed::Seed;

/// How many windows, beside one of each type of keys.
const ROWS: usize = 16;

/// How many of them are about the model's centre; the others are beyond any bound that it has, or lack much.
const NEAR: usize = 12;

/// How far beyond, in spreads.
const BEYOND: f64 = 60.0;

/// The windows that are explained: one of each sort.
const EXPLAINED: [usize; 3] = [NEAR - 1, NEAR, ROWS - 1];

/// By how much a score may differ, as a part of it: other processors add in another order.
const SCORE: f64 = 1e-3;

/// By how much ln p may differ, at p of 1 and as a part of it, and of how many windows it may differ by more: where few scores were held out, one
/// rank is a large step.
const LOG_P: (f64, f64, usize) = (0.05, 0.01, 1);

/// By how much a column's share in an explanation may differ.
const SHARE: f64 = 0.01;

/// Windows and what is to be said of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Golden {
    /// `n × (W · D)` raw values, of which some are missing.
    pub windows: Array2<f64>,
    /// n scores.
    pub score: Vec<f64>,
    /// n p-values.
    pub p_value: Vec<f64>,
    /// The shares of the D columns in some of the scores, one window after the other.
    pub share: Vec<f64>,
}

impl Golden {
    /// Rows about the model's centre, ever further away, some far beyond, some that lack much, and what the model says of them.
    pub fn of(model: &TrainedModel) -> Self {
        let (width, columns) = (model.width(), model.card.columns.len());
        let mut rng = Seed(0).child("golden").rng();
        let rows = ROWS + model.types.len();
        let mut windows = Array2::from_shape_fn((rows, width), |(row, input)| {
            let far = match row {
                ROWS.. => 1.0,
                NEAR.. if row.is_multiple_of(2) => BEYOND,
                _ => row as f64 / 3.0,
            };
            let (centre, spread) = (&model.scaler.centre, &model.scaler.spread);
            let size: f64 = rng.sample(StandardNormal);
            centre[input % columns] + far * size * spread[input % columns]
        });
        if columns > 1 {
            windows[(NEAR - 1, width - 1)] = f64::NAN;
            for input in 0..width {
                // Every other column of one, and the rest of the other.
                windows[(NEAR + 1 + 2 * (input % columns % 2), input)] = f64::NAN;
            }
        }
        for (row, of) in (ROWS..).zip(&model.types) {
            for input in (0..width).filter(|input| !of.columns.contains(&(input % columns))) {
                windows[(row, input)] = f64::NAN;
            }
        }
        let mut golden = Self {
            windows,
            ..Self::default()
        };
        let judged = golden.judged(model);
        (golden.score, golden.p_value, golden.share) = judged;
        golden
    }

    fn judged(&self, model: &TrainedModel) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let seeds: Vec<Seed> = (0..self.windows.nrows() as u64).map(Seed).collect();
        let (all, of_types) = self.windows.view().split_at(Axis(0), ROWS);
        let mut judged = model.judge_as_one(all, &seeds[..ROWS]);
        if of_types.nrows() > 0 {
            let of_types = model.judge(of_types, &seeds[ROWS..]);
            judged.score.extend(of_types.score);
            judged.p_value.extend(of_types.p_value);
        }
        let explained = EXPLAINED.into_iter().flat_map(|row| {
            let window = self.windows.slice_axis(Axis(0), (row..=row).into());
            model.explain_as_one(window, 0).shares
        });
        (judged.score, judged.p_value, explained.collect())
    }

    /// Writes them to a model's file.
    pub fn save(&self, to: &mut Tensors) {
        let shape = vec![self.windows.nrows(), self.windows.ncols()];
        let values = self.windows.iter().copied().collect();
        to.wide.insert("golden.windows".to_owned(), (shape, values));
        let mut put = |name: &str, values: &Vec<f64>| {
            let tensor = (vec![values.len()], values.clone());
            to.wide.insert(name.to_owned(), tensor);
        };
        put("golden.score", &self.score);
        put("golden.p_value", &self.p_value);
        put("golden.share", &self.share);
    }

    /// Reads back what [`Self::save`] wrote of a model of `shared` columns and so many types of keys.
    ///
    /// # Errors
    /// If it is not there, or not as many as there must be.
    pub fn load(from: &Tensors, shared: usize, types: usize) -> Result<Self, ModelFileError> {
        let rows = ROWS + types;
        let wrong = |name: &str| ModelFileError::Invalid(format!("`{name}` is absent or uneven"));
        let find = |name: &str, length: usize| {
            let (_, values) = from.wide.get(name).ok_or_else(|| wrong(name))?;
            if values.len() == length {
                Ok(values.clone())
            } else {
                Err(wrong(name))
            }
        };
        let name = "golden.windows";
        let (shape, values) = from.wide.get(name).ok_or_else(|| wrong(name))?;
        let &[found, columns] = &shape[..] else {
            return Err(wrong(name));
        };
        if found != rows {
            return Err(wrong(name));
        }
        Ok(Self {
            windows: Array2::from_shape_vec((rows, columns), values.clone())
                .map_err(|_| wrong(name))?,
            score: find("golden.score", rows)?,
            p_value: find("golden.p_value", rows)?,
            share: find("golden.share", EXPLAINED.len() * shared)?,
        })
    }

    /// Tries a model, which has the width of the rows.
    ///
    /// # Errors
    /// If it does not judge them as it must.
    pub fn try_on(&self, model: &TrainedModel) -> Result<(), ModelFileError> {
        if self.windows.ncols() != model.width() {
            return Err(ModelFileError::Invalid(
                "`golden.windows` is not as wide as the card says".to_owned(),
            ));
        }
        // Parts that do not fit each other show as a panic of arithmetic, which is how a file of any kind is refused, whatever kind may come.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let last = self.windows.slice_axis(Axis(0), (ROWS - 1..ROWS).into());
            model.codes(last);
            self.judged(model)
        }));
        let Ok((score, p_value, share)) = tried else {
            return Err(ModelFileError::Invalid(
                "the model's parts do not fit each other".to_owned(),
            ));
        };
        let near = |found: f64, wanted: f64| {
            found.total_cmp(&wanted).is_eq() || (found - wanted).abs() <= SCORE * wanted.abs()
        };
        let scores = self.score.iter().zip(&score);
        let p_values = self.p_value.iter().zip(&p_value);
        let off = |(wanted, found): &(&f64, &f64)| {
            let apart = (found.ln() - wanted.ln()).abs();
            apart.is_nan() || apart > LOG_P.0 + LOG_P.1 * wanted.ln().abs()
        };
        let sound = p_value.iter().all(|p| *p > 0.0 && *p <= 1.0)
            && scores
                .into_iter()
                .all(|(wanted, found)| near(*found, *wanted))
            && p_values.filter(off).count() <= LOG_P.2
            && self.share.len() == share.len()
            && (self.share.iter().zip(&share))
                .all(|(wanted, found)| (found - wanted).abs() <= SHARE);
        if sound {
            Ok(())
        } else {
            Err(ModelFileError::Invalid(
                "the model does not judge its golden rows as it did when it was stored".to_owned(),
            ))
        }
    }
}
