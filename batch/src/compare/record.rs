//! What is noted of a document, in a few bytes, and the files of such notes: what a comparison keeps of millions.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lockstep_shared::coordinates::{Offset, Partition, Place, Version};
use lockstep_shared::digest::{Digest, hash_of_id, of_values};

use crate::batch::Batch;
use crate::recompute::RecomputeError;

/// Bytes of a note of a document that should be.
pub const SHOULD_BYTES: usize = 36;
/// Bytes of a note of a document that is there.
const IS_BYTES: usize = 40;
/// Bytes before the notes of a unit: its number, how many, and a sum over them.
const HEAD_BYTES: usize = 24;
/// How many notes a unit has that was forgotten: its head stands alone.
const FORGOTTEN: u64 = u64::MAX;

/// A document that should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Should {
    /// The hash of its id.
    pub place: u64,
    /// Its digest.
    pub digest: Digest,
    /// The record that its row of the leftmost table is of: from there it is computed again alone.
    pub leftmost: Place,
}

/// A document that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Is {
    /// The hash of its id.
    pub place: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its version.
    pub version: Version,
    /// Its sequence number.
    pub seq_no: u64,
}

impl Should {
    /// The note of a recomputed document; `id` is room for its id.
    pub fn of(batch: &Batch<'_>, row: usize, id: &mut String) -> Self {
        id.clear();
        batch.write_id(row, id);
        Self { place: hash_of_id(id), digest: of_values(id, batch.scalars(row)), leftmost: batch.leftmost(row) }
    }

    /// As files have it.
    pub fn bytes(self) -> [u8; SHOULD_BYTES] {
        let mut bytes = [0; SHOULD_BYTES];
        bytes[..8].copy_from_slice(&self.place.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.digest.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.leftmost.offset.0.to_le_bytes());
        bytes[32..].copy_from_slice(&self.leftmost.partition.0.to_le_bytes());
        bytes
    }

    /// See [`Self::bytes`].
    pub fn read(bytes: &[u8; SHOULD_BYTES]) -> Self {
        let partition = [32, 33, 34, 35].map(|at| bytes[at]);
        let leftmost = Place {
            partition: Partition(i32::from_le_bytes(partition)),
            offset: Offset(number(bytes, 24).cast_signed()),
        };
        Self { place: number(bytes, 0), digest: digest(bytes, 8), leftmost }
    }
}

impl Is {
    fn bytes(self) -> [u8; IS_BYTES] {
        let mut bytes = [0; IS_BYTES];
        bytes[..8].copy_from_slice(&self.place.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.digest.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[32..].copy_from_slice(&self.seq_no.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            place: number(bytes, 0),
            digest: digest(bytes, 8),
            version: Version(number(bytes, 24)),
            seq_no: number(bytes, 32),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

fn digest(bytes: &[u8], at: usize) -> Digest {
    Digest(u128::from(number(bytes, at)) | (u128::from(number(bytes, at + 8)) << 64))
}

fn disk(path: &Path) -> impl Fn(io::Error) -> RecomputeError + '_ {
    |source| RecomputeError::Disk { path: path.to_owned(), source }
}

/// The documents that should be, as a file.
pub struct ShouldFile {
    path: PathBuf,
    out: BufWriter<File>,
    count: u64,
}

impl ShouldFile {
    /// An empty file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(path: &Path) -> Result<Self, RecomputeError> {
        let file = File::create(path).map_err(disk(path))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::with_capacity(1 << 20, file), count: 0 })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn add(&mut self, should: Should) -> Result<(), RecomputeError> {
        self.count += 1;
        self.out.write_all(&should.bytes()).map_err(disk(&self.path))
    }

    /// Ends the file; how many documents it has.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(mut self) -> Result<u64, RecomputeError> {
        self.out.flush().map_err(disk(&self.path))?;
        Ok(self.count)
    }
}

