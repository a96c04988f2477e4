//! One round: a drawn pipeline and history, an index that is damaged, and production's comparison, causes, delivery and
//! repair over it. Everything follows from the seed.

use std::collections::BTreeMap;

use lockstep_batch::cause::{Cause, Earlier, Evidence, Named, earlier_documents, examine, id_of};
use lockstep_batch::diff::{Comparison, Difference, Younger};
use lockstep_batch::life::Store;
use lockstep_batch::repair::{Stage, plan, settled};
use lockstep_shared::coordinates::Step;
use lockstep_shared::functions::Function;
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::index::Operation;
use lockstep_shared::index::delivery::Delivery;
use lockstep_shared::index::mapping;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::{Column, ColumnRef, Expression, ExpressionKind, Pipeline, Sink};
use lockstep_shared::types::DataType;
use lockstep_shared::value::Value;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::class::Class;
use super::history;
use super::inject::{Damage, Injected};
use super::world::World;
use crate::simulation::index::Index;
use crate::simulation::schedule::Outcome;

/// Records of a round's history.
const RECORDS: usize = 110;
/// Damages tried in a round: fewer than it has documents, so that most of the index is whole.
const TRIES: usize = 60;

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often each class was named what.
    pub named: BTreeMap<(Class, Cause), u64>,
    /// What is not as it should be, as sentences with the seed.
    pub wrong: Vec<String>,
    /// Damages of which the records were wrong.
    pub wrong_records: u64,
}

impl Tally {
    /// Adds another one's.
    pub fn add(&mut self, other: Self) {
        other.named.into_iter().for_each(|(key, count)| *self.named.entry(key).or_default() += count);
        self.wrong.extend(other.wrong);
        self.wrong_records += other.wrong_records;
    }

    /// Damages in all.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.named.values().sum()
    }

    /// Damages whose cause was named right.
    #[must_use]
    pub fn right(&self) -> u64 {
        self.named.iter().filter(|((class, cause), _)| class.cause() == *cause).map(|(_, count)| count).sum()
    }

    /// Ways of damage that occurred.
    #[must_use]
    pub fn classes(&self) -> usize {
        let mut classes: Vec<Class> = self.named.keys().map(|(class, _)| *class).collect();
        classes.dedup();
        classes.len()
    }
}

/// Damages one sink of a drawn pipeline, and has it found, named and repaired.
#[must_use]
pub fn round(seed: u64) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let pipeline = history::pipeline(&mut rng);
    let records = history::draw(&mut rng, &pipeline, RECORDS);
    let sink = &pipeline.sinks[rng.random_range(0..pipeline.sinks.len())];
    let mut world = World::new(&pipeline, sink, &records);
    let acknowledged = Step(world.last.0 - rng.random_range(0..world.last.0 / 4 + 1));
    let changed_at = Step(rng.random_range(1..=world.last.0));
    let before = rng.random_bool(0.5).then(|| earlier(&mut rng, &world));
    let ignored = rng.random_bool(0.3).then(|| rng.random_range(0..sink.columns.len()));
    let mut damage = Damage {
        world: &mut world,
        rng: &mut rng,
        acknowledged,
        earlier: before.as_ref().map(|sink| (sink, changed_at)),
        ignored,
        letters: BTreeMap::new(),
        injected: BTreeMap::new(),
    };
    for _ in 0..TRIES {
        let class = Class::ALL[damage.rng.random_range(0..Class::ALL.len())];
        // Where there is nothing to do it to, nothing is done.
        let _ = damage.inject(class);
    }
    let (letters, injected) = (damage.letters, damage.injected);
    let mut properties = mapping::creation(&sink.columns)["mappings"]["properties"].clone();
    if let (Some(column), Some(fields)) = (ignored, properties.as_object_mut()) {
        fields.remove(&sink.columns[column].name);
    }
    let evidence = Evidence {
        pipeline: &pipeline,
        sink,
        cut: world.last,
        known: world.last,
        acknowledged,
        changed_at: before.as_ref().map(|_| changed_at),
        mapping: Some(properties),
        letters,
    };
    let before = before.map(|sink| Pipeline { sinks: vec![sink], ..pipeline.clone() });
    judge(seed, &evidence, before.as_ref(), &mut world, &records, &injected)
}

/// Another sink of the same name: one column is something else, and some rows are filtered away.
fn earlier(rng: &mut StdRng, world: &World<'_>) -> Sink {
    let mut sink = world.sink.clone();
    let columns: Vec<usize> = (0..sink.columns.len()).filter(|column| !sink.key.contains(column)).collect();
    if let Some(column) = columns.get(rng.random_range(0..columns.len().max(1))) {
        let now = sink.query.projection[*column].clone();
        let function = match now.data_type {
            DataType::String => Some(Function::Upper),
            t if t.is_integer() || t == DataType::Double => Some(Function::Negate),
            _ => None,
        };
        if let Some(function) = function {
            let (data_type, nullable) = (now.data_type, now.nullable);
            sink.query.projection[*column] =
                Expression { kind: ExpressionKind::Call(function, vec![now]), data_type, nullable };
        }
    }
    let root = &world.pipeline.tables[sink.query.inputs[0].table.0];
    let rows = &world.contents()[sink.query.inputs[0].table.0];
    let column = rng.random_range(0..root.columns.len());
    let value = rows.get(rng.random_range(0..rows.len().max(1))).map(|row| row.row[column].clone());
    if let (Some(value), None, true) = (value.filter(|v| !v.is_null()), &sink.query.filter, rng.random_bool(0.5)) {
        sink.query.filter = Some(differs_from(column, &root.columns[column], value));
    }
    sink
}

