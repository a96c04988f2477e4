//! The rows of one table, by slot, and by the columns of its primary key and of each join.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use lockstep_shared::coordinates::Place;
use lockstep_shared::identity::IdentifiedRow;
use lockstep_shared::plan::Table;
use lockstep_shared::value::{Row, Value};
use rustc_hash::{FxHashMap, FxHasher};

/// Where a row stands in its table. Slots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// An index of a table.
#[derive(Clone, Copy, Debug)]
pub struct IndexNumber(usize);

/// An index over some columns: slots by the hash of their values. It keeps no value itself; who looks something up reads
/// the rows anyway, and leaves out those that only have the hash in common. Rows with a NULL among the columns are not in
/// it: NULL never equals anything.
struct Index {
    columns: Vec<usize>,
    slots: FxHashMap<u64, Slots>,
}

/// The slots of one hash. Most have one.
enum Slots {
    One(Slot),
    Many(Vec<Slot>),
}

impl Slots {
    fn as_slice(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn push(&mut self, slot: Slot) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, slot]),
            Self::Many(slots) => slots.push(slot),
        }
    }
}

/// The state of one table.
pub struct TableState {
    rows: Vec<Option<IdentifiedRow>>,
    free: Vec<Slot>,
    indexes: Vec<Index>,
    /// The index over the primary key.
    key: Option<IndexNumber>,
    kept: Vec<bool>,
    values_bytes: usize,
}

/// What an entry of an index costs about: the hash, the slot, and the map's own bookkeeping.
const INDEX_ENTRY_BYTES: usize = 48;