/// Gives the documents of a file to `take`, one by one.
///
/// # Errors
/// Those of the disk.
pub fn each_should(path: &Path, mut take: impl FnMut(Should)) -> Result<(), RecomputeError> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(disk(path))?);
    let mut bytes = [0; SHOULD_BYTES];
    loop {
        match input.read_exact(&mut bytes) {
            Ok(()) => take(Should::read(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(disk(path)(error)),
        }
    }
}

/// The documents of a file that are wanted.
///
/// # Errors
/// Those of the disk.
pub fn read_should(path: &Path, is_wanted: impl Fn(&Should) -> bool) -> Result<Vec<Should>, RecomputeError> {
    let mut wanted = Vec::new();
    each_should(path, |should| {
        if is_wanted(&should) {
            wanted.push(should);
        }
    })?;
    Ok(wanted)
}

/// The documents that are there, unit by unit, as a file that outlives whoever writes it.
pub struct IsFile {
    path: PathBuf,
    file: File,
    /// Where each unit's notes stand, and how many they are.
    units: BTreeMap<u64, (u64, u64)>,
    end: u64,
}

impl IsFile {
    /// Opens the file, or makes it: what was not written to its end is cut off.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(path: &Path) -> Result<Self, RecomputeError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(disk(path))?;
        let mut opened = Self { path: path.to_owned(), file, units: BTreeMap::new(), end: 0 };
        while let Some((unit, count)) = opened.whole_unit_at(opened.end).map_err(disk(path))? {
            let at = opened.end;
            opened.end += HEAD_BYTES as u64;
            if count == FORGOTTEN {
                opened.units.remove(&unit);
            } else {
                opened.units.insert(unit, (at, count));
                opened.end += count * IS_BYTES as u64;
            }
        }
        opened.file.set_len(opened.end).map_err(disk(path))?;
        Ok(opened)
    }

    fn whole_unit_at(&mut self, at: u64) -> io::Result<Option<(u64, u64)>> {
        let length = self.file.metadata()?.len();
        if at + HEAD_BYTES as u64 > length {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut head)?;
        let (unit, count, sum) = (number(&head, 0), number(&head, 8), number(&head, 16));
        if count == FORGOTTEN {
            return Ok((sum == unit).then_some((unit, count)));
        }
        let size = count.checked_mul(IS_BYTES as u64).filter(|size| at + HEAD_BYTES as u64 + size <= length);
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else { return Ok(None) };
        let mut notes = vec![0; size];
        self.file.read_exact(&mut notes)?;
        Ok((sum == sum_of(&notes)).then_some((unit, count)))
    }

    /// How many documents each unit has that was read.
    pub fn units(&self) -> impl Iterator<Item = (u64, u64)> {
        self.units.iter().map(|(unit, (_, count))| (*unit, *count))
    }

    /// Forgets units: they have to be read again, also by whoever takes the file up after this call.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn forget(&mut self, units: &[u64]) -> Result<(), RecomputeError> {
        if units.is_empty() {
            return Ok(());
        }
        let heads = units.iter().flat_map(|unit| [*unit, FORGOTTEN, *unit]).flat_map(u64::to_le_bytes);
        self.append(&heads.collect::<Vec<u8>>())?;
        self.units.retain(|unit, _| !units.contains(unit));
        self.file.sync_data().map_err(disk(&self.path))
    }

    /// Adds a unit, or puts it in the place of what was there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn add(&mut self, unit: u64, found: &[Is]) -> Result<(), RecomputeError> {
        let notes: Vec<u8> = found.iter().flat_map(|is| is.bytes()).collect();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + notes.len());
        for number in [unit, found.len() as u64, sum_of(&notes)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&notes);
        let at = self.end;
        self.append(&bytes)?;
        self.units.insert(unit, (at, found.len() as u64));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RecomputeError> {
        self.file.seek(SeekFrom::Start(self.end)).map_err(disk(&self.path))?;
        self.file.write_all(bytes).map_err(disk(&self.path))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// The documents of a unit; none where it was not read.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unit(&mut self, unit: u64) -> Result<Vec<Is>, RecomputeError> {
        match self.units.get(&unit) {
            Some((at, count)) => self.at(*at, *count),
            None => Ok(Vec::new()),
        }
    }

    fn at(&mut self, at: u64, count: u64) -> Result<Vec<Is>, RecomputeError> {
        let mut notes = vec![0; usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(IS_BYTES)];
        self.file.seek(SeekFrom::Start(at + HEAD_BYTES as u64)).map_err(disk(&self.path))?;
        self.file.read_exact(&mut notes).map_err(disk(&self.path))?;
        Ok(notes.chunks_exact(IS_BYTES).map(Is::read).collect())
    }

    /// The documents whose place `is_wanted`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&mut self, is_wanted: impl Fn(u64) -> bool) -> Result<Vec<Is>, RecomputeError> {
        let mut wanted = Vec::new();
        let units: Vec<(u64, u64)> = self.units.values().copied().collect();
        for (at, count) in units {
            wanted.extend(self.at(at, count)?.into_iter().filter(|is| is_wanted(is.place)));
        }
        Ok(wanted)
    }
}

fn sum_of(notes: &[u8]) -> u64 {
    lockstep_shared::digest::hash_of_bytes(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(place: u64) -> Is {
        Is { place, digest: Digest(u128::MAX - u128::from(place)), version: Version(place + 1), seq_no: place + 2 }
    }

    #[test]
    fn a_unit_that_was_not_written_to_its_end_is_read_again_and_the_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("is");
        let mut file = IsFile::open(&path).unwrap();
        file.add(7, &[is(1), is(2)]).unwrap();
        file.add(3, &[]).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        file.add(4, &[is(5)]).unwrap();
        let more = std::fs::metadata(&path).unwrap().len();
        for length in whole..more {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            let mut again = IsFile::open(&path).unwrap();
            assert_eq!(again.units().collect::<Vec<_>>(), [(3, 0), (7, 2)]);
            assert_eq!(again.read(|_| true).unwrap(), [is(1), is(2)]);
            again.add(7, &[is(9)]).unwrap();
            let mut last = IsFile::open(&path).unwrap();
            assert_eq!(last.read(|_| true).unwrap(), [is(9)]);
            again.forget(&[7]).unwrap();
            assert_eq!(again.read(|_| true).unwrap(), []);
            let mut forgetful = IsFile::open(&path).unwrap();
            assert_eq!(forgetful.units().collect::<Vec<_>>(), [(3, 0)], "also by whoever takes the file up");
            forgetful.add(7, &[is(8)]).unwrap();
            assert_eq!(IsFile::open(&path).unwrap().unit(7).unwrap(), [is(8)]);
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole).unwrap();
            IsFile::open(&path).unwrap().add(4, &[is(5)]).unwrap();
        }
    }

    #[test]
    fn what_should_be_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("should");
        let all = [1, 2, 3_u64].map(|place| Should {
            place,
            digest: Digest((u128::from(place) << 70) + 5),
            leftmost: Place { partition: Partition(-1), offset: Offset(7 << 40) },
        });
        let mut file = ShouldFile::create(&path).unwrap();
        all.iter().for_each(|should| file.add(*should).unwrap());
        assert_eq!(file.finish().unwrap(), 3);
        assert_eq!(read_should(&path, |should| should.place != 2).unwrap(), [all[0], all[2]]);
    }
}
