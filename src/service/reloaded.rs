//! What people see of the settings, and of what became of them when the configuration was last read again.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::config::{Changed, Config, Problems, Reloaded, Setting};
use crate::time::Timestamp;

/// What the last reading of the configuration came to, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadStatus {
    /// When, RFC 3339.
    pub at: String,
    /// One of [`OUTCOMES`].
    pub outcome: &'static str,
    /// What changed, and is in effect: workers take it up with their next batch, training with its next run.
    pub applied: Vec<Changed>,
    /// What is another in the configuration than in this process, until it is started again.
    pub needs_restart: Vec<Changed>,
    /// What is wrong with the configuration; then nothing was changed.
    pub problems: Vec<String>,
}

impl ReloadStatus {
    /// Of what was read at `at`. The log says it, too.
    pub(super) fn of(at: Timestamp, found: &Result<Reloaded, Problems>) -> Self {
        let at = at.rfc3339();
        let told = match found {
            Ok(found) => Self {
                at,
                outcome: match (found.applied.is_empty(), found.needs_restart.is_empty()) {
                    (true, true) => "unchanged",
                    (false, true) => "applied",
                    (_, false) => "needs_restart",
                },
                applied: found.applied.clone(),
                needs_restart: found.needs_restart.clone(),
                problems: Vec::new(),
            },
            Err(Problems(problems)) => Self {
                at,
                outcome: "refused",
                problems: problems.iter().map(ToString::to_string).collect(),
                ..Self::default()
            },
        };
        told.say();
        told
    }

    fn say(&self) {
        for problem in &self.problems {
            tracing::error!(problem, "the configuration that was read again is wrong");
        }
        for Changed { key, value } in &self.applied {
            tracing::info!(key, value, "a setting changed");
        }
        for Changed { key, .. } in &self.needs_restart {
            tracing::warn!(
                key,
                "a setting is another in the configuration, which takes a restart: this process goes on as it was"
            );
        }
        let outcome = self.outcome;
        if outcome == "refused" {
            tracing::error!(
                outcome,
                "the configuration was read again: nothing was changed"
            );
        } else {
            tracing::info!(outcome, "the configuration was read again");
        }
    }
}

/// What reading the configuration again may come to: nothing was another; all that was is in effect; some of it takes a restart; it cannot be used.
pub const OUTCOMES: [&str; 4] = ["unchanged", "applied", "needs_restart", "refused"];

/// The settings in effect, as people see them. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct ShownSettings(Arc<Mutex<Arc<[Setting]>>>);

impl ShownSettings {
    /// Of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let shown = Self::default();
        shown.set(config.settings());
        shown
    }

    /// As they are now.
    #[must_use]
    pub fn get(&self) -> Arc<[Setting]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows others from now on.
    pub fn set(&self, settings: Vec<Setting>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = settings.into();
    }
}
