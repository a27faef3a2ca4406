//! Several detectors of one process: `[[detector]]` tables, each of which overrides the rest of the files for one of them, or a folder whose
//! files are such tables.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::problem::Problem;
use super::raw::Input;

/// The key of the tables.
pub(super) const KEY: &str = "detector";
/// What is the process's, and no detector's.
pub(super) const OF_THE_PROCESS: [&str; 6] =
    ["http", "log", "notify", "telemetry", "instance", KEY];

/// Whose settings are read where files have several detectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The only one's; that there are several is a problem.
    #[default]
    Only,
    /// The one's of this name.
    Named(String),
    /// What all share.
    Shared,
}

/// What files say: what all detectors share, and what is each one's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Tables, with their files.
    shared: Vec<(Table, String)>,
    own: Vec<Own>,
}

/// What one detector overrides.
#[derive(Clone, Debug)]
struct Own {
    name: String,
    table: Table,
    origin: String,
}

/// Reads files, and the files of folders.
pub(super) fn read(files: &[PathBuf], problems: &mut Vec<Problem>) -> Files {
    let mut found = Files::default();
    for file in files {
        if file.is_dir() {
            found.read_folder(file, problems);
        } else {
            match parsed(file) {
                Ok(table) => found.add(table, &file.display().to_string(), problems),
                Err(problem) => problems.push(problem),
            }
        }
    }
    for own in &mut found.own {
        own.get_group(&found.shared);
    }
    found
}

impl Files {
    fn add(&mut self, mut table: Table, file: &str, problems: &mut Vec<Problem>) {
        match table.remove(KEY) {
            None => {}
            Some(Value::Array(tables)) => {
                for (number, own) in tables.into_iter().enumerate() {
                    let place = format!("{KEY}[{number}]");
                    match own {
                        Value::Table(own) => self.add_own(own, (&place, None), file, problems),
                        _ => problems.push(Problem::at(place, "is no table".to_owned(), file)),
                    }
                }
            }
            Some(_) => problems.push(Problem::at(
                KEY.to_owned(),
                "must be tables, each under `[[detector]]`".to_owned(),
                file,
            )),
        }
        self.shared.push((table, file.to_owned()));
    }

    fn add_own(
        &mut self,
        table: Table,
        (place, stem): (&str, Option<&str>),
        file: &str,
        problems: &mut Vec<Problem>,
    ) {
        let named = table.get("name").and_then(Value::as_str).or(stem);
        let Some(name) = named.map(str::to_owned) else {
            let problem = "is missing: each of several detectors has its own".to_owned();
            problems.push(Problem::at(format!("{place}.name"), problem, file));
            return;
        };
        if self.own.iter().any(|own| own.name == name) {
            let problem = format!("is \"{name}\", as of another detector");
            problems.push(Problem::at(format!("{place}.name"), problem, file));
            return;
        }
        let mut table = table;
        for key in OF_THE_PROCESS {
            if table.remove(key).is_some() {
                let problem = "is the process's, not a detector's: it stands outside".to_owned();
                problems.push(Problem::at(format!("{place}.{key}"), problem, file));
            }
        }
        table.insert("name".to_owned(), Value::String(name.clone()));
        self.own.push(Own {
            origin: format!("{file} [[{KEY}]] {name}"),
            name,
            table,
        });
    }

    /// Each file of a folder is a detector, called as it says, or as the file is.
    fn read_folder(&mut self, folder: &Path, problems: &mut Vec<Problem>) {
        let files = match list(folder) {
            Ok(files) => files,
            Err(problem) => return problems.push(problem),
        };
        if files.is_empty() {
            let problem = "has no files whose names end with .toml";
            problems.push(Problem::new(&folder.display().to_string(), problem));
        }
        for file in files {
            let stem = file.file_stem().map(|stem| stem.to_string_lossy());
            let name = file.display().to_string();
            match parsed(&file) {
                Ok(table) => self.add_own(table, (KEY, stem.as_deref()), &name, problems),
                Err(problem) => problems.push(problem),
            }
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.own.iter().map(|own| own.name.as_str()).collect()
    }

    /// The tables that concern one of them, the last wins, each with where it stands.
    pub(super) fn layers(self, which: &Which, problems: &mut Vec<Problem>) -> Vec<(Table, String)> {
        let names = self.names().join(", ");
        let wanted = match which {
            Which::Shared => None,
            Which::Only if self.own.len() > 1 => {
                let problem = format!("there are several detectors, {names}: say which");
                problems.push(Problem::new("--detector", problem));
                None
            }
            Which::Only => self.own.first().map(|own| own.name.clone()),
            Which::Named(name) => {
                let there = self.own.is_empty() || self.own.iter().any(|own| own.name == *name);
                if !there {
                    let problem = format!("there is no detector \"{name}\": there are {names}");
                    problems.push(Problem::new("--detector", problem));
                }
                Some(name.clone())
            }
        };
        let mut layers = self.shared;
        let own = self
            .own
            .into_iter()
            .filter(|own| Some(&own.name) == wanted.as_ref());
        layers.extend(own.map(|own| (own.table, own.origin)));
        layers
    }
}

impl Own {
    /// Detectors read by themselves: where one names no group, its own is called by the one that all share, and by its name.
    fn get_group(&mut self, shared: &[(Table, String)]) {
        let group = |table: &Table| {
            let group = table.get("input")?.get("group")?;
            group.as_str().map(str::to_owned)
        };
        if group(&self.table).is_some() {
            return;
        }
        let all = shared.iter().rev().find_map(|(table, _)| group(table));
        let group = format!(
            "{}.{}",
            all.unwrap_or_else(|| Input::default().group),
            self.name
        );
        let input = self
            .table
            .entry("input")
            .or_insert_with(|| Table::new().into());
        if let Value::Table(input) = input {
            input.insert("group".to_owned(), Value::String(group));
        }
    }
}

/// The files of a folder whose names end with `.toml`, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| {
        let name = folder.display().to_string();
        Problem::new(&name, format!("cannot be read: {error}"))
    })?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    Ok(files)
}

fn parsed(file: &Path) -> Result<Table, Problem> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file)
        .map_err(|error| Problem::new(&name, format!("cannot be read: {error}")))?;
    text.parse::<Table>().map_err(|error| {
        // The message without the quoted line: that line may hold a secret.
        let line = error.span().map_or(1, |span| {
            text.bytes()
                .take(span.start)
                .filter(|byte| *byte == b'\n')
                .count()
                + 1
        });
        Problem::new(&format!("{name}:{line}"), error.message().to_owned())
    })
}
