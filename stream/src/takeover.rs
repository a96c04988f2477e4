//! The first thing of a run: the state folder and the archive become this process's, and what the journal says is
//! believed only where this state folder was the last to write the archive.

use std::path::Path;

use lockstep_shared::archive::owner::{Candidate, Heritage, OwnerError, Ownership};

use crate::journal::{Journal, JournalError, Recorded};

/// What is this process's now.
#[derive(Debug)]
pub struct Taken {
    /// The journal.
    pub journal: Journal,
    /// What it says; `None` where it is new, lost, or another stream has written the archive since.
    pub recorded: Option<Recorded>,
    /// The right to write the archive.
    pub owner: Ownership,
}

/// Why a run may not begin.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The archive is another's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// Takes state and archive.
///
/// # Errors
/// Where one of them belongs to another process, the journal is damaged, or the disk says no.
pub fn take(archive: &Path, state: &Path) -> Result<Taken, TakeoverError> {
    let (mut journal, mut recorded) = Journal::open(state)?;
    let candidate = Candidate::new(archive, state)?;
    if candidate.heritage() == Heritage::Foreign && recorded.take().is_some() {
        tracing::warn!("another state folder wrote the archive last; a new epoch begins after its last archived step");
        // Before the archive is taken: afterwards this folder is the last to have written it, and its journal is believed.
        journal.clear()?;
    }
    Ok(Taken { journal, recorded, owner: candidate.take()? })
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::Step;

    use super::*;

    /// A state folder that has acknowledged a step, and its archive.
    fn run(archive: &Path, state: &Path) -> Taken {
        let mut taken = take(archive, state).unwrap();
        taken.journal.acknowledged(Step(7)).unwrap();
        taken
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    /// As where locks do not reach: another machine.
    fn forget_lock(archive: &Path) {
        std::fs::remove_file(archive.join("owner.lock")).unwrap();
    }

    #[test]
    fn the_own_state_is_believed_after_any_end_and_a_copy_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, state, copied) = (folder.path().join("a"), folder.path().join("s"), folder.path().join("c"));
        drop(run(&archive, &state));
        let again = take(&archive, &state).unwrap();
        assert_eq!(again.recorded.clone().unwrap().acknowledged, Step(7));
        copy(&state, &copied);
        let refused = take(&archive, &copied).unwrap_err().to_string();
        assert!(refused.contains("is being written by process") && refused.contains("/s;"), "{refused}");
        drop(again);
        let foreign = take(&archive, &copied).unwrap();
        assert_eq!(foreign.recorded, None, "the copy's journal may be old");
        drop(foreign);
        assert_eq!(take(&archive, &copied).unwrap().recorded, None, "and it stays so");
    }

    #[test]
    fn whoever_was_overtaken_stops_and_is_refused_until_somebody_decides() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, state, copied) = (folder.path().join("a"), folder.path().join("s"), folder.path().join("c"));
        let old = run(&archive, &state);
        copy(&state, &copied);
        forget_lock(&archive);
        old.owner.check().unwrap();
        let new = take(&archive, &copied).unwrap();
        let stopped = old.owner.check().unwrap_err().to_string();
        assert!(stopped.contains("has been taken over by process") && stopped.contains("/c;"), "{stopped}");
        new.owner.check().unwrap();
        drop((old, new));
        let refused = take(&archive, &state).unwrap_err().to_string();
        assert!(refused.contains("was taken over by") && refused.contains("from before that"), "{refused}");
        std::fs::remove_file(state.join("owner.json")).unwrap();
        assert_eq!(take(&archive, &state).unwrap().recorded, None);
    }
}
