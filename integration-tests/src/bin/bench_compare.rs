//! How long a comparison takes beside a bare export of the same index: fills an index of the wanted size through the
//! stream, reads all of it with four slices of one point in time by a client that parses nothing, recomputes alone, and
//! runs `lockstep-batch reconcile` in full and quick mode, and both again after documents were deleted by hand; prints times,
//! ratios and peak memory.
//!
//! `cargo run --bin bench_compare -- [--views N] [--hosts URL]`: into the embedded index unless told otherwise. Build
//! everything in the same profile first.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lockstep_batch::recompute;
use lockstep_integration_tests::benchmarks::{Running, Shop, ShopArguments, program};
use lockstep_integration_tests::workspace;
use lockstep_shared::coordinates::Step;
use lockstep_shared::sql::{self, Overrides};
use memchr::memmem;
use serde_json::{Value, json};

/// Slices of the bare export; more made it no quicker.
const SLICES: usize = 4;
/// Documents of a page of it: the most that servers give.
const PAGE: usize = 10_000;

/// What each hit has, and only hits have.
const SORT: &[u8] = b"\"sort\":[";

/// Documents that are deleted by hand before comparisons that find them gone.
const GONE: [usize; 2] = [1, 999];

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    shop: ShopArguments,
    /// Where logs and archive go and stay, for other engines to read
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The index that an earlier run has filled and left with its folder: it is measured again
    #[arg(long, requires = "folder")]
    index: Option<String>,
    /// Only recompute, from the archive that an earlier run left in the folder
    #[arg(long, requires = "folder")]
    recompute_only: bool,
    /// How often each is measured; the best counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.as_deref().unwrap_or(temporary.path());
    let shop = Shop::new(folder, &arguments.shop, arguments.index.as_deref())?;
    let sets = shop.sets();
    if arguments.recompute_only {
        for _ in 0..arguments.runs {
            println!("recompute alone {:8.2} s", recompute_alone(&sets, arguments.shop.views).await?);
        }
        return Ok(());
    }
    let records = if arguments.index.is_some() { 0 } else { shop.write_logs()? };
    let begin = Instant::now();
    let mut stream = Running::start(program("lockstep-stream", &["run"], &sets)?)?;
    stream.caught_up(shop.port, records).await?;
    println!("{} documents in {} after {:.1} s", arguments.shop.views, shop.index, begin.elapsed().as_secs_f64());
    measure(&arguments, &sets, &shop.url, &shop.index).await
}

async fn measure(arguments: &Arguments, sets: &[String], url: &str, index: &str) -> Result<()> {
    let (mut bare, mut computed) = (f64::MAX, f64::MAX);
    let (mut full, mut quick) = (Measured::worst(), Measured::worst());
    for _ in 0..arguments.runs {
        bare = bare.min(export(url, index, arguments.shop.views).await?);
        computed = computed.min(recompute_alone(sets, arguments.shop.views).await?);
        full = full.better(reconcile(sets, &[], 0).await?);
        quick = quick.better(reconcile(sets, &["--quick"], 0).await?);
    }
    println!("bare export           {bare:8.2} s");
    println!("recompute alone       {computed:8.2} s");
    let ratio = full.seconds / bare;
    println!("full comparison       {:8.2} s, {ratio:.2} times the export, peak {} MiB", full.seconds, full.peak_mib);
    let ratio = full.seconds / quick.seconds;
    println!("quick comparison      {:8.2} s, {ratio:.1} times as fast, peak {} MiB", quick.seconds, quick.peak_mib);
    let mut gone = 0;
    for more in GONE {
        delete(url, index, more).await?;
        gone += more;
        for (name, options) in [("quick", &["--quick"] as &[&str]), ("full", &[])] {
            let mut differing = Measured::worst();
            for _ in 0..arguments.runs {
                differing = differing.better(reconcile(sets, options, 3).await?);
            }
            let Measured { seconds, peak_mib } = differing;
            println!("{name:5} {gone:4} missing    {seconds:8.2} s, peak {peak_mib} MiB");
        }
    }
    Ok(())
}

/// Reads every document of the index and looks at none; the seconds that it took.
async fn export(url: &str, index: &str, documents: usize) -> Result<f64> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    http.post(format!("{url}/{index}/_refresh")).send().await?.error_for_status()?;
    let begin = Instant::now();
    let opened: Value = http.post(format!("{url}/{index}/_pit?keep_alive=5m")).send().await?.json().await?;
    let id = opened["id"].as_str().context("a point in time")?.to_owned();
    let mut slices = tokio::task::JoinSet::new();
    for slice in 0..SLICES {
        slices.spawn(export_slice(http.clone(), url.to_owned(), id.clone(), slice));
    }
    let mut read = 0;
    while let Some(slice) = slices.join_next().await {
        read += slice??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    http.delete(format!("{url}/_pit")).json(&json!({"id": id})).send().await?;
    ensure!(read == documents, "{read} documents were exported, and {documents} are there");
    Ok(seconds)
}

