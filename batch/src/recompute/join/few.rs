//! Few left rows, which are known: of a joined table only the records that bear on them are read, however large it is.

use std::path::PathBuf;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::{Join, Pipeline, Query};
use polars::prelude::{
    DataFrame, Engine, Expr, IdxSize, IntoLazy as _, LazyFrame, PolarsResult, Series, UniqueKeepStrategy, col, lit,
};

use super::super::rows::{archived, as_input, last_standing, of_rows, readable, typed_column};
use super::{as_compared, has_all_of_key, is_plain, join_key};

/// Rows that are few; in this crate's own tests one is, so that these go the way of many, and the simulator's that of few.
const FEW: IdxSize = if cfg!(test) { 1 } else { 100_000 };

/// The rows of a frame, where they are few.
pub(super) fn collect(frame: &LazyFrame) -> PolarsResult<Option<DataFrame>> {
    let some = frame.clone().limit(FEW + 1).collect_with_engine(Engine::Streaming)?.unwrap_single();
    Ok((some.height() <= FEW as usize).then_some(some))
}

/// The rows of a joined input that may be joined to one of these left rows, and some others; `None` where the join compares
/// nothing by which they are found, or where they are many.
pub(super) fn partners(
    pipeline: &Pipeline,
    query: &Query,
    join: &Join,
    ((number, columns), files, cut): ((usize, &[usize]), &[PathBuf], Step),
    left: &DataFrame,
) -> PolarsResult<Option<LazyFrame>> {
    let input = &query.inputs[number];
    let table = &pipeline.tables[input.table.0];
    let mut conditions = Vec::new();
    for key in &join.on {
        let column = &table.columns[key.right];
        if is_plain(column.data_type) {
            let looked_for = join_key(pipeline, query, key.left.input, key.left.column);
            let carried = as_compared(typed_column(column), column.data_type);
            conditions.push(is_among(carried, left, looked_for)?);
        }
    }
    let Some(may_be) = conditions.into_iter().reduce(Expr::and) else { return Ok(None) };
    let records = readable(archived(table, files)?, cut);
    let found = if !table.is_keyed() || has_all_of_key(join, table) {
        records.filter(may_be)
    } else {
        // Whether a record that carries it is the last of its key, others say, which may carry something else.
        let key: Vec<Expr> = table.key.iter().map(|c| col(table.columns[*c].name.as_str())).collect();
        let keys = records.clone().filter(may_be).select(key.clone()).unique(None, UniqueKeepStrategy::Any);
        let Some(keys) = collect(&keys)? else { return Ok(None) };
        let conditions = key.into_iter().map(|column| is_among(column.clone(), &keys, column));
        let conditions = conditions.collect::<PolarsResult<Vec<_>>>()?;
        conditions.into_iter().fold(records, LazyFrame::filter)
    };
    let standing = last_standing(table, found.select(of_rows(table, columns)));
    Ok(Some(as_input(table, input, number, (standing, columns))))
}

/// What says of a record that what it carries is among what some rows look for.
fn is_among(carried: Expr, rows: &DataFrame, looked_for: Expr) -> PolarsResult<Expr> {
    let distinct =
        rows.clone().lazy().select([looked_for]).drop_nulls(None).unique(None, UniqueKeepStrategy::Any).collect()?;
    let distinct: Series = distinct.columns()[0].as_materialized_series().clone();
    Ok(carried.is_in(lit(distinct).implode(true), false))
}
