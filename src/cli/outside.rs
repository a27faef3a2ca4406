//! How commands reach Kafka: a person waits with them.

use std::sync::Arc;

use super::exit::Failure;
use crate::config::Config;
use crate::kafka::reach::reach;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock};

/// Asks Kafka for a first answer, which comes within seconds or is told not to.
pub(super) fn outside(config: &Config) -> Result<(Arc<dyn Clock>, Watchdog), Failure> {
    let topic = config.input.topics.first();
    reach(&config.connection(), topic.map(String::as_str))?;
    Ok(unasked())
}

/// The same without asking.
pub(super) fn unasked() -> (Arc<dyn Clock>, Watchdog) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    (clock, watchdog)
}
