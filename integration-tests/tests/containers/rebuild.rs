//! A new index takes the place of the old one while the stream writes; nothing that it writes is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use reqwest::Method;
use serde_json::Value;

use crate::shop::{SOON, Shop, TABLES, Text};

/// Between two records of the live writer, for as long as a rebuild runs.
const PACE: Duration = Duration::from_millis(150);

/// Batches after which a rebuild should long have ended.
const MOST_SENT: usize = 400;

async fn fill(shop: &mut Shop, seed: u64, count: usize) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, count)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// Rebuilds while records keep coming; what it says.
async fn rebuild(shop: &mut Shop, seed: u64, options: &[&str]) -> Result<Value> {
    let command = [&["rebuild", "--sink", "product_dashboard", "--output", "json"], options].concat();
    let mut program = shop.begin_batch(&command, &[])?;
    let mut sent = 0;
    let status = loop {
        // A table at a time: to a topic, each takes a while.
        let (table, _) = TABLES[sent % TABLES.len()];
        let records = shop.generated(table, seed + sent as u64, 8)?;
        shop.send(table, records).await?;
        sent += 1;
        if let Ok(status) = program.ended(PACE).await {
            break status;
        }
        ensure!(sent < MOST_SENT, "it does not end: {}", program.output());
    };
    // However quick it was: the first of them was sent while it ran.
    ensure!(status.success(), "{status} after {sent} sends: {}", program.output());
    serde_json::from_str(&program.output()).with_context(|| program.output())
}

/// The indexes behind the sink's name.
async fn behind(shop: &Shop) -> Result<Vec<String>> {
    let found = shop.index().call(Method::GET, &format!("/{}/_settings", shop.index_name()), None).await?;
    Ok(found.as_object().context("indexes")?.keys().cloned().collect())
}

async fn is_there(shop: &Shop, index: &str) -> bool {
    shop.index().call(Method::GET, &format!("/{index}/_settings"), None).await.is_ok()
}

async fn rebuild_beside_a_live_writer(shop: &mut Shop) -> Result<()> {
    fill(shop, 60, 300).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let name = shop.index_name().to_owned();
    let said = shop.batch(&["rebuild", "--sink", "product_dashboard"], 1).await?;
    ensure!(said.contains("--replace-index") && behind(shop).await? == [name.as_str()], "{said}");

    let first = rebuild(shop, 1_000, &["--replace-index"]).await?;
    let settled = async |shop: &Shop, rebuilt: &Value| -> Result<String> {
        let index = rebuilt["index"].as_str().context("an index")?.to_owned();
        ensure!(behind(shop).await? == [index.as_str()], "{:?}", behind(shop).await?);
        ensure!(rebuilt["certificate"]["verdict"] == "in-lockstep", "{rebuilt:#}");
        shop.caught_up_and_archived().await?;
        shop.assert_index_is_as_expected().await?;
        shop.reconcile(&[], 0).await?;
        Ok(index)
    };
    let first_index = settled(shop, &first).await?;
    let second = rebuild(shop, 2_000, &[]).await?;
    let second_index = settled(shop, &second).await?;
    ensure!(second["kept"] == first_index.as_str() && is_there(shop, &first_index).await, "{second:#}");
    let third = rebuild(shop, 3_000, &["--delete-old"]).await?;
    settled(shop, &third).await?;
    ensure!(third["kept"].is_null() && !is_there(shop, &second_index).await, "{third:#}");
    stream.terminate(SOON).await?;
    // The name is an alias for the next start too.
    let mut stream = shop.start_live().await?;
    fill(shop, 4_000, 50).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn l1_an_elasticsearch_index_is_rebuilt_beside_a_live_writer_and_nothing_is_lost() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    rebuild_beside_a_live_writer(&mut Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?).await
}

#[tokio::test]
async fn l1_an_embedded_index_is_rebuilt_beside_a_live_writer_and_nothing_is_lost() -> Result<()> {
    rebuild_beside_a_live_writer(&mut Shop::on_files()?).await
}
