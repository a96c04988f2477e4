//! What the service knows of itself, for people (the console, `/v1/status`), for machines (`/metrics`) and for whoever waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_shared::coordinates::Step;
use serde::Serialize;

use crate::certificate::LastCertificate;
use crate::join::FanOut;
use crate::lag::Lag;
use crate::rejected::{RejectedRecord, Shown};
use crate::traffic::{Totals, Traffic};

/// Most dead letters kept in memory for display; the file in the state folder has them all.
const DEAD_LETTERS_SHOWN: usize = 1_000;
/// Answers of an index from which its usual latency is told.
const ANSWERS_KEPT: usize = 256;

/// Where a service can be, in the order of its life.
pub const PHASES: [&str; 4] = ["recovering", "replaying", "live", "stopping"];

/// Counts of one table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableStatus {
    /// Records taken since the start, the rejected ones too.
    pub records: u64,
    /// Records taken a second, lately.
    pub records_per_second: f64,
    /// Records that could not be read: they are in the archive with their reason.
    pub rejected: u64,
    /// Fields that the table does not declare.
    pub unknown_fields: u64,
    /// Where each partition stands: the next offset to take.
    pub positions: BTreeMap<i32, i64>,
    /// How far it is behind its log; absent until the log's end is known.
    pub lag: Option<Lag>,
    /// Its rows in the join.
    pub rows: usize,
    /// About how much memory they take.
    pub bytes: usize,
}

/// Counts of one sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStatus {
    /// Documents written and deleted since the start.
    pub written: u64,
    /// The same a second, lately.
    pub written_per_second: f64,
    /// Writes sent again since the start.
    pub retries: u64,
    /// Documents rejected by the index since the start.
    pub dead_letters: u64,
    /// Bulk requests that the index has answered since the start.
    pub bulks: u64,
    /// How long their answers took in all, in seconds.
    pub bulk_seconds: f64,
    /// How long the last answers took, in milliseconds: the middle one, and the one that 95 of 100 are below.
    pub bulk_ms: Option<[u64; 2]>,
    /// How far each joined input multiplies, by its number; nothing for the leftmost.
    #[serde(skip)]
    pub fan_out: Vec<Option<FanOut>>,
    #[serde(skip)]
    answers_ms: VecDeque<u64>,
}

impl SinkStatus {
    /// Notes how long the index took to answer.
    pub fn answered(&mut self, after: &[Duration]) {
        for duration in after {
            self.bulks += 1;
            self.bulk_seconds += duration.as_secs_f64();
            if self.answers_ms.len() == ANSWERS_KEPT {
                self.answers_ms.pop_front();
            }
            self.answers_ms.push_back(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        }
        let mut sorted: Vec<u64> = self.answers_ms.iter().copied().collect();
        sorted.sort_unstable();
        self.bulk_ms =
            sorted.last().is_some().then(|| [50, 95].map(|percent| sorted[(sorted.len() - 1) * percent / 100]));
    }
}

/// Cuts, and how long the sinks were held for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CutStatus {
    /// Cuts since the start.
    pub taken: u64,
    /// How long the sinks were held for all of them, in seconds.
    pub held_seconds: f64,
    /// How long the last one took, in milliseconds.
    pub last_held_ms: Option<f64>,
    /// The longest since the start, in milliseconds.
    pub longest_held_ms: Option<f64>,
}

impl CutStatus {
    /// The sinks were held for this long.
    pub fn held(&mut self, duration: Duration) {
        let ms = duration.as_secs_f64() * 1_000.0;
        self.taken += 1;
        self.held_seconds += duration.as_secs_f64();
        self.last_held_ms = Some(ms);
        self.longest_held_ms = Some(self.longest_held_ms.map_or(ms, |longest| longest.max(ms)));
    }
}

/// A queue between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// What waits in it.
    pub waiting: usize,
    /// What it holds at most; the stage before it waits then.
    pub capacity: usize,
}

/// The queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Queues {
    /// Batches from the sources to the join.
    pub sources: Queue,
    /// Steps from the join to the sinks.
    pub sinks: Queue,
    /// Steps from the join to the archive.
    pub archive: Queue,
}

