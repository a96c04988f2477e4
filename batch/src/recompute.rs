//! The documents that should be: the plan over the archive, by Polars.
//!
//! Tables that are joined are in memory (`rows`); where they would take more than the setting, all is done in parts, by way
//! of files (`parts`). What changed between two steps is computed without the rest (`changed`).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use lockstep_shared::archive::{Archive, ArchiveError, TableArchive};
use lockstep_shared::coordinates::Step;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::plan::{ColumnRef, Input, Join, JoinKey, JoinKind, Pipeline, Query, Sink, Table};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use polars::prelude::{
    DataFrame, Engine, Expr, IntoLazy, JoinArgs, JoinBuildSide, JoinCoalesce, JoinType, LazyFrame, PlanCallback,
    PolarsError, col,
};
use rustc_hash::FxBuildHasher;

mod rows;
mod lookup;
mod few;
mod changed;
mod parts;

use changed::Changed;
pub use changed::{Side, each_changed};
use lookup::Lookup;
pub use rows::Rows;
use rows::rows;
pub(crate) use rows::{last_of, standing};

use crate::batch::Batch;
use crate::expression::polars;

/// Batches that wait while one is worked on.
const BATCHES_WAITING: usize = 2;

/// Documents by id.
pub type Documents = HashMap<DocumentId, Vec<Value>, FxBuildHasher>;

/// Why the documents cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum RecomputeError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Polars.
    #[error("cannot recompute sink {sink}: {source}")]
    Polars {
        /// The sink.
        sink: String,
        /// What it said.
        source: Box<PolarsError>,
    },
    /// A file of a comparison under way.
    #[error("cannot use {path}: {source}{}", lockstep_shared::disk::advice(source))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to read.
    #[error("table {table} has no archive at {path}; run lockstep-stream first, or set lockstep.archive.path")]
    NoArchive {
        /// The table.
        table: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Two joined rows have one id.
    #[error(
        "sink {sink}: two documents have the id {id}; this is a fault of Lockstep, please report it with the program"
    )]
    SameId {
        /// The sink.
        sink: String,
        /// The id.
        id: DocumentId,
    },
}

/// The archived files of each table of the pipeline.
///
/// # Errors
/// Where one has no archive, or it cannot be read.
pub async fn files(pipeline: &Pipeline, root: &Path) -> Result<Vec<Vec<PathBuf>>, RecomputeError> {
    opened(pipeline, root).await?.iter().map(|archive| Ok(archive.files()?)).collect()
}

/// The archive of each table of the pipeline.
///
/// # Errors
/// Where one has no archive, or it cannot be read.
pub(crate) async fn opened(pipeline: &Pipeline, root: &Path) -> Result<Vec<TableArchive>, RecomputeError> {
    let opened = Archive::new(root).open_all_existing(&pipeline.tables).await?;
    let or_missing = |(archive, table): (Option<TableArchive>, &Table)| {
        let missing = || RecomputeError::NoArchive { table: table.name.clone(), path: root.join(&table.name) };
        archive.ok_or_else(missing)
    };
    opened.into_iter().zip(&pipeline.tables).map(or_missing).collect()
}

/// The documents of a sink after step `cut`. It takes processor time and must not run on a thread that others wait for.
///
/// # Errors
/// Where a file cannot be read.
pub fn documents(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
) -> Result<Documents, RecomputeError> {
    let mut documents = Documents::default();
    each_batch(pipeline, sink, files, cut, |batch| {
        for row in 0..batch.rows() {
            let id = batch.id(row);
            if documents.insert(id.clone(), batch.values(row)).is_some() {
                return Err(RecomputeError::SameId { sink: sink.name.clone(), id });
            }
        }
        Ok(())
    })?;
    Ok(documents)
}

/// Gives the documents of a sink after step `cut` to `take`, some at a time and in no order, while Polars goes on. What is
/// in memory at a time are the joined tables, and batches of the leftmost one.
///
/// # Errors
/// Where a file cannot be read, and those of `take`, after which it gives no more.
pub fn each_batch<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let parts = parts::wanted(pipeline, sink, files)?;
    if parts > 1 {
        return parts::each_batch(pipeline, sink, files, (cut, parts), take);
    }
    let frame = joined(pipeline, sink, files, cut).map_err(failed(sink))?;
    in_batches(pipeline, sink, frame, take)
}

/// Gives the documents of some rows of the leftmost input, as [`each_batch`] does: others too where those rows are many, and
/// the joined tables larger than memory.
///
/// # Errors
/// Where a file cannot be read, and those of `take`, after which it gives no more.
pub fn each_batch_of<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    rows: &Rows,
    take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match some_joined(pipeline, sink, files, cut, Wanted::Of(rows))? {
        Some(frame) => in_batches(pipeline, sink, frame, take),
        None => each_batch(pipeline, sink, files, cut, take),
    }
}

fn failed(sink: &Sink) -> impl Fn(PolarsError) -> RecomputeError + '_ {
    |source| RecomputeError::Polars { sink: sink.name.clone(), source: Box::new(source) }
}