/// `column IS NULL OR column <> value`.
fn differs_from(column: usize, definition: &Column, value: Value) -> Expression {
    let boolean = |function, arguments| Expression {
        kind: ExpressionKind::Call(function, arguments),
        data_type: DataType::Boolean,
        nullable: true,
    };
    let of_type = |kind| Expression { kind, data_type: definition.data_type, nullable: true };
    let read = || of_type(ExpressionKind::Column(ColumnRef { input: 0, column }));
    let other = boolean(Function::NotEqual, vec![read(), of_type(ExpressionKind::Literal(value))]);
    boolean(Function::Or, vec![boolean(Function::IsNull, vec![read()]), other])
}

fn judge(
    seed: u64,
    evidence: &Evidence<'_>,
    before: Option<&Pipeline>,
    world: &mut World<'_>,
    records: &[HistoryRecord],
    injected: &BTreeMap<String, Injected>,
) -> Tally {
    let mut tally = Tally::default();
    let differences = compare(world);
    let found: Vec<&str> = differences.iter().map(id_of).collect();
    for id in injected.keys().filter(|id| !found.contains(&id.as_str())) {
        tally.wrong.push(format!("seed {seed}: {id} of {} ({:?}) was not found", world.sink.name, injected[id].class));
    }
    let batch: Vec<&Difference> = differences.iter().collect();
    let Ok(examined) = examine(
        evidence,
        &batch,
        &mut Store::complete(evidence.pipeline, records),
        &mut |_| Ok::<_, std::convert::Infallible>(Vec::new()),
        &mut |questions| {
            let Some((before, changed_at)) = before.zip(evidence.changed_at) else {
                return Ok(questions.iter().map(|_| None::<Earlier>).collect());
            };
            let store = &mut Store::complete(before, records);
            earlier_documents(before, &before.sinks[0], changed_at, questions, store, &mut |_| Ok(Vec::new()))
        },
    );
    for (difference, examined) in differences.iter().zip(examined) {
        let id = id_of(difference);
        let Some(injected) = injected.get(id) else {
            tally.wrong.push(format!("seed {seed}: {id} of {} differs and was not touched", world.sink.name));
            continue;
        };
        let named = examined.named;
        *tally.named.entry((injected.class, named.cause)).or_default() += 1;
        if let Some(reason) = wrong_records(world, difference, injected, &named) {
            tally.wrong_records += 1;
            tally.wrong.push(format!("seed {seed}: {id} of {} ({:?}): {reason}", world.sink.name, injected.class));
        }
    }
    mend(world, &differences);
    for difference in compare(world) {
        let id = id_of(&difference);
        tally.wrong.push(format!("seed {seed}: {id} of {} differs after its repair", world.sink.name));
    }
    tally
}

/// What is wrong with the records behind a difference.
fn wrong_records(world: &World<'_>, difference: &Difference, injected: &Injected, named: &Named) -> Option<String> {
    match &injected.records {
        Some(records) if *records != named.records => {
            return Some(format!("made of {records:?}, said {:?}", named.records));
        }
        None if named.records.iter().any(|record| world.record(record.table, record.place) != *record) => {
            return Some(format!("{:?} are no records", named.records));
        }
        _ => {}
    }
    let from = injected.found_from.as_ref().filter(|_| named.cause == injected.class.cause())?;
    // Of several rows that make the same document any is right.
    let is_right = *from == named.found_from
        || match (injected.class, difference, named.found_from.as_slice()) {
            (Class::DoubleWithMadeUpId | Class::DoubleWithSimilarId, Difference::Extra { found }, records) => {
                world.are_of_a_document(records, &found.source)
            }
            (Class::OtherRow, Difference::Different { id, found, .. }, [record]) => {
                world.makes(&id.0, *record, &found.source)
            }
            _ => false,
        };
    (!is_right).then(|| format!("what was put there is of {from:?}, said {:?}", named.found_from))
}

fn compare(world: &World<'_>) -> Vec<Difference> {
    let expected = world.expected().into_iter().collect();
    let mut comparison = Comparison::new(world.sink, world.last, Younger::Judged, expected);
    for (id, held) in &world.index.held {
        let Some(source) = &held.source else { continue };
        let source = serde_json::from_slice(source).unwrap_or_default();
        let (id, version, seq_no) = (id.0.to_string(), held.version, held.seq_no);
        comparison.take(Found { id, version, seq_no, primary_term: 1, source });
    }
    comparison.finish().differences
}

/// The production repair, on its production way.
fn mend(world: &mut World<'_>, differences: &[Difference]) {
    let expected = world.expected().into_iter().collect();
    for stage in plan(world.sink, world.last, differences) {
        match stage {
            Stage::Write(operations) | Stage::Uproot(operations) => deliver(&mut world.index, operations),
            Stage::ForgetDeletes => world.index.forget_deletes(),
            Stage::Settle(ids) => {
                let operations = settled(world.sink, world.last, ids, &expected);
                deliver(&mut world.index, operations);
            }
        }
    }
}

fn deliver(index: &mut Index, operations: Vec<Operation>) {
    let mut delivery = Delivery::new(operations);
    while let Some(operations) = delivery.next().filter(|operations| !operations.is_empty()) {
        let Some((status, body)) = index.answer(operations, Outcome::Fine) else { return };
        if delivery.answered(status, &body).is_err() {
            return;
        }
    }
}
