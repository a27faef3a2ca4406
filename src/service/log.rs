//! Where log lines go: to standard error, as text on a terminal and as JSON otherwise.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::LogFormat;

/// What changes the level of the log that was started: the log is the process's, so is this.
static LEVEL: OnceLock<Box<dyn Fn(Targets) + Send + Sync>> = OnceLock::new();

/// Starts logging. A second call changes nothing. `level` was checked by the configuration.
pub fn start(level: &str, format: LogFormat) {
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    let subscriber = Registry::default().with(filter).with(lines(terminal, json));
    // Err means that someone set a subscriber before: tests of one process do.
    if subscriber.try_init().is_ok() {
        may_change(handle);
    }
}

/// What writes lines to standard error.
fn lines<S>(terminal: bool, json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer()
        .with_ansi(terminal)
        .with_writer(BoxMakeWriter::new(std::io::stderr));
    if json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.with_target(false).boxed()
    }
}

fn filter(level: &str) -> Targets {
    let otherwise = |_| Targets::new().with_default(LevelFilter::INFO);
    level.parse().unwrap_or_else(otherwise)
}

fn may_change<S: 'static>(handle: Handle<Targets, S>) {
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
