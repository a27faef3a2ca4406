//! Numbers that JSON has not, and Python's `json.dumps` writes all the same: `NaN`, `Infinity`, `-Infinity`. They are read as `null` is: no value was
//! measured. JavaScript writes `null` for them itself.
//!
//! What is JSON is never looked at: only what a reader refused is read again, with `null` in their places. So nothing else is taken than what JSON would
//! be if those were.

use serde::de::DeserializeOwned;

/// They, the longest first.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The one that `text` begins with, by its length.
pub(super) fn at_head(text: &[u8]) -> Option<usize> {
    let words = WORDS.iter().find(|word| text.starts_with(word));
    words.map(|word| word.len())
}

/// `text` with `null` in their places; `None` if there are none. What lies within strings stays.
pub(super) fn as_null(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'-' | b'I' | b'N' if !in_string => {
                if let Some(length) = at_head(&text[at..]) {
                    out.extend_from_slice(&text[copied..at]);
                    out.extend_from_slice(b"null");
                    at += length;
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&text[copied..]);
        out
    })
}

/// Reads JSON in which they may stand.
///
/// # Errors
/// If it is none with `null` in their places either.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    match serde_json::from_slice(text) {
        Ok(found) => Ok(found),
        Err(error) => match as_null(text) {
            Some(text) => serde_json::from_slice(&text),
            None => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn python_s_numbers_are_null_and_nothing_else_is() {
        let text = br#"{"a":NaN,"b":[Infinity, -Infinity,-1],"NaN":"a \"NaN\" Infinity\\"}"#;
        let expected = json!({"a": null, "b": [null, null, -1], "NaN": "a \"NaN\" Infinity\\"});
        assert_eq!(parse::<Value>(text).unwrap(), expected);
        assert!(as_null(br#"{"a":-1,"b":"NaN"}"#).is_none());
    }

    #[test]
    fn what_is_no_json_but_for_them_is_still_none() {
        for text in [
            "NaNNaN",
            "1NaN",
            "-NaN",
            "NaN0",
            "{NaN:1}",
            "+Infinity",
            "-Infinit",
            "nan",
            "inf",
            "[NaN",
            "\"NaN",
        ] {
            assert!(parse::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
