//! Throughput of `lockstep-stream` on this machine: writes a shop of the wanted size into a log, runs the stream on it to
//! its end, and prints events a second and peak memory.
//!
//! `cargo run --release --bin bench -- [--sink blackhole|embedded] [--hosts URL] [--bootstrap-servers HOST:PORT]`: from
//! files into nothing unless told otherwise. Build `lockstep-stream` in the same profile first.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use lockstep_integration_tests::benchmarks::{Running, program};
use lockstep_integration_tests::containers::{free_port, fresh_name};
use lockstep_integration_tests::kafka::{Kafka, Record};
use lockstep_stream::feed::ingest::pair;

/// Records sent to Kafka at a time.
const CHUNK: usize = 20_000;

#[derive(Parser)]
struct Arguments {
    /// Users
    #[arg(long, default_value_t = 100_000)]
    users: usize,
    /// Products
    #[arg(long, default_value_t = 100_000)]
    products: usize,
    /// Sales
    #[arg(long, default_value_t = 200_000)]
    sales: usize,
    /// Views
    #[arg(long, default_value_t = 1_000_000)]
    views: usize,
    /// Where the documents go: blackhole, embedded, or, with --hosts, index
    #[arg(long, default_value = "blackhole")]
    sink: String,
    /// Elasticsearch
    #[arg(long)]
    hosts: Option<String>,
    /// Kafka, in place of files
    #[arg(long)]
    bootstrap_servers: Option<String>,
    /// How often the stream is run from nothing
    #[arg(long, default_value_t = 1)]
    runs: usize,
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}

/// A record of a table: its key, if it has one, and its value.
fn record(table: &str, number: usize, sizes: &Arguments, numbers: &mut Numbers) -> (Option<String>, String) {
    let mut id = |kind: &str, bound: usize| format!("{kind}-0000-4000-8000-{:012}", numbers.below(bound));
    let own = |kind: &str| format!("{kind}-0000-4000-8000-{number:012}");
    let ts = 1_609_459_200_000 + 1_000 * number as u64;
    match table {
        "products" => {
            let id = own("product0");
            let value = format!(
                r#"{{"id":"{id}","brand":"Brand {}","name":"Shoe {number}","sale_price":{},"rating":4.5}}"#,
                number % 40,
                1_000 + number % 9_000
            );
            (Some(id), value)
        }
        "users" => {
            let id = own("user0000");
            let value = format!(
                r#"{{"id":"{id}","first_name":"First {}","last_name":"Last {}","email":"u{number}@example.org","state":"State {}"}}"#,
                number % 500,
                number % 900,
                number % 50
            );
            (Some(id), value)
        }
        "sales" => {
            let (product, customer) = (id("product0", sizes.products), id("user0000", sizes.users));
            let value =
                format!(r#"{{"order_id":{number},"product_id":"{product}","customer_id":"{customer}","ts":{ts}}}"#);
            (Some(number.to_string()), value)
        }
        _ => {
            let (product, user) = (id("product0", sizes.products), id("user0000", sizes.users));
            let value = format!(
                r#"{{"product_id":"{product}","user_id":"{user}","view_time":{},"page_url":"https://shop.example.org/product/{number}","ip":"10.0.0.1","ts":{ts}}}"#,
                number % 120
            );
            (None, value)
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tables = [
        ("products", arguments.products),
        ("users", arguments.users),
        ("sales", arguments.sales),
        ("views", arguments.views),
    ];
    let logs = tempfile::tempdir()?;
    let mut sets = Vec::new();
    for (table, count) in tables {
        match &arguments.bootstrap_servers {
            None => sets.extend(to_file(table, count, &arguments, logs.path())?),
            Some(servers) => sets.extend(to_kafka(table, count, &arguments, servers).await?),
        }
    }
    let events = tables.iter().map(|(_, count)| count).sum();
    for _ in 0..arguments.runs {
        run(&arguments, events, &sets).await?;
    }
    Ok(())
}

fn to_file(table: &str, count: usize, sizes: &Arguments, folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(format!("{table}.jsonl"));
    let (mut out, mut numbers) = (BufWriter::new(File::create(&path)?), Numbers(1));
    for number in 0..count {
        match record(table, number, sizes, &mut numbers) {
            (Some(key), value) => out.write_all(&pair(Some(&key), value.as_bytes()))?,
            (None, value) => writeln!(out, "{value}")?,
        }
    }
    out.flush()?;
    Ok(vec![format!("{table}.path={}", path.display())])
}

async fn to_kafka(table: &str, count: usize, sizes: &Arguments, servers: &str) -> Result<Vec<String>> {
    let (kafka, topic) = (Kafka::new(servers.to_owned()), fresh_name(table));
    kafka.create_topic(&topic, 1).await?;
    let mut numbers = Numbers(1);
    for from in (0..count).step_by(CHUNK) {
        let records: Vec<Record> = (from..count.min(from + CHUNK))
            .map(|number| match record(table, number, sizes, &mut numbers) {
                (Some(key), value) => Record::keyed(key, value),
                (None, value) => Record::value(value),
            })
            .collect();
        kafka.produce(&topic, &records).await?;
    }
    Ok(vec![
        format!("{table}.connector=kafka"),
        format!("{table}.path="),
        format!("{table}.topic={topic}"),
        format!("{table}.properties.bootstrap.servers={servers}"),
    ])
}

async fn run(arguments: &Arguments, events: usize, sets: &[String]) -> Result<()> {
    let (state, port) = (tempfile::tempdir()?, free_port()?);
    let below = |name: &str| state.path().join(name).display().to_string();
    let mut sets = sets.to_vec();
    sets.push(format!("lockstep.archive.path={}", below("archive")));
    sets.push(format!("lockstep.state.path={}", below("state")));
    sets.push(format!("lockstep.http.address=127.0.0.1:{port}"));
    match (&arguments.hosts, arguments.sink.as_str()) {
        (Some(hosts), _) => {
            sets.push("lockstep.index.embedded.address=".into());
            sets.push(format!("product_dashboard.hosts={hosts}"));
            sets.push(format!("product_dashboard.index={}", fresh_name("bench")));
        }
        (None, "embedded") => {
            let embedded = free_port()?;
            sets.push(format!("lockstep.index.embedded.address=127.0.0.1:{embedded}"));
            sets.push(format!("product_dashboard.hosts=http://127.0.0.1:{embedded}"));
        }
        (None, _) => {
            sets.push("lockstep.index.embedded.address=".into());
            sets.push("product_dashboard.connector=blackhole".into());
            sets.extend(["hosts", "index", "format"].map(|option| format!("product_dashboard.{option}=")));
        }
    }
    let begin = Instant::now();
    let mut stream = Running::start(program("lockstep-stream", &["run"], &sets)?)?;
    let written = stream.caught_up(port, events).await?;
    let taken = begin.elapsed().as_secs_f64();
    println!(
        "{events} events, {written} documents written in {taken:.1} s: {:.0} events/s, {:.0} documents/s, peak memory {} MiB",
        events as f64 / taken,
        written as f64 / taken,
        stream.peak_memory_mib()?
    );
    Ok(())
}
