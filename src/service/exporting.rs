//! Telemetry of a process, if it is wanted.

use std::sync::Arc;

use prometheus::Registry;

use super::error::ServiceError;
use crate::config::Config;
use crate::seed::Seed;
use crate::telemetry::Counters;
use crate::telemetry::thread::{Exporting, Teller};
use crate::time::Clock;

/// Starts exporting where the configuration says where to. What it gives ends that, after the last messages, when it is dropped.
pub(super) fn begin(
    config: &Config,
    (registry, counters): (&Registry, &Counters),
    clock: &Arc<dyn Clock>,
) -> Result<Option<Exporting>, ServiceError> {
    let Some(settings) = &config.telemetry else {
        return Ok(None);
    };
    let made_up = uuid::Uuid::new_v4();
    let instance = config.instance.clone();
    let teller = Teller {
        instance: instance.unwrap_or_else(|| made_up.to_string()),
        registry: registry.clone(),
        counters: counters.clone(),
        clock: Arc::clone(clock),
        seed: Seed(made_up.as_u64_pair().0),
    };
    let started = Exporting::start(settings, teller).map_err(ServiceError::Telemetry)?;
    Ok(Some(started))
}
