//! An index as a healthy stream has left it, and everything that the definition says of it, step by step.
//!
//! Nothing of production's causes or lives is used here: what the suite knows of a document, it knows from the
//! definition over the whole history.

use std::collections::BTreeMap;

use lockstep_batch::life::RecordAt;
use lockstep_shared::coordinates::{Place, Step, TableId};
use lockstep_shared::document::{differences, write_json};
use lockstep_shared::history::{Content, HistoryRecord, contents};
use lockstep_shared::identity::{DocumentId, IdentifiedRow, key_of};
use lockstep_shared::index::{Action, Operation};
use lockstep_shared::plan::{Pipeline, Sink};
use lockstep_shared::semantics::made;
use lockstep_shared::value::Value;
use serde_json::Value as Json;

use super::inject::evaluate;
use crate::simulation::index::Index;

/// A document after a step, by the definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its values.
    pub values: Vec<Value>,
    /// The row of each input.
    pub rows: Vec<Option<IdentifiedRow>>,
}

/// From a step on; `None` where there is no document any more.
pub type Turn = (Step, Option<Known>);

/// One sink of a pipeline, with its history and its index.
pub struct World<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The sink.
    pub sink: &'a Sink,
    /// The whole history.
    pub records: &'a [HistoryRecord],
    /// The last step.
    pub last: Step,
    /// Every document that ever was: the steps in which its content changed, ascending.
    pub turns: BTreeMap<String, Vec<Turn>>,
    /// The index.
    pub index: Index,
    steps: BTreeMap<(TableId, Place), Step>,
}

impl<'a> World<'a> {
    /// Runs the history by the definition and writes each change at its step's version.
    #[must_use]
    pub fn new(pipeline: &'a Pipeline, sink: &'a Sink, records: &'a [HistoryRecord]) -> Self {
        let mut turns: BTreeMap<String, Vec<Turn>> = BTreeMap::new();
        for of_step in records.chunk_by(|a, b| a.step == b.step) {
            let step = of_step[0].step;
            let contents = contents(&pipeline.tables, records, step);
            let mut now: BTreeMap<String, Known> = made(pipeline, sink, &contents)
                .into_iter()
                .map(|m| {
                    (m.id.to_string(), Known { rows: m.rows.iter().map(|r| r.cloned()).collect(), values: m.values })
                })
                .collect();
            for (id, of_id) in &mut turns {
                let known = now.remove(id);
                let values = |known: &Option<Known>| known.as_ref().map(|k| k.values.clone());
                match of_id.last_mut() {
                    // The same content of other rows: the rows are those of now.
                    Some((_, last)) if values(last) == values(&known) => *last = known,
                    _ => of_id.push((step, known)),
                }
            }
            turns.extend(now.into_iter().map(|(id, known)| (id, vec![(step, Some(known))])));
        }
        let steps = records.iter().map(|r| ((r.table, r.place), r.step)).collect();
        let last = records.last().map_or(Step(0), |r| r.step);
        let mut world = Self { pipeline, sink, records, last, turns, index: Index::default(), steps };
        let writes: Vec<Operation> =
            world.turns.iter().flat_map(|(id, of_id)| of_id.iter().map(|turn| world.operation(id, turn))).collect();
        world.index.write(&writes);
        world
    }

    /// What the stream wrote for a turn.
    #[must_use]
    pub fn operation(&self, id: &str, (step, known): &Turn) -> Operation {
        let action = known.as_ref().map_or(Action::Delete, |known| Action::Index(self.json(&known.values)));
        Operation { id: DocumentId(id.into()), version: step.version(), action }
    }

    /// A document as bytes.
    #[must_use]
    pub fn json(&self, values: &[Value]) -> Vec<u8> {
        let mut json = Vec::new();
        write_json(&self.sink.columns, values, &mut json);
        json
    }

    /// What should be in the index.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<DocumentId, Vec<Value>> {
        let standing = |(id, of_id): (&String, &Vec<Turn>)| {
            Some((DocumentId(id.as_str().into()), of_id.last()?.1.as_ref()?.values.clone()))
        };
        self.turns.iter().filter_map(standing).collect()
    }

    /// The records of a document's rows, each once.
    #[must_use]
    pub fn records_of(&self, known: &Known) -> Vec<RecordAt> {
        let at = |(input, row): (usize, &Option<IdentifiedRow>)| {
            let (table, place) = (self.sink.query.inputs[input].table, row.as_ref()?.place);
            Some(RecordAt { table, place, step: self.steps[&(table, place)] })
        };
        let mut records: Vec<RecordAt> = known.rows.iter().enumerate().filter_map(at).collect();
        records.sort_unstable();
        records.dedup();
        records
    }

    /// The rows of each table after the last step.
    #[must_use]
    pub fn contents(&self) -> Vec<Vec<IdentifiedRow>> {
        contents(&self.pipeline.tables, self.records, self.last)
    }

    /// The record at a place.
    #[must_use]
    pub fn record(&self, table: TableId, place: Place) -> RecordAt {
        RecordAt { table, place, step: self.steps[&(table, place)] }
    }

    /// What makes a row of an input one.
    #[must_use]
    pub fn row_name(&self, input: usize, row: &IdentifiedRow) -> (Option<Place>, Vec<Value>) {
        let table = &self.pipeline.tables[self.sink.query.inputs[input].table.0];
        if table.is_keyed() { (None, key_of(table, &row.row)) } else { (Some(row.place), Vec::new()) }
    }

    /// Whether the records are exactly those of a document that is there and has this content.
    #[must_use]
    pub fn are_of_a_document(&self, records: &[RecordAt], source: &Json) -> bool {
        let standing = self.turns.values().filter_map(|turns| turns.last()?.1.as_ref());
        let mut same = standing.filter(|known| differences(&self.sink.columns, &known.values, source).is_empty());
        same.any(|known| self.records_of(known) == records)
    }

    /// Whether the document would have this content with the record's row in place of one of its own.
    #[must_use]
    pub fn makes(&self, id: &str, record: RecordAt, source: &Json) -> bool {
        let Some((_, Some(known))) = self.turns.get(id).and_then(|turns| turns.last()) else { return false };
        let found = self.records.iter().find(|r| r.table == record.table && r.place == record.place);
        let Some(Content::Row(row)) = found.map(|r| &r.content) else { return false };
        let inputs = self.sink.query.inputs.iter().enumerate().filter(|(_, input)| input.table == record.table);
        inputs.into_iter().any(|(number, _)| {
            let mut rows = known.rows.clone();
            rows[number] = Some(IdentifiedRow { place: record.place, row: row.clone() });
            let values: Vec<Value> = self.sink.query.projection.iter().map(|e| evaluate(e, &rows)).collect();
            differences(&self.sink.columns, &values, source).is_empty()
        })
    }
}
