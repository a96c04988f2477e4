//! The laws over random plans and histories: whatever the records and wherever the steps are cut, the stream's join and
//! the batch's recompute equal the definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_batch::recompute;
use lockstep_integration_tests::archived::archive;
use lockstep_shared::coordinates::{Channel, Offset, Partition, Place, Step, TableId};
use lockstep_shared::functions::Function;
use lockstep_shared::history::{Content, HistoryRecord, contents};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::plan::{
    Column, ColumnRef, Expression, ExpressionKind, Input, Join as PlanJoin, JoinKey, JoinKind, Pipeline, Query, Sink,
    Table,
};
use lockstep_shared::semantics::documents;
use lockstep_shared::types::DataType;
use lockstep_shared::value::{Row, Value};
use lockstep_stream::core::{Beginning, Command, Core, Cut, Limits};
use lockstep_stream::join::{Change, Join, Said};
use lockstep_stream::journal::Boundary;
use lockstep_stream::record::RawRecord;
use proptest::prelude::*;

/// Every table has three INT columns; a keyed one has column 0 as its key, or columns 0 and 1.
const COLUMNS: usize = 3;

#[derive(Clone, Debug)]
struct Shape {
    /// How many columns the key of each table has; an append table has none.
    keys: Vec<usize>,
    joins: Vec<JoinShape>,
    /// Whether joined rows must have column 1 of input 0 not NULL.
    filtered: bool,
}

#[derive(Clone, Debug)]
struct JoinShape {
    table: usize,
    kind: JoinKind,
    /// An earlier input, its column, and the own column that equals it.
    pairs: Vec<(usize, usize, usize)>,
    /// Whether rows with column 2 equal to 0 are filtered away before the join.
    filtered: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![3 => Just(JoinKind::Left), 1 => Just(JoinKind::Inner)];
    let pairs = prop::collection::vec((0..4_usize, 0..COLUMNS, 0..COLUMNS), 1..3);
    let join = (0..4_usize, kind, pairs, any::<bool>()).prop_map(|(table, kind, pairs, filtered)| JoinShape {
        table,
        kind,
        pairs,
        filtered,
    });
    let joins = prop::collection::vec(join, 0..4);
    (prop::collection::vec(0..3_usize, 4), joins, any::<bool>()).prop_map(|(keys, mut joins, filtered)| {
        for (number, join) in joins.iter_mut().enumerate() {
            join.pairs.iter_mut().for_each(|(left, _, _)| *left %= number + 1);
        }
        Shape { keys, joins, filtered }
    })
}

fn call(function: Function, arguments: Vec<Expression>) -> Expression {
    Expression { kind: ExpressionKind::Call(function, arguments), data_type: DataType::Boolean, nullable: true }
}

fn column(input: usize, column: usize) -> Expression {
    Expression { kind: ExpressionKind::Column(ColumnRef { input, column }), data_type: DataType::Int, nullable: true }
}

fn pipeline(shape: &Shape) -> Pipeline {
    let columns: Vec<Column> =
        (0..COLUMNS).map(|n| Column { name: format!("c{n}"), data_type: DataType::Int, nullable: true }).collect();
    let table = |(n, key): (usize, &usize)| Table {
        name: format!("t{n}"),
        columns: columns.clone(),
        key: (0..*key).collect(),
        options: BTreeMap::new(),
    };
    let mut inputs = vec![Input { table: TableId(0), alias: "i0".into(), join: None, filter: None }];
    let mut identity = vec![0];
    for (number, JoinShape { table, kind, pairs, filtered }) in shape.joins.iter().enumerate() {
        let input = number + 1;
        let on =
            pairs.iter().map(|(l, c, r)| JoinKey { left: ColumnRef { input: *l, column: *c }, right: *r }).collect();
        let zero =
            Expression { kind: ExpressionKind::Literal(Value::Integer(0)), data_type: DataType::Int, nullable: false };
        let filter = filtered.then(|| call(Function::NotEqual, vec![column(input, 2), zero]));
        inputs.push(Input {
            table: TableId(*table),
            alias: format!("i{input}"),
            join: Some(PlanJoin { kind: *kind, on }),
            filter,
        });
        let key = shape.keys[*table];
        let is_whole_key = key > 0 && (0..key).all(|column| pairs.iter().any(|(_, _, own)| *own == column));
        if !is_whole_key {
            identity.push(input);
        }
    }
    let projection: Vec<Expression> =
        (0..inputs.len()).flat_map(|input| [column(input, 0), column(input, 1)]).collect();
    let filter = shape.filtered.then(|| call(Function::IsNotNull, vec![column(0, 1)]));
    let sink_columns =
        (0..projection.len()).map(|n| Column { name: format!("d{n}"), data_type: DataType::Int, nullable: true });
    let sink = Sink {
        name: "sink".into(),
        columns: sink_columns.collect(),
        key: vec![],
        options: BTreeMap::new(),
        query: Query { inputs, filter, projection },
        identity,
    };
    Pipeline {
        text: String::new(),
        settings: BTreeMap::new(),
        tables: shape.keys.iter().enumerate().map(table).collect(),
        sinks: vec![sink],
    }
}

