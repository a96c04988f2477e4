//! What an id says: the way back from an `_id` to the rows that it names.
//!
//! The counterpart of [`document_id`]: an id that no document of the sink can have says nothing, also where it only looks
//! like one (`0-07` for `0-7`). Whether the named rows exist is for whoever has them to say.

use crate::coordinates::{Offset, Partition, Place};
use crate::functions::cast;
use crate::identity::{self, DocumentId, IdentifiedRow, document_id};
use crate::plan::{ColumnRef, ExpressionKind, Pipeline, Sink, Table};
use crate::types::DataType;
use crate::value::{Row, Value};

/// What an id says of the row of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowName {
    /// There is none: the document is null-padded.
    Absent,
    /// It came from here.
    Place(Place),
    /// Its table's key.
    Key(Vec<Value>),
}

/// What an id says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// One an input of the query: what the id says of its row; `None` where it says nothing.
    pub rows: Vec<Option<RowName>>,
    /// Columns whose value the id holds. A column that is not NULL is in a row that is there.
    pub columns: Vec<(ColumnRef, Value)>,
}

/// What an id of this sink says; `None` where no document of the sink can have it.
#[must_use]
pub fn names(pipeline: &Pipeline, sink: &Sink, id: &str) -> Option<Names> {
    if sink.key.is_empty() { of_rows(pipeline, sink, id) } else { of_key(pipeline, sink, id) }
}

fn of_rows(pipeline: &Pipeline, sink: &Sink, id: &str) -> Option<Names> {
    let inputs = &sink.query.inputs;
    let mut names = Names { rows: vec![None; inputs.len()], columns: Vec::new() };
    let mut rows: Vec<Option<IdentifiedRow>> = vec![None; inputs.len()];
    let parts = identity::parts(id, identity::BETWEEN_ROWS);
    if parts.len() != sink.identity.len() {
        return None;
    }
    for (input, part) in sink.identity.iter().zip(parts) {
        let table = &pipeline.tables[inputs[*input].table.0];
        let name = row_name(table, part)?;
        rows[*input] = row(table, &name);
        if let RowName::Key(key) = &name {
            let column = |column: &usize| ColumnRef { input: *input, column: *column };
            names.columns.extend(table.key.iter().map(column).zip(key.iter().cloned()));
        }
        names.rows[*input] = Some(name);
    }
    let rows: Vec<Option<&IdentifiedRow>> = rows.iter().map(Option::as_ref).collect();
    // The leftmost row is always there.
    (rows[0].is_some() && *document_id(pipeline, sink, &rows, &[]).0 == *id).then_some(names)
}

fn row_name(table: &Table, part: &str) -> Option<RowName> {
    let texts: Vec<Option<String>> =
        identity::parts(part, identity::BETWEEN_COLUMNS).into_iter().map(identity::unescaped).collect();
    if texts == [None] {
        return Some(RowName::Absent);
    }
    if !table.is_keyed() {
        return place(part).map(RowName::Place);
    }
    let key = texts.into_iter().zip(&table.key).map(|(text, column)| value(text, table.columns[*column].data_type));
    Some(RowName::Key(key.collect())).filter(|name| matches!(name, RowName::Key(key) if key.len() == table.key.len()))
}

/// A row as far as its name tells.
fn row(table: &Table, name: &RowName) -> Option<IdentifiedRow> {
    let mut row = vec![Value::Null; table.columns.len()];
    let place = match name {
        RowName::Absent => return None,
        RowName::Place(place) => *place,
        RowName::Key(key) => {
            table.key.iter().zip(key).for_each(|(column, value)| row[*column] = value.clone());
            Place { partition: Partition(0), offset: Offset(0) }
        }
    };
    Some(IdentifiedRow { place, row: Row::from(row) })
}

fn of_key(pipeline: &Pipeline, sink: &Sink, id: &str) -> Option<Names> {
    let texts: Vec<Option<String>> = match sink.key.len() {
        1 => vec![identity::unescaped_alone(id)],
        _ => identity::parts(id, identity::key_delimiter(sink)).into_iter().map(identity::unescaped).collect(),
    };
    if texts.len() != sink.key.len() {
        return None;
    }
    let mut values = vec![Value::Null; sink.columns.len()];
    let mut names = Names { rows: vec![None; sink.query.inputs.len()], columns: Vec::new() };
    for (column, text) in sink.key.iter().zip(texts) {
        values[*column] = value(text, sink.columns[*column].data_type);
        if let ExpressionKind::Column(from) = sink.query.projection[*column].kind {
            names.columns.push((from, values[*column].clone()));
        }
    }
    let again: DocumentId = document_id(pipeline, sink, &[], &values);
    (*again.0 == *id).then_some(names)
}

fn value(text: Option<String>, data_type: DataType) -> Value {
    text.map_or(Value::Null, |text| cast(&Value::string(&text), DataType::String, data_type))
}

fn place(text: &str) -> Option<Place> {
    let (partition, offset) = text.split_once('-')?;
    Some(Place { partition: Partition(partition.parse().ok()?), offset: Offset(offset.parse().ok()?) })
}
