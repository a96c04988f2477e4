//! The log of one index: every write since Tantivy's last commit, on disk before it is answered.
//!
//! A log is a row of files by generation; a commit begins a new one, names it in its payload, and then the older ones go.
//! A frame (length, checksum, writes) is one bulk. A frame that a crash left half written at the end of the last file is cut
//! off: it was never answered. Anything else that cannot be read is damage, and refused with its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Longest frame taken for one: a body of the server and what stands around it.
const LONGEST_FRAME_BYTES: usize = 256 * 1024 * 1024;
/// Bytes before a frame's writes.
const HEAD_BYTES: usize = 8;

/// One write, as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) seq_no: u64,
    pub(super) change: Change,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The document becomes this.
    Put(Vec<u8>),
    /// The document goes, at this time.
    Delete { at_ms: i64 },
}

/// The log, open for writes.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    generation: u64,
    file: File,
    size_bytes: u64,
}

impl Log {
    /// Begins a generation. An empty file of that generation may be there already.
    pub(super) fn begin(directory: &Path, generation: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path(directory, generation))?;
        let size_bytes = file.metadata()?.len();
        File::open(directory)?.sync_all()?;
        Ok(Self { directory: directory.to_owned(), generation, file, size_bytes })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Puts writes on disk as one frame: all of them, or none.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut frame = vec![0; HEAD_BYTES];
        entries.iter().try_for_each(|entry| push(&mut frame, entry))?;
        let length = frame.len() - HEAD_BYTES;
        if length > LONGEST_FRAME_BYTES {
            return Err(io::Error::other(format!("a bulk of {length} bytes is longer than a log's frame")));
        }
        let checksum = crc32fast::hash(&frame[HEAD_BYTES..]);
        frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        frame[4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.size_bytes += frame.len() as u64,
            // Part of a frame must not stand before the next one.
            Err(_) => self.file.set_len(self.size_bytes)?,
        }
        written
    }

    /// Removes the files of older generations: a commit holds what they say.
    pub(super) fn forget_older(&self) -> io::Result<()> {
        for generation in generations(&self.directory)?.into_iter().filter(|g| *g < self.generation) {
            std::fs::remove_file(path(&self.directory, generation))?;
        }
        Ok(())
    }
}

/// Gives every write from a generation on to `each`, in order; the last generation there is.
pub(super) fn replay(
    directory: &Path,
    from: u64,
    mut each: impl FnMut(Entry) -> Result<(), tantivy::TantivyError>,
) -> Result<u64, tantivy::TantivyError> {
    let generations: Vec<u64> = generations(directory)?.into_iter().filter(|g| *g >= from).collect();
    let last = generations.last().copied().unwrap_or(from);
    for generation in generations {
        let path = path(directory, generation);
        let bytes = std::fs::read(&path)?;
        let mut at = 0;
        while at < bytes.len() {
            let Some(frame) = frame_at(&bytes[at..]) else {
                if generation < last || !is_torn(&bytes[at..]) {
                    return Err(damaged(&path, at).into());
                }
                tracing::warn!("{}: {} bytes of an unfinished write are cut off", path.display(), bytes.len() - at);
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(at as u64)?;
                file.sync_all()?;
                break;
            };
            let mut rest = frame;
            while !rest.is_empty() {
                each(take(&mut rest).ok_or_else(|| damaged(&path, at))?)?;
            }
            at += HEAD_BYTES + frame.len();
        }
    }
    Ok(last)
}

fn damaged(path: &Path, at: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{} is damaged at byte {at}; delete the folder of the embedded index, start again, and let \
             lockstep-batch reconcile --repair --repair-limit 100% write the documents anew",
            path.display()
        ),
    )
}

