//! Where a record stands, as people and machines are told.

use lockstep_shared::coordinates::{Offset, Partition, Step};
use lockstep_shared::plan::Pipeline;
use serde::Serialize;

use crate::life::RecordAt;

/// A record: its table, the topic or path that it came from, and its place there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The table.
    pub table: String,
    /// The topic, or the path of the file log.
    pub source: String,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
    /// The step that took it.
    pub step: Step,
}

impl Provenance {
    /// Of a record of the pipeline's.
    #[must_use]
    pub fn of(pipeline: &Pipeline, record: &RecordAt) -> Self {
        let table = &pipeline.tables[record.table.0];
        let source = table.option("topic").or_else(|| table.option("path")).unwrap_or_default();
        Self {
            table: table.name.clone(),
            source: source.to_owned(),
            partition: record.place.partition,
            offset: record.place.offset,
            step: record.step,
        }
    }

    /// Of several.
    #[must_use]
    pub fn of_all(pipeline: &Pipeline, records: &[RecordAt]) -> Vec<Self> {
        records.iter().map(|record| Self::of(pipeline, record)).collect()
    }
}

impl std::fmt::Display for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, source, partition, offset, step } = self;
        write!(f, "{table}: {source} partition {partition} offset {offset}, step {step}")
    }
}
