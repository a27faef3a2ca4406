//! `run`, `notify` and `demo`: the daemon, what tells people of alerts, and the story told around it.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::args::{DemoArgs, Settings};
use super::exit::{self, Failure};
use crate::config::Config;
use crate::config::raw::LogFormat;
use crate::demo::feed;
use crate::demo::run::{self as demo, DemoError};
use crate::demo::story::Story;
use crate::service::error::ServiceError;
use crate::service::run as service;
use crate::service::{log, many, notifying, signal};
use crate::worker::WorkerError;

/// How long the plant may take to end when it is told to.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The daemon, until it is told to stop.
pub fn run(configs: &[Config]) -> Result<(), Failure> {
    match configs {
        [config] => service::run(config)?,
        several => many::run(several)?,
    }
    Ok(())
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

/// The demo's plant alone, until it is told to stop.
pub fn plant(arguments: &DemoArgs, config: &Config) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let limit = || STOP_MAX;
            signal::listen(limit, false, |request| {
                if let signal::Request::Stop(_) = request {
                    heard.store(true, Ordering::Relaxed);
                }
            });
        })?;
    let plant = (arguments.seed.unwrap_or(7), arguments.length);
    let story = Story::new(io::stdout(), io::stdout().is_terminal());
    match feed::run(config, plant, Arc::clone(&stop), story) {
        // Whatever it waited for when it was told to stop.
        Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
        done => Ok(done?),
    }
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
