//! Compares every document of an index with what the archive says, in memory that does not grow with their number.
//!
//! Of each document on either side a note of a few bytes is made (`record`): what should be while it is recomputed, what is
//! there while it is scanned (`units`). Notes go to files, are paired part by part (`pair`), and what is not equal is
//! looked at again in full (`look`). Notes only say where to look: what differs is judged by the documents themselves.
//! A pass that was killed goes on where it stood (`pass`). A quick comparison (`quick`) asks the server for sums of what
//! documents carry, holds them against those of notes that are kept and brought up to date (`baseline`), and reads only
//! where they differ.

mod record;
mod pass;
mod units;
mod unchanged;
mod quick;
mod baseline;
mod pair;
mod look;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_shared::coordinates::Step;
use lockstep_shared::digest::hash_of_id;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::carried::Carried;
use lockstep_shared::index::moment::{Keeper, Moment};
use lockstep_shared::index::{Client, IndexError};
use lockstep_shared::plan::{Pipeline, Sink};
use rustc_hash::FxHashSet;

use crate::diff::{Compared, Comparison, Difference, How, Younger};
use crate::progress::Progress;
use crate::recompute::{self, RecomputeError, Rows, each_batch};
use baseline::Baseline;
use pair::Paired;
use pass::Pass;
use record::{Is, IsFile, Should, ShouldFile, read_should};
use units::Extent;

/// Bytes that one note takes while notes are paired: itself, what a growing list wastes, and as much again for what the
/// system keeps of memory that was given back before.
const PAIRED_BYTES: u64 = 224;
/// Bytes that a difference takes, about: what should be, what is there, and why.
const DIFFERENCE_BYTES: u64 = 2_048;
/// How often a moment of our own that expired while it was read is opened anew.
const RENEWALS: usize = 5;

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The archive, the computation over it, or a file of notes.
    #[error(transparent)]
    Recompute(#[from] RecomputeError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A thread ended.
    #[error("the computation ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// How documents are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every field of every document.
    Full,
    /// Counts and sums of the digests that documents carry; documents only where these differ.
    Quick,
}

/// What became of the wish to be quick.
enum Quick {
    Compared(Compared),
    /// All is read, and this says why.
    Instead(How),
}

/// What is compared with what.
#[derive(Clone)]
pub struct Subject<'a> {
    /// The program.
    pub pipeline: &'a Pipeline,
    /// One of its sinks.
    pub sink: &'a Sink,
    /// The index: the sink's own, or one that is to take its place.
    pub index: &'a str,
    /// The folder of the archive.
    pub archive: PathBuf,
    /// Everything up to this step is in.
    pub cut: Step,
    /// What becomes of versions above the cut.
    pub younger: Younger,
    /// A point in time of the sink's index that somebody opened and keeps, and that is closed afterwards; else one is opened.
    pub moment: Option<Arc<Moment>>,
    /// Most memory that notes take.
    pub memory_bytes: u64,
    /// How.
    pub mode: Mode,
}

