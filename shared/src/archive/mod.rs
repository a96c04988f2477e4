//! The archive: the treaty of stream, which writes it, and batch, which reads it.
//!
//! One Delta Lake table of Parquet files per source table, in `<root>/<table>`: the table's columns typed and nullable, and
//! `_partition`, `_offset`, `_timestamp`, `_step`, `_key`, `_value`, `_error`. A record that could not be read has its reason in `_error`
//! and NULL in the typed columns; a delete has neither `_value` nor `_error`, and its key columns.
//!
//! Every commit carries a `txn` action with the last step, and a [`Note`]; a step is never archived twice. A commit goes
//! on top of the one that the writer saw last, or fails: see [`owner`].

mod columns;
pub mod compact;
mod log;
pub mod owner;
mod table;
mod reading;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::coordinates::{Offset, Partition, Place, Step};
use crate::disk;
use crate::history::Content;
use crate::plan::Table;
use owner::{OwnerError, Ownership};

pub use reading::{Commit, Placed, Reading};
pub use table::TableArchive;

/// The folder of certificates, beside the tables: batch leaves them there, and stream shows them.
pub const CERTIFICATES: &str = "certificates";

/// A record as the archive keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedRecord {
    /// The step that took it.
    pub step: Step,
    /// Its partition and offset.
    pub place: Place,
    /// The log's time of it, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key, raw.
    pub key: Option<Vec<u8>>,
    /// Its value, raw.
    pub value: Option<Vec<u8>>,
    /// What it says.
    pub content: Content,
}

/// What a commit says of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Everything of this table up to this step is in its archive.
    pub step: Step,
    /// The next offset to take of each partition.
    pub positions: BTreeMap<Partition, Offset>,
    /// The last step that the index had acknowledged.
    pub acknowledged: Step,
    /// After a lost journal: the last step before those that were lost, as long as the index may hold documents of them
    /// that no one knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain_after: Option<Step>,
}

/// Why the archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The Delta log says no.
    #[error("archive {path}: cannot {action}: {source}{}", advice(source.as_ref()))]
    Delta {
        /// The table's folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: Box<deltalake::DeltaTableError>,
    },
    /// A Parquet file cannot be read or written.
    #[error("archive {path}: {source}{}", advice(source.as_ref()))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Box<parquet::errors::ParquetError>,
    },
    /// The disk says no.
    #[error("archive {path}: {source}{}", advice(source))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Another stream has taken the archive over.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Others commit faster than this one can.
    #[error("archive {path}: others commit to it all the time; let only one lockstep-stream write it")]
    Contended {
        /// The table's folder.
        path: PathBuf,
    },
    /// The files of a compaction are no longer the table's.
    #[error("archive {path}: another compaction has replaced the same files meanwhile; nothing was changed")]
    Replaced {
        /// The table's folder.
        path: PathBuf,
    },
    /// The archive was written for other columns.
    #[error(
        "archive {path} has the columns {found}, the pipeline declares {expected}; use another lockstep.archive.path for another schema"
    )]
    Schema {
        /// The table's folder.
        path: PathBuf,
        /// What the archive has.
        found: String,
        /// What the pipeline declares.
        expected: String,
    },
    /// A file holds something else than the archive's columns.
    #[error("archive {path}: column {column} is not as the archive writes it")]
    Content {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
}

/// What to do about it.
fn advice(source: &(dyn Error + 'static)) -> &'static str {
    match disk::advice(source) {
        "" => {
            "; if a file is missing or damaged, restore it from a backup, or begin with a new archive, state and index while the log has every record"
        }
        advice => advice,
    }
}

/// A folder of tables.
#[derive(Clone, Debug)]
pub struct Archive {
    root: PathBuf,
    owner: Option<Arc<Ownership>>,
}

impl Archive {
    /// The archive in this folder.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), owner: None }
    }

    /// The archive in this folder, as the stream that owns it writes it: others that still write fail.
    #[must_use]
    pub fn owned(root: impl Into<PathBuf>, owner: Arc<Ownership>) -> Self {
        Self { root: root.into(), owner: Some(owner) }
    }

    /// The archive of a table, made if it is not there. What a power cut left torn is set aside.
    ///
    /// # Errors
    /// Where it cannot be opened or made, or has other columns.
    pub async fn open(&self, table: &Table) -> Result<TableArchive, ArchiveError> {
        TableArchive::open_or_create(self.root.join(&table.name), table, self.owner.clone()).await
    }

    /// The archive of a table, if it is there.
    ///
    /// # Errors
    /// Where it cannot be opened, or has other columns.
    pub async fn open_existing(&self, table: &Table) -> Result<Option<TableArchive>, ArchiveError> {
        TableArchive::open_existing(&self.root.join(&table.name), table).await
    }

    /// The same of several tables, in their order, opened side by side.
    ///
    /// # Errors
    /// Where one cannot be opened, or has other columns.
    pub async fn open_all_existing(&self, tables: &[Table]) -> Result<Vec<Option<TableArchive>>, ArchiveError> {
        let opening = tables.iter().map(|table| {
            let (archive, table) = (self.clone(), table.clone());
            tokio::spawn(async move { archive.open_existing(&table).await })
        });
        let opened = join_all(opening.collect::<Vec<_>>()).await.into_iter();
        opened.map(|one| one.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))).collect()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
