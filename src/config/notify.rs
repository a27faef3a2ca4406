//! `[[notify]]`: where `anomalyd notify` tells people of alerts, as it is written, and the rules that a type cannot hold.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{format_duration, plain_name, time};
use crate::alert::Severity;
use crate::https::{Authorities, is_http};
use crate::notify::endpoint::{Endpoint, Kind};
use crate::notify::rate::Rate;
use crate::notify::sample;
use crate::notify::template::Template;

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Where Alertmanager takes alerts.
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";
/// A request must end well before the group drops a member that is silent.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// The longest wait for more alerts.
const GROUP_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// One `[[notify]]`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Its name; empty: that of its kind.
    #[serde(default)]
    pub name: String,
    /// What it understands.
    pub kind: Kind,
    /// Where it is.
    #[serde(default)]
    pub url: String,
    /// The key of signatures, PagerDuty's routing key, or a bearer token for Alertmanager.
    #[serde(default)]
    pub secret: String,
    /// Certificates, PEM, of who may vouch for it; empty: those of the machine.
    #[serde(default)]
    pub ca_file: String,
    /// The least severity that it is told of.
    #[serde(default = "severity_min")]
    pub severity_min: Severity,
    /// Whether it is told that episodes end.
    #[serde(default = "send_resolved")]
    pub send_resolved: bool,
    /// How long the first alert of a message waits for others.
    #[serde(default = "group_wait", with = "time")]
    pub group_wait: Duration,
    /// How many messages it gets at most.
    #[serde(default = "rate_limit")]
    pub rate_limit: String,
    /// How long one request may take.
    #[serde(default = "timeout", with = "time")]
    pub timeout: Duration,
    /// What is said instead of our own words.
    #[serde(default)]
    pub template: String,
}

fn severity_min() -> Severity {
    Severity::Low
}

fn send_resolved() -> bool {
    true
}

fn group_wait() -> Duration {
    Duration::from_secs(10)
}

