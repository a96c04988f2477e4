//! Pipelines and histories at random: the shop-like program beside this file, or one of every form in INT columns.

use lockstep_shared::coordinates::{Offset, Partition, Place, Step, TableId};
use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::plan::{Pipeline, Table};
use lockstep_shared::sql::{self, Overrides};
use lockstep_shared::types::DataType;
use lockstep_shared::value::{Row, Value};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::simulation::shape::Shape;

/// Keys of each table, few enough that rows meet and change.
const KEYS: i64 = 12;

/// The program with every form of join and identity.
///
/// # Panics
/// Where it is no program: it is a file of ours.
#[must_use]
pub fn program() -> Pipeline {
    let compiled = sql::compile(include_str!("program.sql"), &Overrides::default(), &|_| None);
    compiled.unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A pipeline: mostly the program, else a drawn one.
pub fn pipeline(rng: &mut StdRng) -> Pipeline {
    if rng.random_bool(0.7) { program() } else { Shape::draw(rng).pipeline() }
}

/// This many records in steps of a few.
pub fn draw(rng: &mut StdRng, pipeline: &Pipeline, count: usize) -> Vec<HistoryRecord> {
    let mut step = Step(1);
    let mut records: Vec<HistoryRecord> = Vec::new();
    for _ in 0..count {
        if rng.random_bool(0.4) {
            step = step.next();
        }
        let number = rng.random_range(0..pipeline.tables.len());
        let table = &pipeline.tables[number];
        let partition = Partition(rng.random_range(0..2));
        let before = records.iter().filter(|r| r.table.0 == number && r.place.partition == partition).count();
        let place = Place { partition, offset: Offset(i64::try_from(before).unwrap_or(i64::MAX)) };
        records.push(HistoryRecord { step, table: TableId(number), place, content: content(rng, table) });
    }
    records.sort_by_key(HistoryRecord::order);
    records
}

fn content(rng: &mut StdRng, table: &Table) -> Content {
    let mut row: Vec<Value> = (0..table.columns.len()).map(|column| value(rng, table, column)).collect();
    if table.is_keyed() && rng.random_bool(0.15) {
        (0..row.len()).filter(|column| !table.key.contains(column)).for_each(|column| row[column] = Value::Null);
        return Content::Delete(Row::from(row));
    }
    Content::Row(Row::from(row))
}

fn value(rng: &mut StdRng, table: &Table, column: usize) -> Value {
    let definition = &table.columns[column];
    let meets = definition.name.ends_with("id") || definition.data_type == DataType::Int && definition.name.len() == 2;
    if !table.key.contains(&column) && rng.random_bool(0.08) {
        return Value::Null;
    }
    match definition.data_type {
        DataType::String if meets => Value::string(&format!("k{}", rng.random_range(0..KEYS))),
        DataType::String => Value::string(&format!("{} {}", definition.name, rng.random_range(0..100_000))),
        DataType::Boolean => Value::Boolean(rng.random_bool(0.5)),
        DataType::Double => Value::Double(f64::from(rng.random_range(1..1_000_000)) / 128.0 + 0.001),
        DataType::Decimal { .. } => Value::Decimal(rng.random_range(1_000_000..9_000_000) * 10 + 7),
        DataType::Date => Value::Date(rng.random_range(18_000..19_000)),
        DataType::Timestamp { precision } => {
            let micros = rng.random_range(1_609_459_200_000_000..1_640_995_200_000_000_i64);
            Value::Timestamp(lockstep_shared::text::truncate_timestamp(micros, precision))
        }
        _ if meets => Value::Integer(rng.random_range(0..KEYS)),
        _ => Value::Integer(rng.random_range(0..100_000)),
    }
}
