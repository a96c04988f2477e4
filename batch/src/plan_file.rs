//! A repair as a file that a person can read, and that [`apply`] carries out later, where the world has not moved on.
//!
//! JSON lines: the first is the [`Header`], every other one an [`Entry`]. The whole plan is refused where the program, an index or
//! the archive is another; an entry whose document has changed since is left out.

pub mod apply;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use lockstep_shared::archive::{Archive, ArchiveError};
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::{Client, IndexError};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::sql::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::certificate::{SampleField, fields, kind_of};
use crate::diff::Difference;
use crate::reconcile::Judged;
use crate::repair::execute::RepairError;
use crate::repair::{Fault, Seen};

/// The number of the file's form.
const FORM: u32 = 1;

/// Why a plan cannot be written or carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file.
    #[error("plan {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no plan, or not all of one.
    #[error("plan {path}, line {line}: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The plan was made for another world.
    #[error("the plan is not carried out: {0}; make a new one (lockstep-batch reconcile --dry-run --plan FILE)")]
    MovedOn(String),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The repair.
    #[error(transparent)]
    Repair(#[from] RepairError),
}

impl PlanError {
    /// True where something that is needed does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Index(error) => error.is_unavailable(),
            Self::Repair(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// For what world a plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The number of the file's form.
    pub lockstep_plan: u32,
    /// When it was made (RFC 3339, UTC).
    pub made_at: String,
    /// SHA-256 of the program's text.
    pub program: String,
    /// Documents become as they should be after this step.
    pub cut: Step,
    /// The identity of each table of the archive.
    pub archive: BTreeMap<String, String>,
    /// The index of each sink.
    pub indexes: BTreeMap<String, PlannedIndex>,
    /// How many entries there are of each kind.
    pub counts: BTreeMap<String, u64>,
}

/// An index for which a plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedIndex {
    /// The name in the sink's options: an index or an alias.
    pub name: String,
    /// The index itself, by which one that was made anew is known.
    pub uuid: String,
    /// Its documents, or those that should be there, whichever were more.
    pub documents: u64,
    /// Documents that differ besides those of the plan: too many to be looked at.
    #[serde(default)]
    pub unexamined: u64,
}

/// One document's repair.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The sink.
    pub sink: String,
    /// `missing`, `different` or `extra`.
    pub kind: String,
    /// The document.
    pub id: String,
    /// Why it differs, where that was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the index held; nothing where it is missing. Another write since leaves the entry out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The fields that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<SampleField>,
    /// What it becomes; nothing where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Box<RawValue>>,
}

/// Writes what a repair would do.
///
/// # Errors
/// Where the file cannot be written, or index or archive do not say which they are.
pub(crate) async fn write(
    path: &Path,
    pipeline: &Pipeline,
    settings: &Settings,
    cut: Step,
    judged: &[Judged<'_>],
) -> Result<(), PlanError> {
    let mut indexes = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for Judged { target, client, compared, report } in judged {
        let documents = report.expected.max(report.found);
        let uuid = uuid(client, target.index).await?;
        let (name, unexamined) = (target.index.to_owned(), compared.unexamined);
        indexes.insert(target.sink.name.clone(), PlannedIndex { name, uuid, documents, unexamined });
        for difference in &compared.differences {
            *counts.entry(kind_of(difference).to_owned()).or_default() += 1;
        }
    }
    let header = Header {
        lockstep_plan: FORM,
        made_at: chrono::Utc::now().to_rfc3339(),
        program: fingerprint(pipeline),
        cut,
        archive: identities(pipeline, settings).await?,
        indexes,
        counts,
    };
    let entries = judged.iter().flat_map(|judged| {
        let sink = judged.target.sink;
        judged.compared.differences.iter().map(move |difference| entry(sink, difference))
    });
    put(path, &header, entries).map_err(|source| PlanError::File { path: path.to_owned(), source })
}

fn put(path: &Path, header: &Header, entries: impl Iterator<Item = io::Result<Entry>>) -> io::Result<()> {
    let unfinished = path.with_added_extension("unfinished");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    serde_json::to_writer(&mut file, header)?;
    for entry in entries {
        file.write_all(b"\n")?;
        serde_json::to_writer(&mut file, &entry?)?;
    }
    file.write_all(b"\n")?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&unfinished, path)
}

fn entry(sink: &Sink, difference: &Difference) -> io::Result<Entry> {
    let Fault { id, seen, document } = Fault::of(sink, difference);
    let document = document.map(|json| serde_json::from_slice::<Box<RawValue>>(&json)).transpose()?;
    let shown = if seen.is_some() { fields(sink, difference) } else { Vec::new() };
    Ok(Entry {
        sink: sink.name.clone(),
        kind: kind_of(difference).to_owned(),
        id: id.to_string(),
        cause: None,
        seen,
        fields: shown,
        document,
    })
}

/// SHA-256 of the program's text.
#[must_use]
pub fn fingerprint(pipeline: &Pipeline) -> String {
    Sha256::digest(pipeline.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which index a name stands for; nothing where there is none.
async fn uuid(client: &Client, index: &str) -> Result<String, IndexError> {
    Ok(client.concrete(index).await?.map(|index| index.uuid).unwrap_or_default())
}

/// Which archive this is, by table.
async fn identities(pipeline: &Pipeline, settings: &Settings) -> Result<BTreeMap<String, String>, ArchiveError> {
    let archive = Archive::new(&settings.archive_path);
    let mut identities = BTreeMap::new();
    for table in &pipeline.tables {
        if let Some(open) = archive.open_existing(table).await? {
            identities.insert(table.name.clone(), open.identity()?);
        }
    }
    Ok(identities)
}

/// Reads a plan.
///
/// # Errors
/// Where it cannot be read, or is not all there.
pub fn read(path: &Path) -> Result<(Header, Vec<Entry>), PlanError> {
    let failed = |source| PlanError::File { path: path.to_owned(), source };
    let wrong = |line: usize, reason: String| PlanError::Form { path: path.to_owned(), line, reason };
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let first = lines.next().transpose().map_err(failed)?.unwrap_or_default();
    let header: Header = serde_json::from_str(&first).map_err(|e| wrong(1, format!("it is no plan: {e}")))?;
    if header.lockstep_plan != FORM {
        let found = header.lockstep_plan;
        return Err(wrong(
            1,
            format!("its form is {found}, and this version reads {FORM}; use the version that wrote it"),
        ));
    }
    let mut entries = Vec::new();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(failed)?;
        let entry = serde_json::from_str(&line).map_err(|e| wrong(number + 2, format!("it is no entry: {e}")))?;
        entries.push(entry);
    }
    let counted: u64 = header.counts.values().sum();
    if counted != entries.len() as u64 {
        let reason = format!("the plan has {counted} entries by its header, and {} are there", entries.len());
        return Err(wrong(1, reason));
    }
    Ok((header, entries))
}
