//! Data to try Lockstep with: random records for annotated Avro schemas, and their way into a log.

pub mod generate;
pub mod generator;
pub mod ingest;
