//! `backtest --feedback`: what somebody would have said of episodes, so that its worth can be measured.

use std::collections::VecDeque;
use std::path::Path;

use crate::record::feedback::{Says, Statement};
use crate::tools::ToolError;
use crate::tools::table::Table;

/// What is said on the way through a table, each with the number of rows before it. In the order of the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script(VecDeque<(usize, Says)>);

impl Script {
    /// Reads a file of JSON objects, one a line.
    ///
    /// # Errors
    /// If it cannot be read, or the first line that cannot.
    pub fn read(path: &Path, table: &Table) -> Result<Self, ToolError> {
        let text = std::fs::read_to_string(path).map_err(|error| ToolError::File {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&path.display().to_string(), &text, table)
    }

    /// The same of a text. What is said of an episode needs its time: before the episode opened, there is nothing to say.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(path: &str, text: &str, table: &Table) -> Result<Self, ToolError> {
        let mut script = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let of_line = |problem| ToolError::Line {
                path: path.to_owned(),
                line,
                problem,
            };
            let Statement { says, at } = Statement::read(text).map_err(of_line)?;
            let row = match (at, &says) {
                // As soon as the stream's time reaches it.
                (Some(at), _) => table.times.iter().position(|time| *time >= at),
                (None, Says::Maintenance { .. }) => Some(0),
                (None, _) => {
                    let problem =
                        "`at` is missing: when it was said, which is after the episode opened";
                    return Err(of_line(problem.to_owned()));
                }
            };
            script.push((
                row.map_or(table.len(), |row| row + usize::from(row > 0)),
                says,
            ));
        }
        script.sort_by_key(|(row, _)| *row);
        Ok(Self(script.into()))
    }

    /// The number of rows before what is said next.
    #[must_use]
    pub fn next_row(&self) -> Option<usize> {
        self.0.front().map(|(row, _)| *row)
    }

    /// What is said before the row after `row` others.
    pub fn take(&mut self, row: usize) -> Option<Says> {
        let due = self.0.front().is_some_and(|(at, _)| *at <= row);
        due.then(|| self.0.pop_front().map(|(_, says)| says))?
    }
}
