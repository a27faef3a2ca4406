//! The configuration of `anomalyd notify` read again while it runs.

use std::collections::BTreeSet;

use super::reload::{Changed, Reloaded, changes, lies_in};
use super::{Config, Problems};
use crate::notify::endpoint::Endpoint;

/// What else of the settings `notify` goes by, in tables and keys: what changes there takes a restart. Of the rest it knows nothing.
const OURS: [&str; 10] = [
    "name",
    "instance",
    "seed",
    "kafka",
    "registry",
    "input.group",
    "output.alerts",
    "http",
    "log.format",
    "telemetry",
];

impl Config {
    /// Reads the same files, environment and flags again, for `notify`: it takes over the settings of the endpoints that it has, but for their names and
    /// kinds, and the level of the log.
    ///
    /// # Errors
    /// All problems at once, if what was read cannot be used: then all stays as it is.
    pub fn reload_notify(&self) -> Result<Reloaded, Problems> {
        let new = self.again()?;
        let mut needs_restart: Vec<Changed> = changes(self, &new)
            .into_iter()
            .filter(|changed| lies_in(&changed.key, &OURS))
            .collect();
        let mut applied = Vec::new();
        if new.log.level != self.log.level {
            applied.push(Changed {
                key: "log.level".to_owned(),
                value: format!("\"{}\"", new.log.level),
            });
        }
        let same = |one: &Endpoint| {
            let mut all = new.notify.iter();
            all.find(|other| (&other.name, other.kind) == (&one.name, one.kind))
        };
        let told = |one: &Endpoint, what: &str| Changed {
            key: format!("notify.{}", one.name),
            value: what.to_owned(),
        };
        let mut config = self.clone();
        config.log.level.clone_from(&new.log.level);
        for one in &mut config.notify {
            match same(one) {
                Some(other) if other != one => {
                    applied.push(told(one, &differing(one, other)));
                    *one = other.clone();
                }
                Some(_) => {}
                None => needs_restart.push(told(one, "is gone, or of another kind")),
            }
        }
        let known: BTreeSet<&String> = self.notify.iter().map(|one| &one.name).collect();
        let come = new.notify.iter().filter(|one| !known.contains(&one.name));
        needs_restart.extend(come.map(|one| told(one, "is new")));
        Ok(Reloaded {
            config,
            applied,
            needs_restart,
        })
    }
}

/// The names of the settings in which two endpoints differ.
fn differing(old: &Endpoint, new: &Endpoint) -> String {
    let settings = [
        ("url", old.url == new.url),
        ("secret", old.secret == new.secret),
        ("ca_file", old.authorities == new.authorities),
        ("severity_min", old.severity_min == new.severity_min),
        ("send_resolved", old.send_resolved == new.send_resolved),
        ("group_wait", old.group_wait == new.group_wait),
        ("rate_limit", old.rate_limit == new.rate_limit),
        ("timeout", old.timeout == new.timeout),
        ("template", old.template == new.template),
    ];
    let differ = settings.into_iter().filter(|(_, same)| !same);
    let differ: Vec<&str> = differ.map(|(name, _)| name).collect();
    differ.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use std::fs;

    fn told(changed: &[Changed]) -> Vec<String> {
        let each = changed.iter();
        each.map(|one| format!("{}: {}", one.key, one.value))
            .collect()
    }

    #[test]
    fn endpoints_change_and_what_cannot_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("a.toml"), folder.path().join("secret"));
        let write = |text: &str, key: &str| {
            fs::write(&secret, key).unwrap();
            let text = text.replace("SECRET", &format!("${{file:{}}}", secret.display()));
            fs::write(&file, text).unwrap();
        };
        let two = "[[notify]]\nkind = \"webhook\"\nurl = \"https://a\"\nsecret = \"SECRET\"\n[[notify]]\nkind = \"slack\"\nurl = \"https://b\"\n";
        write(two, "hunter-uno");
        let sources = Sources {
            files: vec![file.clone()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let same = config.reload_notify().unwrap();
        assert!(same.applied.is_empty() && same.needs_restart.is_empty());
        // A secret's file, an address, a setting of the daemon alone, and one of the process.
        let more = "timeout = \"3s\"\n[model]\nwindow = 3\n[output]\nalerts = \"others\"\n[log]\nlevel = \"debug\"\n";
        write(&format!("{two}{more}"), "hunter-dos");
        let found = config.reload_notify().unwrap();
        assert_eq!(
            told(&found.applied),
            [
                "log.level: \"debug\"",
                "notify.webhook: secret",
                "notify.slack: timeout"
            ]
        );
        assert_eq!(told(&found.needs_restart), ["output.alerts: \"others\""]);
        let now = found.config;
        assert_eq!(now.notify[0].secret, "hunter-dos");
        assert_eq!(
            (&*now.output.alerts, now.log.level.as_str()),
            ("anomalyd.alerts", "debug")
        );
        // What is in effect is not said again, but what waits for a restart is.
        let again = now.reload_notify().unwrap();
        assert!(again.applied.is_empty(), "{:?}", again.applied);
        assert_eq!(again.needs_restart.len(), 1);
        write(two, "hunter-uno");
        let back = now.reload_notify().unwrap();
        assert_eq!(
            told(&back.applied),
            [
                "log.level: \"info\"",
                "notify.webhook: secret",
                "notify.slack: timeout"
            ]
        );
    }

    #[test]
    fn who_comes_and_goes_takes_a_restart_and_what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let write = |text: &str| fs::write(&file, text).unwrap();
        write(
            "[[notify]]\nkind = \"webhook\"\nurl = \"https://a\"\n[[notify]]\nkind = \"slack\"\nurl = \"https://b\"\n",
        );
        let sources = Sources {
            files: vec![file.clone()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        // One goes, one comes, one is of another kind.
        write(
            "[[notify]]\nname = \"slack\"\nkind = \"webhook\"\nurl = \"https://b\"\n[[notify]]\nname = \"new\"\nkind = \"slack\"\nurl = \"https://b\"\n",
        );
        let found = config.reload_notify().unwrap();
        assert!(found.applied.is_empty());
        assert_eq!(
            told(&found.needs_restart),
            [
                "notify.webhook: is gone, or of another kind",
                "notify.slack: is gone, or of another kind",
                "notify.new: is new"
            ]
        );
        assert_eq!(found.config.notify, config.notify);
        write("[[notify]]\nkind = \"slack\"\nurl = \"nowhere\"\n");
        assert!(config.reload_notify().is_err());
    }
}
