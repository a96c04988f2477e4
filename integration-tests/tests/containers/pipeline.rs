//! The pipeline on real servers: what the index holds is what an independent engine gives for the same SELECT.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::processes::Program;
use serde_json::{Value, json};

use crate::expected;
use crate::shop::{SOON, Shop, TABLES, Text, fixture};

#[tokio::test]
async fn the_published_program_fills_the_index_with_exactly_the_join_of_500_records_a_topic() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Seed, &servers.kafka, &servers.index, 3).await?;
    let stream = shop.start();
    for (number, (table, key)) in TABLES.iter().enumerate() {
        generate_and_ingest(&shop, &servers.kafka, table, number, *key).await?;
        let records = servers.kafka.read_committed(shop.topic(table)?).await?;
        ensure!(records.len() == 500, "{} records of {table} came in", records.len());
        shop.was_sent(table, records.into_iter().map(|r| Record { value: r.value, ..Record::default() }).collect());
    }
    let mut stream = stream?;
    stream.wait_for_health(&format!("{}/readyz", shop.address()), SOON).await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    let fields = servers.index.search(shop.index_name(), &json!({"size": 1})).await?;
    let source = fields["hits"]["hits"][0]["_source"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(source, 9, "{fields}");
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    let certificate = shop.reconcile(&[], 0).await?;
    assert_eq!(certificate["sinks"][0]["equal"], json!(shop.expected()?.len()), "{certificate:#}");
    Ok(())
}

/// By the two commands that a user has for it.
async fn generate_and_ingest(
    shop: &Shop,
    kafka: &lockstep_integration_tests::kafka::Kafka,
    table: &str,
    number: usize,
    key: Option<&str>,
) -> Result<()> {
    let (schema, out) = (fixture(&format!("datagen/{table}.avro")), shop.folder().join(table));
    let (schema, out) = (schema.display().to_string(), out.display().to_string());
    let seed = (number + 1).to_string();
    let generate = ["generate", "--count", "500", "--seed", &seed, "--out", &out, &schema];
    Program::start("lockstep-stream", &generate, shop.folder())?.expect_exit(0, SOON).await?;
    let (file, topic) = (format!("{out}/xyz1.json"), shop.topic(table)?);
    let mut ingest = vec!["ingest", &file, "--topic", topic, "--bootstrap-servers", kafka.brokers()];
    ingest.extend(key.into_iter().flat_map(|key| ["--key", key]));
    Program::start("lockstep-stream", &ingest, shop.folder())?.expect_exit(0, SOON).await
}

#[tokio::test]
async fn the_keyed_program_follows_updates_and_tombstones() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 3, 500)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;

    // Every user marries, every second product goes, every third sale becomes another customer's, a few views come.
    let (users, products) = (shop.generated("users", 3, 500)?, shop.generated("products", 3, 500)?);
    let married = users.iter().map(|record| changed(record, |user| user["last_name"] = json!("Married"))).collect();
    shop.send("users", married).await?;
    let gone = products.iter().step_by(2).map(|record| Record::tombstone(record.key.clone().unwrap_or_default()));
    shop.send("products", gone.collect()).await?;
    let sales = shop.generated("sales", 3, 500)?;
    let view = shop.generated("views", 3, 1)?.remove(0);
    let view: Value = serde_json::from_slice(view.value.as_deref().unwrap_or_default())?;
    let resold = sales.iter().step_by(3).map(|record| {
        changed(record, |sale| {
            sale["customer_id"] = view["user_id"].clone();
            sale["product_id"] = view["product_id"].clone();
        })
    });
    shop.send("sales", resold.collect()).await?;
    let more = shop.generated("views", 4, 50)?;
    shop.send("views", more).await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    shop.reconcile(&[], 0).await?;
    Ok(())
}

/// The record with another value, under its old key.
fn changed(record: &Record, change: impl FnOnce(&mut Value)) -> Record {
    let mut row: Value = record.value.as_deref().and_then(|v| serde_json::from_slice(v).ok()).unwrap_or_default();
    change(&mut row);
    Record { value: Some(row.to_string().into_bytes()), ..record.clone() }
}