/// A record as drawn: its table, its values (0 stands for NULL, the rest is one less), whether it deletes, and how far its
/// step is from the one before.
type Drawn = (usize, [i64; COLUMNS], bool, u64);

fn history(shape: &Shape, drawn: &[Drawn]) -> Vec<HistoryRecord> {
    let mut step = 1;
    let mut records: Vec<HistoryRecord> = Vec::new();
    for (offset, (table, values, deletes, ahead)) in drawn.iter().enumerate() {
        step += ahead;
        let mut row: Vec<Value> =
            values.iter().map(|v| if *v == 0 { Value::Null } else { Value::Integer(v - 1) }).collect();
        let key = shape.keys[*table];
        for column in 0..key {
            row[column] = Value::Integer(values[column]);
        }
        let content = match (deletes, key > 0) {
            (true, true) => {
                row[key..].fill(Value::Null);
                Content::Delete(Row::from(row))
            }
            (true, false) => Content::Rejected("drawn so".into()),
            (false, _) => Content::Row(Row::from(row)),
        };
        let place = Place { partition: Partition(0), offset: Offset(offset as i64) };
        records.push(HistoryRecord { step: Step(step), table: TableId(*table), place, content });
    }
    records.sort_by_key(HistoryRecord::order);
    records
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let ahead = prop_oneof![2 => Just(0_u64), 1 => Just(1_u64)];
    prop::collection::vec((0..4_usize, [0..4_i64, 0..4_i64, 0..4_i64], prop::bool::weighted(0.15), ahead), 0..30)
}

type Documents = BTreeMap<DocumentId, Vec<Value>>;

/// Applies the changes, and panics on a delete of what is not there.
fn fold(index: &mut Documents, changes: Vec<Change>) {
    for change in changes {
        match change.document {
            Some(values) => drop(index.insert(change.id, values)),
            None => assert!(index.remove(&change.id).is_some(), "{} is deleted and was never there", change.id),
        }
    }
}

