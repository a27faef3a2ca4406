//! The configuration: the only reader of files and the environment.
//!
//! `raw` has the sections with their defaults; `load` merges the layers, `detectors` tells several apart (`several` reads all of them); `check` turns the result into a [`Config`] (`settings`), or into
//! all problems at once; `schema` says to editors what there is, `reload` what of it may change while the program runs. Parameters live with what they configure, in lower layers; this module only fills them.

pub mod check;
mod detectors;
mod exclude;
pub mod load;
pub mod notify;
mod problem;
pub mod raw;
mod registry;
pub mod reload;
pub mod reload_notify;
pub mod schema;
pub mod secret;
mod settings;
mod several;
pub mod telemetry;
pub mod units;

pub use detectors::Which;
pub use load::{Sources, nearest};
pub use problem::{Problem, Problems};
pub use raw::{Input, LogFormat};
pub use reload::{Changed, Reloaded};
pub use settings::{Config, Setting, TokenDigest};

impl Config {
    /// Loads and checks; or all problems at once.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        Self::checked(load::load(sources), &sources.which)
    }

    /// What was read, checked.
    fn checked(loaded: load::Loaded, which: &Which) -> Result<Self, Problems> {
        let (config, mut found) = check::check(loaded);
        let loaded = &config.loaded;
        let mut problems = loaded.problems.clone();
        for problem in &mut found {
            problem.problem = secret::redact(&problem.problem, &loaded.revealed);
        }
        problems.append(&mut found);
        if let Which::Named(name) = which
            && problems.is_empty()
            && *name != config.name
        {
            let problem = format!("is \"{}\", but \"{name}\" is asked for", config.name);
            problems.push(Problem::new("name", problem));
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(problems))
        }
    }

    /// The token of `http.token` itself, read again for who asks a running process by HTTP; `None` without one, and where only its digest is given.
    #[must_use]
    pub fn token_itself(&self) -> Option<String> {
        let token = load::load(&self.loaded.sources).raw.http.token;
        let given = !token.is_empty() && TokenDigest::read(&token).is_none();
        given.then_some(token)
    }
}

#[cfg(test)]
mod tests;
