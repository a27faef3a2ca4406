//! Where log lines go: to standard error, as text on a terminal and as JSON otherwise.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::reload::Handle;

use crate::config::LogFormat;

/// What changes the level of the log that was started: the log is the process's, so is this.
static LEVEL: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging. A second call changes nothing. `level` was checked by the configuration.
pub fn start(level: &str, format: LogFormat) {
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_ansi(terminal)
        .with_writer(BoxMakeWriter::new(std::io::stderr));
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    // Err means that someone set a subscriber before: tests of one process do.
    if json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            may_change(handle);
        }
    } else {
        let builder = builder.with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            may_change(handle);
        }
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn may_change<S: 'static>(handle: Handle<EnvFilter, S>) {
    let change = move |filter| {
        if let Err(error) = handle.reload(filter) {
            tracing::error!(%error, "the level of the log cannot be changed");
        }
    };
    // It is set once: there is one log.
    LEVEL.set(Box::new(change)).unwrap_or_default();
}

/// Logs at another level from now on. `level` was checked by the configuration.
pub fn level(level: &str) {
    if let Some(change) = LEVEL.get() {
        change(filter(level));
    }
}