fn expected(pipeline: &Pipeline, records: &[HistoryRecord], cut: Step) -> Documents {
    documents(pipeline, &pipeline.sinks[0], &contents(&pipeline.tables, records, cut))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn l1_after_every_step_the_index_equals_the_definition(shape in shape(), drawn in drawn()) {
        let pipeline = Arc::new(pipeline(&shape));
        let records = history(&shape, &drawn);
        let mut join = Join::new(pipeline.clone());
        let mut index = Documents::new();
        for step in records.chunk_by(|a, b| a.step == b.step) {
            fold(&mut index, join.apply(step, Said::Changed));
            prop_assert_eq!(&index, &expected(&pipeline, &records, step[0].step), "after step {}", step[0].step);
        }
        prop_assert_eq!(join.documents(0), index);
    }

    #[test]
    fn l2_where_steps_are_cut_does_not_matter(shape in shape(), drawn in drawn()) {
        let pipeline = Arc::new(pipeline(&shape));
        let records = history(&shape, &drawn);
        let mut one_by_one = Join::new(pipeline.clone());
        for record in &records {
            one_by_one.apply(std::slice::from_ref(record), Said::Changed);
        }
        let mut loaded = Join::new(pipeline.clone());
        loaded.load(&records);
        prop_assert_eq!(one_by_one.documents(0), loaded.documents(0));
    }

    #[test]
    fn l4_a_left_row_always_has_a_document(shape in shape(), drawn in drawn()) {
        let mut shape = shape;
        shape.filtered = false;
        shape.joins.iter_mut().for_each(|join| join.kind = JoinKind::Left);
        let pipeline = Arc::new(pipeline(&shape));
        let records = history(&shape, &drawn);
        let mut join = Join::new(pipeline.clone());
        let mut index = Documents::new();
        for step in records.chunk_by(|a, b| a.step == b.step) {
            fold(&mut index, join.apply(step, Said::Changed));
            let left_rows = contents(&pipeline.tables, &records, step[0].step)[0].len();
            prop_assert!(index.len() >= left_rows, "{} documents of {left_rows} left rows", index.len());
        }
    }

    #[test]
    fn steps_that_say_all_they_touch_end_in_the_same_documents(shape in shape(), drawn in drawn()) {
        let pipeline = Arc::new(pipeline(&shape));
        let records = history(&shape, &drawn);
        let mut join = Join::new(pipeline.clone());
        let mut index = Documents::new();
        for step in records.chunk_by(|a, b| a.step == b.step) {
            for change in join.apply(step, Said::Touched) {
                match change.document {
                    Some(values) => drop(index.insert(change.id, values)),
                    None => drop(index.remove(&change.id)),
                }
            }
            prop_assert_eq!(&index, &expected(&pipeline, &records, step[0].step));
        }
    }
}

proptest! {
    // Each case writes up to thirty commits to disk.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn l1_recomputed_from_the_archive_at_every_step_the_documents_equal_the_definition(
        shape in shape(),
        drawn in drawn(),
    ) {
        let pipeline = pipeline(&shape);
        let records = history(&shape, &drawn);
        let root = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(archive(&pipeline, &records, root.path(), 1)).expect("the archive is written");
        let files = runtime.block_on(recompute::files(&pipeline, root.path())).expect("the archive has files");
        let last = records.last().map_or(Step(0), |r| r.step);
        for cut in [Step(last.0 / 2), last] {
            let documents = recompute::documents(&pipeline, &pipeline.sinks[0], &files, cut);
            let documents: Documents = documents.expect("Polars takes the plan").into_iter().collect();
            prop_assert_eq!(documents, expected(&pipeline, &records, cut), "at cut {}", cut);
        }
    }
}

/// The drawn records as they come from a log, by channel: two partitions a table, offsets with gaps.
fn log(shape: &Shape, drawn: &[Drawn]) -> BTreeMap<Channel, Vec<RawRecord>> {
    let mut log: BTreeMap<Channel, Vec<RawRecord>> = BTreeMap::new();
    for (table, values, deletes, gap) in drawn {
        let channel = Channel { table: TableId(*table), partition: Partition((values[0] % 2) as i32) };
        let records = log.entry(channel).or_default();
        let next = records.last().map_or(0, |r| r.place.offset.0 + 1) + *gap as i64;
        let shown = |v: &i64| if *v == 0 { "null".to_owned() } else { (v - 1).to_string() };
        let key = shape.keys[*table];
        let field = |n: usize| if n < key { values[n].to_string() } else { shown(&values[n]) };
        let fields = |count: usize| {
            let fields: Vec<String> = (0..count).map(|n| format!("\"c{n}\":{}", field(n))).collect();
            format!("{{{}}}", fields.join(","))
        };
        let value = fields(COLUMNS);
        let key = match key {
            0 => None,
            1 => Some(field(0).into_bytes()),
            more => Some(fields(more).into_bytes()),
        };
        let value = (!deletes).then(|| value.into_bytes());
        let place = Place { partition: channel.partition, offset: Offset(next) };
        records.push(RawRecord { place, timestamp_ms: None, key, value });
    }
    log
}

