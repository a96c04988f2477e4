//! Documents in memory and a log of their changes on disk, written before an answer is given.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A log that is this many times as long as what it says is written anew at the start.
const LOG_TO_LIVE: usize = 2;
/// Fewest entries for which that is worth it.
const FEWEST_ENTRIES: usize = 10_000;
/// Longest entry taken for one; a longer length is a torn write.
const LONGEST_ENTRY_BYTES: u32 = 256 * 1024 * 1024;

/// A document.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) version: u64,
    pub(super) seq_no: u64,
    pub(super) source: Arc<Json>,
}

/// An index.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The body that created it.
    pub(super) creation: Json,
    pub(super) documents: BTreeMap<String, Document>,
    /// Versions of deleted documents, which an older write must not undo. They are kept until a restart.
    deleted: HashMap<String, u64>,
    next_seq_no: u64,
}

/// One change, as the log holds it.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Create { index: String, creation: Json },
    Drop { index: String },
    Put { index: String, id: String, version: u64, seq_no: u64, source: Arc<Json> },
    Delete { index: String, id: String, version: u64, seq_no: u64 },
}

/// How a write asks to be ordered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guard {
    None,
    /// `version_type=external_gte`.
    External(u64),
    /// `if_seq_no`.
    SeqNo(u64),
    /// `op_type=create`.
    Create,
}

/// What a write did.
#[derive(Debug)]
pub(super) enum Outcome {
    Created(Document),
    Updated(Document),
    Deleted { version: u64, seq_no: u64 },
    NotFound { version: u64, seq_no: u64 },
    Conflict(String),
}

/// All indexes, and the log that restores them.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) indexes: BTreeMap<String, Index>,
    path: PathBuf,
    log: File,
    unwritten: Vec<u8>,
}

impl Store {
    /// Opens the folder's log; what a crash left half written at its end is cut off.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("index.log");
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        let mut store = Self { indexes: BTreeMap::new(), path, log, unwritten: Vec::new() };
        let (mut at, mut entries) = (0, 0);
        while let Some((entry, next)) = entry_at(&bytes, at) {
            store.apply(entry);
            at = next;
            entries += 1;
        }
        if at < bytes.len() {
            tracing::warn!("{}: {} bytes of an unfinished write are cut off", store.path.display(), bytes.len() - at);
            store.log.set_len(at as u64)?;
            store.log.sync_data()?;
        }
        let live: usize = store.indexes.values().map(|i| i.documents.len()).sum();
        if entries > FEWEST_ENTRIES && entries > live * LOG_TO_LIVE {
            store.rewrite()?;
        }
        store.log.seek(SeekFrom::End(0))?;
        Ok(store)
    }

    /// Writes the log anew with what is there, beside the old one, and puts it in its place.
    fn rewrite(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        for (name, index) in &self.indexes {
            push(&mut self.unwritten, &Entry::Create { index: name.clone(), creation: index.creation.clone() })?;
            for (id, d) in &index.documents {
                let (index, id, source) = (name.clone(), id.clone(), d.source.clone());
                push(&mut self.unwritten, &Entry::Put { index, id, version: d.version, seq_no: d.seq_no, source })?;
            }
        }
        let mut log = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        log.write_all(&std::mem::take(&mut self.unwritten))?;
        log.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        self.log = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Create { index, creation } => {
                self.indexes.insert(index, Index { creation, ..Index::default() });
            }
            Entry::Drop { index } => {
                self.indexes.remove(&index);
            }
            Entry::Put { index, id, version, seq_no, source } => {
                let index = self.indexes.entry(index).or_default();
                index.next_seq_no = index.next_seq_no.max(seq_no + 1);
                index.deleted.remove(&id);
                index.documents.insert(id, Document { version, seq_no, source });
            }
            Entry::Delete { index, id, version, seq_no } => {
                let index = self.indexes.entry(index).or_default();
                index.next_seq_no = index.next_seq_no.max(seq_no + 1);
                index.documents.remove(&id);
                index.deleted.insert(id, version);
            }
        }
    }

    fn note(&mut self, entry: Entry) -> io::Result<()> {
        push(&mut self.unwritten, &entry)?;
        self.apply(entry);
        Ok(())
    }

    /// Puts what has changed on disk. Only then may a change be answered.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let before = self.log.metadata()?.len();
        let written = self.log.write_all(&self.unwritten).and_then(|()| self.log.sync_data());
        if written.is_err() {
            // Part of an entry must not stand before the next one. The entries stay and are written with the next change.
            self.log.set_len(before)?;
        } else {
            self.unwritten.clear();
        }
        written
    }

    pub(super) fn create(&mut self, name: &str, creation: Json) -> io::Result<()> {
        self.note(Entry::Create { index: name.to_owned(), creation })
    }

    pub(super) fn drop_index(&mut self, name: &str) -> io::Result<()> {
        self.note(Entry::Drop { index: name.to_owned() })
    }

    /// Writes (`Some`) or deletes (`None`) one document of an index that is there.
    pub(super) fn write(&mut self, name: &str, id: &str, source: Option<Json>, guard: Guard) -> io::Result<Outcome> {
        let index = self.indexes.entry(name.to_owned()).or_default();
        let current = index.documents.get(id).cloned();
        let known = current.as_ref().map(|d| d.version).or_else(|| index.deleted.get(id).copied());
        let seq_no = index.next_seq_no;
        let version = match (guard, known) {
            (Guard::External(given), Some(known)) if known > given => {
                return Ok(Outcome::Conflict(format!(
                    "[{id}]: version conflict, current version [{known}] is higher than the one provided [{given}]"
                )));
            }
            (Guard::External(given), _) => given,
            (Guard::SeqNo(seen), _) if current.as_ref().is_none_or(|d| d.seq_no != seen) => {
                return Ok(Outcome::Conflict(format!("[{id}]: version conflict, required seqNo [{seen}]")));
            }
            (Guard::Create, _) if current.is_some() => {
                return Ok(Outcome::Conflict(format!("[{id}]: version conflict, document already exists")));
            }
            (_, known) => known.map_or(1, |v| v + 1),
        };
        let (index, id) = (name.to_owned(), id.to_owned());
        match source {
            Some(source) => {
                let source = Arc::new(source);
                self.note(Entry::Put { index, id, version, seq_no, source: source.clone() })?;
                let document = Document { version, seq_no, source };
                Ok(if current.is_some() { Outcome::Updated(document) } else { Outcome::Created(document) })
            }
            None => {
                self.note(Entry::Delete { index, id, version, seq_no })?;
                Ok(if current.is_some() {
                    Outcome::Deleted { version, seq_no }
                } else {
                    Outcome::NotFound { version, seq_no }
                })
            }
        }
    }
}

