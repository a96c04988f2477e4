//! Compactions beside a stream, with crashes at each of their points, in random order, on the real archive in real files.
//!
//! The laws: after every event the table has each record once, at its step; whoever listed the files before reads the rows that
//! were there then, as long as files are kept for readers; and once the events are over, what is left can still be compacted.
//! A power cut is a kill and what it leaves of the last files; that a sync does what it says is not tried here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::tests::{note, rows, table};
use super::*;
use crate::archive::compact::{Compacted, TARGET_BYTES};
use deltalake::kernel::{Add, Remove};

/// Longer than a case takes: files that were replaced within it stay for their readers.
const GRACE: Duration = Duration::from_secs(3_600);

/// What happens to the table.
#[derive(Clone, Debug)]
enum Event {
    /// The stream archives a step of records.
    Append,
    /// The stream archives a step without records.
    Note,
    /// The stream is killed, and starts on what is there.
    Restart,
    /// A compaction runs from its beginning to its end, and what earlier ones replaced goes, except what readers may have.
    Compact,
    /// A compaction writes its merged file and has not committed yet; one that had is killed with its file.
    Merge,
    /// The compaction that has written its merged file commits.
    Commit,
    /// The compaction is killed and leaves so much of its merged file.
    KilledWriting(Index),
    /// The compaction is killed after its commit, which a power cut left torn; nobody was told of it.
    TornCommit(Index),
    /// What was replaced goes at once; nobody reads.
    RemoveAll,
    /// A recompute lists the files.
    List,
    /// The recompute reads what it listed.
    Read,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Append),
        1 => Just(Event::Note),
        1 => Just(Event::Restart),
        3 => Just(Event::Compact),
        3 => Just(Event::Merge),
        3 => Just(Event::Commit),
        1 => any::<Index>().prop_map(Event::KilledWriting),
        2 => any::<Index>().prop_map(Event::TornCommit),
        1 => Just(Event::RemoveAll),
        2 => Just(Event::List),
        2 => Just(Event::Read),
    ]
}

/// A compaction between its merged file and its commit.
struct Merged {
    compactor: TableArchive,
    add: Add,
    removes: Vec<Remove>,
}

/// A recompute that has listed the files, and the records that were there.
struct Reader {
    archive: TableArchive,
    listed: Vec<ArchivedRecord>,
}

struct World {
    folder: PathBuf,
    archive: Archive,
    writer: TableArchive,
    step: u64,
    model: Vec<ArchivedRecord>,
    merged: Option<Merged>,
    reader: Option<Reader>,
}

impl World {
    async fn new(root: &Path) -> Self {
        let archive = Archive::new(root);
        let writer = archive.open(&table()).await.unwrap();
        let folder = root.join("t");
        Self { folder, archive, writer, step: 0, model: Vec::new(), merged: None, reader: None }
    }

    async fn existing(&self) -> TableArchive {
        self.archive.open_existing(&table()).await.unwrap().unwrap()
    }

    async fn happen(&mut self, event: &Event) {
        match event {
            Event::Append => self.append(2).await,
            Event::Note => self.append(0).await,
            Event::Restart => self.writer = self.archive.open(&table()).await.unwrap(),
            Event::Compact => {
                self.compact().await;
                self.existing().await.remove_replaced(GRACE).await.unwrap();
            }
            Event::Merge => self.merge().await,
            Event::Commit => self.commit().await,
            Event::KilledWriting(at) => self.killed_writing(at),
            Event::TornCommit(at) => self.torn_commit(at).await,
            Event::RemoveAll if self.reader.is_none() => self.remove_all().await,
            Event::RemoveAll => {}
            Event::List => {
                let archive = self.existing().await;
                self.reader = Some(Reader { archive, listed: self.model.clone() });
            }
            Event::Read => {
                if let Some(Reader { archive, listed }) = self.reader.take() {
                    assert_eq!(read(&archive).await, listed, "what the reader listed");
                }
            }
        }
    }

    async fn append(&mut self, records: usize) {
        self.step += 1;
        let mut new: Vec<ArchivedRecord> = rows().into_iter().take(records).collect();
        for (record, n) in new.iter_mut().zip(0..) {
            record.step = Step(self.step);
            record.place.offset = Offset(10 * self.step.cast_signed() + n);
        }
        self.writer.append(&new, &note(self.step)).await.unwrap();
        self.model.extend(new);
    }

    async fn compact(&self) -> Compacted {
        self.existing().await.compact(TARGET_BYTES).await.unwrap()
    }

    async fn merge(&mut self) {
        let compactor = self.existing().await;
        if compactor.files().unwrap().len() > 1 {
            let (add, removes) = compactor.merged_all().unwrap();
            self.merged = Some(Merged { compactor, add, removes });
        }
    }

    async fn commit(&mut self) {
        let Some(Merged { mut compactor, add, removes }) = self.merged.take() else { return };
        let current = self.existing().await.files().unwrap();
        let all_there = removes.iter().all(|remove| current.contains(&self.folder.join(&remove.path)));
        let done = compactor.replace(removes, add).await;
        assert_eq!(done.is_ok(), all_there, "it is refused where another one was faster, and only there: {done:?}");
    }

    fn killed_writing(&mut self, at: &Index) {
        let Some(Merged { add, .. }) = self.merged.take() else { return };
        cut(&self.folder.join(&add.path), at);
    }

    /// The stream is cut off with it, as by the power, and opens what is there.
    async fn torn_commit(&mut self, at: &Index) {
        let Some(Merged { mut compactor, add, removes }) = self.merged.take() else { return };
        if compactor.replace(removes, add).await.is_err() {
            return;
        }
        cut(&self.folder.join(format!("_delta_log/{:020}.json", compactor.version())), at);
        self.writer = self.archive.open(&table()).await.unwrap();
    }

    /// Also the merged file of the compaction under way, which is killed thereby.
    async fn remove_all(&mut self) {
        self.merged = None;
        self.existing().await.remove_replaced(Duration::ZERO).await.unwrap();
    }

    async fn check(&self) {
        let now = self.existing().await;
        assert_eq!(read(&now).await, self.model, "each record once, at its step");
        let noted = now.commits().await.unwrap().iter().map(|commit| commit.note.step.0).collect::<BTreeSet<_>>();
        assert_eq!(noted, (1..=self.step).collect(), "each note");
    }
}

async fn read(archive: &TableArchive) -> Vec<ArchivedRecord> {
    archive.read(Step(0), Step(u64::MAX)).await.unwrap()
}

/// Leaves the first bytes of a file, never all of them but perhaps none.
fn cut(path: &Path, at: &Index) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..at.index(whole.len())]).unwrap();
}

async fn run(events: &[Event]) {
    let root = tempfile::tempdir().unwrap();
    let mut world = World::new(root.path()).await;
    for event in events {
        world.happen(event).await;
        world.check().await;
    }
    (world.merged, world.reader) = (None, None);
    world.compact().await;
    world.remove_all().await;
    world.check().await;
    let files = world.existing().await.files().unwrap();
    assert!(files.len() <= 1, "small files become one: {files:?}");
    let on_disk = fs::read_dir(&world.folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
    assert_eq!(on_disk, files.len(), "and nothing is left of what was replaced");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_compaction_loses_and_repeats_nothing_whenever_it_is_killed(events in prop::collection::vec(event(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&events));
    }
}
