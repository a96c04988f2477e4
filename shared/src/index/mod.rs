//! The index: what is said to Elasticsearch (7, 8, 9) and OpenSearch, and what their answers mean. Pure.
//!
//! One request builder ([`bulk`]) and one verdict table ([`verdict`]) serve every server.

pub mod bulk;
pub mod verdict;

pub use bulk::{Action, Operation};
