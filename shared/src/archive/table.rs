//! One table's archive: written with the Parquet writer, committed to the Delta log.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use deltalake::checkpoints;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Add, DataType as DeltaType, PrimitiveType, StructField, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError, ensure_table_uri};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde_json::Value as Json;

use super::owner::Ownership;
use super::reading::{NOTE, RECORDS, last_note};
use super::{ArchiveError, ArchivedRecord, Note};
use super::{columns, log};
use crate::plan::Table;
use crate::types::DataType;

/// The application of the `txn` actions.
const APPLICATION: &str = "lockstep";
/// Where the commit that takes a table over says for whom.
const OWNER: &str = "lockstep.owner";
/// How often a commit that found another one in its place is tried again: a compaction finds one every few seconds, a
/// stream a compaction now and then, never a second stream.
const ATTEMPTS: usize = 10;
/// Commits between two checkpoints, so that an archive of years opens in seconds.
const COMMITS_TO_CHECKPOINT: u64 = 100;

/// One table's archive, open.
#[derive(Debug)]
pub struct TableArchive {
    pub(super) path: PathBuf,
    pub(super) table: Table,
    pub(super) delta: DeltaTable,
    last: Option<Note>,
    owner: Option<Arc<Ownership>>,
}

impl TableArchive {
    pub(super) async fn open_or_create(
        path: PathBuf,
        table: &Table,
        owner: Option<Arc<Ownership>>,
    ) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(&path).map_err(on_disk(&path))?;
        let path = path.canonicalize().map_err(on_disk(&path))?;
        if let Some(torn) = log::set_aside_torn(&path).map_err(on_disk(&path))? {
            tracing::warn!("a commit that a power cut left torn is set aside: {}", torn.display());
        }
        let delta = if log::versions(&path).map_err(on_disk(&path))?.is_empty() {
            create(&path, table).await?
        } else {
            load_without_torn_checkpoint(&path).await?
        };
        let mut archive = Self { path, table: table.clone(), delta, last: None, owner };
        archive.check_schema()?;
        archive.take_over().await?;
        archive.last = last_note(&archive.delta).await.map_err(failed(&archive.path, "read its last commits"))?;
        Ok(archive)
    }

    pub(super) async fn open_existing(path: &Path, table: &Table) -> Result<Option<Self>, ArchiveError> {
        if log::versions(path).map_err(on_disk(path))?.is_empty() {
            return Ok(None);
        }
        let path = path.canonicalize().map_err(on_disk(path))?;
        let delta = load(&path).await?;
        let last = last_note(&delta).await.map_err(failed(&path, "read its last commits"))?;
        let archive = Self { path, table: table.clone(), delta, last, owner: None };
        archive.check_schema()?;
        Ok(Some(archive))
    }

    /// What the last commit of ours says.
    #[must_use]
    pub fn last(&self) -> Option<&Note> {
        self.last.as_ref()
    }

    /// What tells this table from one that was made anew in its place.
    ///
    /// # Errors
    /// Where the Delta log does not say.
    pub fn identity(&self) -> Result<String, ArchiveError> {
        let snapshot = self.delta.snapshot().map_err(failed(&self.path, "read its state"))?;
        Ok(snapshot.metadata().id().to_owned())
    }

    /// The Delta table's version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.delta.version().and_then(|v| i64::try_from(v).ok()).unwrap_or(-1)
    }

    /// Adds records. A note that is not later than the last one changes nothing: its steps are there already. When this
    /// returns, they are on disk.
    ///
    /// # Errors
    /// Where a file or the commit cannot be written, or another stream has taken the archive over; then nothing of it
    /// counts.
    pub async fn append(&mut self, records: &[ArchivedRecord], note: &Note) -> Result<(), ArchiveError> {
        if self.last.as_ref().is_some_and(|last| last.step >= note.step) {
            return Ok(());
        }
        let mut actions = Vec::new();
        if !records.is_empty() {
            actions.push(Action::Add(self.write(records)?));
        }
        let transaction = Transaction::new(APPLICATION, note.step.0.cast_signed());
        let metadata = [(NOTE.to_owned(), json(note)), (RECORDS.to_owned(), json(&records.len()))];
        let properties = CommitProperties::default().with_metadata(metadata).with_application_transaction(transaction);
        self.commit(&actions, properties).await?;
        self.last = Some(note.clone());
        Ok(())
    }

    /// A commit that says who writes the table now. A writer that still works on an older version of it fails.
    async fn take_over(&mut self) -> Result<(), ArchiveError> {
        let Some(owner) = self.owner.clone() else { return Ok(()) };
        let transaction = Transaction::new(OWNER, chrono::Utc::now().timestamp_millis());
        let properties = CommitProperties::default()
            .with_metadata([(OWNER.to_owned(), json(owner.owner()))])
            .with_application_transaction(transaction);
        self.commit(&[], properties).await
    }

    async fn commit(&mut self, actions: &[Action], properties: CommitProperties) -> Result<(), ArchiveError> {
        let append = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        self.commit_on_top(actions, &append, properties, Self::check_owner).await
    }

    fn check_owner(&self) -> Result<(), ArchiveError> {
        self.owner.as_ref().map_or(Ok(()), |owner| Ok(owner.check()?))
    }

    /// Commits on top of the version that is loaded. Where there is another one already it goes on top of that one, as long
    /// as `may` still says so.
    pub(super) async fn commit_on_top(
        &mut self,
        actions: &[Action],
        operation: &DeltaOperation,
        properties: CommitProperties,
        may: impl Fn(&Self) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        // The library would put the commit on top of anybody's; whether it may is not its to know. The checkpoint and the
        // notes are ours to care for too: a commit is on disk before a checkpoint stands on it.
        let properties =
            properties.with_max_retries(0).with_create_checkpoint(false).with_cleanup_expired_logs(Some(false));
        for _ in 0..ATTEMPTS {
            may(self)?;
            let snapshot = self.delta.snapshot().map_err(failed(&self.path, "read its state"))?;
            let commit = CommitBuilder::from(properties.clone()).with_actions(actions.to_vec()).build(
                Some(snapshot),
                self.delta.log_store(),
                operation.clone(),
            );
            match commit.await {
                Ok(done) => return self.committed(done.version()).await,
                Err(DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) }) => {
                    self.delta.update_state().await.map_err(failed(&self.path, "read its state"))?;
                }
                Err(error) => return Err(failed(&self.path, "commit")(error)),
            }
        }
        Err(ArchiveError::Contended { path: self.path.clone() })
    }

    async fn committed(&mut self, version: u64) -> Result<(), ArchiveError> {
        log::sync(&self.path, version).map_err(on_disk(&self.path))?;
        self.delta.update_state().await.map_err(failed(&self.path, "read its state"))?;
        if (version + 1).is_multiple_of(COMMITS_TO_CHECKPOINT) {
            checkpoints::create_checkpoint(&self.delta, None)
                .await
                .map_err(failed(&self.path, "write a checkpoint"))?;
            log::sync_checkpoints(&self.path).map_err(on_disk(&self.path))?;
        }
        Ok(())
    }

    fn write(&self, records: &[ArchivedRecord]) -> Result<Add, ArchiveError> {
        let name = format!("{}.zstd.parquet", uuid::Uuid::new_v4());
        let path = self.path.join(&name);
        let batch = columns::batch(&self.table, records)
            .map_err(|e| ArchiveError::Parquet { path: path.clone(), source: Box::new(e.into()) })?;
        let size_bytes = write_file(&path, &batch).inspect_err(|_| {
            // What a full disk cut short takes room and says nothing; where it cannot be removed either, it is harmless.
            let _ = std::fs::remove_file(&path);
        })?;
        log::sync_file(&self.path).map_err(on_disk(&self.path))?;
        Ok(added(name, size_bytes, records.len() as u64))
    }

    fn check_schema(&self) -> Result<(), ArchiveError> {
        let names = |fields: &[StructField]| {
            fields.iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
        };
        let snapshot = self.delta.snapshot().map_err(failed(&self.path, "read its state"))?;
        let found = names(&snapshot.schema().fields().cloned().collect::<Vec<_>>());
        let expected = names(&delta_fields(&self.table));
        if found == expected { Ok(()) } else { Err(ArchiveError::Schema { path: self.path.clone(), found, expected }) }
    }
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl Fn(DeltaTableError) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Delta { path: path.clone(), action, source: Box::new(source) }
}

