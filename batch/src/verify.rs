//! What the archive holds: whether it is whole (every offset at most once, none past the position that its last commit
//! notes), and the records that could not be read.

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

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RejectedRecord {
    /// The table.
    pub table: String,
    /// Where it stands in the log.
    pub partition: i32,
    /// Where it stands in the log.
    pub offset: i64,
    /// The step that took it.
    pub step: u64,
    /// Why it could not be read.
    pub reason: String,
    /// How its key begins; bytes that are no UTF-8 are replaced. The archive has it whole.
    pub key: Option<String>,
    /// How its value begins, likewise.
    pub value: Option<String>,
}

/// Most characters of a key or a value that are shown.
const SHOWN: usize = 200;

/// Every record of the archive that could not be read, by table, step and place.
///
/// # Errors
/// Where the archive cannot be read.
pub async fn rejected(pipeline: &Pipeline, archive: &Archive) -> Result<Vec<RejectedRecord>, ArchiveError> {
    let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).chars().take(SHOWN).collect::<String>();
    let mut found = Vec::new();
    for table in &pipeline.tables {
        let Some(archive) = archive.open_existing(table).await? else { continue };
        for record in archive.read(Step::ZERO, Step(i64::MAX.cast_unsigned())).await? {
            let Content::Rejected(reason) = record.content else { continue };
            found.push(RejectedRecord {
                table: table.name.clone(),
                partition: record.place.partition.0,
                offset: record.place.offset.0,
                step: record.step.0,
                reason: reason.to_string(),
                key: record.key.map(shown),
                value: record.value.map(shown),
            });
        }
    }
    Ok(found)
}
