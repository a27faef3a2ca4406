//! `anomalyd config show`: the settings in effect, and where each comes from; and `config schema`: what settings there are, for editors.

use std::fmt::Write as _;

use super::args::ConfigShowArgs;
use super::exit::Failure;
use super::output::print;
use crate::config::{Config, Setting};

pub(super) fn show(config: &Config, arguments: &ConfigShowArgs) -> Result<(), Failure> {
    let mut settings = config.settings();
    if arguments.changed {
        settings.retain(|setting| setting.origin != "default");
    }
    if arguments.json {
        let json = serde_json::to_string_pretty(&settings);
        return print(&(json.map_err(|error| Failure::Internal(error.to_string()))? + "\n"));
    }
    print(&listed(&settings))
}

/// `anomalyd config schema`
pub(super) fn schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&crate::config::schema::schema());
    print(&(text.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))
}

fn listed(settings: &[Setting]) -> String {
    let mut out = String::new();
    for Setting { key, value, origin } in settings {
        let setting = format!("{key} = {value}");
        writeln!(out, "{setting:<56} # {origin}").unwrap_or_default();
    }
    out
}
