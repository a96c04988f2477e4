//! Goes through the documents of a segment: documents into buckets, values into numbers.

use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::available_parallelism;

use rustc_hash::{FxHashMap, FxHashSet};
use tantivy::{BitSet, DocId, DocSet, TERMINATED};

use super::super::answer::Refusal;
use super::super::mapping::Mapping;
use super::super::part::Segment;
use super::super::value::{self, Kind as FieldKind, Scalar};
use super::Filters;
use super::column::{Column, Grouped, Key};
use super::request::{Aggregation, Kind, Piece, Shared};

/// Most buckets that may be made for one answer.
const MOST_BUCKETS: usize = 1_000_000;
/// Least documents that have a thread of their own; in tests few have.
const LEAST_OF_THREAD: usize = if cfg!(test) { 16 } else { 32 * 1024 };
/// Most distinct values that are remembered for one answer: half a gigabyte of hashes.
const MOST_DISTINCT: usize = 16_000_000;

/// What is left of the bounds of an answer.
#[derive(Default)]
pub(super) struct Budget {
    buckets: usize,
    distinct: usize,
}

impl Budget {
    fn spend(&mut self, buckets: usize, distinct: usize) -> Result<(), Refusal> {
        self.buckets += buckets;
        self.distinct += distinct;
        if self.buckets > MOST_BUCKETS {
            return Err(too_many_buckets(MOST_BUCKETS));
        }
        if self.distinct > MOST_DISTINCT {
            return Err(Refusal::argument(format!("[cardinality] would remember more than {MOST_DISTINCT} values")));
        }
        Ok(())
    }
}

/// The refusal of an answer of too many buckets.
pub(super) fn too_many_buckets(limit: usize) -> Refusal {
    Refusal::new(
        400,
        "too_many_buckets_exception",
        format!(
            "Trying to create too many buckets. Must be less than or equal to: [{limit}] but this number of buckets was exceeded."
        ),
    )
}

/// What was found so far.
#[derive(Debug)]
pub(super) enum State {
    /// Buckets by the values that come.
    ByKey(FxHashMap<Key, Bucket>),
    /// Buckets that are there from the beginning.
    Fixed(Vec<Bucket>),
    Numbers(Numbers),
    Distinct(FxHashSet<u128>),
}

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) doc_count: u64,
    pub(super) inner: Vec<State>,
}

impl Bucket {
    pub(super) fn new(inner: &[Aggregation]) -> Self {
        Self { doc_count: 0, inner: inner.iter().map(State::new).collect() }
    }
}

impl State {
    pub(super) fn new(aggregation: &Aggregation) -> Self {
        let fixed = |count| Self::Fixed((0..count).map(|_| Bucket::new(&aggregation.inner)).collect());
        match &aggregation.kind {
            Kind::Terms { .. } | Kind::DateHistogram { .. } | Kind::Histogram { .. } => {
                Self::ByKey(FxHashMap::default())
            }
            Kind::Range { ranges, .. } => fixed(ranges.len()),
            Kind::Filters { queries, other, .. } => fixed(queries.len() + usize::from(other.is_some())),
            Kind::Filter { .. } | Kind::Missing { .. } => fixed(1),
            Kind::Metric { .. } => Self::Numbers(Numbers::default()),
            Kind::Cardinality { .. } => Self::Distinct(FxHashSet::default()),
        }
    }
}

