//! Carries a repair out, stage by stage, in one idempotent attempt: what is refused is told, what was overtaken is left alone.

use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::carried::carrying;
use lockstep_shared::index::delivery::Written;
use lockstep_shared::index::{Client, IndexError, Operation, index_name, writer::Writer};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;

use super::{Stage, settled};
use crate::certificate::Repaired;
use crate::compare::standing;
use crate::fence::{self, FenceError};
use crate::recompute::RecomputeError;

/// Bulk bodies of a repair under way at a time.
const PARALLEL_BODIES: usize = 2;

/// Why a repair did not come to its end. What was written until then stands, and the next repair goes on.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The archive, or the computation over it.
    #[error(transparent)]
    Recompute(#[from] RecomputeError),
    /// The stream.
    #[error(transparent)]
    Fence(#[from] FenceError),
}

impl RepairError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Index(error) => error.is_unavailable(),
            Self::Fence(error) => error.is_unavailable(),
            Self::Recompute(_) => false,
        }
    }
}

/// What is repaired.
pub struct Target<'a> {
    /// The program.
    pub pipeline: &'a Pipeline,
    /// Its settings.
    pub settings: &'a Settings,
    /// The sink whose index it is.
    pub sink: &'a Sink,
    /// The index that is written: the sink's own, or one that is to take its place.
    pub index: &'a str,
}

impl<'a> Target<'a> {
    /// The sink's own index.
    #[must_use]
    pub fn of(pipeline: &'a Pipeline, settings: &'a Settings, sink: &'a Sink) -> Self {
        Self { pipeline, settings, sink, index: index_name(sink) }
    }
}

/// Does the stages in order; what became of them.
///
/// # Errors
/// Where the index refuses or does not answer, the archive cannot be read, or the stream does not catch up.
pub async fn execute(target: &Target<'_>, client: &Client, stages: Vec<Stage>) -> Result<Repaired, RepairError> {
    // A repair that was killed while deletes were forgotten left the index so.
    client.remember_deletes(target.index).await?;
    let mut repaired = Repaired::default();
    for stage in stages {
        match stage {
            Stage::Write(operations) => repaired.add(write(target, client, operations).await?),
            Stage::Uproot(operations) => {
                let written = write(target, client, operations).await?;
                // These documents are written once more by the last stage, which counts them.
                repaired.add(Written { done: 0, moved: 0, ..written });
            }
            Stage::ForgetDeletes => client.forget_deletes(target.index).await?,
            Stage::Settle(ids) => repaired.add(settle(target, client, ids).await?),
        }
    }
    Ok(repaired)
}

async fn settle(target: &Target<'_>, client: &Client, ids: Vec<DocumentId>) -> Result<Written, RepairError> {
    let cut = fence::pass(target.pipeline, target.settings).await?;
    let archive = &target.settings.archive_path;
    let expected = standing(target.pipeline, target.sink, archive, cut, ids.iter().cloned()).await?;
    Ok(write(target, client, settled(target.sink, cut, ids, &expected)).await?)
}

/// Writes operations into the target's index, each document with its digest where the index has a place for it.
///
/// # Errors
/// Where the index refuses.
pub async fn write(target: &Target<'_>, client: &Client, operations: Vec<Operation>) -> Result<Written, IndexError> {
    let trouble = |reason: &str| tracing::warn!("the index asks to wait: {reason}");
    let operations = carrying(target.sink, &client.carried(target.index).await?, operations);
    Writer::new(client.clone(), PARALLEL_BODIES).write(target.index, operations, &trouble).await
}
