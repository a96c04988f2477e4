//! Keeps an Elasticsearch index equal to a join of Kafka topics, and archives every record.
//!
//! Sources deliver bytes with their place; `decode` makes rows of them; `join` says which documents change.

pub mod record;
pub mod source;
pub mod decode;
pub mod journal;
pub mod join;
pub mod embedded;
pub mod feed;
