//! The joined frame of a sink: its inputs one after the other, and the documents of the rows.
//!
//! A table that is joined by its key is looked up (`lookup`), others Polars joins. Where only some documents are wanted and
//! their rows are few, only what bears on them is read (`few`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::{ColumnRef, Input, Join, JoinKey, JoinKind, Pipeline, Query, Sink, Table};
use lockstep_shared::types::DataType;
use polars::prelude::{
    DataFrame, Expr, IntoLazy, JoinArgs, JoinBuildSide, JoinCoalesce, JoinType, LazyFrame, PolarsError, col,
};

mod lookup;
mod few;

use super::changed::Changed;
use super::rows::{Rows, rows};
use super::{RecomputeError, failed, parts};
use crate::expression::polars;
use lookup::Lookup;

/// A column of an input in the joined frame.
pub(crate) fn name(input: usize, column: usize) -> String {
    format!("i{input}_{column}")
}

pub(super) fn named(c: ColumnRef) -> String {
    name(c.input, c.column)
}

/// Which documents are computed, where not all are.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Those that what changed may have changed.
    Changed(&'a Changed),
    /// Those of some rows of the leftmost input.
    Of(&'a Rows),
}

impl Wanted<'_> {
    /// The input with which all rows that are not wanted are gone.
    fn narrowed_at(self, query: &Query) -> usize {
        match self {
            Self::Changed(changed) => changed.narrowed_at(query),
            Self::Of(_) => 0,
        }
    }

    /// The joined frame, of which input `number` is the last, without rows that are not wanted.
    fn narrow(self, pipeline: &Pipeline, query: &Query, number: usize, frame: LazyFrame) -> LazyFrame {
        match self {
            Self::Changed(changed) => changed.narrow(pipeline, query, number, frame),
            Self::Of(rows) if number == 0 => frame.filter(rows.among("i0_partition", "i0_offset")),
            Self::Of(_) => frame,
        }
    }
}

/// Which rows of a join are in memory while the others flow by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InMemory {
    /// Those of the joined table. Left to choose, Polars first takes up to ten million rows of either side to see which has
    /// fewer.
    Joined,
    /// Those of which there are fewer.
    Fewer,
}

/// Some documents of a sink after step `cut` as a frame; `None` where tables would have to be in memory that are larger than
/// what is allowed.
pub(super) fn some_joined(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    wanted: Wanted<'_>,
) -> Result<Option<LazyFrame>, RecomputeError> {
    let (query, failed) = (&sink.query, failed(sink));
    let all_fit = parts::wanted(pipeline, sink, files)? == 1;
    let narrowed_at = wanted.narrowed_at(query);
    let (mut frame, mut few, mut may_be_few) = (DataFrame::empty().lazy(), None, true);
    for ((number, input), columns) in query.inputs.iter().enumerate().zip(columns(pipeline, sink)) {
        let of_input = ((number, columns.as_slice()), files[input.table.0].as_slice(), cut);
        let partners = match (&input.join, &few) {
            (Some(join), Some(left)) => few::partners(pipeline, query, join, of_input, left).map_err(&failed)?,
            _ => None,
        };
        let right = match partners {
            Some(partners) => partners,
            // An append table's rows flow by.
            None if all_fit || (input.join.is_none() && !pipeline.tables[input.table.0].is_keyed()) => {
                let ((number, columns), files, cut) = of_input;
                rows(pipeline, input, (number, columns), files, cut).map_err(&failed)?
            }
            None => return Ok(None),
        };
        frame = match &input.join {
            Some(join) => join_input(pipeline, query, (number, join), (frame, right), InMemory::Fewer),
            None => right,
        };
        frame = wanted.narrow(pipeline, query, number, frame);
        if number >= narrowed_at && may_be_few {
            few = few::collect(&frame).map_err(&failed)?;
            match &few {
                Some(few) => frame = few.clone().lazy(),
                // To ask again with each join would compute those before it again.
                None => may_be_few = false,
            }
        }
    }
    Ok(Some(documents_of(pipeline, sink, frame)))
}

/// All documents of a sink after step `cut` as a frame.
pub(super) fn joined(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
) -> Result<LazyFrame, PolarsError> {
    let query = &sink.query;
    let mut frame = DataFrame::empty().lazy();
    let mut lookups = Vec::new();
    for ((number, input), columns) in query.inputs.iter().enumerate().zip(columns(pipeline, sink)) {
        let right = rows(pipeline, input, (number, &columns), &files[input.table.0], cut)?;
        frame = match &input.join {
            None => right,
            Some(join) if lookup::is_possible(pipeline, query, number, join) => {
                let lookup = Lookup::of(pipeline, query, (number, join), right)?;
                let found = lookup.take(lookup.find(frame), |column| is_compared(query, column));
                lookups.push(lookup);
                found
            }
            Some(join) => join_input(pipeline, query, (number, join), (frame, right), InMemory::Joined),
        };
    }
    for lookup in lookups {
        frame = lookup.take(frame, |column| !is_compared(query, column));
    }
    Ok(documents_of(pipeline, sink, frame))
}

/// True of a column that a join compares with one of an input that comes later.
fn is_compared(query: &Query, column: &str) -> bool {
    query
        .inputs
        .iter()
        .filter_map(|input| input.join.as_ref())
        .flat_map(|join| &join.on)
        .any(|key| named(key.left) == column)
}

