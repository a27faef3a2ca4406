//! How alerts, scores and drift are written: as JSON, or in Avro or Protobuf as Confluent's serializers do, with the id of a schema before each value.
//! Who gives the ids: see `registration`.

use serde::{Deserialize, Serialize};

use super::avro::Avro;
use super::fields::Fields;
use super::protobuf::Protobuf;

/// What alerts, scores and drift are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// As JSON, which names no schema.
    #[default]
    Json,
    /// In Avro.
    Avro,
    /// In Protobuf.
    Protobuf,
}

/// How the values of a topic are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As JSON.
    #[default]
    Json,
    /// In Avro, by the schema of this id.
    Avro(u32),
    /// In Protobuf, by the first message of the schema of this id.
    Protobuf(u32),
}

impl Form {
    /// What CloudEvents call it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Avro(_) => "application/avro",
            Self::Protobuf(_) => "application/protobuf",
        }
    }

    /// The bytes of a value.
    pub(super) fn bytes(self, value: &(impl Fields + Serialize)) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Json => {
                let json = serde_json::to_vec(value);
                bytes =
                    json.unwrap_or_else(|e| unreachable!("what is emitted is plain structs: {e}"));
            }
            Self::Avro(id) => {
                framed(&mut bytes, id);
                value.write(&mut Avro(&mut bytes));
            }
            Self::Protobuf(id) => {
                framed(&mut bytes, id);
                // Which message of its file: the first.
                bytes.push(0);
                value.write(&mut Protobuf(&mut bytes));
            }
        }
        bytes
    }
}

/// The wire format's beginning: a zero byte, and the id of the schema.
fn framed(bytes: &mut Vec<u8>, id: u32) {
    bytes.push(0);
    bytes.extend_from_slice(&id.to_be_bytes());
}

/// How the values of each topic are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// Alerts.
    pub alerts: Form,
    /// Scores.
    pub scores: Form,
    /// Drift.
    pub drift: Form,
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
