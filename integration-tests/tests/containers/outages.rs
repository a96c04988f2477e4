//! Kafka and Elasticsearch paused, stopped, killed and cut off one after the other in random order, under load: the
//! stream stays up through all of it, and in the end nothing is missing and nothing is there twice.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lockstep_integration_tests::containers::{self, Container};
use rand::RngExt;
use rand::seq::SliceRandom;
use tokio::time::sleep;

use crate::shop::{SOON, Shop, Text};
use crate::traffic::{Traffic, seed};

#[derive(Clone, Copy, Debug)]
enum Server {
    Kafka,
    Elasticsearch,
}

#[derive(Clone, Copy, Debug)]
enum Outage {
    Paused,
    Stopped,
    Killed,
    CutOff,
}

/// Longest time that a server is away.
const LONGEST_OUTAGE_MS: u64 = 2_500;
/// Most records of a table in a burst.
const BURST: usize = 150;

async fn begin(outage: Outage, container: &Container) -> Result<()> {
    match outage {
        Outage::Paused => container.pause().await,
        Outage::Stopped => container.stop().await,
        Outage::Killed => container.kill().await,
        Outage::CutOff => container.cut_off().await,
    }
}

async fn end(outage: Outage, container: &Container) -> Result<()> {
    match outage {
        Outage::Paused => container.unpause().await,
        Outage::Stopped | Outage::Killed => container.start().await,
        Outage::CutOff => container.reconnect().await,
    }
}

#[tokio::test]
async fn servers_that_go_away_under_load_in_any_way_and_order_get_and_give_everything_in_the_end() -> Result<()> {
    let kafka = containers::private_kafka();
    let index = containers::private_elasticsearch();
    let (Some(kafka), Some(index)) = tokio::try_join!(kafka, index)? else { return Ok(()) };
    let seed = seed("LOCKSTEP_OUTAGE_SEED")?;
    writeln!(std::io::stderr(), "servers_that_go_away_under_load: LOCKSTEP_OUTAGE_SEED={seed}")?;
    let mut traffic = Traffic::new(seed);
    let kinds = [Outage::Paused, Outage::Stopped, Outage::Killed, Outage::CutOff];
    let mut outages: Vec<(Server, Outage)> = [Server::Kafka, Server::Elasticsearch]
        .into_iter()
        .flat_map(|server| kinds.map(|kind| (server, kind)))
        .collect();
    outages.shuffle(&mut traffic.rng);

    let mut shop = Shop::on_servers(Text::Keyed, &kafka.server, &index.server, 2).await?;
    // Small steps, so that an outage meets many that are under way.
    shop.set("lockstep.step.max-records", "30");
    let mut stream = shop.start_live().await?;
    for (server, outage) in outages.iter().copied() {
        let context = || format!("{server:?} {outage:?} of {outages:?}, LOCKSTEP_OUTAGE_SEED={seed}");
        traffic.burst(&mut shop, BURST).await.with_context(context)?;
        let container = match server {
            Server::Kafka => &kafka.container,
            Server::Elasticsearch => &index.container,
        };
        begin(outage, container).await?;
        // What comes while the index is away; while Kafka is, nothing can.
        if let Server::Elasticsearch = server {
            traffic.burst(&mut shop, BURST).await.with_context(context)?;
        }
        sleep(Duration::from_millis(traffic.rng.random_range(0..LONGEST_OUTAGE_MS))).await;
        end(outage, container).await?;
        tokio::try_join!(kafka.server.ready(SOON), index.server.ready(SOON)).with_context(context)?;
    }
    traffic.burst(&mut shop, BURST).await?;
    shop.caught_up_and_archived().await.with_context(|| format!("LOCKSTEP_OUTAGE_SEED={seed}\n{}", stream.output()))?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    // It is the one that was started: none of this ended it.
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}
