//! What should be, kept from one comparison to the next: notes of every document after some step, and what changed since.
//!
//! A quick comparison brings it up to its own step by the documents that may have become others in between, which costs
//! what happened since, and not what is there. A full one computes everything again and leaves its notes here. It lies
//! beside the archive's tables, 36 bytes a document, and may be deleted at any time.
//!
//! `sums` says all: the step, how much of `changes` counts, and count and sum of each bucket; it is written last, and
//! carries a hash of itself. Notes that do not add up to it are not used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::hash_of_bytes;
use lockstep_shared::plan::{Pipeline, Sink};
use rustc_hash::{FxHashMap, FxHashSet};

use super::pass::folder;
use super::quick::Buckets;
use super::record::{SHOULD_BYTES, Should, each_should, read_should};
use crate::recompute::{RecomputeError, Side, each_changed};

/// The folder of all baselines, below the archive's.
const FOLDER: &str = "baselines";
/// The version of the files; another one's are not used.
const FORMAT: u64 = 2;
/// Bytes of a change: a note, and whether it came or went.
const CHANGE_BYTES: usize = SHOULD_BYTES + 1;
/// Bytes of `sums` before those of the buckets: format, program, step, changes.
const HEAD_BYTES: usize = 32;
/// Bytes of a bucket: count and sum.
const BUCKET_BYTES: usize = 16;

/// Notes of what should be after a step.
pub struct Baseline {
    folder: PathBuf,
    /// A hash of what computes the documents: another program's are no use.
    program: u64,
    step: Step,
    changes: u64,
    sums: Buckets,
}

/// A note that came, or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    side: Side,
    should: Should,
}

/// Why changes were not all taken.
enum Stopped {
    TooMany,
    Failed(RecomputeError),
}

impl From<RecomputeError> for Stopped {
    fn from(error: RecomputeError) -> Self {
        Self::Failed(error)
    }
}

/// The folder of a sink's baseline, and the hash of what computes it.
fn place(archive: &Path, pipeline: &Pipeline, sink: &Sink) -> (PathBuf, u64) {
    let program = format!("{}\n{:?}\n{}\n{}", pipeline.text, sink.columns, sink.name, env!("CARGO_PKG_VERSION"));
    let program = hash_of_bytes(program.as_bytes());
    (folder(&archive.join(FOLDER).join(&sink.name), FOLDER, program), program)
}

impl Baseline {
    /// The one that is kept; `None` where there is none that can be used.
    #[must_use]
    pub fn kept(archive: &Path, pipeline: &Pipeline, sink: &Sink) -> Option<Self> {
        let (folder, program) = place(archive, pipeline, sink);
        let bytes = fs::read(folder.join("sums")).ok()?;
        let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let number = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
        if hash != hash_of_bytes(content).to_le_bytes() || number(0)? != FORMAT || number(8)? != program {
            return None;
        }
        let (step, changes) = (Step(number(16)?), number(24)?);
        let buckets = content[HEAD_BYTES..].chunks_exact(BUCKET_BYTES).zip((HEAD_BYTES..).step_by(BUCKET_BYTES));
        let buckets = buckets.map(|(_, at)| Some((number(at)?, number(at + 8)?))).collect::<Option<Vec<_>>>()?;
        let sums = Buckets::of(buckets)?;
        Some(Self { folder, program, step, changes, sums })
    }

