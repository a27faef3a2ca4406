//! train: being written.
