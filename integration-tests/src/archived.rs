//! Records in a real archive, without a stream.

use std::path::Path;

use lockstep_shared::archive::{Archive, ArchiveError, ArchivedRecord, Note};
use lockstep_shared::coordinates::TableId;
use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::plan::Pipeline;

/// Archives records in their order; a commit has those of so many steps.
///
/// # Errors
/// Those of the archive.
pub async fn archive(
    pipeline: &Pipeline,
    records: &[HistoryRecord],
    root: &Path,
    steps_in_a_commit: u64,
) -> Result<(), ArchiveError> {
    for (number, table) in pipeline.tables.iter().enumerate() {
        let mut archive = Archive::new(root).open(table).await?;
        let of_table: Vec<&HistoryRecord> = records.iter().filter(|r| r.table == TableId(number)).collect();
        for commit in of_table.chunk_by(|a, b| a.step.0 / steps_in_a_commit == b.step.0 / steps_in_a_commit) {
            let note = Note { step: commit[commit.len() - 1].step, ..Note::default() };
            let archived: Vec<ArchivedRecord> = commit.iter().map(|record| archived(record)).collect();
            archive.append(&archived, &note).await?;
        }
    }
    Ok(())
}

fn archived(record: &HistoryRecord) -> ArchivedRecord {
    let value = (!matches!(record.content, Content::Delete(_))).then(|| b"as it came".to_vec());
    let HistoryRecord { step, place, content, .. } = record.clone();
    ArchivedRecord { step, place, timestamp_ms: None, key: None, value, content }
}
