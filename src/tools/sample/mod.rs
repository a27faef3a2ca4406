//! `anomalyd sample`: synthetic normal records from a model that can draw them, and how like real ones they are.
//!
//! Next: `fidelity` (the comparison).

pub mod fidelity;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::ToolError;
use super::table::{Roles, Table};
use crate::model::tensors::ModelFileError;
use crate::model::trained::TrainedModel;
use crate::model::{KINDS, Trait};
use crate::seed::Seed;
use fidelity::Fidelity;

/// Rows of a file that synthetic records are compared with, at most.
const REAL_ROWS_MAX: usize = 20_000;

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model's file.
    pub model: PathBuf,
    /// How many records.
    pub n: usize,
    /// Of the draw.
    pub seed: Seed,
    /// ψ: 1 draws from the whole distribution, towards 0 from its centre.
    pub truncation: f32,
    /// Where the records go as CSV; `None`: to the writer.
    pub output: Option<PathBuf>,
    /// A file of real records to compare with.
    pub against: Option<PathBuf>,
}

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The model's file is no model.
    #[error("{path}: {error}")]
    Model {
        /// Which.
        path: PathBuf,
        /// Why.
        error: ModelFileError,
    },
    /// The kind cannot draw.
    #[error("a model of kind `{0}` cannot draw records; {can} can", can = KINDS.with(Trait::Draws).join(", "))]
    NotGenerative(String),
    /// The table is broken, or lacks what the model needs.
    #[error(transparent)]
    Table(#[from] ToolError),
}

/// Draws, writes the records as CSV, and answers how like real ones they are, if there are real ones to compare with.
pub fn run(request: &Request, out: &mut dyn Write) -> Result<Option<Fidelity>, SampleError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| SampleError::File { path, error }
    };
    let bytes = std::fs::read(&request.model).map_err(file(&request.model))?;
    let model = TrainedModel::from_bytes(&bytes).map_err(|error| SampleError::Model {
        path: request.model.clone(),
        error,
    })?;
    let drawn = draw(&model, request.n, request.seed, request.truncation)?;
    // The hours of the calendar are no feature.
    let columns = model.card.features();
    let drawn = drawn.slice_axis(Axis(1), Slice::from(..columns.len()));
    let fidelity = match &request.against {
        None => None,
        Some(path) => {
            let real = read(path, columns)?;
            Some(Fidelity::measure(columns, real.view(), drawn, request.seed))
        }
    };
    match &request.output {
        None => write(out, columns, drawn).map_err(file(Path::new("output")))?,
        Some(path) => {
            let mut out = io::BufWriter::new(File::create(path).map_err(file(path))?);
            write(&mut out, columns, drawn).map_err(file(path))?;
            out.flush().map_err(file(path))?;
        }
    }
    Ok(fidelity)
}

/// `n` synthetic records, `n × D` in the features' own units. Of a model over windows, the newest record of each drawn window.
pub fn draw(
    model: &TrainedModel,
    n: usize,
    seed: Seed,
    truncation: f32,
) -> Result<Array2<f64>, SampleError> {
    let scaled = model
        .model
        .sample(n, seed, truncation)
        .ok_or_else(|| SampleError::NotGenerative(model.model.name().to_owned()))?;
    let measured = model.scaler.measured().len();
    let newest = scaled.slice_axis(Axis(1), Slice::from(scaled.ncols() - measured..));
    Ok(model.scaler.inverse(newest, None))
}

fn write(out: &mut dyn Write, columns: &[String], rows: ArrayView2<'_, f64>) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(columns)?;
    for row in rows.rows() {
        // The model drew 32-bit floats; more digits would say nothing.
        table.write_record(row.iter().map(|&value| (value as f32).to_string()))?;
    }
    table.flush()
}

