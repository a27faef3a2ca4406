//! `training.exclude`: stretches of time as people write them, for serde's `with`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::card::Maintenance;
use crate::record::timestamp;

/// A stretch of time that training leaves out, by RFC 3339; without a key, of all keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclude {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    from: String,
    to: String,
}

/// Writes them.
pub fn serialize<S: Serializer>(all: &[Maintenance], to: S) -> Result<S::Ok, S::Error> {
    let written = all.iter().map(|window| Exclude {
        key: window.key.clone(),
        from: window.from.rfc3339(),
        to: window.to.rfc3339(),
    });
    to.collect_seq(written)
}

/// Reads them; each must end after it begins.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Maintenance>, D::Error> {
    let written = Vec::<Exclude>::deserialize(from)?;
    written.into_iter().map(read).collect()
}

fn read<E: de::Error>(window: Exclude) -> Result<Maintenance, E> {
    let time = |text: &str| {
        timestamp::read(text).map_err(|problem| E::custom(format!("\"{text}\": {problem}")))
    };
    let (from, to) = (time(&window.from)?, time(&window.to)?);
    if to <= from {
        let problem = format!("ends at {} but begins at {}", window.to, window.from);
        return Err(E::custom(problem));
    }
    Ok(Maintenance {
        key: window.key,
        from,
        to,
    })
}
