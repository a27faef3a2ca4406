//! trainer: being written.
