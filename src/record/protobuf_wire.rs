//! How Protobuf's values are written (protobuf.dev/programming-guides/encoding): the wire types.

use super::protobuf_schema::Scalar;

/// A number of variable length.
pub const VARINT: u64 = 0;
/// Eight bytes.
pub const EIGHT: u64 = 1;
/// What says its length first.
pub const LENGTH: u64 = 2;
/// The beginning of a group.
pub(super) const START: u64 = 3;
/// The end of a group.
pub(super) const END: u64 = 4;
/// Four bytes.
pub(super) const FOUR: u64 = 5;

/// Why a field is not read that is written in another way than its kind is.
pub(super) const MISMATCH: &str = "has a field that is written as no field of its kind";

/// How a scalar is written.
pub(super) fn wire_type(kind: Scalar) -> u64 {
    match kind {
        Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64 => EIGHT,
        Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32 => FOUR,
        Scalar::Bytes => LENGTH,
        Scalar::Int(_) | Scalar::Uint(_) | Scalar::Sint | Scalar::Bool | Scalar::Enum(_) => VARINT,
    }
}
