//! A new index from the archive takes the place of the old one, beside a stream that goes on.
//!
//! 1. A new index is written with what should be after a cut, at bulk speed, and brought up to later cuts until little is missing.
//!    Nobody else writes it, so that it is compared exactly: it is proven before anybody reads it.
//! 2. The alias is swapped, in one atomic request. What the stream wrote between the cut and the swap went to the old index only.
//! 3. A [fence](crate::fence) is passed: everything that the stream had sent by the swap is archived. The new index is compared at that
//!    step, and what it lacks is written at the step's last version, so that what the stream has written into it meanwhile
//!    wins. That is repeated until nothing differs.
//!
//! A running stream writes through the alias, so that one of another program is refused before the fill and again before the swap.
//!
//! Before the swap a failure leaves the old index as it was and takes the new one away. After it, a reconcile with `--repair`
//! does what is left.

mod names;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::write_json;
use lockstep_shared::index::{Action, Client, ClientConfig, IndexError, Operation, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::programs::fingerprint;
use lockstep_shared::sql::settings::{SettingError, Settings};
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::certificate::{Certificate, Repaired, SinkReport};
use crate::compare::Mode;
use crate::cut::{self, Cut};
use crate::diff::Compared;
use crate::fence::{self, FenceError};
use crate::recompute::{self, RecomputeError, each_batch};
use crate::reconcile::{ReconcileError, compare, compare_still};
use crate::repair::execute::{RepairError, Target, execute, write};
use crate::repair::plan;
use crate::running::running;
use crate::{kept, lock};
use names::Behind;

/// Documents that are turned into JSON at a time; bounds memory.
const DOCUMENTS_AT_A_TIME: usize = 20_000;
/// How often the new index is brought up to a later cut before the swap, while more than this differs.
const ROUNDS: usize = 5;
/// Differences that the time after the swap takes care of: a second's work.
const FEW: u64 = 10_000;
/// How often what differs after the swap is written. Each time it is what came within one compare.
const ROUNDS_AFTER: usize = 5;

/// What becomes of an index that has the name itself, which an alias must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnName {
    /// It is refused.
    Refuse,
    /// It is deleted in the very request that gives its name to the new one.
    Replace,
}

/// What becomes of the index that the alias stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It stays as it is.
    Keep,
    /// It is deleted, once the new one is proven.
    Delete,
}

/// What a rebuild does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sink whose index is rebuilt; of a pipeline with one index that one.
    pub sink: Option<String>,
    /// What becomes of an index that has the name itself.
    pub own_name: OwnName,
    /// What becomes of the index that the alias stood for.
    pub old: Old,
    /// How long another reconcile or rebuild is waited for.
    pub wait: Duration,
}

/// Why a rebuild failed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The archive, or the computation over it.
    #[error(transparent)]
    Recompute(#[from] RecomputeError),
    /// A comparison.
    #[error(transparent)]
    Compare(#[from] ReconcileError),
    /// What differed could not be written.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The stream.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Another one is at it.
    #[error(transparent)]
    Held(#[from] lock::Held),
    /// Which sink is not clear.
    #[error("{given} is no sink with an index; give --sink one of {known}")]
    Sink {
        /// What was given.
        given: String,
        /// What there is.
        known: String,
    },
    /// The name is an index's own.
    #[error(
        "{name} is an index and no alias, so that no other can take its place beside it; with --replace-index it is deleted in the \
         same request that makes {name} an alias of the new one. Later rebuilds keep the old one"
    )]
    OwnName {
        /// The name.
        name: String,
    },
    /// A stream would write the documents of another program through the alias.
    #[error(
        "the stream at {address} runs another program ({running}, this one is {given}), and would write its \
         documents into the new index; stop that stream, rebuild, and then start it with this program. The old index is as it was"
    )]
    OtherProgram {
        /// Where the stream answers.
        address: String,
        /// The fingerprint of its program.
        running: String,
        /// The fingerprint of the one that is rebuilt with.
        given: String,
    },
    /// The new index is not what it should be.
    #[error(
        "the new index {index} was not put in place: {differences} documents differ from the archive after it was written \
         ({refused} were refused{reason}); the old one is as it was"
    )]
    NotProven {
        /// The new index.
        index: String,
        /// How many differ.
        differences: u64,
        /// How many the index refused.
        refused: usize,
        /// The first refusal's reason.
        reason: String,
    },
}

