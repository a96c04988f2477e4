//! Files of the state and of the archive that are lost, torn or damaged: what can be made good is, by a new epoch or by
//! reading again, and everything else is refused with the file, the place and what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers;
use lockstep_integration_tests::processes::Program;

use crate::shop::{SOON, Shop, TABLES, Text};
use crate::traffic::Traffic;

/// A stream on servers that was killed with steps in its journal that the archive lacks.
async fn killed(index_is_behind: Behind) -> Result<Option<Shop>> {
    let Some(servers) = containers::shared().await? else { return Ok(None) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 2).await?;
    shop.set("lockstep.step.max-records", "25");
    // The archive is written when the stream stops, which drops those steps from the journal; what is taken after that
    // is journaled, written, and not archived.
    shop.set("lockstep.archive.commit.max-delay", "1 h");
    let mut traffic = Traffic::new(7);
    traffic.burst(&mut shop, 150).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up().await?;
    stream.terminate(SOON).await?;
    let mut stream = shop.start_live().await?;
    traffic.burst(&mut shop, 150).await?;
    if let Behind::Archive = index_is_behind {
        shop.caught_up().await?;
    }
    stream.kill().await?;
    shop.set("lockstep.archive.commit.max-delay", "300 ms");
    traffic.burst(&mut shop, 50).await?;
    Ok(Some(shop))
}

#[derive(Clone, Copy)]
enum Behind {
    /// The index has everything, the archive does not.
    Archive,
    /// The index was written to the moment before.
    Both,
}

async fn everything_is_there(shop: &Shop, stream: &mut Program) -> Result<()> {
    shop.caught_up_and_archived().await.with_context(|| stream.output())?;
    shop.assert_index_is_as_expected().await?;
    shop.reconcile(&[], 0).await?;
    stream.terminate(SOON).await?;
    shop.assert_archive_is_whole().await
}

async fn refused(shop: &Shop, said: &[&str]) -> Result<()> {
    let mut stream = shop.start()?;
    stream.expect_exit(1, SOON).await?;
    let output = stream.output();
    for part in said {
        ensure!(output.contains(part), "expected '{part}' in\n{output}");
    }
    ensure!(!output.contains("panicked"), "{output}");
    Ok(())
}

fn journal(shop: &Shop) -> PathBuf {
    shop.folder().join("state/journal")
}

