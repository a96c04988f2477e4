//! A log that is not the one that was read: a topic made anew or cut, records that retention took, a file that was
//! replaced. Each is refused with what to do, at the start and while the stream runs; none becomes a silent gap.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::kafka::{Kafka, Record};
use lockstep_shared::coordinates::{Offset, Partition};

use crate::shop::{SOON, Shop, TABLES, Text};

const WHAT_TO_DO: &str = "put the log back as it was, or begin with a new archive, state and index";

/// A shop whose 100 views are read and archived, and whose stream has ended.
async fn read_and_stopped(kafka: &Kafka, index: &lockstep_integration_tests::index::Index) -> Result<Shop> {
    let mut shop = Shop::on_servers(Text::Keyed, kafka, index, 1).await?;
    send_views(&mut shop, 1, 100).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    Ok(shop)
}

async fn send_views(shop: &mut Shop, seed: u64, count: usize) -> Result<()> {
    let views = shop.generated("views", seed, count)?;
    shop.send("views", views).await
}

/// Views that the topic has and the test does not count.
async fn fill(kafka: &Kafka, shop: &Shop, seed: u64, count: usize) -> Result<()> {
    let views = shop.generated("views", seed, count)?;
    kafka.produce(shop.topic("views")?, &views).await.map(drop)
}

async fn refuses(shop: &Shop, what: &str) -> Result<()> {
    let mut stream = shop.start()?;
    stream.expect_exit(1, SOON).await?;
    let said = stream.output();
    ensure!(said.contains("table views: ") && said.contains(what) && said.contains(WHAT_TO_DO), "{said}");
    // Nothing of another log has come in.
    let report = shop.batch(&["archive", "verify"], 0).await?;
    ensure!(report.contains("views: 100 records"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_topic_that_was_made_anew_while_the_stream_was_down_is_refused() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let shop = read_and_stopped(&servers.kafka, &servers.index).await?;
    servers.kafka.recreate_topic(shop.topic("views")?, 1).await?;
    refuses(&shop, "partition 0 holds [0..0) and was read up to 100").await?;
    fill(&servers.kafka, &shop, 2, 40).await?;
    refuses(&shop, "partition 0 holds [0..40) and was read up to 100").await?;
    // It has grown past what was read: only the records tell.
    fill(&servers.kafka, &shop, 3, 100).await?;
    refuses(&shop, "partition 0 has another record at offset 99 than was read from there").await
}

#[tokio::test]
async fn records_that_retention_took_before_they_were_read_are_missed_at_the_start() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let shop = read_and_stopped(&servers.kafka, &servers.index).await?;
    fill(&servers.kafka, &shop, 2, 50).await?;
    servers.kafka.delete_records(shop.topic("views")?, Partition(0), Offset(120)).await?;
    refuses(&shop, "partition 0 holds [120..150) and was read up to 100").await
}

#[tokio::test]
async fn what_retention_took_after_it_was_read_is_not_missed() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = read_and_stopped(&servers.kafka, &servers.index).await?;
    servers.kafka.delete_records(shop.topic("views")?, Partition(0), Offset(100)).await?;
    let mut stream = shop.start_live().await?;
    send_views(&mut shop, 2, 50).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

#[tokio::test]
async fn records_that_retention_took_from_a_partition_that_had_none_are_missed_too() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    let to = |partition: i32, records: Vec<Record>| -> Vec<Record> {
        records.into_iter().map(|r| r.to_partition(Partition(partition))).collect()
    };
    let views = to(0, shop.generated("views", 1, 100)?);
    shop.send("views", views).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    let later = to(1, shop.generated("views", 2, 60)?);
    servers.kafka.produce(shop.topic("views")?, &later).await?;
    servers.kafka.delete_records(shop.topic("views")?, Partition(1), Offset(30)).await?;
    refuses(&shop, "partition 1 holds [30..60) and was read up to 0").await
}

#[tokio::test]
async fn a_topic_that_is_made_anew_under_a_running_stream_ends_it() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    for records in [0, 250] {
        let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
        send_views(&mut shop, 1, 100).await?;
        let mut stream = shop.start_live().await?;
        shop.caught_up_and_archived().await?;
        servers.kafka.recreate_topic(shop.topic("views")?, 1).await?;
        fill(&servers.kafka, &shop, 2, records).await?;
        stream.expect_exit(1, SOON).await?;
        let said = stream.output();
        ensure!(said.contains("table views: ") && said.contains(WHAT_TO_DO), "with {records} new records: {said}");
        let report = shop.batch(&["archive", "verify"], 0).await?;
        ensure!(report.contains("views: 100 records"), "with {records} new records: {report}");
    }
    Ok(())
}

/// The file of the views of a shop on files, whose records are read and archived.
async fn file_read_and_stopped() -> Result<(Shop, PathBuf)> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 1, 100)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    let path = shop.folder().join("views.jsonl");
    Ok((shop, path))
}

#[tokio::test]
async fn a_file_log_that_was_cut_replaced_or_removed_is_refused_and_taken_again_once_it_is_back() -> Result<()> {
    let (mut shop, path) = file_read_and_stopped().await?;
    let whole = std::fs::read(&path)?;
    std::fs::write(&path, &whole[..whole.len() / 2])?;
    refuses(&shop, "it was cut or replaced").await?;
    let other: Vec<u8> = whole.iter().copied().rev().chain(whole.iter().copied()).collect();
    std::fs::write(&path, &other)?;
    refuses(&shop, "it was replaced").await?;
    std::fs::remove_file(&path)?;
    refuses(&shop, "is gone").await?;

    std::fs::write(&path, &whole)?;
    send_views(&mut shop, 2, 50).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    // The same under the running stream.
    let other: Vec<u8> = whole.iter().copied().rev().chain(std::fs::read(&path)?).collect();
    std::fs::write(path.with_extension("new"), &other)?;
    std::fs::rename(path.with_extension("new"), &path)?;
    stream.expect_exit(1, SOON).await?;
    ensure!(stream.output().contains(WHAT_TO_DO), "{}", stream.output());
    Ok(())
}
