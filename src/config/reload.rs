//! The configuration read again while the program runs: what may change without a restart, and what may not.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use toml::Table;

use super::check::check;
use super::load::Loaded;
use super::raw::{Log, Raw, Training};
use super::settings::flatten;
use super::{Config, Problems};

/// Settings, and tables of settings, that may change while the program runs.
pub const LIVE: [&str; 4] = ["alerts", "gate", "log.level", "training"];
/// What of them may not: the state would have to remember what it has forgotten.
pub const NOT_LIVE: [&str; 1] = ["training.history"];

/// Whether a setting may change while the program runs.
#[must_use]
pub fn is_live(key: &str) -> bool {
    lies_in(key, &LIVE) && !lies_in(key, &NOT_LIVE)
}

/// Whether a setting is one of these, or in one of these tables.
pub(super) fn lies_in(key: &str, all: &[&str]) -> bool {
    all.iter().any(|one| {
        let rest = key.strip_prefix(one);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// A setting that is another than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its key.
    pub key: String,
    /// Its new value as TOML has it, `***` for a secret.
    pub value: String,
}

/// What reading the configuration again came to.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The configuration in effect from now on: as it was, but for what changed and may.
    pub config: Config,
    /// What changed, and is in effect.
    pub applied: Vec<Changed>,
    /// What changed, and is not in effect before a restart.
    pub needs_restart: Vec<Changed>,
}

impl Config {
    /// The same files, environment and flags, read again: all of it.
    ///
    /// # Errors
    /// All problems at once.
    pub fn again(&self) -> Result<Self, Problems> {
        Self::load(&self.loaded.sources)
    }

    /// Reads the same files, environment and flags again, and takes over what may change while the program runs.
    ///
    /// # Errors
    /// All problems at once, if what was read cannot be used: then all stays as it is.
    pub fn reload(&self) -> Result<Reloaded, Problems> {
        self.taking_over(&self.again()?)
    }

    fn taking_over(&self, new: &Self) -> Result<Reloaded, Problems> {
        let (ours, theirs) = (&self.loaded, &new.loaded);
        let (applied, needs_restart) = changes(self, new)
            .into_iter()
            .partition(|changed| is_live(&changed.key));
        let live = |(key, origin): (&String, &String)| (key.clone(), origin.clone());
        let mut origins: BTreeMap<String, String> = ours.origins.clone();
        origins.retain(|key, _| !is_live(key));
        origins.extend(
            theirs
                .origins
                .iter()
                .filter(|(key, _)| is_live(key))
                .map(live),
        );
        let mut hidden = ours.hidden.clone();
        hidden.extend(theirs.hidden.iter().filter(|key| is_live(key)).cloned());
        let loaded = Loaded {
            raw: Raw {
                alerts: theirs.raw.alerts.clone(),
                gate: theirs.raw.gate.clone(),
                log: Log {
                    level: theirs.raw.log.level.clone(),
                    ..ours.raw.log.clone()
                },
                training: Training {
                    history: ours.raw.training.history,
                    ..theirs.raw.training.clone()
                },
                ..ours.raw.clone()
            },
            hidden,
            revealed: Vec::new(),
            origins,
            problems: Vec::new(),
            sources: ours.sources.clone(),
        };
        let (config, problems) = check(loaded);
        if problems.is_empty() {
            Ok(Reloaded {
                config,
                applied,
                needs_restart,
            })
        } else {
            Err(Problems(problems))
        }
    }
}

/// All settings that differ, by key.
pub(super) fn changes(before: &Config, after: &Config) -> Vec<Changed> {
    let values = |raw: &Raw| -> BTreeMap<String, String> {
        let mut flat = Vec::new();
        flatten(&Table::try_from(raw).unwrap_or_default(), "", &mut flat);
        flat.into_iter().collect()
    };
    let (old, new) = (values(&before.loaded.raw), values(&after.loaded.raw));
    let shown: BTreeMap<String, String> = after
        .settings()
        .into_iter()
        .map(|setting| (setting.key, setting.value))
        .collect();
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Changed {
            value: shown.get(key).cloned().unwrap_or_default(),
            key: key.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::load::known_keys;
    use std::fs;

    fn keys(changed: &[Changed]) -> Vec<&str> {
        changed.iter().map(|changed| &*changed.key).collect()
    }

    #[test]
    fn what_may_change_does_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("a.toml"), folder.path().join("secret"));
        let write = |rate: &str, topic: &str, password: &str, rest: &str| {
            fs::write(&secret, password).unwrap();
            let text = format!(
                "[alerts]\nfalse_alarm_rate = \"{rate}\"\n[input]\ntopics = \"{topic}\"\n[kafka.properties]\n\"sasl.password\" = \"${{file:{}}}\"\n{rest}",
                secret.display()
            );
            fs::write(&file, text).unwrap();
        };
        write("1/week", "a", "hunter-uno", "");
        let sources = Sources {
            files: vec![file.clone()],
            environment: vec![("ANOMALYD__TRAINING__INTERVAL".into(), "2h".into())],
            set: vec![
                "log.level=debug".into(),
                "http.token=0123456789abcdef".into(),
            ],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let same = config.reload().unwrap();
        assert!(same.applied.is_empty() && same.needs_restart.is_empty());
        write(
            "2/day",
            "b",
            "hunter-dos",
            "[training]\nhistory = \"30d\"\nguard = 7\n",
        );
        let found = config.reload().unwrap();
        assert_eq!(
            keys(&found.applied),
            ["alerts.false_alarm_rate", "training.guard"]
        );
        assert_eq!(
            keys(&found.needs_restart),
            [
                "input.topics",
                "kafka.properties.sasl.password",
                "training.history"
            ]
        );
        assert_eq!(found.applied[0].value, "\"2/day\"");
        assert_eq!(found.needs_restart[1].value, "\"***\"");
        let now = found.config;
        assert_eq!(now.detect.budget, crate::detect::Budget::PerKeyDay(2.0));
        assert_eq!((now.training.guard, now.log.level.as_str()), (7, "debug"));
        assert_eq!(now.input.topics, ["a"]);
        assert_eq!(now.training.history, config.training.history);
        assert_eq!(now.http_token, config.http_token);
        assert!(now.http_token.as_ref().unwrap().is_of("0123456789abcdef"));
        assert!(!now.shown.contains("hunter") && !format!("{now:?}").contains("hunter"));
        // It is still said of what waits for a restart, and of what is as it was nothing.
        let again = now.reload().unwrap();
        assert!(again.applied.is_empty());
        assert_eq!(again.needs_restart.len(), 3);
        write("1/week", "a", "hunter-uno", "");
        let back = now.reload().unwrap();
        assert_eq!(
            keys(&back.applied),
            ["alerts.false_alarm_rate", "training.guard"]
        );
        assert!(back.needs_restart.is_empty());
        assert_eq!(back.config.shown, config.shown);
        assert_eq!(back.config.loaded.origins, config.loaded.origins);
    }

    #[test]
    fn what_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        let sources = Sources {
            files: vec![file.clone()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        fs::write(
            &file,
            "[alerts]\nfalse_alarm_rate = \"1/year\"\nsilence = 3\n",
        )
        .unwrap();
        assert_eq!(config.reload().unwrap_err().0.len(), 2);
        fs::remove_file(&file).unwrap();
        assert!(config.reload().is_err());
    }

    #[test]
    fn what_may_change_are_keys_that_exist() {
        let table = Table::try_from(Raw::default()).unwrap();
        let mut known = Vec::new();
        known_keys(&table, "", &mut known);
        for key in LIVE.iter().chain(&NOT_LIVE) {
            assert!(known.iter().any(|known| known == key), "{key}");
        }
        assert!(is_live("alerts") && is_live("alerts.cooldown") && !is_live("alertsx"));
        assert!(!is_live("log.format") && !is_live("training.history"));
    }
}
