//! One index: Tantivy's files, and the log of what is written since its last commit.
//!
//! A write is ordered by its version, put into the log, synced, and then given to Tantivy. Tantivy commits when somebody
//! searches what is not committed, or when enough has gathered. What fails half way is taken up again like a restart: from
//! the last commit and the log. A deleted document is remembered as a document of its version and nothing else, until
//! `index.gc_deletes` has passed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::query::RangeQuery;
use tantivy::{
    DocAddress, Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, TantivyError, Term,
};

use super::answer::Refusal;
use super::log::{self, Change, Entry, Log};
use super::lookup::Lookup;
use super::mapping::Mapping;
use super::numbered::Spans;
use super::order::{self, Guard, Known};

/// Most writes in the log before Tantivy commits: what a restart does again, about a second.
const MOST_PENDING: usize = 100_000;
/// Most bytes in the log before Tantivy commits.
const LONGEST_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Memory of the one thread that indexes: enough for all that is pending to become one segment.
const INDEXING_BYTES: usize = 128 * 1024 * 1024;
/// Blocks of 16 KiB of documents that stay unpacked for each segment.
const CACHED_BLOCKS: usize = 16;
/// Share of deleted documents from which on a segment is written anew.
const MOST_DELETED: f32 = 0.3;
/// How often remembered deletes are looked through for old ones.
const PURGE_EVERY_MS: i64 = 10 * 60 * 1_000;

/// One write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) id: String,
    pub(super) guard: Guard,
    /// The document, as it came and as Tantivy takes it; `None` deletes.
    pub(super) put: Option<(Vec<u8>, TantivyDocument)>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Created,
    Updated,
    Deleted,
    /// There was nothing to delete; the delete's version is remembered all the same.
    NotFound,
}

/// A write that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) effect: Effect,
    pub(super) version: u64,
    pub(super) seq_no: u64,
}

/// One index.
pub(super) struct Engine {
    directory: PathBuf,
    pub(super) mapping: Mapping,
    /// What sequence numbers its segments have.
    pub(super) spans: Arc<Spans>,
    keep_deletes_ms: AtomicI64,
    state: Mutex<State>,
}

enum State {
    Open(Box<Open>),
    /// It failed, and is opened anew by whoever comes next.
    Failed,
    /// It was deleted.
    Gone,
}

struct Open {
    writer: IndexWriter,
    reader: IndexReader,
    lookup: Lookup,
    log: Log,
    /// What the writes that are not committed have made of their ids.
    pending: FxHashMap<String, Known>,
    next_seq_no: u64,
    purged_ms: i64,
}

/// What a commit says besides documents.
#[derive(Serialize, Deserialize, Default)]
struct Payload {
    /// The first generation of the log that is not in the commit.
    log: u64,
    next_seq_no: u64,
}

impl Engine {
    /// Opens the index in a folder, or makes it there.
    pub(super) fn open(directory: &Path, mapping: Mapping, keep_deletes_ms: i64) -> Result<Self, Refusal> {
        let open = Open::new(directory, &mapping)?;
        let state = Mutex::new(State::Open(Box::new(open)));
        Ok(Self {
            directory: directory.to_owned(),
            mapping,
            spans: Arc::default(),
            keep_deletes_ms: AtomicI64::new(keep_deletes_ms),
            state,
        })
    }

    /// Does writes in order; what became of each.
    pub(super) fn write(&self, writes: Vec<Write>, now_ms: i64) -> Result<Vec<Result<Done, Refusal>>, Refusal> {
        self.with(|open| {
            let outcomes = open.write(&self.mapping, writes, now_ms)?;
            if open.pending.len() >= MOST_PENDING || open.log.size_bytes() >= LONGEST_LOG_BYTES {
                open.commit(&self.mapping, self.oldest_delete_ms(now_ms))?;
            }
            Ok(outcomes)
        })
    }

    /// Sees everything that was written before.
    pub(super) fn searcher(&self, now_ms: i64) -> Result<Searcher, Refusal> {
        self.with(|open| {
            open.commit(&self.mapping, self.oldest_delete_ms(now_ms))?;
            Ok(open.reader.searcher())
        })
    }

