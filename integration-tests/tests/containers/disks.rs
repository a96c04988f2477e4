//! A full disk under the state and under the archive: the stream ends with a message that says what to do, and goes on
//! where it was once there is room.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lockstep_integration_tests::processes::Program;
use lockstep_integration_tests::{containers, eventually};

use crate::shop::{SOON, Shop, TABLES, Text};

/// Enough for the programs' data of a test, and quickly filled.
const DISK_SIZE: &str = "size=24m";

/// A small disk in memory, mounted for one test.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None` where this user may not mount; a message says so.
    fn mount(path: PathBuf) -> Result<Option<Self>> {
        std::fs::create_dir_all(&path)?;
        let user = Command::new("id").arg("-u").output().context("the id command")?;
        if user.stdout.trim_ascii() != b"0" {
            writeln!(std::io::stderr(), "tests of a full disk did not run: only root may mount a small one")?;
            return Ok(None);
        }
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK_SIZE, "tmpfs"]).arg(&path).output()?;
        if !mounted.status.success() {
            bail!("mount {}: {}", path.display(), String::from_utf8_lossy(&mounted.stderr).trim());
        }
        Ok(Some(Self { path }))
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Leaves not a byte.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.filler())?;
        for block in [vec![0; 1 << 16], vec![0; 1]] {
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where it is still in use, it goes with its last user.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

async fn send_part(shop: &mut Shop, seed: u64) -> Result<()> {
    for (table, _) in TABLES {
        let records = shop.generated(table, seed, 200)?;
        shop.send(table, records).await?;
    }
    Ok(())
}

/// Sends until the stream has ended: a file's last block may take many small writes on a disk that is full.
async fn send_until_it_ends(shop: &mut Shop, stream: &mut Program) -> Result<()> {
    for seed in 100..200 {
        send_part(shop, seed).await?;
        if stream.ended(Duration::from_millis(500)).await.is_ok() {
            return Ok(());
        }
    }
    bail!("it goes on without a byte of room: {}", shop.status().await?)
}

/// The disk fills up while the stream runs, is full at the next start too, and then there is room.
async fn fill_and_make_room(shop: &mut Shop, disk: &Disk) -> Result<()> {
    send_part(shop, 1).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    disk.fill()?;
    send_until_it_ends(shop, &mut stream).await?;
    stream.expect_exit(1, SOON).await?;
    let said = stream.output();
    ensure!(said.contains("make room on that disk and start again: nothing is lost"), "{said}");
    ensure!(said.contains(&disk.path.display().to_string()), "the message names the file: {said}");

    let mut stream = shop.start()?;
    stream.expect_exit(1, SOON).await?;
    ensure!(stream.output().contains("make room on that disk"), "{}", stream.output());

    disk.make_room()?;
    goes_on(shop).await
}

async fn goes_on(shop: &mut Shop) -> Result<()> {
    send_part(shop, 3).await?;
    shop.assert_catches_up().await
}

#[tokio::test]
async fn a_full_disk_under_the_state_ends_the_stream_and_nothing_is_lost() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let mut shop = Shop::on_servers(Text::Keyed, &servers.kafka, &servers.index, 1).await?;
    // Many small steps, which the journal's last block has no room for.
    shop.set("lockstep.step.max-records", "10");
    let Some(disk) = Disk::mount(shop.folder().join("state"))? else { return Ok(()) };
    fill_and_make_room(&mut shop, &disk).await
}

#[tokio::test]
async fn a_full_disk_under_the_archive_ends_the_stream_and_nothing_is_lost() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let Some(disk) = Disk::mount(shop.folder().join("archive"))? else { return Ok(()) };
    fill_and_make_room(&mut shop, &disk).await?;
    // What the full disk cut short is not left behind: a whole Parquet file ends with its magic number.
    for (table, _) in TABLES {
        for file in std::fs::read_dir(disk.path.join(table))?.flatten().map(|entry| entry.path()) {
            let is_parquet = file.extension().is_some_and(|extension| extension == "parquet");
            ensure!(!is_parquet || std::fs::read(&file)?.ends_with(b"PAR1"), "{} is torn", file.display());
        }
    }
    Ok(())
}

/// The embedded index is in the state folder, and asks its writer to wait.
#[tokio::test]
async fn a_full_disk_under_the_embedded_index_is_said_and_nothing_is_lost() -> Result<()> {
    let mut shop = Shop::on_files()?;
    let Some(disk) = Disk::mount(shop.folder().join("state"))? else { return Ok(()) };
    send_part(&mut shop, 1).await?;
    let mut stream = shop.start_live().await?;
    shop.caught_up_and_archived().await?;
    disk.fill()?;
    send_part(&mut shop, 2).await?;
    eventually("the full disk is said", SOON, async || match shop.page("/readyz").await {
        Ok(page) if page.contains("os error 28") => Ok(()),
        Ok(page) => Err(page),
        // The journal is on the same disk.
        Err(_) if stream.output().contains("make room on that disk") => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    })
    .await?;
    disk.make_room()?;
    if stream.ended(Duration::from_millis(10)).await.is_err() {
        shop.caught_up().await.context("it goes on by itself")?;
        stream.terminate(SOON).await?;
    }
    goes_on(&mut shop).await
}
