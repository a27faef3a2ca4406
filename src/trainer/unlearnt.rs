//! What is said of keys of which nothing was left to learn from.

use crate::model::card::Card;

/// Keys that are named at most.
const NAMED_MAX: usize = 5;

/// Says of which keys nothing was left to learn from, and the way out.
pub(super) fn say(card: &Card) {
    if card.unlearnt.is_none() {
        return;
    }
    let named: Vec<&str> = card.unlearnt.named.iter().map(String::as_str).collect();
    let named = named[..named.len().min(NAMED_MAX)].join(", ");
    tracing::info!(version = %card.version, keys = card.unlearnt.keys, named, "nothing is left to learn from some keys: all of their records are kept out as flagged; where that is normal, `anomalyd episodes new-normal` or `dismiss` lets them in");
}
