//! A file's first rows, as records: what parts its cells, and which column is the time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::propose::{Leaves, leaves, time_column};
use super::Roles;
use crate::record::nonfinite;
use crate::record::whole::cell;

/// Rows that are looked at.
pub(super) const ROWS: usize = 1_000;

/// Rows that share a name, at least, in the mean: else it is a text.
const SHARED: usize = 4;

/// The byte that parts the cells of a header: comma, semicolon or tab.
pub fn separator(content: &[u8]) -> u8 {
    let head = content.split(|&byte| byte == b'\n').next().unwrap_or(b"");
    [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|&byte| (head.split(|&b| b == byte).count(), byte == b','))
        .unwrap_or(b',')
}

/// At most `most` rows of a file's beginning: JSON objects, or cells under a header. What cannot be read is passed over.
pub fn rows(content: &[u8], most: usize) -> Vec<Leaves> {
    let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        let lines = content.split(|&byte| byte == b'\n');
        let json = |line: &[u8]| leaves(&nonfinite::parse(line).ok()?);
        return lines.take(most).filter_map(json).collect();
    }
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator(content))
        .flexible(true)
        .from_reader(content);
    let names: Vec<String> = reader.headers().map_or_else(
        |_| Vec::new(),
        |all| all.iter().map(|name| name.trim().to_owned()).collect(),
    );
    let row =
        |record: csv::StringRecord| names.iter().cloned().zip(record.iter().map(cell)).collect();
    let records = reader.records().take(most);
    records.filter_map(Result::ok).map(row).collect()
}

/// The column of the event time, if there is one that nobody uses otherwise.
pub(super) fn time(sample: &[Leaves], roles: &Roles) -> Option<String> {
    let listed = roles.features.iter().flatten();
    let taken: Vec<&String> = listed
        .chain(&roles.ignore)
        .chain(&roles.key)
        .chain(&roles.labels)
        .chain(roles.categories.keys())
        .collect();
    time_column(sample, |name| !taken.iter().any(|other| *other == name))
}

/// What to say where no column is the key, and one has names that several rows share: whose series may be mixed up.
pub(super) fn one_series(sample: &[Leaves], roles: &Roles) -> Option<String> {
    let mut of_column: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for (name, value) in sample.iter().flatten() {
        if let Value::String(text) = value {
            let (names, rows) = of_column.entry(name).or_default();
            names.insert(text);
            *rows += 1;
        }
    }
    let free = |name: &str| {
        let used = [&roles.timestamp, &roles.labels];
        let is_used = used.iter().any(|used| used.as_deref() == Some(name));
        !is_used && !roles.ignore.iter().any(|n| n == name) && !roles.categories.contains_key(name)
    };
    let shared =
        |(names, rows): &(BTreeSet<&str>, usize)| names.len() >= 2 && SHARED * names.len() <= *rows;
    let (name, (names, _)) = of_column
        .iter()
        .filter(|(name, of)| free(name) && shared(of))
        .max_by_key(|(name, (names, _))| (names.len(), std::cmp::Reverse(**name)))?;
    let (least, n) = (
        if sample.len() < ROWS { "" } else { "at least " },
        names.len(),
    );
    Some(format!(
        "all rows count as one series; if the {least}{n} values of `{name}` name machines, `--key {name}` judges each by itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_whatever_parts_their_cells() {
        for (text, mark) in [
            ("a,b\n1,x", ','),
            ("a;b\n1;x", ';'),
            ("a\tb\n1\tx", '\t'),
            ("{\"a\":1.0,\"b\":\"x\"}\n", 'J'),
        ] {
            let found = rows(text.as_bytes(), 9);
            assert_eq!(found.len(), 1, "{mark}");
            assert_eq!(
                (&found[0]["a"], &found[0]["b"]),
                (&Value::from(1.0), &Value::from("x")),
                "{mark}"
            );
        }
        assert!(rows(b"", 9).is_empty());
    }

    #[test]
    fn a_column_of_names_is_said_to_be_none_of_the_series() {
        let mut text = "host,mode,note,x\n".to_owned();
        for row in 0..60 {
            text += &format!("h{},{},text {row},1\n", row % 5, row % 2);
        }
        let sample = rows(text.as_bytes(), 100);
        let said = |roles: &Roles| one_series(&sample, roles);
        let found = said(&Roles::default()).unwrap();
        assert!(found.contains("the 5 values of `host`"), "{found}");
        let ignored = Roles {
            ignore: vec!["host".to_owned()],
            ..Roles::default()
        };
        // The mode is a number, and notes are no names.
        assert_eq!(said(&ignored), None);
        let first = rows(text.as_bytes(), 5);
        assert_eq!(one_series(&first, &Roles::default()), None);
    }

    #[test]
    fn a_time_is_found_by_its_values_and_a_number_only_by_its_name_too() {
        let found = |text: &str| time(&rows(text.as_bytes(), 9), &Roles::default());
        assert_eq!(
            found("x,when\n1,2026-01-01 00:00:00\n2,2026-01-01 00:01:00").as_deref(),
            Some("when")
        );
        assert_eq!(
            found("x;ts\n1;1760000000\n2;1760000060").as_deref(),
            Some("ts")
        );
        // A counter in that range is no time, nor are seconds since the beginning; and what is used otherwise is not taken.
        assert_eq!(found("x,total\n1,1760000000\n2,1760000060"), None);
        assert_eq!(found("x,time\n1,0\n2,60"), None);
        assert_eq!(found("x,ts\n1,1760000000\n2,1760000000"), None);
        let ignored = Roles {
            ignore: vec!["ts".to_owned()],
            ..Roles::default()
        };
        let text = b"x,ts\n1,1760000000\n2,1760000060";
        assert_eq!(time(&rows(text, 9), &ignored), None);
    }
}