/// Whether these bytes, which begin with no whole frame, are what a crash leaves of the last one: less than it announces,
/// or space that was given and never written.
fn is_torn(bytes: &[u8]) -> bool {
    let announced = number(bytes, 0).map_or(usize::MAX, |length| length as usize + HEAD_BYTES);
    bytes.len() <= announced || bytes[announced..].iter().all(|b| *b == 0)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn frame_at(bytes: &[u8]) -> Option<&[u8]> {
    let length = number(bytes, 0)? as usize;
    let checksum = number(bytes, 4)?;
    let frame = bytes.get(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)?;
    (length > 0 && length <= LONGEST_FRAME_BYTES && crc32fast::hash(frame) == checksum).then_some(frame)
}

/// Kind, version, sequence number, id, and the document or the time.
fn push(out: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    out.push(u8::from(matches!(entry.change, Change::Delete { .. })));
    out.extend(entry.version.to_le_bytes());
    out.extend(entry.seq_no.to_le_bytes());
    push_sized(out, entry.id.as_bytes())?;
    match &entry.change {
        Change::Put(source) => push_sized(out, source)?,
        Change::Delete { at_ms } => out.extend(at_ms.to_le_bytes()),
    }
    Ok(())
}

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a document of more than 4 GiB"))?;
    out.extend(length.to_le_bytes());
    out.extend(bytes);
    Ok(())
}

fn take(rest: &mut &[u8]) -> Option<Entry> {
    let kind = take_bytes(rest, 1)?[0];
    let version = u64::from_le_bytes(take_bytes(rest, 8)?.try_into().ok()?);
    let seq_no = u64::from_le_bytes(take_bytes(rest, 8)?.try_into().ok()?);
    let id = String::from_utf8(take_sized(rest)?.to_vec()).ok()?;
    let change = match kind {
        0 => Change::Put(take_sized(rest)?.to_vec()),
        _ => Change::Delete { at_ms: i64::from_le_bytes(take_bytes(rest, 8)?.try_into().ok()?) },
    };
    Some(Entry { id, version, seq_no, change })
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take_bytes(rest, 4)?.try_into().ok()?);
    take_bytes(rest, length as usize)
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation:020}.log"))
}

fn generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, version: u64) -> Entry {
        Entry { id: id.into(), version, seq_no: version, change: Change::Put(b"{}".to_vec()) }
    }

    fn read(directory: &Path) -> Result<Vec<Entry>, tantivy::TantivyError> {
        let mut found = Vec::new();
        replay(directory, 0, |entry| {
            found.push(entry);
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn whatever_a_crash_leaves_of_the_last_frame_is_cut_off_and_the_rest_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let first = [entry("a", 1), Entry { change: Change::Delete { at_ms: -5 }, ..entry("b", 2) }];
        let mut log = Log::begin(folder.path(), 0).unwrap();
        log.append(&first).unwrap();
        let whole = log.size_bytes();
        log.append(&[entry("c", 3)]).unwrap();
        let all = std::fs::read(path(folder.path(), 0)).unwrap();
        for end in usize::try_from(whole).unwrap()..all.len() {
            for zeros in [0, 1, 30] {
                let left: Vec<u8> = all[..end].iter().copied().chain(std::iter::repeat_n(0, zeros)).collect();
                std::fs::write(path(folder.path(), 0), &left).unwrap();
                assert_eq!(read(folder.path()).unwrap(), first, "cut at {end}, {zeros} zeros");
                assert_eq!(std::fs::metadata(path(folder.path(), 0)).unwrap().len(), whole);
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::begin(folder.path(), 0).unwrap();
        log.append(&[entry("a", 1)]).unwrap();
        log.append(&[entry("b", 2)]).unwrap();
        let mut bytes = std::fs::read(path(folder.path(), 0)).unwrap();
        bytes[HEAD_BYTES + 3] ^= 1;
        std::fs::write(path(folder.path(), 0), bytes).unwrap();
        let said = read(folder.path()).unwrap_err().to_string();
        assert!(said.contains("damaged at byte 0"), "{said}");
    }

    #[test]
    fn a_new_generation_lets_the_older_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        Log::begin(folder.path(), 3).unwrap().append(&[entry("a", 1)]).unwrap();
        let mut log = Log::begin(folder.path(), 4).unwrap();
        log.append(&[entry("b", 2)]).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [entry("a", 1), entry("b", 2)]);
        log.forget_older().unwrap();
        assert_eq!(read(folder.path()).unwrap(), [entry("b", 2)]);
    }
}
