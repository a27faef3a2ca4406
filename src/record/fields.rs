//! The fields that a schema names, as a tree, and the paths that lead to them.

use rustc_hash::FxHashMap;

/// A feature that stands for those that are not found yet, where a specification is checked before they are.
pub const STAND_IN: &str = "\u{0}";

/// What a leaf of the tree of fields is used for; one field may have several uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A number or boolean in this column.
    Column(usize),
    /// One of [`Schema::categories`].
    Category(usize),
    /// An array of numbers: the first column, and how many.
    Array(usize, usize),
    /// A part of the key.
    Key(usize),
    /// The event time.
    Time,
}

/// A field that the schema names, or an object on the way to one.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Its path, for messages.
    pub path: String,
    /// The fields below it, by name.
    pub children: FxHashMap<Box<str>, usize>,
    /// What it is used for, if it is a leaf.
    pub uses: Vec<Use>,
}

/// The names in a path; `None` if it is not one.
pub(super) fn split_path(path: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '.' => names.push(String::new()),
            '\\' => match characters.next()? {
                escaped @ ('.' | '\\') => names.last_mut()?.push(escaped),
                _ => return None,
            },
            plain => names.last_mut()?.push(plain),
        }
    }
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

/// `name` within the object at `parent` (empty: the record itself), as a path: a dot of the name is written `\.`.
#[must_use]
pub fn join_path(parent: &str, name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('.', "\\.");
    if parent.is_empty() {
        name
    } else {
        format!("{parent}.{name}")
    }
}
