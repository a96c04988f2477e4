//! What records make of a table: the contents of every table up to a step.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::coordinates::{Place, Step, TableId};
use crate::identity::{IdentifiedRow, key_of};
use crate::plan::Table;
use crate::value::{Row, Value};

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A row: one more in an append table, the new state of its key in a keyed one.
    Row(Row),
    /// The row of this key goes. The key's columns stand in a row of the table's width, the others are NULL.
    Delete(Row),
    /// Nothing: the record could not be read, for this reason. It is archived, counted, and changes no table.
    Rejected(Arc<str>),
}

/// A decoded record, placed in the order of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryRecord {
    /// The step that took it.
    pub step: Step,
    /// Its table.
    pub table: TableId,
    /// Its partition and offset.
    pub place: Place,
    /// What it says.
    pub content: Content,
}

impl HistoryRecord {
    /// Records apply in this order: by step, inside a step by table, partition and offset.
    #[must_use]
    pub fn order(&self) -> (Step, TableId, Place) {
        (self.step, self.table, self.place)
    }
}

/// The rows of each table, one list a table, after the records up to and with step `cut`, in whatever order they come.
#[must_use]
pub fn contents(tables: &[Table], records: &[HistoryRecord], cut: Step) -> Vec<Vec<IdentifiedRow>> {
    let mut ordered: Vec<&HistoryRecord> = records.iter().filter(|r| r.step <= cut).collect();
    ordered.sort_by_key(|r| r.order());
    let of = |table: usize| ordered.iter().copied().filter(move |r| r.table == TableId(table));
    tables
        .iter()
        .enumerate()
        .map(|(n, table)| if table.is_keyed() { last_of_each_key(table, of(n)) } else { bag(of(n)) })
        .collect()
}

fn bag<'a>(records: impl Iterator<Item = &'a HistoryRecord>) -> Vec<IdentifiedRow> {
    records
        .filter_map(|r| match &r.content {
            Content::Row(row) => Some(IdentifiedRow { place: r.place, row: row.clone() }),
            Content::Delete(_) | Content::Rejected(_) => None,
        })
        .collect()
}

fn last_of_each_key<'a>(table: &Table, records: impl Iterator<Item = &'a HistoryRecord>) -> Vec<IdentifiedRow> {
    let mut rows: BTreeMap<Vec<Value>, IdentifiedRow> = BTreeMap::new();
    for record in records {
        match &record.content {
            Content::Row(row) => {
                rows.insert(key_of(table, row), IdentifiedRow { place: record.place, row: row.clone() });
            }
            Content::Delete(key) => {
                rows.remove(&key_of(table, key));
            }
            Content::Rejected(_) => {}
        }
    }
    rows.into_values().collect()
}
