//! The file log: one file of JSON lines (partition 0), or a folder of `<partition>.jsonl`, tailed.
//!
//! The offset of a record is the byte position of its line. A line without its end waits for the rest. With `key.format`
//! a line is `{"key":…,"value":…,"timestamp":…}`; one that is not goes on as a value, which decoding rejects.
//! A log only grows: one that has become shorter, is gone, or has another line where the last one was taken, is refused.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_shared::coordinates::{Offset, Partition, Place};
use lockstep_shared::plan::Table;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ends::Found;
use super::{BATCH_BYTES, BATCH_RECORDS, LOG_LOST, Reader, SourceError, SourceEvent, is_same};
use crate::record::RawRecord;

/// How often an idle log is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A file log as the table's options name it.
pub struct FileLog {
    table: String,
    path: PathBuf,
    keyed_lines: bool,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    timestamp: Option<i64>,
}

/// Where a file is read.
struct Tail {
    position: Offset,
    /// The line before it.
    last: Option<RawRecord>,
    caught_up: CaughtUp,
}

/// Whether it was said that a file has been read to its end.
#[derive(PartialEq, Eq)]
enum CaughtUp {
    NotYet,
    Said,
}

impl FileLog {
    /// The log of a table.
    pub fn of(table: &Table) -> Result<Self, SourceError> {
        let path =
            table.option("path").ok_or_else(|| SourceError::Option { table: table.name.clone(), option: "path" })?;
        let path = PathBuf::from(path.strip_prefix("file://").unwrap_or(path));
        Ok(Self { table: table.name.clone(), path, keyed_lines: table.option("key.format").is_some() })
    }

    /// Whether the log is there.
    pub fn check(&self) -> Result<String, SourceError> {
        let partitions = self.partitions();
        if partitions.is_empty() {
            return Err(self.failed(&self.path, "there is no such file, nor a folder of <partition>.jsonl"));
        }
        Ok(format!("{} with {} partitions", self.path.display(), partitions.len()))
    }

    fn failed(&self, path: &Path, reason: impl ToString) -> SourceError {
        SourceError::File { table: self.table.clone(), path: path.display().to_string(), reason: reason.to_string() }
    }

    /// The files that are there now.
    fn partitions(&self) -> BTreeMap<Partition, PathBuf> {
        if self.path.is_file() {
            return BTreeMap::from([(Partition(0), self.path.clone())]);
        }
        let Ok(entries) = std::fs::read_dir(&self.path) else { return BTreeMap::new() };
        let files = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
        files.filter_map(|path| Some((Partition(path.file_stem()?.to_str()?.parse().ok()?), path.clone()))).collect()
    }

    /// Where each file ends now.
    pub fn ends(&self) -> Found {
        let length = |path: &Path| std::fs::metadata(path).ok().and_then(|m| i64::try_from(m.len()).ok());
        self.partitions().iter().filter_map(|(partition, path)| Some((*partition, Offset(length(path)?)))).collect()
    }

    /// Reads until the reader is stopped.
    pub fn read(&self, reader: &Reader) {
        if let Err(error) = self.follow(reader) {
            reader.fail(&error);
        }
    }

