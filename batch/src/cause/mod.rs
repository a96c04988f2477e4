//! Why a document differs: the most specific cause that the evidence supports.
//!
//! [`name`] is pure: from a difference, the document's life and what else is known ([`Evidence`], [`Case`]) to a cause, a
//! sentence and the records behind it. `examine` gets the evidence from the archive, for a batch of differences at a time.
//!
//! The first rule that holds names the cause:
//!
//! | | missing | different | extra |
//! |---|---|---|---|
//! | 1 | | version-beyond-log: its version is of a step that the log has not reached | version-beyond-log |
//! | 2 | rejected-earlier: a dead letter is as young as its last change | rejected-earlier | |
//! | 3 | pipeline-changed: the earlier program had no such document, and it has not changed since | | |
//! | 4 | never-written: its last change is above what the index has acknowledged | never-written, where it is as before | never-written: its delete is |
//! | 5 | write-lost | edited-by-another-writer: its version has bits that no step sets | edited-by-another-writer, where the log had the document |
//! | 6 | | padding-not-retracted: as it would be without the partner that an input has | padding-not-retracted: it has "none" for an input that has a partner |
//! | 7 | | stale: content and version of an earlier state | resurrected-after-delete: content of a state before its end |
//! | 8 | | mapping-coercion: each field is the expected value in another type or with less precision, or the live mapping ignores it | |
//! | 9 | | wrong-partner: as it would be with another row of one joined table | wrong-partner: its id names rows that do not meet |
//! | 10 | | | duplicate-identity: it is what another id should be, and is |
//! | 11 | | pipeline-changed: as an earlier program gave it | pipeline-changed |
//! | 12 | | tampered: nothing above | tampered, where the log had the document; else foreign |
//!
//! What cannot be told apart has one name: a write that was lost and a delete by hand (write-lost); a delete that was lost
//! and a document that was put back (resurrected-after-delete). A document that more records bear on than are followed is
//! not-followed.

mod coercion;
mod different;
mod examine;
mod extra;
mod lookalike;
mod programs;

use std::collections::BTreeMap;

use lockstep_shared::coordinates::{Step, Version};
use lockstep_shared::document::differences;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::value::Value;
use serde::Serialize;
use serde_json::Value as Json;

use crate::diff::Difference;
use crate::life::{Life, RecordAt, State, Unknown};

pub use examine::{Examined, Fetch, examine, id_of};
pub use lookalike::{Partner, Twin};
pub use programs::earlier_documents;

/// Why a document differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its last change has not been acknowledged.
    NeverWritten,
    /// It was acknowledged, and is not there.
    WriteLost,
    /// The index refused it.
    RejectedEarlier,
    /// Another program wrote it.
    PipelineChanged,
    /// An earlier state, at an earlier version.
    Stale,
    /// As it was, or would be, before a partner came.
    PaddingNotRetracted,
    /// It is there after its end.
    ResurrectedAfterDelete,
    /// The document of another id.
    DuplicateIdentity,
    /// Joined with another row than the log says.
    WrongPartner,
    /// Stored in another type or with less precision.
    MappingCoercion,
    /// Written by somebody who adds to a step's version.
    EditedByAnotherWriter,
    /// Content that it never had, at a version of a step.
    Tampered,
    /// A version that no step can have given.
    VersionBeyondLog,
    /// Its id names nothing of the log.
    Foreign,
    /// More records bear on it than are followed.
    NotFollowed,
}

impl Cause {
    /// Its stable name for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverWritten => "never-written",
            Self::WriteLost => "write-lost",
            Self::RejectedEarlier => "rejected-earlier",
            Self::PipelineChanged => "pipeline-changed",
            Self::Stale => "stale",
            Self::PaddingNotRetracted => "padding-not-retracted",
            Self::ResurrectedAfterDelete => "resurrected-after-delete",
            Self::DuplicateIdentity => "duplicate-identity",
            Self::WrongPartner => "wrong-partner",
            Self::MappingCoercion => "mapping-coercion",
            Self::EditedByAnotherWriter => "edited-by-another-writer",
            Self::Tampered => "tampered",
            Self::VersionBeyondLog => "version-beyond-log",
            Self::Foreign => "foreign",
            Self::NotFollowed => "not-followed",
        }
    }
}

/// A document that the index refused once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The step that wrote it; unknown in letters of earlier versions.
    pub step: Option<Step>,
    /// What the server said.
    pub reason: String,
}

/// What is known of a whole index.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The sink.
    pub sink: &'a Sink,
    /// The step up to which it was compared.
    pub cut: Step,
    /// The last step that anybody knows of.
    pub known: Step,
    /// The last step that the index has acknowledged.
    pub acknowledged: Step,
    /// The first step of the program that runs now, where another one ran before.
    pub changed_at: Option<Step>,
    /// The live mapping's `properties`, where they are known.
    pub mapping: Option<Json>,
    /// The sink's dead letters, by id; the last of each.
    pub letters: BTreeMap<String, Letter>,
}

/// What an earlier program gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// The first step of the program that runs now.
    pub changed_at: Step,
    /// The document by the earlier program, under this id, before that step.
    pub document: Option<Vec<Value>>,
}

/// What is known of one difference.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The difference.
    pub difference: &'a Difference,
    /// The document's life.
    pub life: Result<&'a Life, Unknown>,
    /// The document that what was found belongs to.
    pub twin: Option<Twin>,
    /// The row with which what was found is joined.
    pub partner: Option<Partner>,
    /// By the program before this one.
    pub earlier: Option<Earlier>,
}

/// A cause with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The cause.
    pub cause: Cause,
    /// For people.
    pub sentence: String,
    /// The records that should have made the document; of one that should not be there those that took it away.
    pub records: Vec<RecordAt>,
    /// The records behind what was found, where it is known what it is.
    pub found_from: Vec<RecordAt>,
}

