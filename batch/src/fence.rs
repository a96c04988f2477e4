//! A fence: everything that the stream had cut when it was asked is in the index and in the archive.
//!
//! Whatever the stream sent to the index before the fence was asked for is of a step up to the one that the fence gives, so
//! a recompute at that step has it, and whatever is of a later step was sent afterwards.

use std::time::Duration;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::settings::Settings;
use tokio::time::{Instant, sleep};

use crate::cut;
use crate::recompute::RecomputeError;
use crate::running::{Running, running};

/// How long the stream may take to write and archive what it has cut, beyond the archive's own delay.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why there is no fence.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The archive.
    #[error(transparent)]
    Recompute(#[from] RecomputeError),
    /// The stream runs, and what it has cut does not get to the index and the archive.
    #[error(
        "the stream at {address} has cut step {step}, and after {waited} s the index has {acknowledged} and the archive {archived}; \
         see what stands in its way ({address}/v1/status) and run this again"
    )]
    Behind {
        /// Where it was asked.
        address: String,
        /// What it had cut.
        step: Step,
        /// What the index had in the end.
        acknowledged: Step,
        /// What the archive had in the end.
        archived: Step,
        /// How long it was waited for, in seconds.
        waited: u64,
    },
}

impl FenceError {
    /// True where asking again later may help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Behind { .. })
    }
}

/// Waits until index and archive have every step that the stream has cut by now; gives the step that both have then. Without a
/// stream that is the archive's last.
///
/// # Errors
/// Where the archive cannot be read, or the stream does not catch up.
pub async fn pass(pipeline: &Pipeline, settings: &Settings) -> Result<Step, FenceError> {
    let began = Instant::now();
    let Some(first) = running(settings).await else { return Ok(cut::archived(pipeline, settings).await?.0) };
    let patience = settings.archive_commit_max_delay + CATCH_UP_PATIENCE;
    loop {
        // A stream that ended meanwhile has archived what it had cut, or sends it again when it starts.
        let Some(now) = running(settings).await else { return Ok(cut::archived(pipeline, settings).await?.0) };
        if now.acknowledged >= first.step && now.archived >= first.step {
            let (archived, _) = cut::archived(pipeline, settings).await?;
            return Ok(archived.min(now.acknowledged).max(first.step));
        }
        if began.elapsed() > patience {
            let Running { acknowledged, archived, .. } = now;
            let address = format!("http://{}", settings.http_address);
            return Err(FenceError::Behind {
                address,
                step: first.step,
                acknowledged,
                archived,
                waited: patience.as_secs(),
            });
        }
        sleep(LOOK_AGAIN).await;
    }
}
