//! The programs that the stream has run on an archive, each with the first step that it was run from: a file a program in
//! `<archive>/programs/`, which the stream writes when the program is another than the last.

use std::path::Path;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::programs::{KeptProgram, fingerprint, read};
use lockstep_shared::sql::{self, Overrides};

/// The program before the one that is given.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Its plan.
    pub pipeline: Pipeline,
    /// The first step of the program that is given.
    pub changed_at: Step,
}

/// The program before this one; `None` where there was none, or it cannot be read any more.
#[must_use]
pub fn before(pipeline: &Pipeline, archive: &Path) -> Option<Earlier> {
    let kept: Vec<KeptProgram> = read(archive);
    let now = fingerprint(pipeline);
    let position = kept.iter().rposition(|program| program.fingerprint == now)?;
    let changed_at = kept[position].from;
    let earlier = kept[..position].iter().rev().find(|program| program.fingerprint != now)?;
    // Secrets are not kept, and nothing here connects to anything.
    let pipeline = sql::compile(&earlier.text, &Overrides::default(), &|_| Some(String::new())).ok()?;
    Some(Earlier { pipeline, changed_at })
}
