//! `score` and `backtest`: the rows of a table through the same training and the same pipeline as live.
//!
//! Next: `replay` (rows through the pipeline), [`evaluate`] (`score`, `backtest`), [`feedback`] (what somebody says of episodes on the way),
//! [`budgets`] (what other budgets would have opened), [`figures`] (how good that was, given labels), [`write`] (what is written), [`story`]
//! and [`report`] (the same for people, in one HTML file).

pub mod budgets;
pub mod evaluate;
pub mod feedback;
pub mod figures;
mod replay;
pub mod report;
pub mod story;
pub mod write;

pub use replay::Line;

#[cfg(test)]
mod feedback_tests;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod tests;
