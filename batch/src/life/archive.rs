//! Asks the archive for records, with Polars: one pass over a table's files for many documents. What is compared is read of
//! all records, and the rest of those that may be meant ([`candidates`]).

use std::path::PathBuf;

use lockstep_shared::coordinates::{Offset, Partition, Place, Step};
use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::plan::{Pipeline, Table};
use lockstep_shared::types::DataType;
use lockstep_shared::value::{Row, Value};
use polars::prelude::{
    Column, DataFrame, Engine, Expr, IntoLazy, JoinArgs, JoinType, LazyFrame, PlRefPath, PolarsError, ScanArgsParquet,
    col, lit,
};

use super::store::{Ask, By, place_of};
use crate::frame::{polars_type, series, values};
use crate::recompute::Rows;

/// The records of the archive's `files` (one list a table) that a question is for, up to and with a step.
///
/// # Errors
/// Where a file cannot be read.
pub fn fetch(
    pipeline: &Pipeline,
    files: &[Vec<PathBuf>],
    upto: Step,
    ask: &Ask,
) -> Result<Vec<HistoryRecord>, PolarsError> {
    let (table, files) = (&pipeline.tables[ask.table.0], &files[ask.table.0]);
    if files.is_empty() || ask.tuples.is_empty() {
        return Ok(Vec::new());
    }
    let columns = compared(table, &ask.by);
    let paths = files.iter().map(|path| PlRefPath::new(path.to_string_lossy())).collect();
    let step = i64::try_from(upto.0).unwrap_or(i64::MAX);
    let typed = table.columns.iter().map(|column| {
        let read = col(column.name.as_str());
        // The archive's instants name their zone; here all are UTC and none does.
        if column.data_type.is_timestamp() {
            read.cast(polars::prelude::DataType::Int64).cast(polars_type(column.data_type))
        } else {
            read
        }
    });
    let own = [col("_partition"), col("_offset"), col("_step"), col("_value").is_not_null().alias("_is_row")];
    let frame = LazyFrame::scan_parquet_files(paths, ScanArgsParquet { glob: false, ..ScanArgsParquet::default() })?
        .filter(col("_step").lt_eq(lit(step)).and(col("_error").is_null()))
        .select(typed.chain(own).collect::<Vec<_>>());
    let wanted = wanted(&columns, ask)?;
    let frame = frame.filter(candidates(&columns, ask, &wanted)?);
    let left: Vec<Expr> = columns.iter().map(|(name, _)| col(name.as_str())).collect();
    let right: Vec<Expr> = (0..columns.len()).map(|number| col(format!("wanted{number}"))).collect();
    let args = JoinArgs { nulls_equal: false, ..JoinArgs::new(JoinType::Semi) };
    read(
        table,
        ask,
        &frame.join(wanted.lazy(), left, right, args).collect_with_engine(Engine::Streaming)?.unwrap_single(),
    )
}

/// What is true of every record that a question is for, and of few others: a condition that is looked at while files are
/// read, as no join is.
fn candidates(columns: &[(String, DataType)], ask: &Ask, wanted: &DataFrame) -> Result<Expr, PolarsError> {
    if ask.by == By::Place {
        return Ok(ask
            .tuples
            .iter()
            .filter_map(|tuple| place_of(tuple))
            .collect::<Rows>()
            .among("_partition", "_offset"));
    }
    let mut all = lit(true);
    for (number, (name, data_type)) in columns.iter().enumerate() {
        // Which floating-point numbers are equal is the join's business.
        if !matches!(data_type, DataType::Float | DataType::Double) {
            let values = wanted.column(&format!("wanted{number}"))?.unique()?;
            let list = lit(values.take_materialized_series()).implode(true);
            all = all.and(col(name.as_str()).is_in(list, false));
        }
    }
    Ok(all)
}

/// The names and types of what is compared.
fn compared(table: &Table, by: &By) -> Vec<(String, DataType)> {
    match by {
        By::Place => vec![("_partition".into(), DataType::Int), ("_offset".into(), DataType::BigInt)],
        By::Columns(columns) => {
            columns.iter().map(|c| (table.columns[*c].name.clone(), table.columns[*c].data_type)).collect()
        }
    }
}

/// The tuples as a frame. What no value of the column's type equals is not in it.
fn wanted(columns: &[(String, DataType)], ask: &Ask) -> Result<DataFrame, PolarsError> {
    let fits = |tuple: &&Vec<Value>| tuple.iter().zip(columns).all(|(value, (_, data_type))| fits(value, *data_type));
    let tuples: Vec<&Vec<Value>> = ask.tuples.iter().filter(fits).collect();
    let column = |(number, (_, data_type)): (usize, &(String, DataType))| {
        let values: Vec<Value> = tuples.iter().map(|tuple| tuple[number].clone()).collect();
        series(&format!("wanted{number}"), &values, *data_type).map(Column::from)
    };
    DataFrame::new(tuples.len(), columns.iter().enumerate().map(column).collect::<Result<_, _>>()?)
}

fn fits(value: &Value, data_type: DataType) -> bool {
    match value {
        Value::Null => false,
        Value::Boolean(_) => data_type == DataType::Boolean,
        Value::Integer(v) => {
            let (least, greatest) = data_type.integer_range();
            data_type.is_integer() && (least..=greatest).contains(v)
        }
        Value::Float(_) => data_type == DataType::Float,
        Value::Double(_) => data_type == DataType::Double,
        Value::Decimal(_) => matches!(data_type, DataType::Decimal { .. }),
        Value::String(_) => data_type == DataType::String,
        Value::Date(_) => data_type == DataType::Date,
        Value::Timestamp(_) => data_type.is_timestamp(),
    }
}

fn read(table: &Table, ask: &Ask, frame: &DataFrame) -> Result<Vec<HistoryRecord>, PolarsError> {
    let typed: Vec<Vec<Value>> =
        table.columns.iter().map(|c| frame.column(&c.name).map(values)).collect::<Result<_, _>>()?;
    let own: Vec<Vec<Value>> = ["_partition", "_offset", "_step", "_is_row"]
        .iter()
        .map(|name| frame.column(name).map(values))
        .collect::<Result<_, _>>()?;
    let integer = |column: usize, row: usize| if let Value::Integer(v) = own[column][row] { v } else { 0 };
    let record = |row: usize| {
        let values: Row = typed.iter().map(|column| column[row].clone()).collect::<Vec<_>>().into();
        let is_row = own[3][row] == Value::Boolean(true);
        HistoryRecord {
            step: Step(integer(2, row).cast_unsigned()),
            table: ask.table,
            place: Place {
                partition: Partition(i32::try_from(integer(0, row)).unwrap_or_default()),
                offset: Offset(integer(1, row)),
            },
            content: if is_row { Content::Row(values) } else { Content::Delete(values) },
        }
    };
    Ok((0..frame.height()).map(record).collect())
}
