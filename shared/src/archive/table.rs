//! One table's archive: written with the Parquet writer, committed to the Delta log.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, DataType as DeltaType, PrimitiveType, StructField, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError, ensure_table_uri};
use futures_util::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::columns;
use super::{ArchiveError, ArchivedRecord, Note};
use crate::coordinates::Step;
use crate::plan::Table;
use crate::types::DataType;

/// The application of the `txn` actions.
const APPLICATION: &str = "lockstep";
/// Where the note stands in a commit's metadata.
const NOTE: &str = "lockstep.note";
/// How many commits back a note is looked for: others (an optimize) may have committed since.
const COMMITS_LOOKED_AT: usize = 1_000;

/// One table's archive, open.
#[derive(Debug)]
pub struct TableArchive {
    path: PathBuf,
    table: Table,
    delta: DeltaTable,
    last: Option<Note>,
}

impl TableArchive {
    pub(super) async fn open_or_create(path: PathBuf, table: &Table) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(&path).map_err(|source| ArchiveError::Disk { path: path.clone(), source })?;
        let path = path.canonicalize().map_err(|source| ArchiveError::Disk { path: path.clone(), source })?;
        let delta = if path.join("_delta_log").is_dir() { load(&path).await? } else { create(&path, table).await? };
        let last = last_note(&delta).await.map_err(failed(&path, "read its last commits"))?;
        let archive = Self { path, table: table.clone(), delta, last };
        archive.check_schema()?;
        Ok(archive)
    }

    /// What the last commit of ours says.
    #[must_use]
    pub fn last(&self) -> Option<&Note> {
        self.last.as_ref()
    }

    /// The Delta table's version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.delta.version().and_then(|v| i64::try_from(v).ok()).unwrap_or(-1)
    }

    /// Adds records. A note that is not later than the last one changes nothing: its steps are there already.
    ///
    /// # Errors
    /// Where a file or the commit cannot be written; then nothing of it counts.
    pub async fn append(&mut self, records: &[ArchivedRecord], note: &Note) -> Result<(), ArchiveError> {
        if self.last.as_ref().is_some_and(|last| last.step >= note.step) {
            return Ok(());
        }
        let mut actions = Vec::new();
        if !records.is_empty() {
            actions.push(Action::Add(self.write(records)?));
        }
        let transaction = Transaction::new(APPLICATION, note.step.0.cast_signed());
        let note_json = serde_json::to_value(note).unwrap_or_else(|e| unreachable!("numbers are always JSON: {e}"));
        let properties = CommitProperties::default()
            .with_metadata([(NOTE.to_owned(), note_json)])
            .with_application_transaction(transaction)
            .with_create_checkpoint(true)
            // The notes are in the log's own files; they stay until a reader has no use for them.
            .with_cleanup_expired_logs(Some(false));
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let snapshot = self.delta.snapshot().map_err(failed(&self.path, "read its state"))?;
        let commit = CommitBuilder::from(properties).with_actions(actions).build(
            Some(snapshot),
            self.delta.log_store(),
            operation,
        );
        commit.await.map_err(failed(&self.path, "commit"))?;
        self.delta.update_state().await.map_err(failed(&self.path, "read its state"))?;
        self.last = Some(note.clone());
        Ok(())
    }

    fn write(&self, records: &[ArchivedRecord]) -> Result<Add, ArchiveError> {
        let name = format!("{}.zstd.parquet", uuid::Uuid::new_v4());
        let path = self.path.join(&name);
        let disk = |source| ArchiveError::Disk { path: path.clone(), source };
        let parquet = |source| ArchiveError::Parquet { path: path.clone(), source: Box::new(source) };
        let batch = columns::batch(&self.table, records).map_err(|e| parquet(e.into()))?;
        let file = File::create(&path).map_err(disk)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(parquet)?;
        writer.write(&batch).map_err(parquet)?;
        let file = writer.into_inner().map_err(parquet)?;
        // The commit makes the file count; it must not be torn then.
        file.sync_all().map_err(disk)?;
        let size = file.metadata().map_err(disk)?.len();
        Ok(Add {
            path: name,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change: true,
            stats: Some(format!("{{\"numRecords\":{}}}", records.len())),
            partition_values: HashMap::new(),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }

    /// The Parquet files of the current version.
    ///
    /// # Errors
    /// Where the Delta log cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>, ArchiveError> {
        let uris = self.delta.get_file_uris().map_err(failed(&self.path, "list its files"))?;
        let mut files: Vec<PathBuf> = uris
            .map(|uri| match uri.rsplit_once('/') {
                Some((_, name)) => self.path.join(name),
                None => self.path.join(uri),
            })
            .collect();
        files.sort();
        Ok(files)
    }

    /// The records of the steps after one and up to and with another, ordered by step, partition and offset.
    ///
    /// # Errors
    /// Where a file cannot be read or holds something else.
    pub async fn read(&self, after: Step, upto: Step) -> Result<Vec<ArchivedRecord>, ArchiveError> {
        let mut records = Vec::new();
        for path in self.files()? {
            let file = File::open(&path).map_err(|source| ArchiveError::Disk { path: path.clone(), source })?;
            let parquet = |source| ArchiveError::Parquet { path: path.clone(), source: Box::new(source) };
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build()).map_err(parquet)?;
            for batch in reader {
                let batch = batch.map_err(|e| parquet(e.into()))?;
                let read = columns::records(&self.table, &batch);
                let read = read.map_err(|column| ArchiveError::Content { path: path.clone(), column })?;
                records.extend(read.into_iter().filter(|r| r.step > after && r.step <= upto));
            }
        }
        records.sort_by_key(|r| (r.step, r.place));
        Ok(records)
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

fn failed(path: &Path, action: &'static str) -> impl Fn(DeltaTableError) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Delta { path: path.clone(), action, source: Box::new(source) }
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

async fn last_note(delta: &DeltaTable) -> Result<Option<Note>, DeltaTableError> {
    let commits: Vec<_> = delta.history(Some(COMMITS_LOOKED_AT)).try_collect().await?;
    let notes = commits.iter().filter_map(|commit| serde_json::from_value::<Note>(commit.info.get(NOTE)?.clone()).ok());
    Ok(notes.max_by_key(|note| note.step))
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
