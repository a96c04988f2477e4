//! The archive's small files become large ones beside a running stream, and when the compaction is killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::shop::{SOON, Shop, TABLES};

async fn fill(shop: &mut Shop, seed: u64) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, 20)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// Many commits, so many files.
async fn fill_many_times(shop: &mut Shop, seed: u64) -> Result<()> {
    for round in 0..6 {
        fill(shop, seed + round).await?;
        shop.caught_up_and_archived().await?;
    }
    Ok(())
}

fn parquet_files(shop: &Shop, table: &str) -> Result<usize> {
    let entries = std::fs::read_dir(shop.archive().join(table))?;
    Ok(entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "parquet")).count())
}

#[tokio::test]
async fn l5_a_compaction_beside_a_stream_that_commits_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let mut stream = shop.start_live().await?;
    fill_many_times(&mut shop, 70).await?;
    let mut program = shop.begin_batch(&["archive", "compact", "--output", "json"], &[])?;
    let mut round = 100;
    let status = loop {
        round += 1;
        fill(&mut shop, round).await?;
        if let Ok(status) = program.ended(Duration::from_millis(100)).await {
            break status;
        }
    };
    ensure!(status.success(), "{}", program.output());
    let done: Value = serde_json::from_str(&program.output()).with_context(|| program.output())?;
    let views = &done["views"];
    let number = |field: &str| views[field].as_u64().unwrap_or_default();
    ensure!(number("replaced") >= 5 && number("records") >= 100 && number("removed") == 0, "{done:#}");
    ensure!(number("files_after") < number("files_before"), "{done:#}");
    fill(&mut shop, 200).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_archive_tiles().await?;
    shop.reconcile(&[], 0).await?;
    // Who still reads the old files finds them, until they are removed.
    let before = parquet_files(&shop, "views")?;
    shop.batch(&["archive", "compact", "--remove-after", "0"], 0).await?;
    let after = parquet_files(&shop, "views")?;
    ensure!(after + 5 <= before && after >= 1, "{before} files became {after}");
    shop.assert_archive_tiles().await?;
    shop.reconcile(&[], 0).await?;
    stream.terminate(SOON).await?;
    // A restart takes its state from the compacted archive.
    let mut stream = shop.start_live().await?;
    fill(&mut shop, 300).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

#[tokio::test]
async fn l5_a_compaction_that_is_killed_loses_nothing_and_leaves_nothing_for_ever() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let mut stream = shop.start_live().await?;
    for kill in 0..8 {
        fill_many_times(&mut shop, 1_000 + kill * 10).await?;
        let mut program = shop.begin_batch(&["archive", "compact"], &[])?;
        // Later each time; the last ones come to their end.
        let _ = program.ended(Duration::from_millis(40 + kill * 35)).await;
        program.kill().await?;
        shop.assert_archive_tiles().await.with_context(|| format!("after kill {kill}"))?;
    }
    shop.batch(&["archive", "compact", "--remove-after", "0"], 0).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_archive_tiles().await?;
    shop.reconcile(&[], 0).await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    let left = parquet_files(&shop, "views")?;
    ensure!(left <= 2, "{left} files are left where one or two are the table");
    Ok(())
}
