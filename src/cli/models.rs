//! `anomalyd models`: look at the store, and move the pointer that all daemons of the group follow.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::ModelsCommand;
use super::exit::Failure;
use super::models_diff;
use super::output::print;
use super::outside::{outside, unasked};
use crate::config::Config;
use crate::model::card::{Card, ModelVersion};
use crate::model::trained::TrainedModel;
use crate::port::ModelStore;
use crate::service::change::{self, ChangeError, chosen};
use crate::service::models::{AnyStore, AnyStoreError};

pub(super) fn run(config: &Config, command: &ModelsCommand) -> Result<(), Failure> {
    // A directory needs no Kafka.
    let (clock, watchdog) = if config.models.in_kafka() {
        outside(config)?
    } else {
        unasked()
    };
    let mut store = AnyStore::open(config, &config.connection(), clock, watchdog)?;
    match command {
        ModelsCommand::Kinds { json } => kinds(*json),
        ModelsCommand::List { json: true } => json_of(&listed(&store.list()?, store.champion()?)),
        ModelsCommand::List { .. } => print(&table(&store.list()?, store.champion()?)),
        ModelsCommand::Show { version, .. } => {
            let model = chosen(&mut store, version.map(ModelVersion))?;
            json_of(&model.card)
        }
        ModelsCommand::Diff { a, b, json } => {
            let first = chosen(&mut store, Some(ModelVersion(*a)))?;
            let second = chosen(&mut store, b.map(ModelVersion))?;
            let found = models_diff::differences(&first.card, &second.card);
            if !json {
                let names = [first.card.version.0, second.card.version.0];
                return print(&models_diff::shown(&found, names));
            }
            json_of(&found)
        }
        ModelsCommand::Promote { version } => {
            let version = ModelVersion(*version);
            change::promote(&mut store, version)?;
            in_use(version)
        }
        ModelsCommand::Rollback => in_use(change::rollback(&mut store)?),
        ModelsCommand::Export { version, out } => {
            let model = chosen(&mut store, version.map(ModelVersion))?;
            write(&model, out)
        }
    }
}

/// The kinds that `model.kind` can name.
pub(super) fn kinds(json: bool) -> Result<(), Failure> {
    let names = crate::model::KINDS.names();
    if json {
        return json_of(&names);
    }
    print(&format!("{}\n", names.join("\n")))
}

/// Prints something as JSON.
pub(super) fn json_of(what: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(what);
    print(&(text.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))
}

/// What the table says.
fn listed(cards: &[Card], champion: Option<ModelVersion>) -> Value {
    let line = |card: &Card| {
        json!({
            "version": card.version,
            "in_use": Some(card.version) == champion,
            "kind": card.spec.kind,
            "created": card.created.rfc3339(),
            "rows": card.count("fit"),
            "promoted": card.gate.is_promoted(),
            "verdict": card.gate.to_string(),
        })
    };
    cards.iter().map(line).collect()
}

fn in_use(version: ModelVersion) -> Result<(), Failure> {
    print(&format!(
        "model {version} is in use; running daemons take it up with their next batch\n"
    ))
}

fn write(model: &TrainedModel, out: &Path) -> Result<(), Failure> {
    let bytes = model
        .to_bytes()
        .map_err(|error| Failure::Internal(error.to_string()))?;
    fs::write(out, &bytes).map_err(|error| Failure::Io(format!("{}: {error}", out.display())))?;
    print(&format!(
        "model {}: {} bytes written to {}\n",
        model.card.version,
        bytes.len(),
        out.display()
    ))
}

/// One line a version, the newest last; a star marks the one in use.
fn table(cards: &[Card], champion: Option<ModelVersion>) -> String {
    if cards.is_empty() {
        return "no models yet: the first is trained when there are enough records\n".to_owned();
    }
    let mut out = format!(
        "  {:>7}  {:<12}  {:<24}  {:>8}  {}\n",
        "version", "kind", "trained", "rows", "verdict"
    );
    for card in cards {
        let star = if Some(card.version) == champion {
            '*'
        } else {
            ' '
        };
        let rows = card.count("fit");
        // Writing to a string cannot fail.
        writeln!(
            out,
            "{star} {:>7}  {:<12}  {:<24}  {:>8}  {}",
            card.version.0,
            card.spec.kind,
            card.created.rfc3339(),
            rows,
            card.gate
        )
        .unwrap_or_default();
    }
    out
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Unknown(text) | ChangeError::Impossible(text) => Self::Usage(text),
            ChangeError::Settings(problems) => problems.into(),
            ChangeError::Store(error) => error.into(),
            ChangeError::Kafka(error) => error.into(),
        }
    }
}

impl From<AnyStoreError> for Failure {
    fn from(error: AnyStoreError) -> Self {
        let message = error.to_string();
        match error.kafka() {
            Some(failure) if failure.is_configuration() => Self::Code {
                code: super::exit::CONFIGURATION,
                message,
            },
            _ => Self::Io(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate_report::{Decision, GateReport};

    fn card(version: u64, decision: Decision) -> Card {
        Card {
            format: 1,
            version: ModelVersion(version),
            detector: "d".to_owned(),
            columns: vec!["a".to_owned()],
            rows: [("fit".to_owned(), 700)].into(),
            records_per_key_day: 1.0,
            gate: GateReport {
                decision,
                ..GateReport::default()
            },
            program: "test".to_owned(),
            ..Card::blank()
        }
    }

    #[test]
    fn the_list_says_which_is_in_use() {
        let cards = [card(1, Decision::Promoted), card(2, Decision::Promoted)];
        let list = listed(&cards, Some(ModelVersion(2)));
        assert_eq!(list[1]["in_use"], true);
        assert_eq!(list[0]["in_use"], false);
        assert_eq!(
            (&list[1]["rows"], &list[1]["version"]),
            (&json!(700), &json!(2))
        );
        assert_eq!(listed(&[], None), json!([]));
    }

    #[test]
    fn the_table_stars_the_model_in_use() {
        let text = table(
            &[card(1, Decision::Promoted), card(2, Decision::Promoted)],
            Some(ModelVersion(2)),
        );
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("        1") && lines[2].starts_with("*       2"),
            "{text}"
        );
        assert!(
            lines[2].contains("700") && lines[2].contains("1970-01-01"),
            "{text}"
        );
        assert!(table(&[], None).contains("no models yet"));
    }
}
