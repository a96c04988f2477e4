//! Tests against real servers in containers: one binary, so that all of them share one Kafka and one Elasticsearch.
//!
//! `integration-tests/run` starts an engine, builds or pulls the images and switches these tests on.

mod console;
mod dashboard;
mod expected;
mod faults;
mod figures;
mod insights;
mod kibana;
mod lag;
mod page;
mod pipeline;
mod prometheus;
mod repair;
mod shop;
mod smoke;
