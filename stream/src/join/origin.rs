//! The rows that a document is made of, found from its id: what a person asks who wonders where a document comes from.
//!
//! An id names rows by their keys or places. The first one that it names leads back through the join to the roots that may
//! have given the document; those are expanded until it is there. Reads only.

use std::collections::BTreeSet;

use lockstep_shared::coordinates::TableId;
use lockstep_shared::identity::IdentifiedRow;
use lockstep_shared::names::{Names, RowName, names};
use lockstep_shared::plan::{ColumnRef, Sink, Table};
use lockstep_shared::value::Value;

use super::Join;
use super::table::Slot;

/// Most roots that are looked through for one document; a row that more of them meet leads nowhere.
const ROOTS_LOOKED_AT: usize = 10_000;

/// One input of a document.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name it goes by in the query.
    pub alias: String,
    /// Its table.
    pub table: TableId,
    /// The row with its place; `None` where the document has NULLs of this input. Columns that no sink reads are NULL.
    pub row: Option<IdentifiedRow>,
}

impl Join {
    /// The rows behind a document, one an input; `None` where the join gives no such document now.
    #[must_use]
    pub fn origins(&self, sink: usize, id: &str) -> Option<Vec<Origin>> {
        let inputs = &self.pipeline.sinks[sink].query.inputs;
        let mut found = None;
        for root in self.roots_of_id(sink, id).into_iter().take(ROOTS_LOOKED_AT) {
            self.expand_rows(sink, root, &mut |document, _, joined| {
                if *document.0 == *id {
                    let rows = joined.iter().map(|row| row.cloned());
                    let origin = |(input, row): (&lockstep_shared::plan::Input, _)| Origin {
                        alias: input.alias.clone(),
                        table: input.table,
                        row,
                    };
                    found = Some(inputs.iter().zip(rows).map(origin).collect());
                }
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// The rows of the leftmost input that may have given a document of this id.
    fn roots_of_id(&self, sink: usize, id: &str) -> BTreeSet<Slot> {
        let definition = &self.pipeline.sinks[sink];
        let named = names(&self.pipeline, definition, id).and_then(|names| self.named(definition, &names));
        let Some((input, slot)) = named else { return BTreeSet::new() };
        if input == 0 {
            return BTreeSet::from([slot]);
        }
        let mut roots = BTreeSet::new();
        if let Some(row) = self.tables[definition.query.inputs[input].table.0].get(slot) {
            self.walk_back(sink, input, row, &mut roots);
        }
        roots
    }

    /// The first row that the id names whole: by its place, or by its table's key.
    fn named(&self, sink: &Sink, names: &Names) -> Option<(usize, Slot)> {
        (0..sink.query.inputs.len()).find_map(|input| {
            let table = sink.query.inputs[input].table;
            if let Some(RowName::Place(place)) = &names.rows[input] {
                return Some((input, self.tables[table.0].slot_at(*place)?));
            }
            let columns = names.columns.iter().filter(|(column, _)| column.input == input);
            let row = key_row(&self.pipeline.tables[table.0], columns)?;
            Some((input, self.tables[table.0].slot_of_key(&row)?))
        })
    }
}

/// A row with the table's whole key; `None` where a column of it is not given.
fn key_row<'a>(table: &Table, given: impl Iterator<Item = &'a (ColumnRef, Value)>) -> Option<Vec<Value>> {
    let mut row = vec![Value::Null; table.columns.len()];
    given.for_each(|(from, value)| row[from.column] = value.clone());
    (table.is_keyed() && table.key.iter().all(|column| !row[*column].is_null())).then_some(row)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockstep_shared::coordinates::{Offset, Partition, Place, Step};
    use lockstep_shared::history::{Content, HistoryRecord};
    use lockstep_shared::sql::{self, Overrides};

    use super::*;

    const PROGRAM: &str = "
        CREATE TABLE users (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'filesystem', 'path' = 'u', 'key.format' = 'raw');
        CREATE TABLE views (user_id STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'v');
        CREATE TABLE sales (n BIGINT, user_id STRING, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'filesystem', 'path' = 's', 'key.format' = 'raw');
        CREATE TABLE by_place (user_id STRING, name STRING, n BIGINT) WITH ('connector' = 'blackhole');
        CREATE TABLE by_key (id STRING, n BIGINT, name STRING, PRIMARY KEY (id, n) NOT ENFORCED) WITH ('connector' = 'blackhole');
        CREATE TABLE people (id STRING, name STRING) WITH ('connector' = 'blackhole');
        EXECUTE STATEMENT SET BEGIN
        INSERT INTO by_place SELECT v.user_id, u.name, s.n FROM views v LEFT JOIN users u ON v.user_id = u.id LEFT JOIN sales s ON v.user_id = s.user_id;
        INSERT INTO by_key SELECT u.id, s.n, u.name FROM users u INNER JOIN sales s ON u.id = s.user_id;
        INSERT INTO people SELECT id, name FROM users;
        END;";

    fn joined() -> Join {
        let pipeline = sql::compile(PROGRAM, &Overrides::default(), &|_| None).unwrap_or_else(|e| panic!("{e:?}"));
        let table = |name: &str| TableId(pipeline.tables.iter().position(|t| t.name == name).unwrap());
        let text = Value::string;
        let rows = [
            ("users", vec![text("a|,_\\"), text("Ann")]),
            ("users", vec![text("~b"), text("Bob")]),
            ("views", vec![text("a|,_\\"), Value::Integer(1)]),
            ("views", vec![text("~b"), Value::Integer(2)]),
            ("views", vec![text("nobody"), Value::Integer(3)]),
            ("sales", vec![Value::Integer(7), text("a|,_\\")]),
            ("sales", vec![Value::Integer(8), text("a|,_\\")]),
            ("sales", vec![Value::Integer(9), text("~b")]),
        ];
        let records: Vec<HistoryRecord> = (0..)
            .zip(rows)
            .map(|(offset, (name, row))| HistoryRecord {
                step: Step(1),
                table: table(name),
                place: Place { partition: Partition(0), offset: Offset(offset) },
                content: Content::Row(row.into()),
            })
            .collect();
        let mut join = Join::new(Arc::new(pipeline));
        join.load(&records);
        join
    }

    #[test]
    fn every_document_leads_back_to_the_rows_that_give_it() {
        let join = joined();
        let mut documents = 0;
        for sink in 0..3 {
            let definition = &join.pipeline.sinks[sink];
            for (id, values) in join.documents(sink) {
                let origins = join.origins(sink, &id.0).unwrap_or_else(|| panic!("nothing is behind {id}"));
                let rows: Vec<Option<&IdentifiedRow>> = origins.iter().map(|origin| origin.row.as_ref()).collect();
                let again: Vec<Value> = definition
                    .query
                    .projection
                    .iter()
                    .map(|e| e.evaluate(&|c| super::super::column(&rows, c)))
                    .collect();
                assert_eq!(again, values, "{id}");
                documents += 1;
            }
        }
        assert_eq!(documents, 4 + 3 + 2);
        assert_eq!(join.origins(0, "0-2|7").unwrap()[0].row.as_ref().unwrap().place.offset, Offset(2));
        for (sink, id) in [(0, "0-99|~"), (0, "nonsense"), (0, ""), (1, "x_7"), (1, ""), (2, "c"), (2, "~")] {
            assert!(join.origins(sink, id).is_none(), "{id}");
        }
    }
}
