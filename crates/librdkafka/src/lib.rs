//! What librdkafka can do and its Rust bindings do not pass on: the ids of topics, and tokens for OAUTHBEARER. This crate is apart because it is
//! the only place with unsafe code.

mod token;
mod topic_ids;

pub use token::{Token, set_token};
pub use topic_ids::topic_ids;
