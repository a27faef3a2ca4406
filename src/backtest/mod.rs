//! `score` and `backtest`: the rows of a table through the same training and the same pipeline as live.
//!
//! Next: `replay` (rows through the pipeline), [`evaluate`] (`score`, `backtest`), [`feedback`] (what somebody says of episodes on the way),
//! [`budgets`] (what other budgets would have opened), [`figures`] (how good that was, given labels), [`write`] (what is written), [`summary`]
//! (the same in words), [`story`] and [`report`] (the same for people, in one HTML file).

pub mod budgets;
mod cards;
pub mod evaluate;
pub mod feedback;
pub mod figures;
mod input;
mod replay;
pub mod report;
pub mod story;
pub mod summary;
pub mod write;

pub use replay::Line;

#[cfg(test)]
mod feedback_tests;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod tests;
