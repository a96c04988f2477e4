//! Servers that are down, that refuse, and a stream that is stopped and killed: nothing is lost, nothing is there twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_integration_tests::containers::{self, fresh_name};
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::index::Index;
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::kafka_proxy::KafkaProxy;
use lockstep_integration_tests::proxy::{Fault, Items, Proxy};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TABLES, Text};

/// A part of each topic.
async fn send_part(shop: &mut Shop, seed: u64, count: usize) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, count)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_index_that_is_down_at_the_start_and_in_the_middle_gets_everything_in_the_end() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    proxy.refuse_connections().await;
    send_part(&mut shop, 11, 200).await?;
    let mut stream = shop.start()?;
    stream.wait_for_line("waiting for the index of product_dashboard", SOON).await?;
    let ready = shop.page("/readyz").await?;
    assert!(ready.contains("does not answer"), "{ready}");
    proxy.accept_connections().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;

    proxy.refuse_connections().await;
    send_part(&mut shop, 12, 200).await?;
    eventually("the stream notices", SOON, async || {
        let status = shop.status().await.map_err(|e| e.to_string())?;
        if status["trouble"].is_string() { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    proxy.accept_connections().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn an_index_that_answers_429_and_503_and_loses_answers_gets_everything_in_the_end() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    proxy.queue_times(5, &Fault::Refuse(429));
    proxy.queue(Fault::RejectItems(Items::Every(3), 429));
    proxy.queue(Fault::SwallowAnswer);
    proxy.queue(Fault::SwallowRequest);
    proxy.queue(Fault::RejectItems(Items::All, 503));
    proxy.queue(Fault::Delay(Duration::from_millis(200)));
    let mut stream = shop.start_live().await?;
    for seed in 0..4 {
        send_part(&mut shop, 20 + seed, 100).await?;
        shop.caught_up().await?;
    }
    shop.assert_index_is_as_expected().await?;
    let seen = proxy.seen();
    ensure!(seen.faulted == 10, "the faults were not met: {seen:?}");
    let status = shop.status().await?;
    assert!(status["retries"].as_u64() > Some(0), "{status}");
    assert_eq!(status["dead_letters"], json!(0), "{status}");
    stream.terminate(SOON).await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn a_client_that_was_told_of_no_brokers_and_finds_none_any_more_is_replaced() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = KafkaProxy::start(servers.kafka.brokers()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("views.properties.bootstrap.servers", &proxy.brokers());
    send_part(&mut shop, 16, 100).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;

    proxy.list_no_broker(true);
    stream.wait_for_line("Meta data fetch error", SOON).await?;
    ensure!(proxy.emptied() > 0, "the client did not ask");
    proxy.list_no_broker(false);
    send_part(&mut shop, 17, 100).await?;
    stream.wait_for_line("a new client finds brokers", SOON).await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn a_document_that_the_index_rejects_is_listed_with_its_reason_and_the_rest_goes_on() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    // As somebody would make the index by hand: without a limit on texts, so that Lucene refuses a very long one.
    let text = |name: &str| (name.to_owned(), json!({"type": "keyword"}));
    let mut properties: serde_json::Map<String, Value> =
        ["product_id", "user_id", "first_name", "last_name", "product_name", "brand"].map(text).into_iter().collect();
    properties.insert("order_id".into(), json!({"type": "long"}));
    properties.insert("view_time".into(), json!({"type": "integer"}));
    properties.insert("order_date".into(), json!({"type": "date"}));
    servers.index.create(shop.index_name(), &json!({"dynamic": "strict", "properties": properties})).await?;

    let views = shop.generated("views", 13, 50)?;
    shop.send("views", views).await?;
    let too_long = json!({"product_id": "p".repeat(40_000), "user_id": "u", "view_time": 1, "ts": 0});
    shop.send("views", vec![Record::value(too_long.to_string())]).await?;
    let views = shop.generated("views", 14, 50)?;
    shop.send("views", views).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    assert_eq!(shop.documents().await?.len(), 100);
    let letters: Value = serde_json::from_str(&shop.page("/v1/dead-letters").await?)?;
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
    assert!(letters[0]["reason"].as_str().is_some_and(|reason| reason.contains("immense term")), "{letters}");
    let metrics = shop.page("/metrics").await?;
    assert!(metrics.contains("lockstep_dead_letters_total 1"), "{metrics}");
    stream.terminate(SOON).await?;
    // It is archived, so that the proof knows what the index lacks.
    shop.assert_archive_is_whole().await?;
    let certificate = shop.reconcile(&[], 3).await?;
    assert_eq!(certificate["sinks"][0]["missing"], json!(1), "{certificate:#}");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_stopped_in_the_middle_goes_on_where_it_was() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    // Small steps and a slow index, so that the stop meets work under way.
    shop.set("lockstep.step.max-records", "50");
    proxy.queue_times(1_000, &Fault::Delay(Duration::from_millis(30)));
    send_part(&mut shop, 15, 500).await?;
    let mut stream = shop.start_live().await?;
    eventually("something is written", SOON, async || {
        let status = shop.status().await.map_err(|e| e.to_string())?;
        if status["written"].as_u64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    stream.terminate(SOON).await?;
    send_part(&mut shop, 16, 100).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    shop.reconcile(&[], 0).await.map(drop)
}

/// Ends of the stream that no one asked for.
const KILLS: u64 = 10;

#[tokio::test]
async fn l5_a_stream_that_is_killed_ten_times_gives_the_same_index_and_archives_each_record_once() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    shop.set("lockstep.step.max-records", "40");
    shop.set("lockstep.archive.commit.max-delay", "50 ms");
    proxy.queue_times(10_000, &Fault::Delay(Duration::from_millis(10)));
    for round in 0..KILLS {
        send_part(&mut shop, 30 + round, 120).await?;
        let mut stream = shop.start()?;
        // Each round is killed at another point: in the recovery, after its first step, after its second …
        let steps = round % 5;
        if steps > 0 {
            let mut first = None;
            eventually("the stream cuts steps", SOON, async || {
                let status = shop.status().await.map_err(|e| e.to_string())?;
                let step = status["step"].as_u64().unwrap_or(0);
                let from = *first.get_or_insert(step);
                if step >= from + steps { Ok(()) } else { Err(status.to_string()) }
            })
            .await?;
        } else {
            eventually("the stream has begun", SOON, async || shop.status().await.map_err(|e| e.to_string())).await?;
        }
        stream.kill().await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_is_read_on() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let Some(kafka) = containers::private_kafka().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &kafka.server, &servers.index, 2).await?;
    send_part(&mut shop, 60, 100).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    kafka.container.kill().await?;
    stream.wait_for_line("the brokers do not answer", SOON).await?;
    kafka.container.start().await?;
    kafka.server.ready(SOON).await?;
    send_part(&mut shop, 61, 100).await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

#[tokio::test]
async fn servers_that_are_not_there_are_named_by_every_command() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let views = shop.generated("views", 1, 10)?;
    shop.send("views", views).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    stream.terminate(SOON).await?;
    // The embedded index ended with its stream.
    let said = shop.batch(&["reconcile"], 69).await?;
    assert!(said.contains("does not answer"), "{said}");
    let nowhere = Index::new(&format!("http://127.0.0.1:{}", containers::free_port()?))?;
    shop.set("product_dashboard.hosts", nowhere.url());
    let said = shop.check(69).await?;
    assert!(said.contains("sink product_dashboard: the index at") && said.contains("does not answer"), "{said}");
    shop.set("lockstep.archive.path", &shop.folder().join(fresh_name("none")).display().to_string());
    let said = shop.batch(&["recompute"], 1).await?;
    assert!(said.contains("has no archive at"), "{said}");
    Ok(())
}
