//! The third judge, for a sample of the runs: the archive is written as Delta tables, and Polars recomputes every sink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lockstep_batch::recompute::{self, RecomputeError, Side};
use lockstep_shared::archive::{Archive, ArchiveError};
use lockstep_shared::coordinates::{Place, Step};
use lockstep_shared::plan::{Pipeline, Sink};

use super::Ended;
use super::witness::{Documents, Failure};

/// Less than a few records take.
const LITTLE_MEMORY: &str = "2 KiB";

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
        let little = with_little_memory(&ended.pipeline, folder.path());
        parts_agree(&little, sink, &files, &found).map_err(broken)?;
        for pipeline in [&ended.pipeline, &little] {
            changes_lead_there(ended, pipeline, sink, &files, &found).map_err(broken)?;
            rows_agree(pipeline, sink, &files, &found).map_err(broken)?;
        }
    }
    Ok(())
}

/// From the documents of any earlier step, those that changed lead to those at the end.
fn changes_lead_there(
    ended: &Ended,
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    last: &Documents,
) -> Result<(), String> {
    let records = ended.world.archive.iter().flat_map(|stored| &stored.records);
    let steps: BTreeSet<Step> = records.map(|record| record.step).collect();
    let to = Step(i64::MAX.unsigned_abs());
    for from in steps {
        let before = recompute::documents(&ended.pipeline, sink, files, from).map_err(|e| e.to_string())?;
        let mut documents: Documents = before.clone().into_iter().collect();
        let changed = recompute::each_changed(pipeline, sink, files, (from, to), |side, batch| {
            for row in 0..batch.rows() {
                let (id, values) = (batch.id(row), batch.values(row));
                let was = match side {
                    Side::Before => documents.remove(&id),
                    Side::After => documents.insert(id.clone(), values.clone()),
                };
                if was != (side == Side::Before).then_some(values) {
                    return Err(Wrong(format!("{} changed after step {}, which had {was:?}", id, from.0)));
                }
            }
            Ok(())
        });
        let are_all_given = changed.map_err(|Wrong(error)| error)?;
        if are_all_given && documents != *last {
            return Err(format!(
                "{}: from {before:?} of step {} changes lead to {documents:?}, not {last:?}",
                sink.name, from.0
            ));
        }
    }
    Ok(())
}

/// With hardly any memory everything is computed in many parts.
fn with_little_memory(pipeline: &Pipeline, archive: &Path) -> Pipeline {
    let mut little = Pipeline::clone(pipeline);
    little.settings.insert("lockstep.reconcile.memory".into(), LITTLE_MEMORY.into());
    little.settings.insert("lockstep.archive.path".into(), archive.display().to_string());
    little
}

/// With hardly any memory it gives the same.
fn parts_agree(little: &Pipeline, sink: &Sink, files: &[Vec<PathBuf>], whole: &Documents) -> Result<(), String> {
    let parted = recompute::documents(little, sink, files, Step(i64::MAX.unsigned_abs()));
    let parted: Documents = parted.map_err(|e| e.to_string())?.into_iter().collect();
    if parted != *whole {
        return Err(format!("{}: in parts Polars gives {parted:?}, at once {whole:?}", sink.name));
    }
    Ok(())
}

/// Of each row of the leftmost table alone, and of every second one, it gives the documents that are among all.
fn rows_agree(pipeline: &Pipeline, sink: &Sink, files: &[Vec<PathBuf>], whole: &Documents) -> Result<(), String> {
    let to = Step(i64::MAX.unsigned_abs());
    let mut of_row: BTreeMap<Place, Documents> = BTreeMap::new();
    recompute::each_batch(pipeline, sink, files, to, |batch| {
        for row in 0..batch.rows() {
            of_row.entry(batch.leftmost(row)).or_default().insert(batch.id(row), batch.values(row));
        }
        Ok::<_, RecomputeError>(())
    })
    .map_err(|e| e.to_string())?;
    let single = of_row.keys().map(|place| vec![*place]);
    for places in single.chain([of_row.keys().step_by(2).copied().collect()]) {
        let mut found = Documents::default();
        let rows = places.iter().copied().collect();
        recompute::each_batch_of(pipeline, sink, files, to, &rows, |batch| {
            for row in (0..batch.rows()).filter(|row| places.contains(&batch.leftmost(*row))) {
                found.insert(batch.id(row), batch.values(row));
            }
            Ok::<_, RecomputeError>(())
        })
        .map_err(|e| e.to_string())?;
        let expected: Documents = places
            .iter()
            .filter_map(|place| of_row.get(place))
            .flatten()
            .map(|(id, values)| (id.clone(), values.clone()))
            .collect();
        if found != expected || expected.iter().any(|(id, values)| whole.get(id) != Some(values)) {
            return Err(format!("{}: the rows {places:?} give {found:?}, among all {expected:?}", sink.name));
        }
    }
    Ok(())
}

struct Wrong(String);

impl From<RecomputeError> for Wrong {
    fn from(error: RecomputeError) -> Self {
        Self(error.to_string())
    }
}

async fn write(ended: &Ended, folder: &Path) -> Result<(), ArchiveError> {
    for (table, stored) in ended.pipeline.tables.iter().zip(&ended.world.archive) {
        let mut archive = Archive::new(folder).open(table).await?;
        if let Some(note) = &stored.note {
            archive.append(&stored.records, note).await?;
        }
    }
    Ok(())
}
