//! Round trips through real files.

use std::collections::BTreeMap;

use super::*;
use crate::plan::Column;
use crate::types::DataType as T;
use crate::value::{Row, Value};

pub(super) fn table() -> Table {
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

pub(super) fn note(step: u64) -> Note {
    let positions = BTreeMap::from([(Partition(0), Offset(9))]);
    Note { step: Step(step), positions, acknowledged: Step(1), uncertain_after: None }
}

pub(super) fn rows() -> Vec<ArchivedRecord> {
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

/// A commit of every kind: the table's own, one with records, one that only notes, and a takeover.
async fn two_owners(root: &std::path::Path) -> (TableArchive, TableArchive) {
    let (old, new) = (root.join("old"), root.join("new"));
    std::fs::create_dir_all(&old).unwrap();
    std::fs::create_dir_all(&new).unwrap();
    let archive = root.join("archive");
    let take = |state: &std::path::Path| Arc::new(owner::Candidate::new(&archive, state).unwrap().take().unwrap());
    let mut first = Archive::owned(&archive, take(&old)).open(&table()).await.unwrap();
    first.append(&rows(), &note(2)).await.unwrap();
    // As where locks do not reach.
    std::fs::remove_file(archive.join("owner.lock")).unwrap();
    let second = Archive::owned(&archive, take(&new)).open(&table()).await.unwrap();
    (first, second)
}

#[tokio::test]
async fn l6_a_writer_that_was_overtaken_archives_nothing_more_and_says_who_did_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut second) = two_owners(folder.path()).await;
    assert_eq!(second.last(), Some(&note(2)), "it has what the first one archived before");
    let lost = first.append(&[], &note(3)).await.unwrap_err().to_string();
    assert!(lost.contains("has been taken over by process") && lost.contains("/new;"), "{lost}");
    second.append(&[], &note(4)).await.unwrap();
    assert!(first.append(&[], &note(5)).await.is_err(), "and it does not change its mind");
    assert_eq!(second.commits().await.unwrap().iter().map(|c| c.note.step.0).collect::<Vec<_>>(), [2, 4]);
}

#[tokio::test]
async fn a_commit_of_another_program_is_no_takeover() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut open = archive.open(&table()).await.unwrap();
    open.append(&rows(), &note(2)).await.unwrap();
    let log = folder.path().join("t/_delta_log");
    std::fs::write(log.join("00000000000000000002.json"), "{\"commitInfo\":{\"operation\":\"OPTIMIZE\"}}\n").unwrap();
    open.append(&[], &note(3)).await.unwrap();
    assert!(log.join("00000000000000000003.json").exists(), "it goes on top");
    assert_eq!(archive.open(&table()).await.unwrap().last(), Some(&note(3)));
}

#[tokio::test]
async fn a_torn_commit_and_a_torn_checkpoint_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut open = archive.open(&table()).await.unwrap();
    open.append(&rows(), &note(2)).await.unwrap();
    for step in 3..=102 {
        open.append(&[], &note(step)).await.unwrap();
    }
    let log = folder.path().join("t/_delta_log");
    let checkpoint = log.join("00000000000000000099.checkpoint.parquet");
    assert!(checkpoint.exists(), "a hundred commits make a checkpoint");
    std::fs::write(&checkpoint, "torn").unwrap();
    let last = log.join(format!("{:020}.json", open.version()));
    let whole = std::fs::read(&last).unwrap();
    let first_line = whole.iter().position(|b| *b == b'\n').unwrap();
    for keep in [0, 7, first_line, whole.len() - 1] {
        std::fs::write(&last, &whole[..keep]).unwrap();
        let opened = archive.open(&table()).await.unwrap();
        assert_eq!(opened.last(), Some(&note(101)), "cut after {keep} bytes");
        assert_eq!(opened.read(Step(0), Step(9)).await.unwrap(), rows());
        assert!(!last.exists());
    }
}