    /// A document's place, and what sees it.
    pub(super) fn find(&self, id: &str, now_ms: i64) -> Result<Option<(Known, DocAddress, Searcher)>, Refusal> {
        self.with(|open| {
            if open.pending.contains_key(id) {
                open.commit(&self.mapping, self.oldest_delete_ms(now_ms))?;
            }
            let found = open.lookup.find(id)?.filter(|(known, _)| known.live);
            Ok(found.map(|(known, address)| (known, address, open.reader.searcher())))
        })
    }

    fn oldest_delete_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.keep_deletes_ms.load(Ordering::Relaxed))
    }

    /// Changes how long deletes are remembered; those that are older are forgotten at once.
    pub(super) fn keep_deletes(&self, keep_deletes_ms: i64, now_ms: i64) -> Result<(), Refusal> {
        if self.keep_deletes_ms.swap(keep_deletes_ms, Ordering::Relaxed) <= keep_deletes_ms {
            return Ok(());
        }
        self.with(|open| {
            // Those of this very millisecond too, where none are to be kept.
            open.forget_deletes(&self.mapping, now_ms.saturating_sub(keep_deletes_ms).saturating_add(1))?;
            open.make_visible(&self.mapping)
        })
    }

    /// Ends it and deletes its folder.
    pub(super) fn delete(&self) -> Result<(), Refusal> {
        *self.lock() = State::Gone;
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }

    /// Bytes of its files.
    pub(super) fn size_bytes(&self) -> u64 {
        let files = [segments(&self.directory), self.directory.clone()].into_iter().flat_map(std::fs::read_dir);
        files.flatten().flatten().filter_map(|file| file.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked left it half done.
            self.state.clear_poison();
            let mut state = poisoned.into_inner();
            if matches!(*state, State::Open(_)) {
                *state = State::Failed;
            }
            state
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> Result<T, TantivyError>) -> Result<T, Refusal> {
        let mut state = self.lock();
        if matches!(*state, State::Failed) {
            *state = State::Open(Box::new(Open::new(&self.directory, &self.mapping)?));
        }
        let State::Open(open) = &mut *state else {
            return Err(Refusal::new(404, "index_not_found_exception", "no such index: it was deleted"));
        };
        let done = act(open);
        if done.is_err() {
            *state = State::Failed;
        }
        Ok(done?)
    }
}

fn segments(directory: &Path) -> PathBuf {
    directory.join("segments")
}

