//! The state at the start: a function of the archive and the journal.
//!
//! With A the last step that every table's archive has, S the last that the index has acknowledged and J the last
//! journaled: steps up to A come from the archive, (A, J] are cut from the log as the journal says. Steps up to S change
//! the state in silence, later ones send their changes again at the same versions. Without a journal a new epoch begins
//! after the last archived step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_shared::archive::{Archive, ArchiveError, ArchivedRecord, Note, TableArchive};
use lockstep_shared::coordinates::{Channel, Offset, Step, TableId};
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::plan::Pipeline;

use crate::core::{Beginning, Core, Limits, Memory};
use crate::join::{Change, Join, Transients};
use crate::journal::Recorded;

/// The state to go on from.
pub struct Recovered {
    /// The machine, with everything archived in its join.
    pub core: Core,
    /// The archive of each table, open.
    pub tables: Vec<TableArchive>,
    /// Where each source is to be read from; partitions that are not here from their beginning.
    pub positions: BTreeMap<Channel, Offset>,
    /// Changes that the index may lack, to be sent again.
    pub again: Vec<(Step, Vec<Change>)>,
    /// The last step that every table's archive has.
    pub archived: Step,
    /// The last step that the index has acknowledged.
    pub acknowledged: Step,
}

/// Reads the archive and brings the join to where the last run left it.
///
/// # Errors
/// Where the archive cannot be read or does not fit the pipeline.
pub async fn recover(
    pipeline: &Arc<Pipeline>,
    archive: &Archive,
    recorded: &Recorded,
    limits: Limits,
) -> Result<Recovered, ArchiveError> {
    let mut tables = Vec::with_capacity(pipeline.tables.len());
    for table in &pipeline.tables {
        tables.push(archive.open(table).await?);
    }
    let notes: Vec<Note> = tables.iter().map(|t| t.last().cloned().unwrap_or_default()).collect();
    let archived = notes.iter().map(|n| n.step).min().unwrap_or_default();
    let latest = notes.iter().map(|n| n.step).max().unwrap_or_default();
    let acknowledged = notes.iter().map(|n| n.acknowledged).chain([recorded.acknowledged]).max().unwrap_or_default();
    let forgotten = recorded.steps.is_empty() && recorded.acknowledged == Step::ZERO;
    let memory = if forgotten && latest > Step::ZERO { Memory::Lost } else { Memory::Whole };
    let (upto, step) = match memory {
        Memory::Whole => (archived, archived),
        Memory::Lost => (latest, latest.end_of_epoch()),
    };

    let history = read(&tables, upto).await?;
    let mut join = Join::new(pipeline.clone());
    let transients = || if memory == Memory::Lost { Transients::Delete } else { Transients::Omit };
    let again = bring_up(&mut join, &history, acknowledged, transients);
    let journaled: VecDeque<_> =
        recorded.steps.iter().filter(|b| b.step > archived && memory == Memory::Whole).cloned().collect();
    let positions = positions(pipeline, &notes, &journaled);
    let beginning = Beginning { step, journaled, positions: positions.clone(), acknowledged, memory };
    let core = Core::new(pipeline.clone(), join, limits, beginning);
    Ok(Recovered { core, tables, positions, again, archived, acknowledged })
}

/// Everything archived up to a step, in the order in which it applies.
async fn read(tables: &[TableArchive], upto: Step) -> Result<Vec<HistoryRecord>, ArchiveError> {
    let mut history = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let own = table.last().map_or(Step::ZERO, |n| n.step).min(upto);
        let records = table.read(Step::ZERO, own).await?;
        history.extend(records.into_iter().map(|ArchivedRecord { step, place, content, .. }| HistoryRecord {
            step,
            table: TableId(number),
            place,
            content,
        }));
    }
    history.sort_by_key(HistoryRecord::order);
    Ok(history)
}

fn bring_up(
    join: &mut Join,
    history: &[HistoryRecord],
    acknowledged: Step,
    transients: impl Fn() -> Transients,
) -> Vec<(Step, Vec<Change>)> {
    let (silent, open) = history.split_at(history.partition_point(|r| r.step <= acknowledged));
    join.load(silent);
    open.chunk_by(|a, b| a.step == b.step).map(|step| (step[0].step, join.apply(step, transients()))).collect()
}

/// Where each partition is read from: where the first journaled step that is not archived begins, else where the archive ends.
fn positions(
    pipeline: &Pipeline,
    notes: &[Note],
    journaled: &VecDeque<crate::journal::Boundary>,
) -> BTreeMap<Channel, Offset> {
    let mut positions = BTreeMap::new();
    for (number, note) in notes.iter().enumerate() {
        positions.extend(
            note.positions
                .iter()
                .map(|(partition, offset)| (Channel { table: TableId(number), partition: *partition }, *offset)),
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    for taken in journaled.iter().flat_map(|b| &b.taken) {
        let Some(table) = pipeline.tables.iter().position(|t| t.name == taken.table) else { continue };
        let channel = Channel { table: TableId(table), partition: taken.partition };
        if seen.insert(channel) {
            positions.insert(channel, taken.range.from);
        }
    }
    positions
}