/// The cause of a difference.
#[must_use]
pub fn name(evidence: &Evidence<'_>, case: &Case<'_>) -> Named {
    let life = match case.life {
        Ok(life) => life,
        Err(Unknown::TooMany) => {
            let sentence = "more records bear on it than are followed; see lockstep-batch archive and the topics";
            return Named::new(Cause::NotFollowed, sentence.into(), Vec::new());
        }
        Err(_) => &Life::default(),
    };
    let records = records(life, evidence.cut);
    let named = match case.difference {
        Difference::Missing { id, .. } => missing(evidence, case, life, &id.0),
        Difference::Different { .. } => different::name(evidence, case, life),
        Difference::Extra { found } => extra::name(evidence, case, life, found),
    };
    Named { records, ..named }
}

impl Named {
    fn new(cause: Cause, sentence: String, found_from: Vec<RecordAt>) -> Self {
        Self { cause, sentence, records: Vec::new(), found_from }
    }
}

/// The records behind a document at the cut, or those of the step that took it away.
fn records(life: &Life, cut: Step) -> Vec<RecordAt> {
    match life.at(cut) {
        Some(standing) => distinct(standing.rows.iter().flatten().copied()),
        None => life.states.iter().rfind(|state| state.step <= cut).map(|state| state.by.clone()).unwrap_or_default(),
    }
}

/// Each once: one record may be the row of several inputs.
fn distinct(records: impl Iterator<Item = RecordAt>) -> Vec<RecordAt> {
    let mut all: Vec<RecordAt> = records.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn missing(evidence: &Evidence<'_>, case: &Case<'_>, life: &Life, id: &str) -> Named {
    let changed = life.last_change(evidence.cut).unwrap_or_default();
    if let Some(letter) = letter(evidence, id, changed) {
        return rejected(letter);
    }
    if let Some(Earlier { changed_at, document: None }) = &case.earlier {
        let sentence = format!(
            "the program before step {changed_at} gave no such document, and nothing has changed it since; rebuild the index after a change of the program"
        );
        return Named::new(Cause::PipelineChanged, sentence, Vec::new());
    }
    if changed > evidence.acknowledged {
        return never_written("it", changed, evidence.acknowledged);
    }
    let sentence = format!(
        "step {changed} wrote it and the index acknowledged step {}; the write was lost afterwards, or somebody deleted it",
        evidence.acknowledged
    );
    Named::new(Cause::WriteLost, sentence, Vec::new())
}

fn never_written(what: &str, changed: Step, acknowledged: Step) -> Named {
    let sentence = format!(
        "{what} changed last in step {changed}, and the index has acknowledged no more than step {acknowledged}"
    );
    Named::new(Cause::NeverWritten, sentence, Vec::new())
}

/// The dead letter of the document's last change, or of a later write.
fn letter<'a>(evidence: &'a Evidence<'_>, id: &str, changed: Step) -> Option<&'a Letter> {
    evidence.letters.get(id).filter(|letter| letter.step.is_none_or(|step| step >= changed))
}

fn rejected(letter: &Letter) -> Named {
    let step = letter.step.map_or_else(String::new, |step| format!(" of step {step}"));
    Named::new(Cause::RejectedEarlier, format!("the index refused the write{step}: {}", letter.reason), Vec::new())
}

fn beyond(found: &Found, known: Step) -> Named {
    let sentence = format!(
        "its version is of step {}, and the last step of the log is {known}: no stream of this archive wrote it, and it keeps later writes out",
        found.version.step()
    );
    Named::new(Cause::VersionBeyondLog, sentence, Vec::new())
}

/// A state with what was found, before the last one: its last form, and the steps from which and up to which it stood.
struct Was<'a> {
    state: &'a State,
    from: Step,
    until: Step,
}

/// The earlier state with this content; of several the one whose time the version is of, else the latest.
fn earlier_state<'a>(sink: &Sink, life: &'a Life, cut: Step, found: &Found) -> Option<Was<'a>> {
    let upto = life.states.partition_point(|state| state.step <= cut);
    let content = |state: &State| state.document.as_ref().map(|d| d.values.clone());
    let runs: Vec<&[State]> = life.states[..upto].chunk_by(|a, b| content(a) == content(b)).collect();
    let is_found = |run: &[State]| {
        run[0].document.as_ref().is_some_and(|d| differences(&sink.columns, &d.values, &found.source).is_empty())
    };
    let same = runs.windows(2).filter(|pair| is_found(pair[0]));
    let was: Vec<Was<'_>> = same
        .filter_map(|pair| Some(Was { state: pair[0].last()?, from: pair[0][0].step, until: pair[1][0].step }))
        .collect();
    let version = found.version.step();
    let of_version = was.iter().position(|w| w.from <= version && version < w.until);
    let chosen = of_version.unwrap_or(was.len().saturating_sub(1));
    was.into_iter().nth(chosen)
}

/// Whether the bits below the step are those of a step's write or of a repair.
fn is_edited(version: Version) -> bool {
    version != version.step().version() && version != version.step().last_version()
}

fn edited(found: &Found) -> Named {
    let sentence = format!(
        "its version is of step {} and {} more, as when somebody writes it by hand: no step and no repair writes such versions",
        found.version.step(),
        found.version.0 - found.version.step().version().0
    );
    Named::new(Cause::EditedByAnotherWriter, sentence, Vec::new())
}

fn changed_program(earlier: &Earlier) -> Named {
    let sentence = format!(
        "it is what the program before step {} gave, and nothing has written it since; rebuild the index after a change of the program",
        earlier.changed_at
    );
    Named::new(Cause::PipelineChanged, sentence, Vec::new())
}
