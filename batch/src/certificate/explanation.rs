//! The causes of differences in a certificate.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use lockstep_shared::plan::Pipeline;
use serde::Serialize;
use serde_json::Value as Json;

use super::{Sample, SampleField, SinkReport, kind_of};
use crate::cause::{Examined, Named, id_of};
use crate::diff::Compared;
use crate::provenance::Provenance;

/// What is counted in place of a cause beyond those that were looked into.
const NOT_LOOKED_INTO: &str = "not-looked-into";

/// Why a document differs, with what shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// For people.
    pub sentence: String,
    /// The records that should have made the document; of one that should not be there those that took it away.
    pub records: Vec<Provenance>,
    /// The records behind what was found, where it is known what it is.
    pub found_from: Vec<Provenance>,
}

impl SinkReport {
    /// Adds the causes of the differences, the first of which were looked into.
    pub fn explain(&mut self, pipeline: &Pipeline, compared: &Compared, explained: &[Examined]) {
        for examined in explained {
            *self.by_cause.entry(examined.named.cause.name().to_owned()).or_default() += 1;
        }
        let rest = (compared.differences.len() - explained.len()) as u64;
        if rest > 0 {
            self.by_cause.insert(NOT_LOOKED_INTO.to_owned(), rest);
        }
        let by_id: BTreeMap<(&str, &str), &Named> = compared
            .differences
            .iter()
            .zip(explained)
            .map(|(difference, examined)| ((kind_of(difference), id_of(difference)), &examined.named))
            .collect();
        for sample in &mut self.samples {
            if let Some(named) = by_id.get(&(sample.kind, sample.id.as_str())) {
                sample.explain(pipeline, named);
            }
        }
    }
}

impl Sample {
    /// Adds its cause.
    pub fn explain(&mut self, pipeline: &Pipeline, named: &Named) {
        self.cause = Some(named.cause.name().to_owned());
        self.explanation = Some(Explanation {
            sentence: named.sentence.clone(),
            records: Provenance::of_all(pipeline, &named.records),
            found_from: Provenance::of_all(pipeline, &named.found_from),
        });
    }
}

/// For people, in lines of a report.
impl Display for Sample {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let cause = self.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
        writeln!(out, "  {} {}{cause}", self.kind, self.id)?;
        let shown = |value: &Option<Json>| value.as_ref().map_or_else(|| "absent".to_owned(), Json::to_string);
        for SampleField { field, expected, found } in &self.fields {
            writeln!(out, "    {field}: expected {}, found {}", shown(expected), shown(found))?;
        }
        if let Some(Explanation { sentence, records, found_from }) = &self.explanation {
            writeln!(out, "    {sentence}")?;
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
