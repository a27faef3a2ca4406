//! Entries of the state topic under a seal: what was damaged on the way is known from what another version of this program wrote. Against
//! accidents, not against malice: who may write to the topic is a matter of rights.

use serde::Serialize;
use serde_json::Value;

/// The field of a JSON entry that has its seal.
const FIELD: &str = "seal";

/// FNV-1a, 64 bits: any single changed byte changes it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Bytes with their seal behind them.
pub(super) fn bytes(mut content: Vec<u8>) -> Vec<u8> {
    let seal = fnv(&content);
    content.extend_from_slice(&seal.to_le_bytes());
    content
}

/// What [`bytes`] sealed; `None` if it is not as it was.
pub(super) fn open_bytes(sealed: &[u8]) -> Option<&[u8]> {
    let (content, seal) = sealed.split_last_chunk()?;
    (fnv(content) == u64::from_le_bytes(*seal)).then_some(content)
}

/// A JSON object with its seal as one more field.
///
/// # Panics
/// If it is no object: a mistake in this program.
pub(super) fn json(content: &impl Serialize) -> Vec<u8> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(content) else {
        unreachable!("state entries are plain structs");
    };
    let seal = fnv(Value::Object(fields.clone()).to_string().as_bytes());
    fields.insert(FIELD.to_owned(), Value::from(format!("{seal:016x}")));
    Value::Object(fields).to_string().into_bytes()
}

/// What [`json`] sealed; `None` if it is not as it was.
pub(super) fn open_json(sealed: &[u8]) -> Option<Value> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(sealed) else {
        return None;
    };
    let seal = fields.remove(FIELD)?;
    let content = Value::Object(fields);
    let found = format!("{:016x}", fnv(content.to_string().as_bytes()));
    (seal.as_str() == Some(&found)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_and_what_was_changed_is_not() {
        let sealed = bytes(vec![1, 2, 3]);
        assert_eq!(open_bytes(&sealed), Some(&[1, 2, 3][..]));
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(open_bytes(&other), None);
        }
        let value =
            serde_json::json!({"v": 2, "x": 0.1, "name": "ä", "far": i64::MIN, "n": u64::MAX});
        let sealed = json(&value);
        assert_eq!(open_json(&sealed), Some(value));
        let text = String::from_utf8(sealed).unwrap();
        assert_eq!(open_json(text.replace("0.1", "0.2").as_bytes()), None);
        assert_eq!(open_json(b"{\"v\":2}"), None);
    }
}