/// Computes a joined frame, and gives it out while it is under way.
fn in_batches<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    frame: LazyFrame,
    mut take: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = failed(sink);
    in_frames(frame, &failed, |mut frame| {
        frame.rechunk_mut();
        take(&Batch::new(pipeline, sink, &frame).map_err(&failed)?)
    })
}

/// Computes a frame, and gives it out piece by piece while it is under way.
fn in_frames<E: From<RecomputeError>>(
    frame: LazyFrame,
    failed: &impl Fn(PolarsError) -> RecomputeError,
    mut take: impl FnMut(DataFrame) -> Result<(), E>,
) -> Result<(), E> {
    let (send, receive) = sync_channel::<DataFrame>(BATCHES_WAITING);
    let gone = PlanCallback::new(move |frame: DataFrame| Ok(send.send(frame).is_err()));
    // As large as they come: to make them equally large would copy them.
    let frame = frame.sink_batches(gone, false, None).map_err(failed)?;
    std::thread::scope(|scope| {
        let running = scope.spawn(move || frame.collect_with_engine(Engine::Streaming).map(drop));
        let mut taken = Ok(());
        for frame in receive {
            taken = take(frame);
            if taken.is_err() {
                break;
            }
        }
        let ran = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and_then(|()| ran.map_err(|e| failed(e).into()))
    })
}

/// A column of an input in the joined frame.
pub(crate) fn name(input: usize, column: usize) -> String {
    format!("i{input}_{column}")
}

fn named(c: ColumnRef) -> String {
    name(c.input, c.column)
}

/// Which documents are computed, where not all are.
#[derive(Clone, Copy)]
enum Wanted<'a> {
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

/// Some documents of a sink after step `cut` as a frame; `None` where joined tables would have to be in memory that are larger
/// than it.
fn some_joined(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    cut: Step,
    wanted: Wanted<'_>,
) -> Result<Option<LazyFrame>, RecomputeError> {
    let (query, failed) = (&sink.query, failed(sink));
    let all_fit = parts::wanted(pipeline, sink, files)? == 1;
    let narrowed_at = wanted.narrowed_at(query);
    let (mut frame, mut few) = (DataFrame::empty().lazy(), None);
    for ((number, input), columns) in query.inputs.iter().enumerate().zip(columns(pipeline, sink)) {
        let of_input = ((number, columns.as_slice()), files[input.table.0].as_slice(), cut);
        let partners = match (&input.join, &few) {
            (Some(join), Some(left)) => few::partners(pipeline, query, join, of_input, left).map_err(&failed)?,
            _ => None,
        };
        let right = match partners {
            Some(partners) => partners,
            None if input.join.is_none() || all_fit => {
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
        few = if number < narrowed_at { None } else { few::collect(&frame).map_err(&failed)? };
        if let Some(few) = &few {
            frame = few.clone().lazy();
        }
    }
    Ok(Some(documents_of(pipeline, sink, frame)))
}

/// All documents of a sink after step `cut` as a frame.
fn joined(pipeline: &Pipeline, sink: &Sink, files: &[Vec<PathBuf>], cut: Step) -> Result<LazyFrame, PolarsError> {
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
fn columns(pipeline: &Pipeline, sink: &Sink) -> Vec<Vec<usize>> {
    let with_key = |(input, read): (&Input, Vec<usize>)| {
        let key = &pipeline.tables[input.table.0].key;
        read.into_iter().chain(key.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    sink.query.inputs.iter().zip(sink.query.columns_read()).map(with_key).collect()
}

/// The frame of the inputs before, joined with the next one's rows, of which all columns are taken at once.
fn join_at_once(
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
fn documents_of(pipeline: &Pipeline, sink: &Sink, mut frame: LazyFrame) -> LazyFrame {
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
fn right_keys(pipeline: &Pipeline, query: &Query, number: usize, join: &Join) -> Vec<Expr> {
    let keys = join.on.iter().enumerate();
    keys.map(|(n, key)| join_key(pipeline, query, number, key.right).alias(right_key(number, n))).collect()
}

/// The name of a join key of an input's rows.
fn right_key(number: usize, n: usize) -> String {
    format!("right{number}_{n}")
}

/// A column as a join compares it.
fn join_key(pipeline: &Pipeline, query: &Query, input: usize, column: usize) -> Expr {
    let data_type = pipeline.tables[query.inputs[input].table.0].columns[column].data_type;
    as_compared(col(name(input, column)), data_type)
}

/// A value of a column as a join compares it: two integers of different widths as BIGINT.
fn as_compared(value: Expr, data_type: DataType) -> Expr {
    if data_type.is_integer() { value.cast(polars::prelude::DataType::Int64) } else { value }
}

/// The type of what [`as_compared`] gives.
fn compared_type(data_type: DataType) -> DataType {
    if data_type.is_integer() { DataType::BigInt } else { data_type }
}
