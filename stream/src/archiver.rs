//! Brings steps into the archive: gathers them and commits every table together, by time and by count.
//!
//! Each commit writes a note into every table, so that the least of the tables' steps is what the archive as a whole has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_shared::archive::{ArchiveError, ArchivedRecord, Note, TableArchive};
use lockstep_shared::coordinates::{Channel, Offset, Partition, Step, TableId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Most records that wait for a commit; bounds memory.
const RECORDS_IN_A_COMMIT: usize = 200_000;

/// One step for the archive.
#[derive(Debug)]
pub struct Work {
    /// The step.
    pub step: Step,
    /// Its records.
    pub records: Vec<(TableId, ArchivedRecord)>,
    /// Where each partition that it touched stands now.
    pub positions: Vec<(Channel, Offset)>,
}

/// The archive's writer.
pub struct Archiver {
    tables: Vec<TableArchive>,
    waiting: Vec<Vec<ArchivedRecord>>,
    positions: Vec<BTreeMap<Partition, Offset>>,
    step: Option<Step>,
    max_delay: Duration,
    acknowledged: Arc<AtomicU64>,
}

impl Archiver {
    /// A writer of these tables. `acknowledged` is the last step that the index has, for the notes.
    #[must_use]
    pub fn new(tables: Vec<TableArchive>, max_delay: Duration, acknowledged: Arc<AtomicU64>) -> Self {
        let positions = tables.iter().map(|t| t.last().map(|n| n.positions.clone()).unwrap_or_default()).collect();
        Self {
            waiting: tables.iter().map(|_| Vec::new()).collect(),
            positions,
            tables,
            step: None,
            max_delay,
            acknowledged,
        }
    }

    /// Archives what arrives until the queue ends, then what is left, and sends on each step that every table has.
    ///
    /// # Errors
    /// Where the archive cannot be written.
    pub async fn run(
        mut self,
        mut queue: mpsc::Receiver<Work>,
        archived: mpsc::Sender<Step>,
    ) -> Result<(), ArchiveError> {
        let mut due = Instant::now() + self.max_delay;
        loop {
            let work = tokio::select! {
                work = queue.recv() => work,
                () = sleep_until(due), if self.step.is_some() => {
                    self.commit(&archived).await?;
                    due = Instant::now() + self.max_delay;
                    continue;
                }
            };
            let Some(work) = work else { return self.commit(&archived).await };
            if self.step.is_none() {
                due = Instant::now() + self.max_delay;
            }
            self.gather(work);
            if self.waiting.iter().map(Vec::len).sum::<usize>() >= RECORDS_IN_A_COMMIT {
                self.commit(&archived).await?;
            }
        }
    }

    fn gather(&mut self, work: Work) {
        for (table, record) in work.records {
            // A table may be ahead of the others where a commit was cut short: it has this step already.
            if self.tables[table.0].last().is_none_or(|note| note.step < work.step) {
                self.waiting[table.0].push(record);
            }
        }
        for (channel, offset) in work.positions {
            self.positions[channel.table.0].insert(channel.partition, offset);
        }
        self.step = Some(work.step);
    }

    async fn commit(&mut self, archived: &mpsc::Sender<Step>) -> Result<(), ArchiveError> {
        let Some(step) = self.step.take() else { return Ok(()) };
        let acknowledged = Step(self.acknowledged.load(Ordering::Relaxed)).min(step);
        for (number, table) in self.tables.iter_mut().enumerate() {
            let records = std::mem::take(&mut self.waiting[number]);
            let note = Note { step, positions: self.positions[number].clone(), acknowledged };
            table.append(&records, &note).await?;
        }
        // Nobody listens any more only when the service is ending; the commit stands all the same.
        let _ = archived.send(step).await;
        Ok(())
    }
}
