//! What is emitted in Avro: fields one after another, in the order of the schema.

use super::fields::{Fields, Sink};
use crate::time::Timestamp;

/// The bytes of a value.
pub(super) struct Avro<'b>(pub(super) &'b mut Vec<u8>);

impl Avro<'_> {
    /// A number of variable length, in zigzag.
    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest > 0x7f {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    fn length(&mut self, length: usize) {
        self.long(length as i64);
    }

    /// An array: one block, unless it is empty, and the end.
    fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        if !items.is_empty() {
            self.length(items.len());
        }
        for each in items {
            item(self, each);
        }
        self.length(0);
    }
}

impl Sink for Avro<'_> {
    fn flag(&mut self, _: u32, value: bool) {
        self.0.push(value.into());
    }

    fn whole(&mut self, _: u32, value: i64) {
        self.long(value);
    }

    /// Avro has no number beyond an `i64`; none that is counted here gets there.
    fn count(&mut self, _: u32, value: u64) {
        self.long(i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn double(&mut self, _: u32, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, _: u32, value: &str) {
        self.length(value.len());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn time(&mut self, _: u32, value: Timestamp) {
        self.long(value.0);
    }

    fn part(&mut self, _: u32, value: &impl Fields) {
        value.write(self);
    }

    fn parts(&mut self, _: u32, values: &[impl Fields]) {
        self.array(values, |to, value| value.write(to));
    }

    fn floats(&mut self, number: u32, values: Option<&[f32]>) {
        self.optional(number, values, |to, _, values| {
            to.array(values, |to, value| {
                to.0.extend_from_slice(&value.to_le_bytes());
            });
        });
    }

    /// A union of null and the value.
    fn optional<T>(
        &mut self,
        number: u32,
        value: Option<T>,
        write: impl FnOnce(&mut Self, u32, T),
    ) {
        match value {
            None => self.long(0),
            Some(value) => {
                self.long(1);
                write(self, number, value);
            }
        }
    }
}
