//! The third judge, for a sample of the runs: the archive is written as Delta tables, and Polars recomputes every sink.

use lockstep_batch::recompute;
use lockstep_shared::archive::{Archive, ArchiveError};
use lockstep_shared::coordinates::Step;

use super::Ended;
use super::witness::{Documents, Failure};

/// L8: the recompute gives what the definition says.
///
/// # Errors
/// L8, where it does not; where the disk fails, too.
pub fn agrees(ended: &Ended) -> Result<(), Failure> {
    let broken = |error: String| Failure::new("L8", error);
    let folder = tempfile::tempdir().map_err(|error| broken(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| broken(error.to_string()))?;
    runtime.block_on(write(ended, folder.path())).map_err(|error| broken(error.to_string()))?;
    let files = runtime.block_on(recompute::files(&ended.pipeline, folder.path()));
    let files = files.map_err(|error| broken(error.to_string()))?;
    for (sink, expected) in ended.pipeline.sinks.iter().zip(&ended.expected) {
        let found = recompute::documents(&ended.pipeline, sink, &files, Step(i64::MAX.unsigned_abs()));
        let found: Documents = found.map_err(|error| broken(error.to_string()))?.into_iter().collect();
        if found != *expected {
            return Err(broken(format!("{}: Polars gives {found:?}, the definition {expected:?}", sink.name)));
        }
    }
    Ok(())
}

async fn write(ended: &Ended, folder: &std::path::Path) -> Result<(), ArchiveError> {
    for (table, stored) in ended.pipeline.tables.iter().zip(&ended.world.archive) {
        let mut archive = Archive::new(folder).open(table).await?;
        if let Some(note) = &stored.note {
            archive.append(&stored.records, note).await?;
        }
    }
    Ok(())
}
