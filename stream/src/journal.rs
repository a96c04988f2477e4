//! The journal: which offset ranges each step takes, on disk before the step has any effect outside.
//!
//! A line is the CRC-32 of its JSON in hexadecimal, a space, and the JSON. Step boundaries are synced; notes of what the
//! index has acknowledged are not, since a lost note only means that something is sent twice. A last line that was cut short
//! is cut away; any other damage is refused with its place, never guessed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lockstep_shared::coordinates::{OffsetRange, Partition, Step};
use lockstep_shared::disk;
use serde::{Deserialize, Serialize};

/// What a step takes of one partition. Tables go by name: their numbers belong to one version of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The table's name.
    pub table: String,
    /// The partition.
    pub partition: Partition,
    /// The offsets.
    pub range: OffsetRange,
}

/// The boundaries of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// The step.
    pub step: Step,
    /// What it takes, at most one range a partition.
    pub taken: Vec<Taken>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A step's boundary.
    Step(Boundary),
    /// The index has everything up to this step.
    Acknowledged(Step),
}

impl Entry {
    /// The line, with its end.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let json =
            serde_json::to_string(self).unwrap_or_else(|e| unreachable!("numbers and names are always JSON: {e}"));
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
    }

    fn from_line(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_suffix(b"\n").ok_or("the line has no end")?;
        let (sum, json) = text.split_at_checked(9).ok_or("the line is too short")?;
        let expected = format!("{:08x} ", crc32fast::hash(json));
        if sum != expected.as_bytes() {
            return Err("the checksum is wrong".into());
        }
        serde_json::from_slice(json).map_err(|e| format!("not an entry: {e}"))
    }
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The boundaries, ascending.
    pub steps: Vec<Boundary>,
    /// The last step that the index is known to have acknowledged.
    pub acknowledged: Step,
}

/// A line that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl Recorded {
    /// What the bytes record, and how many of them are sound: a torn last line is not.
    ///
    /// # Errors
    /// Where a line is damaged, and was not just cut short at the end.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Damage> {
        let mut acknowledged = Step::ZERO;
        let mut steps: BTreeMap<Step, Boundary> = BTreeMap::new();
        let mut sound = 0;
        for (number, text) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            match Entry::from_line(text) {
                Ok(Entry::Step(boundary)) => {
                    steps.insert(boundary.step, boundary);
                }
                Ok(Entry::Acknowledged(step)) => acknowledged = acknowledged.max(step),
                // Without its end it was not whole when the power went, so that its step has had no effect.
                Err(_) if sound + text.len() == bytes.len() && is_torn(text) => break,
                Err(reason) => return Err(Damage { line: number + 1, reason }),
            }
            sound += text.len();
        }
        Ok((Self { steps: steps.into_values().collect(), acknowledged }, sound))
    }

    /// A journal that holds this and nothing more.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let steps = self.steps.iter().map(|boundary| Entry::Step(boundary.clone()));
        [Entry::Acknowledged(self.acknowledged)].into_iter().chain(steps).flat_map(|entry| entry.to_line()).collect()
    }

    /// Drops the boundaries of steps that the archive has.
    pub fn forget(&mut self, archived: Step) {
        self.steps.retain(|boundary| boundary.step > archived);
    }
}

/// Whether a last line that is no entry was cut short, and not damaged afterwards: it has no end, nor would it be whole
/// with one in place of its last byte.
fn is_torn(text: &[u8]) -> bool {
    let Some((_, before)) = text.split_last() else { return true };
    !text.ends_with(b"\n") && Entry::from_line(&[before, b"\n"].concat()).is_err()
}