impl Open {
    fn new(directory: &Path, mapping: &Mapping) -> Result<Self, TantivyError> {
        let segments = segments(directory);
        std::fs::create_dir_all(&segments)?;
        let index = match Index::open_in_dir(&segments) {
            Ok(index) => index,
            Err(_) if std::fs::read_dir(&segments)?.next().is_none() => {
                Index::create_in_dir(&segments, mapping.schema.clone())?
            }
            Err(error) => return Err(error),
        };
        let payload = index.load_metas()?.payload.and_then(|text| serde_json::from_str(&text).ok());
        let payload: Payload = payload.unwrap_or_default();
        let options = IndexWriterOptions::builder().memory_budget_per_thread(INDEXING_BYTES).num_worker_threads(1);
        let writer = index.writer_with_options(options.num_merge_threads(1).build())?;
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(MOST_DELETED);
        writer.set_merge_policy(Box::new(merges));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual);
        let reader: IndexReader = reader.doc_store_cache_num_blocks(CACHED_BLOCKS).try_into()?;
        let lookup = Lookup::new(&reader.searcher(), mapping.own)?;
        let log = Log::begin(directory, payload.log)?;
        let (pending, next_seq_no) = (FxHashMap::default(), payload.next_seq_no);
        let mut open = Self { writer, reader, lookup, log, pending, next_seq_no, purged_ms: 0 };
        let last = log::replay(directory, payload.log, |entry| open.again(mapping, entry))?;
        open.log = Log::begin(directory, last)?;
        Ok(open)
    }

    /// Does what the log says once more.
    fn again(&mut self, mapping: &Mapping, entry: Entry) -> Result<(), TantivyError> {
        let document = match &entry.change {
            Change::Put(source) => Some(mapping.document(&entry.id, source).map_err(|refusal| {
                TantivyError::InvalidArgument(format!(
                    "the log has a document that its index does not take: {}",
                    refusal.reason
                ))
            })?),
            Change::Delete { .. } => None,
        };
        let replaces = self.known(&entry.id)?.is_some();
        self.next_seq_no = self.next_seq_no.max(entry.seq_no + 1);
        self.note(&entry);
        self.index(mapping, &entry, document, replaces)
    }

    fn known(&self, id: &str) -> Result<Option<Known>, TantivyError> {
        match self.pending.get(id) {
            Some(known) => Ok(Some(*known)),
            None => Ok(self.lookup.find(id)?.map(|(known, _)| known)),
        }
    }

    fn note(&mut self, entry: &Entry) {
        let live = matches!(entry.change, Change::Put(_));
        self.pending.insert(entry.id.clone(), Known { version: entry.version, seq_no: entry.seq_no, live });
    }

    fn write(
        &mut self,
        mapping: &Mapping,
        writes: Vec<Write>,
        now_ms: i64,
    ) -> Result<Vec<Result<Done, Refusal>>, TantivyError> {
        let (mut outcomes, mut entries, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        for Write { id, guard, put } in writes {
            let known = self.known(&id)?;
            let version = match order::version(&id, known, guard) {
                Ok(version) => version,
                Err(conflict) => {
                    outcomes.push(Err(conflict));
                    continue;
                }
            };
            let seq_no = self.next_seq_no;
            self.next_seq_no += 1;
            let effect = match (known.is_some_and(|known| known.live), put.is_some()) {
                (false, true) => Effect::Created,
                (true, true) => Effect::Updated,
                (true, false) => Effect::Deleted,
                (false, false) => Effect::NotFound,
            };
            let (change, document) = match put {
                Some((source, document)) => (Change::Put(source), Some(document)),
                None => (Change::Delete { at_ms: now_ms }, None),
            };
            let entry = Entry { id, version, seq_no, change };
            self.note(&entry);
            entries.push(entry);
            documents.push((document, known.is_some()));
            outcomes.push(Ok(Done { effect, version, seq_no }));
        }
        if !entries.is_empty() {
            self.log.append(&entries)?;
        }
        for (entry, (document, replaces)) in entries.iter().zip(documents) {
            self.index(mapping, entry, document, replaces)?;
        }
        Ok(outcomes)
    }

    /// Gives a write to Tantivy. A delete becomes the memory of it.
    fn index(
        &mut self,
        mapping: &Mapping,
        entry: &Entry,
        document: Option<TantivyDocument>,
        replaces: bool,
    ) -> Result<(), TantivyError> {
        let own = mapping.own;
        if replaces {
            self.writer.delete_term(Term::from_field_bytes(own.id, entry.id.as_bytes()));
        }
        let mut document = document.unwrap_or_else(|| {
            let mut memory = TantivyDocument::new();
            memory.add_bytes(own.id, entry.id.as_bytes());
            memory
        });
        if let Change::Delete { at_ms } = entry.change {
            document.add_i64(own.deleted, at_ms);
        }
        document.add_u64(own.version, entry.version);
        document.add_u64(own.seq_no, entry.seq_no);
        self.writer.add_document(document).map(drop)
    }

    /// Makes everything that was written visible, and part of Tantivy's files. Forgets deletes that are older than
    /// `oldest_delete_ms` now and then.
    fn commit(&mut self, mapping: &Mapping, oldest_delete_ms: i64) -> Result<(), TantivyError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if oldest_delete_ms.saturating_sub(self.purged_ms) >= PURGE_EVERY_MS {
            self.forget_deletes(mapping, oldest_delete_ms)?;
        }
        self.make_visible(mapping)
    }

    /// The next commit no longer has the memory of deletes before this moment.
    fn forget_deletes(&mut self, mapping: &Mapping, before_ms: i64) -> Result<(), TantivyError> {
        let before = std::ops::Bound::Excluded(Term::from_field_i64(mapping.own.deleted, before_ms));
        self.writer.delete_query(Box::new(RangeQuery::new(std::ops::Bound::Unbounded, before)))?;
        self.purged_ms = before_ms;
        Ok(())
    }

    fn make_visible(&mut self, mapping: &Mapping) -> Result<(), TantivyError> {
        let log = Log::begin(self.log.directory(), self.log.generation() + 1)?;
        let payload = Payload { log: log.generation(), next_seq_no: self.next_seq_no };
        let mut prepared = self.writer.prepare_commit()?;
        prepared.set_payload(&serde_json::to_string(&payload).unwrap_or_default());
        prepared.commit()?;
        self.log = log;
        self.log.forget_older()?;
        self.pending.clear();
        self.reader.reload()?;
        self.lookup = Lookup::new(&self.reader.searcher(), mapping.own)?;
        Ok(())
    }
}