impl RebuildError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Index(error) => error.is_unavailable(),
            Self::Compare(error) => error.is_unavailable(),
            Self::Repair(error) => error.is_unavailable(),
            Self::Fence(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// What a rebuild did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rebuilt {
    /// The sink.
    pub sink: String,
    /// The name that is now an alias of the new index.
    pub name: String,
    /// The new index.
    pub index: String,
    /// The old one, where it is still there.
    pub kept: Option<String>,
    /// Documents written before the swap.
    pub written: u64,
    /// What was written after it, of what the stream wrote meanwhile.
    pub after_swap: Repaired,
    /// The last comparison, after the swap; it is kept with the certificates.
    pub certificate: Certificate,
}

/// For people.
impl Display for Rebuilt {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { sink, name, index, kept, written, after_swap, certificate } = self;
        let old = kept.as_ref().map_or_else(String::new, |old| format!("; {old} is kept until you delete it"));
        let after = after_swap.done;
        writeln!(out, "{sink}: {name} is now an alias of {index}{old}")?;
        writeln!(out, "  {written} documents written before the swap, {after} after it")?;
        certificate.fmt(out)
    }
}

/// Rebuilds the index of a sink.
///
/// # Errors
/// Where it cannot be done; what is in place then is told by the error.
pub async fn rebuild(pipeline: &Pipeline, options: &Options) -> Result<Rebuilt, RebuildError> {
    let settings = Settings::of(pipeline)?;
    let sink = chosen(pipeline, options.sink.as_deref())?;
    let _lock = lock::take(&settings.archive_path, "a rebuild", options.wait).await?;
    let client = Client::new(&ClientConfig::of_sink(sink)?)?;
    let name = index_name(sink);
    let behind = Behind::of(&client, name).await?;
    if matches!(behind, Behind::OwnName) && options.own_name == OwnName::Refuse {
        return Err(RebuildError::OwnName { name: name.to_owned() });
    }
    refuse_another_program(pipeline, &settings).await?;
    let (mut seconds, mut began) = (BTreeMap::new(), Instant::now());
    let mut phase = |name: &'static str| {
        seconds.insert(name, std::mem::replace(&mut began, Instant::now()).elapsed().as_secs_f64());
    };
    let index = names::fresh(name);
    let new = Target { pipeline, settings: &settings, sink, index: &index };
    let proven = match prove(&new, &client).await {
        // One may have been started since.
        Ok(written) => refuse_another_program(pipeline, &settings).await.map(|()| written),
        failed => failed,
    };
    if proven.is_err() {
        // The old index is untouched; the new one is of no use.
        let _ = client.delete_index(&index).await;
    }
    let written = proven?;
    phase("write");
    client.change_aliases(&behind.becomes(name, &index)).await?;
    let named = Target::of(pipeline, &settings, sink);
    let (cut, compared, after_swap) = follow(&named, &client).await?;
    phase("follow");
    let kept = match (behind, options.old) {
        (Behind::Alias(old), Old::Delete) if compared.differing() == 0 => {
            client.delete_index(&old).await?;
            None
        }
        (Behind::Alias(old), _) => Some(old),
        (Behind::OwnName | Behind::Nothing, _) => None,
    };
    let certificate = certificate(&named, &cut, &compared, seconds);
    Ok(Rebuilt { sink: sink.name.clone(), name: name.to_owned(), index, kept, written, after_swap, certificate })
}

async fn refuse_another_program(pipeline: &Pipeline, settings: &Settings) -> Result<(), RebuildError> {
    let given = fingerprint(pipeline);
    match running(settings).await {
        Some(stream) if stream.program != given => {
            let address = format!("http://{}", settings.http_address);
            Err(RebuildError::OtherProgram { address, running: stream.program, given })
        }
        _ => Ok(()),
    }
}

fn chosen<'a>(pipeline: &'a Pipeline, given: Option<&str>) -> Result<&'a Sink, RebuildError> {
    let known: Vec<&Sink> = pipeline.sinks.iter().filter(|sink| sink.option("hosts").is_some()).collect();
    match (given, known.as_slice()) {
        (None, [one]) => Ok(one),
        (Some(name), some) if some.iter().any(|sink| sink.name == name) => {
            Ok(some.iter().find(|sink| sink.name == name).unwrap_or_else(|| unreachable!("it is among them")))
        }
        (given, some) => {
            let known = some.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ");
            Err(RebuildError::Sink { given: given.unwrap_or("nothing").to_owned(), known })
        }
    }
}

