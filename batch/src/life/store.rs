//! Records in memory, found by place or by the values of columns; and what it lacks, as a question to whoever has it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_shared::coordinates::{Offset, Partition, Place, TableId};
use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::value::Value;
use rustc_hash::{FxHashMap, FxHashSet};

/// How records are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// By partition and offset.
    Place,
    /// By the values of these columns.
    Columns(Vec<usize>),
}

/// A question: every record of a table that has one of the tuples. Deletes have their key columns only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The table.
    pub table: TableId,
    /// What is compared.
    pub by: By,
    /// With what: as many values as there are columns; partition and offset for a place.
    pub tuples: BTreeSet<Vec<Value>>,
}

/// A place as the values that a question has.
#[must_use]
pub fn tuple_of(place: Place) -> Vec<Value> {
    vec![Value::Integer(place.partition.0.into()), Value::Integer(place.offset.0)]
}

/// The place that a question's tuple stands for; `None` for values that are none.
#[must_use]
pub fn place_of(tuple: &[Value]) -> Option<Place> {
    let [Value::Integer(partition), Value::Integer(offset)] = tuple else { return None };
    Some(Place { partition: Partition(i32::try_from(*partition).ok()?), offset: Offset(*offset) })
}

/// The records known so far.
#[derive(Debug, Default)]
pub struct Store {
    tables: Vec<TableRecords>,
    /// Nothing is lacking: all there are were given.
    complete: bool,
}

#[derive(Debug, Default)]
struct TableRecords {
    records: Vec<HistoryRecord>,
    places: FxHashSet<Place>,
    indexes: BTreeMap<By, FxHashMap<Vec<Value>, Vec<usize>>>,
    asked: BTreeMap<By, FxHashSet<Vec<Value>>>,
}

impl Store {
    /// Nothing is known of these tables.
    #[must_use]
    pub fn new(pipeline: &Pipeline) -> Self {
        let tables = pipeline.tables.iter().map(|_| TableRecords::default()).collect();
        Self { tables, complete: false }
    }

    /// All records there are.
    #[must_use]
    pub fn complete(pipeline: &Pipeline, records: &[HistoryRecord]) -> Self {
        let mut store = Self { complete: true, ..Self::new(pipeline) };
        for record in records {
            store.tables[record.table.0].add(record.clone());
        }
        store
    }

    /// What is not known yet of what is asked, as few questions as there are kinds.
    fn lacking<'a>(&self, asks: impl Iterator<Item = &'a Ask>) -> Vec<Ask> {
        let mut lacking: BTreeMap<(TableId, By), BTreeSet<Vec<Value>>> = BTreeMap::new();
        for ask in asks.filter(|_| !self.complete) {
            let asked = self.tables[ask.table.0].asked.get(&ask.by);
            let new = ask.tuples.iter().filter(|tuple| asked.is_none_or(|asked| !asked.contains(*tuple)));
            lacking.entry((ask.table, ask.by.clone())).or_default().extend(new.cloned());
        }
        lacking.retain(|_, tuples| !tuples.is_empty());
        lacking.into_iter().map(|((table, by), tuples)| Ask { table, by, tuples }).collect()
    }

    /// Takes the answer to a question.
    fn add(&mut self, ask: &Ask, records: Vec<HistoryRecord>) {
        let table = &mut self.tables[ask.table.0];
        records.into_iter().for_each(|record| table.add(record));
        table.asked.entry(ask.by.clone()).or_default().extend(ask.tuples.iter().cloned());
    }

    /// Asks for what it lacks of the questions.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn ask<'a, E>(
        &mut self,
        asks: impl Iterator<Item = &'a Ask>,
        fetch: &mut dyn FnMut(&Ask) -> Result<Vec<HistoryRecord>, E>,
    ) -> Result<(), E> {
        for ask in self.lacking(asks) {
            let records = fetch(&ask)?;
            self.add(&ask, records);
        }
        Ok(())
    }

    /// The records that a question is for, as far as they are known.
    pub fn answer(&mut self, ask: &Ask) -> Vec<HistoryRecord> {
        self.find(ask).into_iter().map(|number| self.record(ask.table, number).clone()).collect()
    }

    /// The numbers of the records that a question is for.
    pub(super) fn find(&mut self, ask: &Ask) -> BTreeSet<usize> {
        let index = self.tables[ask.table.0].index(&ask.by);
        ask.tuples.iter().filter_map(|tuple| index.get(tuple)).flatten().copied().collect()
    }

    /// A record.
    pub(super) fn record(&self, table: TableId, number: usize) -> &HistoryRecord {
        &self.tables[table.0].records[number]
    }
}

impl TableRecords {
    fn add(&mut self, record: HistoryRecord) {
        if !self.places.insert(record.place) {
            return;
        }
        let number = self.records.len();
        for (by, index) in &mut self.indexes {
            if let Some(tuple) = tuple(by, &record) {
                index.entry(tuple).or_default().push(number);
            }
        }
        self.records.push(record);
    }

    fn index(&mut self, by: &By) -> &FxHashMap<Vec<Value>, Vec<usize>> {
        let Self { records, indexes, .. } = self;
        indexes.entry(by.clone()).or_insert_with(|| {
            let mut index: FxHashMap<Vec<Value>, Vec<usize>> = FxHashMap::default();
            for (number, record) in records.iter().enumerate() {
                if let Some(tuple) = tuple(by, record) {
                    index.entry(tuple).or_default().push(number);
                }
            }
            index
        })
    }
}

/// The values by which a record is found; `None` for what is no row.
fn tuple(by: &By, record: &HistoryRecord) -> Option<Vec<Value>> {
    let (Content::Row(row) | Content::Delete(row)) = &record.content else { return None };
    Some(match by {
        By::Place => tuple_of(record.place),
        By::Columns(columns) => columns.iter().map(|column| row[*column].clone()).collect(),
    })
}
