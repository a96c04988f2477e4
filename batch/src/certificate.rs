//! The report of a reconcile, for people and for machines.
//!
//! The JSON's form is `fixtures/certificate.schema.json`; its number is [`SCHEMA`], which grows when a reader of the older form
//! would misread the new one. Certificates of before have no number.

mod explanation;
mod page;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{FieldDifference, to_json};
use lockstep_shared::index::delivery::Written;
use lockstep_shared::plan::Sink;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cut::{Cut, Precision};
use crate::diff::{Compared, Difference};
use crate::repair::HeldBack;

pub use explanation::Explanation;

/// The number of the JSON's form.
pub const SCHEMA: u32 = 1;

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing differs.
    InLockstep,
    /// What differed was repaired, or overtaken by the stream meanwhile.
    Repaired,
    /// Something differs.
    Differs,
}

impl Verdict {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::InLockstep => "in lockstep",
            Self::Repaired => "repaired",
            Self::Differs => "DIFFERS",
        }
    }
}

/// How documents were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every field of every document.
    Full,
}

/// What was found, and done, over all sinks.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// The number of this form.
    pub schema: u32,
    /// When it was made (RFC 3339, UTC).
    pub made_at: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// How documents were compared.
    pub mode: Mode,
    /// Everything up to this step was compared.
    pub cut: Step,
    /// How long each phase took, in seconds.
    pub seconds: BTreeMap<&'static str, f64>,
    /// How exactly the indexes were known at the cut.
    pub precision: CutReport,
    /// The next offset of each partition of each table, as the archive then stood.
    pub positions: BTreeMap<String, BTreeMap<i32, i64>>,
    /// One for every sink with an index.
    pub sinks: Vec<SinkReport>,
}

/// How exactly the indexes were known at the cut.
#[derive(Clone, Debug, Serialize)]
pub struct CutReport {
    /// Whether they were compared exactly as they were at the cut.
    pub exact: bool,
    /// How long the stream held its sinks for it, in milliseconds.
    pub held_ms: Option<f64>,
    /// Why it is not exact.
    pub reason: Option<String>,
}

impl CutReport {
    /// The report of a cut.
    #[must_use]
    pub fn of(precision: &Precision) -> Self {
        match precision {
            Precision::Exact(exact) => Self { exact: true, held_ms: Some(exact.held_ms), reason: None },
            Precision::Around { reason } => Self { exact: false, held_ms: None, reason: Some(reason.clone()) },
        }
    }

    fn text(&self) -> String {
        match (&self.reason, self.held_ms) {
            (Some(reason), _) => format!("the cut is not exact: {reason}\n"),
            (None, held) => format!("an exact cut; the stream's sinks were held for {:.0} ms\n", held.unwrap_or(0.0)),
        }
    }
}

/// What was found in one index.
#[derive(Clone, Debug, Serialize)]
pub struct SinkReport {
    /// The sink table.
    pub sink: String,
    /// Its index.
    pub index: String,
    /// How it was compared: `full` or `quick`.
    pub mode: &'static str,
    /// The same, for people.
    pub how: String,
    /// Documents that were read: fewer where a pass was taken up again, or a quick one.
    pub read: u64,
    /// Documents that should be there.
    pub expected: u64,
    /// Documents that are there.
    pub found: u64,
    /// Documents that are as they should be.
    pub equal: u64,
    /// Documents written or deleted after the cut: left out.
    pub younger: u64,
    /// Documents that are not there.
    pub missing: u64,
    /// Documents of which some field differs.
    pub different: u64,
    /// Documents that should not be there.
    pub extra: u64,
    /// Documents that differ besides, and were too many to be looked at.
    pub unexamined: u64,
    /// How many differ for each cause; empty where causes were not looked for.
    pub by_cause: BTreeMap<String, u64>,
    /// Some of each kind.
    pub samples: Vec<Sample>,
    /// What the repair did; absent where none was asked for.
    pub repair: Option<Repaired>,
    /// Why nothing was repaired although it was asked for.
    pub held_back: Option<HeldBack>,
}

/// One difference.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// `missing`, `different` or `extra`.
    pub kind: &'static str,
    /// The document's `_id`.
    pub id: String,
    /// Why it differs, where that was looked for.
    pub cause: Option<String>,
    /// The fields that differ; of a missing document all, of an extra one none.
    pub fields: Vec<SampleField>,
    /// What shows the cause.
    pub explanation: Option<Explanation>,
}

/// One field of a difference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleField {
    /// Its name.
    pub field: String,
    /// What it should be.
    pub expected: Option<Json>,
    /// What it is.
    pub found: Option<Json>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repaired {
    /// Documents written or deleted.
    pub done: u64,
    /// Documents that the stream had changed meanwhile: left to it.
    pub overtaken: u64,
    /// Documents that the index refused, with the reason.
    pub refused: Vec<(String, String)>,
}

impl Repaired {
    /// Adds what became of operations.
    pub fn add(&mut self, written: Written) {
        self.done += written.done;
        self.overtaken += written.superseded + written.moved;
        self.refused.extend(written.rejected.into_iter().map(|r| (r.id.to_string(), r.reason)));
    }
}