async fn export_slice(http: reqwest::Client, url: String, id: String, slice: usize) -> Result<usize> {
    let (mut after, mut read) = (None::<u64>, 0);
    loop {
        let mut question = json!({"pit": {"id": id, "keep_alive": "5m"}, "size": PAGE, "sort": ["_shard_doc"],
            "track_total_hits": false, "slice": {"id": slice, "max": SLICES}});
        if let Some(after) = after {
            question["search_after"] = json!([after]);
        }
        // Not packed: that takes servers longer than to find it.
        let asked = http.post(format!("{url}/_search")).header("Accept-Encoding", "identity").json(&question);
        let body = asked.send().await?.error_for_status()?.bytes().await?;
        let hits = memmem::find_iter(&body, SORT).count();
        read += hits;
        if hits < PAGE {
            return Ok(read);
        }
        let last = memmem::rfind(&body, SORT).context("a place in the scan")? + SORT.len();
        let digits: Vec<u8> = body[last..].iter().copied().take_while(u8::is_ascii_digit).collect();
        after = Some(std::str::from_utf8(&digits)?.parse()?);
    }
}

/// Deletes documents, as somebody does by hand.
async fn delete(url: &str, index: &str, count: usize) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let some = json!({"size": count, "_source": false, "sort": ["_doc"]});
    let found = http.post(format!("{url}/{index}/_search")).json(&some).send().await?.error_for_status()?;
    let found: Value = found.json().await?;
    let hits = found["hits"]["hits"].as_array().context("documents to delete")?;
    ensure!(hits.len() == count, "{} documents of {count} are found", hits.len());
    let lines = hits.iter().map(|hit| format!("{}\n", json!({"delete": {"_index": index, "_id": hit["_id"]}})));
    let bulk = http.post(format!("{url}/_bulk")).header("Content-Type", "application/x-ndjson");
    let done: Value = bulk.body(lines.collect::<String>()).send().await?.error_for_status()?.json().await?;
    ensure!(done["errors"] == json!(false), "documents are not deleted: {done}");
    http.post(format!("{url}/{index}/_refresh")).send().await?.error_for_status()?;
    Ok(())
}

/// Recomputes every document and keeps none; the seconds that it took.
async fn recompute_alone(sets: &[String], documents: usize) -> Result<f64> {
    let overrides = Overrides::parse(sets).map_err(|error| anyhow::anyhow!("{error}"))?;
    let path = workspace().join("fixtures/bench.sql");
    let pipeline = sql::compile_file(&path, &overrides).map_err(|error| anyhow::anyhow!(error))?;
    let root = pipeline.settings["lockstep.archive.path"].clone();
    let files = recompute::files(&pipeline, Path::new(&root)).await?;
    let computing = move || {
        let (begin, mut rows) = (Instant::now(), 0);
        recompute::each_batch(&pipeline, &pipeline.sinks[0], &files, Step(u64::MAX), |batch| {
            rows += batch.rows();
            Ok::<_, recompute::RecomputeError>(())
        })?;
        ensure!(rows == documents, "{rows} documents were recomputed, and {documents} should be");
        Ok(begin.elapsed().as_secs_f64())
    };
    tokio::task::spawn_blocking(computing).await?
}

/// What a process took.
#[derive(Clone, Copy)]
struct Measured {
    seconds: f64,
    peak_mib: u64,
}

impl Measured {
    fn worst() -> Self {
        Self { seconds: f64::MAX, peak_mib: 0 }
    }

    fn better(self, other: Self) -> Self {
        Self { seconds: self.seconds.min(other.seconds), peak_mib: self.peak_mib.max(other.peak_mib) }
    }
}

/// Reconciles, and ends with the exit code that is expected.
async fn reconcile(sets: &[String], options: &[&str], code: i32) -> Result<Measured> {
    let begin = Instant::now();
    let mut command = program("lockstep-batch", &[&["reconcile"], options].concat(), sets)?;
    command.stdout(Stdio::null());
    let mut running = Running::start(command)?;
    let mut peak_mib = 0;
    loop {
        if let Some(ended) = running.ended()? {
            ensure!(ended == code, "reconcile {options:?} ended with {ended}");
            return Ok(Measured { seconds: begin.elapsed().as_secs_f64(), peak_mib });
        }
        peak_mib = running.peak_memory_mib().unwrap_or(peak_mib);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
