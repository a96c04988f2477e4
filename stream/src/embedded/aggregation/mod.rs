//! Aggregations over Tantivy's columns, with Elasticsearch's results: [`request`] reads them, [`collect`] goes through the
//! documents of a segment, [`answer`] writes what was found.
//!
//! Tantivy's own collectors are not used: `cardinality` is an estimate there, `filters`, `missing` and calendar intervals are
//! not there or not from here, and a tree must be computed by one mechanism. So counts are exact, `cardinality` too (but for
//! a collision of 128-bit hashes), and sums carry a compensation, as Elasticsearch's do: a sum of prices is right to the
//! cent. There are no pipeline aggregations.

mod request;
mod column;
mod collect;
mod answer;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json};
use tantivy::DocId;
use tantivy::query::Weight;

use self::collect::{Budget, State, View};
use self::request::{Aggregation, Shared};
use super::answer::Refusal;
use super::part::{Part, Segment};
use super::query::Reader;

/// Documents that are worked on at a time: many for each of thousands of buckets, in some megabytes.
const BLOCK: usize = 1024 * 1024;

/// Aggregations under way.
pub(super) struct Aggregations {
    tree: Vec<Aggregation>,
    shared: Shared,
    states: Vec<State>,
    budget: Budget,
}

/// The queries of `filter` and `filters`, for one part.
pub(super) type Filters = Vec<Box<dyn Weight>>;

/// The aggregations of one segment under way.
pub(super) struct OfSegment<'a> {
    all: &'a mut Aggregations,
    view: View,
    block: Vec<DocId>,
}

impl Aggregations {
    /// Reads the `aggs` of a body.
    pub(super) fn new(given: &Json, parts: &[Part]) -> Result<Self, Refusal> {
        let mut shared = Shared::new(parts);
        let tree = request::read(given, &mut shared, 0)?;
        let states = tree.iter().map(State::new).collect();
        Ok(Self { tree, shared, states, budget: Budget::default() })
    }

    /// Makes their queries ready for a part.
    pub(super) fn filters(&self, part: &Part, reader: &Reader<'_>) -> Result<Filters, Refusal> {
        let weight = |query: &Json| Ok(part.weight(&*reader.query(query)?)?);
        self.shared.queries.iter().map(weight).collect()
    }

    /// Begins a segment.
    pub(super) fn segment(
        &mut self,
        part: &Part,
        segment: &Segment<'_>,
        filters: &Filters,
    ) -> Result<OfSegment<'_>, Refusal> {
        let view = View::new(&self.shared, &part.engine.mapping, segment, filters)?;
        Ok(OfSegment { all: self, view, block: Vec::new() })
    }

    /// The `aggregations` of the answer.
    pub(super) fn answer(self) -> Result<Map<String, Json>, Refusal> {
        answer::answers(&self.tree, &self.states, &self.shared)
    }
}

impl OfSegment<'_> {
    /// Takes documents, in order.
    pub(super) fn take(&mut self, docs: &[DocId]) -> Result<(), Refusal> {
        self.block.extend_from_slice(docs);
        if self.block.len() >= BLOCK { self.finish() } else { Ok(()) }
    }

    /// Works on what was taken.
    pub(super) fn finish(&mut self) -> Result<(), Refusal> {
        self.view.load_texts(&self.block)?;
        let Aggregations { tree, states, budget, .. } = &mut *self.all;
        collect::collect(tree, states, &self.view, &self.block, budget)?;
        self.block.clear();
        Ok(())
    }
}