/// Length, checksum, entry.
fn push(out: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    let body = serde_json::to_vec(entry)?;
    let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a document of more than 4 GiB"))?;
    out.extend(length.to_le_bytes());
    out.extend(crc32fast::hash(&body).to_le_bytes());
    out.extend(body);
    Ok(())
}

fn entry_at(bytes: &[u8], at: usize) -> Option<(Entry, usize)> {
    let number = |from: usize| bytes.get(from..from + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let length = number(at).filter(|length| *length <= LONGEST_ENTRY_BYTES)?;
    let checksum = number(at + 4)?;
    let end = at + 8 + usize::try_from(length).ok()?;
    let body = bytes.get(at + 8..end)?;
    (crc32fast::hash(body) == checksum).then_some(())?;
    Some((serde_json::from_slice(body).ok()?, end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_answered_is_there_after_a_restart_and_a_torn_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.create("i", json!({})).unwrap();
        store.write("i", "a", Some(json!({"n": 1})), Guard::External(5)).unwrap();
        store.write("i", "b", Some(json!({"n": 2})), Guard::External(5)).unwrap();
        store.write("i", "b", None, Guard::External(7)).unwrap();
        store.sync().unwrap();
        store.log.write_all(&[9, 0, 0, 0, 1]).unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(store.indexes["i"].documents.keys().collect::<Vec<_>>(), ["a"]);
        assert!(
            matches!(store.write("i", "b", Some(json!({})), Guard::External(6)).unwrap(), Outcome::Conflict(_)),
            "deleted at 7"
        );
        assert!(
            matches!(store.write("i", "a", Some(json!({})), Guard::External(4)).unwrap(), Outcome::Conflict(_)),
            "is at 5"
        );
        assert!(matches!(store.write("i", "a", Some(json!({})), Guard::External(5)).unwrap(), Outcome::Updated(_)));
        store.sync().unwrap();
    }
}
