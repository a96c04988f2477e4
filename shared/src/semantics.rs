//! THE DEFINITION: what the SQL means, naively.
//!
//! Stream and batch are two mechanisms that must both equal it. There is no clever step here: every pair of rows is
//! looked at, and each document is written down.

use std::collections::BTreeMap;

use crate::identity::{DocumentId, IdentifiedRow, document_id};
use crate::plan::{ColumnRef, Input, JoinKind, Pipeline, Sink};
use crate::value::Value;

/// The rows of each table, one list a table of the pipeline.
pub type Contents = [Vec<IdentifiedRow>];

/// A row of the join: for each input so far its row, or `None` where it is null-padded.
type Joined<'a> = Vec<Option<&'a IdentifiedRow>>;

/// A document with what it is made of.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    /// Its id.
    pub id: DocumentId,
    /// Its values.
    pub values: Vec<Value>,
    /// One an input: its row, or `None` where it is null-padded.
    pub rows: Vec<Option<&'a IdentifiedRow>>,
}

/// The documents of a sink over tables with these contents.
///
/// # Panics
/// Where two joined rows give one id: then the sink's identity is wrong, and no index could hold both.
#[must_use]
pub fn documents(pipeline: &Pipeline, sink: &Sink, contents: &Contents) -> BTreeMap<DocumentId, Vec<Value>> {
    let mut documents = BTreeMap::new();
    for Made { id, values, .. } in made(pipeline, sink, contents) {
        let other = documents.insert(id.clone(), values);
        assert!(other.is_none(), "two rows of {} have the id {id}", sink.name);
    }
    documents
}

/// The same with the rows that each document is made of.
#[must_use]
pub fn made<'a>(pipeline: &Pipeline, sink: &Sink, contents: &'a Contents) -> Vec<Made<'a>> {
    let query = &sink.query;
    let mut joined: Vec<Joined<'_>> = vec![vec![]];
    for (number, input) in query.inputs.iter().enumerate() {
        let rows: Vec<&IdentifiedRow> =
            contents[input.table.0].iter().filter(|row| passes(input, number, row)).collect();
        joined = joined.into_iter().flat_map(|left| join(left, input, &rows)).collect();
    }
    joined.retain(|row| query.filter.as_ref().is_none_or(|filter| filter.holds(&|c| column(row, c))));
    let document = |rows: Joined<'a>| {
        let values: Vec<Value> = query.projection.iter().map(|e| e.evaluate(&|c| column(&rows, c))).collect();
        Made { id: document_id(pipeline, sink, &rows, &values), values, rows }
    };
    joined.into_iter().map(document).collect()
}

/// Whether a row exists for this input.
fn passes(input: &Input, number: usize, row: &IdentifiedRow) -> bool {
    input.filter.as_ref().is_none_or(|filter| {
        filter.holds(&|c| {
            assert!(c.input == number, "an input's filter reads its own columns only");
            &row.row[c.column]
        })
    })
}

/// The left row with each of its partners, or padded, or gone.
fn join<'a>(left: Joined<'a>, input: &Input, rows: &[&'a IdentifiedRow]) -> Vec<Joined<'a>> {
    let Some(join) = &input.join else {
        return rows.iter().map(|row| vec![Some(*row)]).collect();
    };
    let with = |right: Option<&'a IdentifiedRow>| left.iter().copied().chain([right]).collect::<Joined<'a>>();
    let equal = |right: &IdentifiedRow| {
        join.on.iter().all(|key| {
            let (l, r) = (column(&left, key.left), &right.row[key.right]);
            !l.is_null() && !r.is_null() && l == r
        })
    };
    let partners: Vec<Joined<'a>> = rows.iter().filter(|right| equal(right)).map(|right| with(Some(right))).collect();
    match (partners.is_empty(), join.kind) {
        (true, JoinKind::Left) => vec![with(None)],
        _ => partners,
    }
}

fn column<'a>(row: &Joined<'a>, c: ColumnRef) -> &'a Value {
    row[c.input].map_or(&Value::Null, |row| &row.row[c.column])
}
