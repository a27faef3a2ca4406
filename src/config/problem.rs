//! What is wrong with a configuration.

use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the file.
    pub key: String,
    /// What is wrong, with the value, and what is allowed.
    pub problem: String,
    /// The file, variable or flag it came from, where known.
    pub origin: Option<String>,
}

impl Problem {
    /// A problem of `key`.
    pub fn new(key: &str, problem: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            problem: problem.into(),
            origin: None,
        }
    }

    pub(super) fn at(key: String, problem: String, origin: &str) -> Self {
        Self {
            key,
            problem,
            origin: Some(origin.to_owned()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):\n{}", .0.len(), .0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);
