//! How long an exact cut holds the sinks while documents are written at a steady pace: fills an index, then adds views and
//! changes users at the wanted rate, asks for one cut after the other, and prints how long they held; at the end the index
//! is compared in full.
//!
//! `cargo run --release --bin bench_cuts -- [--rate N] [--hosts URL]`: into the embedded index unless told otherwise. Build
//! everything in the same profile first.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lockstep_integration_tests::benchmarks::{Running, Shop, ShopArguments, program, status, user};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

/// How often records are added.
const TICK: Duration = Duration::from_millis(20);
/// Of so many documents that are written, one is there because its view is new; the others because its user changed.
const DOCUMENTS_OF_VIEW: usize = 2;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    shop: ShopArguments,
    /// Documents a second
    #[arg(long, default_value_t = 5_000)]
    rate: usize,
    /// Cuts
    #[arg(long, default_value_t = 200)]
    cuts: usize,
    /// Milliseconds between two
    #[arg(long, default_value_t = 250)]
    pause: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let shop = Shop::new(temporary.path(), &arguments.shop, None)?;
    let records = shop.write_logs()?;
    let sets = shop.sets();
    let mut stream = Running::start(program("lockstep-stream", &["run"], &sets)?)?;
    let before = stream.caught_up(shop.port, records).await?;
    let shop = Arc::new(shop);
    let (end, added) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let feeding = tokio::spawn(feed(shop.clone(), arguments.rate, end.clone(), added.clone()));
    let begin = Instant::now();
    let (mut held, mut took) = (Vec::new(), Vec::new());
    for _ in 0..arguments.cuts {
        sleep(Duration::from_millis(arguments.pause)).await;
        let asked = Instant::now();
        held.push(cut(&shop).await?);
        took.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    let written = status(shop.port).await?["written"].as_u64().context("the status counts what is written")? - before;
    let rate = written as f64 / begin.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    feeding.await??;
    println!("{} cuts while {rate:.0} documents a second were written", arguments.cuts);
    println!("held       {}", percentiles(&mut held));
    println!("answered   {}", percentiles(&mut took));
    stream.caught_up(shop.port, records + added.load(Ordering::Relaxed)).await?;
    let mut reconcile = Running::start({
        let mut command = program("lockstep-batch", &["reconcile"], &sets)?;
        command.stdout(Stdio::null());
        command
    })?;
    let code = loop {
        match reconcile.ended()? {
            Some(code) => break code,
            None => sleep(TICK).await,
        }
    };
    ensure!(code == 0, "reconcile ended with {code}");
    println!("a full comparison finds no difference");
    Ok(())
}

/// Adds records at a steady pace until it is told to end.
async fn feed(shop: Arc<Shop>, rate: usize, end: Arc<AtomicBool>, added: Arc<AtomicUsize>) -> Result<()> {
    let per_tick = |documents: usize| documents * usize::try_from(TICK.as_millis()).unwrap_or(1) / 1_000;
    let views = per_tick(rate / DOCUMENTS_OF_VIEW);
    // Documents that change because a user does.
    let each = shop.views.div_ceil(shop.users);
    let (mut next_view, mut next_user, mut owed) = (shop.views, 0, 0);
    let mut next_tick = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let lines: Vec<u8> = (next_view..next_view + views).flat_map(|n| shop.view(n)).collect();
        next_view += views;
        shop.append("views", &lines)?;
        owed += per_tick(rate) - views;
        let changes = owed / each;
        owed %= each;
        let lines: Vec<u8> =
            (next_user..next_user + changes).flat_map(|n| user(n % shop.users, 1 + n / shop.users)).collect();
        next_user += changes;
        shop.append("users", &lines)?;
        added.fetch_add(views + changes, Ordering::Relaxed);
        next_tick += TICK;
        sleep_until(next_tick).await;
    }
    Ok(())
}

/// Asks for a cut and lets go of its points in time; the milliseconds that it held the sinks.
async fn cut(shop: &Shop) -> Result<f64> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let cut = http.post(format!("http://127.0.0.1:{}/v1/cuts", shop.port)).send().await?.error_for_status()?;
    let cut: Value = cut.json().await?;
    for (name, sink) in cut["sinks"].as_object().context("a cut has sinks")? {
        let id = sink["point_in_time"].as_str().with_context(|| format!("{name} has a point in time: {cut}"))?;
        http.delete(format!("{}/_pit", shop.url)).json(&json!({"id": id})).send().await?.error_for_status()?;
    }
    cut["held_ms"].as_f64().context("a cut says how long it held the sinks")
}

fn percentiles(milliseconds: &mut [f64]) -> String {
    milliseconds.sort_by(f64::total_cmp);
    let at = |percent: usize| milliseconds[(milliseconds.len() - 1) * percent / 100];
    format!(
        "{:.0} ms (median), {:.0} ms (90 of 100), {:.0} ms (99 of 100), {:.0} ms (all)",
        at(50),
        at(90),
        at(99),
        at(100)
    )
}
