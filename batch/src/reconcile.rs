//! One reconcile: cut, recompute, scan, compare, and repair where asked. Every index is compared before the first is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::{Percent, SettingError, Settings};

use crate::certificate::{Certificate, SinkReport};
use crate::compare::{self, CompareError, Mode, Subject};
use crate::cut::{self, Cut, acknowledged};
use crate::diff::{Compared, Difference, Younger};
use crate::explain::Surroundings;
use crate::plan_file::{self, PlanError};
use crate::recompute::RecomputeError;
use crate::repair::execute::{RepairError, Target, execute};
use crate::repair::{self, Limit, Stage};
use crate::{kept, lock};

/// What is done about differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is written.
    ReportOnly,
    /// What would be done is written into a file.
    Plan(PathBuf),
    /// The index is made as it should be, unless that is more than the limit; the setting's, where none is given.
    Repair(Option<Percent>),
}

/// What a reconcile does.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done about differences.
    pub repair: Repair,
    /// Most differences of each kind shown.
    pub sample: usize,
    /// How documents are compared.
    pub mode: Mode,
    /// How long another reconcile of the archive is waited for.
    pub wait: Duration,
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
    /// The comparison.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The repair.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The plan's file.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another one is at it.
    #[error(transparent)]
    Held(#[from] lock::Held),
}

impl ReconcileError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Index(error) | Self::Compare(CompareError::Index(error)) => error.is_unavailable(),
            Self::Repair(error) => error.is_unavailable(),
            Self::Plan(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// A sink after its comparison.
pub(crate) struct Judged<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) client: Client,
    pub(crate) compared: Compared,
    pub(crate) report: SinkReport,
}

/// Compares every sink that has an index with what the archive says it should hold.
///
/// # Errors
/// Where the archive or an index cannot be read, an index refuses a repair, or another reconcile is at it.
pub async fn reconcile(pipeline: &Pipeline, options: &Options) -> Result<Certificate, ReconcileError> {
    let settings = Settings::of(pipeline)?;
    let sinks: Vec<&Sink> = pipeline.sinks.iter().filter(|s| s.option("hosts").is_some()).collect();
    if sinks.is_empty() {
        return Err(ReconcileError::NoIndex);
    }
    let _lock = lock::take(&settings.archive_path, "a reconcile", options.wait).await?;
    let (mut seconds, mut began) = (BTreeMap::new(), Instant::now());
    let mut phase = |name: &'static str| {
        seconds.insert(name, std::mem::replace(&mut began, Instant::now()).elapsed().as_secs_f64());
    };
    let cut = cut::take(pipeline, &settings).await?;
    phase("cut");
    let surroundings = Surroundings::read(pipeline, &settings, &cut.notes).await?;
    let mut judged = Vec::with_capacity(sinks.len());
    for sink in sinks {
        let (target, client) = (Target::of(pipeline, &settings, sink), Client::new(&ClientConfig::of_sink(sink)?)?);
        let compared = compare(&target, &cut, options.mode, &client).await?;
        let mut report = SinkReport::new(sink, index_name(sink), &compared, options.sample);
        let evidence = surroundings.evidence(pipeline, sink, cut.step, &client).await;
        let explained = tokio::task::block_in_place(|| surroundings.explain(&evidence, &compared.differences))?;
        report.explain(pipeline, &compared, &explained);
        judged.push(Judged { target, client, compared, report });
    }
    phase("compare");
    match &options.repair {
        Repair::ReportOnly => {}
        Repair::Plan(path) => plan_file::write(path, pipeline, &settings, cut.step, &judged).await?,
        Repair::Repair(limit) => repair(cut.step, Limit(limit.unwrap_or(settings.repair_limit)), &mut judged).await?,
    }
    phase("repair");
    let reports = judged.into_iter().map(|judged| judged.report).collect();
    let certificate = Certificate::new(&cut, reports, seconds);
    // Whoever may only read the archive gets the certificate all the same.
    if let Err(error) = kept::keep(&certificate, &settings.archive_path, settings.certificates_keep) {
        tracing::warn!("the certificate is not kept in the archive's folder: {error}");
    }
    Ok(certificate)
}

/// Repairs every index, or none where one would be touched too much.
async fn repair(cut: Step, limit: Limit, judged: &mut [Judged<'_>]) -> Result<(), ReconcileError> {
    for Judged { compared, report, .. } in judged.iter_mut() {
        let documents = report.expected.max(report.found);
        report.held_back = limit.holds_back(compared.differences.len() as u64, documents);
    }
    if judged.iter().any(|judged| judged.report.held_back.is_some()) {
        return Ok(());
    }
    for Judged { target, client, compared, report } in judged.iter_mut().filter(|j| j.report.differences() > 0) {
        let stages: Vec<Stage> = repair::plan(target.sink, cut, &compared.differences);
        report.repair = Some(execute(target, client, stages).await?);
    }
    Ok(())
}

/// Compares a sink's index with what it should be after the cut.
///
/// # Errors
/// Where the archive or the index cannot be read.
pub async fn compare(target: &Target<'_>, cut: &Cut, mode: Mode, client: &Client) -> Result<Compared, ReconcileError> {
    let moment = cut.point_in_time(target.sink, target.index).map(str::to_owned);
    let younger = if moment.is_some() { Younger::Judged } else { Younger::LeftOut };
    let subject = Subject { younger, moment, mode, ..still(target, cut.step) };
    let mut compared = subject.compare(client).await?;
    if younger == Younger::LeftOut {
        leave_out_deleted_since(target, cut.step, &mut compared).await?;
    }
    Ok(compared)
}

/// Compares an index that nobody else writes with what it should be after a step.
///
/// # Errors
/// Where the archive or the index cannot be read.
pub async fn compare_still(target: &Target<'_>, cut: Step, client: &Client) -> Result<Compared, ReconcileError> {
    Ok(still(target, cut).compare(client).await?)
}

fn still<'a>(target: &Target<'a>, cut: Step) -> Subject<'a> {
    Subject {
        pipeline: target.pipeline,
        sink: target.sink,
        index: target.index,
        archive: target.settings.archive_path.clone(),
        cut,
        younger: Younger::Judged,
        moment: None,
        memory_bytes: target.settings.reconcile_memory_bytes,
        mode: Mode::Full,
    }
}

/// A document that a later step deleted leaves nothing that shows its age. So what is missing is looked for once more as
/// of now: what is not expected any longer was deleted after the cut, and is left out.
async fn leave_out_deleted_since(
    target: &Target<'_>,
    cut: Step,
    compared: &mut Compared,
) -> Result<(), ReconcileError> {
    let is_missing = |d: &Difference| matches!(d, Difference::Missing { .. });
    let later = acknowledged(target.settings).await.is_some_and(|now| now > cut);
    if !later || !compared.differences.iter().any(is_missing) {
        return Ok(());
    }
    // What the index held when it was scanned is in the archive one commit later.
    tokio::time::sleep(target.settings.archive_commit_max_delay).await;
    let missing = compared.differences.iter().filter(|d| is_missing(d)).map(Difference::id);
    let archive = &target.settings.archive_path;
    let now = compare::standing(target.pipeline, target.sink, archive, Step(u64::MAX), missing).await?;
    let before = compared.differences.len();
    compared.differences.retain(|d| match d {
        Difference::Missing { id, .. } => now.contains_key(id),
        Difference::Different { .. } | Difference::Extra { .. } => true,
    });
    compared.younger += (before - compared.differences.len()) as u64;
    Ok(())
}
