//! Files that become tables.

use std::io::Read as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::super::ToolError;
use super::cells::Cells;
use super::{Roles, Table};

impl Table {
    /// Reads a file.
    pub fn read(path: &Path, roles: &Roles) -> Result<Self, ToolError> {
        let file = |error| ToolError::File {
            path: path.to_owned(),
            error,
        };
        let bytes = std::fs::read(path).map_err(file)?;
        let name = path.display().to_string();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut content = Vec::new();
            let mut decoder = MultiGzDecoder::new(bytes.as_slice());
            decoder.read_to_end(&mut content).map_err(file)?;
            Self::parse(&name, hex_sha256(&bytes), &content, roles)
        } else {
            Self::parse(&name, hex_sha256(&bytes), &bytes, roles)
        }
    }

    /// Reads a file's content; a first character `{` means JSON lines.
    pub fn parse(
        path: &str,
        sha256: String,
        content: &[u8],
        roles: &Roles,
    ) -> Result<Self, ToolError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let mut cells = Cells::new(path, roles);
        let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
        match first {
            Some(b'{') => cells.json_lines(content)?,
            Some(_) => cells.csv(content)?,
            None => return Err(cells.table("is empty".to_owned())),
        }
        cells.finish(sha256)
    }
}

/// sha256 in hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
