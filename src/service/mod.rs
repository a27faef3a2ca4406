//! The process around the workers: HTTP, metrics, status and the log.
//!
//! Next: `metrics` (every name), `status` (what people see), `http` (who answers), `log`.

pub mod http;
pub mod log;
pub mod metrics;
pub mod status;
