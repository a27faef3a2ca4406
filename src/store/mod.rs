//! Where models are kept: what every store shares, and the store in a directory.
//!
//! A version is immutable and whole or not there: its bytes are checked against the sha256 of its manifest at every load.
//! The champion is a pointer beside them. The store in a Kafka topic is `kafka::models`, a layer above.

mod directory;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use directory::DirectoryStore;

use crate::model::card::{Card, ModelVersion};
use crate::model::tensors::{ModelFileError, sha256};
use crate::model::trained::TrainedModel;

/// The format of manifests and pointers.
pub const FORMAT: u32 = 1;

/// What is known of a stored model besides its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this manifest: 1.
    pub format: u32,
    /// The model's number.
    pub version: ModelVersion,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// In how many pieces they are kept.
    pub chunks: u32,
    /// What the model was made from.
    pub card: Card,
}

impl Manifest {
    /// The manifest of a model whose file is `bytes`, kept in pieces of at most `chunk` bytes.
    pub fn new(model: &TrainedModel, bytes: &[u8], chunk: usize) -> Self {
        Self {
            format: FORMAT,
            version: model.card.version,
            sha256: sha256(bytes),
            bytes: bytes.len() as u64,
            chunks: u32::try_from(bytes.len().div_ceil(chunk.max(1))).unwrap_or(u32::MAX),
            card: model.card.clone(),
        }
    }

    /// Checks bytes against this manifest and reads the model.
    pub fn open(&self, bytes: &[u8]) -> Result<TrainedModel, ModelFileError> {
        let model = TrainedModel::from_checked_bytes(bytes, &self.sha256)?;
        if model.card.version != self.version {
            return Err(ModelFileError::Invalid(format!(
                "the manifest says version {}, but the model is version {}",
                self.version, model.card.version
            )));
        }
        Ok(model)
    }
}

/// Which version is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Champion {
    /// The format of this pointer: 1.
    pub format: u32,
    /// The version.
    pub version: ModelVersion,
}

impl Champion {
    /// A pointer to `version`.
    pub fn new(version: ModelVersion) -> Self {
        Self {
            format: FORMAT,
            version,
        }
    }
}

/// The stored versions that may be forgotten: of those that the gate rejected all but the newest `keep`, and of the others likewise, so
/// that rejected ones, which are only kept for their reasons, push none out that may be rolled back to. Never one that is in `in_use`:
/// the champion, and the one before it, which judges until all partitions have taken the new one up.
///
/// `stored` has each version and whether it was rejected.
pub fn superseded(
    stored: &BTreeMap<ModelVersion, bool>,
    in_use: &[Option<ModelVersion>],
    keep: usize,
) -> Vec<ModelVersion> {
    let mut gone = Vec::new();
    for rejected in [false, true] {
        let alike = || {
            stored
                .iter()
                .filter(|(_, is)| **is == rejected)
                .map(|(version, _)| *version)
        };
        let excess = alike().count().saturating_sub(keep.max(1));
        gone.extend(
            alike()
                .filter(|version| !in_use.contains(&Some(*version)))
                .take(excess),
        );
    }
    gone.sort_unstable();
    gone
}

/// Why a model cannot be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// A file is not what was written.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The model's bytes cannot be made or used.
    #[error("model version {version}: {error}")]
    Model {
        /// The version.
        version: ModelVersion,
        /// What is wrong with it.
        error: ModelFileError,
    },
    /// Versions are immutable, and another process that trains was quicker.
    #[error("there is a model version {0} already: another process trains for the same folder")]
    Taken(ModelVersion),
    /// There is no such version.
    #[error("there is no model version {0}")]
    Absent(ModelVersion),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_those_in_use_never() {
        let stored: BTreeMap<ModelVersion, bool> = (1..=5)
            .map(|version| (ModelVersion(version), false))
            .collect();
        let go = |in_use: &[u64], keep| {
            let in_use: Vec<_> = in_use.iter().map(|v| Some(ModelVersion(*v))).collect();
            superseded(&stored, &in_use, keep)
                .into_iter()
                .map(|version| version.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(go(&[5], 3), [1, 2]);
        assert_eq!(go(&[1], 3), [2, 3]);
        assert_eq!(go(&[5, 4], 1), [1, 2, 3]);
        assert_eq!(go(&[], 5), [0; 0]);
        assert_eq!(go(&[5], 0), [1, 2, 3, 4]);
    }

    #[test]
    fn rejected_models_push_no_other_out() {
        // Two that were promoted, then twenty that were not.
        let stored: BTreeMap<ModelVersion, bool> = (1..=22)
            .map(|version| (ModelVersion(version), version > 2))
            .collect();
        let gone = superseded(&stored, &[Some(ModelVersion(2)), Some(ModelVersion(2))], 10);
        // The newest is there: its number is never given again.
        assert_eq!(gone, (3..=12).map(ModelVersion).collect::<Vec<_>>());
    }
}
