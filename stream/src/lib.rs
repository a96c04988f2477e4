//! Keeps an Elasticsearch index equal to a join of Kafka topics, and archives every record.

pub mod embedded;
pub mod feed;
