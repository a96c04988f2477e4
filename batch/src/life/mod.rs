//! A document's life: the states that the log says it had, and the records behind each of them.
//!
//! The records that bear on a document are few: the rows that its id names, and from those the rows that the joins meet,
//! in every version that each of them ever had (`trace`). They are asked for step by step, for many documents at a time
//! (`store`, and `archive` which asks the archive), and then the definition, `shared::semantics`, is evaluated over them
//! at each step in which one of them came. So a life is what the definition gives over the whole archive up to each step.
//!
//! The closure is wider than needed and never narrower: a row that turns out to be no partner changes no state. A document
//! that depends on more than [`MOST_RECORDS`] records is not followed, and says so.

mod archive;
mod store;
mod trace;

use std::collections::BTreeMap;

use lockstep_shared::coordinates::{Place, Step, TableId};
use lockstep_shared::history::{HistoryRecord, contents};
use lockstep_shared::identity::{DocumentId, IdentifiedRow};
use lockstep_shared::names::{Names, names};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::semantics::{Made, made};
use lockstep_shared::value::Value;

pub use archive::fetch;
pub use store::{Ask, By, Store, tuple_of};
use trace::Trace;

/// Most records that one document is followed through: the definition looks at every pair, at every step.
pub const MOST_RECORDS: usize = 3_000;

/// Where a record stands, and the step that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordAt {
    /// Its table.
    pub table: TableId,
    /// Its partition and offset.
    pub place: Place,
    /// Its step.
    pub step: Step,
}

/// A document as it stood, and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its values.
    pub values: Vec<Value>,
    /// One an input: the record of its row, or `None` where it is null-padded.
    pub rows: Vec<Option<RecordAt>>,
}

/// From a step on.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The step.
    pub step: Step,
    /// The document; `None` where there is none any more.
    pub document: Option<Standing>,
    /// The records of that step among those that bear on the document.
    pub by: Vec<RecordAt>,
}

/// A document's life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Life {
    /// Ascending by step; two in a row differ in the document or in the records behind it. Before the first there was none.
    pub states: Vec<State>,
    /// Every record that bears on the document, and perhaps others.
    pub records: Vec<HistoryRecord>,
}

impl Life {
    /// How the document stood after a step.
    #[must_use]
    pub fn at(&self, step: Step) -> Option<&Standing> {
        self.states.iter().rev().find(|state| state.step <= step)?.document.as_ref()
    }

    /// The step that changed the document's content last, up to and with `upto`.
    #[must_use]
    pub fn last_change(&self, upto: Step) -> Option<Step> {
        let until = self.states.iter().take_while(|state| state.step <= upto);
        let mut last: Option<(Step, Option<&[Value]>)> = None;
        for state in until {
            let values = state.document.as_ref().map(|d| d.values.as_slice());
            if last.is_none_or(|(_, before)| before != values) {
                last = Some((state.step, values));
            }
        }
        last.map(|(step, _)| step)
    }
}

/// Why a document's life is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No document of the sink can have such an id.
    NoSuchId,
    /// The id leaves open which row it begins with.
    Open,
    /// It depends on more records than are followed.
    TooMany,
}

/// What a life begins with: an id, or what an id could say.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Whose life it is; `None` for every document of the named rows.
    pub id: Option<DocumentId>,
    /// What it names.
    pub names: Option<Names>,
}

impl Subject {
    /// The document of this id.
    #[must_use]
    pub fn of_id(pipeline: &Pipeline, sink: &Sink, id: &str) -> Self {
        Self { id: Some(DocumentId(id.into())), names: names(pipeline, sink, id) }
    }
}

/// The records that bear on each subject, or why they are not known. What the store lacks is asked of `fetch`.
///
/// # Errors
/// What `fetch` says.
pub fn gather<E>(
    pipeline: &Pipeline,
    sink: &Sink,
    subjects: &[Subject],
    store: &mut Store,
    fetch: &mut dyn FnMut(&Ask) -> Result<Vec<HistoryRecord>, E>,
) -> Result<Vec<Result<Vec<HistoryRecord>, Unknown>>, E> {
    let mut traces: Vec<Result<Trace<'_>, Unknown>> = subjects
        .iter()
        .map(|s| s.names.as_ref().map_or(Err(Unknown::NoSuchId), |names| Ok(Trace::new(pipeline, sink, names))))
        .collect();
    loop {
        let mut questions = Vec::new();
        for (number, trace) in traces.iter_mut().enumerate() {
            let Ok(following) = trace else { continue };
            match following.question() {
                Ok(Some(question)) => questions.push((number, question)),
                Ok(None) => {}
                Err(unknown) => *trace = Err(unknown),
            }
        }
        if questions.is_empty() {
            break;
        }
        store.ask(questions.iter().map(|(_, question)| &question.ask), fetch)?;
        for (number, question) in questions {
            if let Ok(trace) = &mut traces[number] {
                trace.answered(&question, store);
            }
        }
    }
    Ok(traces.into_iter().map(|trace| trace.and_then(|trace| trace.records(store))).collect())
}

/// The life of each document, up to and with step `upto`.
///
/// # Errors
/// What `fetch` says.
pub fn lives<E>(
    pipeline: &Pipeline,
    sink: &Sink,
    ids: &[&str],
    upto: Step,
    store: &mut Store,
    fetch: &mut dyn FnMut(&Ask) -> Result<Vec<HistoryRecord>, E>,
) -> Result<Vec<Result<Life, Unknown>>, E> {
    let subjects: Vec<Subject> = ids.iter().map(|id| Subject::of_id(pipeline, sink, id)).collect();
    let gathered = gather(pipeline, sink, &subjects, store, fetch)?;
    let life = |(id, records): (&&str, Result<Vec<HistoryRecord>, Unknown>)| {
        records.map(|records| evaluate(pipeline, sink, id, records, upto))
    };
    Ok(ids.iter().zip(gathered).map(life).collect())
}

/// The definition over the records, at each step in which one of them came.
fn evaluate(pipeline: &Pipeline, sink: &Sink, id: &str, mut records: Vec<HistoryRecord>, upto: Step) -> Life {
    records.retain(|record| record.step <= upto);
    records.sort_by_key(HistoryRecord::order);
    let steps = steps_of(&records);
    let mut states: Vec<State> = Vec::new();
    for of_step in records.chunk_by(|a, b| a.step == b.step) {
        let step = of_step[0].step;
        let contents = contents(&pipeline.tables, &records, step);
        let document = made(pipeline, sink, &contents).into_iter().find(|made| *made.id.0 == *id);
        let document = document.map(|made| standing(sink, &made, &steps));
        if states.last().map_or(document.is_some(), |last| last.document != document) {
            let by = of_step.iter().map(|r| RecordAt { table: r.table, place: r.place, step }).collect();
            states.push(State { step, document, by });
        }
    }
    Life { states, records }
}

/// The step of each record.
pub(crate) type Steps = BTreeMap<(TableId, Place), Step>;

pub(crate) fn steps_of(records: &[HistoryRecord]) -> Steps {
    records.iter().map(|record| ((record.table, record.place), record.step)).collect()
}

/// A document of the definition with the records behind it.
pub(crate) fn standing(sink: &Sink, made: &Made<'_>, steps: &Steps) -> Standing {
    let at = |(input, row): (usize, &Option<&IdentifiedRow>)| {
        let (table, place) = (sink.query.inputs[input].table, (*row)?.place);
        Some(RecordAt { table, place, step: steps.get(&(table, place)).copied().unwrap_or_default() })
    };
    Standing { values: made.values.clone(), rows: made.rows.iter().enumerate().map(at).collect() }
}
