//! Exit codes, after sysexits.h, so that a supervisor can tell "try again" from "someone must act".

use crate::config::Problems;

/// Done.
pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// A bug: a worker panicked, an invariant broke.
pub const INTERNAL: u8 = 70;
/// A file, the network or Kafka failed in a way that trying again inside the process does not help.
pub const IO: u8 = 74;
/// A call into librdkafka hung and the watchdog ended the process: start it again.
pub const WATCHDOG: u8 = 75;
/// More dead letters than `input.dead_letters_max`.
pub const DEAD_LETTERS: u8 = 76;
/// The configuration is wrong, or a topic or a right is missing in Kafka.
pub const CONFIGURATION: u8 = 78;
/// Told to stop, but a thread hung, and the process ended without it.
pub const STOP: u8 = crate::service::signal::EXIT_CODE;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// A file, the network or Kafka failed.
    #[error("{0}")]
    Io(String),
    /// A bug.
    #[error("{0}")]
    Internal(String),
    /// Anything with its own code, already logged.
    #[error("{message}")]
    Code {
        /// The exit code.
        code: u8,
        /// Why.
        message: String,
    },
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Configuration(_) => CONFIGURATION,
            Self::Io(_) => IO,
            Self::Internal(_) => INTERNAL,
            Self::Code { code, .. } => *code,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}