fn rate_limit() -> String {
    "60/minute".to_owned()
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

impl fmt::Debug for Notify {
    /// Leaves address and secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// All of them as they can be used, and what is wrong, by key.
pub(super) fn check(all: &[Notify]) -> (Vec<Endpoint>, Vec<(String, String)>) {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let mut endpoints = Vec::new();
    for (number, raw) in all.iter().enumerate() {
        let mut add = |key: &str, problem: String| {
            problems.push((format!("notify[{number}].{key}"), problem));
        };
        let endpoint = endpoint(raw, &mut add);
        let name = &endpoint.name;
        if !plain_name(name) {
            add(
                "name",
                format!("is \"{name}\", but must be 1 to 100 letters, digits, `.`, `_` or `-`"),
            );
        }
        if !names.insert(name.clone()) {
            add(
                "name",
                format!(
                    "\"{name}\" is the name of another one, whose consumer group it would share"
                ),
            );
        }
        endpoints.push(endpoint);
    }
    (endpoints, problems)
}

fn endpoint(raw: &Notify, add: &mut dyn FnMut(&str, String)) -> Endpoint {
    let mut url = raw.url.clone();
    if url.is_empty() && raw.kind == Kind::Pagerduty {
        PAGERDUTY.clone_into(&mut url);
    }
    // What is there may be a secret: it is not repeated.
    if !is_http(&url) {
        add(
            "url",
            "must be an address that begins with `https://` or `http://`".to_owned(),
        );
    }
    if raw.kind == Kind::Alertmanager && !url.ends_with(ALERTMANAGER_PATH) {
        url = format!("{}{ALERTMANAGER_PATH}", url.trim_end_matches('/'));
    }
    secret(raw, add);
    if !(TIMEOUT.0..=TIMEOUT.1).contains(&raw.timeout) {
        let is = format_duration(raw.timeout);
        add("timeout", format!("is {is}, but must be from 100ms to 1m"));
    }
    if GROUP_WAIT_MAX < raw.group_wait {
        let is = format_duration(raw.group_wait);
        add("group_wait", format!("is {is}, but must be at most 1h"));
    }
    let rate_limit = Rate::parse(&raw.rate_limit).unwrap_or_else(|| {
        let is = &raw.rate_limit;
        add("rate_limit", format!("is \"{is}\", but must be messages per second, minute, hour or day such as \"60/minute\""));
        Rate {
            messages: 60,
            per: Duration::from_secs(60),
        }
    });
    Endpoint {
        name: if raw.name.is_empty() {
            raw.kind.name().to_owned()
        } else {
            raw.name.clone()
        },
        kind: raw.kind,
        url,
        secret: raw.secret.clone(),
        authorities: Authorities::of_file(&raw.ca_file),
        severity_min: raw.severity_min,
        send_resolved: raw.send_resolved,
        group_wait: raw.group_wait,
        rate_limit,
        timeout: raw.timeout,
        template: template(&raw.template, add),
    }
}

/// What is wrong with a secret, without a word of it.
fn secret(raw: &Notify, add: &mut dyn FnMut(&str, String)) {
    if raw.kind == Kind::Slack && !raw.secret.is_empty() {
        add(
            "secret",
            "has no use where `kind` is \"slack\": the address is the secret".to_owned(),
        );
    }
    if raw.kind == Kind::Pagerduty && raw.secret.is_empty() {
        add(
            "secret",
            "is needed where `kind` is \"pagerduty\": the integration's routing key".to_owned(),
        );
    }
    if !raw.secret.chars().all(|c| c.is_ascii_graphic()) {
        add(
            "secret",
            "has blanks or characters that no HTTP header can have".to_owned(),
        );
    }
}

fn template(source: &str, add: &mut dyn FnMut(&str, String)) -> Option<Template> {
    if source.is_empty() {
        return None;
    }
    let parsed = Template::parse(source, &sample());
    parsed
        .map_err(|problem| add("template", format!("cannot be used: {problem}")))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Notify> {
        let mut table: toml::Table = text.parse().unwrap();
        Vec::deserialize(table.remove("notify").unwrap()).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = check(&read(text));
        let each = problems.into_iter();
        each.map(|(key, problem)| format!("{key}: {problem}"))
            .collect()
    }

    #[test]
    fn the_least_that_is_needed_is_kind_and_address() {
        let (endpoints, problems) = check(&read(
            "[[notify]]\nkind = \"slack\"\nurl = \"https://hooks.slack.com/services/x\"
             [[notify]]\nkind = \"pagerduty\"\nsecret = \"key\"
             [[notify]]\nkind = \"alertmanager\"\nurl = \"http://alertmanager:9093/\"",
        ));
        assert!(problems.is_empty(), "{problems:?}");
        let names: Vec<&str> = endpoints.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["slack", "pagerduty", "alertmanager"]);
        assert_eq!(endpoints[1].url, PAGERDUTY);
        assert_eq!(endpoints[2].url, "http://alertmanager:9093/api/v2/alerts");
        assert_eq!(endpoints[0].group("pumps"), "pumps.notify.slack");
        assert!(!format!("{:?}", endpoints[1]).contains("key\""));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_and_no_address() {
        let found = problems(
            "[[notify]]\nkind = \"slack\"\nurl = \"hooks.slack.com/services/hunter2\"\nsecret = \"x\"\nname = \"a b\"
             [[notify]]\nkind = \"pagerduty\"\ntimeout = \"2m\"\ngroup_wait = \"2h\"\nrate_limit = \"9\"
             [[notify]]\nkind = \"pagerduty\"\nsecret = \"a b\"\ntemplate = \"{{ alerts|nosuch }}\"",
        );
        for part in [
            "notify[0].url: must be",
            "notify[0].secret: has no use",
            "notify[0].name: is \"a b\"",
            "notify[1].secret: is needed",
            "notify[1].timeout: is 2m",
            "notify[1].group_wait: is 2h",
            "notify[1].rate_limit: is \"9\"",
            "notify[2].secret: has blanks",
            "notify[2].template: cannot be used",
            "notify[2].name: \"pagerduty\" is the name of another one",
        ] {
            let count = found.iter().filter(|text| text.starts_with(part)).count();
            assert_eq!(count, 1, "{part}: {found:?}");
        }
        assert_eq!(found.len(), 10, "{found:?}");
        assert!(!found.iter().any(|text| text.contains("hunter2")));
    }
}
