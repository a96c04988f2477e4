//! A document at a version that no step justifies: no write of ours beats it until it is repaired, and then every one does.

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::index::Write;
use lockstep_shared::coordinates::Step;
use reqwest::Method;
use serde_json::json;

use crate::shop::{SOON, Shop, TABLES, Text};

/// Far above every step of a test.
const BEYOND: u64 = 1 << 40;

async fn fill(shop: &mut Shop, seed: u64) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, 200)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// One document is replaced and one is made, both at a version beyond the log, and repaired while the stream runs.
async fn poison_and_repair(shop: &mut Shop) -> Result<()> {
    fill(shop, 50).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    let certificate = shop.reconcile(&[], 0).await?;
    let cut = Step(certificate["cut"].as_u64().context("a cut")?);
    let poisoned = shop.documents().await?.swap_remove(3);
    let foreign = "by-nobody";
    let write = |id: &str| Write::Index { id: id.into(), version: BEYOND, document: json!({"brand": "nobody"}) };
    let verdicts = shop.index().bulk(shop.index_name(), &[write(&poisoned.id), write(foreign)]).await?;
    ensure!(verdicts.iter().all(|verdict| verdict.error.is_none()), "{verdicts:?}");

    for (options, code) in [(&[][..], 3), (&["--repair"], 0)] {
        let certificate = shop.reconcile(options, code).await?;
        let sink = &certificate["sinks"][0];
        ensure!([&sink["missing"], &sink["different"], &sink["extra"]] == [0, 1, 1], "{certificate:#}");
        let repaired = (&sink["repair"]["done"], &sink["repair"]["overtaken"]);
        ensure!(options.is_empty() || repaired == (&json!(2), &json!(0)), "{certificate:#}");
    }
    shop.assert_index_is_as_expected().await?;
    // Deletes are remembered again, and a later step's write wins over what was repaired and what was deleted.
    let settings = shop.index().call(Method::GET, &format!("/{}/_settings", shop.index_name()), None).await?;
    ensure!(settings.to_string().contains("\"gc_deletes\":\"1h\""), "{settings}");
    let next = cut.next().version().0;
    for (id, version, status) in
        [(foreign, cut.version().0, 409), (foreign, next, 201), (poisoned.id.as_str(), next, 200)]
    {
        let write = Write::Index { id: id.into(), version, document: poisoned.source.clone() };
        let verdicts = shop.index().bulk(shop.index_name(), &[write]).await?;
        ensure!(verdicts[0].status == status, "{id} at {version}: {verdicts:?}");
    }
    shop.index().bulk(shop.index_name(), &[Write::Delete { id: foreign.into(), version: next }]).await?;
    fill(shop, 51).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    stream.terminate(SOON).await
}

#[tokio::test]
async fn l6_a_version_beyond_the_log_is_repaired_in_elasticsearch_so_that_later_writes_win() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    poison_and_repair(&mut Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?).await
}

#[tokio::test]
async fn l6_a_version_beyond_the_log_is_repaired_in_the_embedded_index_so_that_later_writes_win() -> Result<()> {
    poison_and_repair(&mut Shop::on_files()?).await
}
