//! Points in time that are lost while a reconcile runs, or would expire before it comes to them: it ends with the right
//! verdict, and reads nothing from the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::index::Document;
use lockstep_integration_tests::kafka::{Kafka, Record};
use lockstep_integration_tests::processes::{Program, Signal};
use lockstep_shared::digest::hash_of_id;
use lockstep_shared::index::mapping::creation;
use lockstep_shared::index::moment::{Keeper, Moment};
use lockstep_shared::index::{Client, ClientConfig, IndexError};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::compare::{VIEWS, differences, many_views, path, view};
use crate::shop::{SOON, Shop, Text};

/// Pause between two looks at a pass, which must not be over before it is seen.
const LOOK: Duration = Duration::from_millis(1);
/// Pause between two bursts of the load, and their views.
const PAUSE: Duration = Duration::from_millis(50);
const BURST: usize = 10;
/// Documents that are noted before a pass is frozen, at least: three ranges of sequence numbers.
const LEAST: u64 = 22_000;
/// Documents of one range, at most.
const RANGE: u64 = 10_000;
/// Bytes of a note of a document that is there.
const NOTE_BYTES: u64 = 40;
/// Bytes before those of a range.
const HEAD_BYTES: usize = 24;

fn pass(shop: &Shop, sink: &str) -> PathBuf {
    shop.archive().join("reconcile").join(sink)
}

/// Starts a reconcile and freezes it as soon as it has noted something of a sink's index; how many documents that are.
async fn frozen_at(shop: &Shop, sink: &str) -> Result<(Program, u64)> {
    let mut reconcile = shop.begin_batch(&["reconcile", "--output", "json", "--sample", "99"], &[])?;
    let notes = pass(shop, sink).join("is");
    let noted = || std::fs::metadata(&notes).map_or(0, |file| file.len() / NOTE_BYTES);
    let seen = async {
        while noted() <= LEAST {
            sleep(LOOK).await;
        }
    };
    let seen = timeout(SOON, seen).await;
    reconcile.signal(Signal::Stop)?;
    seen.with_context(|| format!("nothing is noted of {sink}: {}", reconcile.output()))?;
    let noted = noted();
    ensure!(noted > LEAST && noted < VIEWS as u64, "{noted} documents of {sink} were noted: {}", reconcile.output());
    Ok((reconcile, noted))
}

/// The certificate among what a reconcile printed.
fn certificate(output: &str) -> Result<Value> {
    let begin = output.find("{\n").with_context(|| format!("a certificate: {output}"))?;
    serde_json::from_str(&output[begin..]).with_context(|| format!("the certificate is JSON: {output}"))
}

fn sink<'a>(certificate: &'a Value, name: &str) -> Result<&'a Value> {
    let sinks = certificate["sinks"].as_array().into_iter().flatten();
    sinks.into_iter().find(|sink| sink["sink"] == name).with_context(|| format!("no {name}: {certificate:#}"))
}

/// Sends views until it is told to end.
async fn load(kafka: Kafka, topic: String, end: Arc<AtomicBool>) -> Result<Vec<Record>> {
    let mut sent = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let records: Vec<Record> = (0..BURST).map(|n| view(VIEWS + sent.len() + n)).collect();
        kafka.produce(&topic, &records).await?;
        sent.extend(records);
        sleep(PAUSE).await;
    }
    Ok(sent)
}

/// The hashes of the ids of the documents that were noted first: those of one range of sequence numbers.
fn noted_first(shop: &Shop) -> Result<Vec<u64>> {
    let notes = std::fs::read(pass(shop, "product_dashboard").join("is"))?;
    let number =
        |at: usize| Ok::<_, anyhow::Error>(u64::from_le_bytes(notes.get(at..at + 8).context("a note")?.try_into()?));
    let (count, note) = (usize::try_from(number(8)?)?, usize::try_from(NOTE_BYTES)?);
    (0..count).map(|n| number(HEAD_BYTES + n * note)).collect()
}

