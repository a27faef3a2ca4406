//! The process around the workers: HTTP, metrics, status and the log.
//!
//! Next: `run` (starts and stops everything), `from_config` (what its parts are given), `prepare` (what it waits for), `models` (the store and who follows it), `feedback` (the same of what people say; both `watch`), `schema` (which features
//! there are), `observe` (events to metrics and status), `metrics` and `process_metrics` (every name, made by `maker`), `exporting` (the same and traces by OpenTelemetry), `status` (what people see; `intake`, what was read and what of it could not be; `arrivals`, whether anything comes), `http` (who answers), `log`,
//! `signal`, `reload` (the configuration read again).

pub mod api;
mod arrivals;
pub mod change;
pub mod described;
pub mod episodes;
pub mod error;
mod events;
mod exporting;
mod feedback;
mod from_config;
pub mod http;
pub mod intake;
pub mod log;
mod maker;
pub mod many;
pub mod many_http;
pub mod metrics;
pub mod models;
pub mod notifying;
pub mod observe;
pub mod old_episodes;
pub(crate) mod pages;
pub mod past;
mod prepare;
mod process_metrics;
mod query;
pub mod recent;
pub mod reload;
pub mod reloaded;
pub mod run;
pub mod schema;
pub mod scored;
mod shell;
pub mod signal;
pub mod sources;
pub mod status;
mod thread;
mod told;
mod watch;
pub mod words;