/// A document that the index will never take.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// The sink table.
    pub sink: String,
    /// The document's `_id`.
    pub id: String,
    /// The step that wrote it.
    pub step: Step,
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
    /// What the program means, in short, by which others know that it is theirs.
    pub program: String,
    /// The last step cut.
    pub step: Step,
    /// The last step that the index has acknowledged.
    pub acknowledged: Step,
    /// The last step in the archive.
    pub archived: Step,
    /// When the archive took its last step, in milliseconds since 1970.
    pub archived_at_ms: Option<i64>,
    /// Rows held by the join.
    pub rows: usize,
    /// By table.
    pub tables: BTreeMap<String, TableStatus>,
    /// By sink.
    pub sinks: BTreeMap<String, SinkStatus>,
    /// Between the stages.
    pub queues: Queues,
    /// Cuts on demand.
    pub cuts: CutStatus,
    /// Documents written and deleted since the start.
    pub written: u64,
    /// Writes sent again since the start.
    pub retries: u64,
    /// Documents rejected by the index since the start.
    pub dead_letters: u64,
    /// What stands in the way now, if anything.
    pub trouble: Option<String>,
    /// The last certificate of a reconcile, where there is one. It is read when somebody asks.
    pub certificate: Option<LastCertificate>,
}

/// The service's shared picture.
#[derive(Debug, Default)]
pub struct Status {
    snapshot: Mutex<Snapshot>,
    letters: Mutex<Letters>,
    rejected: Mutex<Shown>,
    traffic: Mutex<Traffic>,
}

#[derive(Debug, Default)]
struct Letters {
    last: VecDeque<DeadLetter>,
    by_reason: BTreeMap<String, u64>,
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

    /// Notes what has gone through until now, at a moment of a steady clock.
    pub fn sample(&self, at_ms: u64) {
        let (mut snapshot, mut traffic) = (lock(&self.snapshot), lock(&self.traffic));
        let tables = snapshot.tables.iter().map(|(name, table)| (format!("table {name}"), table.records));
        let sinks = snapshot.sinks.iter().map(|(name, sink)| (format!("sink {name}"), sink.written));
        let totals: Totals = tables.chain(sinks).collect();
        traffic.sample(at_ms, totals);
        for (name, table) in &mut snapshot.tables {
            table.records_per_second = traffic.rate(&format!("table {name}"));
        }
        for (name, sink) in &mut snapshot.sinks {
            sink.written_per_second = traffic.rate(&format!("sink {name}"));
        }
    }

    /// What went through in each of the last seconds, oldest first: of names as [`Self::sample`] makes them.
    #[must_use]
    pub fn seconds(&self, names: &[&str]) -> Vec<f64> {
        lock(&self.traffic).seconds(names)
    }

    /// Counts a dead letter and keeps it for display.
    pub fn dead_letter(&self, letter: DeadLetter) {
        self.update(|s| {
            s.dead_letters += 1;
            s.sinks.entry(letter.sink.clone()).or_default().dead_letters += 1;
        });
        let mut letters = lock(&self.letters);
        crate::rejected::count(&mut letters.by_reason, &letter.reason);
        if letters.last.len() == DEAD_LETTERS_SHOWN {
            letters.last.pop_front();
        }
        letters.last.push_back(letter);
    }

    /// The last dead letters, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.letters).last.iter().cloned().collect()
    }

    /// Dead letters since the start by kind of reason.
    #[must_use]
    pub fn dead_letters_by_reason(&self) -> BTreeMap<String, u64> {
        lock(&self.letters).by_reason.clone()
    }

    /// Keeps records that could not be read for display.
    pub fn rejected(&self, records: impl Iterator<Item = RejectedRecord>) {
        let mut shown = lock(&self.rejected);
        records.for_each(|record| shown.add(record));
    }

    /// The last records that could not be read.
    #[must_use]
    pub fn rejected_records(&self) -> Shown {
        lock(&self.rejected).clone()
    }
}

/// A thread that panicked while holding a picture leaves a picture that is still one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_told_from_the_last_answers() {
        let mut sink = SinkStatus::default();
        sink.answered(&[]);
        assert_eq!(sink.bulk_ms, None);
        (0..=1_000).for_each(|ms| sink.answered(&[Duration::from_millis(ms)]));
        assert_eq!((sink.bulks, sink.bulk_ms), (1_001, Some([872, 987])));
    }
}
