//! Tests against real servers in containers: one binary, so that all of them share one Kafka and one Elasticsearch.
//!
//! `integration-tests/run` starts an engine, builds or pulls the images and switches these tests on.

mod shop;
mod expected;
mod traffic;
mod smoke;
mod pipeline;
mod prometheus;
mod repair;
mod compare;
mod moments;
mod plans;
mod beyond;
mod rebuild;
mod changed;
mod compaction;
mod schema;
mod schedules;
mod faults;
mod crashes;
mod cuts;
mod outages;
mod disks;
mod fencing;
mod lost_logs;
mod damage;
mod memory;
mod stops;
mod figures;
mod dashboard;
mod insights;
mod kibana;
mod lag;
mod page;
mod console;
mod corruption;
mod why;
