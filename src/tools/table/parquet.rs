//! Parquet files, row by row.

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use super::super::propose::Leaves;
use super::cells::Cells;
use crate::time::Timestamp;

/// How such a file begins and ends.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// All rows, as columns' names and cells. Nested groups become dotted names.
pub(super) fn rows(content: &[u8]) -> Result<Vec<Vec<(String, String)>>, String> {
    let wrong = |error: parquet::errors::ParquetError| format!("is not Parquet: {error}");
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(content)).map_err(wrong)?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).map_err(wrong)? {
        let mut cells = Vec::new();
        descend(&row.map_err(wrong)?, "", &mut cells);
        rows.push(cells);
    }
    Ok(rows)
}

fn descend(row: &Row, prefix: &str, into: &mut Vec<(String, String)>) {
    for (name, field) in row.get_column_iter() {
        let name = format!("{prefix}{name}");
        match field {
            Field::Group(inner) => descend(inner, &format!("{name}."), into),
            Field::ListInternal(list) => {
                for (at, field) in list.elements().iter().enumerate() {
                    into.push((format!("{name}[{at}]"), text(field)));
                }
            }
            field => into.push((name, text(field))),
        }
    }
}

/// A cell as a file of text would have it; empty where there is no value.
fn text(field: &Field) -> String {
    let time = |ms: i64| Timestamp(ms).rfc3339();
    match field {
        Field::Null => String::new(),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        Field::Str(value) => value.clone(),
        Field::Date(days) => time(i64::from(*days) * 86_400_000),
        Field::TimestampMillis(ms) => time(*ms),
        Field::TimestampMicros(us) => time(us.div_euclid(1000)),
        Field::Bytes(value) => String::from_utf8_lossy(value.data()).into_owned(),
        other => other.to_string(),
    }
}

/// Rows as records, for a look at them.
pub(super) fn leaves(rows: &[Vec<(String, String)>], most: usize) -> Vec<Leaves> {
    let value = |text: &String| match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number),
        _ if text.is_empty() => Value::Null,
        _ => Value::from(text.as_str()),
    };
    let row = |cells: &Vec<(String, String)>| {
        let cells = cells.iter().map(|(name, text)| (name.clone(), value(text)));
        cells.collect()
    };
    rows.iter().take(most).map(row).collect()
}

/// Puts rows into cells; a row's number stands for its line.
pub(super) fn fill(cells: &mut Cells<'_>, rows: &[Vec<(String, String)>]) {
    for (at, row) in rows.iter().enumerate() {
        let line = at as u64 + 1;
        for (name, text) in row {
            let column = cells.column(name);
            cells.put(column, line, text);
        }
        cells.end_row(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::{Roles, Table};
    use super::*;

    /// Three rows with a time, a number that may be missing, and a text.
    fn written() -> Vec<u8> {
        let schema = "message m { required int64 ts (TIMESTAMP_MILLIS); optional double a; required binary pump (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let compressed = parquet::basic::Compression::SNAPPY;
        let properties = WriterProperties::builder().set_compression(compressed);
        let mut bytes = Vec::new();
        let mut file =
            SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let times = [1_760_000_000_000, 1_760_000_001_000, 1_760_000_002_000];
        column
            .typed::<Int64Type>()
            .write_batch(&times, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let present = [1, 0, 1];
        column
            .typed::<DoubleType>()
            .write_batch(&[1.5, 2.5], Some(&present), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let pumps = ["p1", "p2", "p1"].map(ByteArray::from);
        column
            .typed::<ByteArrayType>()
            .write_batch(&pumps, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        file.close().unwrap();
        bytes
    }

    #[test]
    fn parquet_is_read_as_text_is() {
        let roles = Roles {
            key: vec!["pump".to_owned()],
            find_time: true,
            ..Roles::default()
        };
        let read = Table::parse("t.parquet", String::new(), &written(), &roles).unwrap();
        assert_eq!(read.columns, ["a"]);
        assert_eq!(read.times[2], Timestamp(1_760_000_002_000));
        assert_eq!(read.keys[1].0.as_ref(), "p2");
        assert_eq!(read.row(2)[0].to_bits(), 2.5_f64.to_bits());
        assert_eq!(read.empty, [false, true, false]);
        assert!(read.notes[0].contains("`ts`"), "{:?}", read.notes);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let bytes = written();
        for to in [4, 40, bytes.len() - 9] {
            let error = Table::parse("t", String::new(), &bytes[..to], &Roles::default());
            assert!(error.unwrap_err().to_string().contains("is not Parquet"));
        }
    }
}
