//! The delta join: which documents change when records come.
//!
//! State is the input rows themselves, once a table, and one index per table and join columns; there is no intermediate
//! result. A change of a row is walked back through the join's equalities to the rows of the leftmost input that it may
//! touch, the *roots*; a root's documents are expanded forward through the indexes, once before the step and once after.
//! What differs is the step's net change. Deterministic: no clock, no random, no I/O.

mod origin;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::identity::{DocumentId, IdentifiedRow, document_id};
use lockstep_shared::plan::{ColumnRef, Expression, JoinKind, Pipeline, Sink};
use lockstep_shared::value::Value;

pub use origin::Origin;
use rustc_hash::{FxHashMap, FxHashSet};
use table::{IndexNumber, Slot, TableState};

/// What becomes of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The sink, by its number in the pipeline.
    pub sink: usize,
    /// The document.
    pub id: DocumentId,
    /// Its new fields; `None` where it goes.
    pub document: Option<Vec<Value>>,
}

/// Which documents a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Only those that differ between the step's beginning and its end.
    Changed,
    /// Every one that was touched, even if it ends as it began: the index may hold something else.
    Touched,
}

/// How an input is reached.
struct Step {
    /// The table's index over the join's right columns.
    forward: IndexNumber,
    /// The columns of earlier inputs that are looked up in it.
    probes: Vec<ColumnRef>,
    kind: JoinKind,
    /// An earlier input whose rows are found from a row of this one.
    parent: usize,
    /// The parent table's index over the left columns of the keys that lead to it, and this input's columns for them.
    backward: IndexNumber,
    own: Vec<usize>,
}

/// The join's state.
pub struct Join {
    pipeline: Arc<Pipeline>,
    tables: Vec<TableState>,
    /// By sink and input; `None` for input 0.
    steps: Vec<Vec<Option<Step>>>,
}

/// What the join holds of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Rows.
    pub rows: usize,
    /// About how much memory they and their indexes take.
    pub bytes: usize,
}

/// How many rows of an input one row before it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// Rows of the input's table.
    pub rows: usize,
    /// Different join keys among them.
    pub keys: usize,
}

type Documents = BTreeMap<DocumentId, Vec<Value>>;

/// Takes a document: its id, its fields, and the rows that it is made of.
type Give<'g> = dyn FnMut(DocumentId, Vec<Value>, &[Option<&IdentifiedRow>]) + 'g;

/// What one step has touched in one sink.
#[derive(Default)]
struct Touched {
    roots: FxHashSet<Slot>,
    before: FxHashMap<DocumentId, Vec<Value>>,
}

