//! Compaction: many small Parquet files of a table become few large ones, with the same records.
//!
//! The new files and the end of the old ones are one commit, on top of the version that was read, or it is tried again on the next.
//! It has no note and claims nothing: a stream that commits meanwhile finds it in its way, sees that the archive is still its own,
//! and goes on top of it; and since a stream only adds files, what is replaced stays replaceable. The old files stay on disk for
//! whoever reads them, until [`TableArchive::remove_replaced`].

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_array::RecordBatch;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::protocol::DeltaOperation;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::table::{TableArchive, added, failed, on_disk, writer_properties};
use super::{ArchiveError, log};

/// Size that files are brought to: large enough that Parquet's footers do not count, small enough to read in a moment.
pub const TARGET_BYTES: u64 = 128 * 1024 * 1024;
/// What the names of compacted files begin with, so that one without a commit is known.
const PREFIX: &str = "compacted-";
/// The application of the `txn` action, and the metadata that makes a torn commit known as ours.
const COMPACTION: &str = "lockstep.compaction";

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// Files of the table before.
    pub files_before: usize,
    /// Files of the table afterwards.
    pub files_after: usize,
    /// Files that were replaced.
    pub replaced: usize,
    /// Records in them.
    pub records: u64,
}

/// A file of the table.
struct Small {
    path: PathBuf,
    size_bytes: u64,
    remove: Remove,
}

impl TableArchive {
    /// Brings files that are less than half of `target_bytes` together. Only one compaction of a table may run at a time, which
    /// the caller sees to.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or the commit does not succeed; then nothing has changed.
    pub async fn compact(&mut self, target_bytes: u64) -> Result<Compacted, ArchiveError> {
        self.delta.update_state().await.map_err(failed(&self.path, "read its state"))?;
        let all = self.small_files(u64::MAX)?.len();
        let mut compacted = Compacted { files_before: all, files_after: all, ..Compacted::default() };
        for group in grouped(self.small_files(target_bytes / 2)?, target_bytes) {
            let (add, records) = self.merge(&group)?;
            let replaced = group.len();
            self.replace(group.into_iter().map(|small| small.remove).collect(), add).await?;
            compacted.replaced += replaced;
            compacted.records += records;
        }
        compacted.files_after = self.files()?.len();
        Ok(compacted)
    }

    /// Removes the files that compactions have replaced, and those that a killed one has left without a commit, where that was
    /// longer ago than this; how many.
    ///
    /// # Errors
    /// Where the log cannot be read, or a file cannot be removed.
    pub async fn remove_replaced(&mut self, longer_ago: Duration) -> Result<u64, ArchiveError> {
        // Listed before the log is read: what is committed in between is named by it.
        let unfinished = self.compacted_before(longer_ago)?;
        self.delta.update_state().await.map_err(failed(&self.path, "read its state"))?;
        let current: HashSet<PathBuf> = self.files()?.into_iter().collect();
        let removed = log::removed(&self.path).map_err(on_disk(&self.path))?;
        let removed: Vec<(PathBuf, i64)> = removed.into_iter().map(|(name, at)| (self.path.join(name), at)).collect();
        let longer_ago_ms = i64::try_from(longer_ago.as_millis()).unwrap_or(i64::MAX);
        let before_ms = chrono::Utc::now().timestamp_millis().saturating_sub(longer_ago_ms);
        let replaced = removed.iter().filter(|(_, at_ms)| *at_ms <= before_ms).map(|(path, _)| path.clone());
        let is_removed = |path: &PathBuf| removed.iter().any(|(other, _)| other == path);
        let unfinished = unfinished.into_iter().filter(|path| !is_removed(path));
        let mut count = 0;
        for path in replaced.chain(unfinished).filter(|path| !current.contains(path) && path.is_file()) {
            std::fs::remove_file(&path).map_err(on_disk(&path))?;
            count += 1;
        }
        Ok(count)
    }