/// Writes the new index and proves it at a cut; how many documents it has.
async fn prove(new: &Target<'_>, client: &Client) -> Result<u64, RebuildError> {
    client.create_to_fill(new.index, new.sink).await?;
    let mut repaired = fill(new, client).await?;
    client.refresh_by_itself(new.index).await?;
    for round in 1..=ROUNDS {
        let (cut, _) = cut::archived(new.pipeline, new.settings).await?;
        let compared = compare_still(new, cut, client).await?;
        let more = execute(new, client, plan(new.sink, cut, &compared.differences)).await?;
        repaired.refused.extend(more.refused);
        repaired.done += more.done;
        if compared.differing() <= FEW || round == ROUNDS {
            return proof(new, cut, client, repaired).await;
        }
    }
    unreachable!("the last round ends in a proof")
}

/// Nobody else writes the new index, so that it holds exactly what it should at the cut at which it was written last.
async fn proof(new: &Target<'_>, cut: Step, client: &Client, repaired: Repaired) -> Result<u64, RebuildError> {
    let compared = compare_still(new, cut, client).await?;
    let (differences, refused) = (compared.differing(), repaired.refused.len());
    if differences == 0 {
        return Ok(repaired.done);
    }
    let reason = repaired.refused.first().map_or_else(String::new, |(id, reason)| format!(", {id}: {reason}"));
    Err(RebuildError::NotProven { index: new.index.to_owned(), differences, refused, reason })
}

/// Writes what should be after the archive's last step, at that step's version.
async fn fill(new: &Target<'_>, client: &Client) -> Result<Repaired, RebuildError> {
    let (cut, _) = cut::archived(new.pipeline, new.settings).await?;
    let files = recompute::files(new.pipeline, &new.settings.archive_path).await?;
    let (pipeline, sink) = (new.pipeline.clone(), new.sink.clone());
    let (send, mut receive) = mpsc::channel::<Vec<Operation>>(1);
    let computing = tokio::task::spawn_blocking(move || {
        each_batch(&pipeline, &sink, &files, cut, |batch| {
            for from in (0..batch.rows()).step_by(DOCUMENTS_AT_A_TIME) {
                let rows = from..(from + DOCUMENTS_AT_A_TIME).min(batch.rows());
                let operations = rows.map(|row| written_at(&sink, cut, batch, row)).collect();
                // Nobody takes them where a write failed, which is then what is told.
                send.blocking_send(operations).map_err(|_| None)?;
            }
            Ok::<(), Option<RecomputeError>>(())
        })
    });
    let mut repaired = Repaired::default();
    while let Some(operations) = receive.recv().await {
        repaired.add(write(new, client, operations).await?);
    }
    match computing.await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic())) {
        Err(Some(error)) => Err(error.into()),
        Ok(()) | Err(None) => Ok(repaired),
    }
}

fn written_at(sink: &Sink, cut: Step, batch: &Batch<'_>, row: usize) -> Operation {
    let mut json = Vec::new();
    write_json(&sink.columns, &batch.values(row), &mut json);
    Operation { id: batch.id(row), version: cut.version(), action: Action::Index(json) }
}

/// Writes what the stream wrote into the old index before the swap, until nothing differs; the last comparison, and what was
/// written.
async fn follow(named: &Target<'_>, client: &Client) -> Result<(Cut, Compared, Repaired), RebuildError> {
    let mut repaired = Repaired::default();
    let mut round = 0;
    loop {
        fence::pass(named.pipeline, named.settings).await?;
        let cut = cut::take(named.pipeline, named.settings).await?;
        let compared = compare(named, &cut, Mode::Full, client).await?;
        round += 1;
        if compared.differing() == 0 || round > ROUNDS_AFTER {
            return Ok((cut, compared, repaired));
        }
        let more = execute(named, client, plan(named.sink, cut.step, &compared.differences)).await?;
        repaired.done += more.done;
        repaired.overtaken += more.overtaken;
        repaired.refused = more.refused;
    }
}

fn certificate(
    named: &Target<'_>,
    cut: &Cut,
    compared: &Compared,
    seconds: BTreeMap<&'static str, f64>,
) -> Certificate {
    const SAMPLES: usize = 5;
    let report = SinkReport::new(named.sink, named.index, compared, SAMPLES);
    let certificate = Certificate::new(cut, vec![report], seconds);
    if let Err(error) = kept::keep(&certificate, &named.settings.archive_path, named.settings.certificates_keep) {
        tracing::warn!("the certificate is not kept in the archive's folder: {error}");
    }
    certificate
}
