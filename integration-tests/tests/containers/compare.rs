//! The comparison: quick and full find the same, each sees what it says it sees, memory may be tiny, and a pass that was
//! killed goes on where it stood.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::index::{Document, Index};
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::{containers, eventually};
use lockstep_shared::digest::of_source;
use lockstep_shared::index::carried::FIELD;
use lockstep_shared::index::mapping::creation;
use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TABLES, Text};

/// Views of the pass that is killed: several units of 9,000 documents.
pub(crate) const VIEWS: usize = 120_000;
/// Views that are sent at a time: fewer than a producer's queue takes.
const SENT: usize = 40_000;

pub(crate) fn path(index: &str, id: &str) -> String {
    format!("/{index}/_doc/{}", id.replace('|', "%7C"))
}

async fn fill(shop: &mut Shop) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, 40, 300)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// Every difference of the first sink, as kind and id.
pub(crate) fn differences(certificate: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let samples = certificate["sinks"][0]["samples"].as_array().into_iter().flatten();
    samples.map(|sample| (text(&sample["kind"]), text(&sample["id"]))).collect()
}

/// Deletes, changes and adds documents as a person with curl does; what should be found.
async fn damage(index: &Index, name: &str, documents: &[Document]) -> Result<BTreeSet<(String, String)>> {
    let mut done = BTreeSet::new();
    for document in &documents[..5] {
        index.call(Method::DELETE, &path(name, &document.id), None).await?;
        done.insert(("missing".to_owned(), document.id.clone()));
    }
    for document in &documents[10..13] {
        let mut source = document.source.clone();
        source["brand"] = json!("another");
        index.call(Method::PUT, &path(name, &document.id), Some(&source)).await?;
        done.insert(("different".to_owned(), document.id.clone()));
    }
    index.call(Method::PUT, &path(name, "by-hand"), Some(&json!({"product_id": "nobody knows"}))).await?;
    done.insert(("extra".to_owned(), "by-hand".to_owned()));
    Ok(done)
}

async fn quick_finds_what_full_finds(shop: &mut Shop) -> Result<()> {
    let documents = shop.documents().await?;
    let healthy = shop.reconcile(&["--quick"], 0).await?;
    let sink = &healthy["sinks"][0];
    assert_eq!([&sink["mode"], &sink["equal"], &sink["read"]], [&json!("quick"), &json!(documents.len()), &json!(0)]);

    let done = damage(shop.index(), shop.index_name(), &documents).await?;
    let (quick, full) = (["--quick", "--sample", "99"], ["--sample", "99"]);
    let by_quick = shop.reconcile(&quick, 3).await?;
    let by_full = shop.reconcile(&full, 3).await?;
    shop.set("lockstep.reconcile.memory", "32 KiB");
    let in_parts = shop.reconcile(&full, 3).await?;
    let not_quick = shop.reconcile(&quick, 3).await?;
    assert_eq!(not_quick["sinks"][0]["mode"], json!("full"), "more differs than fits: {not_quick:#}");
    // Two differences fit; the others are counted.
    shop.set("lockstep.reconcile.memory", "4 KiB");
    let some = shop.reconcile(&full, 3).await?;
    assert_eq!(some["sinks"][0]["unexamined"], json!(done.len() - 2), "{some:#}");
    assert!(differences(&some).len() == 2 && differences(&some).is_subset(&done), "{some:#}");
    assert_eq!(some["verdict"], json!("differs"), "{some:#}");
    let plan = shop.folder().join("some.plan").display().to_string();
    shop.reconcile(&["--plan", &plan], 3).await?;
    shop.set("lockstep.reconcile.memory", "1 GiB");
    for certificate in [&by_quick, &by_full, &in_parts] {
        assert_eq!(differences(certificate), done, "{certificate:#}");
        for count in ["expected", "found", "equal", "younger"] {
            assert_eq!(certificate["sinks"][0][count], by_full["sinks"][0][count], "{count}: {certificate:#}");
        }
        assert_eq!(certificate["sinks"][0]["samples"], by_full["sinks"][0]["samples"]);
    }
    assert_eq!(by_full["sinks"][0]["mode"], json!("full"));
    // What a repair writes carries its digest again.
    shop.reconcile(&["--repair"], 0).await?;
    let mut apply = shop.begin_batch(&["apply"], &[&plan])?;
    apply.expect_exit(3, SOON).await?;
    let (said, others) = (apply.output(), done.len() - 2);
    assert!(said.contains("left out 2") && said.contains(&format!("{others} more differed")), "{said}");
    let healed = shop.reconcile(&["--quick"], 0).await?;
    assert_eq!(healed["sinks"][0]["read"], json!(0), "{healed:#}");
    quick_does_not_see_another_content_with_the_same_digest(shop, &documents[20], &documents[21]).await
}

/// What quick mode cannot see, as the README says it, and full mode does.
async fn quick_does_not_see_another_content_with_the_same_digest(
    shop: &Shop,
    document: &Document,
    other: &Document,
) -> Result<()> {
    let pipeline = shop.pipeline()?;
    let digest = of_source(&pipeline.sinks[0].columns, &document.id, &document.source.to_string());
    let mut source = document.source.clone();
    source["brand"] = json!("with an old digest");
    source[FIELD] = json!(digest.carried());
    shop.index().call(Method::PUT, &path(shop.index_name(), &document.id), Some(&source)).await?;
    let quick = shop.reconcile(&["--quick"], 0).await?;
    assert_eq!(quick["sinks"][0]["different"], json!(0), "{quick:#}");
    let full = shop.reconcile(&["--sample", "9"], 3).await?;
    assert_eq!(differences(&full), [("different".to_owned(), document.id.clone())].into(), "{full:#}");
    shop.reconcile(&["--repair"], 0).await?;
    // With another digest quick mode sees it.
    let mut source = other.source.clone();
    source["brand"] = json!("with another's digest");
    source[FIELD] = json!(digest.carried() ^ 1);
    shop.index().call(Method::PUT, &path(shop.index_name(), &other.id), Some(&source)).await?;
    shop.reconcile(&["--quick"], 3).await?;
    shop.reconcile(&["--quick", "--repair"], 0).await?;
    shop.reconcile(&[], 0).await.map(drop)
}

