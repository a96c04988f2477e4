//! The last certificate of `lockstep-batch reconcile` beside the archive, as far as machines watch it.

use std::path::Path;

use lockstep_shared::archive::CERTIFICATES;
use lockstep_shared::coordinates::Step;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Largest certificate that is read.
pub(crate) const LARGEST_BYTES: u64 = 4 * 1024 * 1024;

/// What a certificate can come to.
pub const VERDICTS: [&str; 3] = ["in-lockstep", "repaired", "differs"];

/// The last certificate, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastCertificate {
    /// When it was made (RFC 3339, UTC).
    pub made_at: String,
    /// The same, in seconds since 1970.
    #[serde(skip)]
    pub made_at_seconds: u64,
    /// What it comes to: `in-lockstep`, `repaired` or `differs`.
    pub verdict: String,
    /// Its cut.
    pub cut: Step,
    /// Documents that differed.
    pub differences: u64,
}

/// What is read of the file.
#[derive(Deserialize)]
struct Certificate {
    made_at: String,
    cut: Step,
    /// Certificates of before have none.
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    sinks: Vec<Report>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    missing: u64,
    different: u64,
    extra: u64,
    unexamined: u64,
    repair: Option<Json>,
}

/// The last certificate of an archive; `None` where there is none that can be read.
#[must_use]
pub fn last(archive: &Path) -> Option<LastCertificate> {
    let entries = std::fs::read_dir(archive.join(CERTIFICATES)).ok()?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let path = files.filter(|path| path.extension().is_some_and(|e| e == "json")).max()?;
    if std::fs::metadata(&path).ok()?.len() > LARGEST_BYTES {
        return None;
    }
    let certificate: Certificate = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    certificate.short()
}

impl Certificate {
    fn short(self) -> Option<LastCertificate> {
        let made_at_seconds = chrono::DateTime::parse_from_rfc3339(&self.made_at).ok()?.timestamp();
        let count = |report: &Report| report.missing + report.different + report.extra + report.unexamined;
        let differences = self.sinks.iter().map(count).sum();
        let is_repaired = self.sinks.iter().filter(|report| count(report) > 0).all(|report| report.repair.is_some());
        let told = match differences {
            0 => "in-lockstep",
            _ if is_repaired => "repaired",
            _ => "differs",
        };
        Some(LastCertificate {
            made_at: self.made_at,
            made_at_seconds: made_at_seconds.try_into().ok()?,
            verdict: self.verdict.unwrap_or_else(|| told.to_owned()),
            cut: self.cut,
            differences,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_certificate_counts_in_either_form() {
        let archive = tempfile::tempdir().unwrap();
        assert_eq!(last(archive.path()), None);
        let folder = archive.path().join(CERTIFICATES);
        std::fs::create_dir(&folder).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("2026-11-24T00-00-00Z.json", r#"{"made_at":"2026-11-24T00:00:00+00:00","cut":5,"sinks":[{"missing":2}]}"#);
        put("2026-11-24T00-00-00Z.html", "");
        let old = last(archive.path()).unwrap();
        assert_eq!((old.made_at_seconds, old.verdict.as_str(), old.differences), (1_795_478_400, "differs", 2));
        let new = r#"{"schema":1,"made_at":"2026-11-25T00:00:00+00:00","verdict":"repaired","cut":6,"sinks":[{"extra":1,"repair":{}}]}"#;
        put("2026-11-25T00-00-00Z.json", new);
        let new = last(archive.path()).unwrap();
        assert_eq!((new.cut, new.verdict.as_str(), new.differences), (Step(6), "repaired", 1));
    }
}