#[tokio::test]
async fn a_lost_journal_begins_a_new_epoch_and_the_index_is_equal_afterwards() -> Result<()> {
    for behind in [Behind::Archive, Behind::Both] {
        let Some(shop) = killed(behind).await? else { return Ok(()) };
        std::fs::remove_file(journal(&shop))?;
        let mut stream = shop.start_live().await?;
        everything_is_there(&shop, &mut stream).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_new_epoch_that_is_killed_before_its_first_commit_is_gone_on_with() -> Result<()> {
    let Some(mut shop) = killed(Behind::Archive).await? else { return Ok(()) };
    std::fs::remove_file(journal(&shop))?;
    // As a kill between two tables' commits leaves it: one of them lacks the last one. After that came only the start's.
    for path in commits(&shop, "users")?.into_iter().rev().take(2) {
        std::fs::remove_file(path)?;
    }
    shop.set("lockstep.archive.commit.max-delay", "1 h");
    for _ in 0..2 {
        let mut stream = shop.start_live().await?;
        shop.caught_up().await?;
        stream.kill().await?;
    }
    shop.set("lockstep.archive.commit.max-delay", "300 ms");
    let mut stream = shop.start_live().await?;
    everything_is_there(&shop, &mut stream).await
}

#[tokio::test]
async fn a_journal_that_is_damaged_in_the_middle_is_refused_with_its_line() -> Result<()> {
    let Some(shop) = killed(Behind::Archive).await? else { return Ok(()) };
    let whole = std::fs::read(journal(&shop))?;
    let mut damaged = whole.clone();
    let second_line = whole.iter().position(|b| *b == b'\n').context("the journal has lines")? + 1;
    damaged[second_line + 15] ^= 1;
    std::fs::write(journal(&shop), damaged)?;
    let path = format!("{}, line 2: the journal is damaged", journal(&shop).display());
    refused(&shop, &[&path, "move the file away to begin a new epoch"]).await?;
    // A torn end is what a power cut leaves, and is cut away.
    std::fs::write(journal(&shop), [&whole[..], b"0a1b2c3d {\"step\":{\"st"].concat())?;
    let mut stream = shop.start_live().await?;
    everything_is_there(&shop, &mut stream).await
}

#[tokio::test]
async fn an_archive_that_is_gone_while_its_journal_is_not_is_refused() -> Result<()> {
    let Some(shop) = killed(Behind::Archive).await? else { return Ok(()) };
    let (archive, away) = (shop.folder().join("archive"), shop.folder().join("archive-away"));
    std::fs::rename(&archive, &away)?;
    refused(&shop, &["the archive ends with step 0 and the journal goes on with step", "Put back the archive"]).await?;
    std::fs::remove_dir_all(&archive)?;
    std::fs::rename(&away, &archive)?;
    let mut stream = shop.start_live().await?;
    everything_is_there(&shop, &mut stream).await
}

/// The commits of a table, ascending.
fn commits(shop: &Shop, table: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(shop.folder().join("archive").join(table).join("_delta_log"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    found.sort();
    Ok(found)
}

/// As a power cut leaves a file that was not synced.
fn tear(path: &Path, keep: impl FnOnce(&[u8]) -> usize) -> Result<()> {
    let bytes = std::fs::read(path)?;
    Ok(std::fs::write(path, &bytes[..keep(&bytes)])?)
}

#[tokio::test]
async fn a_commit_that_a_power_cut_tore_is_set_aside_and_its_records_are_read_again() -> Result<()> {
    let Some(mut shop) = killed(Behind::Archive).await? else { return Ok(()) };
    let mut stream = shop.start_live().await?;
    Traffic::new(8).burst(&mut shop, 50).await?;
    shop.caught_up_and_archived().await?;
    stream.kill().await?;
    for (round, (table, _)) in TABLES.iter().enumerate() {
        let last = commits(&shop, table)?.pop().context("the table has commits")?;
        match round {
            0 => tear(&last, |_| 0)?,
            1 => tear(&last, |bytes| bytes.len() / 2)?,
            2 => tear(&last, |bytes| bytes.iter().position(|b| *b == b'\n').unwrap_or(0))?,
            _ => tear(&last, |bytes| bytes.len() - 1)?,
        }
    }
    let mut stream = shop.start_live().await?;
    ensure!(stream.output().matches("is set aside").count() == TABLES.len(), "{}", stream.output());
    everything_is_there(&shop, &mut stream).await
}

#[tokio::test]
async fn a_commit_that_others_were_told_of_and_that_is_lost_is_a_gap_that_is_refused() -> Result<()> {
    let Some(shop) = killed(Behind::Archive).await? else { return Ok(()) };
    // The start's own commit, and the one before it, whose steps the journal has dropped.
    for (table, _) in TABLES {
        for path in commits(&shop, table)?.into_iter().rev().take(2) {
            std::fs::rename(&path, path.with_extension("lost"))?;
        }
    }
    refused(&shop, &["the archive ends with step", "the steps between are lost", "Put back the archive"]).await
}

#[tokio::test]
async fn a_file_of_the_archive_that_is_missing_or_damaged_is_refused_by_name() -> Result<()> {
    let Some(shop) = killed(Behind::Archive).await? else { return Ok(()) };
    let folder = shop.folder().join("archive/views");
    let file = std::fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .context("views has a file")?;
    let (whole, name) = (std::fs::read(&file)?, file.display().to_string());
    std::fs::write(&file, &whole[..whole.len() / 2])?;
    refused(&shop, &[&name, "restore it from a backup"]).await?;
    let said = shop.batch(&["archive", "verify"], 1).await?;
    ensure!(said.contains(&name), "{said}");
    std::fs::remove_file(&file)?;
    refused(&shop, &[&name, "restore it from a backup"]).await?;
    let commit = commits(&shop, "views")?.remove(1);
    let log = std::fs::read(&commit)?;
    std::fs::write(&file, &whole)?;
    std::fs::write(&commit, &log[..log.len() / 2])?;
    refused(&shop, &["archive/views", "restore it from a backup"]).await?;
    std::fs::write(&commit, &log)?;
    let mut stream = shop.start_live().await?;
    everything_is_there(&shop, &mut stream).await
}
