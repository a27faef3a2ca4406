//! CSV: a value is one line, its cells named by the configuration. Quotes are as RFC 4180 has them, by csv-core.
//!
//! An empty cell is a missing value, and so is a number that is not finite. A cell that is `true` or `false` counts as JSON's.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::csv_spec::{CsvSpec, Layout};
use super::row::{Row, Scalar};
use super::schema::Use;
use super::{DecodeError, number};

/// Memory that is used from line to line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    reader: Option<(u8, Box<Reader>)>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Line {
    /// Takes a line of `columns` cells apart.
    fn split(&mut self, value: &[u8], separator: u8, columns: usize) -> Result<&str, DecodeError> {
        let new = || {
            let reader = ReaderBuilder::new().delimiter(separator).build();
            (separator, Box::new(reader))
        };
        let (known, reader) = self.reader.get_or_insert_with(new);
        if *known != separator {
            (*known, *reader) = new();
        }
        reader.reset();
        // Without its quotes a line is no longer than with them.
        self.text.resize(value.len() + 1, 0);
        self.ends.resize(columns + 1, 0);
        let (mut taken, mut written, mut cells) = (0, 0, 0);
        loop {
            let (result, input, output, ends) = reader.read_record(
                &value[taken..],
                &mut self.text[written..],
                &mut self.ends[cells..],
            );
            taken += input;
            written += output;
            cells += ends;
            match result {
                // An empty input says that this is its end.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Err(syntax("is empty".to_owned())),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(syntax(format!("has more than {columns} cells")));
                }
            }
        }
        if cells != columns {
            return Err(syntax(format!(
                "has {cells} cells, but must have {columns}"
            )));
        }
        if value[taken..].iter().any(|byte| !b"\r\n".contains(byte)) {
            return Err(syntax("has more than one line".to_owned()));
        }
        std::str::from_utf8(&self.text[..written]).map_err(|error| {
            syntax(format!(
                "has invalid UTF-8 after byte {}",
                error.valid_up_to()
            ))
        })
    }
}

fn syntax(problem: String) -> DecodeError {
    DecodeError::Syntax(format!("value is no line of CSV: it {problem}"))
}

/// Reads one record into an empty row.
pub(super) fn read(
    value: &[u8],
    row: &mut Row<'_>,
    layout: &Layout,
    line: &mut Line,
) -> Result<(), DecodeError> {
    let schema = row.schema;
    line.split(value, layout.separator, layout.nodes.len())?;
    let Line { text, ends, .. } = line;
    let mut begin = 0;
    for (node, end) in layout.nodes.iter().zip(ends.iter()) {
        let cell = begin..*end;
        begin = *end;
        let Some(field) = node.map(|node| &schema.nodes[node]) else {
            continue;
        };
        // Ends of cells are ends of what was checked: separators are ASCII.
        let cell = std::str::from_utf8(&text[cell]).unwrap_or_default().trim();
        let measured = matches!(field.uses.first(), Some(Use::Column(_)));
        row.take(field, scalar(cell, measured))?;
    }
    row.finish()
}

/// What a cell says; `measured`: it is to be a number.
fn scalar(cell: &str, measured: bool) -> Scalar<'_> {
    match cell {
        "" => Scalar::Null,
        "true" if measured => Scalar::Bool(true),
        "false" if measured => Scalar::Bool(false),
        text => match number::written(text) {
            Some(value) => Scalar::Number(value, text),
            None => Scalar::Text(text),
        },
    }
}

/// The cells of a line, as many as there are columns.
pub(super) fn cells(value: &[u8], spec: &CsvSpec) -> Result<Vec<String>, DecodeError> {
    let mut line = Line::default();
    let separator = spec.byte();
    let separator = separator.ok_or_else(|| syntax("has no separator".to_owned()))?;
    let text = line.split(value, separator, spec.columns.len())?.to_owned();
    let mut begin = 0;
    let cells = line.ends[..spec.columns.len()].iter().map(|end| {
        let cell = text.get(begin..*end).unwrap_or_default();
        begin = *end;
        cell.trim().to_owned()
    });
    Ok(cells.collect())
}

