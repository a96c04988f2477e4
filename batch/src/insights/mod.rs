//! The shop's insights, from the archive at a cut: customer engagement, sales optimisation, geographic expansion, products.
//! Each finding has the numbers behind it and a test against chance, and says where the data shows nothing.
//!
//! Findings are computed from facts, purely; Polars counts the facts. What to do about a finding is not here.

mod facts;
mod statistics;
mod findings;
mod report;

use lockstep_shared::archive::ArchiveError;
use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::settings::{SettingError, Settings};
use polars::prelude::PolarsError;

pub use report::{Finding, Group, Insights, Number, Row, Unit, Verdict};
pub use statistics::{Test, Trend};

use crate::recompute::{self, RecomputeError};

/// Where the last report is left, in the archive's folder; the stream shows it from there.
pub const FILE: &str = "insights.json";

/// Why there are no insights.
#[derive(Debug, thiserror::Error)]
pub enum InsightsError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] RecomputeError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Polars.
    #[error("cannot count what the archive holds: {0}")]
    Polars(#[from] PolarsError),
    /// The pipeline is about something else.
    #[error("insights are a shop's: the pipeline has no table {table} with the columns {columns} that some sink reads")]
    NoShop {
        /// The table that was looked for.
        table: &'static str,
        /// The columns that it must have.
        columns: String,
    },
    /// The report cannot be left.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The computation panicked.
    #[error("the computation ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl From<ArchiveError> for InsightsError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error.into())
    }
}

/// The insights after a step; after the last one that every table's archive has, where none is given.
///
/// # Errors
/// Where the archive cannot be read, or the pipeline is not a shop's.
pub async fn insights(pipeline: &Pipeline, cut: Option<Step>) -> Result<Insights, InsightsError> {
    let settings = Settings::of(pipeline)?;
    let (archived, _) = crate::cut::archived(pipeline, &settings).await?;
    let cut = cut.map_or(archived, |cut| cut.min(archived));
    let files = recompute::files(pipeline, &settings.archive_path).await?;
    let pipeline = pipeline.clone();
    let facts = tokio::task::spawn_blocking(move || facts::Shop::open(&pipeline, &files, cut)?.facts()).await??;
    Ok(findings::report(cut, &facts))
}

/// Leaves the report in the archive's folder, whole or not at all.
///
/// # Errors
/// Where it cannot be written.
pub fn leave(pipeline: &Pipeline, report: &Insights) -> Result<(), InsightsError> {
    let path = Settings::of(pipeline)?.archive_path.join(FILE);
    let disk = |source| InsightsError::Disk { path: path.clone(), source };
    let json = serde_json::to_vec_pretty(report).map_err(|error| disk(error.into()))?;
    let unfinished = path.with_extension("json.unfinished");
    std::fs::write(&unfinished, json).and_then(|()| std::fs::rename(&unfinished, &path)).map_err(disk)
}
