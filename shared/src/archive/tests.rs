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

/// An archive of three small files, at the steps 2, 4 and 6.
async fn three_files(archive: &Archive) -> TableArchive {
    let mut open = archive.open(&table()).await.unwrap();
    for step in [2, 4, 6] {
        let later = |r: ArchivedRecord| ArchivedRecord { step: Step(r.step.0 + step - 2), ..r };
        let place = |r: ArchivedRecord| {
            let offset = Offset(r.place.offset.0 + 4 * (step.cast_signed() - 2));
            ArchivedRecord { place: Place { offset, ..r.place }, ..r }
        };
        open.append(&rows().into_iter().map(later).map(place).collect::<Vec<_>>(), &note(step)).await.unwrap();
    }
    open
}

#[tokio::test]
async fn a_compaction_keeps_every_record_its_place_and_the_notes() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut writer = three_files(&archive).await;
    let before = writer.read(Step(0), Step(9)).await.unwrap();
    let reader = archive.open_existing(&table()).await.unwrap().unwrap();
    let mut compactor = archive.open_existing(&table()).await.unwrap().unwrap();
    let compacted = compactor.compact(compact::TARGET_BYTES).await.unwrap();
    assert_eq!((compacted.files_before, compacted.files_after, compacted.records), (3, 1, 12));
    assert_eq!(reader.read(Step(0), Step(9)).await.unwrap(), before, "who has begun to read goes on");
    // The writer knows nothing of it, and goes on top.
    writer.append(&[], &note(7)).await.unwrap();
    let mut after = archive.open_existing(&table()).await.unwrap().unwrap();
    assert_eq!(after.read(Step(0), Step(9)).await.unwrap(), before);
    assert_eq!((after.last(), after.files().unwrap().len()), (Some(&note(7)), 1));
    assert_eq!(after.commits().await.unwrap().iter().map(|c| c.note.step.0).collect::<Vec<_>>(), [2, 4, 6, 7]);
    assert_eq!(after.remove_replaced(std::time::Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(after.remove_replaced(std::time::Duration::ZERO).await.unwrap(), 3);
    assert_eq!(after.read(Step(0), Step(9)).await.unwrap(), before);
    assert_eq!(compactor.compact(compact::TARGET_BYTES).await.unwrap().replaced, 0, "there is nothing more to do");
}

#[tokio::test]
async fn a_compaction_goes_on_top_of_what_a_stream_has_committed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    let mut writer = three_files(&archive).await;
    let mut compactor = archive.open_existing(&table()).await.unwrap().unwrap();
    let mut second = archive.open_existing(&table()).await.unwrap().unwrap();
    writer.append(&[], &note(8)).await.unwrap();
    assert_eq!(compactor.compact(compact::TARGET_BYTES).await.unwrap().records, 12);
    // Another one that read the table before sees it anew, and takes nothing for a killed one's.
    assert_eq!(second.compact(compact::TARGET_BYTES).await.unwrap().replaced, 0);
    let after = archive.open_existing(&table()).await.unwrap().unwrap();
    assert_eq!((after.read(Step(0), Step(9)).await.unwrap().len(), after.last()), (12, Some(&note(8))));
}

#[tokio::test]
async fn of_two_compactions_at_once_the_second_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    three_files(&archive).await;
    let mut second = archive.open_existing(&table()).await.unwrap().unwrap();
    let (add, removes) = second.merged_all().unwrap();
    let mut first = archive.open_existing(&table()).await.unwrap().unwrap();
    first.compact(compact::TARGET_BYTES).await.unwrap();
    let refused = second.replace(removes, add).await.unwrap_err().to_string();
    assert!(refused.contains("another compaction has replaced the same files"), "{refused}");
    let after = archive.open_existing(&table()).await.unwrap().unwrap();
    assert_eq!(after.read(Step(0), Step(9)).await.unwrap().len(), 12);
}

#[tokio::test]
async fn what_a_killed_or_torn_compaction_has_left_changes_nothing_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    three_files(&archive).await;
    let left = folder.path().join("t/compacted-0.zstd.parquet");
    std::fs::write(&left, "half").unwrap();
    let mut compactor = archive.open_existing(&table()).await.unwrap().unwrap();
    assert_eq!(compactor.read(Step(0), Step(9)).await.unwrap().len(), 12);
    assert_eq!(compactor.remove_replaced(std::time::Duration::from_secs(60)).await.unwrap(), 0, "it may be at work");
    assert_eq!(compactor.remove_replaced(std::time::Duration::ZERO).await.unwrap(), 1);
    assert!(!left.exists());
    compactor.compact(compact::TARGET_BYTES).await.unwrap();
    let last = folder.path().join(format!("t/_delta_log/{:020}.json", compactor.version()));
    let whole = std::fs::read(&last).unwrap();
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end);
    for end in ends.filter(|end| end + 1 < whole.len()) {
        std::fs::write(&last, &whole[..=end]).unwrap();
        let opened = archive.open(&table()).await.unwrap();
        assert_eq!(opened.read(Step(0), Step(9)).await.unwrap().len(), 12, "torn after byte {end}");
        assert_eq!(opened.files().unwrap().len(), 3);
    }
}
