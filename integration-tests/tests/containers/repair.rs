//! An index that was changed behind the stream's back: reconcile finds exactly that, and repairs exactly that.

use anyhow::{Context as _, Result};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::index::{Document, Index, Write};
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TABLES, Text};

/// What the damage does, by id.
struct Damage {
    deleted: Vec<String>,
    changed: Vec<String>,
    added: Vec<String>,
}

/// Deletes, changes and adds documents as a person with curl does, without any version.
async fn damage(index: &Index, name: &str, documents: &[Document]) -> Result<Damage> {
    let ids =
        |range: std::ops::Range<usize>| -> Vec<String> { documents[range].iter().map(|d| d.id.clone()).collect() };
    let damage =
        Damage { deleted: ids(0..7), changed: ids(20..25), added: vec!["by-hand-1".into(), "by-hand-2".into()] };
    for id in &damage.deleted {
        index.call(Method::DELETE, &path(name, id), None).await?;
    }
    for document in &documents[20..25] {
        let mut source = document.source.clone();
        source["view_time"] = json!(-1);
        source["brand"] = Value::Null;
        index.call(Method::PUT, &path(name, &document.id), Some(&source)).await?;
    }
    for id in &damage.added {
        index.call(Method::PUT, &path(name, id), Some(&json!({"product_id": "nobody knows"}))).await?;
    }
    Ok(damage)
}

fn path(index: &str, id: &str) -> String {
    format!("/{index}/_doc/{}", id.replace('|', "%7C"))
}

fn sampled(certificate: &Value, kind: &str) -> Vec<String> {
    let samples = certificate["sinks"][0]["samples"].as_array().into_iter().flatten();
    let mut ids: Vec<String> =
        samples.filter(|s| s["kind"] == kind).filter_map(|s| s["id"].as_str()).map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Damages the index of a running pipeline, has it found and repaired, and looks again.
async fn corrupt_reconcile_repair_reconcile(shop: &Shop) -> Result<()> {
    let before = shop.documents().await?;
    let certificate = shop.reconcile(&[], 0).await?;
    assert_eq!(certificate["sinks"][0]["equal"], json!(before.len()), "{certificate:#}");

    let done = damage(shop.index(), shop.index_name(), &before).await?;
    for (options, code) in [(&["--sample", "50"][..], 3), (&["--sample", "50", "--repair"], 0)] {
        let certificate = shop.reconcile(options, code).await?;
        let sink = &certificate["sinks"][0];
        assert_eq!(
            [&sink["missing"], &sink["different"], &sink["extra"]],
            [&json!(7), &json!(5), &json!(2)],
            "{certificate:#}"
        );
        assert_eq!(sampled(&certificate, "missing"), done.deleted);
        assert_eq!(sampled(&certificate, "different"), done.changed);
        assert_eq!(sampled(&certificate, "extra"), done.added);
        let different = sink["samples"].as_array().into_iter().flatten().find(|s| s["kind"] == "different");
        let fields = different.context("a sample of what is different")?["fields"].to_string();
        assert!(fields.contains(r#""field":"view_time""#) && fields.contains(r#""found":-1"#), "{fields}");
    }
    let certificate = shop.reconcile(&[], 0).await?;
    assert_eq!(certificate["sinks"][0]["equal"], json!(before.len()), "{certificate:#}");
    shop.assert_index_is_as_expected().await?;
    let bodies = |documents: &[Document]| -> Vec<(String, Value)> {
        documents.iter().map(|d| (d.id.clone(), d.source.clone())).collect()
    };
    assert_eq!(bodies(&shop.documents().await?), bodies(&before), "the same documents under the same ids");
    Ok(())
}

async fn fill(shop: &mut Shop) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, 40, 300)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

#[tokio::test]
async fn l7_what_was_changed_by_hand_in_elasticsearch_is_found_and_repaired_and_nothing_else() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 3).await?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    corrupt_reconcile_repair_reconcile(&shop).await?;
    // The live writer goes on over what was repaired.
    let users = shop.generated("users", 41, 300)?;
    shop.send("users", users).await?;
    shop.caught_up().await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn l7_what_was_changed_by_hand_in_the_embedded_index_is_found_and_repaired_and_nothing_else() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    corrupt_reconcile_repair_reconcile(&shop).await?;
    let users = shop.generated("users", 41, 300)?;
    shop.send("users", users).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn an_embedded_index_whose_folder_was_deleted_is_written_anew_by_a_repair() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    let folder = shop.folder().join("state/index");
    std::fs::remove_dir_all(&folder)?;
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("index.log"), "what the first version wrote")?;
    let mut refused = shop.start()?;
    refused.expect_exit(1, SOON).await?;
    assert!(refused.output().contains("is of an older version; delete the folder"), "{}", refused.output());
    std::fs::remove_dir_all(&folder)?;
    let mut stream = shop.start_live().await?;
    assert_eq!(shop.index().count(shop.index_name()).await?, 0);
    shop.reconcile(&["--repair", "--repair-limit", "100%"], 0).await?;
    shop.assert_index_is_as_expected().await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn l6_a_repair_never_overwrites_what_the_live_writer_wrote_since() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    stream.terminate(SOON).await?;
    // A write that is younger than the cut, as the stream's next step would make it.
    let documents = shop.documents().await?;
    let (younger, damaged) = (&documents[0], &documents[1]);
    let next = younger.version.max(documents.iter().map(|d| d.version).max().unwrap_or(0)) + (1 << 10);
    let write = Write::Index { id: younger.id.clone(), version: next, document: json!({"brand": "just written"}) };
    servers.index.bulk(shop.index_name(), &[write]).await?;
    servers.index.call(Method::DELETE, &path(shop.index_name(), &damaged.id), None).await?;
    let certificate = shop.reconcile(&["--repair"], 0).await?;
    let sink = &certificate["sinks"][0];
    assert_eq!([&sink["missing"], &sink["younger"]], [&json!(1), &json!(1)], "{certificate:#}");
    let kept = servers.index.get(shop.index_name(), &younger.id).await?.context("it is there")?;
    assert_eq!(kept.source, json!({"brand": "just written"}));
    let repaired = servers.index.get(shop.index_name(), &damaged.id).await?.context("it is there again")?;
    assert_eq!(repaired.source, damaged.source);
    Ok(())
}

#[tokio::test]
async fn another_pipelines_stream_at_the_status_address_is_not_believed() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    // Its own stream is reached at an address where another one, which has acknowledged nothing, answers.
    let other = Shop::on_files()?;
    let mut other_stream = other.start_live().await?;
    shop.set("lockstep.http.address", other.address().trim_start_matches("http://"));
    let certificate = shop.reconcile(&[], 0).await?;
    assert_eq!(certificate["sinks"][0]["equal"], json!(shop.expected()?.len()), "{certificate:#}");
    other_stream.terminate(SOON).await?;
    stream.terminate(SOON).await
}
