//! From the slots of a Protobuf message to the row: what each value means to a field.

use std::fmt::Write as _;

use super::DecodeError;
use super::protobuf_bind::{Bound, Give, Slot};
use super::row::{self, Row, wrong};
use crate::time::Timestamp;

/// Hands on what was read.
pub(super) fn hand(
    row: &mut Row<'_>,
    (bound, value): (&Bound, &[u8]),
    (slots, give): (&[Slot], &Give),
    text: &mut String,
) -> Result<(), DecodeError> {
    let schema = row.schema;
    match (slots[0], give) {
        (Slot::Missing, _) => Ok(()),
        (_, Give::Wrong(node, problem)) => Err(wrong(&schema.nodes[*node], (*problem).to_owned())),
        (slot, Give::Field(node, texts)) => {
            let field = &schema.nodes[*node];
            text.clear();
            let bytes;
            let scalar = match slot {
                Slot::Time(seconds, nanos) => {
                    let time = millis(seconds, nanos).map_err(|problem| wrong(field, problem))?;
                    write_if(*texts, text, time);
                    return row.take_instant(field, Timestamp(time), (time as f64, text));
                }
                Slot::Bool(value) => row::Scalar::Bool(value),
                Slot::Bytes(from, to) => {
                    bytes = &value[from as usize..to as usize];
                    let read = std::str::from_utf8(bytes);
                    let read =
                        read.map_err(|_| wrong(field, "is bytes that are no text".to_owned()))?;
                    row::Scalar::Text(read)
                }
                Slot::Name(of, number) => {
                    let named = bound.files.enums[of as usize].get(&number);
                    if named.is_none() {
                        write_if(true, text, number);
                    }
                    row::Scalar::Text(named.map_or(text.as_str(), |name| name))
                }
                number => {
                    let (value, text) = number_of(number, text, *texts);
                    row::Scalar::Number(value, text)
                }
            };
            row.take(field, scalar)
        }
        (slot, Give::Array(node, (first, len))) => {
            let field = &schema.nodes[*node];
            let count = match slot {
                Slot::Count(count) => count as usize,
                _ => 0,
            };
            if count != *len {
                let problem = format!("must have {len} elements, but has {count}");
                return Err(wrong(field, problem));
            }
            for (at, slot) in slots[1..=*len].iter().enumerate() {
                let scalar = match slot {
                    Slot::Bool(value) => row::Scalar::Bool(*value),
                    number => row::Scalar::Number(number_of(*number, text, false).0, ""),
                };
                row.take_number(field, first + at, scalar)?;
            }
            Ok(())
        }
    }
}

fn write_if(wanted: bool, text: &mut String, value: impl std::fmt::Display) {
    if wanted {
        // Writing to a string cannot fail.
        let _written = write!(text, "{value}");
    }
}

/// A number, and how it is written if that matters. What is none was handed on before.
fn number_of(slot: Slot, text: &mut String, texts: bool) -> (f64, &str) {
    text.clear();
    let value = match slot {
        Slot::Whole(value) => {
            write_if(texts, text, value);
            value as f64
        }
        Slot::Unsigned(value) => {
            write_if(texts, text, value);
            value as f64
        }
        Slot::Float(value) => {
            write_if(texts, text, value);
            f64::from(value)
        }
        Slot::Double(value) => {
            write_if(texts, text, value);
            value
        }
        Slot::Duration(seconds, nanos) => {
            let value = seconds as f64 + f64::from(nanos) / 1e9;
            write_if(texts, text, value);
            value
        }
        _ => f64::NAN,
    };
    (value, text)
}

/// Milliseconds since 1970.
fn millis(seconds: i64, nanos: i32) -> Result<i64, String> {
    let whole = seconds.checked_mul(1_000);
    let time = whole.and_then(|whole| whole.checked_add(i64::from(nanos) / 1_000_000));
    match time {
        Some(time) if 0 <= time && (0..1_000_000_000).contains(&nanos) => Ok(time),
        Some(_) if seconds < 0 => Err(format!("{seconds} seconds are before 1970")),
        _ => Err(format!(
            "{seconds} seconds and {nanos} nanoseconds are no time"
        )),
    }
}
