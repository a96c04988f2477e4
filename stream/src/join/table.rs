//! The rows of one table, by slot, by primary key, and by the columns of each join.

use std::sync::Arc;

use lockstep_shared::identity::{IdentifiedRow, key_of};
use lockstep_shared::plan::Table;
use lockstep_shared::value::{Row, Value};
use rustc_hash::FxHashMap;

/// Where a row stands in its table. Slots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

/// An index of a table.
#[derive(Clone, Copy, Debug)]
pub struct IndexNumber(usize);

/// An index over some columns. Rows with a NULL among them are not in it: NULL never equals anything.
struct Index {
    columns: Vec<usize>,
    slots: FxHashMap<Vec<Value>, Vec<Slot>>,
}

/// The state of one table.
pub struct TableState {
    table: Table,
    rows: Vec<Option<IdentifiedRow>>,
    free: Vec<Slot>,
    keys: FxHashMap<Vec<Value>, Slot>,
    indexes: Vec<Index>,
    kept: Vec<bool>,
}

impl TableState {
    /// An empty table that keeps its key columns.
    pub fn new(table: &Table) -> Self {
        let kept = (0..table.columns.len()).map(|column| table.key.contains(&column)).collect();
        let table = table.clone();
        Self { table, rows: Vec::new(), free: Vec::new(), keys: FxHashMap::default(), indexes: Vec::new(), kept }
    }

    /// Columns that some sink reads; others are not kept.
    pub fn keep(&mut self, columns: &[usize]) {
        for column in columns {
            self.kept[*column] = true;
        }
    }

    /// The index over these columns, added if it is not there. Only for an empty table.
    pub fn index(&mut self, columns: &[usize]) -> IndexNumber {
        assert!(self.rows.is_empty(), "indexes are made before rows come");
        let existing = self.indexes.iter().position(|index| index.columns == columns);
        IndexNumber(existing.unwrap_or_else(|| {
            self.indexes.push(Index { columns: columns.to_vec(), slots: FxHashMap::default() });
            self.indexes.len() - 1
        }))
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// The slots that hold a row.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        (0_u32..).zip(&self.rows).filter(|(_, row)| row.is_some()).map(|(slot, _)| Slot(slot))
    }

    /// The row, with NULL in the columns that nobody reads.
    pub fn trimmed(&self, row: &Row) -> Row {
        if self.kept.iter().all(|kept| *kept) {
            return row.clone();
        }
        let values: Vec<Value> =
            row.iter().zip(&self.kept).map(|(v, kept)| if *kept { v.clone() } else { Value::Null }).collect();
        Arc::from(values)
    }

    /// The row of a primary key.
    pub fn slot_of_key(&self, key: &[Value]) -> Option<Slot> {
        self.keys.get(key).copied()
    }

    /// The row in a slot.
    pub fn get(&self, slot: Slot) -> Option<&IdentifiedRow> {
        self.rows.get(slot.0 as usize)?.as_ref()
    }

    /// The rows with these values; none where one of them is NULL.
    pub fn find(&self, index: IndexNumber, key: &[Value]) -> &[Slot] {
        self.indexes[index.0].slots.get(key).map_or(&[], Vec::as_slice)
    }

    /// Takes one row out and puts another in, either of which may be missing. Gives the slot of the new one.
    pub fn replace(&mut self, old: Option<Slot>, new: Option<IdentifiedRow>) -> Option<Slot> {
        if let Some(slot) = old {
            self.remove(slot);
        }
        new.map(|row| self.insert(row))
    }

    fn remove(&mut self, slot: Slot) {
        let Some(row) = self.rows[slot.0 as usize].take() else { return };
        for index in &mut self.indexes {
            let key: Vec<Value> = index.columns.iter().map(|column| row.row[*column].clone()).collect();
            if let Some(slots) = index.slots.get_mut(&key) {
                slots.retain(|other| *other != slot);
                if slots.is_empty() {
                    index.slots.remove(&key);
                }
            }
        }
        if self.table.is_keyed() {
            self.keys.remove(&key_of(&self.table, &row.row));
        }
        self.free.push(slot);
    }

    fn insert(&mut self, row: IdentifiedRow) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            Slot(
                u32::try_from(self.rows.len() - 1)
                    .unwrap_or_else(|_| unreachable!("a table has fewer than 2^32 rows in memory")),
            )
        });
        for index in &mut self.indexes {
            let key: Vec<Value> = index.columns.iter().map(|column| row.row[*column].clone()).collect();
            if !key.iter().any(Value::is_null) {
                index.slots.entry(key).or_default().push(slot);
            }
        }
        if self.table.is_keyed() {
            self.keys.insert(key_of(&self.table, &row.row), slot);
        }
        self.rows[slot.0 as usize] = Some(row);
        slot
    }
}
