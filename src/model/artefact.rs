//! Model files: named tensors and a card in one safetensors file, which Python opens in two lines.
//!
//! The bytes are a function of the model alone: the same model gives the same file.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Model;
use super::card::Card;
use super::golden::Golden;
use super::held::Held;
use super::reservoir::Reservoir;
use super::scale::Scaler;
use super::sensors::Sensors;
use super::trained::TrainedModel;
use crate::stats::calibration::CalibrationSet;
use crate::stats::evidence::EvidenceLaw;

/// Why a model file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtefactError {
    /// A tensor or setting is absent, or of another shape or type than the kind needs.
    #[error("model file is invalid: {0}")]
    Invalid(String),
    /// The bytes are not those that were written.
    #[error("model file has sha256 {found}, but its manifest says {expected}")]
    Checksum {
        /// What the manifest says.
        expected: String,
        /// What the bytes have.
        found: String,
    },
}

/// The format of model files that this program writes.
pub const FORMAT: u32 = 1;

/// The widest window that a model may have: more than any machine fits.
const WIDTH_MAX: usize = 1 << 22;

/// The one entry of the file's metadata. One only: safetensors writes several in no particular order.
const METADATA: &str = "anomalyd";

/// Named f32 tensors and named settings: all that a model is. Ordered by name, so that equal models have equal bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors {
    /// Name → shape and row-major values.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// The same for what must come back bit for bit as f64: raw values.
    pub wide: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    /// Name → JSON.
    pub settings: BTreeMap<String, String>,
}

impl Tensors {
    /// Stores a vector.
    pub fn put1(&mut self, name: &str, values: ArrayView1<'_, f32>) {
        self.tensors
            .insert(name.to_owned(), (vec![values.len()], values.to_vec()));
    }

    /// Stores a matrix.
    pub fn put2(&mut self, name: &str, values: ArrayView2<'_, f32>) {
        let shape = vec![values.nrows(), values.ncols()];
        self.tensors
            .insert(name.to_owned(), (shape, values.iter().copied().collect()));
    }

    /// Stores a setting.
    ///
    /// # Panics
    /// If `value` has no JSON form (a map with keys that are not strings): a mistake in the caller's type.
    pub fn set<T: Serialize>(&mut self, name: &str, value: &T) {
        let json = serde_json::to_string(value)
            .unwrap_or_else(|error| unreachable!("settings are plain structs: {error}"));
        self.settings.insert(name.to_owned(), json);
    }

