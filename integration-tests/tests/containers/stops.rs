//! The end that somebody asks for: within its limit whatever the servers do, at once on the second signal, and nothing is
//! lost either way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::processes::{Program, Signal};
use lockstep_integration_tests::proxy::Proxy;

use crate::shop::{SOON, Shop, TABLES, Text};

/// The setting of these tests.
const LIMIT: Duration = Duration::from_secs(2);
/// What a loaded machine needs beside it.
const SLACK: Duration = Duration::from_secs(4);

async fn send_part(shop: &mut Shop, seed: u64) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, 150)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// A stream whose index went away while it had something to write.
async fn stuck(shop: &mut Shop, proxy: &mut Proxy) -> Result<Program> {
    shop.set("product_dashboard.hosts", &proxy.url());
    shop.set("lockstep.shutdown.timeout", &format!("{} s", LIMIT.as_secs()));
    send_part(shop, 1).await?;
    let stream = shop.start_live().await?;
    shop.caught_up().await?;
    proxy.refuse_connections().await;
    send_part(shop, 2).await?;
    eventually("the stream waits for the index", SOON, async || {
        let status = shop.status().await.map_err(|e| e.to_string())?;
        if status["trouble"].is_string() { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    Ok(stream)
}

async fn goes_on(shop: &mut Shop, proxy: &mut Proxy) -> Result<()> {
    proxy.accept_connections().await?;
    send_part(shop, 3).await?;
    shop.assert_catches_up().await
}

#[tokio::test]
async fn a_stop_that_cannot_write_what_is_under_way_ends_within_its_limit_and_nothing_is_lost() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    let mut stream = stuck(&mut shop, &mut proxy).await?;
    let begun = Instant::now();
    stream.signal(Signal::Terminate)?;
    stream.expect_exit(1, SOON).await?;
    ensure!(begun.elapsed() < LIMIT + SLACK, "it took {:?}", begun.elapsed());
    ensure!(begun.elapsed() >= LIMIT, "it gave up after {:?}", begun.elapsed());
    ensure!(stream.output().contains("did not stop within 2 s"), "{}", stream.output());
    goes_on(&mut shop, &mut proxy).await
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_nothing_is_lost() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    let mut stream = stuck(&mut shop, &mut proxy).await?;
    shop.set("lockstep.shutdown.timeout", "60 s");
    stream.signal(Signal::Interrupt)?;
    stream.wait_for_line("once more stops at once", SOON).await?;
    let begun = Instant::now();
    stream.signal(Signal::Interrupt)?;
    stream.expect_exit(1, SOON).await?;
    ensure!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    ensure!(stream.output().contains("stopped at once"), "{}", stream.output());
    goes_on(&mut shop, &mut proxy).await
}

/// Kafka's client waits for answers; a stop does not wait for it longer than for the rest.
#[tokio::test]
async fn a_stop_while_kafka_does_not_answer_ends_within_its_limit() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let Some(kafka) = containers::private_kafka().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &kafka.server, &servers.index, 2).await?;
    shop.set("lockstep.shutdown.timeout", &format!("{} s", LIMIT.as_secs()));
    send_part(&mut shop, 1).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    kafka.container.pause().await?;
    // The look for new partitions, every ten seconds, is what waits longest.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let begun = Instant::now();
    stream.signal(Signal::Terminate)?;
    let ended = stream.ended(SOON).await?;
    ensure!(begun.elapsed() < LIMIT + SLACK, "it took {:?} to end with {ended}", begun.elapsed());
    kafka.container.unpause().await?;
    kafka.server.ready(SOON).await?;
    let mut stream = shop.start_live().await?;
    send_part(&mut shop, 2).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}
