//! The index: what is said to Elasticsearch (7, 8, 9) and OpenSearch, and what their answers mean.
//!
//! One request builder ([`bulk`]) and one verdict table ([`verdict`]) serve every server; both are pure, and so are
//! [`delivery`], [`mapping`], [`page`] and [`carried`]. [`client`], [`writer`], [`moment`] and [`scan`] speak to the server.

pub mod bulk;
pub mod carried;
pub mod client;
mod deletes;
pub mod names;
pub mod delivery;
pub mod mapping;
pub mod moment;
pub mod page;
pub mod scan;
pub mod verdict;
pub mod writer;

pub use bulk::{Action, Operation};
pub use client::{Client, ClientConfig, IndexError, index_name};
