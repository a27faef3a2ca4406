//! Where log lines go: to standard error, as text on a terminal and as JSON otherwise. Where a process has several detectors, a line says which one it is
//! of.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::{Span, Subscriber};
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

/// What spans of detectors are of, for the filter: they are there at every level.
const DETECTORS: &str = "detectors";

/// What names `detector` in all lines that are logged in it.
pub(super) fn of(detector: &str) -> Span {
    tracing::error_span!(target: DETECTORS, "of", %detector)
}

/// Starts logging. A second call changes nothing. `level` was checked by the configuration.
pub fn start(level: &str, format: LogFormat) {
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    let subscriber = Registry::default()
        .with(filter)
        .with(lines((terminal, json), BoxMakeWriter::new(std::io::stderr)));
    // Err means that someone set a subscriber before: tests of one process do.
    if subscriber.try_init().is_ok() {
        may_change(handle);
    }
}

/// What writes lines.
fn lines<S>(
    (terminal, json): (bool, bool),
    writer: BoxMakeWriter,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_ansi(terminal).with_writer(writer);
    if json {
        let json = layer.json().flatten_event(true);
        json.with_span_list(false).boxed()
    } else {
        layer.with_target(false).boxed()
    }
}

fn filter(level: &str) -> Targets {
    let otherwise = |_| Targets::new().with_default(LevelFilter::INFO);
    let lines = level.parse().unwrap_or_else(otherwise);
    lines.with_target(DETECTORS, LevelFilter::ERROR)
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

#[cfg(test)]
mod tests {
    use super::super::thread::spawn;
    use super::*;
    use std::fs::File;
    use tracing::dispatcher::{self, Dispatch};

    /// What is written of a warning of one of several detectors, on a thread that one of its own threads started.
    fn written(level: &str, json: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = BoxMakeWriter::new(File::create(&path).unwrap());
        let subscriber = Registry::default()
            .with(filter(level))
            .with(lines((false, json), writer));
        let log = Dispatch::new(subscriber);
        let threads = log.clone();
        dispatcher::with_default(&log, || {
            let _whose = of("pumps").entered();
            let body = move || {
                dispatcher::with_default(&threads, || {
                    tracing::warn!(target: "anomalyd::kafka", rows = 9, "said");
                });
            };
            spawn("for the test", body).unwrap().join().unwrap();
        });
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn each_line_of_one_of_several_detectors_names_it_at_every_level() {
        for level in ["info", "warn", "anomalyd::kafka=warn"] {
            let text = written(level, false);
            assert!(
                text.ends_with("WARN of{detector=pumps}: said rows=9\n"),
                "{text}"
            );
            let line: serde_json::Value = serde_json::from_str(&written(level, true)).unwrap();
            assert_eq!(line["span"]["detector"], "pumps");
            assert_eq!(
                (&line["rows"], &line["message"]),
                (&9.into(), &"said".into())
            );
        }
        assert_eq!(written("error", false), "");
    }
}
