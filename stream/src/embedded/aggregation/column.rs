//! The values of one field in one segment, as aggregations read them.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tantivy::columnar::{Column as Numbers, DynamicColumn, NumericalType, StrColumn};
use tantivy::{DocId, TERMINATED};

use super::super::mapping::{Mapping, SEQ_NO};
use super::super::part::Segment;
use super::super::value::Kind;

/// A value that documents are put into buckets by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Whole(i64),
    /// By Tantivy's order-keeping number of it.
    Float(u64),
    Text(Arc<str>),
}

/// A field's column.
pub(super) enum Column {
    Nowhere,
    Whole(Numbers<i64>),
    Float(Numbers<f64>),
    Text {
        column: StrColumn,
        /// The terms of the documents at hand, by their ordinals.
        terms: FxHashMap<u64, Arc<str>>,
    },
}

impl Column {
    pub(super) fn open(name: &str, mapping: &Mapping, segment: &Segment<'_>) -> tantivy::Result<Self> {
        let columns = segment.reader.fast_fields();
        if name == SEQ_NO {
            let numbers = columns.dynamic_column_handles(SEQ_NO)?.first().map(|handle| handle.open()).transpose()?;
            let whole = numbers.and_then(|numbers| numbers.coerce_numerical(NumericalType::I64));
            return Ok(if let Some(DynamicColumn::I64(whole)) = whole { Self::Whole(whole) } else { Self::Nowhere });
        }
        let Some(mapped) = mapping.field(name) else { return Ok(Self::Nowhere) };
        Ok(match mapped.kind {
            Kind::Text => None,
            Kind::Keyword => {
                columns.str(&mapped.column)?.map(|column| Self::Text { column, terms: FxHashMap::default() })
            }
            Kind::Float | Kind::Double => columns.column_opt(&mapped.column)?.map(Self::Float),
            _ => columns.column_opt(&mapped.column)?.map(Self::Whole),
        }
        .unwrap_or(Self::Nowhere))
    }

    /// Looks up the terms of the documents that are worked on next, and forgets those of others.
    pub(super) fn load_texts(&mut self, docs: &[DocId]) -> tantivy::Result<()> {
        let Self::Text { column, terms } = self else { return Ok(()) };
        let mut ordinals: Vec<u64> = docs.iter().flat_map(|doc| column.term_ords(*doc)).collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        terms.clear();
        let mut wanted = ordinals.iter();
        column.dictionary().sorted_ords_to_term_cb(&ordinals, |term| {
            if let Some(ordinal) = wanted.next() {
                terms.insert(*ordinal, String::from_utf8_lossy(term).into());
            }
        })?;
        Ok(())
    }