impl Subject<'_> {
    /// The sink's index, read in full. What was noted of it is kept, also for a comparison at another cut, until
    /// [`Self::finish`].
    ///
    /// # Errors
    /// Where archive or index cannot be read; [`IndexError::Expired`] where the given moment is lost. What was read is kept,
    /// and the next call for the same sink goes on there.
    pub async fn compare(&self, client: &Client) -> Result<Compared, CompareError> {
        let pass = self.pass(client);
        let mut renewals = 0;
        loop {
            let moment = self.open(client, &pass).await?;
            // A recompute before the scan may take longer than the server keeps it.
            let _keeper = self.moment.is_none().then(|| Keeper::of(vec![moment.clone()]));
            match self.in_moment(&moment, &pass).await {
                Err(CompareError::Index(IndexError::Expired { .. }))
                    if self.moment.is_none() && renewals < RENEWALS =>
                {
                    renewals += 1;
                    tracing::warn!("the point in time of {} expired; a new one is opened", self.index);
                }
                done => {
                    // Whoever takes up a pass that failed looks for its moment.
                    if done.is_ok() {
                        moment.close().await;
                    }
                    return done;
                }
            }
        }
    }

    /// What was compared is no longer needed: notes of what is there go, those of what should be serve the next quick one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(&self, client: &Client, compared: &Compared) -> Result<(), CompareError> {
        // A quick comparison has no notes of its own; those of a full one that was killed are not its to remove.
        if compared.how.mode != How::FULL {
            return Ok(());
        }
        let pass = self.pass(client);
        // Whoever may only read the archive's folder computes them again.
        if let Err(error) = Baseline::keep(&self.archive, self.pipeline, self.sink, self.cut, &pass.should_path()) {
            tracing::debug!("the notes of what should be are not kept: {error}");
        }
        Ok(pass.end()?)
    }

    fn pass(&self, client: &Client) -> Pass {
        Pass::of(&self.archive, self.pipeline, self.sink, &format!("{}/{}", client.hosts(), self.index))
    }

    /// The moment that is read: the given one, else the one of a pass that was killed while it lives, else a new one.
    async fn open(&self, client: &Client, pass: &Pass) -> Result<Arc<Moment>, CompareError> {
        let held = pass.state().map(|state| (state.cut, Moment::held(client, state.moment)));
        match (&self.moment, held) {
            (Some(given), held) => {
                if let Some((_, held)) = held.filter(|(_, held)| held.id() != given.id()) {
                    held.close().await;
                }
                return Ok(given.clone());
            }
            (None, Some((cut, held))) if cut == self.cut => match held.touch().await {
                Ok(()) => return Ok(Arc::new(held)),
                Err(error) if error.is_unavailable() => return Err(error.into()),
                Err(_) => {}
            },
            (None, Some((_, held))) => held.close().await,
            (None, None) => {}
        }
        Ok(Arc::new(Moment::open(client, self.index).await?))
    }

    async fn in_moment(&self, moment: &Arc<Moment>, pass: &Pass) -> Result<Compared, CompareError> {
        let how = match self.mode {
            Mode::Full => How::full("every field of every document".into()),
            Mode::Quick => match self.quickly(moment).await? {
                Quick::Compared(compared) => return Ok(compared),
                Quick::Instead(how) => how,
            },
        };
        let before = pass.state();
        if before.is_none() {
            pass.begin()?;
        }
        let extent = Extent::of(moment, before.as_ref().map(|state| state.width)).await?;
        let mut file = IsFile::open(&pass.is_path())?;
        if before.as_ref().is_some_and(|state| state.moment != moment.id()) {
            unchanged::recheck(moment, &extent, &mut file).await?;
        }
        let expected = before.filter(|state| state.cut == self.cut && pass.should_path().exists());
        let expected = expected.and_then(|state| state.expected);
        pass.note(self.cut, moment.id(), expected, extent.width)?;
        let files = recompute::files(self.pipeline, &self.archive).await?;
        let progress = Arc::new(Progress::begin(&format!("comparing {}", self.index), extent.documents));
        // What should be is computed while what is there is read: neither alone keeps all processors at work. Both are waited
        // for, so that nobody writes these files when the pass is taken up.
        let noting = async {
            match expected {
                Some(expected) => Ok(expected),
                None => self.note_all(moment, pass, &files, extent.width).await,
            }
        };
        let reading = async {
            let read = units::read(moment, self.sink, &extent, &mut file, &progress).await;
            progress.goes_on_with(&format!("read; computing what {} should have", self.index));
            read
        };
        let (expected, read) = tokio::join!(noting, reading);
        let (expected, read) = (expected?, read?);
        drop(progress);
        let paired = self.pair(expected + extent.documents, pass.should_path(), file).await?;
        let mut compared = self.look(moment, &files, paired).await?;
        (compared.found, compared.read, compared.how) = (extent.documents, read, how);
        Ok(compared)
    }

    /// Notes all that should be, for this pass and whoever takes it up; how many documents that are.
    async fn note_all(
        &self,
        moment: &Arc<Moment>,
        pass: &Pass,
        files: &[Vec<PathBuf>],
        width: u64,
    ) -> Result<u64, CompareError> {
        let (pipeline, sink, files, cut) = (self.pipeline.clone(), self.sink.clone(), files.to_vec(), self.cut);
        let (path, unseen) = (pass.should_path(), Progress::unseen());
        let noting = move || note_expected(&pipeline, &sink, &files, cut, &path, &unseen);
        let expected = tokio::task::spawn_blocking(noting).await??;
        pass.note(self.cut, moment.id(), Some(expected), width)?;
        Ok(expected)
    }

    /// The sink's index, read only where carried digests do not say that it is as it should be.
    async fn quickly(&self, moment: &Arc<Moment>) -> Result<Quick, CompareError> {
        let instead = |reason: String| {
            let what = format!("every field of every document: no quick comparison, since {reason}");
            Ok(Quick::Instead(How::full(what)))
        };
        if let Carried::Nothing(reason) = moment.client().carried(self.index).await? {
            return instead(reason);
        }
        let files = recompute::files(self.pipeline, &self.archive).await?;
        let baseline = self.baseline(&files).await?;
        let looked = quick::look(moment, baseline.sums()).await?;
        let (expected, found) = (looked.expected.documents(), looked.documents);
        if expected.max(found) > quick::MOST_DOCUMENTS {
            return instead(format!("sums are exact up to {} documents only", quick::MOST_DOCUMENTS));
        }
        let (differing, buckets) = (looked.differing.len() as u64, looked.expected.count() as u64);
        let read = expected.max(found) * differing / buckets + looked.without;
        let too_many = |what: &str| {
            let without = looked.without;
            instead(format!("{differing} of {buckets} buckets differ and {without} documents carry no digest, {what}"))
        };
        if read * 2 * PAIRED_BYTES > self.memory_bytes {
            return too_many("which is more than is noted at a time");
        }
        // Documents that are asked for by their numbers cost about four times as much as those that are read in order.
        if read > quick::LISTED && read * 4 > expected.max(found) {
            return too_many("and to read all is quicker then");
        }
        let mut paired = Paired::default();
        let (should, is) = match self.of_differing(moment, &baseline, &looked).await {
            Ok(Some(notes)) => notes,
            Ok(None) => {
                baseline.forget()?;
                return instead("the notes of an earlier comparison are damaged; they are not used again".into());
            }
            Err(CompareError::Index(IndexError::Refused { reason, .. })) => {
                return instead(format!("the server does not list the documents of a bucket ({reason})"));
            }
            Err(other) => return Err(other),
        };
        let (read, unread) = (is.len() as u64, expected - should.len() as u64);
        paired.add(should, is, self.cut, self.younger);
        let mut compared = self.look(moment, &files, paired).await?;
        compared.equal += unread;
        (compared.found, compared.read) = (found, read);
        let what = format!(
            "counts and sums of carried digests in {buckets} buckets: {differing} differ, and {} documents carry none; those \
             were read",
            looked.without
        );
        compared.how = How { mode: "quick", what };
        Ok(Quick::Compared(compared))
    }

    /// Notes of what should be and of what is there, in the buckets that differ; `None` where the first are damaged.
    async fn of_differing(
        &self,
        moment: &Arc<Moment>,
        baseline: &Arc<Baseline>,
        looked: &quick::Looked,
    ) -> Result<Option<(Vec<Should>, Vec<Is>)>, CompareError> {
        if looked.differing.is_empty() && looked.without == 0 {
            return Ok(Some((Vec::new(), Vec::new())));
        }
        let (baseline, like) = (baseline.clone(), looked.expected.clone());
        let differing: Arc<FxHashSet<usize>> = Arc::new(looked.differing.iter().copied().collect());
        let (buckets, wanted) = (like.clone(), differing.clone());
        let progress = Arc::new(Progress::begin(&format!("reading {}", self.index), 0));
        let queries = quick::queries(moment, looked).await?;
        let is_wanted = move |digest: u64| wanted.contains(&buckets.bucket(digest));
        let is = units::note(moment, self.sink, queries, is_wanted, &progress).await?;
        // By their places too: a document is never taken for one that should not be there by the sums alone.
        let places: FxHashSet<u64> = is.iter().map(|is| is.place).collect();
        let noting = move || baseline.notes(&like, |bucket| differing.contains(&bucket), &places);
        Ok(tokio::task::spawn_blocking(noting).await?.map(|should| (should, is)))
    }

    /// Notes of what should be after the cut: those of an earlier comparison brought up to it, or new ones.
    async fn baseline(&self, files: &[Vec<PathBuf>]) -> Result<Arc<Baseline>, CompareError> {
        let (pipeline, sink, cut, archive) = (self.pipeline.clone(), self.sink.clone(), self.cut, self.archive.clone());
        let (files, most) = (files.to_vec(), self.memory_bytes / PAIRED_BYTES);
        let made = move || {
            if let Some(mut kept) = Baseline::kept(&archive, &pipeline, &sink)
                && kept.advance(&pipeline, &sink, &files, cut, most)?.is_some()
            {
                return Ok(Arc::new(kept));
            }
            let notes = Baseline::begin(&archive, &pipeline, &sink)?;
            let progress = Progress::begin(&format!("recomputing {}", sink.name), 0);
            note_expected(&pipeline, &sink, &files, cut, &notes, &progress)?;
            Ok::<_, RecomputeError>(Arc::new(Baseline::keep(&archive, &pipeline, &sink, cut, &notes)?))
        };
        Ok(tokio::task::spawn_blocking(made).await??)
    }

    /// Pairs notes, in as many parts as memory asks for.
    async fn pair(&self, notes: u64, should: PathBuf, mut is: IsFile) -> Result<Paired, CompareError> {
        let parts = (notes * PAIRED_BYTES).div_ceil(self.memory_bytes).max(1);
        let (cut, younger) = (self.cut, self.younger);
        let pairing = move || {
            let mut paired = Paired::default();
            for part in 0..parts {
                let is_mine = |place: u64| place % parts == part;
                let (expected, found) = std::thread::scope(|scope| {
                    let expected = scope.spawn(|| read_should(&should, |s| is_mine(s.place)));
                    let found = is.read(is_mine);
                    (expected.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), found)
                });
                paired.add(expected?, found?, cut, younger);
            }
            Ok::<Paired, RecomputeError>(paired)
        };
        Ok(tokio::task::spawn_blocking(pairing).await??)
    }

    /// Looks at what is not equal in full.
    async fn look(
        &self,
        moment: &Arc<Moment>,
        files: &[Vec<PathBuf>],
        mut paired: Paired,
    ) -> Result<Compared, CompareError> {
        let unexamined = paired.limit(self.memory_bytes / DIFFERENCE_BYTES);
        let Paired { equal, younger, places, seq_nos, leftmost } = paired;
        let places = Arc::new(places);
        let expected = if leftmost.is_empty() {
            recompute::Documents::default()
        } else {
            let rows: Rows = leftmost.into_iter().map(|(_, row)| row).collect();
            let (pipeline, sink, files, cut) = (self.pipeline.clone(), self.sink.clone(), files.to_vec(), self.cut);
            let wanted = places.clone();
            tokio::task::spawn_blocking(move || look::expected(&pipeline, &sink, &files, cut, &wanted, Some(&rows)))
                .await??
        };
        let found = look::found(moment, &expected, &places, &seq_nos).await?;
        let mut comparison = Comparison::new(self.sink, self.cut, self.younger, expected);
        found.into_iter().for_each(|found| comparison.take(found));
        let mut compared = comparison.finish();
        // The same report of the same state, whatever the order in which documents came.
        compared.differences.sort_by_cached_key(Difference::id);
        compared.equal += equal;
        compared.younger += younger;
        compared.unexamined = unexamined;
        Ok(compared)
    }
}

/// Notes every document that should be after a step; how many they are.
fn note_expected(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    path: &Path,
    progress: &Progress,
) -> Result<u64, RecomputeError> {
    let (mut out, mut id) = (ShouldFile::create(path)?, String::new());
    each_batch(pipeline, sink, files, cut, |batch| {
        progress.advance(batch.rows() as u64);
        (0..batch.rows()).try_for_each(|row| out.add(Should::of(batch, row, &mut id)))
    })?;
    out.finish()
}

/// Which of these documents should be there after a step.
///
/// # Errors
/// Where the archive cannot be read.
pub async fn standing(
    pipeline: &Pipeline,
    sink: &Sink,
    archive: &Path,
    step: Step,
    ids: impl Iterator<Item = DocumentId>,
) -> Result<recompute::Documents, RecomputeError> {
    let files = recompute::files(pipeline, archive).await?;
    let places = ids.map(|id| hash_of_id(&id.0)).collect();
    let (pipeline, sink) = (pipeline.clone(), sink.clone());
    let computed = tokio::task::spawn_blocking(move || look::expected(&pipeline, &sink, &files, step, &places, None));
    computed.await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}