impl Certificate {
    /// A certificate of now over what was found and done.
    #[must_use]
    pub fn new(cut: &Cut, sinks: Vec<SinkReport>, seconds: BTreeMap<&'static str, f64>) -> Self {
        let of = |note: &Note| note.positions.iter().map(|(partition, offset)| (partition.0, offset.0)).collect();
        Self {
            schema: SCHEMA,
            made_at: chrono::Utc::now().to_rfc3339(),
            verdict: verdict(&sinks),
            mode: Mode::Full,
            cut: cut.step,
            precision: CutReport::of(&cut.precision),
            seconds,
            positions: cut.notes.iter().map(|(table, note)| (table.clone(), of(note))).collect(),
            sinks,
        }
    }

    /// True where nothing differs, or everything that did is repaired.
    #[must_use]
    pub fn is_in_lockstep(&self) -> bool {
        self.verdict != Verdict::Differs
    }

    /// A page of its own: no script, nothing loaded, light and dark, on screen and on paper.
    #[must_use]
    pub fn html(&self) -> String {
        page::page(self)
    }
}

/// The report for people.
impl Display for Certificate {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(&self.precision.text())?;
        self.sinks.iter().try_for_each(|sink| sink.write(self.cut, out))
    }
}

fn verdict(sinks: &[SinkReport]) -> Verdict {
    let is_done = |repaired: &Repaired| repaired.refused.is_empty();
    let is_repaired = |sink: &SinkReport| sink.unexamined == 0 && sink.repair.as_ref().is_some_and(is_done);
    let differ: Vec<&SinkReport> = sinks.iter().filter(|sink| sink.differences() > 0).collect();
    match differ.as_slice() {
        [] => Verdict::InLockstep,
        some if some.iter().all(|sink| is_repaired(sink)) => Verdict::Repaired,
        _ => Verdict::Differs,
    }
}

impl SinkReport {
    /// The report of a comparison.
    #[must_use]
    pub fn new(sink: &Sink, index: &str, compared: &Compared, samples: usize) -> Self {
        let count = |kind: &str| compared.differences.iter().filter(|d| kind_of(d) == kind).count() as u64;
        let shown = ["missing", "different", "extra"]
            .iter()
            .flat_map(|kind| compared.differences.iter().filter(|d| kind_of(d) == *kind).take(samples));
        let (missing, different) = (count("missing"), count("different"));
        Self {
            sink: sink.name.clone(),
            index: index.to_owned(),
            mode: compared.how.mode,
            how: compared.how.what.clone(),
            read: compared.read,
            expected: compared.equal + missing + different + compared.unexamined,
            found: compared.found,
            equal: compared.equal,
            younger: compared.younger,
            missing,
            different,
            extra: count("extra"),
            unexamined: compared.unexamined,
            by_cause: BTreeMap::new(),
            samples: shown.map(|d| sample(sink, d)).collect(),
            repair: None,
            held_back: None,
        }
    }

    /// How many documents are not as they should be.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.different + self.extra + self.unexamined
    }

    fn write(&self, cut: Step, out: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.differences() == 0 { "in lockstep" } else { "DIFFERS" };
        writeln!(out, "{} at step {cut}: {verdict}", self.index)?;
        writeln!(
            out,
            "  {} documents found, {} equal, {} changed after the cut and left out",
            self.found, self.equal, self.younger
        )?;
        writeln!(out, "  compared in {} mode, {} documents read: {}", self.mode, self.read, self.how)?;
        if self.differences() > 0 {
            writeln!(out, "  {} missing, {} different, {} extra", self.missing, self.different, self.extra)?;
        }
        if self.unexamined > 0 {
            writeln!(
                out,
                "  {} more differ, too many to be looked at with this lockstep.reconcile.memory: rebuild the index, or repair \
                 again and again",
                self.unexamined
            )?;
        }
        for (cause, count) in &self.by_cause {
            writeln!(out, "  {count} {cause}")?;
        }
        for sample in &self.samples {
            sample.fmt(out)?;
        }
        if let Some(repaired) = &self.repair {
            writeln!(
                out,
                "  repaired {}, overtaken by the stream {}, refused {}",
                repaired.done,
                repaired.overtaken,
                repaired.refused.len()
            )?;
            for (id, reason) in &repaired.refused {
                writeln!(out, "    {id}: {reason}")?;
            }
        }
        if let Some(held_back) = &self.held_back {
            writeln!(out, "  {}", held_back.text())?;
        }
        Ok(())
    }
}

/// `missing`, `different` or `extra`.
pub(crate) fn kind_of(difference: &Difference) -> &'static str {
    match difference {
        Difference::Missing { .. } => "missing",
        Difference::Different { .. } => "different",
        Difference::Extra { .. } => "extra",
    }
}

pub(crate) fn sample(sink: &Sink, difference: &Difference) -> Sample {
    Sample {
        kind: kind_of(difference),
        id: difference.id().to_string(),
        cause: None,
        fields: fields(sink, difference),
        explanation: None,
    }
}

/// The fields that differ; of a missing document all, of an extra one none.
pub(crate) fn fields(sink: &Sink, difference: &Difference) -> Vec<SampleField> {
    match difference {
        Difference::Missing { expected, .. } => {
            let fields = sink.columns.iter().zip(expected).map(|(column, value)| SampleField {
                field: column.name.clone(),
                expected: Some(to_json(value, column.data_type)),
                found: None,
            });
            fields.collect()
        }
        Difference::Different { fields, .. } => {
            let fields = fields.iter().cloned().map(|FieldDifference { field, expected, found }| SampleField {
                field,
                expected,
                found,
            });
            fields.collect()
        }
        Difference::Extra { .. } => Vec::new(),
    }
}
