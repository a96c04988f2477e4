//! Which records bear on one document: asked for input by input, from what the id says along the joins.
//!
//! What is known of a column is the set of values that it can have in a row that bears on the document, in any version
//! of it. An id gives single values; a row that was found gives all that it ever had; and a join carries what is known of
//! one side to the other: always to the right, and back where the right row is surely there. An input is asked for by
//! place or key where the id names it, else by what its join compares, and of a keyed table then everything that those
//! keys ever were.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::identity::key_of;
use lockstep_shared::names::{Names, RowName};
use lockstep_shared::plan::{ColumnRef, JoinKind, Pipeline, Sink, Table};
use lockstep_shared::value::Value;

use super::store::{Ask, By, Store, tuple_of};
use super::{MOST_RECORDS, Unknown};

/// A question about one input.
#[derive(Debug)]
pub(super) struct Question {
    input: usize,
    pub(super) ask: Ask,
}

/// What is compared, and with what.
type Tuples = (By, BTreeSet<Vec<Value>>);

/// How far an input is.
#[derive(Clone, Debug)]
enum Progress {
    Open,
    /// These keys were met; what else they were is asked for.
    Keys(BTreeSet<Vec<Value>>),
    Done(BTreeSet<usize>),
}

/// The way to the records of one document.
#[derive(Debug)]
pub(super) struct Trace<'a> {
    pipeline: &'a Pipeline,
    sink: &'a Sink,
    names: &'a Names,
    known: BTreeMap<ColumnRef, BTreeSet<Value>>,
    inputs: Vec<Progress>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, sink: &'a Sink, names: &'a Names) -> Self {
        let there = names.columns.iter().filter(|(_, value)| !value.is_null());
        let known = there.map(|(column, value)| (*column, BTreeSet::from([value.clone()]))).collect();
        let mut trace = Self { pipeline, sink, names, known, inputs: vec![Progress::Open; sink.query.inputs.len()] };
        trace.spread();
        trace
    }

    fn table(&self, input: usize) -> &'a Table {
        &self.pipeline.tables[self.sink.query.inputs[input].table.0]
    }

    /// What is to be asked next; `None` where every input is known.
    pub(super) fn question(&self) -> Result<Option<Question>, Unknown> {
        let open = || self.inputs.iter().enumerate().filter(|(_, p)| !matches!(p, Progress::Done(_))).map(|(n, _)| n);
        if open().next().is_none() {
            return Ok(None);
        }
        let ways: [fn(&Self, usize) -> Option<Tuples>; 4] =
            [Self::by_met_keys, Self::by_name, Self::by_join, Self::by_any_column];
        let found = ways.iter().find_map(|way| open().find_map(|input| Some((input, way(self, input)?))));
        let Some((input, (by, tuples))) = found else { return Err(Unknown::Open) };
        let table = self.sink.query.inputs[input].table;
        Ok(Some(Question { input, ask: Ask { table, by, tuples } }))
    }

    fn by_met_keys(&self, input: usize) -> Option<Tuples> {
        let Progress::Keys(keys) = &self.inputs[input] else { return None };
        Some((By::Columns(self.table(input).key.clone()), keys.clone()))
    }

    /// By the place that the id names, or by a whole key.
    fn by_name(&self, input: usize) -> Option<Tuples> {
        if let Some(RowName::Place(place)) = &self.names.rows[input] {
            return Some((By::Place, BTreeSet::from([tuple_of(*place)])));
        }
        let key = &self.table(input).key;
        if key.is_empty() { None } else { self.tuples(input, key.iter().copied()) }
    }

    fn by_join(&self, input: usize) -> Option<Tuples> {
        let join = self.sink.query.inputs[input].join.as_ref()?;
        let columns: BTreeSet<usize> = join.on.iter().map(|pair| pair.right).collect();
        self.tuples(input, columns.iter().copied()).or_else(|| {
            // Too many combinations: one column alone meets all of them, and more.
            let known = columns.iter().filter_map(|c| Some((self.known(input, *c)?.len(), *c)));
            let fewest = known.min()?.1;
            let all_known = columns.iter().all(|c| self.known(input, *c).is_some());
            if all_known { self.tuples(input, [fewest].into_iter()) } else { None }
        })
    }

    fn by_any_column(&self, input: usize) -> Option<Tuples> {
        let columns = 0..self.table(input).columns.len();
        let fewest = columns.filter_map(|c| Some((self.known(input, c)?.len(), c))).min()?.1;
        self.tuples(input, [fewest].into_iter())
    }

    fn known(&self, input: usize, column: usize) -> Option<&BTreeSet<Value>> {
        self.known.get(&ColumnRef { input, column })
    }

    /// Every combination of what is known of the columns; `None` where one is not known, or there are too many.
    fn tuples(&self, input: usize, columns: impl Iterator<Item = usize> + Clone) -> Option<Tuples> {
        let mut tuples = vec![Vec::new()];
        for column in columns.clone() {
            let values = self.known(input, column)?;
            if tuples.len() * values.len() > MOST_RECORDS {
                return None;
            }
            tuples = tuples
                .into_iter()
                .flat_map(|tuple: Vec<Value>| {
                    values.iter().map(move |value| tuple.iter().chain([value]).cloned().collect::<Vec<Value>>())
                })
                .collect();
        }
        Some((By::Columns(columns.collect()), tuples.into_iter().collect()))
    }

    /// Takes what the store has on a question.
    pub(super) fn answered(&mut self, question: &Question, store: &mut Store) {
        let Question { input, ask } = question;
        let (found, table) = (store.find(ask), self.table(*input));
        let by_key = matches!(&ask.by, By::Columns(columns) if *columns == table.key);
        if table.is_keyed() && !by_key {
            let keys = found.iter().filter_map(|number| row_of(store.record(ask.table, *number)));
            self.inputs[*input] = Progress::Keys(keys.map(|row| key_of(table, row)).collect());
            return;
        }
        for number in &found {
            let Some(row) = row_of(store.record(ask.table, *number)) else { continue };
            for (column, value) in row.iter().enumerate().filter(|(_, value)| !value.is_null()) {
                self.note(*input, column, value);
            }
        }
        self.inputs[*input] = Progress::Done(found);
        // A column that was NULL in every version has no value that anything could equal.
        for column in 0..table.columns.len() {
            self.known.entry(ColumnRef { input: *input, column }).or_default();
        }
        self.spread();
    }

    /// What the id says of a column stays: other versions of the row do not bear on the document.
    fn note(&mut self, input: usize, column: usize, value: &Value) {
        let column_ref = ColumnRef { input, column };
        let fixed = self.names.columns.iter().any(|(c, v)| *c == column_ref && !v.is_null());
        if !fixed {
            self.known.entry(column_ref).or_default().insert(value.clone());
        }
    }

    /// Whether every document of the id has a row of this input.
    fn is_there(&self, input: usize) -> bool {
        let join = self.sink.query.inputs[input].join.as_ref();
        matches!(self.names.rows[input], Some(RowName::Place(_) | RowName::Key(_)))
            || self.names.columns.iter().any(|(column, value)| column.input == input && !value.is_null())
            || join.is_some_and(|join| join.kind == JoinKind::Inner)
    }

    /// Carries what is known over the joins until nothing new is.
    fn spread(&mut self) {
        loop {
            let before = self.known.len();
            for (number, input) in self.sink.query.inputs.iter().enumerate() {
                for pair in input.join.iter().flat_map(|join| &join.on) {
                    let right = ColumnRef { input: number, column: pair.right };
                    // A row that may be null-padded says nothing of the ones before it.
                    let back = self.is_there(number).then_some((right, pair.left));
                    for (from, to) in [(pair.left, right)].into_iter().chain(back) {
                        let is_open = matches!(self.inputs[to.input], Progress::Open);
                        if let (Some(values), true) = (self.known.get(&from), is_open && !self.known.contains_key(&to))
                        {
                            let values = values.clone();
                            self.known.insert(to, values);
                        }
                    }
                }
            }
            if self.known.len() == before {
                return;
            }
        }
    }

    /// Every record that was found.
    pub(super) fn records(&self, store: &Store) -> Result<Vec<HistoryRecord>, Unknown> {
        let mut numbers = BTreeSet::new();
        for (input, progress) in self.sink.query.inputs.iter().zip(&self.inputs) {
            if let Progress::Done(found) = progress {
                numbers.extend(found.iter().map(|number| (input.table, *number)));
            }
        }
        if numbers.len() > MOST_RECORDS {
            return Err(Unknown::TooMany);
        }
        Ok(numbers.into_iter().map(|(table, number)| store.record(table, number).clone()).collect())
    }
}

fn row_of(record: &HistoryRecord) -> Option<&[Value]> {
    match &record.content {
        Content::Row(row) | Content::Delete(row) => Some(row),
        Content::Rejected(_) => None,
    }
}
