//! Model files: named tensors and a card in one safetensors file, which Python opens in two lines.
//!
//! The bytes are a function of the model alone: the same model gives the same file.

pub mod golden;

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array2, ArrayView1};
use safetensors::tensor::{SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::model::KINDS;
use crate::model::card::{Card, FORMAT};
use crate::model::edges::Edges;
use crate::model::held::Held;
use crate::model::judges::Judges;
use crate::model::levels::Levels;
use crate::model::reservoir::Reservoir;
use crate::model::rest::Resting;
use crate::model::scale::Scaler;
use crate::model::sensors::Sensors;
use crate::model::tensors::{ModelFileError, Tensors, invalid, sha256};
use crate::model::trained::{KeyType, TrainedModel};
use crate::stats::calibration::CalibrationSet;
use crate::stats::evidence::EvidenceLaw;
use golden::Golden;

/// The widest window that a model may have: more than any machine fits.
const WIDTH_MAX: usize = 1 << 22;

/// The one entry of the file's metadata. One only: safetensors writes several in no particular order.
const METADATA: &str = "anomalyd";

/// All of a model file that is not tensors, as the JSON text in its metadata.
#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    /// Over card, settings and tensors: a file that was damaged anywhere is refused.
    sha256: String,
    card: Card,
    settings: BTreeMap<String, String>,
}

