//! Who writes an archive: one stream at a time, and the one that came last.
//!
//! Whoever starts takes the archive over: it puts its name into `owner.json` and then commits to every table. Whoever
//! wrote before finds another name there, or another commit where its own should go, and stops. So:
//!
//! * On one machine a second process is refused while the first one lives: `owner.lock` is held.
//! * Where locks do not reach (other machines on a shared disk) the later start wins. The earlier process may finish what
//!   it had begun to write into the index, and nothing else; the later one writes in a new epoch, whose versions beat all of that.
//! * A state folder that did not write the archive last is not believed: a copy begins a new epoch, and one that was
//!   overtaken is refused, so that two streams that are restarted by a supervisor do not take turns.
//!
//! A state folder is known by the host's name, its path and its inode. Machines that are copies of each other down to
//! these three, and both run, are not told apart here: the archive still takes one of them only, but their versions
//! are of one epoch, and the index needs a reconcile.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, process};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk;

/// Both in the archive's folder, where it says who writes, and in the state's, where it says which start was its own.
const OWNER: &str = "owner.json";
const LOCK: &str = "owner.lock";

/// A state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateFolder {
    host: String,
    path: PathBuf,
    inode: u64,
}

/// One start of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    id: Uuid,
    process: u32,
    since: String,
    state: StateFolder,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, since, state: StateFolder { host, path, .. }, .. } = self;
        write!(f, "process {process} on host {host}, since {since}, with the state in {}", path.display())
    }
}

/// Why a stream may not write the archive.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// A process of this machine writes it.
    #[error(
        "the archive in {archive} is being written by {owner}; stop that stream, or give this one its own lockstep.archive.path"
    )]
    InUse {
        /// The archive's folder.
        archive: PathBuf,
        /// Who.
        owner: String,
    },
    /// The state is from before another stream took the archive over.
    #[error(
        "the archive in {archive} was taken over by {owner}; the state in {state} is from before that. Go on there, or stop that stream and delete {state}/owner.json to take the archive back with a new epoch"
    )]
    Overtaken {
        /// The archive's folder.
        archive: PathBuf,
        /// Who.
        owner: String,
        /// The state's folder.
        state: PathBuf,
    },
    /// Another stream took the archive over while this one ran.
    #[error(
        "the archive in {archive} has been taken over by {owner}; this stream has stopped, and the other one's writes win. Let only one of them run"
    )]
    Lost {
        /// The archive's folder.
        archive: PathBuf,
        /// Who.
        owner: String,
    },
    /// The file cannot be used.
    #[error("cannot use {path}: {source}{}", disk::advice(source))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a state folder knows of the last one who wrote the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heritage {
    /// Everything: it was this folder's own stream, or there was none.
    Own,
    /// Nothing: it was another folder's, so that what this one's journal says may be old.
    Foreign,
}

/// A stream that may take the archive over. Others of this machine are kept out as long as it lives.
#[derive(Debug)]
pub struct Candidate {
    archive: PathBuf,
    state: StateFolder,
    heritage: Heritage,
    lock: File,
}

/// The right to write an archive.
#[derive(Debug)]
pub struct Ownership {
    archive: PathBuf,
    me: Owner,
    _lock: File,
}

impl Candidate {
    /// Looks whether the stream with this state folder may write the archive. The caller holds the state's lock.
    ///
    /// # Errors
    /// Where another process writes it, or the state was overtaken.
    pub fn new(archive: &Path, state: &Path) -> Result<Self, OwnerError> {
        fs::create_dir_all(archive).map_err(failed(archive))?;
        let archive = archive.canonicalize().map_err(failed(archive))?;
        let lock_path = archive.join(LOCK);
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        let last = read(&archive.join(OWNER))?;
        // A file system without locks says something else than "held", and has to do without.
        if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            return Err(OwnerError::InUse { archive, owner: name(last.as_ref()) });
        }
        let folder = StateFolder::of(state)?;
        let own = read(&state.join(OWNER))?;
        let heritage = match (last, own) {
            (Some(last), _) if last.state == folder => Heritage::Own,
            (Some(last), Some(own)) if own.id != last.id => {
                return Err(OwnerError::Overtaken { archive, owner: name(Some(&last)), state: folder.path });
            }
            (Some(_), _) => Heritage::Foreign,
            // Nobody has written it; or its file is lost, and then nobody knows who has.
            (None, _) if holds_tables(&archive) => Heritage::Foreign,
            (None, _) => Heritage::Own,
        };
        Ok(Self { archive, state: folder, heritage, lock })
    }

    /// What the state folder knows. Where that is nothing, its journal has to be cleared before [`Self::take`]: afterwards
    /// it is believed.
    #[must_use]
    pub fn heritage(&self) -> Heritage {
        self.heritage
    }

    /// Takes the archive over. It is certain for each table once that is open.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn take(self) -> Result<Ownership, OwnerError> {
        let Self { archive, state, lock, .. } = self;
        let since = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let me = Owner { id: Uuid::new_v4(), process: process::id(), since, state };
        write(&archive, &me)?;
        write(&me.state.path, &me)?;
        Ok(Ownership { archive, me, _lock: lock })
    }
}

impl Ownership {
    /// Fails where another stream has taken the archive over since.
    ///
    /// # Errors
    /// Then, and where the file cannot be read.
    pub fn check(&self) -> Result<(), OwnerError> {
        match read(&self.archive.join(OWNER))? {
            Some(owner) if owner.id == self.me.id => Ok(()),
            other => Err(OwnerError::Lost { archive: self.archive.clone(), owner: name(other.as_ref()) }),
        }
    }

    /// Who owns it.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.me
    }
}

impl StateFolder {
    fn of(path: &Path) -> Result<Self, OwnerError> {
        let path = path.canonicalize().map_err(failed(path))?;
        let inode = fs::metadata(&path).map_err(failed(&path))?.ino();
        // Where the system does not say, path and inode have to do.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "unknown".into());
        Ok(Self { host: host.trim().to_owned(), path, inode })
    }
}

fn holds_tables(archive: &Path) -> bool {
    let entries = fs::read_dir(archive).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| super::log::folder(&entry.path()).is_dir())
}

fn name(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "a stream that left no name".into(), ToString::to_string)
}

/// `None` where there is no such file, or one that a power cut left torn.
fn read(path: &Path) -> Result<Option<Owner>, OwnerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Replaces the file in one go, and puts it on disk.
fn write(folder: &Path, owner: &Owner) -> Result<(), OwnerError> {
    let (path, fresh) = (folder.join(OWNER), folder.join("owner.json.new"));
    let json = serde_json::to_vec(owner).unwrap_or_else(|e| unreachable!("names and numbers are always JSON: {e}"));
    let written = File::create(&fresh).and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()));
    written.map_err(failed(&fresh))?;
    fs::rename(&fresh, &path).map_err(failed(&path))?;
    super::log::sync_file(folder).map_err(failed(folder))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> OwnerError {
    let path = path.to_owned();
    move |source| OwnerError::Disk { path: path.clone(), source }
}
