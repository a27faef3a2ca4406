//! nn: being written.