impl TrainedModel {
    /// The bytes of the model's file. Equal models have equal bytes, and [`Self::from_bytes`] gives a model that judges bit for bit the same.
    ///
    /// # Errors
    /// If they could not be read back, as where a number of the card or of a setting is not finite: JSON has no form for it. What nobody can read must
    /// not be stored, let alone promoted.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelFileError> {
        let bytes = self.written()?;
        match Self::from_bytes(&bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(ModelFileError::Invalid(format!(
                "the model was not stored, because it could not be read back: {error}"
            ))),
        }
    }

    /// The same, whether or not they could be read back: of a model that is stored already, or only to know it by.
    ///
    /// # Errors
    /// If a number of the card is not finite.
    pub(crate) fn written(&self) -> Result<Vec<u8>, ModelFileError> {
        let tensors = self.stored();
        let metadata = Metadata {
            format: FORMAT,
            sha256: tensors.digest(&self.card)?,
            card: self.card.clone(),
            settings: tensors.settings.clone(),
        };
        let metadata = serde_json::to_string(&metadata).map_err(invalid)?;
        let bytes = tensors.bytes();
        let views = bytes
            .iter()
            .map(|(&name, (kind, shape, data))| {
                Ok((
                    name,
                    TensorView::new(*kind, shape.to_vec(), data).map_err(invalid)?,
                ))
            })
            .collect::<Result<Vec<_>, ModelFileError>>()?;
        let metadata = [(METADATA.to_owned(), metadata)].into_iter().collect();
        safetensors::serialize(views, Some(metadata)).map_err(invalid)
    }

    /// All but the card.
    fn stored(&self) -> Tensors {
        let mut tensors = Tensors::default();
        let mut inner = Tensors::default();
        self.model.save(&mut inner);
        tensors.nest("model.", inner);
        tensors.put1(
            "normal_contribution",
            ArrayView1::from(&self.normal_contribution),
        );
        tensors.set("kind", &self.model.name());
        self.scaler.save(&mut tensors);
        self.levels.save(&mut tensors);
        tensors.set("calibration", &self.calibration);
        tensors.set("evidence", &self.evidence.as_deref());
        tensors.set("gaps", &self.gaps);
        self.judges.save(&mut tensors);
        self.reservoir.save(&mut tensors);
        for (at, of) in self.types.iter().enumerate() {
            let mut inner = of.model.stored();
            inner.set("columns", &of.columns);
            inner.set("card", &of.model.card);
            tensors.nest(&type_prefix(at), inner);
        }
        Golden::of(self).save(&mut tensors);
        tensors
    }

    /// How many of the model's numbers are not finite: none, in a model that may judge.
    pub fn broken_weights(&self) -> usize {
        let mut tensors = Tensors::default();
        self.model.save(&mut tensors);
        let weights = tensors.tensors.values().flat_map(|(_, values)| values);
        let scaling = self.scaler.centre.iter().chain(&self.scaler.spread);
        let types = self.types.iter().map(|of| of.model.broken_weights());
        weights.filter(|value| !value.is_finite()).count()
            + scaling.filter(|value| !value.is_finite()).count()
            + types.sum::<usize>()
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// If the bytes are not a model file of this format, whole and undamaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
        let metadata = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| ModelFileError::Invalid(format!("metadata `{METADATA}` is absent")))?;
        let metadata: Metadata = serde_json::from_str(metadata).map_err(invalid)?;
        if metadata.format != FORMAT || metadata.card.format != FORMAT {
            return Err(ModelFileError::Invalid(format!(
                "format is {}, but this program reads {FORMAT}",
                metadata.format
            )));
        }
        let mut tensors = Tensors {
            settings: metadata.settings,
            ..Tensors::default()
        };
        for (name, view) in SafeTensors::deserialize(bytes).map_err(invalid)?.tensors() {
            tensors.add(name, &view)?;
        }
        let found = tensors.digest(&metadata.card)?;
        if found != metadata.sha256 {
            return Err(ModelFileError::Checksum {
                expected: metadata.sha256,
                found,
            });
        }
        let types = (0..)
            .map(|at| tensors.nested(&type_prefix(at)))
            .take_while(|inner| !inner.settings.is_empty())
            .map(|inner| KeyType::restored(&inner, &metadata.card))
            .collect::<Result<_, _>>()?;
        Self::restored(&tensors, metadata.card, types)
    }

    /// What [`Self::stored`] made.
    fn restored(
        tensors: &Tensors,
        card: Card,
        types: Vec<KeyType>,
    ) -> Result<Self, ModelFileError> {
        let model = Self {
            levels: Levels::load(tensors)?,
            scaler: Scaler::load(tensors)?,
            model: KINDS.load(&tensors.get::<String>("kind")?, &tensors.nested("model."))?,
            judges: Judges::load(tensors)?,
            calibration: tensors.get::<CalibrationSet>("calibration")?,
            gaps: tensors.get("gaps")?,
            normal_contribution: tensors.get1("normal_contribution")?.to_vec(),
            evidence: tensors
                .get::<Option<EvidenceLaw>>("evidence")?
                .map(Arc::new),
            reservoir: Reservoir::load(tensors)?,
            card,
            types,
        };
        if model.evidence.as_ref().is_some_and(|law| !law.is_sound()) {
            return Err(ModelFileError::Invalid(
                "the law of evidence has numbers that cannot be used".to_owned(),
            ));
        }
        model.check_widths()?;
        Golden::load(tensors, model.card.columns.len(), model.types.len())?.try_on(&model)?;
        Ok(model)
    }

    /// Reads a model file whose sha256 is known from elsewhere, such as a manifest.
    ///
    /// # Errors
    /// If the bytes have another sha256, and as [`Self::from_bytes`].
    pub fn from_checked_bytes(bytes: &[u8], expected: &str) -> Result<Self, ModelFileError> {
        let found = sha256(bytes);
        if found != expected {
            return Err(ModelFileError::Checksum {
                expected: expected.to_owned(),
                found,
            });
        }
        Self::from_bytes(bytes)
    }

    /// Whether all parts are of one width.
    fn check_widths(&self) -> Result<(), ModelFileError> {
        let columns = self.card.columns.len();
        let width = columns.checked_mul(self.card.spec.window);
        if !width.is_some_and(|width| (1..=WIDTH_MAX).contains(&width)) {
            return Err(ModelFileError::Invalid(format!(
                "windows of {} records of {columns} columns are wider than any model's",
                self.card.spec.window
            )));
        }
        let measured = self.scaler.measured().len();
        let sensors = self
            .judges
            .sensors
            .as_ref()
            .map_or(measured, Sensors::columns);
        let means = self
            .judges
            .means
            .as_ref()
            .map_or(measured, Sensors::columns);
        let held = self.judges.held.as_ref().map_or(measured, Held::columns);
        let inputs = self.inputs();
        let rest = self.judges.rest.as_ref().map_or(inputs, Resting::width);
        let edges = self.judges.edges.as_ref().map_or(measured, Edges::columns);
        let parts = [
            ("sensors.mean", sensors, measured),
            ("means.sensors.mean", means, measured),
            ("held", held, measured),
            ("rest", rest, inputs),
            ("edges", edges, measured),
            (
                "levels.shared",
                self.levels.columns().unwrap_or(columns),
                columns,
            ),
            ("scaler.centre", self.scaler.centre.len(), columns),
            ("scaler.spread", self.scaler.spread.len(), columns),
            ("model", self.model.width(), inputs),
            (
                "normal_contribution",
                self.normal_contribution.len(),
                inputs,
            ),
        ];
        for (name, found, needed) in parts {
            if found != needed {
                return Err(ModelFileError::Invalid(format!(
                    "`{name}` has {found} numbers, but the card says {needed}"
                )));
            }
        }
        if !self.reservoir.is_empty() && self.reservoir.windows.ncols() != self.width() {
            return Err(ModelFileError::Invalid(format!(
                "reservoir has windows of {} numbers, but the card says {}",
                self.reservoir.windows.ncols(),
                self.width()
            )));
        }
        Ok(())
    }
}

impl KeyType {
    /// A type of keys of the model that has this card.
    fn restored(tensors: &Tensors, whole: &Card) -> Result<Self, ModelFileError> {
        let (columns, card): (Vec<usize>, Card) = (tensors.get("columns")?, tensors.get("card")?);
        let within = columns
            .last()
            .is_some_and(|last| *last < whole.columns.len());
        let fits = columns.is_sorted_by(|a, b| a < b)
            && within
            && columns.len() == card.columns.len()
            && card.spec.window == whole.spec.window;
        if !fits {
            return Err(ModelFileError::Invalid(
                "a type of keys has other columns or windows than the card says".to_owned(),
            ));
        }
        let model = TrainedModel::restored(tensors, card, Vec::new())?;
        Ok(Self { columns, model })
    }
}

