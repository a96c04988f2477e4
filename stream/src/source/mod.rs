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

pub use ends::Ends;

use crate::record::RawRecord;

/// Most records of one batch.
const BATCH_RECORDS: usize = 1_000;
/// Commits of offsets that wait for a thread; a commit that finds no room is left to the next one.
const COMMITS_QUEUED: usize = 64;

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
        /// The table.
        table: String,
        /// What happened and what to do.
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
    table: Table,
    id: TableId,
    positions: BTreeMap<Partition, Offset>,
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
        self.send(SourceEvent::Failed { table: self.table.name.clone(), reason: error.to_string() });
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
    /// Starts reading every table, each partition from its position or from its beginning.
    ///
    /// # Errors
    /// Where an option is missing or wrong. That a server or file is not there is no error: it is waited for.
    pub fn start(
        tables: &[Table],
        positions: &BTreeMap<Channel, Offset>,
        events: Sender<SourceEvent>,
    ) -> Result<Self, SourceError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut sources =
            Self { stop: stop.clone(), ends: Arc::new(Ends::default()), threads: Vec::new(), commits: BTreeMap::new() };
        for (number, table) in tables.iter().enumerate() {
            let id = TableId(number);
            let own =
                positions.iter().filter(|(c, _)| c.table == id).map(|(c, offset)| (c.partition, *offset)).collect();
            let ends = sources.ends.clone();
            let reader =
                Reader { table: table.clone(), id, positions: own, events: events.clone(), stop: stop.clone(), ends };
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

    /// Ends the threads and waits for them. The queue's receiver must be gone, or be read on.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a reading thread had panicked");
            }
        }
    }
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
