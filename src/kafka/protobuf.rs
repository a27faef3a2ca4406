//! What is emitted in Protobuf: fields with their numbers. What is 0 is written, too, but for what may be left out and is.

use super::fields::{Fields, Sink};
use crate::record::protobuf_wire::{EIGHT, LENGTH, VARINT};
use crate::time::Timestamp;

/// The bytes of a message.
pub(super) struct Protobuf<'b>(pub(super) &'b mut Vec<u8>);

impl Protobuf<'_> {
    /// Seven bits a byte.
    fn varint(&mut self, mut rest: u64) {
        while rest > 0x7f {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    fn tag(&mut self, number: u32, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

impl Sink for Protobuf<'_> {
    fn flag(&mut self, number: u32, value: bool) {
        self.count(number, value.into());
    }

    fn whole(&mut self, number: u32, value: i64) {
        self.count(number, value as u64);
    }

    fn count(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        self.varint(value);
    }

    fn double(&mut self, number: u32, value: f64) {
        self.tag(number, EIGHT);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, number: u32, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    /// As `google.protobuf.Timestamp`, whose nanoseconds never count backwards.
    fn time(&mut self, number: u32, value: Timestamp) {
        let mut bytes = Vec::new();
        let mut time = Protobuf(&mut bytes);
        time.whole(1, value.0.div_euclid(1_000));
        time.whole(2, value.0.rem_euclid(1_000) * 1_000_000);
        self.bytes(number, &bytes);
    }

    fn part(&mut self, number: u32, value: &impl Fields) {
        let mut bytes = Vec::new();
        value.write(&mut Protobuf(&mut bytes));
        self.bytes(number, &bytes);
    }

    fn parts(&mut self, number: u32, values: &[impl Fields]) {
        for value in values {
            self.part(number, value);
        }
    }

    fn floats(&mut self, number: u32, values: Option<&[f32]>) {
        if let Some(values) = values {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.bytes(number, &bytes);
        }
    }

    fn optional<T>(
        &mut self,
        number: u32,
        value: Option<T>,
        write: impl FnOnce(&mut Self, u32, T),
    ) {
        if let Some(value) = value {
            write(self, number, value);
        }
    }
}
