//! What Lockstep means: the SQL program, its plan, the definition of its result, and the two treaties that stream and
//! batch keep with each other, the archive and the index.
//!
//! Dependencies point one way: `stream` and `batch` stand on this crate and never on each other. Nothing here starts
//! a thread or knows Kafka, Polars or a command line.

pub mod coordinates;
pub mod types;
pub mod value;
pub mod text;
pub mod functions;
pub mod plan;
pub mod identity;
pub mod names;
pub mod document;
pub mod digest;
pub mod history;
pub mod disk;
pub mod semantics;
pub mod programs;
pub mod archive;
pub mod index;
pub mod sql;
