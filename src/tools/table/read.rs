//! Files that become tables.

use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::super::ToolError;
use super::super::propose::Leaves;
use super::cells::Cells;
use super::{Roles, Table, head, parquet};

impl Table {
    /// Reads a file; `-` is standard input.
    pub fn read(path: &Path, roles: &Roles) -> Result<Self, ToolError> {
        let file = |error| ToolError::File {
            path: path.to_owned(),
            error,
        };
        let (name, bytes) = if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(file)?;
            ("standard input".to_owned(), bytes)
        } else {
            let bytes = std::fs::read(path).map_err(file)?;
            (path.display().to_string(), bytes)
        };
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut content = Vec::new();
            let mut decoder = MultiGzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut content).map_err(file)?;
            Self::parse(&name, hex_sha256(&bytes), &content, roles)
        } else {
            Self::parse(&name, hex_sha256(&bytes), &bytes, roles)
        }
    }

    /// Reads a file's content: Parquet by its mark; a first character `{` means JSON lines.
    pub fn parse(
        path: &str,
        sha256: String,
        content: &[u8],
        roles: &Roles,
    ) -> Result<Self, ToolError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let rows = if content.starts_with(parquet::MAGIC) {
            Some(parquet::rows(content).map_err(|problem| ToolError::Table {
                path: path.to_owned(),
                problem,
            })?)
        } else {
            None
        };
        let (roles, notes) = with_time(roles, || match &rows {
            Some(rows) => parquet::leaves(rows, head::ROWS),
            None => head::rows(content, head::ROWS),
        });
        let mut cells = Cells::new(path, &roles);
        let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
        match (&rows, first) {
            (Some(rows), _) => parquet::fill(&mut cells, rows),
            (None, Some(b'{')) => cells.json_lines(content)?,
            (None, Some(_)) => cells.csv(content)?,
            (None, None) => return Err(cells.table("is empty".to_owned())),
        }
        cells.notes.extend(notes);
        cells.finish(sha256)
    }
}

/// The same roles, with the column of the event time if one is to be found; and what to say of it, and of a key that nobody named.
fn with_time(roles: &Roles, sample: impl Fn() -> Vec<Leaves>) -> (Roles, Vec<String>) {
    let mut roles = roles.clone();
    let mut notes = Vec::new();
    if !roles.find_time || (roles.timestamp.is_some() && !roles.key.is_empty()) {
        return (roles, notes);
    }
    let sample = sample();
    if roles.timestamp.is_none() {
        roles.timestamp = head::time(&sample, &roles);
        notes.push(match &roles.timestamp {
            Some(name) => format!("times are from `{name}` (--timestamp names another column)"),
            None => "no column of times, so rows count as a second apart (--timestamp names one)"
                .to_owned(),
        });
    }
    if roles.key.is_empty() {
        notes.extend(head::one_series(&sample, &roles));
    }
    (roles, notes)
}

/// sha256 in hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