impl Join {
    /// An empty join.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        let mut tables: Vec<TableState> = pipeline.tables.iter().map(TableState::new).collect();
        let steps = pipeline.sinks.iter().map(|sink| steps_of(sink, &mut tables)).collect();
        for sink in &pipeline.sinks {
            for (input, columns) in sink.query.inputs.iter().zip(sink.query.columns_read()) {
                tables[input.table.0].keep(&columns);
            }
        }
        Self { pipeline, tables, steps }
    }

    /// Rows held.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tables.iter().map(TableState::len).sum()
    }

    /// What is held of each table.
    pub fn held(&self) -> impl Iterator<Item = Held> {
        self.tables.iter().map(|table| Held { rows: table.len(), bytes: table.bytes() })
    }

    /// How far each joined input of a sink multiplies, by input; none for the leftmost.
    #[must_use]
    pub fn fan_out(&self, sink: usize) -> Vec<Option<FanOut>> {
        let inputs = &self.pipeline.sinks[sink].query.inputs;
        let of = |(step, table): (&Option<Step>, &TableState)| {
            step.as_ref().map(|step| FanOut { rows: table.len(), keys: table.keys(step.forward) })
        };
        self.steps[sink].iter().zip(inputs.iter().map(|input| &self.tables[input.table.0])).map(of).collect()
    }

    /// Applies the records of one step, in order, and gives its net changes, ordered by sink and id.
    pub fn apply(&mut self, records: &[HistoryRecord], said: Said) -> Vec<Change> {
        let mut touched: Vec<Touched> = self.pipeline.sinks.iter().map(|_| Touched::default()).collect();
        for record in records {
            let (old, new) = self.effect(record);
            let roots: Vec<BTreeSet<Slot>> =
                (0..touched.len()).map(|sink| self.roots(sink, record, old, new.as_ref())).collect();
            for (sink, roots) in roots.iter().enumerate() {
                for root in roots {
                    if touched[sink].roots.insert(*root) {
                        self.expand(sink, *root, &mut |id, values| drop(touched[sink].before.insert(id, values)));
                    }
                }
            }
            let slot = self.tables[record.table.0].replace(old, new);
            self.touch_inserted(record, slot, &mut touched);
        }
        touched.into_iter().enumerate().flat_map(|(sink, touched)| self.net(sink, touched, said)).collect()
    }

    /// Changes the state as [`Self::apply`] does, in silence.
    pub fn load(&mut self, records: &[HistoryRecord]) {
        for record in records {
            let (old, new) = self.effect(record);
            self.tables[record.table.0].replace(old, new);
        }
    }

    /// Every document of a sink now.
    #[must_use]
    pub fn documents(&self, sink: usize) -> Documents {
        let mut documents = Documents::new();
        let leftmost = &self.tables[self.pipeline.sinks[sink].query.inputs[0].table.0];
        for root in leftmost.slots() {
            self.expand(sink, root, &mut |id, values| drop(documents.insert(id, values)));
        }
        documents
    }

    /// These documents of a sink as they are now; one that is not given is none. Looks at every row.
    #[must_use]
    pub fn find(&self, sink: usize, ids: &BTreeSet<DocumentId>) -> Documents {
        let mut documents = Documents::new();
        let leftmost = &self.tables[self.pipeline.sinks[sink].query.inputs[0].table.0];
        for root in leftmost.slots().filter(|_| !ids.is_empty()) {
            self.expand(sink, root, &mut |id, values| {
                if ids.contains(&id) {
                    documents.insert(id, values);
                }
            });
        }
        documents
    }

    /// The row that goes and the row that comes.
    fn effect(&self, record: &HistoryRecord) -> (Option<Slot>, Option<IdentifiedRow>) {
        let state = &self.tables[record.table.0];
        match &record.content {
            Content::Row(row) => {
                (state.slot_of_key(row), Some(IdentifiedRow { place: record.place, row: state.trimmed(row) }))
            }
            Content::Delete(key) => (state.slot_of_key(key), None),
            Content::Rejected(_) => (None, None),
        }
    }

    /// The roots that a change of a row touches, by the state before it.
    fn roots(
        &self,
        sink: usize,
        record: &HistoryRecord,
        old: Option<Slot>,
        new: Option<&IdentifiedRow>,
    ) -> BTreeSet<Slot> {
        let mut roots = BTreeSet::new();
        let inputs = &self.pipeline.sinks[sink].query.inputs;
        let state = &self.tables[record.table.0];
        for (number, _) in inputs.iter().enumerate().filter(|(_, input)| input.table == record.table) {
            if number == 0 {
                roots.extend(old);
            } else {
                let rows = old.and_then(|slot| state.get(slot)).into_iter().chain(new);
                rows.for_each(|row| self.walk_back(sink, number, row, &mut roots));
            }
        }
        roots
    }

    /// From a row of an input to the rows of input 0 that may be joined with it.
    fn walk_back(&self, sink: usize, number: usize, row: &IdentifiedRow, roots: &mut BTreeSet<Slot>) {
        let Some(step) = &self.steps[sink][number] else { return };
        let table = self.pipeline.sinks[sink].query.inputs[step.parent].table;
        let parents = &self.tables[table.0];
        for (slot, parent) in parents.find(step.backward, step.own.iter().map(|column| &row.row[*column])) {
            if step.parent == 0 {
                roots.insert(slot);
            } else {
                self.walk_back(sink, step.parent, parent, roots);
            }
        }
    }

    /// A new row of input 0 is a root that had no documents before.
    fn touch_inserted(&self, record: &HistoryRecord, slot: Option<Slot>, touched: &mut [Touched]) {
        for (sink, touched) in self.pipeline.sinks.iter().zip(touched) {
            if sink.query.inputs[0].table == record.table {
                touched.roots.extend(slot);
            }
        }
    }

    /// What the touched documents have become, ordered by id.
    fn net(&self, sink: usize, touched: Touched, said: Said) -> Vec<Change> {
        let Touched { roots, mut before } = touched;
        let mut changes = Vec::new();
        for root in &roots {
            self.expand(sink, *root, &mut |id, values| {
                let unchanged = before.remove(&id).is_some_and(|old| old == values);
                if !unchanged || said == Said::Touched {
                    changes.push(Change { sink, id, document: Some(values) });
                }
            });
        }
        changes.extend(before.into_keys().map(|id| Change { sink, id, document: None }));
        changes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        assert!(changes.windows(2).all(|pair| pair[0].id != pair[1].id), "one document comes from one joined row");
        changes
    }

    /// Gives every document of a root.
    fn expand(&self, sink: usize, root: Slot, give: &mut dyn FnMut(DocumentId, Vec<Value>)) {
        self.expand_rows(sink, root, &mut |id, values, _| give(id, values));
    }

    /// Gives every document of a root with the rows that it is made of, one an input.
    fn expand_rows(&self, sink: usize, root: Slot, give: &mut Give<'_>) {
        let query = &self.pipeline.sinks[sink].query;
        let Some(row) = self.tables[query.inputs[0].table.0].get(root) else { return };
        if passes(query.inputs[0].filter.as_ref(), row) {
            let mut joined = Vec::with_capacity(query.inputs.len());
            joined.push(Some(row));
            self.expand_from(sink, &mut joined, give);
        }
    }

    fn expand_from<'a>(&'a self, sink: usize, joined: &mut Vec<Option<&'a IdentifiedRow>>, give: &mut Give<'_>) {
        let number = joined.len();
        let definition = &self.pipeline.sinks[sink];
        let Some(Some(step)) = self.steps[sink].get(number) else {
            return self.give(definition, joined, give);
        };
        let input = &definition.query.inputs[number];
        // The values of the rows joined so far, without borrowing the list that grows below.
        let key: Vec<&'a Value> = step.probes.iter().map(|c| column(joined, *c)).collect();
        let mut found = false;
        for (_, partner) in self.tables[input.table.0].find(step.forward, key.iter().copied()) {
            if passes(input.filter.as_ref(), partner) {
                found = true;
                joined.push(Some(partner));
                self.expand_from(sink, joined, give);
                joined.pop();
            }
        }
        if !found && step.kind == JoinKind::Left {
            joined.push(None);
            self.expand_from(sink, joined, give);
            joined.pop();
        }
    }

    fn give(&self, sink: &Sink, joined: &[Option<&IdentifiedRow>], give: &mut Give<'_>) {
        let query = &sink.query;
        if query.filter.as_ref().is_none_or(|filter| filter.holds(&|c| column(joined, c))) {
            let values: Vec<Value> = query.projection.iter().map(|e| e.evaluate(&|c| column(joined, c))).collect();
            give(document_id(&self.pipeline, sink, joined, &values), values, joined);
        }
    }
}

