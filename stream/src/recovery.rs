//! The state at the start: a function of the archive and the journal.
//!
//! With A the last step that every table's archive has, S the last that the index has acknowledged and J the last
//! journaled: steps up to A come from the archive, (A, J] are cut from the log as the journal says. Steps up to S change
//! the state in silence, later ones send their changes again at the same versions. Without a journal a new epoch begins
//! after the last archived step; it is claimed in the archive before it has any effect, so that no two lives share one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_shared::archive::{Archive, ArchiveError, ArchivedRecord, Note, TableArchive};
use lockstep_shared::coordinates::{Channel, Offset, Partition, Step, TableId};
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::plan::Pipeline;

use crate::core::{Beginning, Core, Limits};
use crate::group::Work;
use crate::join::{Join, Said};
use crate::journal::{Boundary, Recorded};
use crate::record::RawRecord;
use crate::survey::Uncertainty;

/// What archive and journal say of the last run.
#[derive(Clone, Debug)]
pub struct Standing {
    notes: Vec<Note>,
    claims: Vec<Option<Note>>,
    recorded: Recorded,
    uncertain_after: Option<Step>,
    /// The last step of the state that is taken up.
    step: Step,
    acknowledged: Step,
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
    /// From the last note of each table and the journal, as far as there are any.
    #[must_use]
    pub fn new(notes: Vec<Option<Note>>, recorded: Option<Recorded>) -> Self {
        let known = || notes.iter().flatten();
        let archived = known().map(|note| note.step).min().unwrap_or_default();
        let latest = known().map(|note| note.step).max().unwrap_or_default();
        let uncertain_after = known().filter_map(|note| note.uncertain_after).min();
        let (step, uncertain_after) = match (&recorded, known().next()) {
            (Some(_), _) => (archived, uncertain_after),
            (None, None) => (Step::ZERO, None),
            (None, Some(_)) => (latest.end_of_epoch(), Some(uncertain_after.unwrap_or(archived))),
        };
        let recorded = recorded.unwrap_or_default();
        let acknowledged = known().map(|note| note.acknowledged).chain([recorded.acknowledged]).max();
        let acknowledged = acknowledged.unwrap_or_default();
        let is_claimed = |note: &Option<Note>| note.as_ref().is_some_and(|note| note.step >= step);
        let unclaimed: Vec<bool> = notes.iter().map(|note| !is_claimed(note)).collect();
        // A table that the program has gained since has nothing up to where the others are.
        let notes: Vec<Note> =
            notes.into_iter().map(|note| note.unwrap_or(Note { step: archived, ..Note::default() })).collect();
        let claim = |note: &Note| Note { step, positions: note.positions.clone(), acknowledged, uncertain_after };
        let claims = notes.iter().zip(unclaimed).map(|(note, unclaimed)| unclaimed.then(|| claim(note))).collect();
        Self { notes, claims, recorded, uncertain_after, step, acknowledged }
    }

    /// The last step that every table's archive has, once the claims are in it.
    #[must_use]
    pub fn archived(&self) -> Step {
        self.step
    }

    /// By table what its archive must note before anything has an effect, and only then the journal: that this state
    /// begins here. Most of the time there is nothing to note.
    #[must_use]
    pub fn claims(&self) -> &[Option<Note>] {
        &self.claims
    }

    /// What the journal holds, once the claims are in the archive.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        Recorded { steps: self.recorded.steps.clone(), acknowledged: self.acknowledged }
    }

    /// The last step that the index has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Step {
        self.acknowledged
    }

    /// The last step of a table that is taken from its archive.
    #[must_use]
    pub fn upto(&self, table: TableId) -> Step {
        self.notes[table.0].step.min(self.step)
    }

    /// Brings a join to where the last run left it. `history` is what each table's archive holds up to [`Self::upto`], in
    /// any order.
    #[must_use]
    pub fn resume(self, pipeline: &Arc<Pipeline>, mut history: Vec<HistoryRecord>, limits: Limits) -> Resumed {
        history.sort_by_key(HistoryRecord::order);
        let mut join = Join::new(pipeline.clone());
        let again = self.bring_up(&mut join, &history);
        let journaled = self.recorded.steps.iter().filter(|b| b.step > self.step).cloned().collect();
        let positions = self.positions(pipeline, &journaled);
        let Self { step, acknowledged, uncertain_after, .. } = self;
        let uncertainty = uncertain_after.map(|after| Uncertainty::new(after, step.beginning_of_epoch()));
        let beginning = Beginning { step, journaled, positions: positions.clone(), acknowledged, uncertainty };
        Resumed { core: Core::new(pipeline.clone(), join, limits, beginning), positions, again }
    }

    fn bring_up(&self, join: &mut Join, history: &[HistoryRecord]) -> Vec<Work> {
        let said = if self.uncertain_after.is_some() { Said::Touched } else { Said::Changed };
        let (silent, open) = history.split_at(history.partition_point(|r| r.step <= self.acknowledged));
        join.load(silent);
        let steps = open.chunk_by(|a, b| a.step == b.step);
        steps.map(|records| Work { step: records[0].step, changes: join.apply(records, said) }).collect()
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
pub async fn open(
    pipeline: &Pipeline,
    archive: &Archive,
) -> Result<(Vec<TableArchive>, Vec<Option<Note>>), ArchiveError> {
    let mut tables = Vec::with_capacity(pipeline.tables.len());
    for table in &pipeline.tables {
        tables.push(archive.open(table).await?);
    }
    let notes = tables.iter().map(|t| t.last().cloned()).collect();
    Ok((tables, notes))
}

/// Puts the claims into the archive.
///
/// # Errors
/// Where it cannot be written.
pub async fn claim(tables: &mut [TableArchive], standing: &Standing) -> Result<(), ArchiveError> {
    for (table, claim) in tables.iter_mut().zip(standing.claims()) {
        if let Some(note) = claim {
            table.append(&[], note).await?;
        }
    }
    Ok(())
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
