//! What is outside of the process: the log, the disk and the archive, each in memory and each with the faults that the
//! real one has. The index has a file of its own.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use lockstep_shared::archive::{ArchivedRecord, Note};
use lockstep_shared::coordinates::{Channel, Offset, Partition, Place, Step, TableId};
use lockstep_shared::history::Content;
use lockstep_shared::index::Operation;
use lockstep_shared::value::Value;
use lockstep_stream::record::RawRecord;

use super::index::Index;
use super::schedule::{Kind, PARTITIONS};
use super::shape::COLUMNS;

/// A record as it was sent, and what its producer meant.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The bytes.
    pub raw: RawRecord,
    /// The meaning. The reason of a rejected one is for the decoder to find.
    pub content: Content,
}

/// The log of one partition.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Its records, in order.
    pub sent: Vec<Sent>,
    /// The offset of the next record.
    pub end: i64,
}

impl Log {
    /// Adds a record of a table whose key has so many columns.
    pub fn append(&mut self, partition: Partition, values: [i64; COLUMNS], kind: Kind, key_columns: usize) {
        let place = Place { partition, offset: Offset(self.end) };
        let raw = RawRecord {
            place,
            timestamp_ms: None,
            key: key_bytes(values, key_columns),
            value: match kind {
                Kind::Row => Some(object(values, COLUMNS, key_columns)),
                Kind::Tombstone => None,
                Kind::Garbage => Some(b"{\"c0\":".to_vec()),
            },
        };
        self.sent.push(Sent { raw, content: content(values, kind, key_columns) });
        self.end += 1;
    }
}

/// A column's value: 0 is NULL, else one less. A key column is never NULL.
fn value(values: [i64; COLUMNS], column: usize, key_columns: usize) -> Option<i64> {
    match values[column] {
        value if column < key_columns => Some(value),
        0 => None,
        value => Some(value - 1),
    }
}

fn content(values: [i64; COLUMNS], kind: Kind, key_columns: usize) -> Content {
    let row = |upto: usize| -> Arc<[Value]> {
        let shown = |column| (column < upto).then(|| value(values, column, key_columns)).flatten();
        (0..COLUMNS).map(|column| shown(column).map_or(Value::Null, Value::Integer)).collect()
    };
    match kind {
        Kind::Row => Content::Row(row(COLUMNS)),
        Kind::Tombstone if key_columns > 0 => Content::Delete(row(key_columns)),
        Kind::Tombstone | Kind::Garbage => Content::Rejected("".into()),
    }
}

/// The first columns as a JSON object.
fn object(values: [i64; COLUMNS], columns: usize, key_columns: usize) -> Vec<u8> {
    let mut json = String::from("{");
    for column in 0..columns {
        let comma = if column > 0 { "," } else { "" };
        // Writing to a String does not fail.
        let _ = match value(values, column, key_columns) {
            Some(value) => write!(json, "{comma}\"c{column}\":{value}"),
            None => write!(json, "{comma}\"c{column}\":null"),
        };
    }
    json.push('}');
    json.into_bytes()
}

fn key_bytes(values: [i64; COLUMNS], key_columns: usize) -> Option<Vec<u8>> {
    match key_columns {
        0 => None,
        1 => Some(values[0].to_string().into_bytes()),
        _ => Some(object(values, key_columns, key_columns)),
    }
}

/// The folder of the state: one file, the journal.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The bytes written.
    pub journal: Vec<u8>,
    /// How many of them are on disk for certain.
    pub synced: usize,
}

impl Disk {
    /// The journal is written anew and put in the old one's place, on disk.
    pub fn replace(&mut self, journal: Vec<u8>) {
        self.synced = journal.len();
        self.journal = journal;
    }

    /// The machine dies: of what is not synced, some bytes are on disk and the rest never was.
    pub fn crash(&mut self, torn: usize) {
        self.journal.truncate(self.synced + torn);
        self.synced = self.journal.len();
    }
}

/// The archive of one table. Commits of it are atomic.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Its records.
    pub records: Vec<ArchivedRecord>,
    /// The note of its last commit.
    pub note: Option<Note>,
}

impl Stored {
    /// Commits. As in the real archive, a note that is not later than the last changes nothing.
    pub fn append(&mut self, records: Vec<ArchivedRecord>, note: Note) {
        if self.note.as_ref().is_none_or(|last| last.step < note.step) {
            self.records.extend(records);
            self.note = Some(note);
        }
    }
}

/// A partition by its numbers.
#[must_use]
pub fn channel(table: usize, partition: usize) -> Channel {
    Channel { table: TableId(table), partition: Partition(i32::try_from(partition).unwrap_or(0)) }
}

/// Everything outside.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The log.
    pub logs: BTreeMap<Channel, Log>,
    /// The state folder.
    pub disk: Disk,
    /// The archive, by table.
    pub archive: Vec<Stored>,
    /// The indexes, by sink.
    pub indexes: Vec<Index>,
    /// Requests on their way that nobody waits for any more, and their sinks.
    pub late: VecDeque<(usize, Vec<Operation>)>,
}

impl World {
    /// Nothing yet, for so many tables and sinks.
    #[must_use]
    pub fn new(tables: usize, sinks: usize) -> Self {
        let channels = (0..tables).flat_map(|table| (0..PARTITIONS).map(move |partition| channel(table, partition)));
        Self {
            logs: channels.map(|channel| (channel, Log::default())).collect(),
            archive: vec![Stored::default(); tables],
            indexes: vec![Index::default(); sinks],
            ..Self::default()
        }
    }

    /// Every record that the archive holds, with its table, in no order.
    pub fn archived(&self) -> impl Iterator<Item = (TableId, &ArchivedRecord)> {
        let tables = self.archive.iter().enumerate();
        tables.flat_map(|(number, stored)| stored.records.iter().map(move |record| (TableId(number), record)))
    }

    /// The last step that any table's archive has.
    #[must_use]
    pub fn last_archived(&self) -> Step {
        self.archive.iter().filter_map(|stored| stored.note.as_ref()).map(|note| note.step).max().unwrap_or_default()
    }

    /// The last step that is not lost with a journal: every table's archive has it, or the index is known to.
    #[must_use]
    pub fn kept(&self) -> Step {
        let step = |stored: &Stored| stored.note.as_ref().map_or(Step::ZERO, |note| note.step);
        let archived = self.archive.iter().map(step).min().unwrap_or_default();
        let acknowledged = self.archive.iter().filter_map(|stored| Some(stored.note.as_ref()?.acknowledged));
        acknowledged.chain([archived]).max().unwrap_or_default()
    }

    /// The request that has been on its way for longest arrives.
    pub fn late_request(&mut self) -> bool {
        match self.late.pop_front() {
            None => false,
            Some((sink, operations)) => {
                self.indexes[sink].write(&operations);
                true
            }
        }
    }
}
