//! Where log lines go: to standard error, as text on a terminal and as JSON otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::LogFormat;

/// Starts logging. A second call changes nothing. `level` was checked by the configuration.
pub fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(BoxMakeWriter::new(std::io::stderr));
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    // Err means that someone set a subscriber before: tests of one process do.
    drop(if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    });
}
