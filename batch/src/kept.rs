//! The certificates that an archive keeps: each one a file beside the tables, so that how it went over time can be seen.
//!
//! `<archive>/certificates/<time>.json`; the stream's console reads them. The oldest go when there are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::certificate::Certificate;

/// The folder in the archive's.
const FOLDER: &str = "certificates";
/// Certificates kept: a year and more of nightly ones, or half a day of one a minute, in a few megabytes.
const KEPT: usize = 500;

/// Keeps the certificate; gives its file.
///
/// # Errors
/// Where the folder cannot be written.
pub fn keep(certificate: &Certificate, archive: &Path) -> io::Result<PathBuf> {
    let folder = archive.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let path = folder.join(file_name(&certificate.made_at));
    // A reader sees the whole file or none.
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, serde_json::to_vec_pretty(certificate)?)?;
    fs::rename(&unfinished, &path)?;
    for old in surplus(&folder)? {
        fs::remove_file(old)?;
    }
    Ok(path)
}

/// The time, such that files are ordered by it and every file system takes it.
fn file_name(made_at: &str) -> String {
    let time = made_at.split('+').next().unwrap_or(made_at);
    format!("{}Z.json", time.replace(':', "-"))
}

fn surplus(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut kept: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    kept.sort_unstable();
    kept.truncate(kept.len().saturating_sub(KEPT));
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_shared::coordinates::Step;

    use crate::certificate::CutReport;

    use super::*;

    #[test]
    fn the_last_certificates_are_kept_and_the_oldest_go() {
        let archive = tempfile::tempdir().unwrap();
        for n in 0..KEPT + 2 {
            let made_at = format!("2026-11-24T{:02}:{:02}:00.5+00:00", n / 60, n % 60);
            let certificate = Certificate {
                made_at,
                cut: Step(1),
                precision: CutReport { exact: true, held_ms: None, reason: None },
                positions: BTreeMap::new(),
                sinks: Vec::new(),
            };
            let path = keep(&certificate, archive.path()).unwrap();
            assert!(path.is_file(), "{}", path.display());
        }
        let mut names: Vec<_> =
            fs::read_dir(archive.path().join(FOLDER)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!((names.len(), names[0].to_str()), (KEPT, Some("2026-11-24T00-02-00.5Z.json")));
    }
}
