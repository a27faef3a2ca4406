//! The schemas that records were written by, by their ids: what a batch carries, so that reading it depends on nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::avro_schema;
use super::protobuf_schema;

/// What a record names its schema by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// A number, which one registry gave out.
    Number(u32),
    /// A GUID, which is the same in all registries.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    /// `7`, or `00112233-4455-6677-8899-aabbccddeeff`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// A schema that records were written by.
#[derive(Clone, Debug, PartialEq)]
pub enum Writer {
    /// Of Avro.
    Avro(Arc<avro_schema::Writer>),
    /// Of Protobuf: a file, whose messages the record chooses from.
    Protobuf(Arc<protobuf_schema::Files>),
}

/// What is known of the schemas that records were written by, by their ids: each, or why there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writers(pub BTreeMap<SchemaId, Result<Writer, String>>);