    /// The files of compactions that were written last longer ago than this.
    fn compacted_before(&self, longer_ago: Duration) -> Result<Vec<PathBuf>, ArchiveError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(on_disk(&self.path))? {
            let entry = entry.map_err(on_disk(&self.path))?;
            let written = entry.metadata().and_then(|metadata| metadata.modified()).map_err(on_disk(&entry.path()))?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_ours && written.elapsed().is_ok_and(|age| age >= longer_ago) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// The files below a size, oldest first.
    fn small_files(&self, below_bytes: u64) -> Result<Vec<Small>, ArchiveError> {
        let snapshot = self.delta.snapshot().map_err(failed(&self.path, "read its state"))?;
        let mut found: Vec<(i64, Small)> = snapshot
            .log_data()
            .into_iter()
            .map(|file| {
                let size_bytes = u64::try_from(file.size()).unwrap_or(0);
                let path = self.path.join(file.path().as_ref());
                (file.modification_time(), Small { path, size_bytes, remove: file.remove_action(false) })
            })
            .filter(|(_, small)| small.size_bytes < below_bytes)
            .collect();
        found.sort_by(|(at, a), (bt, b)| (at, &a.path).cmp(&(bt, &b.path)));
        Ok(found.into_iter().map(|(_, small)| small).collect())
    }

    /// Writes the records of several files into one, and counts them on both sides.
    fn merge(&self, group: &[Small]) -> Result<(Add, u64), ArchiveError> {
        let name = format!("{PREFIX}{}.zstd.parquet", uuid::Uuid::new_v4());
        let path = self.path.join(&name);
        let written = write_merged(&path, group).inspect_err(|_| {
            // Where it cannot be removed either, the next compaction does.
            let _ = std::fs::remove_file(&path);
        })?;
        log::sync_file(&self.path).map_err(on_disk(&self.path))?;
        let add = Add { data_change: false, ..added(name, written.size_bytes, written.records) };
        Ok((add, written.records))
    }

    pub(super) async fn replace(&mut self, removes: Vec<Remove>, add: Add) -> Result<(), ArchiveError> {
        let transaction = Transaction::new(COMPACTION, chrono::Utc::now().timestamp_millis());
        let properties = CommitProperties::default()
            .with_metadata([(COMPACTION.to_owned(), serde_json::Value::from(removes.len()))])
            .with_application_transaction(transaction);
        let target_size = i64::try_from(TARGET_BYTES).unwrap_or(i64::MAX);
        let optimize = DeltaOperation::Optimize { predicate: None, target_size };
        let actions: Vec<Action> =
            std::iter::once(Action::Add(add)).chain(removes.iter().cloned().map(Action::Remove)).collect();
        self.commit_on_top(&actions, &optimize, properties, |table| table.all_are_there(&removes)).await
    }

    /// Somebody else may have replaced them meanwhile; then their records would be there twice.
    fn all_are_there(&self, removes: &[Remove]) -> Result<(), ArchiveError> {
        let current: HashSet<PathBuf> = self.files()?.into_iter().collect();
        let gone = removes.iter().find(|remove| !current.contains(&self.path.join(&remove.path)));
        gone.map_or(Ok(()), |_| Err(ArchiveError::Replaced { path: self.path.clone() }))
    }
}

/// Files that become one, in order: none alone.
fn grouped(files: Vec<Small>, target_bytes: u64) -> Vec<Vec<Small>> {
    let mut groups: Vec<Vec<Small>> = Vec::new();
    let mut size_bytes = 0;
    for small in files {
        match groups.last_mut() {
            Some(group) if size_bytes + small.size_bytes <= target_bytes => {
                size_bytes += small.size_bytes;
                group.push(small);
            }
            _ => {
                size_bytes = small.size_bytes;
                groups.push(vec![small]);
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

struct WrittenFile {
    size_bytes: u64,
    records: u64,
}

fn write_merged(path: &Path, group: &[Small]) -> Result<WrittenFile, ArchiveError> {
    let parquet = |path: &Path, source| ArchiveError::Parquet { path: path.to_owned(), source: Box::new(source) };
    let mut writer: Option<ArrowWriter<File>> = None;
    let (mut expected, mut records) = (0_u64, 0_u64);
    for small in group {
        let from = |source| parquet(&small.path, source);
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&small.path).map_err(on_disk(&small.path))?);
        let builder = builder.map_err(from)?;
        expected += u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        for batch in builder.build().map_err(from)? {
            let batch: RecordBatch = batch.map_err(|error| from(error.into()))?;
            let open = match &mut writer {
                Some(open) => open,
                none => {
                    let file = File::create(path).map_err(on_disk(path))?;
                    let new = ArrowWriter::try_new(file, batch.schema(), Some(writer_properties()));
                    none.insert(new.map_err(|source| parquet(path, source))?)
                }
            };
            open.write(&batch).map_err(|source| parquet(path, source))?;
            records += batch.num_rows() as u64;
        }
    }
    let Some(writer) = writer else {
        return Err(parquet(path, ParquetError::General("the files to be replaced have no records".into())));
    };
    let file = writer.into_inner().map_err(|source| parquet(path, source))?;
    file.sync_all().map_err(on_disk(path))?;
    let size_bytes = file.metadata().map_err(on_disk(path))?.len();
    // What counts is what is in the file, as a reader sees it.
    let reread = ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(on_disk(path))?);
    let there = reread.map_err(|source| parquet(path, source))?.metadata().file_metadata().num_rows();
    if records != expected || u64::try_from(there).ok() != Some(expected) {
        let reason = format!("{expected} records were to be compacted, and {there} are in the new file");
        return Err(parquet(path, ParquetError::General(reason)));
    }
    Ok(WrittenFile { size_bytes, records })
}

#[cfg(test)]
impl TableArchive {
    /// What a compaction of all files is about to commit.
    pub(super) fn merged_all(&self) -> Result<(Add, Vec<Remove>), ArchiveError> {
        let group = self.small_files(u64::MAX)?;
        let (add, _) = self.merge(&group)?;
        Ok((add, group.into_iter().map(|small| small.remove).collect()))
    }
}