    /// Where the notes of all documents are to be written, to be kept.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(archive: &Path, pipeline: &Pipeline, sink: &Sink) -> Result<PathBuf, RecomputeError> {
        let (folder, _) = place(archive, pipeline, sink);
        match fs::create_dir_all(&folder) {
            Ok(()) => Ok(folder.join("notes.new")),
            Err(source) => Err(RecomputeError::Disk { path: folder, source }),
        }
    }

    /// Keeps the notes of a step, which are all of `path`, and takes that file away.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn keep(
        archive: &Path,
        pipeline: &Pipeline,
        sink: &Sink,
        step: Step,
        path: &Path,
    ) -> Result<Self, RecomputeError> {
        let (folder, program) = place(archive, pipeline, sink);
        let mut sums = Buckets::finest();
        each_should(path, |should| sums.add(should.digest))?;
        let baseline = Self { folder, program, step, changes: 0, sums };
        baseline.forget()?;
        baseline.replace(path).map_err(|source| baseline.failed(source))?;
        Ok(baseline)
    }

    /// Makes it one that cannot be used.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn forget(&self) -> Result<(), RecomputeError> {
        match fs::remove_file(self.sums_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn replace(&self, notes: &Path) -> io::Result<()> {
        fs::rename(notes, self.notes_path())?;
        File::create(self.changes_path())?;
        self.write_sums()
    }

    fn write_sums(&self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + (self.sums.count() * BUCKET_BYTES) + 8);
        for number in [FORMAT, self.program, self.step.0, self.changes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (count, sum) in self.sums.each() {
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes.extend_from_slice(&hash_of_bytes(&bytes).to_le_bytes());
        let beside = self.folder.join("sums.new");
        fs::write(&beside, bytes)?;
        fs::rename(beside, self.sums_path())
    }

    /// Brings it up to a later step; how many notes came and went. `None`, and nothing done, where it is of a later step
    /// itself, or where to compute everything again is better: where more than `most` notes changed, or where tables would
    /// have to be in memory that are larger than what is allowed.
    ///
    /// # Errors
    /// Where the archive cannot be read, or the disk does not take it.
    pub fn advance(
        &mut self,
        pipeline: &Pipeline,
        sink: &Sink,
        files: &[Vec<PathBuf>],
        to: Step,
        most: u64,
    ) -> Result<Option<u64>, RecomputeError> {
        if to <= self.step {
            return Ok((to == self.step).then_some(0));
        }
        let (mut changes, mut id) = (FxHashMap::<Should, i64>::default(), String::new());
        let each = each_changed(pipeline, sink, files, (self.step, to), |side, batch| {
            for row in 0..batch.rows() {
                *changes.entry(Should::of(batch, row, &mut id)).or_default() += side.sign();
            }
            if changes.len() as u64 + self.changes > most { Err(Stopped::TooMany) } else { Ok(()) }
        });
        match each {
            Ok(true) => {}
            Ok(false) | Err(Stopped::TooMany) => return Ok(None),
            Err(Stopped::Failed(error)) => return Err(error),
        }
        changes.retain(|_, times| *times != 0);
        let count = self.append(changes, to).map_err(|source| self.failed(source))?;
        Ok(Some(count))
    }

    fn append(&mut self, changes: FxHashMap<Should, i64>, to: Step) -> io::Result<u64> {
        let (mut bytes, mut count) = (Vec::with_capacity(changes.len() * CHANGE_BYTES), 0);
        for (should, times) in changes {
            let side = if times < 0 { Side::Before } else { Side::After };
            for _ in 0..times.unsigned_abs() {
                bytes.push(u8::from(side == Side::After));
                bytes.extend_from_slice(&should.bytes());
                match side {
                    Side::Before => self.sums.remove(should.digest),
                    Side::After => self.sums.add(should.digest),
                }
                count += 1;
            }
        }
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(self.changes_path())?;
        // What stands behind those that count was never finished.
        file.seek(SeekFrom::Start(self.changes * CHANGE_BYTES as u64))?;
        file.write_all(&bytes)?;
        (self.step, self.changes) = (to, self.changes + count);
        self.write_sums()?;
        Ok(count)
    }

    /// Count and sum of each bucket.
    #[must_use]
    pub fn sums(&self) -> &Buckets {
        &self.sums
    }

    /// The notes of some buckets of `like`, and of some places; `None` where they cannot be read, or are not what the sums of
    /// their buckets say.
    #[must_use]
    pub fn notes(
        &self,
        like: &Buckets,
        is_wanted: impl Fn(usize) -> bool,
        places: &FxHashSet<u64>,
    ) -> Option<Vec<Should>> {
        let is_asked_for =
            |should: &Should| is_wanted(like.bucket(should.digest.carried())) || places.contains(&should.place);
        let mut notes = read_should(&self.notes_path(), is_asked_for).ok()?;
        let mut changed = FxHashMap::<Should, i64>::default();
        for Change { side, should } in self.changes().ok()? {
            if is_asked_for(&should) {
                *changed.entry(should).or_default() += side.sign();
            }
        }
        notes.retain(|should| match changed.get_mut(should) {
            Some(times) if *times < 0 => {
                *times += 1;
                false
            }
            _ => true,
        });
        for (should, times) in changed {
            notes.extend((0..times.max(0)).map(|_| should));
        }
        let mut found = like.empty();
        notes.iter().for_each(|should| found.add(should.digest));
        let agrees = |bucket: usize| !is_wanted(bucket) || found.at(bucket) == like.at(bucket);
        (0..like.count()).all(agrees).then_some(notes)
    }

    fn changes(&self) -> io::Result<Vec<Change>> {
        let length = usize::try_from(self.changes).unwrap_or(usize::MAX).saturating_mul(CHANGE_BYTES);
        let mut bytes = Vec::new();
        File::open(self.changes_path())?.take(length as u64).read_to_end(&mut bytes)?;
        let change = |bytes: &[u8; CHANGE_BYTES]| {
            let (side, note) = bytes.split_first_chunk::<1>()?;
            let side = if side[0] == 0 { Side::Before } else { Side::After };
            Some(Change { side, should: Should::read(note.try_into().ok()?) })
        };
        let (changes, _) = bytes.as_chunks::<CHANGE_BYTES>();
        Ok(changes.iter().filter_map(change).collect())
    }

    fn notes_path(&self) -> PathBuf {
        self.folder.join("notes")
    }

    fn changes_path(&self) -> PathBuf {
        self.folder.join("changes")
    }

    fn sums_path(&self) -> PathBuf {
        self.folder.join("sums")
    }

    fn failed(&self, source: io::Error) -> RecomputeError {
        RecomputeError::Disk { path: self.folder.clone(), source }
    }
}

impl Side {
    /// What a note of this side adds to how often it is there.
    fn sign(self) -> i64 {
        match self {
            Self::Before => -1,
            Self::After => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::{Offset, Partition, Place};
    use lockstep_shared::digest::Digest;
    use lockstep_shared::sql::{Overrides, compile};

    use super::super::record::ShouldFile;
    use super::*;

    const PROGRAM: &str = "CREATE TABLE v (id STRING) WITH ('connector' = 'filesystem', 'path' = 'v', 'format' = 'json');
        CREATE TABLE d (id STRING) WITH ('connector' = 'elasticsearch-7', 'hosts' = 'http://127.0.0.1:9', 'index' = 'd');
        INSERT INTO d SELECT id FROM v;";

    fn should(n: u64) -> Should {
        let leftmost = Place { partition: Partition(1), offset: Offset(n.cast_signed()) };
        Should { place: n, digest: Digest(u128::from(n) << 100), leftmost }
    }

    fn kept(archive: &Path, pipeline: &Pipeline) -> Option<Baseline> {
        Baseline::kept(archive, pipeline, &pipeline.sinks[0])
    }

    fn begun(archive: &Path, pipeline: &Pipeline) -> Baseline {
        let sink = &pipeline.sinks[0];
        let path = Baseline::begin(archive, pipeline, sink).unwrap();
        let mut file = ShouldFile::create(&path).unwrap();
        [1, 2, 2].into_iter().for_each(|n| file.add(should(n)).unwrap());
        file.finish().unwrap();
        Baseline::keep(archive, pipeline, sink, Step(5), &path).unwrap()
    }

    fn notes(baseline: &Baseline) -> Option<Vec<Should>> {
        let mut notes = baseline.notes(&baseline.sums().fitting(), |_| true, &FxHashSet::default())?;
        notes.sort_unstable();
        Some(notes)
    }

    #[test]
    fn notes_and_what_changed_since_add_up_and_outlive_whoever_kept_them() {
        let archive = tempfile::tempdir().unwrap();
        let pipeline = compile(PROGRAM, &Overrides::default(), &|_| None).unwrap();
        let mut first = begun(archive.path(), &pipeline);
        assert_eq!(notes(&first).unwrap(), [1, 2, 2].map(should));
        first.append([(should(2), -1), (should(7), 2)].into_iter().collect(), Step(6)).unwrap();
        let mut second = kept(archive.path(), &pipeline).unwrap();
        assert_eq!(
            (second.step, notes(&second).unwrap()),
            (Step(6), vec![1, 2, 7, 7].into_iter().map(should).collect())
        );
        second.append([(should(7), -2), (should(2), 1)].into_iter().collect(), Step(9)).unwrap();
        let third = kept(archive.path(), &pipeline).unwrap();
        assert_eq!((third.step, notes(&third).unwrap()), (Step(9), vec![1, 2, 2].into_iter().map(should).collect()));
    }

    #[test]
    fn another_program_damage_and_what_was_not_finished_are_seen() {
        let archive = tempfile::tempdir().unwrap();
        let pipeline = compile(PROGRAM, &Overrides::default(), &|_| None).unwrap();
        let baseline = begun(archive.path(), &pipeline);
        let other =
            compile(&PROGRAM.replace("SELECT id FROM", "SELECT UPPER(id) FROM"), &Overrides::default(), &|_| None)
                .unwrap();
        assert!(kept(archive.path(), &other).is_none());
        // Changes that were written, and not what says that they count.
        fs::write(baseline.changes_path(), [1; 2 * CHANGE_BYTES]).unwrap();
        assert_eq!(notes(&kept(archive.path(), &pipeline).unwrap()).unwrap(), [1, 2, 2].map(should));
        let mut bytes = fs::read(baseline.notes_path()).unwrap();
        bytes[SHOULD_BYTES + 20] ^= 1;
        fs::write(baseline.notes_path(), bytes).unwrap();
        assert_eq!(notes(&kept(archive.path(), &pipeline).unwrap()), None);
        fs::remove_file(baseline.notes_path()).unwrap();
        assert_eq!(notes(&kept(archive.path(), &pipeline).unwrap()), None);
        let mut bytes = fs::read(baseline.sums_path()).unwrap();
        bytes[HEAD_BYTES + 3] ^= 1;
        fs::write(baseline.sums_path(), bytes).unwrap();
        assert!(kept(archive.path(), &pipeline).is_none());
        begun(archive.path(), &pipeline).forget().unwrap();
        assert!(kept(archive.path(), &pipeline).is_none());
    }
}
