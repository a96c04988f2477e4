//! Gets the evidence for a batch of differences and names each one's cause.
//!
//! Cheap evidence first: the lives of all. Only what these do not explain is looked into further: whether it is another
//! document or joined with another row, then what an earlier program gave.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::differences;
use lockstep_shared::history::{Content, HistoryRecord, contents};
use lockstep_shared::identity::key_of;
use lockstep_shared::index::scan::Found;
use lockstep_shared::names::{Names, RowName};
use lockstep_shared::plan::{ColumnRef, Pipeline, Sink};
use lockstep_shared::semantics::made;

use super::lookalike::{Partner, Twin, inputs_of, partner, question};
use super::{Case, Cause, Earlier, Evidence, Named, distinct, name};
use crate::diff::Difference;
use crate::life::{Ask, Life, Store, Subject, Unknown, gather, lives, standing, steps_of};

/// Rows that are looked at for one lookalike: common values are no evidence.
const CANDIDATES: usize = 50;

/// What is asked for records.
pub type Fetch<'a, E> = dyn FnMut(&Ask) -> Result<Vec<HistoryRecord>, E> + 'a;
/// What is asked for what an earlier program gave: for each id, with the step of what was found.
pub type AskEarlier<'a, E> = dyn FnMut(&[(String, Step)]) -> Result<Vec<Option<Earlier>>, E> + 'a;

/// A difference with its cause and the document's life.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The cause.
    pub named: Named,
    /// The life.
    pub life: Result<Life, Unknown>,
}

/// The cause of each difference. The batch's evidence is in memory: ask for some thousands at a time.
///
/// # Errors
/// What `fetch` and `earlier` say.
pub fn examine<E>(
    evidence: &Evidence<'_>,
    batch: &[&Difference],
    store: &mut Store,
    fetch: &mut Fetch<'_, E>,
    earlier: &mut AskEarlier<'_, E>,
) -> Result<Vec<Examined>, E> {
    let Evidence { pipeline, sink, cut, .. } = evidence;
    let ids: Vec<&str> = batch.iter().map(|difference| id_of(difference)).collect();
    let lives = lives(pipeline, sink, &ids, *cut, store, fetch)?;
    let mut cases: Vec<Case<'_>> = batch.iter().zip(&lives).map(|(difference, life)| case(difference, life)).collect();
    let mut named: Vec<Named> = cases.iter().map(|case| name(evidence, case)).collect();

    let unexplained = numbers(&named, |n| matches!(n.cause, Cause::Tampered | Cause::Foreign));
    lookalikes(evidence, &mut cases, &unexplained, store, fetch)?;
    for number in unexplained {
        named[number] = name(evidence, &cases[number]);
    }
    if let Some(changed_at) = evidence.changed_at {
        let unexplained: Vec<usize> = numbers(&named, |n| {
            matches!(n.cause, Cause::Tampered | Cause::Foreign | Cause::WriteLost | Cause::ResurrectedAfterDelete)
        });
        let unexplained: Vec<usize> =
            unexplained.into_iter().filter(|n| is_older(&cases[*n], *cut, changed_at)).collect();
        let questions: Vec<(String, Step)> =
            unexplained.iter().map(|n| earlier_question(&cases[*n], changed_at)).collect();
        for (number, answer) in unexplained.into_iter().zip(earlier(&questions)?) {
            cases[number].earlier = answer;
            named[number] = name(evidence, &cases[number]);
        }
    }
    Ok(named.into_iter().zip(lives).map(|(named, life)| Examined { named, life }).collect())
}

/// The id of the document that differs.
#[must_use]
pub fn id_of(difference: &Difference) -> &str {
    match difference {
        Difference::Missing { id, .. } | Difference::Different { id, .. } => &id.0,
        Difference::Extra { found } => &found.id,
    }
}

fn case<'a>(difference: &'a Difference, life: &'a Result<Life, Unknown>) -> Case<'a> {
    Case { difference, life: life.as_ref().map_err(|unknown| *unknown), twin: None, partner: None, earlier: None }
}

fn numbers(named: &[Named], is: impl Fn(&Named) -> bool) -> Vec<usize> {
    named.iter().enumerate().filter(|(_, n)| is(n)).map(|(number, _)| number).collect()
}

/// Whether nothing has written the document since the program changed.
fn is_older(case: &Case<'_>, cut: Step, changed_at: Step) -> bool {
    match case.difference {
        Difference::Missing { .. } => {
            case.life.is_ok_and(|life| life.last_change(cut).is_some_and(|step| step < changed_at))
        }
        Difference::Different { found, .. } | Difference::Extra { found } => found.version.step() < changed_at,
    }
}

