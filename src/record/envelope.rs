//! What may be around a record, and what a schema takes of it. Next: `event`.

use serde::{Deserialize, Serialize};

/// What is around a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// Nothing.
    #[default]
    None,
    /// A CloudEvent, structured or binary.
    CloudEvents,
}

impl Envelope {
    /// Whether there is none.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's `skip_serializing_if` hands a reference"
    )]
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What an event says of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Id,
    Source,
    Type,
    Subject,
    Time,
}

/// All of them by the names that settings and headers have for them.
pub(super) const ATTRIBUTES: [(&str, Attribute); 5] = [
    ("ce_id", Attribute::Id),
    ("ce_source", Attribute::Source),
    ("ce_type", Attribute::Type),
    ("ce_subject", Attribute::Subject),
    ("ce_time", Attribute::Time),
];

impl Attribute {
    /// By its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = ATTRIBUTES.iter().find(|(known, _)| *known == name);
        found.map(|(_, attribute)| *attribute)
    }
}

/// What the key and the time are of, where they are the event's.
#[derive(Clone, Debug, Default)]
pub(super) struct FromEvent {
    /// The event time.
    pub time: Option<Attribute>,
    /// For each part of the key.
    pub key: Vec<Option<Attribute>>,
}
