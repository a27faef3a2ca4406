//! The compact format: a value is nothing but the row, as 32-bit floats, little end first. Key and time are Kafka's.

use super::DecodeError;
use super::row::Row;

/// Bytes of one number.
const WIDTH: usize = size_of::<f32>();

/// Reads one record into an empty row of `columns` columns. NaN and infinities are missing values.
pub(super) fn read(value: &[u8], row: &mut Row<'_>) -> Result<(), DecodeError> {
    let columns = row.features();
    if value.len() != columns * WIDTH {
        return Err(DecodeError::Length {
            bytes: value.len(),
            expected: columns * WIDTH,
        });
    }
    let (numbers, _) = value.as_chunks::<WIDTH>();
    for (column, bytes) in numbers.iter().enumerate() {
        row.number(column, f64::from(f32::from_le_bytes(*bytes)));
    }
    row.finish()
}
