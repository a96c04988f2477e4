//! A table that is joined by its key: a left row finds one row of it, or none.
//!
//! Such rows are looked up: a column says where each one stands, and what they carry is taken once all inputs are joined.
//! A join of Polars copies all columns that stand to its left, whether rows multiply or not.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use hashbrown::HashTable;
use lockstep_shared::plan::{Join, JoinKind, Pipeline, Query};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Scalar;
use polars::prelude::{
    Column, DataFrame, Engine, Expr, Field, IDX_DTYPE, IdxCa, IdxSize, IntoColumn as _, LazyFrame, PolarsResult,
    Schema, col, map_multiple,
};
use rustc_hash::FxHasher;

use super::{compared_type, has_all_of_key, is_plain, join_key, right_key, right_keys};
use crate::batch::Cells;

/// True where an input's join compares all of its table's key, by texts and whole numbers: what else is equal to what,
/// Polars says better.
pub(super) fn is_possible(pipeline: &Pipeline, query: &Query, number: usize, join: &Join) -> bool {
    let table = &pipeline.tables[query.inputs[number].table.0];
    table.is_keyed() && has_all_of_key(join, table) && compared(pipeline, query, number, join).all(is_plain)
}

/// The types of what the join compares.
fn compared(pipeline: &Pipeline, query: &Query, number: usize, join: &Join) -> impl Iterator<Item = DataType> {
    let table = &pipeline.tables[query.inputs[number].table.0];
    join.on.iter().map(|key| table.columns[key.right].data_type)
}

/// The rows of a joined input, to be looked up.
pub(super) struct Lookup {
    number: usize,
    rows: DataFrame,
    kind: JoinKind,
    /// What is compared with it.
    left: Vec<Expr>,
    index: Arc<Index>,
}

impl Lookup {
    /// Has the rows of an input in memory.
    pub(super) fn of(
        pipeline: &Pipeline,
        query: &Query,
        (number, join): (usize, &Join),
        right: LazyFrame,
    ) -> PolarsResult<Self> {
        let keyed = right.with_columns(right_keys(pipeline, query, number, join));
        let mut rows = keyed.collect_with_engine(Engine::Streaming)?.unwrap_single();
        rows.rechunk_mut();
        let types: Vec<DataType> = compared(pipeline, query, number, join).map(compared_type).collect();
        let mut keys = Vec::with_capacity(types.len());
        for n in 0..types.len() {
            keys.push(rows.drop_in_place(&right_key(number, n))?);
        }
        let left = join.on.iter().map(|key| join_key(pipeline, query, key.left.input, key.left.column)).collect();
        let index = Arc::new(Index::of(Keys::new(&keys, &types)?, rows.height(), types));
        Ok(Self { number, rows, kind: join.kind, left, index })
    }

    /// Looks up the row of each left row. Rows of an inner join that find none go.
    pub(super) fn find(&self, left: LazyFrame) -> LazyFrame {
        let (index, name) = (self.index.clone(), self.place());
        let found = move |keys: &mut [Column]| Ok(index.found(keys)?.into_column());
        let data_type = move |_: &Schema, _: &[Field]| Ok(Field::new("".into(), IDX_DTYPE));
        let frame = left.with_columns([map_multiple(found, &self.left, data_type).alias(name.as_str())]);
        if self.kind == JoinKind::Inner { frame.filter(col(name).is_not_null()) } else { frame }
    }

    /// Adds the columns of the rows that were found.
    pub(super) fn take(&self, frame: LazyFrame, is_wanted: impl Fn(&str) -> bool) -> LazyFrame {
        let columns = self.rows.columns().iter().filter(|column| is_wanted(column.name()));
        let taken = columns.map(|column| {
            let (name, data_type, column) = (column.name().clone(), column.dtype().clone(), column.clone());
            let field = Field::new(name.clone(), data_type);
            let take = move |places: Column| column.take(places.idx()?);
            col(self.place()).map(take, move |_, _| Ok(field.clone())).alias(name)
        });
        frame.with_columns(taken.collect::<Vec<_>>())
    }

    /// The column that says which row was found.
    fn place(&self) -> String {
        format!("found{}", self.number)
    }
}

/// Where the row of each key stands.
struct Index {
    keys: Keys,
    types: Vec<DataType>,
    places: HashTable<IdxSize>,
}

impl Index {
    fn of(keys: Keys, rows: usize, types: Vec<DataType>) -> Self {
        let mut places = HashTable::with_capacity(rows);
        for row in 0..rows {
            // NULL is equal to nothing.
            if let Some(hash) = keys.hash(row) {
                places.insert_unique(hash, row as IdxSize, |row| keys.hash(*row as usize).unwrap_or_default());
            }
        }
        Self { keys, types, places }
    }

    /// Where the row of each of these keys stands.
    fn found(&self, keys: &[Column]) -> PolarsResult<IdxCa> {
        let keys: Vec<Column> = keys.iter().map(Column::rechunk).collect();
        let rows = keys.first().map_or(0, Column::len);
        let keys = Keys::new(&keys, &self.types)?;
        let found = (0..rows).map(|row| {
            let equal = |place: &IdxSize| self.keys.equal(*place as usize, &keys, row);
            self.places.find(keys.hash(row)?, equal).copied()
        });
        Ok(found.collect())
    }
}

/// Columns that are compared, row by row.
struct Keys(Vec<Cells>);

impl Keys {
    fn new(columns: &[Column], types: &[DataType]) -> PolarsResult<Self> {
        columns
            .iter()
            .zip(types)
            .map(|(column, data_type)| Cells::new(column, *data_type))
            .collect::<PolarsResult<_>>()
            .map(Self)
    }

    /// `None` where one is NULL.
    fn hash(&self, row: usize) -> Option<u64> {
        let mut hasher = FxHasher::default();
        for cells in &self.0 {
            match cells.get(row) {
                Scalar::String(text) => text.hash(&mut hasher),
                Scalar::Integer(number) => number.hash(&mut hasher),
                _ => return None,
            }
        }
        Some(hasher.finish())
    }

    fn equal(&self, row: usize, other: &Self, of_other: usize) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| match (one.get(row), other.get(of_other)) {
            (Scalar::String(one), Scalar::String(other)) => one == other,
            (Scalar::Integer(one), Scalar::Integer(other)) => one == other,
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many that keys which are not equal are held against each other somewhere.
    const ROWS: usize = 2_000;

    fn columns(texts: Vec<Option<String>>, number: Option<i64>) -> [Column; 2] {
        let numbers = vec![number; texts.len()];
        [Column::new("text".into(), texts), Column::new("number".into(), numbers)]
    }

    #[test]
    fn a_row_is_found_by_all_of_its_key_and_by_no_part_of_it() {
        let types = vec![DataType::String, DataType::BigInt];
        let texts = |rows: usize| (0..rows).map(|n| (n != 7).then(|| format!("row {n}"))).collect::<Vec<_>>();
        let rows = columns(texts(ROWS), Some(5));
        let index = Index::of(Keys::new(&rows, &types).unwrap(), ROWS, types);
        let found = |number| index.found(&columns(texts(2 * ROWS), number)).unwrap();
        for (row, place) in found(Some(5)).iter().enumerate() {
            assert_eq!(place, (row < ROWS && row != 7).then_some(row as IdxSize));
        }
        for number in [Some(6), None] {
            assert_eq!(found(number).null_count(), 2 * ROWS);
        }
    }
}
