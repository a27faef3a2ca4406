//! anomalyd: records in from Kafka, scored by models that it retrains itself, explained alerts out to Kafka.
//!
//! # Layout, in reading order
//!
//! A module may use only modules of a lower layer; `tests/layering.rs` holds the same list and fails on an upward `use`.
//! Layers 0 to 6 perform no I/O, read no clock, start no thread, and keep neither metrics nor logs: they are
//! the product, and they compile with `--no-default-features`, without librdkafka.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`time`], [`seed`], [`simd`], [`stream`], [`stats`] |
//! | 1 | [`record`], [`nn`] |
//! | 2 | [`model`] |
//! | 3 | [`alert`] |
//! | 4 | [`detect`] |
//! | 5 | [`train`] |
//! | 6 | [`pipeline`] |
//! | 7 | [`port`] |
//! | 8 | [`trainer`] |
//! | 9 | [`worker`] |
//! | 10 | `store`, `https` |
//! | 11 | `kafka` |
//! | 12 | `notify`, `telemetry` |
//! | 13 | `config` |
//! | 14 | `tools`, `service` |
//! | 15 | `backtest` |
//! | 16 | `demo` |
//! | 17 | `cli` |
//!
//! ARCHITECTURE.md has the map, the glossary and the invariants.

pub mod seed;
pub mod simd;
pub mod stats;
pub mod stream;
pub mod time;

pub mod nn;
pub mod record;

pub mod model;

pub mod alert;

pub mod detect;

pub mod train;

pub mod pipeline;

pub mod port;

pub mod trainer;

pub mod worker;

#[cfg(feature = "daemon")]
pub mod https;
#[cfg(feature = "daemon")]
pub mod store;

#[cfg(feature = "daemon")]
pub mod kafka;

#[cfg(feature = "daemon")]
pub mod notify;
#[cfg(feature = "daemon")]
pub mod telemetry;

#[cfg(feature = "daemon")]
pub mod config;

#[cfg(feature = "daemon")]
pub mod service;
#[cfg(feature = "daemon")]
pub mod tools;

#[cfg(feature = "daemon")]
pub mod backtest;

#[cfg(feature = "daemon")]
pub mod demo;

#[cfg(feature = "daemon")]
pub mod cli;