/// The model's columns of a file, which is read as `train` reads it.
fn read(path: &Path, columns: &[String]) -> Result<Array2<f64>, SampleError> {
    let mut roles = Roles {
        features: Some(columns.to_vec()),
        ..Roles::default()
    };
    // A column `mode=idle` may be a field's value; a file that has such a column itself is taken at its word.
    for (field, value) in columns.iter().filter_map(|column| column.split_once('=')) {
        let values = roles.categories.entry(field.to_owned()).or_default();
        values.push(value.to_owned());
    }
    let table = Table::read(path, &roles)?;
    let places: Vec<usize> = columns
        .iter()
        .filter_map(|column| table.columns.iter().position(|name| name == column))
        .collect();
    let rows = table.len().min(REAL_ROWS_MAX);
    Ok(Array2::from_shape_fn((rows, places.len()), |(row, at)| {
        table.row(row)[places[at]]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::{Regularizer, Regularizers};
    use crate::model::spec::ModelSpec;
    use crate::model::{FitData, Unwatched};
    use crate::nn::noise::fill_normal;
    use crate::stats::calibration::Calibration;
    use ndarray::array;

    /// Five features of two hidden causes and noise of their own.
    fn toy(n: usize, seed: u64) -> Array2<f32> {
        let rng = &mut Seed(seed).rng();
        let (mut causes, mut noise) = (Array2::zeros((n, 2)), Array2::zeros((n, 5)));
        fill_normal(causes.view_mut(), 1.0, rng);
        fill_normal(noise.view_mut(), 0.3, rng);
        let mixing = array![[1.0, 0.8, 0.0, -0.6, 0.5], [0.0, 0.6, 1.0, 0.8, -0.5]];
        causes.dot(&mixing) + noise
    }

    #[test]
    fn an_autoencoder_draws_records_like_those_it_learnt() {
        let data = FitData {
            train: toy(1500, 1),
            validation: toy(500, 2),
        };
        let real = toy(2000, 3).mapv(f64::from);
        let columns: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        for regularizer in [
            Regularizer::None,
            Regularizer::Sparse,
            Regularizer::Denoising,
            Regularizer::Contractive,
        ] {
            let spec = ModelSpec {
                kind: "autoencoder".to_owned(),
                ..ModelSpec::default()
            };
            let one = Regularizers::One(regularizer);
            let spec = spec.with(|spec| spec.autoencoder.regularizer = one);
            let model = KINDS.fit(&spec, &data, Seed(4), &mut Unwatched).unwrap();
            let draw = |truncation: f32| {
                let drawn = model.sample(2000, Seed(5), truncation).unwrap();
                drawn.mapv(f64::from)
            };
            let drawn = draw(1.0);
            let found = Fidelity::measure(&columns, real.view(), drawn.view(), Seed(6));
            let worst = found.features.iter().map(|f| f.1).fold(0.0, f64::max);
            // Codes of regularised encoders go together less simply than normal scores do.
            let room = if regularizer == Regularizer::None {
                0.1
            } else {
                0.15
            };
            assert!(worst < room, "{regularizer:?}: {found}");
            assert!(found.correlation < room, "{regularizer:?}: {found}");
            assert!((found.judge - 0.5).abs() < room, "{regularizer:?}: {found}");
            let size = |rows: &Array2<f64>| rows.var_axis(Axis(0), 0.0).sum();
            let narrow = size(&draw(0.3));
            assert!(narrow < 0.3 * size(&drawn), "{regularizer:?}: {narrow}");
        }
    }

    #[test]
    fn a_kind_that_cannot_draw_says_so() {
        let model = TrainedModel::simple(1, &["a"], 1, Calibration::fit(&[]));
        let error = draw(&model, 5, Seed(1), 1.0).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a model of kind `robust_z` cannot draw records")
        );
    }

    #[test]
    fn tables_are_read_by_the_models_columns_and_written_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("real.csv");
        std::fs::write(&path, "b,time,a\n1.5,now,2\n,then,3\n").unwrap();
        let columns = ["a", "b"].map(str::to_owned);
        let rows = read(&path, &columns).unwrap();
        assert_eq!(rows.row(0).to_vec(), [2.0, 1.5]);
        assert!(rows[(1, 1)].is_nan());
        let missing = read(&path, &["c".to_owned()]).unwrap_err();
        assert!(
            missing.to_string().contains("has no column `c` (feature)"),
            "{missing}"
        );
        let mut out = Vec::new();
        write(
            &mut out,
            &columns,
            rows.slice_axis(Axis(0), Slice::from(..1)),
        )
        .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,b\n2,1.5\n");
    }
}
