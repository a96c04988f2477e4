//! The certificates that an archive keeps: each one a file beside the tables, so that how it went over time can be seen.
//!
//! `<archive>/certificates/<time>.json`, and the same as a page, `<time>.html`; the stream's console and its metrics read the
//! JSON. The oldest go when there are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_shared::archive::CERTIFICATES;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::certificate::Certificate;

/// Keeps the certificate, and the last `keep` ones; gives its file.
///
/// # Errors
/// Where the folder cannot be written.
pub fn keep(certificate: &Certificate, archive: &Path, keep: usize) -> io::Result<PathBuf> {
    let folder = archive.join(CERTIFICATES);
    fs::create_dir_all(&folder)?;
    let path = folder.join(file_name(&certificate.made_at));
    // The page first: whoever finds the JSON finds its page.
    put(&path.with_extension("html"), certificate.html().as_bytes())?;
    put(&path, &serde_json::to_vec_pretty(certificate)?)?;
    for old in surplus(&folder, keep)? {
        fs::remove_file(&old)?;
        // Those of before have no page.
        let _ = fs::remove_file(old.with_extension("html"));
    }
    Ok(path)
}

/// A reader sees the whole file or none.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

/// The time, such that files are ordered by it and every file system takes it.
fn file_name(made_at: &str) -> String {
    let time = made_at.split('+').next().unwrap_or(made_at);
    format!("{}Z.json", time.replace(':', "-"))
}

fn surplus(folder: &Path, keep: usize) -> io::Result<Vec<PathBuf>> {
    let mut kept = files(folder)?;
    kept.truncate(kept.len().saturating_sub(keep));
    Ok(kept)
}

/// The certificates' files, oldest first; none where there is no folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?.filter_map(|entry| Some(entry.ok()?.path())),
    };
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort_unstable();
    Ok(files)
}

/// A kept certificate, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name, by which [`show`] finds it.
    pub name: String,
    /// When it was made.
    pub made_at: String,
    /// What it comes to: `in-lockstep`, `repaired` or `differs`.
    pub verdict: String,
    /// Its cut.
    pub cut: u64,
    /// Documents that differed.
    pub differences: u64,
}

/// What is read of a certificate, also of one from before they had a verdict.
#[derive(Deserialize)]
struct Short {
    made_at: String,
    cut: u64,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    sinks: Vec<ShortSink>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ShortSink {
    missing: u64,
    different: u64,
    extra: u64,
    unexamined: u64,
    repair: Option<Json>,
}

/// The kept certificates, the last first. A file that is none is told by `skipped`.
///
/// # Errors
/// Where the folder cannot be read.
pub fn list(archive: &Path, skipped: &mut dyn FnMut(&Path, &str)) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for path in files(&archive.join(CERTIFICATES))?.into_iter().rev() {
        let read = fs::read(&path).map_err(|e| e.to_string());
        match read.and_then(|bytes| serde_json::from_slice::<Short>(&bytes).map_err(|e| e.to_string())) {
            Ok(short) => listed.push(short.listed(&path)),
            Err(reason) => skipped(&path, &reason),
        }
    }
    Ok(listed)
}

impl Short {
    fn listed(self, path: &Path) -> Listed {
        let count = |sink: &ShortSink| sink.missing + sink.different + sink.extra + sink.unexamined;
        let differences = self.sinks.iter().map(count).sum();
        let is_repaired = self.sinks.iter().filter(|sink| count(sink) > 0).all(|sink| sink.repair.is_some());
        let told = match differences {
            0 => "in-lockstep",
            _ if is_repaired => "repaired",
            _ => "differs",
        };
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let verdict = self.verdict.unwrap_or_else(|| told.to_owned());
        Listed { name, made_at: self.made_at, verdict, cut: self.cut, differences }
    }
}

/// A kept certificate as it was written, and its page's file: by its name, or the last one.
///
/// # Errors
/// Where there is none of that name.
pub fn show(archive: &Path, name: Option<&str>) -> io::Result<(String, PathBuf)> {
    let mut files = files(&archive.join(CERTIFICATES))?;
    let wanted = |path: &PathBuf| path.file_stem().is_some_and(|stem| Some(stem.to_string_lossy().as_ref()) == name);
    let found = if name.is_some() { files.into_iter().find(wanted) } else { files.pop() };
    let path = found.ok_or_else(|| {
        let which = name.map_or_else(|| "no certificate".to_owned(), |name| format!("no certificate {name}"));
        io::Error::new(io::ErrorKind::NotFound, format!("{which} is kept in {}", archive.join(CERTIFICATES).display()))
    })?;
    Ok((fs::read_to_string(&path)?, path.with_extension("html")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_shared::coordinates::Step;

    use crate::cut::{Cut, Precision};

    use super::*;

    const KEPT: usize = 5;

    fn certificate(n: usize) -> Certificate {
        let made_at = format!("2026-11-24T{:02}:{:02}:00.5+00:00", n / 60, n % 60);
        let precision = Precision::Around { reason: "a test".into() };
        let cut = Cut { step: Step(1), notes: BTreeMap::new(), precision };
        Certificate { made_at, ..Certificate::new(&cut, Vec::new(), BTreeMap::new()) }
    }

    #[test]
    fn the_last_certificates_are_kept_with_their_pages_and_the_oldest_go() {
        let archive = tempfile::tempdir().unwrap();
        for n in 0..KEPT + 2 {
            let path = keep(&certificate(n), archive.path(), KEPT).unwrap();
            assert!(path.is_file() && path.with_extension("html").is_file(), "{}", path.display());
        }
        let mut names: Vec<_> =
            fs::read_dir(archive.path().join(CERTIFICATES)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!((names.len(), names[0].to_str()), (2 * KEPT, Some("2026-11-24T00-02-00.5Z.html")));
    }

    #[test]
    fn certificates_of_both_forms_are_listed_and_what_is_none_is_told() {
        let archive = tempfile::tempdir().unwrap();
        keep(&certificate(1), archive.path(), KEPT).unwrap();
        let folder = archive.path().join(CERTIFICATES);
        let old = r#"{"made_at":"2026-11-23T00:00:00+00:00","cut":7,"positions":{},"sinks":[{"missing":2,"extra":1}]}"#;
        fs::write(folder.join("2026-11-23T00-00-00Z.json"), old).unwrap();
        fs::write(folder.join("2026-11-22T00-00-00Z.json"), "{").unwrap();
        let mut told = Vec::new();
        let listed = list(archive.path(), &mut |path, _| told.push(path.to_owned())).unwrap();
        let seen: Vec<_> = listed.iter().map(|l| (l.name.as_str(), l.verdict.as_str(), l.differences)).collect();
        assert_eq!(seen, [("2026-11-24T00-01-00.5Z", "in-lockstep", 0), ("2026-11-23T00-00-00Z", "differs", 3)]);
        assert_eq!(told, [folder.join("2026-11-22T00-00-00Z.json")]);
        assert_eq!(show(archive.path(), Some("2026-11-23T00-00-00Z")).unwrap().0, old);
        assert!(show(archive.path(), Some("other")).unwrap_err().to_string().contains("no certificate other"));
    }
}