    pub(super) fn has(&self, doc: DocId) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Whole(column) => column.first(doc).is_some(),
            Self::Float(column) => column.first(doc).is_some(),
            Self::Text { column, .. } => column.ords().first(doc).is_some(),
        }
    }

    /// The number of values of documents.
    pub(super) fn count(&self, docs: &[DocId]) -> u64 {
        let values = |doc: &DocId| match self {
            Self::Nowhere => 0,
            Self::Whole(column) => column.values_for_doc(*doc).count(),
            Self::Float(column) => column.values_for_doc(*doc).count(),
            Self::Text { column, .. } => column.term_ords(*doc).count(),
        };
        docs.iter().map(|doc| values(doc) as u64).sum()
    }

    /// Gives each number of each document to `each`.
    pub(super) fn each_number(&self, docs: &[DocId], mut each: impl FnMut(DocId, f64)) {
        match self {
            Self::Whole(column) => {
                docs.iter().for_each(|doc| column.values_for_doc(*doc).for_each(|value| each(*doc, value as f64)));
            }
            Self::Float(column) => {
                docs.iter().for_each(|doc| column.values_for_doc(*doc).for_each(|value| each(*doc, value)));
            }
            Self::Nowhere | Self::Text { .. } => {}
        }
    }

    /// Gives each number of each member of a group to `each`.
    pub(super) fn each_number_of(&self, members: &[(u32, DocId)], mut each: impl FnMut(u32, f64)) {
        match self {
            Self::Whole(column) => members.iter().for_each(|(group, doc)| {
                column.values_for_doc(*doc).for_each(|value| each(*group, value as f64));
            }),
            Self::Float(column) => members.iter().for_each(|(group, doc)| {
                column.values_for_doc(*doc).for_each(|value| each(*group, value));
            }),
            Self::Nowhere | Self::Text { .. } => {}
        }
    }

    /// Documents by their values.
    pub(super) fn by_value(&self, docs: &[DocId]) -> Grouped {
        match self {
            Self::Nowhere => Grouped::default(),
            Self::Whole(column) => {
                groups(docs, |doc, push| column.values_for_doc(doc).for_each(push), |value| Some(Key::Whole(value)))
            }
            Self::Float(column) => groups(
                docs,
                |doc, push| column.values_for_doc(doc).map(tantivy::f64_to_u64).for_each(push),
                |value| Some(Key::Float(value)),
            ),
            Self::Text { column, terms } => groups(
                docs,
                |doc, push| column.term_ords(doc).for_each(push),
                |ordinal| terms.get(&ordinal).cloned().map(Key::Text),
            ),
        }
    }

    /// Documents by what a function makes of their whole numbers.
    pub(super) fn by_whole(&self, docs: &[DocId], piece: impl Fn(i64) -> Option<i64>) -> Grouped {
        let Self::Whole(column) = self else { return Grouped::default() };
        let pieces = |doc, push: &mut dyn FnMut(i64)| column.values_for_doc(doc).filter_map(&piece).for_each(push);
        groups(docs, pieces, |v| Some(Key::Whole(v)))
    }

    /// Documents by the piece of the number line that a number of theirs is in: `piece` counts pieces, which are whole numbers
    /// and grow with the number, and `key` says where one begins.
    pub(super) fn by_piece(&self, docs: &[DocId], piece: impl Fn(f64) -> f64, key: impl Fn(f64) -> f64) -> Grouped {
        match self {
            Self::Whole(column) => {
                let bounds = (column.min_value() as f64, column.max_value() as f64);
                let values = |doc, push: &mut dyn FnMut(f64)| {
                    column.values_for_doc(doc).for_each(|value| push(piece(value as f64)));
                };
                pieces(docs, (piece(bounds.0), piece(bounds.1)), values, key)
            }
            Self::Float(column) => {
                let bounds = (piece(column.min_value()), piece(column.max_value()));
                let values = |doc, push: &mut dyn FnMut(f64)| {
                    column.values_for_doc(doc).for_each(|value| push(piece(value)));
                };
                pieces(docs, bounds, values, key)
            }
            Self::Nowhere | Self::Text { .. } => Grouped::default(),
        }
    }

    /// Gives a number for each value of each document to `each`: equal for equal values, and for no others.
    pub(super) fn each_identity(&self, docs: &[DocId], hash: impl Fn(&str) -> u128, mut each: impl FnMut(u128)) {
        match self {
            Self::Nowhere => {}
            Self::Whole(column) => {
                docs.iter()
                    .flat_map(|doc| column.values_for_doc(*doc))
                    .for_each(|v| each(tantivy::i64_to_u64(v).into()));
            }
            Self::Float(column) => {
                docs.iter()
                    .flat_map(|doc| column.values_for_doc(*doc))
                    .for_each(|v| each(tantivy::f64_to_u64(v).into()));
            }
            Self::Text { column, terms } => {
                let mut seen = rustc_hash::FxHashSet::default();
                let ordinals = docs.iter().flat_map(|doc| column.term_ords(*doc));
                for term in ordinals.filter(|ordinal| seen.insert(*ordinal)).filter_map(|ordinal| terms.get(&ordinal)) {
                    each(hash(term));
                }
            }
        }
    }
}

