//! The rows of a table after a step: what its archived records leave.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_shared::coordinates::{Partition, Place, Step};
use lockstep_shared::plan::{Input, Pipeline, Table};
use polars::prelude::{
    Column, DataFrame, Expr, IntoLazy, LazyFrame, NamedFrom as _, PlRefPath, PolarsError, ScanArgsParquet, Series,
    SortMultipleOptions, UniqueKeepStrategy, col, lit,
};

use super::join::{name, named};
use crate::expression::polars;
use crate::frame::polars_type;

/// Says of a keyed table's record that it is a row, and no delete.
const STANDS: &str = "_stands";

/// The rows of an input after the cut, with these of its columns, named for the join.
pub(super) fn rows(
    pipeline: &Pipeline,
    input: &Input,
    (number, columns): (usize, &[usize]),
    files: &[PathBuf],
    cut: Step,
) -> Result<LazyFrame, PolarsError> {
    let table = &pipeline.tables[input.table.0];
    Ok(as_input(table, input, number, (standing(table, files, cut)?, columns)))
}

/// The rows of a table, which have these of its columns, as those of an input: named for the join, and filtered.
pub(super) fn as_input(
    table: &Table,
    input: &Input,
    number: usize,
    (standing, columns): (LazyFrame, &[usize]),
) -> LazyFrame {
    let frame = typed(table, standing, number, columns);
    match &input.filter {
        Some(filter) => frame.filter(polars(filter, &named)),
        None => frame,
    }
}

/// The numbers of all columns of a table.
pub(super) fn all_of(table: &Table) -> Vec<usize> {
    (0..table.columns.len()).collect()
}

/// Archived records with these of their columns typed as values are, named for the join, and their place and step.
pub(super) fn typed(table: &Table, records: LazyFrame, number: usize, columns: &[usize]) -> LazyFrame {
    let columns = columns.iter().map(|c| typed_column(&table.columns[*c]).alias(name(number, *c)));
    let own = ["partition", "offset", "step"].map(|own| col(format!("_{own}")).alias(format!("i{number}_{own}")));
    records.select(columns.chain(own).collect::<Vec<_>>())
}

pub(super) fn typed_column(column: &lockstep_shared::plan::Column) -> Expr {
    let expression = col(column.name.as_str());
    if column.data_type.is_timestamp() {
        // The archive's instants name their zone; here all are UTC and none does.
        return expression.cast(polars::prelude::DataType::Int64).cast(polars_type(column.data_type));
    }
    expression
}

/// The records of a table whose rows stand after the cut: those that could be read, and where the table has a key the last
/// of each key that is no delete.
pub(crate) fn standing(table: &Table, files: &[PathBuf], cut: Step) -> Result<LazyFrame, PolarsError> {
    Ok(last_standing(table, readable(archived(table, files)?, cut)))
}

/// The records up to the cut that could be read. What says that one is a row is known before any sort, which then carries
/// no value.
pub(super) fn readable(records: LazyFrame, cut: Step) -> LazyFrame {
    let readable = records.filter(col("_step").lt_eq(lit(step_number(cut))).and(col("_error").is_null()));
    readable.with_columns([col("_value").is_not_null().alias(STANDS)])
}

/// The rows that readable records leave.
pub(super) fn last_standing(table: &Table, readable: LazyFrame) -> LazyFrame {
    if !table.is_keyed() {
        return readable;
    }
    let key: Vec<&str> = table.key.iter().map(|c| table.columns[*c].name.as_str()).collect();
    last_of(readable, &key).filter(col(STANDS))
}

/// What of readable records the rows with these columns are made of.
pub(super) fn of_rows(table: &Table, columns: &[usize]) -> Vec<Expr> {
    let own = ["_partition", "_offset", "_step", STANDS];
    columns.iter().map(|c| table.columns[*c].name.as_str()).chain(own).map(col).collect()
}

/// Some rows, by where they came from.
#[derive(Clone, Debug, Default)]
pub struct Rows(BTreeMap<Partition, Vec<i64>>);

impl FromIterator<Place> for Rows {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut rows: BTreeMap<Partition, Vec<i64>> = BTreeMap::new();
        for Place { partition, offset } in places {
            rows.entry(partition).or_default().push(offset.0);
        }
        Self(rows)
    }
}

impl Rows {
    /// What says of a row that it is among them. The least and the greatest offset let a reader pass over whole groups of
    /// records.
    pub(crate) fn among(&self, partition: &str, offset: &str) -> Expr {
        let of_partition = |(number, offsets): (&Partition, &Vec<i64>)| {
            let (least, most) = (offsets.iter().min().copied(), offsets.iter().max().copied());
            let list = lit(Series::new("offsets".into(), offsets)).implode(true);
            let between = col(offset).gt_eq(lit(least.unwrap_or(0))).and(col(offset).lt_eq(lit(most.unwrap_or(0))));
            col(partition).eq(lit(number.0)).and(between).and(col(offset).is_in(list, false))
        };
        self.0.iter().map(of_partition).reduce(Expr::or).unwrap_or_else(|| lit(false))
    }
}

/// A step as archives have it.
pub(super) fn step_number(step: Step) -> i64 {
    i64::try_from(step.0).unwrap_or(i64::MAX)
}

/// The last record of each key.
pub(crate) fn last_of(frame: LazyFrame, key: &[&str]) -> LazyFrame {
    let key: Vec<Expr> = key.iter().map(|name| col(*name)).collect();
    frame
        .sort(["_step", "_partition", "_offset"], SortMultipleOptions::default().with_maintain_order(true))
        .unique_stable_generic(Some(key), UniqueKeepStrategy::Last)
}

/// All records of a table; a table without files has none, and the same columns.
pub(super) fn archived(table: &Table, files: &[PathBuf]) -> Result<LazyFrame, PolarsError> {
    if !files.is_empty() {
        let paths = files.iter().map(|path| PlRefPath::new(path.to_string_lossy())).collect();
        return LazyFrame::scan_parquet_files(paths, ScanArgsParquet { glob: false, ..ScanArgsParquet::default() });
    }
    use polars::prelude::DataType as T;
    let own = [
        ("_partition", T::Int32),
        ("_offset", T::Int64),
        ("_step", T::Int64),
        ("_value", T::Binary),
        ("_error", T::String),
    ];
    let typed = table.columns.iter().map(|c| (c.name.as_str(), polars_type(c.data_type)));
    let columns: Vec<Column> =
        typed.chain(own).map(|(name, data_type)| Column::new_empty(name.into(), &data_type)).collect();
    Ok(DataFrame::new(0, columns)?.lazy())
}
