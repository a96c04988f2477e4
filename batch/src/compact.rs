//! Brings the archive's small files together, table by table: see [`lockstep_shared::archive::compact`] for what that guarantees.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_shared::archive::compact::{Compacted, TARGET_BYTES};
use lockstep_shared::archive::{Archive, ArchiveError};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::settings::Settings;
use serde::Serialize;

use crate::lock;

/// Why a compaction failed. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Another one is at it.
    #[error(transparent)]
    Held(#[from] lock::Held),
}

/// What became of one table.
#[derive(Clone, Debug, Serialize)]
pub struct TableCompacted {
    /// What was brought together.
    #[serde(flatten)]
    pub compacted: Compacted,
    /// Files of earlier compactions that were removed.
    pub removed: u64,
}

/// Brings the small files of every table together, and removes those that were replaced longer ago than `remove_after`.
///
/// # Errors
/// Where a file cannot be read or written, or a reconcile, a rebuild or another compaction is at it.
pub async fn compact(
    pipeline: &Pipeline,
    settings: &Settings,
    remove_after: Duration,
    wait: Duration,
) -> Result<BTreeMap<String, TableCompacted>, CompactError> {
    let _lock = lock::take(&settings.archive_path, "a compaction", wait).await?;
    let archive = Archive::new(&settings.archive_path);
    let mut done = BTreeMap::new();
    for table in &pipeline.tables {
        let Some(mut open) = archive.open_existing(table).await? else { continue };
        let compacted = open.compact(TARGET_BYTES).await?;
        let removed = open.remove_replaced(remove_after).await?;
        done.insert(table.name.clone(), TableCompacted { compacted, removed });
    }
    Ok(done)
}
