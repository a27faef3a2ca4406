//! Models in a directory: `DETECTOR/00000007.safetensors` with its manifest `00000007.json`, and `champion.json`.
//!
//! Each file is written under a temporary name, synced, and renamed: a crash leaves the old one or the new one. The manifest comes after
//! the bytes and the pointer after the manifest, so that what is named is there. Who writes holds a lock on the folder (`.lock`, advisory),
//! so that of two processes that train only one can give a number away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Champion, Manifest, StoreError, superseded};
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::port::ModelStore;

/// A [`ModelStore`] over one folder.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    folder: PathBuf,
    keep: usize,
}

impl DirectoryStore {
    /// The models of `detector` below `directory`, which is made if it is not there; the newest `keep` versions are kept.
    pub fn open(directory: &Path, detector: &str, keep: usize) -> Result<Self, StoreError> {
        let folder = directory.join(detector);
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        Ok(Self { folder, keep })
    }

    /// Whether models of `detector` could be written below `directory`; answers the folder that would be made for them, if it is not there. Nothing stays behind.
    pub fn try_out(directory: &Path, detector: &str) -> Result<Option<PathBuf>, StoreError> {
        let folder = directory.join(detector);
        let there = folder.ancestors().find(|one| one.exists());
        let there = there.filter(|one| !one.as_os_str().is_empty());
        let draft = there
            .unwrap_or(Path::new("."))
            .join(format!(".{detector}.{}", std::process::id()));
        let made = File::create_new(&draft).and_then(|_| fs::remove_file(&draft));
        made.map_err(io(&folder))?;
        Ok((!folder.exists()).then_some(folder))
    }

    /// The feature columns that were resolved for `auto`, if they have been.
    pub fn schema(&mut self) -> Result<Option<String>, StoreError> {
        Self::read(&self.folder.join("schema.json"))
    }

    /// Keeps the feature columns that were resolved for `auto`, unless another process was quicker; answers those that hold.
    pub fn keep_schema(&mut self, schema: &str) -> Result<String, StoreError> {
        let _lock = self.lock()?;
        if let Some(kept) = self.schema()? {
            return Ok(kept);
        }
        self.write("schema.json", schema.as_bytes())?;
        Ok(schema.to_owned())
    }

    /// Keeps other processes from writing until what it answers is dropped.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.folder.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(io(&path))?;
        file.lock().map_err(io(&path))?;
        Ok(file)
    }

    fn versions(&self) -> Result<BTreeSet<ModelVersion>, StoreError> {
        let mut versions = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).map_err(io(&self.folder))? {
            let path = entry.map_err(io(&self.folder))?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(Ok(version)) = stem.map(str::parse)
            {
                versions.insert(ModelVersion(version));
            }
        }
        Ok(versions)
    }

    fn manifest(&self, version: ModelVersion) -> Result<Option<Manifest>, StoreError> {
        Self::read_json(&self.path(version, "json"))
    }

    fn path(&self, version: ModelVersion, extension: &str) -> PathBuf {
        self.folder.join(format!("{:08}.{extension}", version.0))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let draft = self.folder.join(format!(".{name}.{}", std::process::id()));
        let mut file = File::create(&draft).map_err(io(&draft))?;
        file.write_all(bytes).map_err(io(&draft))?;
        file.sync_all().map_err(io(&draft))?;
        fs::rename(&draft, &path).map_err(io(&path))?;
        // The rename itself is only durable once the folder is.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io(&self.folder))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(value).map_err(|error| StoreError::Content {
            path: self.folder.join(name),
            problem: error.to_string(),
        })?;
        self.write(name, &text)
    }

    fn read(path: &Path) -> Result<Option<String>, StoreError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(path)(error)),
        }
    }

    fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
        let Some(text) = Self::read(path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| StoreError::Content {
                path: path.to_owned(),
                problem: error.to_string(),
            })
    }
}

impl ModelStore for DirectoryStore {
    type Error = StoreError;

    fn save(&mut self, model: &TrainedModel, promote: bool) -> Result<(), StoreError> {
        let version = model.card.version;
        let _lock = self.lock()?;
        if self.manifest(version)?.is_some() {
            return Err(StoreError::Taken(version));
        }
        let before = self.champion()?;
        let bytes = model
            .to_bytes()
            .map_err(|error| StoreError::Model { version, error })?;
        let manifest = Manifest::new(model, &bytes, usize::MAX);
        self.write(&format!("{:08}.safetensors", version.0), &bytes)?;
        self.write_json(&format!("{:08}.json", version.0), &manifest)?;
        if promote {
            self.write_json("champion.json", &Champion::new(version))?;
        }
        let in_use = [before, self.champion()?];
        let stored = self
            .list()?
            .iter()
            .map(|card| (card.version, card.gate.is_rejected()))
            .collect();
        for old in superseded(&stored, &in_use, self.keep) {
            // The manifest first: without it the bytes are nothing.
            for extension in ["json", "safetensors"] {
                let path = self.path(old, extension);
                fs::remove_file(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }

    fn load(&mut self, version: ModelVersion) -> Result<Option<Arc<TrainedModel>>, StoreError> {
        let Some(manifest) = self.manifest(version)? else {
            return Ok(None);
        };
        let path = self.path(version, "safetensors");
        let bytes = fs::read(&path).map_err(io(&path))?;
        manifest
            .open(&bytes)
            .map(|model| Some(Arc::new(model)))
            .map_err(|error| StoreError::Model { version, error })
    }

    fn champion(&mut self) -> Result<Option<ModelVersion>, StoreError> {
        let champion: Option<Champion> = Self::read_json(&self.folder.join("champion.json"))?;
        Ok(champion.map(|champion| champion.version))
    }

    fn promote(&mut self, version: ModelVersion) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        if self.manifest(version)?.is_none() {
            return Err(StoreError::Absent(version));
        }
        self.write_json("champion.json", &Champion::new(version))
    }

    fn list(&mut self) -> Result<Vec<Card>, StoreError> {
        let mut cards = Vec::new();
        for version in self.versions()? {
            if let Some(manifest) = self.manifest(version)? {
                cards.push(manifest.card);
            }
        }
        Ok(cards)
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_out_and_nothing_stays_behind() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("a/models");
        let folder = models.join("pumps");
        let made = DirectoryStore::try_out(&models, "pumps").unwrap();
        assert_eq!(made.as_deref(), Some(&*folder));
        DirectoryStore::open(&models, "pumps", 1).unwrap();
        assert_eq!(DirectoryStore::try_out(&models, "pumps").unwrap(), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        // What cannot be a folder, whoever asks.
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryStore::try_out(&file.join("models"), "pumps").unwrap_err();
        assert!(error.to_string().contains("file/models/pumps: "), "{error}");
    }
}
