//! Where models are kept: what every store shares, and the store in a directory.
//!
//! A version is immutable and whole or not there: its bytes are checked against the sha256 of its manifest at every load.
//! The champion is a pointer beside them. The store in a Kafka topic is `kafka::models`, a layer above.

mod directory;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use directory::DirectoryStore;

use crate::model::artefact::{ArtefactError, sha256};
use crate::model::card::{Card, ModelVersion};
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
    pub fn open(&self, bytes: &[u8]) -> Result<TrainedModel, ArtefactError> {
        let model = TrainedModel::from_checked_bytes(bytes, &self.sha256)?;
        if model.card.version != self.version {
            return Err(ArtefactError::Invalid(format!(
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

/// The stored versions that may be forgotten when `keep` are to be kept: the oldest, but never the champion.
pub fn superseded(
    stored: &BTreeSet<ModelVersion>,
    champion: Option<ModelVersion>,
    keep: usize,
) -> Vec<ModelVersion> {
    let excess = stored.len().saturating_sub(keep.max(1));
    stored
        .iter()
        .copied()
        .filter(|version| Some(*version) != champion)
        .take(excess)
        .collect()
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
        error: ArtefactError,
    },
    /// There is no such version.
    #[error("there is no model version {0}")]
    Absent(ModelVersion),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_champion_never() {
        let stored: BTreeSet<ModelVersion> = (1..=5).map(ModelVersion).collect();
        let go = |champion: Option<u64>, keep| {
            superseded(&stored, champion.map(ModelVersion), keep)
                .into_iter()
                .map(|version| version.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(go(Some(5), 3), [1, 2]);
        assert_eq!(go(Some(1), 3), [2, 3]);
        assert_eq!(go(None, 5), [0; 0]);
        assert_eq!(go(Some(5), 0), [1, 2, 3, 4]);
    }
}
