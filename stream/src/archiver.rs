//! Brings steps into the archive: gathers them and commits every table together, by time and by count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_shared::archive::{ArchiveError, Note, TableArchive};
use lockstep_shared::coordinates::Step;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::commit::{Gathered, Work};

/// Most records that wait for a commit; bounds memory.
const RECORDS_IN_A_COMMIT: usize = 200_000;
/// Bytes after which it does not wait for more, for records that are large.
const BYTES_IN_A_COMMIT: usize = 64 * 1024 * 1024;

/// What comes to the archive, in order.
#[derive(Debug)]
pub enum ArchiveWork {
    /// A step.
    Step(Work),
    /// Do not wait for more.
    Commit,
}

/// The archive's writer.
pub struct Archiver {
    tables: Vec<TableArchive>,
    gathered: Gathered,
    max_delay: Duration,
    acknowledged: Arc<AtomicU64>,
}

impl Archiver {
    /// A writer of these tables. `acknowledged` is the last step that the index has, for the notes.
    #[must_use]
    pub fn new(tables: Vec<TableArchive>, max_delay: Duration, acknowledged: Arc<AtomicU64>) -> Self {
        let notes: Vec<Note> = tables.iter().map(|t| t.last().cloned().unwrap_or_default()).collect();
        Self { gathered: Gathered::after(&notes), tables, max_delay, acknowledged }
    }

    /// Archives what arrives until the queue ends, then what is left, and sends on each step that every table has.
    ///
    /// # Errors
    /// Where the archive cannot be written.
    pub async fn run(
        mut self,
        mut queue: mpsc::Receiver<ArchiveWork>,
        archived: mpsc::Sender<Step>,
    ) -> Result<(), ArchiveError> {
        let mut due = Instant::now() + self.max_delay;
        loop {
            let work = tokio::select! {
                work = queue.recv() => work,
                () = sleep_until(due), if !self.gathered.is_empty() => {
                    self.commit(&archived).await?;
                    due = Instant::now() + self.max_delay;
                    continue;
                }
            };
            let work = match work {
                Some(ArchiveWork::Step(work)) => work,
                Some(ArchiveWork::Commit) => {
                    self.commit(&archived).await?;
                    continue;
                }
                None => return self.commit(&archived).await,
            };
            if self.gathered.is_empty() {
                due = Instant::now() + self.max_delay;
            }
            self.gathered.add(work);
            if self.gathered.records() >= RECORDS_IN_A_COMMIT || self.gathered.size_bytes() >= BYTES_IN_A_COMMIT {
                self.commit(&archived).await?;
            }
        }
    }

    async fn commit(&mut self, archived: &mpsc::Sender<Step>) -> Result<(), ArchiveError> {
        let acknowledged = Step(self.acknowledged.load(Ordering::Relaxed));
        let Some(commit) = self.gathered.commit(acknowledged) else { return Ok(()) };
        for (table, (records, note)) in self.tables.iter_mut().zip(&commit.tables) {
            table.append(records, note).await?;
        }
        // Nobody listens any more only when the service is ending; the commit stands all the same.
        let _ = archived.send(commit.step).await;
        Ok(())
    }
}
