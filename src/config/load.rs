//! From files, the environment and the command line to one [`Raw`]: defaults < files < environment < `--set`.
//!
//! Each setting is tried against its type on its own before the `config` crate merges the layers, so that every problem of every layer is
//! found at once, with the place it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::detectors::{self, Files, Which};
use super::problem::Problem;
use super::raw::{MODEL_WINDOW, Raw};
use super::secret;

/// What environment variables of ours begin with.
pub const ENVIRONMENT_PREFIX: &str = "ANOMALYD__";

/// Tables whose keys are the user's own: everything below is one key, dots included.
const FREE: &[&str] = &[
    "kafka.properties",
    "input.categories",
    "input.missing_for",
    "telemetry.headers",
    "telemetry.resource",
];

/// Where settings come from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files, later ones win.
    pub files: Vec<PathBuf>,
    /// The process's environment.
    pub environment: Vec<(String, String)>,
    /// `key=value`, as `--set` takes it; later ones win.
    pub set: Vec<String>,
    /// Whose settings of several detectors.
    pub which: Which,
}

impl Sources {
    /// The same, for the detector of this name.
    #[must_use]
    pub fn of(&self, detector: &str) -> Self {
        Self {
            which: Which::Named(detector.to_owned()),
            ..self.clone()
        }
    }
}

impl fmt::Debug for Sources {
    /// Leaves values out: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What the layers came to.
#[derive(Clone)]
pub struct Loaded {
    /// The merged settings; those with problems have their defaults.
    pub raw: Raw,
    /// Keys whose values must not be shown.
    pub hidden: BTreeSet<String>,
    /// Texts that references stood for.
    pub revealed: Vec<String>,
    /// Where each setting comes from that is not a default.
    pub origins: BTreeMap<String, String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Where it was read from.
    pub sources: Sources,
}

impl fmt::Debug for Loaded {
    /// Leaves values out: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("sources", &self.sources)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The effective settings as TOML, with `***` in the place of secrets.
    pub fn shown(&self) -> String {
        let mut table = Table::try_from(&self.raw).unwrap_or_default();
        hide(&mut table, "", &self.hidden);
        toml::to_string(&table).unwrap_or_default()
    }
}

fn hide(table: &mut Table, prefix: &str, hidden: &BTreeSet<String>) {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) => hide(inner, &key, hidden),
            Value::Array(values) if values.iter().any(Value::is_table) => {
                for (number, value) in values.iter_mut().enumerate() {
                    if let Value::Table(inner) = value {
                        hide(inner, &format!("{key}[{number}]"), hidden);
                    }
                }
            }
            // That there is no secret is none.
            Value::String(text) if text.is_empty() => {}
            _ if hidden.contains(&key) || secret::looks_secret(&key) => {
                *value = Value::String(secret::HIDDEN.to_owned());
            }
            _ => {}
        }
    }
}

/// One setting of one layer.
struct Leaf {
    path: Vec<String>,
    value: Value,
    /// Whether the value is text whose type must be guessed: from the environment, `--set`, or a reference.
    text: bool,
    origin: String,
}

