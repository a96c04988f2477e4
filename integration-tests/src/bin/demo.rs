//! `cargo demo`: the shoe shop live on nothing but this repository.
//!
//! Fills a file log, runs `fixtures/pipeline.sql` from it into the embedded index, keeps a trickle of records coming, and
//! reconciles every minute. Ctrl-C ends it and keeps its data in `lockstep-demo/`; the next start goes on from there.
//! `cargo demo reconcile [--repair]` compares at once, while the demo runs in another terminal.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lockstep_batch::reconcile::{Options, Repair, reconcile};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::{self, Overrides, settings::Settings};
use lockstep_stream::feed::generator::{Generator, Variation};
use lockstep_stream::feed::ingest::pair;
use lockstep_stream::service;
use tokio::sync::watch;

/// Everything that the demo keeps.
const FOLDER: &str = "lockstep-demo";
/// Records of each topic at the first start.
const FIRST_RECORDS: usize = 500;
/// The seed of the records: every demo is the same shop.
const SEED: u64 = 1;
/// How often a few records are added.
const TRICKLE: Duration = Duration::from_millis(500);
/// How often the index is compared with the archive.
const RECONCILE: Duration = Duration::from_secs(60);
/// How often the demo says how far it is.
const PROGRESS: Duration = Duration::from_secs(20);
/// Differences of each kind that a report shows.
const SAMPLE: usize = 5;
/// The shop's tables, each with the field that is the key of its records, if they have one.
const TABLES: [(&str, Option<&str>); 4] =
    [("products", Some("id")), ("users", Some("id")), ("sales", Some("order_id")), ("views", None)];

#[tokio::main]
async fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has a folder")?;
    std::env::set_current_dir(root)?;
    let pipeline = Arc::new(pipeline()?);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => demo(pipeline).await,
        ["reconcile"] => compare(&pipeline, Repair::ReportOnly).await,
        ["reconcile", "--repair"] => compare(&pipeline, Repair::Repair).await,
        other => bail!("unknown arguments {other:?}; known are: cargo demo, cargo demo reconcile [--repair]"),
    }
}

fn pipeline() -> Result<Pipeline> {
    let none = Overrides::parse(&[]).map_err(|e| anyhow!("{e}"))?;
    sql::compile_file(Path::new("fixtures/pipeline.sql"), &none).map_err(|message| anyhow!(message))
}

async fn demo(pipeline: Arc<Pipeline>) -> Result<()> {
    let settings = Settings::of(&pipeline).map_err(|e| anyhow!("{e}"))?;
    let log = PathBuf::from(FOLDER).join("log");
    std::fs::create_dir_all(&log)?;
    let mut shop = Shop::open(&log)?;
    if !log.join("views.jsonl").exists() {
        println!("writing {FIRST_RECORDS} records of each topic into {}/", log.display());
        for table in 0..TABLES.len() {
            shop.append(table, FIRST_RECORDS)?;
        }
    } else {
        println!("going on with the data in {FOLDER}/ (delete the folder to begin anew)");
    }
    let index =
        settings.embedded_address.clone().context("fixtures/pipeline.sql sets lockstep.index.embedded.address")?;
    let (status, archive) = (settings.http_address.clone(), settings.archive_path.display().to_string());
    println!(
        "\n  status    http://{status}/v1/status   http://{status}/metrics\n  index     http://{index}/product_dashboard\n  \
         archive   {archive}/ (Delta Lake)\n\ntry in another terminal:\n  curl 'http://{index}/product_dashboard/_search?size=3&pretty'\n  \
         curl -H 'content-type: application/json' http://{index}/product_dashboard/_search -d \
         '{{\"size\":0,\"aggs\":{{\"states\":{{\"terms\":{{\"field\":\"state\"}}}}}}}}'\n  curl -X DELETE http://{index}/product_dashboard/_doc/ID\n  \
         cargo demo reconcile\n  cargo demo reconcile --repair\n\nCtrl-C ends it and keeps the data.\n"
    );

    let (stop, stopped) = watch::channel(false);
    let running = {
        let (pipeline, stopped) = (pipeline.clone(), stopped.clone());
        tokio::spawn(async move { service::run(pipeline, &settings, stopped).await })
    };
    let showing = tokio::spawn(show_progress(status));
    let trickling = tokio::spawn(trickle(shop, stopped.clone()));
    let reconciling = tokio::spawn(every_minute(pipeline, stopped));
    tokio::select! {
        _ = tokio::signal::ctrl_c() => println!("stopping"),
        () = ended(&running) => {}
    }
    stop.send(true)?;
    running.await??;
    trickling.await??;
    reconciling.abort();
    showing.abort();
    println!("stopped; everything is kept in {FOLDER}/");
    Ok(())
}

