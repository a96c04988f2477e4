//! One reconcile: cut, recompute, scan, compare, and repair where asked.

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{Client, ClientConfig, IndexError, carried::carrying, index_name, writer::Writer};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::{SettingError, Settings};

use crate::certificate::{Certificate, CutReport, Repaired, SinkReport};
use crate::compare::{self, CompareError, Mode, Subject};
use crate::cut::{self, Cut, acknowledged};
use crate::diff::{self, Compared, Difference, Younger};
use crate::kept;
use crate::recompute::RecomputeError;

/// Bulk bodies of a repair under way at a time.
const PARALLEL_BODIES: usize = 2;

/// Whether differences are repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is written.
    ReportOnly,
    /// The index is made as it should be.
    Repair,
}

/// What a reconcile does.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether differences are repaired.
    pub repair: Repair,
    /// Most differences of each kind shown.
    pub sample: usize,
    /// How documents are compared.
    pub mode: Mode,
}

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The archive, or the computation over it.
    #[error(transparent)]
    Recompute(#[from] RecomputeError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The comparison.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No sink has an index.
    #[error("no sink of the pipeline writes an index; there is nothing to compare")]
    NoIndex,
}

impl ReconcileError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Index(error) | Self::Compare(CompareError::Index(error)) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// Compares every sink that has an index with what the archive says it should hold.
///
/// # Errors
/// Where the archive or an index cannot be read, or an index refuses a repair.
pub async fn reconcile(pipeline: &Pipeline, options: &Options) -> Result<Certificate, ReconcileError> {
    let settings = Settings::of(pipeline)?;
    let sinks: Vec<&Sink> = pipeline.sinks.iter().filter(|s| s.option("hosts").is_some()).collect();
    if sinks.is_empty() {
        return Err(ReconcileError::NoIndex);
    }
    let cut = cut::take(pipeline, &settings).await?;
    let mut reports = Vec::with_capacity(sinks.len());
    for sink in sinks {
        let client = Client::new(&ClientConfig::of_sink(sink)?)?;
        let compared = compare(pipeline, &settings, sink, (&cut, options.mode), &client).await?;
        let mut report = SinkReport::new(sink, index_name(sink), &compared, options.sample);
        if options.repair == Repair::Repair && report.differences() > 0 {
            report.repair = Some(repair(sink, cut.step, &compared.differences, client).await?);
        }
        reports.push(report);
    }
    let positions = |note: &Note| note.positions.iter().map(|(partition, offset)| (partition.0, offset.0)).collect();
    let certificate = Certificate {
        made_at: chrono::Utc::now().to_rfc3339(),
        cut: cut.step,
        precision: CutReport::of(&cut.precision),
        positions: cut.notes.iter().map(|(table, note)| (table.clone(), positions(note))).collect(),
        sinks: reports,
    };
    // Whoever may only read the archive gets the certificate all the same.
    if let Err(error) = kept::keep(&certificate, &settings.archive_path) {
        tracing::warn!("the certificate is not kept in the archive's folder: {error}");
    }
    Ok(certificate)
}

async fn compare(
    pipeline: &Pipeline,
    settings: &Settings,
    sink: &Sink,
    (cut, mode): (&Cut, Mode),
    client: &Client,
) -> Result<Compared, ReconcileError> {
    let moment = cut.point_in_time(sink, index_name(sink)).map(str::to_owned);
    let younger = if moment.is_some() { Younger::Judged } else { Younger::LeftOut };
    let (archive, memory_bytes) = (settings.archive_path.clone(), settings.reconcile_memory_bytes);
    let subject = Subject { pipeline, sink, archive, cut: cut.step, younger, moment, memory_bytes, mode };
    let mut compared = subject.compare(client).await?;
    if younger == Younger::LeftOut {
        leave_out_deleted_since(pipeline, settings, sink, cut.step, &mut compared).await?;
    }
    Ok(compared)
}

/// A document that a later step deleted leaves nothing that shows its age. So what is missing is looked for once more as
/// of now: what is not expected any longer was deleted after the cut, and is left out.
async fn leave_out_deleted_since(
    pipeline: &Pipeline,
    settings: &Settings,
    sink: &Sink,
    cut: Step,
    compared: &mut Compared,
) -> Result<(), ReconcileError> {
    let is_missing = |d: &Difference| matches!(d, Difference::Missing { .. });
    if !compared.differences.iter().any(is_missing) || acknowledged(settings).await.is_none_or(|now| now <= cut) {
        return Ok(());
    }
    // What the index held when it was scanned is in the archive one commit later.
    tokio::time::sleep(settings.archive_commit_max_delay).await;
    let missing = compared.differences.iter().filter_map(|d| match d {
        Difference::Missing { id, .. } => Some(id),
        Difference::Different { .. } | Difference::Extra { .. } => None,
    });
    let now = compare::standing(pipeline, sink, &settings.archive_path, Step(u64::MAX), missing).await?;
    let before = compared.differences.len();
    compared.differences.retain(|d| match d {
        Difference::Missing { id, .. } => now.contains_key(id),
        Difference::Different { .. } | Difference::Extra { .. } => true,
    });
    compared.younger += (before - compared.differences.len()) as u64;
    Ok(())
}

async fn repair(
    sink: &Sink,
    cut: Step,
    differences: &[Difference],
    client: Client,
) -> Result<Repaired, ReconcileError> {
    let carried = client.carried(index_name(sink)).await?;
    let operations = carrying(sink, &carried, diff::repair(sink, cut, differences));
    let trouble = |reason: &str| tracing::warn!("the index asks to wait: {reason}");
    let written = Writer::new(client, PARALLEL_BODIES).write(index_name(sink), operations, &trouble).await?;
    Ok(Repaired {
        done: written.done,
        overtaken: written.superseded + written.moved,
        refused: written.rejected.into_iter().map(|r| (r.id.to_string(), r.reason)).collect(),
    })
}
