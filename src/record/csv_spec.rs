//! What a line of CSV has: as users write it, and once checked.

use serde::{Deserialize, Serialize};

use super::fields::{Node, STAND_IN, split_path};
use super::problem::SchemaProblem;

/// What a line has; unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvSpec {
    /// The paths of its cells, in order.
    pub columns: Vec<String>,
    /// What stands between them: one ASCII character.
    pub separator: String,
}

impl Default for CsvSpec {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            separator: ",".to_owned(),
        }
    }
}

impl CsvSpec {
    /// Whether nothing was said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The byte between two cells; `None` if that cannot be one.
    pub(super) fn byte(&self) -> Option<u8> {
        match self.separator.as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n\0".contains(byte) => Some(*byte),
            _ => None,
        }
    }
}

/// Where the cells of a line go.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// The byte between two cells.
    pub separator: u8,
    /// For each cell the field that it is, if it is one that the schema names.
    pub nodes: Vec<Option<usize>>,
}

impl Layout {
    /// Which field each cell of a line is, and what is wrong. All fields that `nodes` has a use for must be among the cells.
    pub(super) fn new(spec: &CsvSpec, nodes: &[Node]) -> (Self, Vec<SchemaProblem>) {
        let mut problems = Vec::new();
        let mut problem = |key: &str, problem: String| {
            let key = key.to_owned();
            problems.push(SchemaProblem { key, problem });
        };
        let separator = spec.byte().unwrap_or_else(|| {
            let is = &spec.separator;
            problem(
                "csv.separator",
                format!("is {is:?}, but must be one ASCII character"),
            );
            b','
        });
        if spec.columns.is_empty() {
            let words = "must name the cells of a line where `format` is \"csv\"";
            problem("csv.columns", words.to_owned());
            return (Self::default(), problems);
        }
        let mut places = Vec::new();
        for (at, column) in spec.columns.iter().enumerate() {
            let key = format!("csv.columns[{at}]");
            if spec.columns[..at].contains(column) {
                problem(&key, format!("`{column}` is listed twice"));
            }
            let names = split_path(column).unwrap_or_else(|| {
                problem(
                    &key,
                    format!("`{column}` is not a path: names joined by dots"),
                );
                Vec::new()
            });
            let mut node = Some(0);
            for name in &names {
                let children = node.map(|node: usize| &nodes[node].children);
                node = children.and_then(|children| children.get(name.as_str()).copied());
            }
            places.push(node.filter(|node| !nodes[*node].uses.is_empty()));
        }
        for (at, node) in nodes.iter().enumerate() {
            let asked_for = !node.uses.is_empty() && node.path != STAND_IN;
            if asked_for && !places.contains(&Some(at)) {
                problem("csv.columns", format!("lacks `{}`", node.path));
            }
        }
        let layout = Self {
            separator,
            nodes: places,
        };
        (layout, problems)
    }
}