impl Leaf {
    fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Reads and merges all layers.
pub fn load(sources: &Sources) -> Loaded {
    let mut problems = Vec::new();
    let files = detectors::read(&sources.files, &mut problems);
    load_from(sources, (files, problems))
}

/// Merges all layers, of files that were read already, with what is wrong with them.
pub(super) fn load_from(sources: &Sources, (files, mut problems): (Files, Vec<Problem>)) -> Loaded {
    let known = Table::try_from(Raw::default()).unwrap_or_default();
    let mut layers: Vec<Vec<Leaf>> = Vec::new();
    for (table, origin) in files.layers(&sources.which, &mut problems) {
        let mut leaves = Vec::new();
        flatten(table, &known, &[], &origin, &mut leaves);
        layers.push(leaves);
    }
    problems.extend(misspelt(&sources.environment, &known));
    layers.push(from_environment(&sources.environment));
    layers.push(from_flags(&sources.set, &mut problems));
    merge(layers, &known, sources, problems)
}

fn merge(
    layers: Vec<Vec<Leaf>>,
    known: &Table,
    sources: &Sources,
    mut problems: Vec<Problem>,
) -> Loaded {
    let lookup = |name: &str| {
        let environment = &sources.environment;
        environment
            .iter()
            .find(|(variable, _)| variable == name)
            .map(|(_, value)| value.clone())
    };
    // serde fills in what a table leaves out by the model's own defaults; the detector's window is another.
    let mut builder = ::config::Config::builder()
        .set_default("model.window", MODEL_WINDOW as i64)
        .unwrap_or_default();
    let mut hidden: BTreeSet<String> = BTreeSet::new();
    let mut revealed = Vec::new();
    let mut origins = BTreeMap::new();
    for layer in layers {
        let mut table = Table::new();
        for mut leaf in layer {
            let key = leaf.key();
            // What an earlier layer referred to is no more.
            hidden.retain(|known| *known != key && !known.starts_with(&format!("{key}[")));
            let before = hidden.len();
            let mut references = References {
                lookup: &lookup,
                revealed: &mut revealed,
                hidden: &mut hidden,
            };
            match references.resolve(&mut leaf.value, &key) {
                Ok(()) => leaf.text |= before < hidden.len() && leaf.value.is_str(),
                Err(problem) => {
                    problems.push(Problem::at(key, problem, &leaf.origin));
                    continue;
                }
            }
            match typed(&leaf, known) {
                Ok(value) => {
                    insert(&mut table, &leaf.path, value);
                    origins.insert(leaf.key(), leaf.origin);
                }
                Err(message) => problems.push(explain(&leaf, &message, known)),
            }
        }
        let text = toml::to_string(&table).unwrap_or_default();
        builder = builder.add_source(::config::File::from_str(&text, ::config::FileFormat::Toml));
    }
    let raw = builder
        .build()
        .and_then(::config::Config::try_deserialize::<Raw>)
        .unwrap_or_else(|error| {
            problems.push(Problem::new("", error.to_string()));
            Raw::default()
        });
    for problem in &mut problems {
        problem.problem = secret::redact(&problem.problem, &revealed);
    }
    Loaded {
        raw,
        hidden,
        revealed,
        origins,
        problems,
        sources: sources.clone(),
    }
}

/// Splits a table into its settings: as deep as the known keys go, and one level into the user's own tables.
fn flatten(table: Table, known: &Table, path: &[String], origin: &str, into: &mut Vec<Leaf>) {
    for (name, value) in table {
        let mut path = path.to_vec();
        path.push(name);
        let key = path.join(".");
        if FREE.contains(&key.as_str()) {
            match value {
                Value::Table(free) => flatten_free(free, &path, "", origin, into),
                value => into.push(leaf(path, value, false, origin)),
            }
            continue;
        }
        let section = known.get(&path[path.len() - 1]);
        match (value, section) {
            (Value::Table(inner), Some(Value::Table(known))) => {
                flatten(inner, known, &path, origin, into);
            }
            (value, _) => into.push(leaf(path, value, false, origin)),
        }
    }
}

fn flatten_free(table: Table, path: &[String], prefix: &str, origin: &str, into: &mut Vec<Leaf>) {
    for (name, value) in table {
        let name = join(prefix, &name);
        match value {
            Value::Table(inner) => flatten_free(inner, path, &name, origin, into),
            value => {
                let mut path = path.to_vec();
                path.push(name);
                into.push(leaf(path, value, false, origin));
            }
        }
    }
}

fn from_environment(environment: &[(String, String)]) -> Vec<Leaf> {
    let mut ours: Vec<_> = environment
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(ENVIRONMENT_PREFIX)?, value)))
        .collect();
    ours.sort();
    ours.into_iter()
        .map(|(name, key, value)| {
            let key = key.to_ascii_lowercase().replace("__", ".");
            // Variables cannot have dots in their names; librdkafka's properties have little else.
            let key = match key.strip_prefix("kafka.properties.") {
                Some(property) => format!("kafka.properties.{}", property.replace('_', ".")),
                None => key,
            };
            let value = Value::String(value.clone());
            leaf(split(&key), value, true, &format!("environment {name}"))
        })
        .collect()
}

/// Variables that most likely are meant to be ours, but have one underscore where there must be two.
fn misspelt(environment: &[(String, String)], known: &Table) -> Vec<Problem> {
    let mut keys = Vec::new();
    known_keys(known, "", &mut keys);
    let meant = |name: &str| {
        let rest = name.strip_prefix("ANOMALYD_")?.to_ascii_lowercase();
        let alike = |key: &&String| key.replace('.', "_") == rest;
        let key = keys.iter().filter(|key| key.contains('.')).find(alike)?;
        let right = key.to_ascii_uppercase().replace('.', "__");
        Some(Problem::at(
            key.clone(),
            format!("`{name}` has no effect: `{ENVIRONMENT_PREFIX}{right}` is probably meant"),
            "environment",
        ))
    };
    let names = environment.iter().map(|(name, _)| name);
    names.filter_map(|name| meant(name)).collect()
}

fn from_flags(set: &[String], problems: &mut Vec<Problem>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for setting in set {
        match setting.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => leaves.push(leaf(
                split(key.trim()),
                Value::String(value.trim().to_owned()),
                true,
                "--set",
            )),
            _ => problems.push(Problem::new(
                setting,
                "`--set` takes key=value, such as model.kind=pca",
            )),
        }
    }
    leaves
}

