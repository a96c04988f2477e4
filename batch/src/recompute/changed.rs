//! The documents that may have become others between two steps, as they were and as they are: what brings notes of an
//! earlier step up to a later one without computing everything again.
//!
//! A row has changed where a record of its identity came in between. A document may have where its leftmost row has, or
//! where a row that has changed carries, before or after, the join key that the document looks for. All others are made of
//! the same rows at both steps: for each key that none of the changed rows carries, an input gives the same rows.

use std::path::PathBuf;

use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::{Join, Pipeline, Query, Sink, Table};
use polars::prelude::{
    DataFrame, Engine, Expr, IntoLazy, JoinArgs, JoinCoalesce, JoinType, LazyFrame, PolarsError, UniqueKeepStrategy,
    col, lit,
};

use super::join::{Wanted, join_key, name, right_key, right_keys, some_joined};
use super::rows::{all_of, archived, last_standing, readable, step_number, typed, typed_column};
use super::{RecomputeError, failed, in_batches};
use crate::batch::Batch;

/// The column that says of a row that its document may have changed.
const CHANGED: &str = "changed";

/// At which of the two steps a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// After the earlier step.
    Before,
    /// After the later one.
    After,
}

/// Gives the documents of a sink that may have changed after step `from` and up to step `to` to `take`: first those of
/// `from`, then those of `to`. A document that is the same at both is given for both, or for none. False, and not all are given,
/// where tables would have to be in memory that are larger than what is allowed.
///
/// # Errors
/// Where a file cannot be read, and those of `take`, after which it gives no more.
pub fn each_changed<E: From<RecomputeError>>(
    pipeline: &Pipeline,
    sink: &Sink,
    files: &[Vec<PathBuf>],
    (from, to): (Step, Step),
    mut take: impl FnMut(Side, &Batch<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let changed = Changed::between(pipeline, &sink.query, files, (from, to)).map_err(failed(sink))?;
    for (side, step) in [(Side::Before, from), (Side::After, to)] {
        if changed.is_none(side) {
            continue;
        }
        let Some(frame) = some_joined(pipeline, sink, files, step, Wanted::Changed(&changed))? else {
            return Ok(false);
        };
        in_batches(pipeline, sink, frame, |batch| take(side, batch))?;
    }
    Ok(true)
}

/// What changed between two steps.
pub(super) struct Changed {
    leftmost: Leftmost,
    /// Of each input, the join keys that changed rows carry at either step; `None` where no row changed.
    keys: Vec<Option<DataFrame>>,
}

/// Rows of the leftmost input that changed.
enum Leftmost {
    /// An append table's after this step, of which there are some or none.
    Since(Step, bool),
    /// A keyed table's, by their keys; `None` where none did.
    Keyed(Option<DataFrame>),
}

impl Changed {
    fn between(
        pipeline: &Pipeline,
        query: &Query,
        files: &[Vec<PathBuf>],
        (from, to): (Step, Step),
    ) -> Result<Self, PolarsError> {
        let records = |table: &Table, files: &[PathBuf]| -> Result<LazyFrame, PolarsError> {
            let between = col("_step").gt(lit(step_number(from))).and(col("_step").lt_eq(lit(step_number(to))));
            Ok(archived(table, files)?.filter(between.and(col("_error").is_null())))
        };
        let mut keys = Vec::with_capacity(query.inputs.len());
        let mut leftmost = Leftmost::Keyed(None);
        for (number, input) in query.inputs.iter().enumerate() {
            let (table, files) = (&pipeline.tables[input.table.0], &files[input.table.0]);
            let changed = records(table, files)?;
            let Some(join) = &input.join else {
                leftmost = if table.is_keyed() {
                    let key = table.key.iter().map(|c| col(table.columns[*c].name.as_str())).collect::<Vec<_>>();
                    Leftmost::Keyed(distinct(changed.select(key))?)
                } else {
                    let some = collect(changed.select([col("_step")]).limit(1))?;
                    Leftmost::Since(from, some.height() > 0)
                };
                keys.push(None);
                continue;
            };
            let carried = |frame: LazyFrame| -> LazyFrame {
                typed(table, frame, number, &all_of(table)).select(right_keys(pipeline, query, number, join))
            };
            let is_of_key = join.on.iter().all(|key| table.key.contains(&key.right));
            // What is part of a row's key is the same at all times; other columns are those of its records.
            let carried = if is_of_key || !table.is_keyed() {
                distinct(carried(changed))?
            } else {
                let names: Vec<&str> = table.key.iter().map(|c| table.columns[*c].name.as_str()).collect();
                let key: Vec<Expr> = names.iter().map(|name| col(*name)).collect();
                match distinct(changed.select(key.clone()))? {
                    None => None,
                    Some(rows) => {
                        let at = |step: Step| -> Result<DataFrame, PolarsError> {
                            // What says that a record is a row is known before the join, which then carries no value.
                            let of_them = readable(archived(table, files)?, step).join(
                                rows.clone().lazy(),
                                key.clone(),
                                key.clone(),
                                JoinArgs::new(JoinType::Semi),
                            );
                            collect(carried(last_standing(table, of_them)))
                        };
                        distinct(at(from)?.vstack(&at(to)?)?.lazy())?
                    }
                }
            };
            keys.push(carried);
        }
        Ok(Self { leftmost, keys })
    }

    /// True where no document of this side can have changed.
    fn is_none(&self, side: Side) -> bool {
        let leftmost = match &self.leftmost {
            // A row of an append table is not there before.
            Leftmost::Since(_, some) => *some && side == Side::After,
            Leftmost::Keyed(keys) => keys.is_some(),
        };
        !leftmost && self.keys.iter().all(Option::is_none)
    }

    /// The joins in which something changed.
    fn joins<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = (usize, &'a Join, &'a DataFrame)> {
        let inputs = query.inputs.iter().zip(&self.keys).enumerate();
        inputs.filter_map(|(number, (input, keys))| Some((number, input.join.as_ref()?, keys.as_ref()?)))
    }

    /// The input with which all rows are gone that did not change.
    pub(super) fn narrowed_at(&self, query: &Query) -> usize {
        self.joins(query).map(|(_, join, _)| known_at(join)).max().unwrap_or(0)
    }

    /// Marks the rows of the joined frame once input `number` is part of it, and leaves only those that are marked as soon
    /// as nothing can be added to them.
    pub(super) fn narrow(&self, pipeline: &Pipeline, query: &Query, number: usize, mut frame: LazyFrame) -> LazyFrame {
        let last = self.narrowed_at(query);
        if number > last {
            return frame;
        }
        let mut marks: Vec<Expr> = Vec::new();
        if number == 0 {
            match &self.leftmost {
                Leftmost::Since(step, _) => marks.push(col("i0_step").gt(lit(step_number(*step)))),
                Leftmost::Keyed(None) => marks.push(lit(false)),
                Leftmost::Keyed(Some(keys)) => {
                    let table = &pipeline.tables[query.inputs[0].table.0];
                    let left: Vec<Expr> = table.key.iter().map(|c| col(name(0, *c))).collect();
                    let right: Vec<Expr> = (0..left.len()).map(|n| col(format!("key{n}"))).collect();
                    let named = table.key.iter().enumerate();
                    let named: Vec<Expr> =
                        named.map(|(n, c)| typed_column(&table.columns[*c]).alias(format!("key{n}"))).collect();
                    frame = mark(frame, keys.clone().lazy().select(named), (left, right), "mark0");
                    marks.push(col("mark0").is_not_null());
                }
            }
        } else {
            marks.push(col(CHANGED));
        }
        for (n, join, keys) in self.joins(query).filter(|(_, join, _)| known_at(join) == number) {
            let left = join.on.iter().map(|key| join_key(pipeline, query, key.left.input, key.left.column)).collect();
            let right = (0..join.on.len()).map(|m| col(right_key(n, m))).collect();
            let name = format!("mark{n}");
            frame = mark(frame, keys.clone().lazy(), (left, right), &name);
            marks.push(col(name).is_not_null());
        }
        let marked = marks.into_iter().reduce(Expr::or).unwrap_or_else(|| lit(false));
        if number == last { frame.filter(marked) } else { frame.with_columns([marked.alias(CHANGED)]) }
    }
}

/// The input with which all is known that a join compares.
fn known_at(join: &Join) -> usize {
    join.on.iter().map(|key| key.left.input).max().unwrap_or(0)
}

/// The rows, each once, without those in which something is NULL; `None` where there are none.
fn distinct(frame: LazyFrame) -> Result<Option<DataFrame>, PolarsError> {
    let rows = collect(frame.drop_nulls(None).unique(None, UniqueKeepStrategy::Any))?;
    Ok((rows.height() > 0).then_some(rows))
}

/// The rows of a frame, of which no more are in memory than there are in the end.
fn collect(frame: LazyFrame) -> Result<DataFrame, PolarsError> {
    Ok(frame.collect_with_engine(Engine::Streaming)?.unwrap_single())
}

/// Adds a column that is not NULL where the row's key is among `keys`.
fn mark(frame: LazyFrame, keys: LazyFrame, (left, right): (Vec<Expr>, Vec<Expr>), name: &str) -> LazyFrame {
    let args = JoinArgs { coalesce: JoinCoalesce::KeepColumns, nulls_equal: false, ..JoinArgs::new(JoinType::Left) };
    // Joined columns have names of their own, which the same keys further on must not meet.
    let renamed: Vec<Expr> =
        right.iter().enumerate().map(|(n, key)| key.clone().alias(format!("{name}_{n}"))).collect();
    let on = (0..right.len()).map(|n| col(format!("{name}_{n}"))).collect::<Vec<_>>();
    frame.join(keys.select([renamed, vec![lit(true).alias(name)]].concat()), left, on, args)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_shared::archive::{Archive, ArchivedRecord, Note};
    use lockstep_shared::coordinates::{Offset, Partition, Place};
    use lockstep_shared::history::Content;
    use lockstep_shared::sql::{Overrides, compile};
    use lockstep_shared::value::Value;

    use super::*;

    const PROGRAM: &str = "
        CREATE TABLE v (k STRING) WITH ('connector' = 'filesystem', 'path' = 'v', 'format' = 'json');
        CREATE TABLE r (id STRING, k STRING, PRIMARY KEY (id) NOT ENFORCED)
            WITH ('connector' = 'filesystem', 'path' = 'r', 'format' = 'json', 'key.format' = 'raw');
        CREATE TABLE d (k STRING, id STRING)
            WITH ('connector' = 'elasticsearch-7', 'hosts' = 'http://127.0.0.1:9', 'index' = 'd');
        INSERT INTO d SELECT v.k, r.id FROM v LEFT JOIN r ON v.k = r.k;";

    const SNOWFLAKE: &str = "
        CREATE TABLE v (k STRING) WITH ('connector' = 'filesystem', 'path' = 'v', 'format' = 'json');
        CREATE TABLE r (id STRING, k STRING, PRIMARY KEY (id) NOT ENFORCED)
            WITH ('connector' = 'filesystem', 'path' = 'r', 'format' = 'json', 'key.format' = 'raw');
        CREATE TABLE s (id STRING, PRIMARY KEY (id) NOT ENFORCED)
            WITH ('connector' = 'filesystem', 'path' = 's', 'format' = 'json', 'key.format' = 'raw');
        CREATE TABLE d (k STRING, id STRING)
            WITH ('connector' = 'elasticsearch-7', 'hosts' = 'http://127.0.0.1:9', 'index' = 'd');
        INSERT INTO d SELECT v.k, s.id FROM v LEFT JOIN r ON v.k = r.id LEFT JOIN s ON r.k = s.id;";

    async fn archived(root: &std::path::Path, table: &Table, rows: &[(u64, &[&str])]) {
        let record = |(offset, (step, values)): (i64, &(u64, &[&str]))| ArchivedRecord {
            step: Step(*step),
            place: Place { partition: Partition(0), offset: Offset(offset) },
            timestamp_ms: None,
            key: None,
            value: Some(b"{}".to_vec()),
            content: Content::Row(values.iter().map(|value| Value::string(value)).collect()),
        };
        let records: Vec<ArchivedRecord> = (0..).zip(rows).map(record).collect();
        let note = Note { step: Step(9), positions: BTreeMap::new(), acknowledged: Step(9), uncertain_after: None };
        Archive::new(root).open(table).await.unwrap().append(&records, &note).await.unwrap();
    }

    /// The documents that are given as changed between two steps.
    async fn changed(pipeline: &Pipeline, root: &std::path::Path) -> impl Fn(u64, u64) -> Vec<String> {
        let files = super::super::files(pipeline, root).await.unwrap();
        move |from, to| {
            let mut ids = Vec::new();
            each_changed(pipeline, &pipeline.sinks[0], &files, (Step(from), Step(to)), |side, batch| {
                ids.extend((0..batch.rows()).map(|row| format!("{side:?} {}", batch.id(row).0)));
                Ok::<(), RecomputeError>(())
            })
            .unwrap();
            ids.sort_unstable();
            ids
        }
    }

    /// A row that is joined by what is not its key, and takes another value there, leaves one document and joins another:
    /// both may have changed, and what looks for neither value has not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_changes_the_documents_that_look_for_what_it_carried_and_for_what_it_carries() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = compile(PROGRAM, &Overrides::default(), &|_| None).unwrap();
        let table = |name: &str| pipeline.tables.iter().find(|table| table.name == name).unwrap();
        archived(folder.path(), table("v"), &[(1, &["old"]), (1, &["new"]), (1, &["none"]), (3, &["late"])]).await;
        archived(folder.path(), table("r"), &[(1, &["a", "old"]), (2, &["a", "new"])]).await;
        let changed = changed(&pipeline, folder.path()).await;
        assert_eq!(changed(1, 2), ["After 0-0|~", "After 0-1|a", "Before 0-0|a", "Before 0-1|~"]);
        assert_eq!(changed(2, 3), ["After 0-3|~"]);
        assert_eq!(changed(3, 9), Vec::<String>::new());
    }

    /// What changed further along may have changed a document that nothing nearer did.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_is_left_out_only_where_no_join_can_have_changed_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = compile(SNOWFLAKE, &Overrides::default(), &|_| None).unwrap();
        let table = |name: &str| pipeline.tables.iter().find(|table| table.name == name).unwrap();
        archived(folder.path(), table("v"), &[(1, &["a"]), (1, &["b"]), (1, &["c"])]).await;
        archived(folder.path(), table("r"), &[(1, &["a", "x"]), (1, &["b", "y"]), (1, &["c", "z"]), (2, &["a", "w"])])
            .await;
        archived(folder.path(), table("s"), &[(2, &["y"])]).await;
        let changed = changed(&pipeline, folder.path()).await;
        assert_eq!(changed(1, 2), ["After 0-0", "After 0-1", "Before 0-0", "Before 0-1"]);
    }
}
