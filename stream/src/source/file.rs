//! The file log: one file of JSON lines (partition 0), or a folder of `<partition>.jsonl`, tailed.
//!
//! The offset of a record is the byte position of its line. A line without its end waits for the rest. With `key.format`
//! a line is `{"key":…,"value":…,"timestamp":…}`; one that is not goes on as a value, which decoding rejects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_shared::coordinates::{Offset, Partition, Place};
use lockstep_shared::plan::Table;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ends::Found;
use super::{BATCH_RECORDS, Reader, SourceError, SourceEvent};
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
        let mut positions = reader.positions.clone();
        let mut ends: BTreeMap<Partition, Offset> = BTreeMap::new();
        let mut caught_up = BTreeSet::new();
        while !reader.stopped() {
            let mut idle = true;
            for (partition, path) in self.partitions() {
                let position = *positions.entry(partition).or_insert(Offset(0));
                if let std::collections::btree_map::Entry::Vacant(end) = ends.entry(partition) {
                    let length = std::fs::metadata(&path).map_or(0, |m| m.len());
                    let length = *end.insert(Offset(i64::try_from(length).unwrap_or(i64::MAX)));
                    reader.send(SourceEvent::Partition {
                        channel: reader.channel(partition),
                        start: position,
                        end: Some(length),
                    });
                }
                match self.batch(partition, &path, position) {
                    Err(error) => return reader.fail(&error),
                    Ok((records, to)) if to > position => {
                        idle = false;
                        positions.insert(partition, to);
                        reader.send(SourceEvent::Batch { channel: reader.channel(partition), records, to });
                    }
                    Ok(_) => {
                        if caught_up.insert(partition) {
                            reader.send(SourceEvent::CaughtUp { channel: reader.channel(partition) });
                        }
                    }
                }
            }
            if idle {
                std::thread::sleep(POLL);
            }
        }
    }

    /// The whole lines from a position on, and the position after them.
    fn batch(&self, partition: Partition, path: &Path, from: Offset) -> Result<(Vec<RawRecord>, Offset), SourceError> {
        let mut file = File::open(path).map_err(|e| self.failed(path, e))?;
        let length = file.metadata().map_err(|e| self.failed(path, e))?.len();
        let start = u64::try_from(from.0).unwrap_or(0);
        if length < start {
            let reason = format!(
                "has {length} bytes and was read up to {start}: it was cut or replaced; a log only grows. Put it back, or begin with a new state and archive"
            );
            return Err(self.failed(path, reason));
        }
        file.seek(SeekFrom::Start(start)).map_err(|e| self.failed(path, e))?;
        let mut lines = BufReader::with_capacity(1 << 16, file);
        let (mut records, mut to) = (Vec::new(), from);
        while records.len() < BATCH_RECORDS {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line).map_err(|e| self.failed(path, e))?;
            if line.pop() != Some(b'\n') {
                break;
            }
            let place = Place { partition, offset: to };
            to = Offset(to.0 + i64::try_from(read).unwrap_or(0));
            records.push(self.record(place, line));
        }
        Ok((records, to))
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

    #[test]
    fn offsets_are_byte_positions_and_a_line_without_its_end_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{}\n{\"torn").unwrap();
        let log = log(&path, None);
        let (records, to) = log.batch(Partition(0), &path, Offset(0)).unwrap();
        assert_eq!(records.iter().map(|r| r.place.offset.0).collect::<Vec<_>>(), [0, 8]);
        assert_eq!(to, Offset(11));
        assert_eq!(log.batch(Partition(0), &path, to).unwrap(), (vec![], to));
        std::fs::write(&path, "{}\n").unwrap();
        assert!(log.batch(Partition(0), &path, to).unwrap_err().to_string().contains("cut or replaced"));
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
        let (records, _) = log(&path, Some("raw")).batch(Partition(0), &path, Offset(0)).unwrap();
        let keys: Vec<_> = records.iter().map(|r| r.key.as_deref()).collect();
        let values: Vec<_> = records.iter().map(|r| r.value.as_deref()).collect();
        let times: Vec<_> = records.iter().map(|r| r.timestamp_ms).collect();
        assert_eq!(keys, [Some(&b"k"[..]), Some(b"k"), None]);
        assert_eq!(values, [Some(&b"{\"a\":1}"[..]), None, Some(b"nonsense")]);
        assert_eq!(times, [Some(5), None, None]);
    }
}
