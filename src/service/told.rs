//! A stored model as the API tells it: what it was made from, what was kept out and why, and what the gate found.

use serde_json::{Value, json};

use super::words;
use crate::model::card::{Card, Exclusion, ModelVersion};

/// What was kept out is named one by one up to so many.
const NAMED_MAX: usize = 50;

/// A stored model. `champion` is the one in use.
pub(super) fn model(card: &Card, champion: Option<ModelVersion>) -> Value {
    let gate = &card.gate;
    let reasons: Vec<String> = gate.reasons.iter().map(ToString::to_string).collect();
    json!({
        "version": card.version,
        "in_use": Some(card.version) == champion,
        "kind": card.spec.kind,
        "asked": card.asked,
        "members": card.members,
        "created": card.created.rfc3339(),
        "program": card.program,
        "columns": card.columns,
        "unobserved": card.unobserved,
        "counters": card.counters,
        "hourly": card.hourly,
        "calendar": card.has_calendar(),
        "types": card.types,
        "promoted": gate.is_promoted(),
        "verdict": gate.to_string(),
        "reasons": reasons,
        "findings": words::findings(&card.measures),
        "measures": card.measures,
        "rows": card.rows,
        "read": card.spans.iter().map(|stretch| &stretch.span).collect::<Vec<_>>(),
        "kept_out": kept_out(card),
    })
}

/// How much was kept out, and the latest of it by name.
fn kept_out(card: &Card) -> Value {
    let let_in = card.exclusions.iter().filter(|e| e.let_in()).count();
    let accepted = card.accepted.len();
    let suspects = card.suspects.iter().map(|suspect| {
        let features = suspect.features.iter().map(|(feature, _)| feature.as_str());
        let features: Vec<&str> = features.take(3).collect();
        named(&suspect.exclusion, Some(features))
    });
    let episodes = card.exclusions.iter().map(|e| named(e, None));
    let named: Vec<Value> = episodes.rev().chain(suspects.rev()).collect();
    json!({
        "episodes": card.exclusions.len().saturating_sub(let_in + accepted),
        "let_in": let_in,
        "suspects": card.suspects.len(),
        "maintenance": card.maintenance.len(),
        "waived": card.waived,
        "accepted": accepted,
        "unlearnt": card.unlearnt,
        "named": named.into_iter().take(NAMED_MAX).collect::<Vec<_>>(),
    })
}

/// Records that were flagged; those that stood out in a history that nobody had judged with the `features` that did.
fn named(exclusion: &Exclusion, features: Option<Vec<&str>>) -> Value {
    json!({
        "id": exclusion.because,
        "key": exclusion.key,
        "suspect": features.is_some(),
        "features": features.unwrap_or_default(),
        "feedback": exclusion.feedback.map(crate::model::card::Feedback::name),
        "let_in": exclusion.let_in(),
        "open": exclusion.to.is_none(),
    })
}
