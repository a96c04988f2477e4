//! Keeps an Elasticsearch index equal to a join of Kafka topics, and archives every record.
//!
//! `source` → `core` (`decode`, `join`, steps) → `sink` and `archiver`, driven by `service`. `core` and what it calls is
//! deterministic: no clock, socket, file, environment or random.

pub mod record;
pub mod source;
pub mod decode;
pub mod journal;
pub mod join;
pub mod survey;
pub mod core;
pub mod cut;
pub mod group;
pub mod sink;
pub mod commit;
pub mod archiver;
pub mod progress;
pub mod takeover;
pub mod continuity;
pub mod recovery;
pub mod lag;
pub mod traffic;
pub mod rejected;
pub mod certificate;
pub mod status;
pub mod watch;
pub mod service;
pub mod dashboard;
pub mod http;
pub mod console;
pub mod metrics;
pub mod check;
pub mod embedded;
pub mod feed;
