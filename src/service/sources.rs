//! What HTTP answers from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::Registry;
use tokio::sync::Semaphore;

use super::change::Changes;
use super::events::Latest;
use super::metrics::Metrics;
use super::reloaded::ShownSettings;
use super::status::Status;
use crate::config::{Config, TokenDigest};
use crate::time::Clock;

/// Questions to Kafka at a time.
const ASKING_MAX: usize = 4;

/// Clients that are told of each change: each holds a connection.
const WATCHING_MAX: usize = 16;

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// All metrics.
    pub registry: Registry,
    /// Counts requests.
    pub metrics: Metrics,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// For the age of the last step.
    pub clock: Arc<dyn Clock>,
    /// What may be changed, and by whom.
    pub access: Access,
}

/// What can be changed, once the process has what it takes, and while it has. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct LateChanges(Arc<Mutex<Option<Arc<dyn Changes>>>>);

impl LateChanges {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Changes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As things are now; `None`: nothing can be changed yet.
    #[must_use]
    pub fn get(&self) -> Option<Arc<dyn Changes>> {
        self.lock().clone()
    }

    /// It can from now on.
    pub fn set(&self, changes: Arc<dyn Changes>) {
        *self.lock() = Some(changes);
    }

    /// It cannot any more.
    pub fn forget(&self) {
        *self.lock() = None;
    }
}

/// What may be changed, and by whom.
#[derive(Clone, Debug)]
pub struct Access {
    /// The settings in effect.
    pub settings: ShownSettings,
    /// Who has it may change things; `None`: nobody may.
    pub token: Option<TokenDigest>,
    /// The host of `http.public_url`, with its port if it has one: where pages of ours are.
    pub public_host: Option<Arc<str>>,
    /// Changes things.
    pub changes: LateChanges,
    /// Changes that may be at work ...
    pub changing: Arc<Semaphore>,
    /// ... and questions to Kafka.
    pub asking: Arc<Semaphore>,
    /// Who reads the log again: one at a time, of all detectors of a process.
    pub reading: Arc<Semaphore>,
    /// Who is told of each change ...
    pub watching: Arc<Semaphore>,
    /// ... and what.
    pub(super) latest: Arc<Latest>,
}

impl Access {
    /// Of a configuration; nothing can be changed until `changes` is set.
    #[must_use]
    pub fn new(config: &Config, changes: LateChanges) -> Self {
        Self {
            settings: ShownSettings::of(config),
            token: config.http_token.clone(),
            public_host: public_host(config.detect.public_url.as_deref()),
            changes,
            changing: Arc::new(Semaphore::new(1)),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
            reading: Arc::new(Semaphore::new(1)),
            watching: Arc::new(Semaphore::new(WATCHING_MAX)),
            latest: Arc::default(),
        }
    }
}

/// The host of an address, as a browser says it in `Origin`.
fn public_host(url: Option<&str>) -> Option<Arc<str>> {
    let (scheme, host) = url?.split_once("://")?;
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(usual).unwrap_or(host);
    Some(host.to_ascii_lowercase().into())
}