/// Deletes one document and changes another, both noted long ago; what is to be found.
async fn damage(shop: &Shop, documents: &[Document]) -> Result<[(String, String); 2]> {
    let noted = noted_first(shop)?;
    let of = |n: usize| documents.iter().find(|document| noted.get(n) == Some(&hash_of_id(&document.id)));
    let (gone, other) = (of(10).context("a noted document")?, of(20).context("another one")?);
    shop.index().call(Method::DELETE, &path(shop.index_name(), &gone.id), None).await?;
    let mut source = other.source.clone();
    source["user_id"] = json!("another");
    shop.index().call(Method::PUT, &path(shop.index_name(), &other.id), Some(&source)).await?;
    Ok([("missing".to_owned(), gone.id.clone()), ("different".to_owned(), other.id.clone())])
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_point_in_time_of_an_exact_cut_is_lost_another_cut_is_taken_and_nothing_is_read_from_the_start()
-> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    many_views(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let documents = shop.documents().await?;
    let end = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(load(servers.kafka.clone(), shop.topic("views")?.to_owned(), end.clone()));

    // By then the first sink was compared at the first cut, and is damaged after it.
    let (mut reconcile, noted) = frozen_at(&shop, "views_enriched").await?;
    let state: Value = serde_json::from_slice(&std::fs::read(pass(&shop, "views_enriched").join("pass.json"))?)?;
    servers.index.call(Method::DELETE, "/_pit", Some(&json!({"id": state["moment"]}))).await?;
    let wanted = damage(&shop, &documents).await?;
    reconcile.signal(Signal::Continue)?;
    reconcile.expect_exit(3, SOON).await?;
    end.store(true, Ordering::Relaxed);
    shop.was_sent("views", sending.await??);

    let output = reconcile.output();
    ensure!(output.contains("another cut is taken (1 of 5)"), "{output}");
    let certificate = certificate(&output)?;
    assert_eq!(certificate["precision"]["exact"], json!(true), "{certificate:#}");
    assert_eq!(differences(&certificate), wanted.into(), "{certificate:#}");
    // What was damaged is read again, and the last range, to which the stream adds: it may have become two.
    let most = [("product_dashboard", 3 * RANGE), ("views_enriched", VIEWS as u64 - noted + 2 * RANGE)];
    for (name, most) in most {
        let sink = sink(&certificate, name)?;
        let [found, read] = ["found", "read"].map(|count| sink[count].as_u64().unwrap_or(0));
        ensure!(found > VIEWS as u64 - 2 && read <= most, "{read} of {found} read: {sink:#}");
        assert_eq!(sink["younger"], json!(0), "{sink:#}");
    }
    assert_eq!(sink(&certificate, "views_enriched")?["equal"], sink(&certificate, "views_enriched")?["found"]);
    ensure!(!pass(&shop, "product_dashboard").exists(), "nothing is left of a pass that is done");
    shop.reconcile(&["--repair"], 0).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_pass_over_several_shards_is_taken_up_and_reads_only_what_changed() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    let mut parted = creation(&shop.pipeline()?.sinks[0].columns);
    parted["settings"]["index"]["number_of_shards"] = json!(3);
    servers.index.create_with(shop.index_name(), &parted).await?;
    many_views(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let documents = shop.documents().await?;

    let (mut reconcile, noted) = frozen_at(&shop, "product_dashboard").await?;
    reconcile.kill().await?;
    shop.send("views", (VIEWS..VIEWS + 5).map(view).collect()).await?;
    shop.caught_up_and_archived().await?;
    let wanted = damage(&shop, &documents).await?;
    let certificate = shop.reconcile(&["--sample", "99"], 3).await?;
    assert_eq!(differences(&certificate), wanted.into(), "{certificate:#}");
    let sink = sink(&certificate, "product_dashboard")?;
    let read = sink["read"].as_u64().context("a count")?;
    // Both damaged documents were in one range, which is read again.
    ensure!(read <= VIEWS as u64 - noted + RANGE, "{read} read, {noted} noted: {sink:#}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn a_point_in_time_that_is_kept_outlives_one_that_is_not() -> Result<()> {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let shop = Shop::on_files()?;
    let mut stream = shop.start_live().await?;
    let client = Client::new(&ClientConfig::of_sink(&shop.pipeline()?.sinks[0])?)?;
    let kept = Arc::new(Moment::open_for(&client, shop.index_name(), KEEP_ALIVE).await?);
    let left = Moment::open_for(&client, shop.index_name(), KEEP_ALIVE).await?;
    let (begin, keeper) = (Instant::now(), Keeper::every(KEEP_ALIVE / 8, vec![kept.clone()]));
    sleep(KEEP_ALIVE * 2).await;
    drop(keeper);
    kept.touch().await.with_context(|| format!("after {:?}", begin.elapsed()))?;
    ensure!(matches!(left.touch().await, Err(IndexError::Expired { .. })), "nobody asked for it");
    // The keeper ends with its value, and then this one expires too.
    sleep(KEEP_ALIVE * 2).await;
    ensure!(matches!(kept.touch().await, Err(IndexError::Expired { .. })), "nobody asked for it any longer");
    stream.terminate(SOON).await
}