pub(super) fn on_disk(path: &Path) -> impl Fn(std::io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Disk { path: path.clone(), source }
}

fn json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_else(|e| unreachable!("numbers and names are always JSON: {e}"))
}

/// The action that adds a file of so many records.
pub(super) fn added(name: String, size_bytes: u64, records: u64) -> Add {
    Add {
        path: name,
        size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(format!("{{\"numRecords\":{records}}}")),
        partition_values: HashMap::new(),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}

/// How the archive's files are written.
pub(super) fn writer_properties() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

/// Writes a whole file and puts it on disk; its size.
fn write_file(path: &Path, batch: &RecordBatch) -> Result<u64, ArchiveError> {
    let parquet = |source| ArchiveError::Parquet { path: path.to_owned(), source: Box::new(source) };
    let file = File::create(path).map_err(on_disk(path))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(writer_properties())).map_err(parquet)?;
    writer.write(batch).map_err(parquet)?;
    let file = writer.into_inner().map_err(parquet)?;
    // The commit makes the file count; it must not be torn then.
    file.sync_all().map_err(on_disk(path))?;
    Ok(file.metadata().map_err(on_disk(path))?.len())
}

/// A checkpoint only saves reading the commits before it: one that cannot be read is set aside.
async fn load_without_torn_checkpoint(path: &Path) -> Result<DeltaTable, ArchiveError> {
    loop {
        match load(path).await {
            Err(error) if log::set_aside_checkpoint(path).map_err(on_disk(path))? => {
                tracing::warn!("the last checkpoint of {} is set aside: {error}", path.display());
            }
            other => return other,
        }
    }
}

