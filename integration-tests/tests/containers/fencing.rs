//! Two streams on one archive: on one machine the second is refused; where locks do not reach, the later start wins, and
//! whoever was overtaken stops, says so, and nothing that it still writes counts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers::{self, free_port};
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::kafka::Record;
use lockstep_integration_tests::processes::{Program, Signal};
use lockstep_integration_tests::proxy::{Fault, Proxy};
use serde_json::json;

use crate::shop::{SOON, Shop, TABLES, Text};

async fn send_part(shop: &mut Shop, seed: u64) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, 100)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_file() {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// The next start has a copy of the state as it is now, and ports of its own.
fn on_a_copied_state(shop: &mut Shop) -> Result<()> {
    let copy = shop.folder().join("copied-state");
    copy_folder(&shop.folder().join("state"), &copy)?;
    shop.set("lockstep.state.path", &copy.display().to_string());
    shop.set_address(free_port()?);
    Ok(())
}

/// As on a shared disk whose locks another machine does not see.
fn on_another_machine(shop: &Shop) -> Result<()> {
    std::fs::remove_file(shop.folder().join("archive/owner.lock")).context("the archive has a lock")
}

/// Every user moves to a place of that name.
async fn move_users(shop: &mut Shop, place: &str) -> Result<()> {
    let moved = shop.generated("users", 1, 100)?.into_iter().map(|user| {
        let mut row: serde_json::Value = serde_json::from_slice(user.value.as_deref().unwrap_or_default())?;
        row["first_name"] = json!(place);
        Ok(Record { value: Some(row.to_string().into_bytes()), ..user })
    });
    let moved = moved.collect::<Result<Vec<_>>>()?;
    shop.send("users", moved).await
}

async fn overtaken(old: &mut Program) -> Result<()> {
    old.expect_exit(1, SOON).await?;
    let said = old.output();
    ensure!(said.contains("has been taken over by process") && said.contains("copied-state"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_second_stream_on_the_same_archive_is_refused_with_the_name_of_the_first() -> Result<()> {
    let mut shop = Shop::on_files()?;
    send_part(&mut shop, 1).await?;
    let mut first = shop.start_live().await?;
    shop.caught_up().await?;
    on_a_copied_state(&mut shop)?;
    let mut second = shop.start()?;
    second.expect_exit(1, SOON).await?;
    let said = second.output();
    let name = format!("is being written by process {}", first.id());
    ensure!(said.contains(&name) && said.contains("lockstep.archive.path"), "{said}");
    first.terminate(SOON).await
}

#[tokio::test]
async fn l6_a_stopped_stream_that_comes_back_after_another_has_taken_over_loses_and_says_so() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let proxy = Proxy::start(servers.index.url()).await?;
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("product_dashboard.hosts", &proxy.url());
    send_part(&mut shop, 1).await?;
    let mut old = shop.start_live().await?;
    shop.caught_up_and_archived().await?;

    // The old one's next write is under way for longer than it takes the new one to start and to write.
    let (before, late) = (proxy.seen(), Duration::from_secs(20));
    proxy.queue_times(4, &Fault::Delay(late));
    move_users(&mut shop, "Old").await?;
    eventually("the old one's write is under way", SOON, async || {
        let seen = proxy.seen();
        if seen.bulks > before.bulks { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    let delayed = proxy.seen();
    old.signal(Signal::Stop)?;
    proxy.clear();
    on_a_copied_state(&mut shop)?;
    on_another_machine(&shop)?;
    shop.set("product_dashboard.hosts", servers.index.url());
    let mut new = shop.start_live().await?;
    move_users(&mut shop, "New").await?;
    let gone = shop.generated("products", 1, 100)?.into_iter().step_by(2);
    shop.send("products", gone.map(|p| Record::tombstone(p.key.unwrap_or_default())).collect()).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    ensure!(proxy.seen().applied == before.applied, "the old write came too early to try anything: {delayed:?}");

    eventually("the old one's write arrives late", SOON, async || {
        let seen = proxy.seen();
        if seen.applied > before.applied { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    old.signal(Signal::Continue)?;
    overtaken(&mut old).await?;
    shop.assert_index_is_as_expected().await?;
    send_part(&mut shop, 2).await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    new.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

#[tokio::test]
async fn of_two_streams_that_run_the_one_that_came_first_stops_and_may_take_the_archive_back_by_a_decision()
-> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("lockstep.step.max-records", "20");
    send_part(&mut shop, 1).await?;
    let first_state = shop.folder().join("state");
    let mut first = shop.start_live().await?;
    shop.caught_up().await?;
    // In the middle of work, so that the copy's journal and the archive are behind.
    send_part(&mut shop, 2).await?;
    on_a_copied_state(&mut shop)?;
    on_another_machine(&shop)?;
    let mut second = shop.start()?;
    send_part(&mut shop, 3).await?;
    overtaken(&mut first).await?;
    second.wait_for_line("a new epoch begins", SOON).await?;
    move_users(&mut shop, "Second").await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    second.terminate(SOON).await?;

    // A supervisor that starts the first one again does not make them take turns.
    shop.set("lockstep.state.path", &first_state.display().to_string());
    let mut again = shop.start()?;
    again.expect_exit(1, SOON).await?;
    let said = again.output();
    ensure!(said.contains("was taken over by") && said.contains("delete") && said.contains("owner.json"), "{said}");
    std::fs::remove_file(first_state.join("owner.json"))?;
    let mut back = shop.start_live().await?;
    move_users(&mut shop, "Back").await?;
    shop.caught_up_and_archived().await?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    back.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}
