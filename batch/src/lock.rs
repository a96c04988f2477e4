//! One reconcile or rebuild of an archive at a time: a file that is locked as long as one runs, and says whose it is.
//!
//! The lock is the system's and ends with the process, however that ends. Where a file system has no locks, or the archive's folder
//! cannot be written, there is none, and that is told.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In the archive's folder.
const FILE: &str = "reconcile.lock";
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Others are kept out while it lives.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

/// Somebody else is at it.
#[derive(Debug, thiserror::Error)]
#[error("{holder} is at work on the archive in {archive}; wait for it, or stop it and start again")]
pub struct Held {
    holder: String,
    archive: PathBuf,
}

/// Takes the lock for `what`; waits so long for another one to end.
///
/// # Errors
/// Where it does not.
pub async fn take(archive: &Path, what: &str, wait: Duration) -> Result<Lock, Held> {
    let path = archive.join(FILE);
    let mut file = match OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{} cannot be written, so that a second reconcile is not kept out: {error}", path.display());
            return Ok(Lock { _file: None });
        }
    };
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if began.elapsed() < wait => tokio::time::sleep(TRY_AGAIN).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Held { holder: holder(&mut file), archive: archive.to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{} cannot be locked: {error}", path.display());
                break;
            }
        }
    }
    // The name is for people; without it the lock is as good.
    let _ = sign(&mut file, what);
    Ok(Lock { _file: Some(file) })
}

fn sign(file: &mut File, what: &str) -> io::Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "unknown".into());
    let since = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    write!(file, "{what} (process {} on host {}, since {since})", std::process::id(), host.trim())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text,
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_is_told_who_the_first_is_and_waits_for_it_if_it_may() {
        let archive = tempfile::tempdir().unwrap();
        let first = take(archive.path(), "reconcile", Duration::ZERO).await.unwrap();
        let refused = take(archive.path(), "rebuild", Duration::ZERO).await.unwrap_err().to_string();
        let name = format!("reconcile (process {}", std::process::id());
        assert!(refused.starts_with(&name) && refused.contains("since 20"), "{refused}");
        let (waited, ()) = tokio::join!(take(archive.path(), "rebuild", Duration::from_secs(30)), async {
            tokio::time::sleep(TRY_AGAIN * 2).await;
            drop(first);
        });
        drop(waited.unwrap());
        take(archive.path(), "reconcile", Duration::ZERO).await.unwrap();
    }
}