async fn ended<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The generators of the shop's records and the log that they write.
struct Shop {
    log: PathBuf,
    generators: Vec<Generator>,
}

impl Shop {
    /// Goes on after the records that the log has.
    fn open(log: &Path) -> Result<Self> {
        let mut generators = Vec::new();
        for (name, _) in TABLES {
            let there = std::fs::read(log.join(format!("{name}.jsonl"))).unwrap_or_default();
            let records = there.iter().filter(|b| **b == b'\n').count();
            let schema = PathBuf::from(format!("fixtures/datagen/{name}.avro"));
            // Products and users come once each before any is changed, so that views find their partners.
            let variation = Variation { start_ms: None, catalogue_once: true };
            let mut generator = Generator::open(&schema, SEED, variation)?;
            for _ in 0..records {
                generator.record()?;
            }
            generators.push(generator);
        }
        Ok(Self { log: log.to_owned(), generators })
    }

    fn append(&mut self, table: usize, count: usize) -> Result<()> {
        let (name, key) = TABLES[table];
        let mut lines = Vec::new();
        for _ in 0..count {
            let record = self.generators[table].record()?;
            let value = record.to_string();
            match key {
                None => lines.extend(format!("{value}\n").into_bytes()),
                Some(field) => {
                    let key = record[field].as_str().map_or_else(|| record[field].to_string(), str::to_owned);
                    lines.extend(pair(Some(&key), value.as_bytes()));
                }
            }
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.log.join(format!("{name}.jsonl")))?;
        Ok(file.write_all(&lines)?)
    }
}

async fn trickle(mut shop: Shop, stopped: watch::Receiver<bool>) -> Result<()> {
    let [products, users, sales, views] = [0, 1, 2, 3];
    let mut round = 0_u64;
    while !*stopped.borrow() {
        tokio::time::sleep(TRICKLE).await;
        round += 1;
        shop.append(views, 3)?;
        if round.is_multiple_of(3) {
            shop.append(sales, 1)?;
        }
        if round.is_multiple_of(10) {
            shop.append(users, 1)?;
            shop.append(products, 1)?;
        }
    }
    Ok(())
}

/// Says when the first documents are there, and now and then how far everything is.
async fn show_progress(status: String) {
    let begin = std::time::Instant::now();
    let http = reqwest::Client::new();
    let mut shown = None;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Ok(answer) = http.get(format!("http://{status}/v1/status")).send().await else { continue };
        let Ok(status) = answer.json::<serde_json::Value>().await else { continue };
        let is_due = shown.is_none_or(|last: std::time::Instant| last.elapsed() >= PROGRESS);
        if status["phase"] == "live" && status["rows"] != 0 && is_due {
            println!(
                "{:5.1} s: step {}, {} rows joined, {} documents written, archived up to step {}",
                begin.elapsed().as_secs_f64(),
                status["acknowledged"],
                status["rows"],
                status["written"],
                status["archived"],
            );
            shown = Some(std::time::Instant::now());
        }
    }
}

async fn every_minute(pipeline: Arc<Pipeline>, stopped: watch::Receiver<bool>) {
    // The first comparison comes soon, so that a new user sees one.
    tokio::time::sleep(Duration::from_secs(15)).await;
    while !*stopped.borrow() {
        if let Err(error) = compare(&pipeline, Repair::ReportOnly).await {
            println!("reconcile: {error:#}");
        }
        tokio::time::sleep(RECONCILE).await;
    }
}

async fn compare(pipeline: &Pipeline, repair: Repair) -> Result<()> {
    let certificate = reconcile(pipeline, &Options { repair, sample: SAMPLE }).await.map_err(|e| anyhow!("{e}"))?;
    println!("{}", certificate.text());
    Ok(())
}
