//! What the service knows of itself, for people (`/v1/status`), for machines (`/metrics`) and for whoever waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_shared::coordinates::Step;
use serde::Serialize;

/// Most dead letters kept in memory for `/v1/dead-letters`; the file in the state folder has them all.
const DEAD_LETTERS_SHOWN: usize = 1_000;

/// Where a service can be, in the order of its life.
pub const PHASES: [&str; 4] = ["recovering", "replaying", "live", "stopping"];

/// Counts of one table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableStatus {
    /// Records taken since the start, the rejected ones too.
    pub records: u64,
    /// Records that could not be read: they are in the archive with their reason.
    pub rejected: u64,
    /// Fields that the table does not declare.
    pub unknown_fields: u64,
    /// Where each partition stands: the next offset to take.
    pub positions: BTreeMap<i32, i64>,
}

/// A document that the index will never take.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// The sink table.
    pub sink: String,
    /// The document's `_id`.
    pub id: String,
    /// What the server said.
    pub reason: String,
}

/// A picture of the service.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Where the service is: one of [`PHASES`].
    pub phase: &'static str,
    /// The archive's folder, by which others know that they ask the right stream.
    pub archive: PathBuf,
    /// The last step cut.
    pub step: Step,
    /// The last step that the index has acknowledged.
    pub acknowledged: Step,
    /// The last step in the archive.
    pub archived: Step,
    /// Rows held by the join.
    pub rows: usize,
    /// By table.
    pub tables: BTreeMap<String, TableStatus>,
    /// Documents written and deleted since the start.
    pub written: u64,
    /// Writes sent again since the start.
    pub retries: u64,
    /// Documents rejected by the index since the start.
    pub dead_letters: u64,
    /// What stands in the way now, if anything.
    pub trouble: Option<String>,
}

/// The service's shared picture.
#[derive(Debug, Default)]
pub struct Status {
    snapshot: Mutex<Snapshot>,
    letters: Mutex<VecDeque<DeadLetter>>,
}

impl Status {
    /// Changes the picture.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut lock(&self.snapshot));
    }

    /// The picture now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        lock(&self.snapshot).clone()
    }

    /// Counts a dead letter and keeps it for display.
    pub fn dead_letter(&self, letter: DeadLetter) {
        lock(&self.snapshot).dead_letters += 1;
        let mut letters = lock(&self.letters);
        if letters.len() == DEAD_LETTERS_SHOWN {
            letters.pop_front();
        }
        letters.push_back(letter);
    }

    /// The last dead letters, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.letters).iter().cloned().collect()
    }
}

/// A thread that panicked while holding a picture leaves a picture that is still one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
