//! What is wrong with settings of `[input]`.

/// One thing wrong with a [`SchemaSpec`](super::schema::SchemaSpec).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SchemaProblem {
    /// The key, as in the specification: `features[2]`.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// All of them in one line, each with the whole path of its key: `input.key: ...; input.features[2]: ...`.
#[must_use]
pub fn listed(problems: &[SchemaProblem]) -> String {
    let each = problems.iter().map(|problem| format!("input.{problem}"));
    each.collect::<Vec<_>>().join("; ")
}