/// Feeds a machine in batches as they are drawn (from which partition, how many, whether a step is cut at once), then the
/// rest, and gives what it commands.
fn run(mut core: Core, mut log: BTreeMap<Channel, Vec<RawRecord>>, schedule: &[(usize, usize, bool)]) -> Vec<Command> {
    for channel in log.keys() {
        core.partition_found(*channel, Offset(0));
    }
    let channels: Vec<Channel> = log.keys().copied().collect();
    let mut commands = Vec::new();
    let rest = (0..channels.len()).map(|n| (n, usize::MAX, true));
    for (channel, count, now) in schedule.iter().copied().chain(rest).filter(|_| !channels.is_empty()) {
        let channel = channels[channel % channels.len()];
        let left = log.entry(channel).or_default();
        let batch: Vec<RawRecord> = left.drain(..count.min(left.len())).collect();
        if let Some(last) = batch.last() {
            let to = Offset(last.place.offset.0 + 1);
            core.receive(channel, batch, to);
        }
        commands.extend(core.cut(if now { Cut::Now } else { Cut::Full }));
    }
    commands
}

fn core(pipeline: &Arc<Pipeline>, beginning: Beginning) -> Core {
    let limits = Limits { step_records: 5, steps_in_flight: u64::MAX };
    Core::new(pipeline.clone(), Join::new(pipeline.clone()), limits, beginning)
}

fn writes(commands: &[Command]) -> Vec<(Step, &[Change])> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Write(work) => Some((work.step, work.changes.as_slice())),
            Command::Journal(_) | Command::Archive(_) | Command::Search(_) | Command::Commit | Command::Hold => None,
        })
        .collect()
}

fn schedule() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    prop::collection::vec((0..8_usize, 0..6_usize, any::<bool>()), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn l3_the_same_journal_gives_the_same_changes_at_the_same_versions(
        shape in shape(),
        drawn in drawn(),
        first in schedule(),
        second in schedule(),
        acknowledged in 0..8_u64,
    ) {
        let (pipeline, log) = (Arc::new(pipeline(&shape)), log(&shape, &drawn));
        let commands = run(core(&pipeline, Beginning::default()), log.clone(), &first);
        let journaled: Vec<Boundary> = commands
            .iter()
            .filter_map(|command| if let Command::Journal(boundary) = command { Some(boundary.clone()) } else { None })
            .collect();
        let acknowledged = Step(acknowledged.min(journaled.last().map_or(0, |b| b.step.0)));
        let beginning = Beginning { journaled: journaled.into(), acknowledged, ..Beginning::default() };
        let again = run(core(&pipeline, beginning), log, &second);
        let expected: Vec<_> = writes(&commands).into_iter().filter(|(step, _)| *step > acknowledged).collect();
        prop_assert_eq!(writes(&again), expected);
    }

    #[test]
    fn l5_every_offset_is_archived_exactly_once_and_positions_never_run_ahead(
        shape in shape(),
        drawn in drawn(),
        schedule in schedule(),
    ) {
        let (pipeline, log) = (Arc::new(pipeline(&shape)), log(&shape, &drawn));
        let mut places: BTreeMap<Channel, Vec<Place>> = BTreeMap::new();
        for command in run(core(&pipeline, Beginning::default()), log.clone(), &schedule) {
            let Command::Archive(work) = command else { continue };
            for (table, record) in work.records {
                let channel = Channel { table, partition: record.place.partition };
                places.entry(channel).or_default().push(record.place);
            }
            for (channel, position) in work.positions {
                let next = log[&channel].iter().find(|r| !places.get(&channel).is_some_and(|p| p.contains(&r.place)));
                prop_assert!(next.is_none_or(|record| record.place.offset >= position), "{position} skips {next:?}");
            }
        }
        let sent = log.iter().map(|(channel, records)| (*channel, records.iter().map(|r| r.place).collect())).collect();
        prop_assert_eq!(places, sent);
    }
}
