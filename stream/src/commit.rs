//! What the next commit of every table's archive holds. Pure.

use std::collections::BTreeMap;

use lockstep_shared::archive::{ArchivedRecord, Note};
use lockstep_shared::coordinates::{Offset, Partition, Step, TableId};

use crate::progress::Positions;

/// One step for the archive.
#[derive(Debug)]
pub struct Work {
    /// The step.
    pub step: Step,
    /// Its records.
    pub records: Vec<(TableId, ArchivedRecord)>,
    /// Where each partition that it touched stands now.
    pub positions: Positions,
    /// See [`Note::uncertain_after`].
    pub uncertain_after: Option<Step>,
}

/// Steps that wait for a commit.
#[derive(Debug)]
pub struct Gathered {
    tables: Vec<Waiting>,
    size_bytes: usize,
    step: Option<Step>,
    uncertain_after: Option<Step>,
}

#[derive(Debug)]
struct Waiting {
    records: Vec<ArchivedRecord>,
    positions: BTreeMap<Partition, Offset>,
    archived: Step,
}

/// One commit: by table its records and what it notes.
#[derive(Debug)]
pub struct Commit {
    /// The last step in it.
    pub step: Step,
    /// By table, in the pipeline's order.
    pub tables: Vec<(Vec<ArchivedRecord>, Note)>,
}

impl Gathered {
    /// Nothing waits; the last commit of each table noted this.
    #[must_use]
    pub fn after(notes: &[Note]) -> Self {
        let waiting =
            |note: &Note| Waiting { records: Vec::new(), positions: note.positions.clone(), archived: note.step };
        Self { tables: notes.iter().map(waiting).collect(), size_bytes: 0, step: None, uncertain_after: None }
    }

    /// Adds the step that follows.
    pub fn add(&mut self, work: Work) {
        for (table, record) in work.records {
            let waiting = &mut self.tables[table.0];
            // A table may be ahead of the others where a commit was cut short: it has this step already.
            if waiting.archived < work.step {
                self.size_bytes += [&record.key, &record.value].into_iter().flatten().map(Vec::len).sum::<usize>();
                waiting.records.push(record);
            }
        }
        for (channel, offset) in work.positions {
            self.tables[channel.table.0].positions.insert(channel.partition, offset);
        }
        self.step = Some(work.step);
        self.uncertain_after = work.uncertain_after;
    }

    /// Whether no step waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.step.is_none()
    }

    /// Records that wait.
    #[must_use]
    pub fn records(&self) -> usize {
        self.tables.iter().map(|t| t.records.len()).sum()
    }

    /// Bytes of their keys and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Everything that waits, as one commit. Each table gets a note, so that the least of their steps is what the archive
    /// as a whole has.
    pub fn commit(&mut self, acknowledged: Step) -> Option<Commit> {
        let step = self.step.take()?;
        self.size_bytes = 0;
        let acknowledged = acknowledged.min(step);
        let uncertain_after = self.uncertain_after;
        let note = |table: &mut Waiting| {
            let note = Note { step, positions: table.positions.clone(), acknowledged, uncertain_after };
            (std::mem::take(&mut table.records), note)
        };
        Some(Commit { step, tables: self.tables.iter_mut().map(note).collect() })
    }
}
