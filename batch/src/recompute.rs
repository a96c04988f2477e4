//! The documents that should be: the plan over the archive, by Polars.
//!
//! What a table's records leave is a table's rows (`rows`), and those are joined (`join`): in memory, or where that would take
//! more than the setting, in parts, by way of files (`parts`). What changed between two steps is computed without the rest
//! (`changed`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use lockstep_shared::archive::{Archive, ArchiveError, TableArchive};
use lockstep_shared::coordinates::Step;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::plan::{Pipeline, Sink, Table};
use lockstep_shared::value::Value;
use polars::prelude::{DataFrame, Engine, LazyFrame, PlanCallback, PolarsError};
use rustc_hash::FxBuildHasher;

mod rows;
mod join;
mod changed;
mod parts;

pub use changed::{Side, each_changed};
pub(crate) use join::name;
use join::{Wanted, joined, some_joined};
pub use rows::Rows;
pub(crate) use rows::{last_of, standing};

use crate::batch::Batch;

/// Batches that wait while one is worked on.
const BATCHES_WAITING: usize = 2;

/// Documents by id.
pub type Documents = HashMap<DocumentId, Vec<Value>, FxBuildHasher>;

/// Why the documents cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum RecomputeError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Polars.
    #[error("cannot recompute sink {sink}: {source}")]
    Polars {
        /// The sink.
        sink: String,
        /// What it said.
        source: Box<PolarsError>,
    },
    /// A file of a comparison under way.
    #[error("cannot use {path}: {source}{}", lockstep_shared::disk::advice(source))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to read.
    #[error("table {table} has no archive at {path}; run lockstep-stream first, or set lockstep.archive.path")]
    NoArchive {
        /// The table.
        table: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Two joined rows have one id.
    #[error(
        "sink {sink}: two documents have the id {id}; this is a fault of Lockstep, please report it with the program"
    )]
    SameId {
        /// The sink.
        sink: String,
        /// The id.
        id: DocumentId,
    },
}

/// The archived files of each table of the pipeline.
///
/// # Errors
/// Where one has no archive, or it cannot be read.
pub async fn files(pipeline: &Pipeline, root: &Path) -> Result<Vec<Vec<PathBuf>>, RecomputeError> {
    opened(pipeline, root).await?.iter().map(|archive| Ok(archive.files()?)).collect()
}

/// The archive of each table of the pipeline.
///
/// # Errors
/// Where one has no archive, or it cannot be read.
pub(crate) async fn opened(pipeline: &Pipeline, root: &Path) -> Result<Vec<TableArchive>, RecomputeError> {
    let opened = Archive::new(root).open_all_existing(&pipeline.tables).await?;
    let or_missing = |(archive, table): (Option<TableArchive>, &Table)| {
        let missing = || RecomputeError::NoArchive { table: table.name.clone(), path: root.join(&table.name) };
        archive.ok_or_else(missing)
    };
    opened.into_iter().zip(&pipeline.tables).map(or_missing).collect()
}

/// The documents of a sink after step `cut`. It takes processor time and must not run on a thread that others wait for.
///
/// # Errors
/// Where a file cannot be read.
pub fn documents(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
) -> Result<Documents, RecomputeError> {
    let mut documents = Documents::default();
    each_batch(pipeline, sink, files, cut, |batch| {
        for row in 0..batch.rows() {
            let id = batch.id(row);
            if documents.insert(id.clone(), batch.values(row)).is_some() {
                return Err(RecomputeError::SameId { sink: sink.name.clone(), id });
            }
        }
        Ok(())
    })?;
    Ok(documents)
}

/// Gives the documents of a sink after step `cut` to `take`, some at a time and in no order, while Polars goes on. What is
/// in memory at a time are the joined tables, and batches of the leftmost one.
///
/// # Errors
/// Where a file cannot be read, and those of `take`, after which it gives no more.
pub fn each_batch<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let parts = parts::wanted(pipeline, sink, files)?;
    if parts > 1 {
        return parts::each_batch(pipeline, sink, files, (cut, parts), take);
    }
    let frame = joined(pipeline, sink, files, cut).map_err(failed(sink))?;
    in_batches(pipeline, sink, frame, take)
}

/// Gives the documents of some rows of the leftmost input, as [`each_batch`] does: others too where tables
/// would have to be in memory that are larger than what is allowed.
///
/// # Errors
/// Where a file cannot be read, and those of `take`, after which it gives no more.
pub fn each_batch_of<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    rows: &Rows,
    take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match some_joined(pipeline, sink, files, cut, Wanted::Of(rows))? {
        Some(frame) => in_batches(pipeline, sink, frame, take),
        None => each_batch(pipeline, sink, files, cut, take),
    }
}

fn failed(sink: &Sink) -> impl Fn(PolarsError) -> RecomputeError + '_ {
    |source| RecomputeError::Polars { sink: sink.name.clone(), source: Box::new(source) }
}

/// Computes a joined frame, and gives it out while it is under way.
fn in_batches<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    frame: LazyFrame,
    mut take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = failed(sink);
    in_frames(frame, &failed, |mut frame| {
        frame.rechunk_mut();
        take(&Batch::new(pipeline, sink, &frame).map_err(&failed)?)
    })
}

/// Computes a frame, and gives it out piece by piece while it is under way.
fn in_frames<E: From<RecomputeError>>(
    frame: LazyFrame,
    failed: &impl Fn(PolarsError) -> RecomputeError,
    mut take: impl FnMut(DataFrame) -> Result<(), E>,
) -> Result<(), E> {
    let (send, receive) = sync_channel::<DataFrame>(BATCHES_WAITING);
    let gone = PlanCallback::new(move |frame: DataFrame| Ok(send.send(frame).is_err()));
    // As large as they come: to make them equally large would copy them.
    let frame = frame.sink_batches(gone, false, None).map_err(failed)?;
    std::thread::scope(|scope| {
        let running = scope.spawn(move || frame.collect_with_engine(Engine::Streaming).map(drop));
        let mut taken = Ok(());
        for frame in receive {
            taken = take(frame);
            if taken.is_err() {
                break;
            }
        }
        let ran = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and_then(|()| ran.map_err(|e| failed(e).into()))
    })
}
