//! Third-party notices: what each package says of its licence, word for word.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Package, Supply};

/// Names that files with licences begin with.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

/// How deep below a package's folder licences are looked for: of libraries that it carries, too.
const DEEP: usize = 3;

/// The notices of all that others wrote, each text once. `Err`: what cannot be read.
pub fn notices(supply: &Supply) -> Result<String, String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut out = String::from(
        "anomalyd is built from these packages. Their licences follow, and whom they concern.\n\n",
    );
    for package in supply.third_party() {
        let Package {
            name,
            version,
            licence,
            ..
        } = package;
        let mut files = Vec::new();
        find(&package.folder, DEEP, &mut files)
            .map_err(|error| format!("{name} {version}: {error}"))?;
        files.sort_unstable();
        let none = if files.is_empty() {
            "; its package has no text of it"
        } else {
            ""
        };
        writeln!(out, "- {name} {version}: {licence}{none}").ok();
        for file in files {
            let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            let place = file.strip_prefix(&package.folder).unwrap_or(&file);
            let who = format!("{name} {version} ({})", place.display());
            texts.entry(text.trim().to_owned()).or_default().push(who);
        }
    }
    for (text, who) in texts {
        write!(out, "\n{}\n{}\n\n{text}\n", "=".repeat(80), who.join("\n")).ok();
    }
    Ok(out)
}

/// Files with licences in a folder and those below it.
fn find(folder: &Path, deep: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_code = [".RS", ".C", ".H"].iter().any(|end| name.ends_with(end));
        if entry.file_type()?.is_dir() {
            if deep > 0 {
                find(&entry.path(), deep - 1, found)?;
            }
        } else if !is_code && NAMES.iter().any(|start| name.starts_with(start)) {
            found.push(entry.path());
        }
    }
    Ok(())
}