fn column<'a>(joined: &[Option<&'a IdentifiedRow>], c: ColumnRef) -> &'a Value {
    joined[c.input].map_or(&Value::Null, |row| &row.row[c.column])
}

fn passes(filter: Option<&Expression>, row: &IdentifiedRow) -> bool {
    filter.is_none_or(|filter| filter.holds(&|c| &row.row[c.column]))
}

/// How each input of a sink is reached; adds the indexes that this needs.
fn steps_of(sink: &Sink, tables: &mut [TableState]) -> Vec<Option<Step>> {
    let inputs = &sink.query.inputs;
    inputs
        .iter()
        .map(|input| {
            let join = input.join.as_ref()?;
            let right: Vec<usize> = join.on.iter().map(|key| key.right).collect();
            let forward = tables[input.table.0].index(&right);
            let parent = join.on[0].left.input;
            let leading: Vec<_> = join.on.iter().filter(|key| key.left.input == parent).collect();
            let left: Vec<usize> = leading.iter().map(|key| key.left.column).collect();
            Some(Step {
                forward,
                probes: join.on.iter().map(|key| key.left).collect(),
                kind: join.kind,
                parent,
                backward: tables[inputs[parent].table.0].index(&left),
                own: leading.iter().map(|key| key.right).collect(),
            })
        })
        .collect()
}
