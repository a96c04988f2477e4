//! `kill -9` at random moments, again and again, while records keep coming: after each kill the archive tiles every
//! partition, and in the end the index is what it should be before anything has reconciled it.
//!
//! `LOCKSTEP_KILL_CYCLES` says how often, `LOCKSTEP_KILL_SEED` with which seed; the seed is printed, and a failure prints
//! the line that repeats it. What is sent and how long the stream lives repeat; what the machine does meanwhile does not.
//! After every twenty kills a new pipeline begins: one that only grows would take ever longer to catch up.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lockstep_integration_tests::{containers, variable};
use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::shop::{SOON, Shop, Text};
use crate::traffic::{Traffic, seed};

/// Kills in every run, and of one pipeline; a soak has a thousand.
const CYCLES: u64 = 20;
/// Longest life of a stream: enough to recover, and to commit a few times.
const LONGEST_LIFE_MS: u64 = 2_000;
/// Longest pause between two bursts.
const LONGEST_PAUSE_MS: u64 = 60;
/// Most records of a table in a burst.
const BURST: usize = 6;

async fn kill_again_and_again(begin: impl AsyncFn() -> Result<Shop>, test: &str) -> Result<()> {
    let seed = seed("LOCKSTEP_KILL_SEED")?;
    let cycles = variable("LOCKSTEP_KILL_CYCLES").map_or(Ok(CYCLES), |given| given.parse())?;
    // Not `println!`: the test runner swallows that for a test that passes.
    writeln!(std::io::stderr(), "{test}: {cycles} kills, LOCKSTEP_KILL_SEED={seed}")?;
    for pipeline in 0..cycles.div_ceil(CYCLES) {
        let seed = seed.wrapping_add(pipeline);
        let cycles = CYCLES.min(cycles - pipeline * CYCLES);
        let mut shop = begin().await?;
        // Many small steps and commits, so that a kill meets each of them.
        shop.set("lockstep.step.max-records", "40");
        shop.set("lockstep.step.max-delay", "20 ms");
        shop.set("lockstep.archive.commit.max-delay", "100 ms");
        cycle(&mut shop, seed, cycles).await.with_context(|| {
            format!(
                "replay: LOCKSTEP_KILL_SEED={seed} LOCKSTEP_KILL_CYCLES={cycles} integration-tests/run --only {test}"
            )
        })?;
    }
    Ok(())
}

async fn cycle(shop: &mut Shop, seed: u64, cycles: u64) -> Result<()> {
    let mut traffic = Traffic::new(seed);
    for cycle in 0..cycles {
        let mut stream = shop.start()?;
        let death = Instant::now() + Duration::from_millis(traffic.rng.random_range(0..LONGEST_LIFE_MS));
        while Instant::now() < death {
            traffic.burst(shop, BURST).await?;
            sleep(Duration::from_millis(traffic.rng.random_range(0..LONGEST_PAUSE_MS))).await;
        }
        stream.kill().await?;
        shop.assert_archive_tiles().await.with_context(|| format!("after kill {} of {cycles}", cycle + 1))?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    shop.assert_archive_tiles().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

#[tokio::test]
async fn l5_kills_on_files_and_the_embedded_index_lose_nothing_and_double_nothing() -> Result<()> {
    kill_again_and_again(async || Shop::on_files(), "l5_kills_on_files").await
}

#[tokio::test]
async fn l5_kills_on_kafka_and_elasticsearch_lose_nothing_and_double_nothing() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let shop = async || Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await;
    kill_again_and_again(shop, "l5_kills_on_kafka").await
}
