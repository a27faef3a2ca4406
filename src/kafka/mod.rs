//! kafka: being written.