/// An open journal. The file's lock keeps a second process out as long as this lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    _lock: File,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error("cannot {action} {path}: {source}{}", disk::advice(source))]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the state in {folder} belongs to a running process; stop it, or give this one its own lockstep.state.path"
    )]
    InUse {
        /// The state folder.
        folder: PathBuf,
    },
    /// A line is damaged.
    #[error(
        "{path}, line {line}: the journal is damaged ({reason}); move the file away to begin a new epoch from the archive"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Journal {
    /// Opens the journal in the state folder, or begins one. Nothing is recorded where there was none: it is new, or lost.
    ///
    /// # Errors
    /// Where the disk fails, another process holds it, or it is damaged before its last line.
    pub fn open(folder: &Path) -> Result<(Self, Option<Recorded>), JournalError> {
        let path = folder.join("journal");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Disk { action, path, source }
        };
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        lock.try_lock().map_err(|_| JournalError::InUse { folder: folder.to_owned() })?;
        let file =
            OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(failed("open", &path))?;
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let (recorded, sound_bytes) = Recorded::parse(&bytes)
            .map_err(|Damage { line, reason }| JournalError::Damaged { path: path.clone(), line, reason })?;
        // The file itself must outlive a power cut, before its first line says that it does.
        sync_folder(&path).map_err(failed("sync", &path))?;
        if sound_bytes < bytes.len() {
            file.set_len(sound_bytes as u64).map_err(failed("cut", &path))?;
            file.sync_data().map_err(failed("sync", &path))?;
        }
        Ok((Self { path, file, _lock: lock }, (sound_bytes > 0).then_some(recorded)))
    }

    /// Puts the boundary on disk. When this returns, the step may have effects.
    ///
    /// # Errors
    /// Where the disk fails; then the step must not have any effect.
    pub fn step(&mut self, boundary: &Boundary) -> Result<(), JournalError> {
        self.write(&Entry::Step(boundary.clone()))?;
        self.file.sync_data().map_err(|source| JournalError::Disk { action: "sync", path: self.path.clone(), source })
    }

    /// Notes that the index has acknowledged everything up to the step. Not synced.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn acknowledged(&mut self, step: Step) -> Result<(), JournalError> {
        self.write(&Entry::Acknowledged(step))
    }

    /// Replaces the file by one that holds this.
    ///
    /// # Errors
    /// Where the disk fails; the old journal is whole then.
    pub fn replace(&mut self, recorded: &Recorded) -> Result<(), JournalError> {
        self.put(&recorded.to_bytes())
    }

    /// Forgets everything, as if the journal were lost.
    ///
    /// # Errors
    /// Where the disk fails; the old journal is whole then.
    pub fn clear(&mut self) -> Result<(), JournalError> {
        self.put(b"")
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let fresh = self.path.with_extension("new");
        let failed = |action| {
            let path = fresh.clone();
            move |source| JournalError::Disk { action, path, source }
        };
        let mut file = File::create(&fresh).map_err(failed("create"))?;
        file.write_all(bytes).map_err(failed("write"))?;
        file.sync_all().map_err(failed("sync"))?;
        fs::rename(&fresh, &self.path).map_err(failed("rename"))?;
        sync_folder(&self.path).map_err(failed("sync"))?;
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(failed("open"))?;
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.file.write_all(&entry.to_line()).map_err(|source| JournalError::Disk {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::Offset;
    use proptest::prelude::*;

    use super::*;

    fn boundary(step: u64) -> Boundary {
        let range = OffsetRange { from: Offset(0), to: Offset(10) };
        Boundary { step: Step(step), taken: vec![Taken { table: "views".into(), partition: Partition(0), range }] }
    }

    #[test]
    fn what_was_written_is_read_again_and_a_torn_last_line_is_cut_away() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, recorded) = Journal::open(folder.path()).unwrap();
        assert_eq!(recorded, None);
        journal.step(&boundary(1)).unwrap();
        journal.acknowledged(Step(1)).unwrap();
        journal.step(&boundary(2)).unwrap();
        drop(journal);
        let path = folder.path().join("journal");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let (journal, recorded) = Journal::open(folder.path()).unwrap();
        assert_eq!(recorded, Some(Recorded { steps: vec![boundary(1)], acknowledged: Step(1) }));
        drop(journal);
    }

    #[test]
    fn damage_in_the_middle_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.step(&boundary(1)).unwrap();
        journal.step(&boundary(2)).unwrap();
        drop(journal);
        let path = folder.path().join("journal");
        let mut bytes = fs::read(&path).unwrap();
        bytes[12] ^= 1;
        fs::write(&path, bytes).unwrap();
        let refused = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("line 1"), "{refused}");
    }

    #[test]
    fn a_second_process_on_the_same_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Journal::open(folder.path()).unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(JournalError::InUse { .. })));
        drop(first);
        assert!(Journal::open(folder.path()).is_ok());
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let taken = ("[a-z]{1,9}", 0..9_i32, any::<i64>(), any::<i64>()).prop_map(|(table, partition, from, to)| {
            Taken { table, partition: Partition(partition), range: OffsetRange { from: Offset(from), to: Offset(to) } }
        });
        let step = (any::<u64>(), prop::collection::vec(taken, 0..3))
            .prop_map(|(step, taken)| Entry::Step(Boundary { step: Step(step), taken }));
        prop::collection::vec(prop_oneof![step, any::<u64>().prop_map(|s| Entry::Acknowledged(Step(s)))], 1..9)
    }

    fn written(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(Entry::to_line).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_with_a_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            match Recorded::parse(&bytes) {
                Ok((_, sound)) => prop_assert!(sound <= bytes.len()),
                Err(damage) => prop_assert!(damage.line >= 1 && !damage.reason.is_empty()),
            }
        }

        #[test]
        fn a_journal_that_was_cut_gives_what_was_whole_before_the_cut(entries in entries(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&entries);
            let cut = &bytes[..cut.index(bytes.len() + 1)];
            let whole = cut.iter().filter(|byte| **byte == b'\n').count();
            let (recorded, sound) = Recorded::parse(cut).unwrap();
            prop_assert_eq!(recorded, Recorded::parse(&written(&entries[..whole])).unwrap().0);
            prop_assert_eq!(sound, written(&entries[..whole]).len());
        }

        #[test]
        fn a_byte_that_changed_is_refused_with_its_line(
            entries in entries(), at in any::<prop::sample::Index>(), change in 1..=255_u8,
        ) {
            let mut bytes = written(&entries);
            let at = at.index(bytes.len());
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            bytes[at] ^= change;
            let refused = Recorded::parse(&bytes);
            prop_assert!(refused.as_ref().is_err_and(|damage| damage.line == line), "line {}: {:?}", line, refused);
        }
    }
}
