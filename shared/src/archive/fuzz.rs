//! Whatever stands in a table's Delta log: the records as they were, or those before the damage, or an error that names
//! the table, and never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::tests::{note, rows, table};
use super::*;

/// What is done to a file of the log.
#[derive(Clone, Debug)]
enum Damage {
    CutAt(prop::sample::Index),
    ByteAt(prop::sample::Index, u8),
    Replaced(Vec<u8>),
    LineReplaced(prop::sample::Index, String),
    Gone,
}

fn damage() -> impl Strategy<Value = Damage> {
    let action = prop::sample::select(vec![
        "{}",
        "[]",
        "null",
        "{\"add\":{}}",
        "{\"add\":{\"path\":\"x\",\"partitionValues\":{},\"size\":1,\"modificationTime\":1,\"dataChange\":true}}",
        "{\"remove\":{\"path\":\"x\",\"dataChange\":true}}",
        "{\"protocol\":{\"minReaderVersion\":99,\"minWriterVersion\":99}}",
        "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\",\"options\":{}},\"schemaString\":\"{}\",\"partitionColumns\":[],\"configuration\":{}}}",
        "{\"commitInfo\":{\"lockstep.note\":7}}",
    ]);
    prop_oneof![
        3 => any::<prop::sample::Index>().prop_map(Damage::CutAt),
        3 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::ByteAt(at, byte)),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Damage::Replaced),
        3 => (any::<prop::sample::Index>(), action).prop_map(|(at, line)| Damage::LineReplaced(at, line.to_owned())),
        1 => Just(Damage::Gone),
    ]
}

fn apply(path: &Path, damage: &Damage) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::CutAt(at) => bytes.truncate(at.index(bytes.len())),
        Damage::ByteAt(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Damage::Replaced(other) => bytes.clone_from(other),
        Damage::LineReplaced(at, other) => {
            let text = String::from_utf8(bytes).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            let at = at.index(lines.len());
            lines[at] = other;
            bytes = lines.join("\n").into_bytes();
        }
        Damage::Gone => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// An archive of three commits: steps 1 and 2, 3 without records, and 4.
async fn sound(root: &Path) {
    let mut open = Archive::new(root).open(&table()).await.unwrap();
    open.append(&rows(), &note(2)).await.unwrap();
    open.append(&[], &note(3)).await.unwrap();
    let mut later = rows();
    later.iter_mut().for_each(|record| (record.step, record.place.offset.0) = (Step(4), record.place.offset.0 + 4));
    open.append(&later, &note(4)).await.unwrap();
}

fn log_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root.join("t/_delta_log")).unwrap().flatten().map(|e| e.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}

/// What a reader or a writer finds; the error of either names the table.
async fn records(opened: Result<Option<TableArchive>, ArchiveError>) -> Result<Vec<ArchivedRecord>, String> {
    let archive = opened.map_err(|e| e.to_string())?;
    let Some(archive) = archive else { return Ok(Vec::new()) };
    archive.commits().await.map_err(|e| e.to_string())?;
    archive.places().map_err(|e| e.to_string())?;
    archive.read(Step::ZERO, Step(9)).await.map_err(|e| e.to_string())
}

fn check(whole: &[ArchivedRecord], found: Result<Vec<ArchivedRecord>, String>, who: &str) -> Result<(), TestCaseError> {
    match found {
        Ok(records) => {
            prop_assert!(whole.starts_with(&records) || whole.ends_with(&records), "{who} found {records:?}");
        }
        Err(error) => {
            prop_assert!(error.contains("archive ") && error.contains("/t"), "{who} does not name the table: {error}");
        }
    }
    Ok(())
}

#[test]
fn any_damage_to_the_log_gives_sound_records_or_an_error_that_names_the_table() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let template = tempfile::tempdir().unwrap();
    runtime.block_on(sound(template.path()));
    let whole =
        runtime.block_on(async { records(Archive::new(template.path()).open_existing(&table()).await).await }).unwrap();
    assert_eq!(whole.len(), 8);
    let case = (any::<prop::sample::Index>(), damage());
    proptest!(ProptestConfig::with_cases(150), |((file, damage) in case)| {
        let folder = tempfile::tempdir().unwrap();
        copy(template.path(), folder.path());
        let files = log_files(folder.path());
        apply(&files[file.index(files.len())], &damage);
        let archive = Archive::new(folder.path());
        check(&whole, runtime.block_on(async { records(archive.open_existing(&table()).await).await }), "a reader")?;
        check(&whole, runtime.block_on(async { records(archive.open(&table()).await.map(Some)).await }), "the writer")?;
    });
}
