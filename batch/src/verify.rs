//! Is the archive whole: every offset at most once, none past the position that its last commit notes.

use std::collections::BTreeSet;

use lockstep_shared::archive::{Archive, ArchiveError};
use lockstep_shared::coordinates::Step;
use lockstep_shared::history::Content;
use lockstep_shared::plan::Pipeline;

/// What the archive of one table holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its last step.
    pub step: Step,
    /// Its records.
    pub records: u64,
    /// Those that could not be read.
    pub rejected: u64,
    /// Offsets that are there more than once.
    pub repeated: u64,
    /// Records at or past the position that the last commit notes.
    pub beyond: u64,
}

impl TableReport {
    /// True where every offset is there once, and none is unaccounted for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.repeated == 0 && self.beyond == 0
    }
}

/// Reads the archive of every table.
///
/// # Errors
/// Where one cannot be read.
pub async fn verify(pipeline: &Pipeline, archive: &Archive) -> Result<Vec<TableReport>, ArchiveError> {
    let mut reports = Vec::new();
    for table in &pipeline.tables {
        let Some(archive) = archive.open_existing(table).await? else { continue };
        let note = archive.last().cloned().unwrap_or_default();
        let records = archive.read(Step::ZERO, Step(i64::MAX.cast_unsigned())).await?;
        let mut places = BTreeSet::new();
        let beyond =
            |p: &lockstep_shared::coordinates::Place| note.positions.get(&p.partition).is_none_or(|to| p.offset >= *to);
        reports.push(TableReport {
            table: table.name.clone(),
            step: note.step,
            records: records.len() as u64,
            rejected: records.iter().filter(|r| matches!(r.content, Content::Rejected(_))).count() as u64,
            beyond: records.iter().filter(|r| beyond(&r.place)).count() as u64,
            repeated: records.iter().filter(|r| !places.insert(r.place)).count() as u64,
        });
    }
    Ok(reports)
}