#[tokio::test]
async fn users_and_products_that_come_after_their_views_replace_the_null_padded_documents() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    let views = shop.generated("views", 5, 300)?;
    shop.send("views", views).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    let padded = shop.documents().await?;
    assert!(padded.iter().all(|d| d.source["first_name"].is_null() && d.source["brand"].is_null()), "no user is known");

    for table in ["users", "products"] {
        let records = shop.generated(table, 5, 500)?;
        shop.send(table, records).await?;
    }
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    let filled = shop.documents().await?;
    assert_eq!(filled.len(), padded.len());
    let ids = |documents: &[lockstep_integration_tests::index::Document]| -> Vec<String> {
        documents.iter().map(|d| d.id.clone()).collect()
    };
    assert_eq!(ids(&filled), ids(&padded), "a document keeps its id when its partners come");
    assert!(filled.iter().any(|d| !d.source["first_name"].is_null()), "no partner has come");
    stream.terminate(SOON).await
}

/// Kinds of bad input: the table, the record, and what its reason says.
fn bad_records() -> Vec<(&'static str, Record, &'static str)> {
    let valid =
        json!({"product_id": "p", "user_id": "u", "view_time": 1, "page_url": "/", "ts": 1_609_459_200_000_i64});
    let with = |field: &str, value: Value| {
        let mut row = valid.clone();
        row[field] = value;
        Record::value(row.to_string())
    };
    vec![
        ("views", Record::value("{\"product_id\": \"p\", "), "the value is not JSON"),
        ("views", Record::value("[1, 2]"), "expected a JSON object"),
        ("views", with("view_time", json!("ten")), "column view_time is \"ten\"; expected INT"),
        ("views", with("view_time", json!(3_000_000_000_i64)), "column view_time is 3000000000; expected INT"),
        ("views", with("ts", json!("yesterday")), "column ts is \"yesterday\"; expected TIMESTAMP(3)"),
        ("views", Record::value(b"{\"product_id\": \"\xff\xfe\"}".to_vec()), "not UTF-8 at byte 16"),
        ("views", Record::default(), "the value is empty"),
        ("views", with("page_url", json!("x".repeat(10 * 1024 * 1024))), "bytes; expected at most 8388608"),
        ("users", Record::value(json!({"first_name": "Ann"}).to_string()), "key column id is missing"),
        ("users", Record::default(), "without value and without key"),
        ("sales", Record::keyed("7", json!({"order_id": 8}).to_string()), "key column order_id is"),
        ("sales", Record::keyed("seven", json!({"product_id": "p"}).to_string()), "expected BIGINT"),
    ]
}

#[tokio::test]
async fn bad_input_is_archived_with_its_reason_and_counted_and_the_rest_goes_on() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 7, 100)?;
        shop.send(table, records).await?;
    }
    for (table, record, _) in bad_records() {
        shop.send_bad(table, std::slice::from_ref(&record)).await?;
        let good = shop.generated(table, 7, 101)?.split_off(100);
        shop.send(table, good).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    let metrics = shop.page("/metrics").await?;
    for (table, rejected) in [("views", 8), ("users", 2), ("sales", 2), ("products", 0)] {
        let line = format!("lockstep_rejected_total{{table=\"{table}\"}} {rejected}");
        assert!(metrics.contains(&line), "expected {line} in\n{metrics}");
    }
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await?;
    let rejected = shop.batch(&["archive", "rejected"], 0).await?;
    for (table, _, reason) in bad_records() {
        let found = rejected
            .lines()
            .any(|line| line.contains(&format!("\"{table}\"")) && line.replace("\\\"", "\"").contains(reason));
        assert!(found, "no record of {table} is rejected because {reason}:\n{rejected}");
    }
    shop.reconcile(&[], 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_pipeline_whose_environment_is_not_there_is_told_so_by_check() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Seed, &servers.kafka, &servers.index, 1).await?;
    let said = shop.check(0).await?;
    assert!(said.contains("syntax and plan: 4 tables, 1 sinks") && said.contains("with 1 partitions"), "{said}");
    shop.set("users.topic", "no-such-topic");
    let said = shop.check(69).await?;
    assert!(said.contains("no-such-topic") && said.contains("there is no such topic"), "{said}");
    let topic = shop.topic("users")?.to_owned();
    shop.set("users.topic", &topic);
    servers.index.create(shop.index_name(), &json!({"properties": {"brand": {"type": "text"}}})).await?;
    let said = shop.check(69).await?;
    assert!(said.contains("field brand is text, and STRING needs keyword"), "{said}");
    let mut refused = shop.start()?;
    refused.expect_exit(1, SOON).await?;
    assert!(refused.output().contains("field brand is text"), "{}", refused.output());
    Ok(())
}