/// Documents in groups.
#[derive(Default)]
pub(super) struct Grouped {
    /// Each group's key and how many documents it has. Some have no key, and count for nothing.
    pub(super) groups: Vec<(Option<Key>, usize)>,
    /// The group of each document, in the order of documents; one with two values has two.
    pub(super) members: Vec<(u32, DocId)>,
}

impl Grouped {
    /// The documents of each group side by side, in the order of groups. They are counted already: with thousands of groups
    /// a growing list for each would be more work than the documents are.
    pub(super) fn side_by_side(&self) -> Vec<DocId> {
        let (mut next, mut begin) = (Vec::with_capacity(self.groups.len()), 0);
        for (_, count) in &self.groups {
            next.push(begin);
            begin += count;
        }
        let mut docs = vec![0; self.members.len()];
        for (number, doc) in &self.members {
            let place = &mut next[*number as usize];
            docs[*place] = *doc;
            *place += 1;
        }
        docs
    }

    /// Adds a group.
    pub(super) fn push(&mut self, key: Key, docs: &[DocId]) {
        let number = group_number(self.groups.len());
        self.members.extend(docs.iter().map(|doc| (number, *doc)));
        self.groups.push((Some(key), docs.len()));
    }
}

fn group_number(groups: usize) -> u32 {
    u32::try_from(groups).unwrap_or_else(|_| unreachable!("a block has fewer values"))
}

/// A group while its documents are counted.
struct Counted<T> {
    value: T,
    count: usize,
    last: DocId,
}

/// Documents for each piece of the number line, at least, where each piece has a place, used or not.
const DOCUMENTS_OF_PIECE: f64 = 4.0;

/// Documents by pieces of the number line, of which these are the first and the last.
fn pieces(
    docs: &[DocId],
    (first, last): (f64, f64),
    values: impl Fn(DocId, &mut dyn FnMut(f64)),
    key: impl Fn(f64) -> f64,
) -> Grouped {
    let key = |piece: f64| Some(Key::Float(tantivy::f64_to_u64(key(piece) + 0.0)));
    if last - first >= docs.len() as f64 / DOCUMENTS_OF_PIECE {
        let bits = |doc, push: &mut dyn FnMut(u64)| values(doc, &mut |piece| push(tantivy::f64_to_u64(piece + 0.0)));
        return groups(docs, bits, |bits| key(tantivy::u64_to_f64(bits)));
    }
    // Few beside the documents: each has a group, with documents or without.
    let mut counted: Vec<(u32, DocId)> = vec![(0, TERMINATED); (last - first) as usize + 1];
    let mut members = Vec::with_capacity(docs.len());
    for doc in docs.iter().copied() {
        values(doc, &mut |piece| {
            let number = (piece - first) as usize;
            let (count, last) = &mut counted[number];
            if *last != doc {
                (*count, *last) = (*count + 1, doc);
                members.push((group_number(number), doc));
            }
        });
    }
    let groups = counted.iter().enumerate().map(|(number, (count, _))| match count {
        0 => (None, 0),
        count => (key(first + number as f64), *count as usize),
    });
    Grouped { groups: groups.collect(), members }
}

/// Documents by a number; a document with the same number twice is there once.
fn groups<T: std::hash::Hash + Eq + Copy>(
    docs: &[DocId],
    values: impl Fn(DocId, &mut dyn FnMut(T)),
    key: impl Fn(T) -> Option<Key>,
) -> Grouped {
    let mut numbers: FxHashMap<T, u32> = FxHashMap::default();
    let mut counted: Vec<Counted<T>> = Vec::new();
    let mut members: Vec<(u32, DocId)> = Vec::with_capacity(docs.len());
    for doc in docs.iter().copied() {
        values(doc, &mut |value| {
            let number = *numbers.entry(value).or_insert_with(|| {
                counted.push(Counted { value, count: 0, last: TERMINATED });
                group_number(counted.len() - 1)
            });
            let group = &mut counted[number as usize];
            if group.last != doc {
                (group.count, group.last) = (group.count + 1, doc);
                members.push((number, doc));
            }
        });
    }
    Grouped { groups: counted.iter().map(|group| (key(group.value), group.count)).collect(), members }
}
