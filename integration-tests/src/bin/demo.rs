//! `cargo demo`: the shoe shop live on nothing but this repository.
//!
//! Prints the address of its page, fills a file log, runs `fixtures/pipeline.sql` from it into the embedded index, keeps a
//! trickle of records coming, and reconciles every minute. Ctrl-C ends it and keeps its data in `lockstep-demo/`; the next start goes on from there.
//! `cargo demo reconcile [--repair]` compares at once, while the demo runs in another terminal.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};
use lockstep_batch::compare::Mode;
use lockstep_batch::insights::{insights, leave};
use lockstep_batch::reconcile::{Options, Repair, reconcile};
use lockstep_integration_tests::workspace;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::{self, Overrides, settings::Settings};
use lockstep_stream::feed::generator::{Generator, Variation};
use lockstep_stream::feed::ingest::pair;
use lockstep_stream::service;
use tokio::sync::watch;

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

/// The shoe shop live on nothing but this repository.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Overrides a setting, or with TABLE.option=value an option of a table, for instance where a port is taken
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Compares every document at once, while the demo runs in another terminal
    Reconcile {
        /// Makes the index as it should be
        #[arg(long)]
        repair: bool,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    std::env::set_current_dir(workspace())?;
    let arguments = Arguments::parse();
    let overrides = Overrides::parse(&arguments.set).map_err(|e| anyhow!("{e}"))?;
    let pipeline = sql::compile_file(Path::new("fixtures/pipeline.sql"), &overrides).map_err(|e| anyhow!(e))?;
    match arguments.command {
        None => demo(Arc::new(pipeline)).await,
        Some(Command::Reconcile { repair: false }) => compare(&pipeline, Repair::ReportOnly).await,
        Some(Command::Reconcile { repair: true }) => compare(&pipeline, Repair::Repair(None)).await,
    }
}

async fn demo(pipeline: Arc<Pipeline>) -> Result<()> {
    let settings = Settings::of(&pipeline).map_err(|e| anyhow!("{e}"))?;
    println!("the shop, live: http://{}/\n", settings.http_address);
    let mut shop = Shop::open(&pipeline)?;
    if shop.is_new {
        println!("writing {FIRST_RECORDS} records of each topic");
        for table in 0..TABLES.len() {
            shop.append(table, FIRST_RECORDS)?;
        }
    } else {
        println!("going on with the data that is there (delete the folder lockstep-demo to begin anew)");
    }
    print_hints(&settings)?;

    let (stop, stopped) = watch::channel(false);
    let status = settings.http_address.clone();
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
    println!("stopped; everything is kept, `cargo demo` goes on from here");
    Ok(())
}

/// Where to look and what to try.
fn print_hints(settings: &Settings) -> Result<()> {
    let index = settings.embedded_address.as_ref().context("the demo runs with lockstep.index.embedded.address")?;
    let (status, archive) = (&settings.http_address, settings.archive_path.display());
    println!(
        "\n  status    http://{status}/v1/status   http://{status}/metrics\n  panels    http://{status}/v1/panels\n  index     http://{index}/product_dashboard\n  \
         archive   {archive}/ (Delta Lake)\n\ntry in another terminal:\n  curl 'http://{index}/product_dashboard/_search?size=3&pretty'\n  \
         curl -H 'content-type: application/json' http://{index}/customers/_search -d \
         '{{\"size\":0,\"aggs\":{{\"states\":{{\"terms\":{{\"field\":\"state\"}}}}}}}}'\n  curl http://{status}/v1/panels/top-brands\n  curl -X DELETE http://{index}/product_dashboard/_doc/ID\n  \
         cargo demo reconcile\n  cargo demo reconcile --repair\n\nCtrl-C ends it and keeps the data.\n"
    );
    Ok(())
}

async fn ended<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The generators of the shop's records and the log that they write.
struct Shop {
    logs: Vec<PathBuf>,
    generators: Vec<Generator>,
    /// No log was there.
    is_new: bool,
}

impl Shop {
    /// Goes on after the records that the log has.
    fn open(pipeline: &Pipeline) -> Result<Self> {
        let mut shop = Self { logs: Vec::new(), generators: Vec::new(), is_new: true };
        for (name, _) in TABLES {
            let table = pipeline.tables.iter().find(|t| t.name == name);
            let log = table.and_then(|t| t.option("path")).with_context(|| format!("table {name} is a file log"))?;
            let log = PathBuf::from(log);
            std::fs::create_dir_all(log.parent().context("a file is in a folder")?)?;
            shop.is_new &= !log.exists();
            let records = std::fs::read(&log).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
            let schema = PathBuf::from(format!("fixtures/datagen/{name}.avro"));
            // Products and users come once each before any is changed, so that views find their partners.
            let variation = Variation { start_ms: None, catalogue_once: true };
            let mut generator = Generator::open(&schema, SEED, variation)?;
            for _ in 0..records {
                generator.record()?;
            }
            shop.logs.push(log);
            shop.generators.push(generator);
        }
        Ok(shop)
    }

    fn append(&mut self, table: usize, count: usize) -> Result<()> {
        let (_, key) = TABLES[table];
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
        let mut file = OpenOptions::new().create(true).append(true).open(&self.logs[table])?;
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

/// How long the reconcile of a minute and one from another terminal wait for each other.
const OTHERS: Duration = Duration::from_secs(30);

async fn every_minute(pipeline: Arc<Pipeline>, stopped: watch::Receiver<bool>) {
    // The first comparison comes soon, so that a new user sees one.
    tokio::time::sleep(Duration::from_secs(15)).await;
    while !*stopped.borrow() {
        if let Err(error) = compare(&pipeline, Repair::ReportOnly).await {
            println!("reconcile: {error:#}");
        }
        if let Err(error) = look_for_insights(&pipeline).await {
            println!("insights: {error:#}");
        }
        tokio::time::sleep(RECONCILE).await;
    }
}

/// Leaves the report where the page finds it.
async fn look_for_insights(pipeline: &Pipeline) -> Result<()> {
    let report = insights(pipeline, None).await?;
    Ok(leave(pipeline, &report)?)
}

async fn compare(pipeline: &Pipeline, repair: Repair) -> Result<()> {
    let options = Options { repair, sample: SAMPLE, mode: Mode::Full, wait: OTHERS };
    let certificate = reconcile(pipeline, &options).await.map_err(|e| anyhow!("{e}"))?;
    println!("{certificate}");
    Ok(())
}
