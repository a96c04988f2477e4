//! Documents that are not, but look like what was found: with a partner left out, with another one, or of another id.
//!
//! Everything here evaluates the sink's projection over rows that the log has and compares the result with the index's.

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{self, differences};
use lockstep_shared::history::{Content, HistoryRecord, contents};
use lockstep_shared::identity::{IdentifiedRow, document_id};
use lockstep_shared::index::scan::Found;
use lockstep_shared::names::{RowName, names};
use lockstep_shared::plan::{ColumnRef, ExpressionKind, Pipeline, Sink};
use lockstep_shared::semantics::made;
use lockstep_shared::value::Value;

use crate::life::{Ask, By, Life, RecordAt, steps_of};

/// A document of another id that is exactly what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    /// Its id.
    pub id: String,
    /// The records behind it.
    pub records: Vec<RecordAt>,
}

/// A row that is not the document's, with which it would be what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partner {
    /// The input.
    pub input: usize,
    /// The row's record.
    pub record: RecordAt,
}

/// A row that the id names and that meets none of the others.
pub(super) type Unmet = Partner;

type Rows<'a> = Vec<Option<&'a IdentifiedRow>>;

fn project(sink: &Sink, rows: &Rows<'_>) -> Vec<Value> {
    let column = |c: ColumnRef| rows[c.input].map_or(&Value::Null, |row| &row.row[c.column]);
    sink.query.projection.iter().map(|expression| expression.evaluate(&column)).collect()
}

fn is_found(sink: &Sink, rows: &Rows<'_>, found: &Found) -> bool {
    differences(&sink.columns, &project(sink, rows), &found.source).is_empty()
}

/// The rows without those of an input, and of the inputs that are joined to it.
fn padded<'a>(sink: &Sink, rows: &Rows<'a>, input: usize) -> Rows<'a> {
    let mut padded = rows.clone();
    padded[input] = None;
    for (number, later) in sink.query.inputs.iter().enumerate().skip(input + 1) {
        let hangs = later.join.iter().flat_map(|join| &join.on).any(|pair| padded[pair.left.input].is_none());
        if hangs {
            padded[number] = None;
        }
    }
    padded
}

/// The input without whose row the expected document would be what was found.
pub(super) fn padded_input(pipeline: &Pipeline, sink: &Sink, life: &Life, cut: Step, found: &Found) -> Option<usize> {
    let contents = contents(&pipeline.tables, &life.records, cut);
    let document = made(pipeline, sink, &contents).into_iter().find(|made| *made.id.0 == *found.id)?;
    (1..document.rows.len())
        .filter(|input| document.rows[*input].is_some())
        .find(|input| is_found(sink, &padded(sink, &document.rows, *input), found))
}

/// The inputs for which an id has "none" though its other rows have a partner there after `step`, each with the document as
/// it would be without that partner.
pub(super) fn padded_extra(
    pipeline: &Pipeline,
    sink: &Sink,
    life: &Life,
    step: Step,
    id: &str,
) -> Vec<(usize, Vec<Value>)> {
    let Some(names) = names(pipeline, sink, id) else { return Vec::new() };
    let contents = contents(&pipeline.tables, &life.records, step);
    let inputs = 1..names.rows.len();
    let named_absent: Vec<usize> = inputs.clone().filter(|input| names.rows[*input] == Some(RowName::Absent)).collect();
    // An id of key columns does not say which inputs had none: each may have been the one.
    let absent: Vec<Vec<usize>> =
        if sink.key.is_empty() { vec![named_absent] } else { inputs.map(|input| vec![input]).collect() };
    let mut found = Vec::new();
    for made in made(pipeline, sink, &contents) {
        for inputs in &absent {
            let Some(first) = inputs.iter().find(|input| made.rows[**input].is_some()) else { continue };
            let rows = inputs.iter().fold(made.rows.clone(), |rows, input| padded(sink, &rows, *input));
            let values = project(sink, &rows);
            if *document_id(pipeline, sink, &rows, &values).0 == *id {
                found.push((*first, values));
            }
        }
    }
    found
}