impl TableState {
    /// An empty table that keeps its key columns.
    pub fn new(table: &Table) -> Self {
        let kept = (0..table.columns.len()).map(|column| table.key.contains(&column)).collect();
        let mut state =
            Self { rows: Vec::new(), free: Vec::new(), indexes: Vec::new(), key: None, kept, values_bytes: 0 };
        state.key = table.is_keyed().then(|| state.index(&table.key));
        state
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

    /// About how much memory the rows and their indexes take.
    pub fn bytes(&self) -> usize {
        self.values_bytes
            + self.rows.len() * (size_of::<Option<IdentifiedRow>>() + self.indexes.len() * INDEX_ENTRY_BYTES)
    }

    /// How many different keys an index has.
    pub fn keys(&self, index: IndexNumber) -> usize {
        self.indexes[index.0].slots.len()
    }

    /// The slot of the row that came from a place. Looks at every row: for a question that a person asks.
    pub fn slot_at(&self, place: Place) -> Option<Slot> {
        self.slots().find(|slot| self.get(*slot).is_some_and(|row| row.place == place))
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

    /// The row that has the primary key of this one; none in a table without one.
    pub fn slot_of_key(&self, row: &[Value]) -> Option<Slot> {
        let index = self.key?;
        let key = self.indexes[index.0].columns.iter().map(|column| &row[*column]);
        self.find(index, key).map(|(slot, _)| slot).next()
    }

    /// The row in a slot.
    pub fn get(&self, slot: Slot) -> Option<&IdentifiedRow> {
        self.rows.get(slot.0 as usize)?.as_ref()
    }

    /// The rows with these values in the index's columns; none where one of the values is NULL.
    pub fn find<'s, 'k>(
        &'s self,
        index: IndexNumber,
        key: impl Iterator<Item = &'k Value> + Clone,
    ) -> impl Iterator<Item = (Slot, &'s IdentifiedRow)> {
        let Index { columns, slots } = &self.indexes[index.0];
        let candidates = hash_of(key.clone()).and_then(|hash| slots.get(&hash)).map_or(&[][..], Slots::as_slice);
        candidates.iter().filter_map(move |slot| {
            let row = self.get(*slot)?;
            columns.iter().zip(key.clone()).all(|(column, value)| row.row[*column] == *value).then_some((*slot, row))
        })
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
        self.values_bytes -= values_bytes(&row.row);
        for Index { columns, slots } in &mut self.indexes {
            let Some(hash) = hash_of(columns.iter().map(|column| &row.row[*column])) else { continue };
            if let Some(Slots::Many(same)) = slots.get_mut(&hash) {
                same.retain(|other| *other != slot);
                if !same.is_empty() {
                    continue;
                }
            }
            slots.remove(&hash);
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
        for Index { columns, slots } in &mut self.indexes {
            if let Some(hash) = hash_of(columns.iter().map(|column| &row.row[*column])) {
                slots.entry(hash).and_modify(|slots| slots.push(slot)).or_insert(Slots::One(slot));
            }
        }
        self.values_bytes += values_bytes(&row.row);
        self.rows[slot.0 as usize] = Some(row);
        slot
    }
}

/// What the values of a row take, with the texts that they point to.
fn values_bytes(row: &Row) -> usize {
    let text_bytes =
        |value: &Value| if let Value::String(text) = value { text.len() + 2 * size_of::<usize>() } else { 0 };
    row.iter().map(|value| size_of::<Value>() + text_bytes(value)).sum()
}

/// The hash of a key; none where a value of it is NULL.
fn hash_of<'a>(values: impl Iterator<Item = &'a Value>) -> Option<u64> {
    let mut hasher = FxHasher::default();
    for value in values {
        if value.is_null() {
            return None;
        }
        value.hash(&mut hasher);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_shared::coordinates::{Offset, Partition};
    use lockstep_shared::plan::Column;
    use lockstep_shared::types::DataType;

    use super::*;

    /// What the hasher multiplies by. With it two keys of two columns can be made that have one hash.
    const MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;

    fn state(key: Vec<usize>) -> TableState {
        let column = |name: &str| Column { name: name.into(), data_type: DataType::BigInt, nullable: true };
        TableState::new(&Table {
            name: "t".into(),
            columns: vec![column("a"), column("b")],
            key,
            options: BTreeMap::new(),
        })
    }

    fn row(values: [Value; 2]) -> IdentifiedRow {
        IdentifiedRow { place: Place { partition: Partition(0), offset: Offset(0) }, row: Arc::new(values) }
    }

    #[test]
    fn rows_that_have_only_the_hash_of_their_keys_in_common_are_kept_apart() {
        let one = [Value::Integer(1), Value::Integer(5)];
        let shift = MULTIPLIER.wrapping_mul(MULTIPLIER).cast_signed();
        let other = [Value::Integer(2), Value::Integer(5_i64.wrapping_sub(shift))];
        assert_eq!(hash_of(one.iter()), hash_of(other.iter()), "the two keys are made to have one hash");

        let mut state = state(vec![0, 1]);
        let first = state.insert(row(one.clone()));
        assert_eq!(state.slot_of_key(&other), None);
        let second = state.insert(row(other.clone()));
        assert_eq!([state.slot_of_key(&one), state.slot_of_key(&other)], [Some(first), Some(second)]);
        state.replace(Some(first), None);
        assert_eq!([state.slot_of_key(&one), state.slot_of_key(&other)], [None, Some(second)]);
        state.replace(Some(second), None);
        assert_eq!(state.len(), 0);
        assert_eq!(state.values_bytes, 0, "what a row takes is given back");
        assert!(state.indexes[0].slots.is_empty(), "nothing is left of rows that are gone");
    }

    #[test]
    fn a_null_is_found_by_nothing() {
        let mut state = state(Vec::new());
        let index = state.index(&[1]);
        state.insert(row([Value::Integer(1), Value::Null]));
        state.insert(row([Value::Integer(2), Value::Integer(7)]));
        let found = |key: &Value| state.find(index, std::iter::once(key)).count();
        assert_eq!([found(&Value::Null), found(&Value::Integer(7)), found(&Value::Integer(8))], [0, 1, 0]);
    }
}