#[tokio::test]
async fn a_second_stream_on_the_same_state_is_refused() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let views = shop.generated("views", 1, 20)?;
    shop.send("views", views).await?;
    let mut first = shop.start_live().await?;
    shop.set("lockstep.http.address", &format!("127.0.0.1:{}", containers::free_port()?));
    let mut second = shop.start()?;
    second.expect_exit(1, SOON).await?;
    assert!(second.output().contains("belongs to a running process"), "{}", second.output());
    first.terminate(SOON).await
}

#[tokio::test]
async fn the_embedded_index_answers_what_a_person_types_into_curl() -> Result<()> {
    let mut shop = Shop::on_files()?;
    for (table, _) in TABLES {
        let records = shop.generated(table, 9, 500)?;
        shop.send(table, records).await?;
    }
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    let average = json!({"time": {"avg": {"field": "view_time"}}});
    let body = json!({"size": 0, "aggs": {"brands": {"terms": {"field": "brand", "size": 100}, "aggs": average}}});
    let buckets = shop.index().search(shop.index_name(), &body).await?;
    let documents = shop.documents().await?;
    let mut counted = 0;
    for bucket in buckets["aggregations"]["brands"]["buckets"].as_array().into_iter().flatten() {
        let own: Vec<i64> = documents
            .iter()
            .filter(|d| d.source["brand"] == bucket["key"])
            .filter_map(|d| d.source["view_time"].as_i64())
            .collect();
        assert_eq!(bucket["doc_count"], json!(own.len()), "{bucket}");
        let average = own.iter().sum::<i64>() as f64 / own.len() as f64;
        assert!((bucket["time"]["value"].as_f64().unwrap_or(f64::NAN) - average).abs() < 1e-9, "{bucket}");
        counted += own.len();
    }
    assert_eq!(counted, documents.iter().filter(|d| !d.source["brand"].is_null()).count());
    stream.terminate(SOON).await?;

    let mut stream = shop.start_live().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_topic_that_is_made_later_is_waited_for() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Seed, &servers.kafka, &servers.index, 1).await?;
    let later = containers::fresh_name("later");
    shop.set("sales.topic", &later);
    let views = shop.generated("views", 2, 30)?;
    shop.send("views", views).await?;
    let mut stream = shop.start()?;
    eventually("the views are taken", SOON, async || {
        let status = shop.status().await.map_err(|e| e.to_string())?;
        if status["tables"]["views"]["records"] == json!(30) { Ok(()) } else { Err(status.to_string()) }
    })
    .await?;
    servers.kafka.create_topic(&later, 1).await?;
    shop.rename_topic("sales", &later);
    let sales = shop.generated("sales", 2, 30)?;
    shop.send("sales", sales).await?;
    shop.caught_up().await?;
    expected::assert_equal(&shop.expected()?, &expected::bag(&shop.documents().await?)?);
    stream.terminate(Duration::from_secs(30)).await
}

#[tokio::test]
async fn the_demo_runs_is_found_in_lockstep_and_goes_on_after_a_stop() -> Result<()> {
    let shop = Shop::on_files_not_yet_there()?;
    let mut before = 0;
    for _ in 0..2 {
        let mut demo = shop.demo(&[])?;
        demo.wait_for_line("documents written", SOON).await?;
        eventually("there are documents", SOON, async || match shop.index().count(shop.index_name()).await {
            Ok(count) if count >= 500 => Ok(()),
            Ok(count) => Err(format!("{count} documents")),
            Err(error) => Err(format!("{error:#}")),
        })
        .await?;
        let count = shop.index().count(shop.index_name()).await?;
        assert!(count > before, "{count} documents, {before} before the restart");
        before = count;
        eventually("the archive has the first step", SOON, async || {
            let status = shop.status().await.map_err(|e| e.to_string())?;
            if status["archived"].as_u64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
        })
        .await?;
        let mut reconcile = shop.demo(&["reconcile"])?;
        reconcile.expect_exit(0, SOON).await?;
        assert!(reconcile.output().contains("product_dashboard at step"), "{}", reconcile.output());
        assert!(reconcile.output().contains("in lockstep"), "{}", reconcile.output());
        assert!(!reconcile.output().contains(" 0 equal"), "{}", reconcile.output());
        demo.interrupt(SOON).await?;
        assert!(demo.output().contains("everything is kept"), "{}", demo.output());
    }
    Ok(())
}
