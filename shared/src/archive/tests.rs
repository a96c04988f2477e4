//! Round trips through real files.

use std::collections::BTreeMap;

use super::*;
use crate::plan::Column;
use crate::types::DataType as T;
use crate::value::{Row, Value};

fn table() -> Table {
    let types = [
        T::String,
        T::Boolean,
        T::TinyInt,
        T::SmallInt,
        T::Int,
        T::BigInt,
        T::Float,
        T::Double,
        T::Decimal { precision: 9, scale: 2 },
        T::Date,
        T::Timestamp { precision: 3 },
        T::TimestampLtz { precision: 6 },
    ];
    let columns = types
        .iter()
        .enumerate()
        .map(|(n, t)| Column { name: format!("c{n}"), data_type: *t, nullable: true })
        .collect();
    Table { name: "t".into(), columns, key: vec![0], options: BTreeMap::new() }
}

fn record(step: u64, offset: i64, content: Content) -> ArchivedRecord {
    let value = if matches!(content, Content::Delete(_)) { None } else { Some(b"{}".to_vec()) };
    let place = Place { partition: Partition(0), offset: Offset(offset) };
    ArchivedRecord { step: Step(step), place, timestamp_ms: Some(7), key: Some(b"k".to_vec()), value, content }
}

fn note(step: u64) -> Note {
    Note {
        step: Step(step),
        positions: BTreeMap::from([(Partition(0), Offset(9))]),
        acknowledged: Step(1),
        uncertain_after: None,
    }
}

fn rows() -> Vec<ArchivedRecord> {
    let full: Vec<Value> = vec![
        Value::string("k"),
        Value::Boolean(true),
        Value::Integer(-1),
        Value::Integer(2),
        Value::Integer(3),
        Value::Integer(i64::MIN),
        Value::Float(0.5),
        Value::Double(1e300),
        Value::Decimal(-12345),
        Value::Date(-3),
        Value::Timestamp(-5_000),
        Value::Timestamp(1),
    ];
    let mut key = vec![Value::Null; 12];
    key[0] = Value::string("k");
    vec![
        record(1, 0, Content::Row(Row::from(full))),
        record(1, 1, Content::Row(Row::from(key.clone()))),
        record(2, 2, Content::Delete(Row::from(key))),
        record(2, 3, Content::Rejected("no JSON".into())),
    ]
}

#[tokio::test]
async fn what_was_archived_is_read_again_and_a_step_is_never_archived_twice() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut open = archive.open(&table()).await.unwrap();
    open.append(&rows(), &note(2)).await.unwrap();
    open.append(&rows(), &note(2)).await.unwrap();
    open.append(&[], &note(3)).await.unwrap();
    std::fs::write(folder.path().join("t/never-committed.parquet"), "torn").unwrap();
    let open = archive.open_existing(&table()).await.unwrap().unwrap();
    assert_eq!(open.last(), Some(&note(3)));
    assert_eq!(open.files().unwrap().len(), 1);
    assert_eq!(open.read(Step(0), Step(9)).await.unwrap(), rows());
    assert_eq!(open.read(Step(1), Step(9)).await.unwrap(), rows()[2..]);
    assert_eq!(open.read(Step(0), Step(1)).await.unwrap(), rows()[..2]);
}

#[tokio::test]
async fn the_note_outlives_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut open = archive.open(&table()).await.unwrap();
    for step in 1..=120 {
        open.append(&[], &note(step)).await.unwrap();
    }
    assert_eq!(archive.open(&table()).await.unwrap().last(), Some(&note(120)));
}

#[tokio::test]
async fn an_archive_of_other_columns_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    archive.open(&table()).await.unwrap();
    let mut other = table();
    other.columns[4].data_type = T::BigInt;
    let refused = archive.open(&other).await.unwrap_err().to_string();
    assert!(refused.contains("c4 integer") && refused.contains("c4 long"), "{refused}");
}
