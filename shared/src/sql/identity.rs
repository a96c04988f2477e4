//! Which inputs make a document one, and whether a sink's primary key says as much.

use std::collections::BTreeSet;

use crate::plan::{ColumnRef, ExpressionKind, JoinKind, Query, Table};

/// The inputs whose rows tell two documents apart: all but those joined on their whole primary key.
pub(super) fn identity(tables: &[Table], query: &Query) -> Vec<usize> {
    (0..query.inputs.len()).filter(|input| !adds_nothing(tables, query, *input)).collect()
}

fn adds_nothing(tables: &[Table], query: &Query, input: usize) -> bool {
    let table = &tables[query.inputs[input].table.0];
    query.inputs[input].join.as_ref().is_some_and(|join| {
        table.is_keyed() && table.key.iter().all(|column| join.on.iter().any(|key| key.right == *column))
    })
}

/// Why the key, columns of the projection, does not determine the identity; `None` where it does.
///
/// A column is known where the key holds it, where it equals a known column of an earlier input, or where its row is
/// known. Inputs are taken from left to right: whether one is null-padded is settled by the ones before it.
pub(super) fn undetermined(tables: &[Table], query: &Query, identity: &[usize], key: &[usize]) -> Option<String> {
    let mut known: BTreeSet<ColumnRef> = key
        .iter()
        .filter_map(|column| match query.projection[*column].kind {
            ExpressionKind::Column(c) => Some(c),
            _ => None,
        })
        .collect();
    let mut rows = BTreeSet::new();
    loop {
        let before = known.len() + rows.len();
        for (number, input) in query.inputs.iter().enumerate() {
            let table = &tables[input.table.0];
            for (join, pair) in input.join.iter().flat_map(|join| join.on.iter().map(move |pair| (join, pair))) {
                let right = ColumnRef { input: number, column: pair.right };
                if known.contains(&pair.left) {
                    known.insert(right);
                }
                if join.kind == JoinKind::Inner && known.contains(&right) {
                    known.insert(pair.left);
                }
            }
            let is_known = table.is_keyed()
                && table.key.iter().all(|column| known.contains(&ColumnRef { input: number, column: *column }));
            if is_known && rows.insert(number) {
                known.extend((0..table.columns.len()).map(|column| ColumnRef { input: number, column }));
            }
        }
        if known.len() + rows.len() == before {
            break;
        }
    }
    let missing = identity.iter().find(|input| !rows.contains(input))?;
    let input = &query.inputs[*missing];
    let table = &tables[input.table.0];
    Some(if table.is_keyed() {
        let key: Vec<&str> = table.key.iter().map(|column| table.columns[*column].name.as_str()).collect();
        format!(
            "two documents can differ in the row of {} alone; add its key ({}) to the primary key",
            input.alias,
            key.join(", ")
        )
    } else {
        format!(
            "{} is append-only: its rows are told apart by partition and offset, which no column holds; declare a PRIMARY KEY on {}, or none on the sink",
            input.alias, table.name
        )
    })
}