    /// Reads a vector.
    pub fn get1(&self, name: &str) -> Result<Array1<f32>, ArtefactError> {
        let (shape, values) = self.find(name)?;
        match shape[..] {
            [_] => Ok(Array1::from(values.clone())),
            _ => Err(ArtefactError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n]"
            ))),
        }
    }

    /// Reads a matrix.
    pub fn get2(&self, name: &str) -> Result<Array2<f32>, ArtefactError> {
        let (shape, values) = self.find(name)?;
        let [rows, columns] = shape[..] else {
            return Err(ArtefactError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n, m]"
            )));
        };
        Array2::from_shape_vec((rows, columns), values.clone())
            .map_err(|error| ArtefactError::Invalid(format!("tensor `{name}`: {error}")))
    }

    /// Reads a setting.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, ArtefactError> {
        let json = self
            .settings
            .get(name)
            .ok_or_else(|| ArtefactError::Invalid(format!("setting `{name}` is absent")))?;
        serde_json::from_str(json)
            .map_err(|error| ArtefactError::Invalid(format!("setting `{name}`: {error}")))
    }

    /// These tensors with `prefix` before each name, for a model that holds others.
    pub fn nest(&mut self, prefix: &str, inner: Self) {
        for (name, tensor) in inner.tensors {
            self.tensors.insert(format!("{prefix}{name}"), tensor);
        }
        for (name, json) in inner.settings {
            self.settings.insert(format!("{prefix}{name}"), json);
        }
    }

    /// The tensors whose names begin with `prefix`, without it: the inverse of [`Self::nest`].
    #[must_use]
    pub fn nested(&self, prefix: &str) -> Self {
        let strip = |name: &String| name.strip_prefix(prefix).map(str::to_owned);
        Self {
            tensors: self
                .tensors
                .iter()
                .filter_map(|(n, t)| Some((strip(n)?, t.clone())))
                .collect(),
            settings: self
                .settings
                .iter()
                .filter_map(|(n, s)| Some((strip(n)?, s.clone())))
                .collect(),
            wide: BTreeMap::new(),
        }
    }

    /// Type, shape and little-endian bytes of each.
    fn bytes(&self) -> BTreeMap<&str, (Dtype, &[usize], Vec<u8>)> {
        let narrow = self.tensors.iter().map(|(name, (shape, values))| {
            let bytes = little_endian(values);
            (name.as_str(), (Dtype::F32, &shape[..], bytes))
        });
        let wide = self.wide.iter().map(|(name, (shape, values))| {
            let bytes = wide_little_endian(values);
            (name.as_str(), (Dtype::F64, &shape[..], bytes))
        });
        narrow.chain(wide).collect()
    }

    /// Adds a tensor of a file.
    fn add(&mut self, name: String, view: &TensorView<'_>) -> Result<(), ArtefactError> {
        let shape = view.shape().to_vec();
        match view.dtype() {
            Dtype::F32 => {
                let values = from_little_endian(view.data());
                self.tensors.insert(name, (shape, values));
            }
            Dtype::F64 => {
                let eights = view.data().as_chunks::<8>().0.iter();
                let values = eights.map(|&bytes| f64::from_le_bytes(bytes)).collect();
                self.wide.insert(name, (shape, values));
            }
            _ => {
                let problem = format!("tensor `{name}` is neither f32 nor f64");
                return Err(ArtefactError::Invalid(problem));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>), ArtefactError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ArtefactError::Invalid(format!("tensor `{name}` is absent")))
    }
}

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
    /// If a number of the card is not finite: JSON has no form for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtefactError> {
        let mut tensors = Tensors::default();
        let mut inner = Tensors::default();
        self.model.as_kind().save(&mut inner);
        tensors.nest("model.", inner);
        tensors.put1(
            "normal_contribution",
            ArrayView1::from(&self.normal_contribution),
        );
        tensors.set("kind", &self.model.name());
        self.scaler.save(&mut tensors);
        tensors.set("calibration", &self.calibration);
        tensors.set("evidence", &self.evidence.as_deref());
        tensors.set("gaps", &self.gaps);
        if let Some(sensors) = &self.sensors {
            sensors.save(&mut tensors);
        }
        tensors.set("held", &self.held);
        self.reservoir.save(&mut tensors);
        Golden::of(self).save(&mut tensors);
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
            .collect::<Result<Vec<_>, ArtefactError>>()?;
        let metadata = [(METADATA.to_owned(), metadata)].into_iter().collect();
        safetensors::serialize(views, Some(metadata)).map_err(invalid)
    }

    /// How many of the model's numbers are not finite: none, in a model that may judge.
    pub fn broken_weights(&self) -> usize {
        let mut tensors = Tensors::default();
        self.model.as_kind().save(&mut tensors);
        let weights = tensors.tensors.values().flat_map(|(_, values)| values);
        let scaling = self.scaler.centre.iter().chain(&self.scaler.spread);
        weights.filter(|value| !value.is_finite()).count()
            + scaling.filter(|value| !value.is_finite()).count()
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// If the bytes are not a model file of this format, whole and undamaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
        let metadata = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| ArtefactError::Invalid(format!("metadata `{METADATA}` is absent")))?;
        let metadata: Metadata = serde_json::from_str(metadata).map_err(invalid)?;
        if metadata.format != FORMAT || metadata.card.format != FORMAT {
            return Err(ArtefactError::Invalid(format!(
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
            return Err(ArtefactError::Checksum {
                expected: metadata.sha256,
                found,
            });
        }
        let model = Self {
            scaler: Scaler::load(&tensors)?,
            model: Model::load(&tensors.get::<String>("kind")?, &tensors.nested("model."))?,
            sensors: Sensors::load(&tensors)?,
            held: tensors.get::<Option<Held>>("held")?,
            calibration: tensors.get::<CalibrationSet>("calibration")?,
            gaps: tensors.get("gaps")?,
            normal_contribution: tensors.get1("normal_contribution")?.to_vec(),
            evidence: tensors
                .get::<Option<EvidenceLaw>>("evidence")?
                .map(Arc::new),
            reservoir: Reservoir::load(&tensors)?,
            card: metadata.card,
        };
        if model.evidence.as_ref().is_some_and(|law| !law.is_sound()) {
            return Err(ArtefactError::Invalid(
                "the law of evidence has numbers that cannot be used".to_owned(),
            ));
        }
        if model.held.as_ref().is_some_and(|held| !held.is_sound()) {
            return Err(ArtefactError::Invalid(
                "`held` has numbers that are no probabilities".to_owned(),
            ));
        }
        model.check_widths()?;
        Golden::load(&tensors)?.try_on(&model)?;
        Ok(model)
    }

    /// Reads a model file whose sha256 is known from elsewhere, such as a manifest.
    ///
    /// # Errors
    /// If the bytes have another sha256, and as [`Self::from_bytes`].
    pub fn from_checked_bytes(bytes: &[u8], expected: &str) -> Result<Self, ArtefactError> {
        let found = sha256(bytes);
        if found != expected {
            return Err(ArtefactError::Checksum {
                expected: expected.to_owned(),
                found,
            });
        }
        Self::from_bytes(bytes)
    }

    /// Whether all parts are of one width.
    fn check_widths(&self) -> Result<(), ArtefactError> {
        let columns = self.card.columns.len();
        let width = columns.checked_mul(self.card.spec.window);
        if !width.is_some_and(|width| (1..=WIDTH_MAX).contains(&width)) {
            return Err(ArtefactError::Invalid(format!(
                "windows of {} records of {columns} columns are wider than any model's",
                self.card.spec.window
            )));
        }
        let measured = self.scaler.measured().len();
        let sensors = self.sensors.as_ref().map_or(measured, Sensors::columns);
        let held = self.held.as_ref().map_or(measured, Held::columns);
        let parts = [
            ("sensors.mean", sensors, measured),
            ("held", held, measured),
            ("scaler.centre", self.scaler.centre.len(), columns),
            ("scaler.spread", self.scaler.spread.len(), columns),
            ("model", self.model.as_kind().width(), self.inputs()),
            (
                "normal_contribution",
                self.normal_contribution.len(),
                self.inputs(),
            ),
        ];
        for (name, found, needed) in parts {
            if found != needed {
                return Err(ArtefactError::Invalid(format!(
                    "`{name}` has {found} numbers, but the card says {needed}"
                )));
            }
        }
        if !self.reservoir.is_empty() && self.reservoir.windows.ncols() != self.width() {
            return Err(ArtefactError::Invalid(format!(
                "reservoir has windows of {} numbers, but the card says {}",
                self.reservoir.windows.ncols(),
                self.width()
            )));
        }
        Ok(())
    }
}

impl Tensors {
    /// The sha256 of a card, these settings and these tensors.
    fn digest(&self, card: &Card) -> Result<String, ArtefactError> {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(&serde_json::to_vec(card).map_err(invalid)?);
        for (name, json) in &self.settings {
            part(name.as_bytes());
            part(json.as_bytes());
        }
        for (name, (shape, values)) in &self.tensors {
            part(name.as_bytes());
            part(&serde_json::to_vec(shape).map_err(invalid)?);
            part(&little_endian(values));
        }
        for (name, (shape, values)) in &self.wide {
            part(name.as_bytes());
            part(&serde_json::to_vec(shape).map_err(invalid)?);
            part(&wide_little_endian(values));
        }
        Ok(hexadecimal(&hash.finalize()))
    }
}

/// The sha256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn from_little_endian(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
        .collect()
}