fn leaf(path: Vec<String>, value: Value, text: bool, origin: &str) -> Leaf {
    Leaf {
        path,
        value,
        text,
        origin: origin.to_owned(),
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// A dotted key as a path; what lies in the user's own tables stays whole.
fn split(key: &str) -> Vec<String> {
    for free in FREE {
        if let Some(own) = key
            .strip_prefix(free)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            let mut path: Vec<String> = free.split('.').map(str::to_owned).collect();
            path.push(own.to_owned());
            return path;
        }
    }
    key.split('.').map(str::to_owned).collect()
}

/// References to what lies elsewhere, as they are resolved.
struct References<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// What they stood for.
    revealed: &'a mut Vec<String>,
    /// Where they stood.
    hidden: &'a mut BTreeSet<String>,
}

impl References<'_> {
    /// In all texts of a value: of a list of tables each of its own, of another list as a whole.
    fn resolve(&mut self, value: &mut Value, key: &str) -> Result<(), String> {
        match value {
            Value::String(text) if secret::is_reference(text) => {
                *text = secret::resolve(text, self.lookup, self.revealed)?;
                self.hidden.insert(key.to_owned());
            }
            Value::Array(values) => {
                for (number, value) in values.iter_mut().enumerate() {
                    match value {
                        Value::Table(_) => self.resolve(value, &format!("{key}[{number}]"))?,
                        value => self.resolve(value, key)?,
                    }
                }
            }
            Value::Table(table) => {
                for (name, value) in table {
                    self.resolve(value, &join(key, name))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The leaf's value in a type that its key takes. Text is tried as a TOML value, as it stands, and as a list with commas.
fn typed(leaf: &Leaf, known: &Table) -> Result<Value, String> {
    let fits = |value: &Value| {
        let mut table = Table::new();
        insert(&mut table, &leaf.path, value.clone());
        Raw::deserialize(Value::Table(table)).map_err(|error| error.message().to_owned())
    };
    let text = match &leaf.value {
        Value::String(text) if leaf.text => text,
        value => return fits(value).map(|_| value.clone()),
    };
    let guess = |text: &str| text.parse::<Value>().ok();
    let list = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| guess(part).unwrap_or_else(|| Value::String(part.to_owned())))
        .collect();
    let mut candidates: Vec<Value> = guess(text).into_iter().collect();
    candidates.push(Value::String(text.clone()));
    candidates.push(Value::Array(list));
    if is_list(&leaf.path, known) {
        // One of a list may be given as it is, but what has commas is several.
        let last = candidates.len() - 1;
        candidates.swap(last - 1, last);
    }
    let mut first = None;
    for candidate in candidates {
        match fits(&candidate) {
            Ok(_) => return Ok(candidate),
            Err(message) => first = first.or(Some(message)),
        }
    }
    Err(first.unwrap_or_default())
}

/// Whether the default of a key is a list.
fn is_list(path: &[String], known: &Table) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return false;
    };
    match known.get(name) {
        Some(Value::Table(inner)) => is_list(rest, inner),
        Some(Value::Array(_)) => rest.is_empty(),
        _ => false,
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(name.clone(), value);
        return;
    }
    let entry = table
        .entry(name.clone())
        .or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    if let Value::Table(inner) = entry {
        insert(inner, rest, value);
    }
}

/// A type error in the user's words: the key, its value, what is allowed; for an unknown key the nearest known one.
fn explain(leaf: &Leaf, message: &str, known: &Table) -> Problem {
    let key = leaf.key();
    let tables = leaf
        .value
        .as_array()
        .is_some_and(|values| values.iter().any(Value::is_table));
    if tables {
        // The list itself may hold secrets, and is long.
        return Problem::at(key, message.trim().to_owned(), &leaf.origin);
    }
    if message.contains("unknown field") {
        let mut keys = Vec::new();
        known_keys(known, "", &mut keys);
        let problem = match nearest(&key, &keys) {
            Some(nearest) => format!("unknown key; did you mean `{nearest}`?"),
            None => "unknown key; config/default.toml lists all keys".to_owned(),
        };
        return Problem::at(key, problem, &leaf.origin);
    }
    let message = message.trim().trim_end_matches('.');
    let problem = if secret::looks_secret(&key) {
        message.to_owned()
    } else {
        format!("is {}: {message}", shorten(&leaf.value.to_string()))
    };
    Problem::at(key, problem, &leaf.origin)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    let start: String = text.chars().take(57).collect();
    format!("{start}...")
}

/// All keys there are, dotted, sections included.
pub fn known_keys(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let key = join(prefix, name);
        if let Value::Table(inner) = value {
            known_keys(inner, &key, into);
        }
        into.push(key);
    }
}

/// The known key that `key` most likely means: few letters off, or the same name in another section.
pub fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let own = name(key);
    known
        .iter()
        .map(|candidate| {
            let whole = strsim::normalized_damerau_levenshtein(key, candidate);
            let last = strsim::normalized_damerau_levenshtein(&own, &name(candidate)) * 0.9;
            (whole.max(last), candidate)
        })
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
