//! service: being written.
