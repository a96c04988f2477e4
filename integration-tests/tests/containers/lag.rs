//! How far behind the stream says that it is, on topics: what it has not taken, how old that is, and nothing at the end.

use std::time::Duration;

use anyhow::Result;
use lockstep_integration_tests::kafka::Ending;
use lockstep_integration_tests::{containers, eventually};
use serde_json::Value;

use crate::shop::{SOON, Shop, Text};

/// Records that a stream takes ahead of a silent index: 32 steps of this test's 10, and two more that are pending.
const MOST_TAKEN: u64 = 340;

async fn lag(shop: &Shop) -> std::result::Result<(u64, u64), String> {
    let status = shop.status().await.map_err(|error| format!("{error:#}"))?;
    let lag = &status["tables"]["views"]["lag"];
    let number = |name: &str| lag[name].as_u64().ok_or_else(|| format!("no lag yet: {lag}"));
    Ok((number("offsets")?, number("ms")?))
}

async fn at_the_end(shop: &Shop) -> Result<()> {
    eventually("the stream is at the end of the topic", SOON, async || match lag(shop).await? {
        (0, 0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn a_table_is_behind_while_the_index_is_silent_and_at_its_end_afterwards() -> Result<()> {
    let Some(servers) = containers::alone().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    shop.set("lockstep.step.max-records", "10");
    let mut stream = shop.start_live().await?;
    servers.index_container().pause().await?;
    let views = shop.generated("views", 71, 2_000)?;
    shop.send("views", views).await?;
    let (offsets, ms) =
        eventually("the stream says that it is seconds behind", SOON, async || match lag(&shop).await? {
            (offsets, ms) if ms >= 2_000 => Ok((offsets, ms)),
            other => Err(format!("{other:?}")),
        })
        .await?;
    assert!((2_000 - MOST_TAKEN..=2_000).contains(&offsets), "{offsets} records behind");
    assert!(ms < 60_000, "{ms} ms behind");
    let metrics = shop.page("/metrics").await?;
    assert!(metrics.contains("lockstep_lag_seconds{table=\"views\"}"), "{metrics}");
    servers.index_container().unpause().await?;
    shop.caught_up().await?;
    at_the_end(&shop).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn what_nobody_reads_at_the_end_of_a_topic_is_no_lag() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    let topic = shop.topic("views")?.to_owned();
    let views = shop.generated("views", 72, 10)?;
    servers.kafka.produce_in_transaction(&topic, &views, Ending::Commit).await?;
    let mut stream = shop.start_live().await?;
    let taken = async || -> std::result::Result<Value, String> {
        let status = shop.status().await.map_err(|error| format!("{error:#}"))?;
        if status["tables"]["views"]["records"] == 10 { Ok(status) } else { Err(status.to_string()) }
    };
    let status = eventually("the records are taken", SOON, taken).await?;
    // The marker of the transaction stands after the last record.
    assert_eq!(status["tables"]["views"]["positions"]["0"], 10);
    at_the_end(&shop).await?;
    servers.kafka.produce_in_transaction(&topic, &views, Ending::Abort).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    at_the_end(&shop).await?;
    stream.terminate(SOON).await
}