    fn follow(&self, reader: &Reader) -> Result<(), SourceError> {
        let mut tails: BTreeMap<Partition, Tail> = BTreeMap::new();
        while !reader.stopped() {
            let mut idle = true;
            let there = self.partitions();
            let read = reader.positions.iter().map(|(p, offset)| (p, *offset));
            let read = read.chain(tails.iter().map(|(p, tail)| (p, tail.position)));
            if let Some((partition, offset)) = read.into_iter().find(|(p, o)| o.0 > 0 && !there.contains_key(p)) {
                let reason = format!("partition {partition} was read up to {offset} and is gone; {LOG_LOST}");
                return Err(self.failed(&self.path, reason));
            }
            // All that are there are named before any of them is caught up.
            for (partition, path) in &there {
                if let Entry::Vacant(new) = tails.entry(*partition) {
                    new.insert(self.find(reader, *partition, path)?);
                }
            }
            for (partition, tail) in &mut tails {
                let Some(path) = there.get(partition) else { continue };
                let channel = reader.channel(*partition);
                let records = self.batch(*partition, path, tail)?;
                if let Some(last) = records.last() {
                    idle = false;
                    tail.last = Some(last.clone());
                    reader.send(SourceEvent::Batch { channel, records, to: tail.position });
                } else if tail.caught_up == CaughtUp::NotYet {
                    tail.caught_up = CaughtUp::Said;
                    reader.send(SourceEvent::CaughtUp { channel });
                }
            }
            if idle {
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// A partition that is new to this run.
    fn find(&self, reader: &Reader, partition: Partition, path: &Path) -> Result<Tail, SourceError> {
        let start = reader.positions.get(&partition).copied().unwrap_or(Offset(0));
        let tail = Tail { position: start, last: reader.last.get(&partition).cloned(), caught_up: CaughtUp::NotYet };
        let (mut file, length) = self.open(path, start)?;
        self.check_last(path, &mut file, tail.last.as_ref())?;
        let end = Some(Offset(i64::try_from(length).unwrap_or(i64::MAX)));
        reader.send(SourceEvent::Partition { channel: reader.channel(partition), start, end });
        Ok(tail)
    }

    /// The file and its length, which is at least what was read of it.
    fn open(&self, path: &Path, position: Offset) -> Result<(File, u64), SourceError> {
        let file = File::open(path).map_err(|e| self.failed(path, e))?;
        let length = file.metadata().map_err(|e| self.failed(path, e))?.len();
        if length < u64::try_from(position.0).unwrap_or(0) {
            let reason = format!(
                "has {length} bytes and was read up to {position}: it was cut or replaced, and a log only grows; {LOG_LOST}"
            );
            return Err(self.failed(path, reason));
        }
        Ok((file, length))
    }

    /// Refuses a file that has another line where the last one was taken.
    fn check_last(&self, path: &Path, file: &mut File, last: Option<&RawRecord>) -> Result<(), SourceError> {
        let Some(last) = last else { return Ok(()) };
        let mut lines = self.lines(path, file, last.place.offset)?;
        match lines.next().transpose().map_err(|e| self.failed(path, e))? {
            Some(line) if is_same(last, &self.record(last.place, line.clone())) => Ok(()),
            _ => {
                let offset = last.place.offset;
                let reason = format!(
                    "has another line at byte {offset} than was read from there: it was replaced, and a log only grows; {LOG_LOST}"
                );
                Err(self.failed(path, reason))
            }
        }
    }

    /// The whole lines from a position on, and the position after them.
    fn batch(&self, partition: Partition, path: &Path, tail: &mut Tail) -> Result<Vec<RawRecord>, SourceError> {
        let (mut file, length) = self.open(path, tail.position)?;
        let mut records = Vec::new();
        if Ok(length) == u64::try_from(tail.position.0) {
            return Ok(records);
        }
        self.check_last(path, &mut file, tail.last.as_ref())?;
        let mut size_bytes = 0;
        for line in self.lines(path, &mut file, tail.position)? {
            let line = line.map_err(|e| self.failed(path, e))?;
            let place = Place { partition, offset: tail.position };
            // The line and its end.
            tail.position = Offset(tail.position.0.saturating_add_unsigned(line.len() as u64 + 1));
            size_bytes += line.len();
            records.push(self.record(place, line));
            if records.len() == BATCH_RECORDS || size_bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(records)
    }

    /// The lines that have their end, from a position on.
    fn lines<'f>(
        &self,
        path: &Path,
        file: &'f mut File,
        from: Offset,
    ) -> Result<impl Iterator<Item = std::io::Result<Vec<u8>>> + use<'f>, SourceError> {
        let from = u64::try_from(from.0).unwrap_or(0);
        file.seek(SeekFrom::Start(from)).map_err(|e| self.failed(path, e))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        Ok(std::iter::from_fn(move || {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(_) => (line.pop() == Some(b'\n')).then_some(Ok(line)),
                Err(error) => Some(Err(error)),
            }
        }))
    }

    fn record(&self, place: Place, line: Vec<u8>) -> RawRecord {
        let pair = if self.keyed_lines { serde_json::from_slice::<Pair<'_>>(&line).ok() } else { None };
        match pair {
            Some(Pair { key: Some(key), value, timestamp }) => RawRecord {
                place,
                timestamp_ms: timestamp,
                key: Some(key_bytes(key)),
                value: value.filter(|v| v.get() != "null").map(|v| v.get().as_bytes().to_vec()),
            },
            _ => RawRecord { place, timestamp_ms: None, key: None, value: Some(line) },
        }
    }
}

/// A key that is a JSON string is its text; any other is its JSON.
fn key_bytes(key: &RawValue) -> Vec<u8> {
    serde_json::from_str::<String>(key.get()).map_or_else(|_| key.get().as_bytes().to_vec(), String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path, key_format: Option<&str>) -> FileLog {
        let mut options = BTreeMap::from([("path".to_owned(), path.display().to_string())]);
        options.extend(key_format.map(|format| ("key.format".to_owned(), format.to_owned())));
        FileLog::of(&Table { name: "t".into(), columns: vec![], key: vec![], options }).unwrap()
    }

    fn tail(position: i64, last: Option<RawRecord>) -> Tail {
        Tail { position: Offset(position), last, caught_up: CaughtUp::NotYet }
    }

    #[test]
    fn offsets_are_byte_positions_and_a_line_without_its_end_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{}\n{\"torn").unwrap();
        let log = log(&path, None);
        let mut tail = tail(0, None);
        let records = log.batch(Partition(0), &path, &mut tail).unwrap();
        assert_eq!(records.iter().map(|r| r.place.offset.0).collect::<Vec<_>>(), [0, 8]);
        assert_eq!(tail.position, Offset(11));
        assert_eq!(log.batch(Partition(0), &path, &mut tail).unwrap(), []);
        assert_eq!(tail.position, Offset(11));
    }

    #[test]
    fn a_log_that_was_cut_or_replaced_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{\"a\":2}\n").unwrap();
        let log = log(&path, None);
        let mut read = tail(0, None);
        let last = log.batch(Partition(0), &path, &mut read).unwrap().pop();
        for (content, said) in [("{}\n", "cut or replaced"), ("{\"a\":1}\n{\"a\":3}\n{}\n", "another line at byte 8")] {
            std::fs::write(&path, content).unwrap();
            let refused = log.batch(Partition(0), &path, &mut tail(read.position.0, last.clone())).unwrap_err();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        std::fs::write(&path, "{\"a\":1}\n{\"a\":2}\n{}\n").unwrap();
        assert_eq!(log.batch(Partition(0), &path, &mut tail(read.position.0, last)).unwrap().len(), 1);
    }

    #[test]
    fn a_keyed_line_has_key_value_and_timestamp_and_a_null_value_deletes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(
            &path,
            "{\"key\":\"k\",\"value\":{\"a\":1},\"timestamp\":5}\n{\"key\":\"k\",\"value\":null}\nnonsense\n",
        )
        .unwrap();
        let records = log(&path, Some("raw")).batch(Partition(0), &path, &mut tail(0, None)).unwrap();
        let keys: Vec<_> = records.iter().map(|r| r.key.as_deref()).collect();
        let values: Vec<_> = records.iter().map(|r| r.value.as_deref()).collect();
        let times: Vec<_> = records.iter().map(|r| r.timestamp_ms).collect();
        assert_eq!(keys, [Some(&b"k"[..]), Some(b"k"), None]);
        assert_eq!(values, [Some(&b"{\"a\":1}"[..]), None, Some(b"nonsense")]);
        assert_eq!(times, [Some(5), None, None]);
    }
}
