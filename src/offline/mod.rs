//! offline: being written.