/// The columns of each input that are needed: what the query reads, and what makes a row one.
pub(super) fn columns(pipeline: &Pipeline, sink: &Sink) -> Vec<Vec<usize>> {
    let with_key = |(input, read): (&Input, Vec<usize>)| {
        let key = &pipeline.tables[input.table.0].key;
        read.into_iter().chain(key.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    sink.query.inputs.iter().zip(sink.query.columns_read()).map(with_key).collect()
}

/// The frame of the inputs before, joined with the next one's rows, of which all columns are taken at once.
pub(super) fn join_at_once(
    pipeline: &Pipeline,
    query: &Query,
    (number, join): (usize, &Join),
    (left, right): (LazyFrame, LazyFrame),
) -> Result<LazyFrame, PolarsError> {
    if lookup::is_possible(pipeline, query, number, join) {
        let lookup = Lookup::of(pipeline, query, (number, join), right)?;
        return Ok(lookup.take(lookup.find(left), |_| true));
    }
    Ok(join_input(pipeline, query, (number, join), (left, right), InMemory::Joined))
}

/// The frame of the inputs before, joined with the next one's rows.
fn join_input(
    pipeline: &Pipeline,
    query: &Query,
    (number, join): (usize, &Join),
    (left, right): (LazyFrame, LazyFrame),
    in_memory: InMemory,
) -> LazyFrame {
    // What a join compares has columns of its own: Polars takes no column twice in one join, and a program may. Left ones
    // stand where the type asks for it or they stand twice, since every column that a joined row carries costs time; right
    // ones are gone after the join.
    let lefts = left_keys(pipeline, query, number, join);
    let left = left.with_columns(lefts.iter().filter_map(|key| key.made.clone()).collect::<Vec<_>>());
    let left_on = lefts.iter().map(|key| col(key.name.as_str())).collect::<Vec<_>>();
    let right = right.with_columns(right_keys(pipeline, query, number, join));
    let right_on = (0..join.on.len()).map(|n| col(right_key(number, n))).collect::<Vec<_>>();
    let how = if join.kind == JoinKind::Left { JoinType::Left } else { JoinType::Inner };
    let build_side = (in_memory == InMemory::Joined).then_some(JoinBuildSide::ForceRight);
    let args =
        JoinArgs { coalesce: JoinCoalesce::CoalesceColumns, nulls_equal: false, build_side, ..JoinArgs::new(how) };
    left.join(right, left_on, right_on, args)
}

/// The documents of the frame of all inputs, and what makes each one.
pub(super) fn documents_of(pipeline: &Pipeline, sink: &Sink, mut frame: LazyFrame) -> LazyFrame {
    let query = &sink.query;
    if let Some(filter) = &query.filter {
        frame = frame.filter(polars(filter, &named));
    }
    let origin = |input: usize| ["partition", "offset"].map(|own| col(format!("i{input}_{own}")));
    let projected = query.projection.iter().enumerate().map(|(n, e)| polars(e, &named).alias(format!("d{n}")));
    let identities = sink.identity.iter().flat_map(|input| {
        let key = pipeline.tables[query.inputs[*input].table.0].key.iter().map(|c| col(name(*input, *c)));
        key.chain(origin(*input)).collect::<Vec<_>>()
    });
    // Where the leftmost row came from is told also where it is no part of the id.
    let leftmost = if sink.identity.contains(&0) { Vec::new() } else { origin(0).to_vec() };
    frame.select(projected.chain(identities).chain(leftmost).collect::<Vec<_>>())
}

/// A column that a join compares.
struct LeftKey {
    name: String,
    /// How it is made, where it is not a column of the joined frame itself.
    made: Option<Expr>,
}

/// The left columns of an input's join.
fn left_keys(pipeline: &Pipeline, query: &Query, number: usize, join: &Join) -> Vec<LeftKey> {
    let keys = join.on.iter().enumerate().map(|(n, JoinKey { left, .. })| {
        let is_cast = pipeline.tables[query.inputs[left.input].table.0].columns[left.column].data_type.is_integer();
        if !is_cast && join.on[..n].iter().all(|other| other.left != *left) {
            return LeftKey { name: named(*left), made: None };
        }
        let name = format!("left{number}_{n}");
        let made = join_key(pipeline, query, left.input, left.column).alias(name.as_str());
        LeftKey { name, made: Some(made) }
    });
    keys.collect()
}

/// The join keys of an input's rows, named for the joined frame.
pub(super) fn right_keys(pipeline: &Pipeline, query: &Query, number: usize, join: &Join) -> Vec<Expr> {
    let keys = join.on.iter().enumerate();
    keys.map(|(n, key)| join_key(pipeline, query, number, key.right).alias(right_key(number, n))).collect()
}

/// The name of a join key of an input's rows.
pub(super) fn right_key(number: usize, n: usize) -> String {
    format!("right{number}_{n}")
}

/// True where a join compares all of the key of the table that it joins.
fn has_all_of_key(join: &Join, table: &Table) -> bool {
    table.key.iter().all(|column| join.on.iter().any(|key| key.right == *column))
}

/// True of texts and whole numbers: two of them are equal where they are the same.
fn is_plain(data_type: DataType) -> bool {
    data_type == DataType::String || data_type.is_integer()
}

/// A column as a join compares it.
pub(super) fn join_key(pipeline: &Pipeline, query: &Query, input: usize, column: usize) -> Expr {
    let data_type = pipeline.tables[query.inputs[input].table.0].columns[column].data_type;
    as_compared(col(name(input, column)), data_type)
}

/// A value of a column as a join compares it: two integers of different widths as BIGINT.
fn as_compared(value: Expr, data_type: DataType) -> Expr {
    if data_type.is_integer() { value.cast(polars::prelude::DataType::Int64) } else { value }
}

/// The type of what [`as_compared`] gives.
pub(super) fn compared_type(data_type: DataType) -> DataType {
    if data_type.is_integer() { DataType::BigInt } else { data_type }
}
