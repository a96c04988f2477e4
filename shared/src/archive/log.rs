//! The files of a table's Delta log, beside the library that reads and writes them: whether a table is there, whether
//! its last commit is whole, and that a commit is on disk.
//!
//! The library links a finished commit into its place, so that a killed process leaves none that is torn. It does not
//! sync: a power cut may leave the last one short or empty. [`sync`] makes a commit last before anybody is told of it, so a torn
//! commit is always one that nobody was told of, and [`set_aside_torn`] may take it away.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// What the metadata that Lockstep adds to a commit begins with.
const OWN_METADATA: &str = "lockstep.";

/// The folder of a table's log.
pub fn folder(table: &Path) -> PathBuf {
    table.join("_delta_log")
}

fn commit(table: &Path, version: u64) -> PathBuf {
    folder(table).join(format!("{version:020}.json"))
}

/// The commits that the log has as files, ascending; none where there is no table.
///
/// # Errors
/// Where the folder cannot be read.
pub fn versions(table: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder(table)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut versions = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".json")).filter(|digits| digits.len() == 20);
        versions.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
    }
    versions.sort_unstable();
    Ok(versions)
}

/// The files that commits have taken out of the table, each with when that was, in milliseconds since 1970.
///
/// # Errors
/// Where a commit cannot be read.
pub fn removed(table: &Path) -> io::Result<Vec<(String, i64)>> {
    let mut removed = Vec::new();
    for version in versions(table)? {
        let text = fs::read_to_string(commit(table, version))?;
        // Most commits only add, and most lines are long.
        for line in text.lines().filter(|line| line.starts_with("{\"remove\"")) {
            let action: Json = serde_json::from_str(line)?;
            let (path, at_ms) = (&action["remove"]["path"], &action["remove"]["deletionTimestamp"]);
            removed.extend(path.as_str().map(str::to_owned).zip(at_ms.as_i64()));
        }
    }
    Ok(removed)
}

/// Puts a commit on disk, with everything that leads to it: nobody may be told of it before.
///
/// # Errors
/// Where the disk says no; then the commit may be there or not.
pub fn sync(table: &Path, version: u64) -> io::Result<()> {
    sync_file(&commit(table, version))?;
    sync_file(&folder(table))
}

/// Puts a file's content on disk, or a folder's list of files.
///
/// # Errors
/// Where the disk says no.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Puts a checkpoint on disk, and the file that says which is the last.
///
/// # Errors
/// Where the disk says no.
pub fn sync_checkpoints(table: &Path) -> io::Result<()> {
    for path in checkpoints(table)? {
        sync_file(&path)?;
    }
    sync_file(&folder(table))
}

/// The last checkpoint's files, and the one that points to it.
fn checkpoints(table: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(table))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.contains(".checkpoint.") && name.ends_with(".parquet") {
            found.push(path);
        }
    }
    found.sort();
    let last = found.pop();
    let pointer = folder(table).join("_last_checkpoint");
    Ok(last.into_iter().chain(pointer.exists().then_some(pointer)).collect())
}

/// Renames the last checkpoint, which only saves reading the commits before it; says whether there was one. Where
/// commits are missing from the log, the checkpoint is needed and stays.
///
/// # Errors
/// Where the disk says no.
pub fn set_aside_checkpoint(table: &Path) -> io::Result<bool> {
    let versions = versions(table)?;
    let whole = versions.iter().zip(0..).all(|(found, expected)| *found == expected);
    if !whole || versions.is_empty() {
        return Ok(false);
    }
    let found = checkpoints(table)?;
    for path in &found {
        set_aside(path)?;
    }
    Ok(!found.is_empty())
}

/// Renames the last commit if it is torn; its new name.
///
/// # Errors
/// Where the disk says no.
pub fn set_aside_torn(table: &Path) -> io::Result<Option<PathBuf>> {
    let Some(last) = versions(table)?.pop() else { return Ok(None) };
    let path = commit(table, last);
    if is_whole(&fs::read(&path)?, last) {
        return Ok(None);
    }
    let aside = set_aside(&path)?;
    sync_file(&folder(table))?;
    Ok(Some(aside))
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Whether a commit says all that it was to say: each line is an action, and the one that is written last is there.
fn is_whole(bytes: &[u8], version: u64) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let actions: Result<Vec<Json>, _> =
        text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str::<Json>).collect();
    let Ok(actions) = actions else { return false };
    if !actions.iter().all(Json::is_object) {
        return false;
    }
    let has = |name: &str| actions.iter().any(|action| action.get(name).is_some());
    let info = actions.iter().filter_map(|action| action.get("commitInfo")?.as_object());
    let is_own = info.flat_map(|info| info.keys()).any(|key| key.starts_with(OWN_METADATA));
    match (version, is_own) {
        (0, _) => has("metaData") && has("protocol"),
        (_, true) => has("txn"),
        // Another program's commit ends as it likes.
        (_, false) => !actions.is_empty(),
    }
}
