//! `run` and `demo`: the daemon, and the story told around it.

use std::io::{self, IsTerminal as _};

use super::args::{DemoArgs, Settings};
use super::exit::{self, Failure};
use crate::config::Config;
use crate::config::raw::LogFormat;
use crate::demo::run::{self as demo, DemoError};
use crate::service::error::ServiceError;
use crate::service::run as service;
use crate::service::{log, many, notifying};
use crate::worker::WorkerError;

/// The daemon, until it is told to stop.
pub fn run(configs: &[Config]) -> Result<(), Failure> {
    Ok(match configs {
        [config] => service::run(config)?,
        several => many::run(several)?,
    })
}

/// What tells people of alerts, until it is told to stop.
pub fn notify(config: &Config) -> Result<(), Failure> {
    Ok(notifying::run(config)?)
}

/// The demo, on standard output.
pub fn demo(arguments: &DemoArgs, settings: &Settings) -> Result<(), Failure> {
    let terminal = io::stdout().is_terminal();
    // The story is on standard output; the log would only interrupt it, but what goes wrong must be seen.
    log::start(
        settings.log_level.as_deref().unwrap_or("warn"),
        LogFormat::Auto,
    );
    let options = demo::Options {
        length: arguments.length,
        seed: arguments.seed.unwrap_or(7),
        brokers: settings.brokers.clone(),
        files: settings.config.clone(),
        set: settings.set.clone(),
        colour: terminal,
    };
    Ok(demo::run(&options, io::stdout())?)
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Worker {
                error: WorkerError::DeadLetters { .. },
                ..
            } => Self::Code {
                code: exit::DEAD_LETTERS,
                message,
            },
            ServiceError::Panicked(_) | ServiceError::Helper(_) | ServiceError::Metrics(_) => {
                Self::Internal(message)
            }
            ServiceError::Slow(_) => Self::Code {
                code: exit::STOP,
                message,
            },
            error if error.is_configuration() => Self::Code {
                code: exit::CONFIGURATION,
                message,
            },
            _ => Self::Io(message),
        }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Config(problems) => Self::Configuration(problems),
            DemoError::Service(error) => error.into(),
            DemoError::Promise(_) => Self::Code {
                code: 1,
                message: error.to_string(),
            },
            other => Self::Io(other.to_string()),
        }
    }
}