#[tokio::test]
async fn quick_finds_what_full_finds_in_the_embedded_index() -> Result<()> {
    let mut shop = Shop::on_files()?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    quick_finds_what_full_finds(&mut shop).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn quick_finds_what_full_finds_in_elasticsearch() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    quick_finds_what_full_finds(&mut shop).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn an_index_without_a_place_for_digests_is_compared_in_full_and_the_report_says_why() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    let columns = shop.pipeline()?.sinks[0].columns.clone();
    let mut before = creation(&columns);
    let mappings = before["mappings"].as_object_mut().context("a mapping")?;
    mappings.remove("_source");
    mappings["properties"].as_object_mut().context("fields")?.remove(FIELD);
    servers.index.create_with(shop.index_name(), &before).await?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let certificate = shop.reconcile(&["--quick"], 0).await?;
    let sink = &certificate["sinks"][0];
    assert_eq!([&sink["mode"], &sink["read"]], [&json!("full"), &sink["found"]], "{certificate:#}");
    assert!(sink["how"].as_str().is_some_and(|how| how.contains("no quick comparison, since its mapping")), "{sink:#}");
    stream.terminate(SOON).await
}

#[tokio::test]
async fn an_index_that_only_lacks_the_field_is_given_it() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    let columns = shop.pipeline()?.sinks[0].columns.clone();
    let mut before = creation(&columns);
    before["mappings"]["properties"].as_object_mut().context("fields")?.remove(FIELD);
    servers.index.create_with(shop.index_name(), &before).await?;
    fill(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let certificate = shop.reconcile(&["--quick"], 0).await?;
    assert_eq!([&certificate["sinks"][0]["mode"], &certificate["sinks"][0]["read"]], [&json!("quick"), &json!(0)]);
    stream.terminate(SOON).await
}

/// A view by a user of that number.
pub(crate) fn view(n: usize) -> Record {
    let view = json!({"product_id": "p", "user_id": format!("u{n}"), "view_time": n, "page_url": "x", "ts": 1_600_000_000_000_u64});
    Record::value(view.to_string())
}

pub(crate) async fn many_views(shop: &mut Shop) -> Result<()> {
    for from in (0..VIEWS).step_by(SENT) {
        shop.send("views", (from..(from + SENT).min(VIEWS)).map(view).collect()).await?;
    }
    Ok(())
}

/// Starts a reconcile and kills it as soon as it has read something; how many documents it had noted of how many.
async fn killed_in_the_middle(shop: &Shop) -> Result<u64> {
    let notes = shop.archive().join("reconcile/product_dashboard/is");
    let mut pass = shop.start_reconcile()?;
    eventually("something is noted", SOON, async || match std::fs::metadata(&notes) {
        Ok(file) if file.len() > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    pass.kill().await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(std::fs::metadata(&notes).context("the pass was killed in the middle")?.len() / 40)
}

#[tokio::test]
async fn a_pass_that_was_killed_goes_on_where_it_stood_and_reads_nothing_twice() -> Result<()> {
    let mut shop = Shop::on_files()?;
    many_views(&mut shop).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let noted = killed_in_the_middle(&shop).await?;
    ensure!(noted > 1_000 && noted < VIEWS as u64, "{noted} documents were noted");
    let certificate = shop.reconcile(&[], 0).await?;
    let sink = &certificate["sinks"][0];
    let read = sink["read"].as_u64().context("a count")?;
    // Each unit has a head, which counts as less than a document.
    ensure!(read + noted >= VIEWS as u64 && read + noted <= VIEWS as u64 + 10, "{read} read, {noted} noted: {sink:#}");
    assert_eq!(sink["equal"], json!(VIEWS), "{sink:#}");

    // The point in time is gone with the process that held it, and the index is not the same.
    let noted = killed_in_the_middle(&shop).await?;
    stream.terminate(SOON).await?;
    let mut stream = shop.start_live().await?;
    let documents = shop.documents().await?;
    shop.index().call(Method::DELETE, &path(shop.index_name(), &documents[3].id), None).await?;
    let mut source = documents[VIEWS - 3].source.clone();
    source["user_id"] = json!("another");
    shop.index().call(Method::PUT, &path(shop.index_name(), &documents[VIEWS - 3].id), Some(&source)).await?;
    let certificate = shop.reconcile(&[], 3).await?;
    let sink = &certificate["sinks"][0];
    let wanted = [("missing", &documents[3].id), ("different", &documents[VIEWS - 3].id)];
    assert_eq!(differences(&certificate), wanted.map(|(kind, id)| (kind.to_owned(), id.clone())).into(), "{sink:#}");
    let read = sink["read"].as_u64().context("a count")?;
    ensure!(read + noted <= VIEWS as u64 + 2 * 20_000 && read < VIEWS as u64, "{read} read, {noted} noted: {sink:#}");
    stream.terminate(SOON).await
}
