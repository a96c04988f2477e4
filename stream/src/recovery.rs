//! The state at the start: a function of the archive and the journal.
//!
//! With A the last step that every table's archive has, S the last that the index has acknowledged and J the last
//! journaled: steps up to A come from the archive, (A, J] are cut from the log as the journal says. Steps up to S change
//! the state in silence, later ones send their changes again at the same versions. Without a journal a new epoch begins
//! after the last archived step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_shared::archive::{Archive, ArchiveError, ArchivedRecord, Note, TableArchive};
use lockstep_shared::coordinates::{Channel, Offset, Partition, Step, TableId};
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::plan::Pipeline;

use crate::core::{Beginning, Core, Limits, Memory};
use crate::group::Work;
use crate::join::{Join, Transients};
use crate::journal::{Boundary, Recorded};
use crate::record::RawRecord;

/// What archive and journal say of the last run.
#[derive(Clone, Debug)]
pub struct Standing {
    notes: Vec<Note>,
    recorded: Recorded,
    memory: Memory,
    archived: Step,
    acknowledged: Step,
    upto: Step,
}

/// The state to go on from.
pub struct Resumed {
    /// The machine, with everything archived in its join.
    pub core: Core,
    /// Where each source is to be read from; partitions that are not here from their beginning.
    pub positions: BTreeMap<Channel, Offset>,
    /// Steps whose changes the index may lack, to be sent again.
    pub again: Vec<Work>,
}

impl Standing {
    /// From the last note of each table and the journal.
    #[must_use]
    pub fn new(notes: Vec<Note>, recorded: Recorded) -> Self {
        let steps = || notes.iter().map(|n| n.step);
        let archived = steps().min().unwrap_or_default();
        let latest = steps().max().unwrap_or_default();
        let acknowledged =
            notes.iter().map(|n| n.acknowledged).chain([recorded.acknowledged]).max().unwrap_or_default();
        let forgotten = recorded.steps.is_empty() && recorded.acknowledged == Step::ZERO;
        let memory = if forgotten && latest > Step::ZERO { Memory::Lost } else { Memory::Whole };
        let upto = match (memory, recorded.steps.iter().map(|b| b.step).find(|step| *step > archived)) {
            // An epoch that has begun and is not archived yet stands on all that the one before it has archived.
            (Memory::Whole, Some(first)) if first.epoch() > archived.epoch() => Step(first.0 - 1),
            (Memory::Whole, _) => archived,
            (Memory::Lost, _) => latest,
        };
        Self { notes, recorded, memory, archived, acknowledged, upto }
    }

    /// The last step that every table's archive has.
    #[must_use]
    pub fn archived(&self) -> Step {
        self.archived
    }

    /// The last step that the index has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Step {
        self.acknowledged
    }

    /// The last step of a table that is taken from its archive.
    #[must_use]
    pub fn upto(&self, table: TableId) -> Step {
        self.notes[table.0].step.min(self.upto)
    }

    /// Brings a join to where the last run left it. `history` is what each table's archive holds up to [`Self::upto`], in
    /// any order.
    #[must_use]
    pub fn resume(self, pipeline: &Arc<Pipeline>, mut history: Vec<HistoryRecord>, limits: Limits) -> Resumed {
        history.sort_by_key(HistoryRecord::order);
        let mut join = Join::new(pipeline.clone());
        let journaled = match self.memory {
            Memory::Whole => self.recorded.steps.iter().filter(|b| b.step > self.archived).cloned().collect(),
            Memory::Lost => VecDeque::new(),
        };
        let step = match self.memory {
            Memory::Whole => self.upto,
            Memory::Lost => self.upto.end_of_epoch(),
        };
        // A run of a later epoch may end before it has passed what the index holds of the epoch that was lost.
        let memory = if step.epoch() > 0 { Memory::Lost } else { self.memory };
        let again = self.bring_up(&mut join, &history, memory);
        let positions = self.positions(pipeline, &journaled);
        let Self { acknowledged, .. } = self;
        let beginning = Beginning { step, journaled, positions: positions.clone(), acknowledged, memory };
        Resumed { core: Core::new(pipeline.clone(), join, limits, beginning), positions, again }
    }

    fn bring_up(&self, join: &mut Join, history: &[HistoryRecord], memory: Memory) -> Vec<Work> {
        let transients = if memory == Memory::Lost { Transients::Delete } else { Transients::Omit };
        let (silent, open) = history.split_at(history.partition_point(|r| r.step <= self.acknowledged));
        join.load(silent);
        let steps = open.chunk_by(|a, b| a.step == b.step);
        steps.map(|records| Work { step: records[0].step, changes: join.apply(records, transients) }).collect()
    }

    /// Where each partition is read from: where the first journaled step that is not archived begins, else where the
    /// archive ends.
    fn positions(&self, pipeline: &Pipeline, journaled: &VecDeque<Boundary>) -> BTreeMap<Channel, Offset> {
        let mut positions = BTreeMap::new();
        for (number, note) in self.notes.iter().enumerate() {
            let channel = |partition| Channel { table: TableId(number), partition };
            positions.extend(note.positions.iter().map(|(partition, offset)| (channel(*partition), *offset)));
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
}

/// Opens the archive of every table and reads what each says of itself.
///
/// # Errors
/// Where one cannot be opened or does not fit the pipeline.
pub async fn open(pipeline: &Pipeline, archive: &Archive) -> Result<(Vec<TableArchive>, Vec<Note>), ArchiveError> {
    let mut tables = Vec::with_capacity(pipeline.tables.len());
    for table in &pipeline.tables {
        tables.push(archive.open(table).await?);
    }
    let notes = tables.iter().map(|t| t.last().cloned().unwrap_or_default()).collect();
    Ok((tables, notes))
}

/// What the archive holds of the steps that the join takes from it.
#[derive(Debug, Default)]
pub struct History {
    /// Its records.
    pub records: Vec<HistoryRecord>,
    /// The last record of each partition, as it stood in the log: whether the log is still the same is seen there.
    pub last: BTreeMap<Channel, RawRecord>,
}

/// Reads the history.
///
/// # Errors
/// Where a file cannot be read.
pub async fn history(tables: &[TableArchive], standing: &Standing) -> Result<History, ArchiveError> {
    let mut history = History::default();
    for (number, table) in tables.iter().enumerate() {
        let table_id = TableId(number);
        let records = table.read(Step::ZERO, standing.upto(table_id)).await?;
        let last: BTreeMap<Partition, usize> =
            records.iter().enumerate().map(|(position, record)| (record.place.partition, position)).collect();
        for (partition, position) in last {
            let ArchivedRecord { place, timestamp_ms, key, value, .. } = records[position].clone();
            let channel = Channel { table: table_id, partition };
            history.last.insert(channel, RawRecord { place, timestamp_ms, key, value });
        }
        history.records.extend(records.into_iter().map(|record| in_history(table_id, record)));
    }
    Ok(history)
}

/// An archived record in the order of everything.
#[must_use]
pub fn in_history(table: TableId, record: ArchivedRecord) -> HistoryRecord {
    let ArchivedRecord { step, place, content, .. } = record;
    HistoryRecord { step, table, place, content }
}
