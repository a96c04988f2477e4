//! `lockstep-stream dashboard export`: writes the dashboard for other programs.

use std::io::Write as _;
use std::path::PathBuf;

use lockstep_shared::plan::Pipeline;

use super::kibana::{self, Opened};
use super::{AskError, Dashboard, Filter, FilterError};

/// What a Kibana dashboard is made of.
#[derive(clap::Args)]
pub struct KibanaArguments {
    /// The begin of the range that the dashboard opens with; the first order or view in the indexes if absent
    #[arg(long, env = "LOCKSTEP_FROM")]
    from: Option<String>,
    /// Its end; just after the last order or view in the indexes if absent
    #[arg(long, env = "LOCKSTEP_TO")]
    to: Option<String>,
    /// The file (its name should end in .ndjson); standard output if absent
    #[arg(long, env = "LOCKSTEP_OUT")]
    out: Option<PathBuf>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The range of time.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The indexes, or the pipeline's sinks.
    #[error("{0}; the range of time is read from the indexes unless --from and --to give it")]
    Ask(#[from] AskError),
    /// A sink's options.
    #[error(transparent)]
    Index(#[from] lockstep_shared::index::IndexError),
    /// There is nothing yet.
    #[error("the indexes hold no order and no view, so there is no range of time; give --from and --to")]
    Nothing,
    /// The disk.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ExportError {
    /// True where asking again later may help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Ask(AskError::Index(error)) | Self::Index(error) => error.is_unavailable(),
            Self::Ask(AskError::Slow { .. }) => true,
            _ => false,
        }
    }
}

/// Writes the file for Kibana.
///
/// # Errors
/// Where the range of time cannot be found, or the file not be written.
pub async fn kibana(pipeline: &Pipeline, arguments: &KibanaArguments) -> Result<(), ExportError> {
    let text = kibana::export(pipeline, opened(pipeline, arguments).await?)?;
    let path = arguments.out.clone().unwrap_or_else(|| PathBuf::from("standard output"));
    let written = match &arguments.out {
        Some(path) => std::fs::write(path, text),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
    written.map_err(|source| ExportError::Disk { path, source })
}

async fn opened(pipeline: &Pipeline, arguments: &KibanaArguments) -> Result<Opened, ExportError> {
    let given = Filter::parse(|name| match name {
        "from" => arguments.from.clone(),
        "to" => arguments.to.clone(),
        _ => None,
    })?;
    if let (Some(from_ms), Some(to_ms)) = (given.from_ms, given.to_ms) {
        return Ok(Opened { from_ms, to_ms });
    }
    let found = Dashboard::new(pipeline)?.choices().await?;
    let from_ms = given.from_ms.or(found.first_ms).ok_or(ExportError::Nothing)?;
    let to_ms = given.to_ms.or(found.last_ms.map(|last| last + 1)).ok_or(ExportError::Nothing)?;
    Ok(Opened { from_ms, to_ms })
}
