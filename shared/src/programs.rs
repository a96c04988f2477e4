//! The programs that were run on an archive: the stream keeps each, batch asks what an earlier one gave.
//!
//! `<archive>/programs/<number>.json` holds the text, a fingerprint of what it means, and the first step that it was run
//! from. Where it reads and writes is no part of the meaning. The text is kept as written: `${NAME}` keeps secrets out of it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::coordinates::Step;
use crate::plan::Pipeline;

/// The folder in the archive's.
const FOLDER: &str = "programs";

/// A program that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptProgram {
    /// The first step that it was run from.
    pub from: Step,
    /// What it means, in short.
    pub fingerprint: String,
    /// Its text.
    pub text: String,
}

/// What a program means, in 16 digits: two programs that give the same documents from the same tables have the same.
#[must_use]
pub fn fingerprint(pipeline: &Pipeline) -> String {
    let mut meaning = String::new();
    for table in &pipeline.tables {
        // Writing to a String does not fail.
        let _ = write!(meaning, "{:?}", (&table.name, &table.columns, &table.key));
    }
    for sink in &pipeline.sinks {
        let delimiter = sink.option("document-id.key-delimiter");
        let _ = write!(meaning, "{:?}", (&sink.name, &sink.columns, &sink.key, &sink.query, delimiter));
    }
    format!("{:016x}", fnv1a(meaning.as_bytes()))
}

/// FNV-1a: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The programs that an archive keeps, the first one first. What cannot be read is as if it were not there.
#[must_use]
pub fn read(archive: &Path) -> Vec<KeptProgram> {
    let read = |path: &PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    files(archive).iter().filter_map(read).collect()
}

fn files(archive: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(archive.join(FOLDER)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// Keeps the program, if it is another than the last, as one that runs from the step after `last`.
///
/// # Errors
/// Where the folder cannot be written.
pub fn keep(pipeline: &Pipeline, archive: &Path, last: Step) -> io::Result<()> {
    let fingerprint = fingerprint(pipeline);
    if read(archive).last().is_some_and(|kept| kept.fingerprint == fingerprint) {
        return Ok(());
    }
    let folder = archive.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let number = files(archive).len() + 1;
    let program = KeptProgram { from: last.next(), fingerprint, text: pipeline.text.clone() };
    let path = folder.join(format!("{number:06}.json"));
    // A reader sees the whole file or none.
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, serde_json::to_vec_pretty(&program)?)?;
    std::fs::rename(&unfinished, &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{self, Overrides};

    fn program(column: &str, path: &str) -> Pipeline {
        let text = format!(
            "CREATE TABLE t (a STRING, b STRING) WITH ('connector' = 'filesystem', 'path' = '{path}');
             CREATE TABLE s (a STRING) WITH ('connector' = 'blackhole');
             INSERT INTO s SELECT {column} FROM t;"
        );
        sql::compile(&text, &Overrides::default(), &|_| None).unwrap()
    }

    #[test]
    fn a_program_is_kept_when_it_means_something_else() {
        let archive = tempfile::tempdir().unwrap();
        for (column, path, step) in [("a", "x", 0), ("a", "y", 5), ("b", "y", 7), ("b", "x", 9), ("a", "x", 11)] {
            keep(&program(column, path), archive.path(), Step(step)).unwrap();
        }
        let kept = read(archive.path());
        assert_eq!(kept.iter().map(|program| program.from).collect::<Vec<_>>(), [Step(1), Step(8), Step(12)]);
        assert_eq!(kept[0].fingerprint, kept[2].fingerprint);
        assert!(kept[1].text.contains("SELECT b"));
    }
}
