//! One `[[notify]]`, checked: where to post, what, and how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate::Rate;
use super::template::Template;
use crate::alert::Severity;
use crate::https::{Authorities, redacted};

/// What an endpoint understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any server: JSON of ours or a body by a template, signed as Standard Webhooks has it.
    Webhook,
    /// Slack's incoming webhooks, and what takes the same (Mattermost, Rocket.Chat).
    Slack,
    /// PagerDuty's Events API v2, and what takes the same.
    Pagerduty,
    /// Prometheus' Alertmanager, API v2.
    Alertmanager,
}

impl Kind {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Alertmanager => "alertmanager",
        }
    }

    /// Whether it knows an episode by its id, from trigger to resolve.
    #[must_use]
    pub fn knows_episodes(self) -> bool {
        matches!(self, Self::Pagerduty | Self::Alertmanager)
    }
}

/// Where to post, what, and how often.
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    /// Its name: part of its consumer group, and a label of metrics.
    pub name: String,
    /// What it understands.
    pub kind: Kind,
    /// Where it is; may be a secret.
    pub url: String,
    /// Signs what a webhook is sent; PagerDuty's routing key; a bearer token for Alertmanager. Empty: none.
    pub secret: String,
    /// Who may vouch for it.
    pub authorities: Authorities,
    /// The least severity that it is told of.
    pub severity_min: Severity,
    /// Whether it is told that episodes end.
    pub send_resolved: bool,
    /// How long the first alert of a message waits for others.
    pub group_wait: Duration,
    /// How many messages it gets at most.
    pub rate_limit: Rate,
    /// How long one request may take.
    pub timeout: Duration,
    /// Instead of our own words.
    pub template: Option<Template>,
}

impl std::fmt::Debug for Endpoint {
    /// Leaves address and secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// An endpoint whose settings may change while it is told. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Live(Arc<Mutex<(u64, Endpoint)>>);

impl From<Endpoint> for Live {
    fn from(endpoint: Endpoint) -> Self {
        Self(Arc::new(Mutex::new((0, endpoint))))
    }
}

/// What it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    live: Live,
    changes: u64,
    /// Its settings then.
    pub endpoint: Endpoint,
}

impl From<Endpoint> for Seen {
    /// Of one that nobody changes.
    fn from(endpoint: Endpoint) -> Self {
        Live::from(endpoint).seen()
    }
}

impl Seen {
    /// Whether it is another by now.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.live.lock().0 != self.changes
    }

    /// As it is by now.
    #[must_use]
    pub fn again(&self) -> Self {
        self.live.seen()
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, (u64, Endpoint)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let (changes, endpoint) = self.lock().clone();
        Seen {
            live: self.clone(),
            changes,
            endpoint,
        }
    }

    /// Its settings from the next message on; name and kind stay.
    pub fn set(&self, endpoint: Endpoint) {
        let mut held = self.lock();
        *held = (held.0 + 1, endpoint);
    }
}

impl Endpoint {
    /// The consumer group that reads for it, of the detector whose group is `group`.
    #[must_use]
    pub fn group(&self, group: &str) -> String {
        format!("{group}.notify.{}", self.name)
    }

    /// `text` without its secrets.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        redacted(text, [self.url.as_str(), self.secret.as_str()])
    }
}
