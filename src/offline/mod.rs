//! Files, or stretches of topics, instead of a stream: train, score and backtest on tables, through the same training and the same pipeline as live.
//!
//! Next: [`table`] and [`topic`] (what is read), [`learn`] (`train`), `replay` (rows through the pipeline), [`judge`] (`score`, `backtest`), [`budgets`] (what other
//! budgets would have opened), [`figures`]
//! (how good that was, given labels), [`write`] (what is written), [`story`] and [`report`] (the same for people, in one HTML file),
//! [`sample`] (synthetic records).

pub mod budgets;
pub mod feedback;
pub mod figures;
pub mod judge;
pub mod learn;
mod replay;
pub mod report;
pub mod sample;
pub mod story;
pub mod table;
pub mod topic;
pub mod write;

use std::path::PathBuf;

pub use replay::Line;

use crate::model::tensors::ModelFileError;
use crate::train::TrainError;

/// Why a command on files failed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
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

#[cfg(test)]
mod feedback_tests;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod tests;
