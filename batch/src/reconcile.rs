//! One reconcile: cut, recompute, scan, compare, and repair where asked.

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{
    Client, ClientConfig, IndexError, index_name,
    scan::{Moment, Reading, scan},
    writer::Writer,
};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::{SettingError, Settings};

use crate::certificate::{Certificate, CutReport, Repaired, SinkReport};
use crate::cut::{self, Cut, acknowledged};
use crate::diff::{self, Compared, Comparison, Difference, Younger};
use crate::explain::Surroundings;
use crate::kept;
use crate::recompute::{self, RecomputeError};

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
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No sink has an index.
    #[error("no sink of the pipeline writes an index; there is nothing to compare")]
    NoIndex,
    /// The computation panicked.
    #[error("the computation ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl ReconcileError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_unavailable())
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
    let surroundings = Surroundings::read(pipeline, &settings, &cut.notes).await?;
    let mut reports = Vec::with_capacity(sinks.len());
    for sink in sinks {
        let client = Client::new(&ClientConfig::of_sink(sink)?)?;
        let compared = compare(pipeline, &settings, sink, &cut, &client).await?;
        let mut report = SinkReport::new(sink, index_name(sink), &compared, options.sample);
        let evidence = surroundings.evidence(pipeline, sink, cut.step, &client).await;
        let explained = tokio::task::block_in_place(|| surroundings.explain(&evidence, &compared.differences))?;
        report.explain(pipeline, &compared, &explained);
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

async fn expected(
    pipeline: &Pipeline,
    settings: &Settings,
    sink: &Sink,
    cut: Step,
) -> Result<recompute::Documents, ReconcileError> {
    let files = recompute::files(pipeline, &settings.archive_path).await?;
    let (pipeline, sink) = (pipeline.clone(), sink.clone());
    Ok(tokio::task::spawn_blocking(move || recompute::documents(&pipeline, &sink, &files, cut)).await??)
}

async fn compare(
    pipeline: &Pipeline,
    settings: &Settings,
    sink: &Sink,
    cut: &Cut,
    client: &Client,
) -> Result<Compared, ReconcileError> {
    let point_in_time = cut.point_in_time(sink, index_name(sink));
    let younger = if point_in_time.is_some() { Younger::Judged } else { Younger::LeftOut };
    let moment = point_in_time.map_or(Moment::Now, Moment::PointInTime);
    let mut comparison = Comparison::new(sink, cut.step, younger, expected(pipeline, settings, sink, cut.step).await?);
    scan(client, index_name(sink), moment, Reading::Whole, |found| comparison.take(found)).await?;
    let mut compared = comparison.finish();
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
    let now = expected(pipeline, settings, sink, Step(u64::MAX)).await?;
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
    let operations = diff::repair(sink, cut, differences);
    let trouble = |reason: &str| tracing::warn!("the index asks to wait: {reason}");
    let written = Writer::new(client, PARALLEL_BODIES).write(index_name(sink), operations, &trouble).await?;
    Ok(Repaired {
        done: written.done,
        overtaken: written.superseded + written.moved,
        refused: written.rejected.into_iter().map(|r| (r.id.to_string(), r.reason)).collect(),
    })
}