fn wide_little_endian(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
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
    fn load(from: &Tensors) -> Result<Self, ArtefactError> {
        let Some((shape, values)) = from.wide.get("reservoir") else {
            return Ok(Self::default());
        };
        let (keys, own): (Vec<String>, usize) =
            (from.get("reservoir.keys")?, from.get("reservoir.own")?);
        let &[rows, columns] = &shape[..] else {
            let problem = format!("reservoir has shape {shape:?}, not [n, m]");
            return Err(ArtefactError::Invalid(problem));
        };
        if keys.len() != rows || own > rows {
            let problem = format!(
                "reservoir has {rows} windows, {own} of its own, of {} keys",
                keys.len()
            );
            return Err(ArtefactError::Invalid(problem));
        }
        let windows = Array2::from_shape_vec((rows, columns), values.clone()).map_err(invalid)?;
        Ok(Self { keys, windows, own })
    }
}

fn invalid(error: impl std::fmt::Display) -> ArtefactError {
    ArtefactError::Invalid(error.to_string())
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
        assert!(matches!(error, ArtefactError::Checksum { .. }), "{error}");
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_number_that_is_not_finite_is_not_written() {
        let mut model = model();
        model.card.measures.insert("auc".to_owned(), f64::NAN);
        let bytes = model.to_bytes();
        assert!(bytes.is_err() || TrainedModel::from_bytes(&bytes.unwrap()).is_err());
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
