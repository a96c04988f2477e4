//! What one table's archive holds: its files, its records, and what its commits say.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use deltalake::{DeltaTable, DeltaTableError};
use futures_util::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;

use super::table::{TableArchive, failed, on_disk};
use super::{ArchiveError, ArchivedRecord, Note, columns};
use crate::coordinates::{Place, Step};

/// Where the note stands in a commit's metadata.
pub const NOTE: &str = "lockstep.note";
/// Where the number of a commit's records stands, so that a missing file is missed.
pub const RECORDS: &str = "lockstep.records";
/// How many commits back a note is looked for: others (an optimize) may have committed since.
const COMMITS_LOOKED_AT: usize = 1_000;

/// What a commit of ours says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its note.
    pub note: Note,
    /// The records that it added.
    pub records: Option<u64>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its partition and offset.
    pub place: Place,
    /// The step that took it.
    pub step: Step,
    /// Whether it could be read.
    pub reading: Reading,
}

/// Whether a record could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is a row or a delete.
    Read,
    /// It is there with its reason.
    Rejected,
}

impl TableArchive {
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

    /// Every commit of ours, from the first on.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub async fn commits(&self) -> Result<Vec<Commit>, ArchiveError> {
        let commits = commits_of(&self.delta, None).await.map_err(failed(&self.path, "read its commits"))?;
        Ok(commits.into_iter().rev().collect())
    }

    /// Where every record stands, without what it says.
    ///
    /// # Errors
    /// Where a file cannot be read or holds something else.
    pub fn places(&self) -> Result<Vec<Placed>, ArchiveError> {
        let mut places = Vec::new();
        for path in self.files()? {
            let file = File::open(&path).map_err(on_disk(&path))?;
            let parquet = |source| ArchiveError::Parquet { path: path.clone(), source: Box::new(source) };
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns::PLACE);
            let reader = builder.with_projection(mask).build().map_err(parquet)?;
            for batch in reader {
                let read = columns::places(&batch.map_err(|e| parquet(e.into()))?);
                places.extend(read.map_err(|column| ArchiveError::Content { path: path.clone(), column })?);
            }
        }
        places.sort_by_key(|placed| (placed.place, placed.step));
        Ok(places)
    }

    /// The records of the steps after one and up to and with another, ordered by step, partition and offset.
    ///
    /// # Errors
    /// Where a file cannot be read or holds something else.
    pub async fn read(&self, after: Step, upto: Step) -> Result<Vec<ArchivedRecord>, ArchiveError> {
        let mut records = Vec::new();
        for path in self.files()? {
            let file = File::open(&path).map_err(on_disk(&path))?;
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
}

/// What the last commit of ours says.
pub async fn last_note(delta: &DeltaTable) -> Result<Option<Note>, DeltaTableError> {
    let commits = commits_of(delta, Some(COMMITS_LOOKED_AT)).await?;
    Ok(commits.into_iter().map(|commit| commit.note).max_by_key(|note| note.step))
}

/// The last commits of ours, the latest first.
async fn commits_of(delta: &DeltaTable, limit: Option<usize>) -> Result<Vec<Commit>, DeltaTableError> {
    let infos: Vec<_> = delta.history(limit).try_collect().await?;
    let commit = |info: &HashMap<String, Json>| {
        let note = serde_json::from_value::<Note>(info.get(NOTE)?.clone()).ok()?;
        Some(Commit { note, records: info.get(RECORDS).and_then(Json::as_u64) })
    };
    Ok(infos.iter().filter_map(|commit_info| commit(&commit_info.info)).collect())
}
