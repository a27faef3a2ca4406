//! What is written: whole or not at all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::OfflineError;
use super::replay::Line;
use crate::model::trained::TrainedModel;

/// Writes under a temporary name, then renames.
pub fn whole(path: &Path, bytes: &[u8]) -> Result<(), OfflineError> {
    let file = |error| OfflineError::File {
        path: path.to_owned(),
        error,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let draft = path.with_file_name(name);
    let written = File::create(&draft).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync_all()
    });
    written
        .and_then(|()| fs::rename(&draft, path))
        .map_err(|error| {
            // The first failure is the one to tell of.
            fs::remove_file(&draft).unwrap_or_default();
            file(error)
        })
}

/// Reads a model file.
pub fn read_model(path: &Path) -> Result<(TrainedModel, Vec<u8>), OfflineError> {
    let bytes = fs::read(path).map_err(|error| OfflineError::File {
        path: path.to_owned(),
        error,
    })?;
    let model = TrainedModel::from_bytes(&bytes).map_err(|error| OfflineError::Model {
        path: path.to_owned(),
        error,
    })?;
    Ok((model, bytes))
}

/// The bytes of a model file.
pub fn model_bytes(model: &TrainedModel, path: &Path) -> Result<Vec<u8>, OfflineError> {
    model.to_bytes().map_err(|error| OfflineError::Model {
        path: path.to_owned(),
        error,
    })
}

/// `score,p_value,alert,model_version`: a line a row, in full precision; empty where a row has no score.
pub fn scores(lines: &[Line]) -> String {
    let mut text = String::with_capacity(48 * lines.len());
    text.push_str("score,p_value,alert,model_version\n");
    for line in lines {
        let number = |text: &mut String, value: f64| {
            if !value.is_nan() {
                // Formatting into a string does not fail.
                write!(text, "{value:?}").unwrap_or_default();
            }
        };
        number(&mut text, line.score);
        text.push(',');
        number(&mut text, line.p_value);
        let (alert, version) = (u8::from(line.alert), line.version);
        writeln!(text, ",{alert},{version}").unwrap_or_default();
    }
    text
}