fn earlier_question(case: &Case<'_>, changed_at: Step) -> (String, Step) {
    let step = match case.difference {
        Difference::Missing { .. } => Step(changed_at.0.saturating_sub(1)),
        Difference::Different { found, .. } | Difference::Extra { found } => found.version.step(),
    };
    (id_of(case.difference).to_owned(), step)
}

fn lookalikes<E>(
    evidence: &Evidence<'_>,
    cases: &mut [Case<'_>],
    numbers: &[usize],
    store: &mut Store,
    fetch: &mut Fetch<'_, E>,
) -> Result<(), E> {
    let mut questions: Vec<(usize, usize, Ask)> = Vec::new();
    for number in numbers {
        let asked = match cases[*number].difference {
            Difference::Missing { .. } => Vec::new(),
            Difference::Different { fields, found, .. } => {
                let fields: Vec<&str> = fields.iter().map(|field| field.field.as_str()).collect();
                let inputs = inputs_of(evidence.sink, &fields).into_iter();
                inputs
                    .filter_map(|input| Some((input, question(evidence.sink, input, found, Some(&fields))?)))
                    .collect()
            }
            Difference::Extra { found } => {
                question(evidence.sink, 0, found, None).map(|ask| (0, ask)).into_iter().collect()
            }
        };
        questions.extend(asked.into_iter().map(|(input, ask)| (*number, input, ask)));
    }
    store.ask(questions.iter().map(|(_, _, ask)| ask), fetch)?;
    let mut roots: Vec<(usize, Names)> = Vec::new();
    for (number, input, ask) in questions {
        let candidates = store.answer(&ask);
        match cases[number].difference {
            Difference::Different { found, .. } => {
                let Ok(life) = cases[number].life else { continue };
                let Evidence { pipeline, sink, cut, .. } = evidence;
                let met: Vec<HistoryRecord> = candidates.into_iter().take(CANDIDATES).collect();
                let other: Option<Partner> = partner(pipeline, sink, life, *cut, found, input, &met);
                cases[number].partner = cases[number].partner.or(other);
            }
            Difference::Extra { .. } => {
                let named =
                    candidates.iter().take(CANDIDATES).filter_map(|r| root(evidence.pipeline, evidence.sink, r));
                roots.extend(named.map(|names| (number, names)));
            }
            Difference::Missing { .. } => {}
        }
    }
    twins(evidence, cases, roots, store, fetch)
}

/// The leftmost row that a record is of, as an id would name it.
fn root(pipeline: &Pipeline, sink: &Sink, record: &HistoryRecord) -> Option<Names> {
    let Content::Row(row) = &record.content else { return None };
    let table = &pipeline.tables[record.table.0];
    let mut names = Names { rows: vec![None; sink.query.inputs.len()], columns: Vec::new() };
    names.rows[0] = Some(if table.is_keyed() {
        let column = |column: &usize| (ColumnRef { input: 0, column: *column }, row[*column].clone());
        names.columns = table.key.iter().map(column).collect();
        RowName::Key(key_of(table, row))
    } else {
        RowName::Place(record.place)
    });
    Some(names)
}

/// The document of another id that is what was found, among those of the leftmost rows.
fn twins<E>(
    evidence: &Evidence<'_>,
    cases: &mut [Case<'_>],
    roots: Vec<(usize, Names)>,
    store: &mut Store,
    fetch: &mut Fetch<'_, E>,
) -> Result<(), E> {
    let Evidence { pipeline, sink, cut, .. } = evidence;
    let (numbers, names): (Vec<usize>, Vec<Names>) = roots.into_iter().unzip();
    let subjects: Vec<Subject> = names.into_iter().map(|names| Subject { id: None, names: Some(names) }).collect();
    for (number, records) in numbers.into_iter().zip(gather(pipeline, sink, &subjects, store, fetch)?) {
        let (Difference::Extra { found }, Ok(records)) = (cases[number].difference, records) else { continue };
        if cases[number].twin.is_none() {
            cases[number].twin = twin(pipeline, sink, *cut, found, &records);
        }
    }
    Ok(())
}

fn twin(pipeline: &Pipeline, sink: &Sink, cut: Step, found: &Found, records: &[HistoryRecord]) -> Option<Twin> {
    let (contents, steps) = (contents(&pipeline.tables, records, cut), steps_of(records));
    let documents = made(pipeline, sink, &contents);
    let is_it = |made: &&lockstep_shared::semantics::Made<'_>| {
        *made.id.0 != *found.id && differences(&sink.columns, &made.values, &found.source).is_empty()
    };
    documents.iter().find(is_it).map(|made| Twin {
        id: made.id.to_string(),
        records: distinct(standing(sink, made, &steps).rows.into_iter().flatten()),
    })
}
