//! What is written: whole or not at all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::evaluate::Outcome;
use crate::alert::Alert;
use crate::model::trained::TrainedModel;
use crate::tools::ToolError;
use crate::tools::table::Table;

/// Writes under a temporary name, then renames. Links are followed, and what is no file (`/dev/null`, a pipe) is written into instead of replaced.
pub fn whole(path: &Path, bytes: &[u8]) -> Result<(), ToolError> {
    let file = |error| ToolError::File {
        path: path.to_owned(),
        error,
    };
    let real = fs::canonicalize(path);
    let path = real.as_deref().unwrap_or(path);
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, bytes).map_err(file);
    }
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
pub fn read_model(path: &Path) -> Result<(TrainedModel, Vec<u8>), ToolError> {
    let bytes = fs::read(path).map_err(|error| ToolError::File {
        path: path.to_owned(),
        error,
    })?;
    let model = TrainedModel::from_bytes(&bytes).map_err(|error| ToolError::Model {
        path: path.to_owned(),
        error,
    })?;
    Ok((model, bytes))
}

/// The bytes of a model file.
pub fn model_bytes(model: &TrainedModel, path: &Path) -> Result<Vec<u8>, ToolError> {
    model.to_bytes().map_err(|error| ToolError::Model {
        path: path.to_owned(),
        error,
    })
}

/// Alerts as the daemon would send them: a JSON object a line.
pub fn alerts(outcome: &Outcome) -> String {
    let line = |(_, alert): &(usize, Alert)| {
        let json = serde_json::to_string(alert);
        json.unwrap_or_else(|error| unreachable!("alerts are plain structs: {error}")) + "\n"
    };
    outcome.alerts.iter().map(line).collect()
}

/// `score,p_value,alert,model_version`: a line a row, in full precision; empty where a row has no score. Of rows from a topic, `topic`,
/// `partition` and `offset` come first; `code_0`, `code_1`, … follow where codes were asked for.
pub fn scores(table: &Table, outcome: &Outcome) -> String {
    let mut text = String::with_capacity(48 * table.len());
    let codes = outcome.codes.as_deref().unwrap_or_default();
    let width = codes.iter().flatten().map(Vec::len).max().unwrap_or(0);
    if table.places.is_some() {
        text.push_str("topic,partition,offset,");
    }
    text.push_str("score,p_value,alert,model_version");
    for i in 0..width {
        put(&mut text, format_args!(",code_{i}"));
    }
    text.push('\n');
    for (row, line) in outcome.lines.iter().enumerate() {
        if let Some(places) = &table.places {
            let (part, offset) = places.rows[row];
            let at = &places.parts[part];
            put(
                &mut text,
                format_args!("{},{},{offset},", at.topic, at.partition.0),
            );
        }
        number(&mut text, line.score);
        text.push(',');
        number(&mut text, line.p_value);
        let (alert, version) = (
            u8::from(line.alert),
            line.scored_by.version().unwrap_or_default(),
        );
        put(&mut text, format_args!(",{alert},{version}"));
        let code = codes.get(row).and_then(Option::as_deref);
        for i in 0..width {
            text.push(',');
            if let Some(code) = code {
                put(&mut text, format_args!("{:?}", code[i]));
            }
        }
        text.push('\n');
    }
    text
}

/// A number in full precision; nothing for NaN.
fn number(text: &mut String, value: f64) {
    if !value.is_nan() {
        put(text, format_args!("{value:?}"));
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Formatting into a string does not fail.
    text.write_fmt(arguments).unwrap_or_default();
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_no_file_is_written_into_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let [null, link, target] = ["null", "link", "target"].map(|name| folder.path().join(name));
        symlink("/dev/null", &null).unwrap();
        whole(&null, b"nobody reads this").unwrap();
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        let device = fs::metadata("/dev/null").unwrap().file_type();
        assert!(device.is_char_device());

        symlink(&target, &link).unwrap();
        for text in [b"one", b"two"] {
            fs::write(&target, b"old").unwrap();
            whole(&link, text).unwrap();
            assert_eq!(fs::read(&target).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3, "no draft stays");
    }
}
