//! Tests against real servers in containers: one binary, so that all of them share one Kafka and one Elasticsearch.
//!
//! `integration-tests/run` starts an engine, builds or pulls the images and switches these tests on.

mod expected;
mod faults;
mod pipeline;
mod repair;
mod shop;
mod smoke;
