//! Where records come from: file logs and Kafka topics, each read on a thread of its own into one bounded queue.
//!
//! A full queue stops the threads, so that a slow index is felt at the log. Only this module names librdkafka.

mod ends;
mod file;
mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_shared::coordinates::{Channel, Offset, Partition, TableId};
use lockstep_shared::plan::Table;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

pub use ends::Ends;

use crate::record::RawRecord;

/// Most records of one batch.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of values after which a batch is full: with the queue's length, a bound on what waits for the core.
const BATCH_BYTES: usize = 1024 * 1024;
/// Commits of offsets that wait for a thread; a commit that finds no room is left to the next one.
const COMMITS_QUEUED: usize = 64;

/// What to do where the log is not the one that was read.
const LOG_LOST: &str = "put the log back as it was, or begin with a new archive, state and index";

/// How far the last run has read.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The next offset of each partition; partitions that are not here are read from their beginning.
    pub positions: BTreeMap<Channel, Offset>,
    /// The record that was taken last from each partition. A log that has another one there is another log.
    pub last: BTreeMap<Channel, RawRecord>,
}

/// What a source says.
#[derive(Debug)]
pub enum SourceEvent {
    /// Records of a partition, in order.
    Batch {
        /// The partition.
        channel: Channel,
        /// The records.
        records: Vec<RawRecord>,
        /// The position after them, and after any gap that follows.
        to: Offset,
    },
    /// A partition is there.
    Partition {
        /// The partition.
        channel: Channel,
        /// Where it is read from.
        start: Offset,
        /// Where its log ends now, if that is known.
        end: Option<Offset>,
    },
    /// A partition has been read to the end that it had at the start.
    CaughtUp {
        /// The partition.
        channel: Channel,
    },
    /// A table cannot be read any further.
    Failed {
        /// The table, what happened and what to do.
        reason: String,
    },
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The program lacks an option.
    #[error("table {table} has no option '{option}'")]
    Option {
        /// The table.
        table: String,
        /// The option.
        option: &'static str,
    },
    /// Kafka says no.
    #[error("table {table}: topic {topic} at {servers}: {reason}")]
    Kafka {
        /// The table.
        table: String,
        /// The topic.
        topic: String,
        /// The brokers asked.
        servers: String,
        /// What it said.
        reason: String,
    },
    /// The file system says no.
    #[error("table {table}: {path}: {reason}")]
    File {
        /// The table.
        table: String,
        /// The file or folder.
        path: String,
        /// What it said.
        reason: String,
    },
}

/// What a reading thread needs.
struct Reader {
    id: TableId,
    positions: BTreeMap<Partition, Offset>,
    last: BTreeMap<Partition, RawRecord>,
    events: Sender<SourceEvent>,
    stop: Arc<AtomicBool>,
    ends: Arc<Ends>,
}

impl Reader {
    fn channel(&self, partition: Partition) -> Channel {
        Channel { table: self.id, partition }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.events.is_closed()
    }

    /// Waits for room. That nobody listens any more shows in [`Self::stopped`].
    fn send(&self, event: SourceEvent) {
        let _ = self.events.blocking_send(event);
    }

    fn fail(&self, error: &SourceError) {
        self.send(SourceEvent::Failed { reason: error.to_string() });
    }
}

/// The reading threads.
pub struct Sources {
    stop: Arc<AtomicBool>,
    ends: Arc<Ends>,
    threads: Vec<JoinHandle<()>>,
    commits: BTreeMap<TableId, SyncSender<Vec<(Partition, Offset)>>>,
}

impl Sources {
    /// Starts reading every table.
    ///
    /// # Errors
    /// Where an option is missing or wrong. That a server or file is not there is no error: it is waited for.
    pub fn start(tables: &[Table], reached: &Reached, events: Sender<SourceEvent>) -> Result<Self, SourceError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut sources =
            Self { stop: stop.clone(), ends: Arc::new(Ends::default()), threads: Vec::new(), commits: BTreeMap::new() };
        for (number, table) in tables.iter().enumerate() {
            let id = TableId(number);
            let reader = Reader {
                id,
                positions: of_table(id, &reached.positions),
                last: of_table(id, &reached.last),
                events: events.clone(),
                stop: stop.clone(),
                ends: sources.ends.clone(),
            };
            if table.option("connector") == Some("filesystem") {
                let log = file::FileLog::of(table)?;
                sources.watch(id, {
                    let log = file::FileLog::of(table)?;
                    move || Ok(log.ends())
                });
                sources.threads.push(std::thread::spawn(move || log.read(&reader)));
            } else {
                let topic = kafka::Topic::of(table)?;
                sources.watch(id, kafka::Topic::of(table)?.ends());
                let (commits, requests) = sync_channel(COMMITS_QUEUED);
                sources.commits.insert(id, commits);
                sources.threads.push(std::thread::spawn(move || topic.read(&reader, &requests)));
            }
        }
        Ok(sources)
    }

    /// Asks a log for its ends now and then, on a thread that nobody waits for: it ends soon after the stop.
    fn watch(&self, table: TableId, mut ask: impl FnMut() -> Result<ends::Found, SourceError> + Send + 'static) {
        let (stop, ends) = (self.stop.clone(), self.ends.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match ask() {
                    Ok(found) => found
                        .into_iter()
                        .for_each(|(partition, offset)| ends.found(Channel { table, partition }, offset)),
                    Err(error) => tracing::debug!("the end of the log is not known: {error}"),
                }
                std::thread::sleep(ends::ASK_AGAIN);
            }
        });
    }

    /// Where the logs end.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Tells Kafka's consumer group how far everything is done. For people and their tools: the positions that count are
    /// in the archive and the journal.
    pub fn commit(&self, positions: &[(Channel, Offset)]) {
        for (table, commits) in &self.commits {
            let own: Vec<_> =
                positions.iter().filter(|(c, _)| c.table == *table).map(|(c, offset)| (c.partition, *offset)).collect();
            if !own.is_empty() {
                let _ = commits.try_send(own);
            }
        }
    }

    /// Asks the threads to end; gives word when all have. The queue's receiver must be gone, or be read on.
    pub fn stop(self) -> oneshot::Receiver<()> {
        self.stop.store(true, Ordering::Relaxed);
        let (ended, word) = oneshot::channel();
        std::thread::spawn(move || {
            for thread in self.threads {
                if thread.join().is_err() {
                    tracing::error!("a reading thread had panicked");
                }
            }
            // Nobody waits for it any more where the stop took too long.
            let _ = ended.send(());
        });
        word
    }
}

fn of_table<T: Clone>(id: TableId, by_channel: &BTreeMap<Channel, T>) -> BTreeMap<Partition, T> {
    by_channel.iter().filter(|(c, _)| c.table == id).map(|(c, value)| (c.partition, value.clone())).collect()
}

/// Whether a record of the log is the one that was taken from the same place.
fn is_same(taken: &RawRecord, found: &RawRecord) -> bool {
    let times = taken.timestamp_ms.zip(found.timestamp_ms);
    taken.key == found.key && taken.value == found.value && times.is_none_or(|(taken, found)| taken == found)
}

/// Whether a table's source is there, as a sentence.
///
/// # Errors
/// Where it is not.
pub fn check(table: &Table, patience: Duration) -> Result<String, SourceError> {
    if table.option("connector") == Some("filesystem") {
        file::FileLog::of(table)?.check()
    } else {
        kafka::Topic::of(table)?.check(patience)
    }
}