/// Before the names of all that belongs to the model of a type.
fn type_prefix(at: usize) -> String {
    format!("type.{at}.")
}

impl Reservoir {
    /// Writes the windows as they are, and their keys; nothing if there are none.
    fn save(&self, to: &mut Tensors) {
        if self.is_empty() {
            return;
        }
        let shape = vec![self.windows.nrows(), self.windows.ncols()];
        let values = self.windows.iter().copied().collect();
        to.wide.insert("reservoir".to_owned(), (shape, values));
        to.set("reservoir.keys", &self.keys);
        to.set("reservoir.own", &self.own);
    }

    /// Reads back what [`Self::save`] wrote.
    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let Some((shape, values)) = from.wide.get("reservoir") else {
            return Ok(Self::default());
        };
        let (keys, own): (Vec<String>, usize) =
            (from.get("reservoir.keys")?, from.get("reservoir.own")?);
        let &[rows, columns] = &shape[..] else {
            let problem = format!("reservoir has shape {shape:?}, not [n, m]");
            return Err(ModelFileError::Invalid(problem));
        };
        if keys.len() != rows || own > rows {
            let problem = format!(
                "reservoir has {rows} windows, {own} of its own, of {} keys",
                keys.len()
            );
            return Err(ModelFileError::Invalid(problem));
        }
        let windows = Array2::from_shape_vec((rows, columns), values.clone()).map_err(invalid)?;
        Ok(Self { keys, windows, own })
    }
}

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::stats::calibration::Calibration;
    use proptest::prelude::*;

    fn model() -> TrainedModel {
        let scores: Vec<f64> = (0..400).map(|i| (f64::from(i) * 0.017).exp()).collect();
        let mut model = TrainedModel::simple(7, &["a", "b"], 2, Calibration::fit(&scores));
        model.scaler.centre = vec![0.1 + 0.2, 1e-300];
        model.normal_contribution = vec![0.25, 1.5, 3.0e-7, 9.0];
        model.card.measures.insert("auc".to_owned(), 1.0 / 3.0);
        let windows = ndarray::array![[0.1, f64::INFINITY, 1e300, -0.0]];
        model.reservoir = Reservoir::of(&["pump".to_owned()], windows.view());
        model
    }

    #[test]
    fn a_file_gives_back_the_same_model_and_the_same_bytes() {
        let model = model();
        let bytes = model.to_bytes().unwrap();
        assert_eq!(bytes, model.to_bytes().unwrap());
        let back = TrainedModel::from_checked_bytes(&bytes, &sha256(&bytes)).unwrap();
        assert_eq!(back.card, model.card);
        assert_eq!(back.scaler, model.scaler);
        assert_eq!(back.calibration, model.calibration);
        assert_eq!(back.normal_contribution, model.normal_contribution);
        assert_eq!(back.reservoir, model.reservoir);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        let rows = ndarray::array![[0.3, 0.1, 0.7, 2.9]];
        assert_eq!(
            back.judge(rows.view(), &[Seed(1)]),
            model.judge(rows.view(), &[Seed(1)])
        );
    }

    #[test]
    fn the_checksum_of_the_manifest_is_held_against_the_bytes() {
        let bytes = model().to_bytes().unwrap();
        let error = TrainedModel::from_checked_bytes(&bytes, "00").unwrap_err();
        assert!(matches!(error, ModelFileError::Checksum { .. }), "{error}");
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_number_that_is_not_finite_is_not_written() {
        let mut model = model();
        model.card.measures.insert("auc".to_owned(), f64::NAN);
        assert!(model.to_bytes().is_err());
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let mut model = model();
        model.scaler.spread[0] = f64::NAN;
        let error = model.to_bytes().unwrap_err().to_string();
        assert!(error.contains("could not be read back: "), "{error}");
        assert!(error.contains("scaler.spread"), "{error}");
    }

    proptest! {
        #[test]
        fn a_truncated_file_is_an_error(keep in 0.0..1.0f64) {
            let bytes = model().to_bytes().unwrap();
            let keep = (keep * bytes.len() as f64) as usize;
            prop_assert!(TrainedModel::from_bytes(&bytes[..keep]).is_err());
        }

        #[test]
        fn a_damaged_byte_is_an_error_or_changes_nothing(place in 0.0..1.0f64, flip in 1u8..) {
            let mut bytes = model().to_bytes().unwrap();
            let whole = bytes.clone();
            let place = (place * bytes.len() as f64) as usize;
            bytes[place] ^= flip;
            if let Ok(model) = TrainedModel::from_bytes(&bytes) {
                prop_assert_eq!(model.to_bytes().unwrap(), whole);
            }
        }

        #[test]
        fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(TrainedModel::from_bytes(&bytes).is_err());
        }
    }
}