async fn load(path: &Path) -> Result<DeltaTable, ArchiveError> {
    let url = ensure_table_uri(path.to_string_lossy()).map_err(failed(path, "open"))?;
    deltalake::open_table(url).await.map_err(failed(path, "open"))
}

async fn create(path: &Path, table: &Table) -> Result<DeltaTable, ArchiveError> {
    CreateBuilder::new()
        .with_location(path.to_string_lossy())
        .with_table_name(&table.name)
        .with_columns(delta_fields(table))
        .await
        .map_err(failed(path, "create"))
}

fn delta_fields(table: &Table) -> Vec<StructField> {
    let typed = table.columns.iter().map(|c| (c.name.as_str(), delta_type(c.data_type)));
    let own = [
        ("_partition", PrimitiveType::Integer),
        ("_offset", PrimitiveType::Long),
        ("_timestamp", PrimitiveType::Timestamp),
        ("_step", PrimitiveType::Long),
        ("_key", PrimitiveType::Binary),
        ("_value", PrimitiveType::Binary),
        ("_error", PrimitiveType::String),
    ];
    typed.chain(own).map(|(name, data_type)| StructField::new(name, DeltaType::Primitive(data_type), true)).collect()
}

fn delta_type(data_type: DataType) -> PrimitiveType {
    match data_type {
        DataType::String => PrimitiveType::String,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::TinyInt => PrimitiveType::Byte,
        DataType::SmallInt => PrimitiveType::Short,
        DataType::Int => PrimitiveType::Integer,
        DataType::BigInt => PrimitiveType::Long,
        DataType::Float => PrimitiveType::Float,
        DataType::Double => PrimitiveType::Double,
        DataType::Decimal { precision, scale } => PrimitiveType::decimal(precision, scale)
            .unwrap_or_else(|e| unreachable!("the binder checks precision and scale: {e}")),
        DataType::Date => PrimitiveType::Date,
        DataType::Timestamp { .. } | DataType::TimestampLtz { .. } => PrimitiveType::Timestamp,
    }
}
