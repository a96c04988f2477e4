//! The causes of a reconcile's differences: reads the evidence that stands outside the index, and asks the archive.
//!
//! Differences are looked into in batches, so that memory is bounded. Beyond [`MOST_EXPLAINED`] of one sink they are counted
//! and not looked into: an index that lost most of its documents has one cause, and needs a rebuild.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{Client, index_name};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;
use polars::prelude::PolarsError;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::cause::{Earlier, Evidence, Examined, Letter, earlier_documents, examine};
use crate::cut::acknowledged;
use crate::diff::Difference;
use crate::life::{Ask, Store, fetch};
use crate::programs::{self, Earlier as EarlierProgram};
use crate::recompute::{self, RecomputeError};

/// Differences of one sink that are looked into.
pub const MOST_EXPLAINED: usize = 100_000;
/// Steps that a stream can be ahead of what the archive says when it is asked: a day of ten a second.
const STEPS_AHEAD: u64 = 1_000_000;
/// Differences that are looked into at a time: their evidence is in memory together.
const BATCH: usize = 5_000;

/// What the archive and the state say of all sinks.
pub struct Surroundings {
    files: Vec<Vec<PathBuf>>,
    earlier: Option<(EarlierProgram, Vec<Vec<PathBuf>>)>,
    acknowledged: Step,
    known: Step,
    letters: BTreeMap<String, BTreeMap<String, Letter>>,
}

impl Surroundings {
    /// Reads what is the same for every sink. Who has no state folder at hand is told less.
    ///
    /// # Errors
    /// Where the archive cannot be read.
    pub async fn read(
        pipeline: &Pipeline,
        settings: &Settings,
        notes: &BTreeMap<String, Note>,
    ) -> Result<Self, RecomputeError> {
        let archived = notes.values().map(|note| note.step).min().unwrap_or_default();
        let noted = notes.values().map(|note| note.acknowledged).max().unwrap_or_default();
        let live = acknowledged(settings).await;
        let earlier = match programs::before(pipeline, &settings.archive_path) {
            None => None,
            Some(earlier) => {
                let files = recompute::files(&earlier.pipeline, &settings.archive_path).await;
                // An earlier program may have read tables that are gone.
                files.ok().map(|files| (earlier, files))
            }
        };
        Ok(Self {
            files: recompute::files(pipeline, &settings.archive_path).await?,
            earlier,
            acknowledged: live.or_else(|| journaled(&settings.state_path)).unwrap_or(noted).max(noted),
            known: live.unwrap_or(archived).max(archived),
            letters: letters(&settings.state_path.join("dead-letters.jsonl")),
        })
    }

    /// No stream can have written a step after this one yet.
    #[must_use]
    pub fn out_of_reach(&self) -> Step {
        Step(self.known.0.saturating_add(STEPS_AHEAD))
    }

    /// The evidence for a sink's index.
    pub async fn evidence<'a>(
        &self,
        pipeline: &'a Pipeline,
        sink: &'a Sink,
        cut: Step,
        client: &Client,
    ) -> Evidence<'a> {
        Evidence {
            pipeline,
            sink,
            cut,
            known: self.known.max(cut),
            acknowledged: self.acknowledged,
            changed_at: self.earlier.as_ref().map(|(earlier, _)| earlier.changed_at),
            mapping: client.properties(index_name(sink)).await.ok().filter(Json::is_object),
            letters: self.letters.get(&sink.name).cloned().unwrap_or_default(),
        }
    }

    /// The causes of the first differences. It takes processor time and must not run on a thread that others wait for.
    ///
    /// # Errors
    /// Where the archive cannot be read.
    pub fn explain(
        &self,
        evidence: &Evidence<'_>,
        differences: &[Difference],
    ) -> Result<Vec<Examined>, RecomputeError> {
        let Evidence { pipeline, sink, cut, .. } = evidence;
        let failed = |source| RecomputeError::Polars { sink: sink.name.clone(), source: Box::new(source) };
        let mut explained = Vec::new();
        for batch in differences[..differences.len().min(MOST_EXPLAINED)].chunks(BATCH) {
            let batch: Vec<&Difference> = batch.iter().collect();
            let mut store = Store::new(pipeline);
            let ask = &mut |ask: &Ask| fetch(pipeline, &self.files, *cut, ask);
            let earlier = &mut |questions: &[(String, Step)]| self.earlier(sink, questions);
            explained.extend(examine(evidence, &batch, &mut store, ask, earlier).map_err(failed)?);
        }
        Ok(explained)
    }

    fn earlier(&self, sink: &Sink, questions: &[(String, Step)]) -> Result<Vec<Option<Earlier>>, PolarsError> {
        let nothing = || Ok(questions.iter().map(|_| None).collect());
        let Some((EarlierProgram { pipeline, changed_at }, files)) = &self.earlier else { return nothing() };
        let Some(before) = pipeline.sinks.iter().find(|before| before.name == sink.name) else { return nothing() };
        let ask = &mut |ask: &Ask| fetch(pipeline, files, *changed_at, ask);
        earlier_documents(pipeline, before, *changed_at, questions, &mut Store::new(pipeline), ask)
    }
}

/// The last step that the index has acknowledged, as the journal of a stream that does not run says. Each line of it is a
/// checksum, a space and an entry; what is no such note is the stream's own business.
fn journaled(state: &Path) -> Option<Step> {
    #[derive(Deserialize)]
    struct Acknowledged {
        acknowledged: Step,
    }
    let text = std::fs::read_to_string(state.join("journal")).ok()?;
    let note = |line: &str| Some(serde_json::from_str::<Acknowledged>(line.split_once(' ')?.1).ok()?.acknowledged);
    text.lines().filter_map(note).max()
}

/// The last dead letter of each document, by sink.
fn letters(path: &Path) -> BTreeMap<String, BTreeMap<String, Letter>> {
    #[derive(Deserialize)]
    struct Line {
        sink: String,
        id: String,
        reason: String,
        #[serde(default)]
        step: Option<Step>,
    }
    let mut letters: BTreeMap<String, BTreeMap<String, Letter>> = BTreeMap::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let Line { sink, id, reason, step } = line;
        letters.entry(sink).or_default().insert(id, Letter { step, reason });
    }
    letters
}
