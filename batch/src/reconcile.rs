//! One reconcile: cut, recompute, scan, compare, and repair where asked. Every index is compared before the first is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{Client, ClientConfig, IndexError};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::{Percent, SettingError, Settings};

use crate::certificate::{Certificate, SinkReport};
use crate::compare::{self, CompareError, Mode, Subject};
use crate::cut::{self, Cut, Held, Precision, acknowledged};
use crate::diff::{Compared, Difference, Younger};
use crate::explain::Surroundings;
use crate::plan_file::{self, PlanError};
use crate::recompute::RecomputeError;
use crate::repair::execute::{RepairError, Target, execute};
use crate::repair::{self, Limit, Stage};
use crate::{kept, lock};

/// How often another cut is taken where a point in time of an exact one was lost: whoever loses five has a server that keeps
/// none.
const RETAKES: usize = 5;

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

    /// True where a point in time is lost that the comparison did not open by itself.
    fn is_expired(&self) -> bool {
        matches!(self, Self::Compare(CompareError::Index(IndexError::Expired { .. })))
    }
}

/// How long each part took.
struct Phases {
    seconds: BTreeMap<&'static str, f64>,
    began: Instant,
}

impl Phases {
    fn begin() -> Self {
        Self { seconds: BTreeMap::new(), began: Instant::now() }
    }

    /// A part has ended, and the next one begins. One that is done twice counts twice.
    fn end(&mut self, name: &'static str) {
        let took = std::mem::replace(&mut self.began, Instant::now()).elapsed().as_secs_f64();
        *self.seconds.entry(name).or_default() += took;
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
    let mut phases = Phases::begin();
    let (cut, mut judged) = at_one_cut(pipeline, &settings, &sinks, options, &mut phases).await?;
    match &options.repair {
        Repair::ReportOnly => {}
        Repair::Plan(path) => plan_file::write(path, pipeline, &settings, cut.step, &judged).await?,
        Repair::Repair(limit) => repair(cut.step, Limit(limit.unwrap_or(settings.repair_limit)), &mut judged).await?,
    }
    phases.end("repair");
    let reports = judged.into_iter().map(|judged| judged.report).collect();
    let certificate = Certificate::new(&cut, reports, phases.seconds);
    // Whoever may only read the archive gets the certificate all the same.
    if let Err(error) = kept::keep(&certificate, &settings.archive_path, settings.certificates_keep) {
        tracing::warn!("the certificate is not kept in the archive's folder: {error}");
    }
    Ok(certificate)
}

/// Every sink compared at one cut. Where a point in time of an exact one is lost (a server was started again, this machine
/// slept), all are compared at another cut; what was read of their indexes is not read again.
async fn at_one_cut<'a>(
    pipeline: &'a Pipeline,
    settings: &'a Settings,
    sinks: &[&'a Sink],
    options: &Options,
    phases: &mut Phases,
) -> Result<(Cut, Vec<Judged<'a>>), ReconcileError> {
    let mut targets = Vec::with_capacity(sinks.len());
    for sink in sinks {
        targets.push((Target::of(pipeline, settings, sink), Client::new(&ClientConfig::of_sink(sink)?)?));
    }
    let mut retakes = 0;
    loop {
        let cut = cut::take(pipeline, settings).await?;
        phases.end("cut");
        let held = Held::of(&cut, targets.iter().map(|(target, client)| (target.sink, client)));
        let judged = judge(&targets, &cut, &held, options).await;
        held.close().await;
        phases.end("compare");
        match judged {
            Err(error) if error.is_expired() && matches!(cut.precision, Precision::Exact(_)) && retakes < RETAKES => {
                retakes += 1;
                tracing::warn!(
                    "a point in time of the cut at step {} is lost; another cut is taken ({retakes} of {RETAKES}), and what \
                     was read is kept",
                    cut.step
                );
            }
            judged => {
                let judged = judged?;
                for Judged { target, client, compared, .. } in &judged {
                    still(target, cut.step).finish(client, compared)?;
                }
                return Ok((cut, judged));
            }
        }
    }
}

/// Compares the sinks one after the other, and says why documents differ.
async fn judge<'a>(
    targets: &[(Target<'a>, Client)],
    cut: &Cut,
    held: &Held,
    options: &Options,
) -> Result<Vec<Judged<'a>>, ReconcileError> {
    let Some((Target { pipeline, settings, .. }, _)) = targets.first() else { return Ok(Vec::new()) };
    let surroundings = Surroundings::read(pipeline, settings, &cut.notes).await?;
    let mut judged = Vec::with_capacity(targets.len());
    for (target, client) in targets {
        let (target, client) = (Target { ..*target }, client.clone());
        let compared = compare_held(&target, cut, held, options.mode, &client).await?;
        let mut report = SinkReport::new(target.sink, target.index, &compared, options.sample);
        let evidence = surroundings.evidence(pipeline, target.sink, cut.step, &client).await;
        let explained = tokio::task::block_in_place(|| surroundings.explain(&evidence, &compared.differences))?;
        report.explain(pipeline, &compared, &explained);
        judged.push(Judged { target, client, compared, report });
    }
    Ok(judged)
}

/// Repairs every index, or none where one would be touched too much.
async fn repair(cut: Step, limit: Limit, judged: &mut [Judged<'_>]) -> Result<(), ReconcileError> {
    for Judged { report, .. } in judged.iter_mut() {
        let documents = report.expected.max(report.found);
        report.held_back = limit.holds_back(report.differences(), documents);
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
    let held = Held::of(cut, [(target.sink, client)]);
    let compared = compare_held(target, cut, &held, mode, client).await;
    held.close().await;
    let compared = compared?;
    still(target, cut.step).finish(client, &compared)?;
    Ok(compared)
}

/// The same in a point in time that is held, if there is one; what was noted is kept.
async fn compare_held(
    target: &Target<'_>,
    cut: &Cut,
    held: &Held,
    mode: Mode,
    client: &Client,
) -> Result<Compared, ReconcileError> {
    let moment = held.moment(target.sink, target.index);
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
    let subject = still(target, cut);
    let compared = subject.compare(client).await?;
    subject.finish(client, &compared)?;
    Ok(compared)
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