/// Count, sum, least and greatest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) count: u64,
    sum: f64,
    /// What rounding has taken from the sum so far (Neumaier's summation).
    lost: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, lost: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Numbers {
    fn add(&mut self, value: f64) {
        self.sum_up(value);
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn merge(&mut self, other: &Self) {
        self.sum_up(other.sum);
        self.lost += other.lost;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn sum_up(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    pub(super) fn sum(&self) -> f64 {
        let sum = self.sum + self.lost;
        if sum.is_finite() { sum } else { self.sum }
    }
}

/// A segment as aggregations see it.
pub(super) struct View {
    columns: Vec<Column>,
    /// The documents that each query matches.
    matching: Vec<BitSet>,
    kinds: Vec<Option<FieldKind>>,
    /// Fields whose terms are wanted.
    texts: FxHashSet<usize>,
}

impl View {
    pub(super) fn new(
        shared: &Shared,
        mapping: &Mapping,
        segment: &Segment<'_>,
        filters: &Filters,
    ) -> Result<Self, Refusal> {
        let columns = shared.fields.iter().map(|(name, _)| Column::open(name, mapping, segment));
        let columns: tantivy::Result<Vec<Column>> = columns.collect();
        let mut matching = Vec::with_capacity(filters.len());
        for filter in filters {
            let mut set = BitSet::with_max_value(segment.reader.max_doc());
            let mut scorer = filter.scorer(segment.reader, 1.0)?;
            while scorer.doc() != TERMINATED {
                set.insert(scorer.doc());
                scorer.advance();
            }
            matching.push(set);
        }
        let kinds = shared.fields.iter().map(|(_, kind)| *kind).collect();
        Ok(Self { columns: columns?, matching, kinds, texts: shared.texts.clone() })
    }

    /// Looks up the terms of the documents that are worked on next.
    pub(super) fn load_texts(&mut self, docs: &[DocId]) -> Result<(), Refusal> {
        for field in &self.texts {
            if let Some(column) = self.columns.get_mut(*field) {
                column.load_texts(docs)?;
            }
        }
        Ok(())
    }

    fn column(&self, field: usize) -> &Column {
        const NOWHERE: &Column = &Column::Nowhere;
        self.columns.get(field).unwrap_or(NOWHERE)
    }

    fn matches(&self, query: usize, doc: DocId) -> bool {
        self.matching.get(query).is_some_and(|set| set.contains(doc))
    }
}

/// Takes documents of a segment, in order.
pub(super) fn collect(
    tree: &[Aggregation],
    states: &mut [State],
    view: &View,
    docs: &[DocId],
    budget: &mut Budget,
) -> Result<(), Refusal> {
    for (aggregation, state) in tree.iter().zip(states) {
        match state {
            State::ByKey(buckets) => by_key(aggregation, buckets, view, docs, budget)?,
            State::Fixed(buckets) => fixed(aggregation, buckets, view, docs, budget)?,
            State::Numbers(numbers) => metric(aggregation, numbers, view, docs),
            State::Distinct(values) => {
                let Kind::Cardinality { field } = aggregation.kind else { continue };
                let before = values.len();
                view.column(field).each_identity(docs, identity, |value| {
                    values.insert(value);
                });
                budget.spend(0, values.len() - before)?;
            }
        }
    }
    Ok(())
}

/// A number of 128 bits for a text.
fn identity(text: &str) -> u128 {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        text.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (hash(0) << 64) | hash(1)
}

fn metric(aggregation: &Aggregation, numbers: &mut Numbers, view: &View, docs: &[DocId]) {
    let Kind::Metric { field, .. } = aggregation.kind else { return };
    match view.column(field) {
        text @ Column::Text { .. } => numbers.count += text.count(docs),
        column => column.each_number(docs, |_, value| numbers.add(value)),
    }
}

fn by_key(
    aggregation: &Aggregation,
    buckets: &mut FxHashMap<Key, Bucket>,
    view: &View,
    docs: &[DocId],
    budget: &mut Budget,
) -> Result<(), Refusal> {
    for (found, inner) in all_grouped(aggregation, view, docs) {
        put(aggregation, buckets, view, found, &inner, budget)?;
    }
    Ok(())
}

/// Puts documents into groups by their values: some after the others, where they are many, since that is most of the work
/// and has all processors.
fn all_grouped(aggregation: &Aggregation, view: &View, docs: &[DocId]) -> Vec<(Grouped, Inner)> {
    let threads = (docs.len() / LEAST_OF_THREAD).min(available_parallelism().map_or(1, NonZero::get));
    if threads < 2 {
        return vec![grouped(aggregation, view, docs)];
    }
    std::thread::scope(|scope| {
        let some = docs.chunks(docs.len().div_ceil(threads));
        let running: Vec<_> = some.map(|docs| scope.spawn(|| grouped(aggregation, view, docs))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Puts documents into groups by their values.
fn grouped(aggregation: &Aggregation, view: &View, docs: &[DocId]) -> (Grouped, Inner) {
    let mut found = match &aggregation.kind {
        Kind::Terms { field, .. } => view.column(*field).by_value(docs),
        Kind::DateHistogram { field, interval, .. } => {
            view.column(*field).by_whole(docs, |value| interval.floor(value))
        }
        Kind::Histogram { field, interval, offset, .. } => {
            let piece = |value: f64| ((value - offset) / interval).floor();
            view.column(*field).by_piece(docs, piece, |piece| piece * interval + offset)
        }
        _ => Grouped::default(),
    };
    if let Kind::Terms { field, missing: Some(missing), .. } = &aggregation.kind
        && let Some(key) = key_of(missing, view.kinds.get(*field).copied().flatten())
    {
        let without: Vec<DocId> = docs.iter().copied().filter(|doc| !view.column(*field).has(*doc)).collect();
        if !without.is_empty() {
            found.push(key, &without);
        }
    }
    let inner = match numbers(&aggregation.inner, view, &found) {
        Some(numbers) => Inner::Numbers(numbers),
        None => Inner::Documents(found.side_by_side()),
    };
    (found, inner)
}

/// Puts groups into buckets.
fn put(
    aggregation: &Aggregation,
    buckets: &mut FxHashMap<Key, Bucket>,
    view: &View,
    found: Grouped,
    inner: &Inner,
    budget: &mut Budget,
) -> Result<(), Refusal> {
    let mut end = 0;
    for (number, (key, count)) in found.groups.into_iter().enumerate() {
        let begin = end;
        end += count;
        let Some(key) = key else { continue };
        let bucket = match buckets.entry(key) {
            Entry::Occupied(bucket) => bucket.into_mut(),
            Entry::Vacant(place) => {
                budget.spend(1, 0)?;
                place.insert(Bucket::new(&aggregation.inner))
            }
        };
        bucket.doc_count += count as u64;
        match inner {
            Inner::Documents(docs) => {
                collect(&aggregation.inner, &mut bucket.inner, view, &docs[begin..end], budget)?;
            }
            Inner::Numbers(numbers) => {
                for (state, of_metric) in bucket.inner.iter_mut().zip(numbers) {
                    if let State::Numbers(sum) = state {
                        sum.merge(&of_metric[number]);
                    }
                }
            }
        }
    }
    Ok(())
}

/// What goes into the buckets of groups.
enum Inner {
    Documents(Vec<DocId>),
    /// For each metric the numbers of each group.
    Numbers(Vec<Vec<Numbers>>),
}

/// The numbers of each group, where nothing but numbers is asked of the groups: then documents are read in their order, and
/// not group by group.
fn numbers(inner: &[Aggregation], view: &View, found: &Grouped) -> Option<Vec<Vec<Numbers>>> {
    let of_metric = |aggregation: &Aggregation| {
        let Kind::Metric { field, .. } = aggregation.kind else { return None };
        let column = view.column(field);
        if let Column::Text { .. } = column {
            return None;
        }
        let mut numbers = vec![Numbers::default(); found.groups.len()];
        column.each_number_of(&found.members, |group, value| numbers[group as usize].add(value));
        Some(numbers)
    };
    inner.iter().map(of_metric).collect()
}

/// A value that stands for none, as a key among the field's values.
fn key_of(missing: &serde_json::Value, kind: Option<FieldKind>) -> Option<Key> {
    let kind = kind.unwrap_or(FieldKind::Keyword);
    match value::scalar(kind, missing).ok()?? {
        Scalar::Text(text) => Some(Key::Text(text.into())),
        Scalar::Whole(number) => Some(Key::Whole(number)),
        Scalar::Float(number) => Some(Key::Float(tantivy::f64_to_u64(number))),
    }
}

fn fixed(
    aggregation: &Aggregation,
    buckets: &mut [Bucket],
    view: &View,
    docs: &[DocId],
    budget: &mut Budget,
) -> Result<(), Refusal> {
    let all: Vec<Vec<DocId>> = match &aggregation.kind {
        Kind::Range { field, ranges, .. } => within(ranges, view.column(*field), docs),
        kind => (0..buckets.len()).map(|number| members(kind, number, view, docs)).collect(),
    };
    for (bucket, kept) in buckets.iter_mut().zip(all) {
        bucket.doc_count += kept.len() as u64;
        if !kept.is_empty() {
            collect(&aggregation.inner, &mut bucket.inner, view, &kept, budget)?;
        }
    }
    Ok(())
}

/// The documents that are in a bucket.
fn members(kind: &Kind, number: usize, view: &View, docs: &[DocId]) -> Vec<DocId> {
    let those = |holds: &dyn Fn(DocId) -> bool| docs.iter().copied().filter(|doc| holds(*doc)).collect();
    match kind {
        Kind::Filter { query } => those(&|doc| view.matches(*query, doc)),
        Kind::Filters { queries, .. } => match queries.get(number) {
            Some((_, query)) => those(&|doc| view.matches(*query, doc)),
            None => those(&|doc| !queries.iter().any(|(_, query)| view.matches(*query, doc))),
        },
        Kind::Missing { field } => those(&|doc| !view.column(*field).has(doc)),
        _ => Vec::new(),
    }
}

/// The documents of each range; a document with two numbers in one range is there once. Of ranges that do not overlap the
/// one is looked for that a number can be in, so that hundreds cost little more than one.
fn within(ranges: &[Piece], column: &Column, docs: &[DocId]) -> Vec<Vec<DocId>> {
    let mut kept: Vec<Vec<DocId>> = vec![Vec::new(); ranges.len()];
    let holds =
        |range: &Piece, value: f64| range.from.is_none_or(|from| value >= from) && range.to.is_none_or(|to| value < to);
    let mut put = |number: usize, doc: DocId| {
        if kept[number].last() != Some(&doc) {
            kept[number].push(doc);
        }
    };
    if are_apart(ranges) {
        column.each_number(docs, |doc, value| {
            let number = ranges.partition_point(|range| range.from.is_none_or(|from| from <= value));
            if let Some(number) = number.checked_sub(1).filter(|number| holds(&ranges[*number], value)) {
                put(number, doc);
            }
        });
    } else {
        column.each_number(docs, |doc, value| {
            (0..ranges.len()).filter(|number| holds(&ranges[*number], value)).for_each(|number| put(number, doc));
        });
    }
    kept
}

/// Whether ranges come in order, and none overlaps the next one.
fn are_apart(ranges: &[Piece]) -> bool {
    let is_one = |range: &Piece| range.from.is_none_or(|from| range.to.is_none_or(|to| from <= to));
    let apart = |pair: &[Piece]| matches!((pair[0].to, pair[1].from), (Some(to), Some(from)) if to <= from);
    ranges.iter().all(is_one) && ranges.windows(2).all(apart)
}