/// For each cell of a line whether it is a number (or true or false), or empty: `None`. Nothing of what is no such line.
pub(super) fn look(value: &[u8], spec: &CsvSpec) -> Vec<Option<bool>> {
    let Ok(cells) = cells(value, spec) else {
        return Vec::new();
    };
    let cells = cells.iter().map(|cell| match scalar(cell, true) {
        Scalar::Null => None,
        Scalar::Number(..) | Scalar::Bool(_) => Some(true),
        Scalar::Text(_) => Some(false),
    });
    cells.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::decode::Decoder;
    use super::super::schema::SchemaSpec;
    use crate::time::Timestamp;

    const SPEC: &str = r#"{"format":"csv","csv":{"columns":["at","pump","motor.temp","flow","mode","note"]},
        "features":["motor.temp","flow"],"key":["pump"],"timestamp":"at","categories":{"mode":["on","1"]}}"#;

    fn decoder(spec: &str) -> Decoder {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        Decoder::new(Arc::new(spec.check().expect("a valid schema")))
    }

    /// Key, time and row; or why not.
    fn decode(spec: &str, value: &str) -> Result<(String, i64, Vec<f64>), String> {
        let mut decoder = decoder(spec);
        let mut row = vec![0.5; decoder.schema().columns().len()];
        let decoded =
            decoder.decode_one(Some(b"k"), Some(value.as_bytes()), Timestamp(7), &mut row);
        let decoded = decoded.map_err(|error| error.to_string())?;
        Ok((decoded.key.0.to_string(), decoded.time.0, row))
    }

    fn problems(spec: &str) -> Vec<String> {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        let problems = spec.check().expect_err("it is wrong");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cells_go_where_their_names_say() {
        let (key, time, row) = decode(
            SPEC,
            "2023-11-14T22:13:20Z,P-1,61.5,-2e1,on,\"a, \"\"b\"\"\"\r\n",
        )
        .unwrap();
        assert_eq!((key.as_str(), time), ("P-1", 1_700_000_000_000));
        assert_eq!(row, [61.5, -20.0, 1.0, 0.0]);
        let (key, time, row) = decode(SPEC, "1700000000,007, +.5 ,true,1,").unwrap();
        assert_eq!((key.as_str(), time), ("007", 1_700_000_000_000));
        assert_eq!(row, [0.5, 1.0, 0.0, 1.0]);
        let tabs = SPEC.replace("\"note\"]", "\"note\"],\"separator\":\"\\t\"");
        assert_eq!(
            decode(&tabs, "5\tP\t1\t2\toff\tx,y").unwrap().2,
            [1.0, 2.0, 0.0, 0.0]
        );
    }

    #[test]
    fn empty_cells_and_numbers_that_are_none_are_missing() {
        for cell in ["", " ", "NaN", "inf", "1e999"] {
            let (_, _, row) = decode(SPEC, &format!("5,P,{cell},2,,")).unwrap();
            assert!(row[0].is_nan() && row[1] > 1.0 && row[2].is_nan(), "{cell}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (value, part) in [
            ("", "it is empty"),
            ("\n\n", "it is empty"),
            ("5,P,1,2,on", "it has 5 cells, but must have 6"),
            ("5,P,1,2,on,,", "it has 7 cells, but must have 6"),
            ("5,P,1,2,on,,,,,,", "it has more than 6 cells"),
            ("5,P,1,2,on,\n6,P,1,2,on,", "more than one line"),
            (
                "5,P,x,2,on,",
                "field `motor.temp`: must be a number, but is the text `x`",
            ),
            ("5,,1,2,on,", "field `pump`: is part of the key"),
            (",P,1,2,on,", "field `at`: is the event time"),
            (
                "soon,P,1,2,on,",
                "field `at`: `soon` is not an RFC 3339 time",
            ),
            ("5,P,,,,", "none of the 4 features was observed"),
        ] {
            let problem = decode(SPEC, value).expect_err(value);
            assert!(problem.contains(part), "{value}: {problem}");
        }
        let mut decoder = decoder(SPEC);
        let mut row = [0.5; 4];
        let bytes = b"5,P,1,2,\xff,";
        let problem = decoder.decode_one(None, Some(bytes), Timestamp(7), &mut row);
        assert_eq!(problem.unwrap_err().reason(), "syntax");
        // A bad line leaves nothing behind.
        let good = decoder.decode_one(None, Some(b"5,P,1,2,on,x"), Timestamp(7), &mut row);
        assert!(good.is_ok());
    }

    #[test]
    fn what_a_line_cannot_have_is_said_before() {
        let found = problems(
            r#"{"format":"csv","csv":{"columns":["a","a",""],"separator":",,"},"features":["b"],"key":["k"],"timestamp":"t"}"#,
        );
        for part in [
            "csv.separator: ",
            "csv.columns[1]: `a` is listed twice",
            "csv.columns[2]: ",
            "csv.columns: lacks `b`",
            "csv.columns: lacks `k`",
            "csv.columns: lacks `t`",
        ] {
            assert!(
                found.iter().any(|text| text.starts_with(part)),
                "{part}: {found:?}"
            );
        }
        let array = r#"{"format":"csv","csv":{"columns":["a"]},"features":{"array":"a","len":2}}"#;
        assert!(
            problems(array)[0].contains("array"),
            "{:?}",
            problems(array)
        );
        let none = r#"{"format":"csv","features":["a"]}"#;
        assert!(
            problems(none)[0].contains("csv.columns"),
            "{:?}",
            problems(none)
        );
        let json = r#"{"csv":{"columns":["a"]},"features":["a"]}"#;
        assert!(problems(json)[0].contains("csv"), "{:?}", problems(json));
    }

    #[test]
    fn columns_that_are_always_numbers_are_features() {
        let mut spec: SchemaSpec = serde_json::from_str(
            r#"{"format":"csv","csv":{"columns":["at","pump","temp","on","text","mixed","none"]},"key":["pump"],"timestamp":"at"}"#,
        )
        .unwrap();
        let samples: [&[u8]; 4] = [
            b"1700000000,7,1.5,true,x,1,",
            b"1700000001,8,,false,y,,",
            b"1700000002,8,2,false,y,z,",
            b"no line",
        ];
        assert!(spec.resolve(samples));
        let columns = spec.check().unwrap().columns().to_vec();
        assert_eq!(columns, ["on", "temp"]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_row_or_a_dead_letter(value in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let mut decoder = decoder(SPEC);
            let mut row = [0.5; 4];
            let outcome = decoder.decode_one(None, Some(&value), Timestamp(7), &mut row);
            proptest::prop_assert!(outcome.is_ok() || row.iter().all(|value| value.is_nan()));
        }
    }
}
