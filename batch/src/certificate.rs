//! The report of a reconcile, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write;

use lockstep_shared::coordinates::Step;
use lockstep_shared::document::{FieldDifference, to_json};
use lockstep_shared::plan::{Pipeline, Sink};
use serde::Serialize;
use serde_json::Value as Json;

use crate::cause::{Cause, Examined, Named, id_of};
use crate::cut::Precision;
use crate::diff::{Compared, Difference};
use crate::provenance::Provenance;

/// What was found, and done, over all sinks.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// When it was made (RFC 3339, UTC).
    pub made_at: String,
    /// Everything up to this step was compared.
    pub cut: Step,
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
    /// How many differences have each cause, by its name.
    pub causes: BTreeMap<&'static str, u64>,
    /// Differences beyond those that were looked into for a cause.
    pub causes_not_looked_for: u64,
    /// Some of each kind.
    pub samples: Vec<Sample>,
    /// What the repair did; absent where none was asked for.
    pub repair: Option<Repaired>,
}

/// One difference.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// `missing`, `different` or `extra`.
    pub kind: &'static str,
    /// The document's `_id`.
    pub id: String,
    /// The fields that differ; of a missing document all, of an extra one none.
    pub fields: Vec<SampleField>,
    /// Why it differs.
    pub explanation: Option<Explanation>,
}

/// Why a document differs, with what shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The cause's name, see [`crate::cause`].
    pub cause: Cause,
    /// For people.
    pub sentence: String,
    /// The records that should have made the document; of one that should not be there those that took it away.
    pub records: Vec<Provenance>,
    /// The records behind what was found, where it is known what it is.
    pub found_from: Vec<Provenance>,
}

impl Explanation {
    /// Of a named cause.
    #[must_use]
    pub fn of(pipeline: &Pipeline, named: &Named) -> Self {
        Self {
            cause: named.cause,
            sentence: named.sentence.clone(),
            records: Provenance::of_all(pipeline, &named.records),
            found_from: Provenance::of_all(pipeline, &named.found_from),
        }
    }
}

/// One field of a difference.
#[derive(Clone, Debug, Serialize)]
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

impl Certificate {
    /// True where nothing differs, or everything that did is repaired.
    #[must_use]
    pub fn is_in_lockstep(&self) -> bool {
        self.sinks.iter().all(|s| match &s.repair {
            None => s.differences() == 0,
            Some(repaired) => repaired.refused.is_empty(),
        })
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = self.precision.text();
        for sink in &self.sinks {
            let written = sink.write(self.cut, &mut out);
            assert!(written.is_ok(), "writing into memory does not fail");
        }
        out
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
            expected: compared.equal + missing + different,
            found: compared.found,
            equal: compared.equal,
            younger: compared.younger,
            missing,
            different,
            extra: count("extra"),
            causes: BTreeMap::new(),
            causes_not_looked_for: 0,
            samples: shown.map(|d| sample(sink, d)).collect(),
            repair: None,
        }
    }

    /// Adds the causes of the differences, the first of which were looked into.
    pub fn explain(&mut self, pipeline: &Pipeline, compared: &Compared, explained: &[Examined]) {
        self.causes = counted(explained);
        self.causes_not_looked_for = (compared.differences.len() - explained.len()) as u64;
        let by_id: BTreeMap<(&str, &str), &Named> = compared
            .differences
            .iter()
            .zip(explained)
            .map(|(difference, examined)| ((kind_of(difference), id_of(difference)), &examined.named))
            .collect();
        for sample in &mut self.samples {
            let named = by_id.get(&(sample.kind, sample.id.as_str()));
            sample.explanation = named.map(|named| Explanation::of(pipeline, named));
        }
    }

    /// How many documents are not as they should be.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.different + self.extra
    }

    fn write(&self, cut: Step, out: &mut String) -> std::fmt::Result {
        let verdict = if self.differences() == 0 { "in lockstep" } else { "DIFFERS" };
        writeln!(out, "{} at step {cut}: {verdict}", self.index)?;
        writeln!(
            out,
            "  {} documents found, {} equal, {} changed after the cut and left out",
            self.found, self.equal, self.younger
        )?;
        if self.differences() > 0 {
            writeln!(out, "  {} missing, {} different, {} extra", self.missing, self.different, self.extra)?;
        }
        for (cause, count) in &self.causes {
            writeln!(out, "  {cause}: {count}")?;
        }
        if self.causes_not_looked_for > 0 {
            writeln!(out, "  {} more were not looked into for a cause", self.causes_not_looked_for)?;
        }
        for sample in &self.samples {
            sample.write(out)?;
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
        Ok(())
    }
}

impl Sample {
    /// For people, in lines of a report.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "  {} {}", self.kind, self.id)?;
        let shown = |value: &Option<Json>| value.as_ref().map_or_else(|| "absent".to_owned(), Json::to_string);
        for SampleField { field, expected, found } in &self.fields {
            writeln!(out, "    {field}: expected {}, found {}", shown(expected), shown(found))?;
        }
        if let Some(Explanation { cause, sentence, records, found_from }) = &self.explanation {
            writeln!(out, "    {}: {sentence}", cause.name())?;
            for record in records {
                writeln!(out, "      {record}")?;
            }
            for record in found_from {
                writeln!(out, "      found is of {record}")?;
            }
        }
        Ok(())
    }
}

fn kind_of(difference: &Difference) -> &'static str {
    match difference {
        Difference::Missing { .. } => "missing",
        Difference::Different { .. } => "different",
        Difference::Extra { .. } => "extra",
    }
}

pub(crate) fn sample(sink: &Sink, difference: &Difference) -> Sample {
    let kind = kind_of(difference);
    match difference {
        Difference::Missing { id, expected } => {
            let fields = sink.columns.iter().zip(expected).map(|(column, value)| SampleField {
                field: column.name.clone(),
                expected: Some(to_json(value, column.data_type)),
                found: None,
            });
            Sample { kind, id: id.to_string(), fields: fields.collect(), explanation: None }
        }
        Difference::Different { id, fields, .. } => {
            let fields = fields.iter().cloned().map(|FieldDifference { field, expected, found }| SampleField {
                field,
                expected,
                found,
            });
            Sample { kind, id: id.to_string(), fields: fields.collect(), explanation: None }
        }
        Difference::Extra { found } => Sample { kind, id: found.id.clone(), fields: Vec::new(), explanation: None },
    }
}

/// Causes, counted.
fn counted(explained: &[Examined]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    explained.iter().for_each(|examined| *counts.entry(examined.named.cause.name()).or_default() += 1);
    counts
}
