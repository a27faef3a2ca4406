//! What a decoder remembers of schemas: where the fields go of each.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::DecodeError;
use super::writers::SchemaId;

/// Schemas that a decoder remembers at most.
const REMEMBERED_MAX: usize = 1_000;

/// Where the fields go of what schemas describe: of the one of all records, or of each that records name. No result depends on what is remembered.
#[derive(Clone, Debug)]
pub(super) struct Remembered<K, B> {
    plain: Option<Result<B, String>>,
    named: FxHashMap<K, Result<B, String>>,
}

impl<K, B> Default for Remembered<K, B> {
    fn default() -> Self {
        Self {
            plain: None,
            named: FxHashMap::default(),
        }
    }
}

impl<K: Copy + Eq + Hash, B> Remembered<K, B> {
    /// Of the schema of all records.
    pub(super) fn plain(
        &mut self,
        new: impl FnOnce() -> Result<B, String>,
    ) -> Result<&B, DecodeError> {
        usable(self.plain.get_or_insert_with(new))
    }

    /// Of a schema that a record names.
    pub(super) fn named(
        &mut self,
        name: K,
        new: impl FnOnce() -> Result<B, String>,
    ) -> Result<&B, DecodeError> {
        if REMEMBERED_MAX <= self.named.len() && !self.named.contains_key(&name) {
            self.named.clear();
        }
        usable(self.named.entry(name).or_insert_with(new))
    }
}

fn usable<B>(found: &Result<B, String>) -> Result<&B, DecodeError> {
    let found = found.as_ref();
    found.map_err(|problem| syntax(&format!("has a schema that {problem}")))
}

/// A value that is not what its schema says.
pub(super) fn syntax(problem: &str) -> DecodeError {
    DecodeError::Syntax(format!("value {problem}"))
}

/// A value whose schema is of another format than `format`.
pub(super) fn of_another(id: SchemaId, format: &str) -> DecodeError {
    syntax(&format!("has the schema {id}, which is not of {format}"))
}