/// The row that an id names and that does not meet the others, where the document is as if it did.
pub(super) fn unmet_partner(pipeline: &Pipeline, sink: &Sink, life: &Life, cut: Step, found: &Found) -> Option<Unmet> {
    let names = names(pipeline, sink, &found.id)?;
    let contents = contents(&pipeline.tables, &life.records, cut);
    let steps = steps_of(&life.records);
    let documents = made(pipeline, sink, &contents);
    (1..names.rows.len()).find_map(|input| {
        let name = names.rows[input].as_ref().filter(|name| **name != RowName::Absent)?;
        let table = sink.query.inputs[input].table;
        let row = contents[table.0].iter().find(|row| is_named(pipeline, sink, input, row, name))?;
        let place = row.place;
        let joined = documents.iter().filter(|made| made.rows[input].is_none()).any(|made| {
            let mut rows = made.rows.clone();
            rows[input] = Some(row);
            is_found(sink, &rows, found)
        });
        let record = RecordAt { table, place, step: steps.get(&(table, place)).copied().unwrap_or_default() };
        joined.then_some(Partner { input, record })
    })
}

fn is_named(pipeline: &Pipeline, sink: &Sink, input: usize, row: &IdentifiedRow, name: &RowName) -> bool {
    let table = &pipeline.tables[sink.query.inputs[input].table.0];
    match name {
        RowName::Absent => false,
        RowName::Place(place) => row.place == *place,
        RowName::Key(key) => table.key.iter().zip(key).all(|(column, value)| row.row[*column] == *value),
    }
}

/// The question for rows of an input that have what was found in the columns that the sink shows as they are; of the
/// leftmost input every such column, of others those that differ. `None` where there is no such column.
pub(super) fn question(sink: &Sink, input: usize, found: &Found, fields: Option<&[&str]>) -> Option<Ask> {
    let mut asked: Vec<(usize, Value)> = Vec::new();
    for (column, expression) in sink.columns.iter().zip(&sink.query.projection) {
        let ExpressionKind::Column(from) = expression.kind else { continue };
        let is_asked = fields.is_none_or(|fields| fields.contains(&column.name.as_str()));
        if from.input != input || !is_asked || asked.iter().any(|(c, _)| *c == from.column) {
            continue;
        }
        match document::read(column.data_type, found.source.get(&column.name))? {
            Value::Null => {}
            value => asked.push((from.column, value)),
        }
    }
    if asked.is_empty() {
        return None;
    }
    let (columns, values): (Vec<usize>, Vec<Value>) = asked.into_iter().unzip();
    Some(Ask { table: sink.query.inputs[input].table, by: By::Columns(columns), tuples: [values].into() })
}

/// The inputs of which alone the fields that differ are, and what hangs on them.
pub(super) fn inputs_of(sink: &Sink, fields: &[&str]) -> Vec<usize> {
    let reads = |field: &&str| -> Option<Vec<usize>> {
        let number = sink.columns.iter().position(|c| c.name == **field)?;
        let mut inputs = Vec::new();
        sink.query.projection[number].for_each_column(&mut |c| inputs.push(c.input));
        Some(inputs)
    };
    let Some(read) = fields.iter().map(reads).collect::<Option<Vec<_>>>() else { return Vec::new() };
    (1..sink.query.inputs.len()).filter(|input| read.iter().all(|inputs| inputs.contains(input))).collect()
}

/// The row of those that were found with which the expected document would be what was found.
pub(super) fn partner(
    pipeline: &Pipeline,
    sink: &Sink,
    life: &Life,
    cut: Step,
    found: &Found,
    input: usize,
    candidates: &[HistoryRecord],
) -> Option<Partner> {
    let contents = contents(&pipeline.tables, &life.records, cut);
    let document = made(pipeline, sink, &contents).into_iter().find(|made| *made.id.0 == *found.id)?;
    candidates.iter().filter(|record| record.step <= cut).find_map(|record| {
        let Content::Row(row) = &record.content else { return None };
        let other = IdentifiedRow { place: record.place, row: row.clone() };
        let mut rows = document.rows.clone();
        rows[input] = Some(&other);
        let at = RecordAt { table: record.table, place: record.place, step: record.step };
        is_found(sink, &rows, found).then_some(Partner { input, record: at })
    })
}
