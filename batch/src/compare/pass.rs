//! A pass under way, in a folder of its own below the archive's: what it compares, and what it has read. One that was
//! killed is taken up where it stood.

use std::io;
use std::path::{Path, PathBuf};

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::hash_of_bytes;
use lockstep_shared::plan::{Pipeline, Sink};
use serde::{Deserialize, Serialize};

use crate::recompute::RecomputeError;

/// The folder of all passes, below the archive's.
const FOLDER: &str = "reconcile";
/// The version of the files; of another one nothing is taken up.
const FORMAT: u32 = 3;

/// What a pass compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// A hash of the program and the index: another one's notes are no use.
    program: u64,
    /// Everything up to this step is in.
    pub cut: Step,
    /// The point in time that is read.
    pub moment: String,
    /// How many documents should be, once they are all noted.
    pub expected: Option<u64>,
    /// Sequence numbers of a unit.
    pub width: u64,
}

/// The folder `wanted`, made where it is not there; where it cannot be, one for temporary files.
pub(super) fn folder(wanted: &Path, kind: &str, program: u64) -> PathBuf {
    match std::fs::create_dir_all(wanted) {
        Ok(()) => wanted.to_owned(),
        Err(_) => std::env::temp_dir().join(format!("lockstep-{kind}-{program:016x}")),
    }
}

/// The folder of a pass.
#[derive(Clone, Debug)]
pub struct Pass {
    folder: PathBuf,
    program: u64,
}

impl Pass {
    /// The pass of a sink. Where the archive can only be read, it is in the folder for temporary files.
    #[must_use]
    pub fn of(archive: &Path, pipeline: &Pipeline, sink: &Sink, index: &str) -> Self {
        let program = format!("{}\n{:?}\n{index}\n{}", pipeline.text, sink.columns, sink.name);
        let program = hash_of_bytes(program.as_bytes());
        Self { folder: folder(&archive.join(FOLDER).join(&sink.name), FOLDER, program), program }
    }

    /// Where it stood when it ended; `None` where there is nothing to take up.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        let text = std::fs::read(self.state_path()).ok()?;
        let state: State = serde_json::from_slice(&text).ok()?;
        (state.format == FORMAT && state.program == self.program).then_some(state)
    }

    /// Begins anew: whatever is there goes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(&self) -> Result<(), RecomputeError> {
        self.end()?;
        std::fs::create_dir_all(&self.folder).map_err(|source| self.failed(source))
    }

    /// Notes where it stands.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note(&self, cut: Step, moment: String, expected: Option<u64>, width: u64) -> Result<State, RecomputeError> {
        let state = State { format: FORMAT, program: self.program, cut, moment, expected, width };
        let beside = self.folder.join("pass.new");
        let written = serde_json::to_vec(&state).map_err(io::Error::other);
        let written = written.and_then(|text| std::fs::write(&beside, text));
        written.and_then(|()| std::fs::rename(&beside, self.state_path())).map_err(|source| self.failed(source))?;
        Ok(state)
    }

    /// It is done, and leaves nothing.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(&self) -> Result<(), RecomputeError> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// The notes of what should be.
    #[must_use]
    pub fn should_path(&self) -> PathBuf {
        self.folder.join("should")
    }

    /// The notes of what is there.
    #[must_use]
    pub fn is_path(&self) -> PathBuf {
        self.folder.join("is")
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("pass.json")
    }

    fn failed(&self, source: io::Error) -> RecomputeError {
        RecomputeError::Disk { path: self.folder.clone(), source }
    }
}
