//! What commands on files share: tables of rows from files or stretches of topics, training on them, synthetic records.
//!
//! Next: [`table`] and [`topic`] (what is read), [`training`] (`train`, and models made again from their cards), [`sample`] (synthetic records),
//! [`propose`] (a configuration from a sample), [`proposed`] (its file), [`looks`] (which settings would read records) and [`trial`] (how many records a configuration reads).

pub mod looks;
pub mod propose;
pub mod proposed;
pub mod sample;
pub mod table;
pub mod topic;
pub mod training;
pub mod trial;

use std::path::PathBuf;

use crate::model::tensors::ModelFileError;
use crate::train::TrainError;

/// Why a command on files failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line of a table cannot be used.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// The line, the first is 1.
        line: u64,
        /// What is wrong, with column and value.
        problem: String,
    },
    /// A table cannot be used.
    #[error("{path}: {problem}")]
    Table {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A model file cannot be used.
    #[error("{path}: {error}")]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ModelFileError,
    },
    /// Training failed.
    #[error("{path}: {error}")]
    Train {
        /// The table.
        path: String,
        /// Why.
        error: TrainError,
    },
    /// The topics cannot be read.
    #[error("the topics cannot be read: {0}")]
    Log(String),
    /// A model was not made again as it was.
    #[error("{0}")]
    Differs(String),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Asked(String),
}
