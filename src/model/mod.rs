//! Models: what a record, or a window of records, normally looks like.
//!
//! A new kind is one file below [`kinds`] that implements [`Kind`] and [`Build`], and an entry in its table. Pure: no I/O, no clock; all
//! randomness comes from a [`Seed`](crate::seed::Seed). There is one scoring path, through two-dimensional products, because only that gives a row
//! the same bits in any batch.

pub mod card;
pub mod check;
mod chunks;
pub mod context;
pub mod edges;
pub mod ensemble;
pub mod file;
pub mod gaps;
pub mod gate_report;
pub mod held;
pub mod judges;
pub mod kind;
pub mod kinds;
pub mod levels;
mod linalg;
mod marginals;
pub mod member;
pub mod options;
pub mod ranks;
pub mod registry;
pub mod reservoir;
mod residual;
pub mod rest;
pub mod scale;
pub mod sensors;
pub mod spec;
pub mod tensors;
#[cfg(test)]
mod testing;
pub mod trained;

pub use kind::{Build, FitData, FitError, Kind, Kinds, Model, Monitor, Trait, Unwatched};
pub use registry::KINDS;
