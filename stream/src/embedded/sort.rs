//! The order of hits: by fields, by place, or as the documents lie; and which ones come first.
//!
//! Within a segment a document's sort values are ranks (numbers that are ordered as the values are; for keywords, twice the
//! ordinal of the segment's dictionary and one), so that only the best documents' values are ever looked up.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde_json::{Value as Json, json};
use tantivy::DocId;
use tantivy::columnar::{Column, StrColumn};

use super::answer::Refusal;
use super::mapping::Mapping;
use super::part::Segment;
use super::request::{list, only};
use super::value::{self, Kind, Scalar};

/// Most sort keys of a request.
const MOST_KEYS: usize = 6;

/// What is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum By {
    Field(String),
    /// `_shard_doc` and `_doc`.
    Place,
    /// `_score`: every document has the same.
    Score,
}

/// Whether lesser values come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// Where documents without the field go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    First,
    Last,
}

/// A sort key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) by: By,
    direction: Direction,
    missing: Missing,
}

/// A rank: what puts documents without the field first or last, and the value's place among values.
type Rank = (u8, u64);
/// The ranks of a document.
type Ranks = [Rank; MOST_KEYS];

/// A value that was sorted by, comparable between segments and indexes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Missing,
    Whole(i64),
    Float(f64),
    Text(String),
    Place(u64),
}

/// Reads the `sort` of a body.
pub(super) fn keys(sort: &Json) -> Result<Vec<Key>, Refusal> {
    let keys: Result<Vec<Key>, Refusal> = list(sort).into_iter().map(key).collect();
    let keys = keys?;
    if keys.len() >= MOST_KEYS {
        return Err(Refusal::argument(format!("the embedded index sorts by fewer than {MOST_KEYS} keys")));
    }
    Ok(keys)
}

fn key(sort: &Json) -> Result<Key, Refusal> {
    let (name, how) = match sort {
        Json::String(name) => (name.as_str(), &Json::Null),
        object => only(object, "sort")?,
    };
    let by = match name {
        "_shard_doc" | "_doc" => By::Place,
        "_score" => By::Score,
        name => By::Field(name.to_owned()),
    };
    let direction = match how.as_str().or(how["order"].as_str()) {
        Some(order) if order.eq_ignore_ascii_case("desc") => Direction::Descending,
        Some(order) if order.eq_ignore_ascii_case("asc") => Direction::Ascending,
        None => Direction::Ascending,
        Some(other) => return Err(Refusal::argument(format!("Unknown SortOrder [{other}]"))),
    };
    let missing = match how["missing"].as_str() {
        None | Some("_last") => Missing::Last,
        Some("_first") => Missing::First,
        Some(other) => return Err(Refusal::argument(format!("[missing] is [{other}]; write _first or _last"))),
    };
    Ok(Key { by, direction, missing })
}

/// The key that orders documents of one point in time in the end.
pub(super) fn by_place() -> Key {
    Key { by: By::Place, direction: Direction::Ascending, missing: Missing::Last }
}

impl Key {
    /// Whether documents lie in this order anyway.
    pub(super) fn is_as_they_lie(&self) -> bool {
        self.by == By::Place && self.direction == Direction::Ascending
    }

    /// Reads a value of `search_after`.
    pub(super) fn after(&self, mapping: &Mapping, given: &Json) -> Result<Value, Refusal> {
        let wrong = || Refusal::argument(format!("Failed to parse search_after value [{given}]"));
        let By::Field(name) = &self.by else {
            return Ok(if self.by == By::Place {
                Value::Place(given.as_u64().ok_or_else(wrong)?)
            } else {
                Value::Missing
            });
        };
        let kind = mapping.field(name).map_or(Kind::Keyword, |mapped| mapped.kind);
        let scalar = value::scalar(if kind.is_number() { wide(kind) } else { kind }, given).map_err(|_| wrong())?;
        Ok(match scalar {
            None => Value::Missing,
            Some(Scalar::Whole(number)) => Value::Whole(number),
            Some(Scalar::Float(number)) => Value::Float(number),
            Some(Scalar::Text(text)) => Value::Text(text.into_owned()),
        })
    }

    fn rank(&self, value: Option<u64>) -> Rank {
        let present = u8::from(self.missing == Missing::First);
        match (value, self.direction) {
            (None, _) => (1 - present, 0),
            (Some(value), Direction::Ascending) => (present, value),
            (Some(value), Direction::Descending) => (present, !value),
        }
    }

    fn compare(&self, a: &Value, b: &Value) -> Ordering {
        let missing = |value: &Value| (*value == Value::Missing) != (self.missing == Missing::First);
        let order = match (a, b) {
            (Value::Whole(a), Value::Whole(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Place(a), Value::Place(b)) => a.cmp(b),
            (Value::Whole(a), Value::Float(b)) => (*a as f64).total_cmp(b),
            (Value::Float(a), Value::Whole(b)) => a.total_cmp(&(*b as f64)),
            _ => return missing(a).cmp(&missing(b)),
        };
        if self.direction == Direction::Descending { order.reverse() } else { order }
    }
}

fn wide(kind: Kind) -> Kind {
    if matches!(kind, Kind::Float | Kind::Double) { Kind::Double } else { Kind::Long }
}

/// A document among the first ones.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) values: Vec<Value>,
    pub(super) ordinal: u64,
    pub(super) part: usize,
    pub(super) segment: u32,
    pub(super) doc: DocId,
}

/// Which of two candidates comes first.
pub(super) fn compare(keys: &[Key], a: &Candidate, b: &Candidate) -> Ordering {
    let values = keys.iter().zip(a.values.iter().zip(&b.values));
    values
        .map(|(key, (a, b))| key.compare(a, b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.ordinal.cmp(&b.ordinal))
}

/// Where the values of a key are in a segment.
enum Source {
    Nowhere,
    Place,
    Whole(Column<i64>),
    Float(Column<f64>),
    Text(StrColumn),
}

/// The first documents of a segment.
pub(super) struct Best<'a> {
    keys: &'a [Key],
    sources: Vec<Source>,
    after: Option<Ranks>,
    size: usize,
    heap: BinaryHeap<(Ranks, DocId)>,
    segment: &'a Segment<'a>,
}

impl<'a> Best<'a> {
    /// The first `size` documents of a segment, of those that come after the given values.
    pub(super) fn new(
        keys: &'a [Key],
        mapping: &Mapping,
        segment: &'a Segment<'a>,
        after: Option<&[Value]>,
        size: usize,
    ) -> tantivy::Result<Self> {
        let sources: tantivy::Result<Vec<Source>> = keys.iter().map(|key| source(key, mapping, segment)).collect();
        let mut best = Self { keys, sources: sources?, after: None, size, heap: BinaryHeap::new(), segment };
        if let Some(values) = after {
            let mut ranks = Ranks::default();
            for (number, value) in values.iter().enumerate().take(MOST_KEYS) {
                ranks[number] = best.rank_after(number, value)?;
            }
            best.after = Some(ranks);
        }
        Ok(best)
    }

    /// Whether no further document of the segment can be among the first: they lie in order, and there are enough.
    fn is_full(&self) -> bool {
        self.heap.len() >= self.size && self.keys.iter().all(Key::is_as_they_lie)
    }

    /// How many are found.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes documents, in the order in which they lie.
    pub(super) fn offer(&mut self, docs: &[DocId]) {
        for doc in docs {
            if self.is_full() {
                return;
            }
            let mut ranks = Ranks::default();
            for (number, key) in self.keys.iter().enumerate() {
                ranks[number] = key.rank(self.value(number, *doc));
            }
            if self.after.is_some_and(|after| ranks <= after) {
                continue;
            }
            if self.heap.len() < self.size {
                self.heap.push((ranks, *doc));
            } else if self.heap.peek().is_some_and(|worst| (ranks, *doc) < *worst) {
                self.heap.pop();
                self.heap.push((ranks, *doc));
            }
        }
    }

    /// The first documents with their values.
    pub(super) fn candidates(self, part: usize) -> tantivy::Result<Vec<Candidate>> {
        let mut candidates = Vec::with_capacity(self.heap.len());
        for (_, doc) in &self.heap {
            let values: tantivy::Result<Vec<Value>> =
                (0..self.keys.len()).map(|key| self.sort_value(key, *doc)).collect();
            let ordinal = self.segment.base + u64::from(*doc);
            candidates.push(Candidate { values: values?, ordinal, part, segment: self.segment.number, doc: *doc });
        }
        Ok(candidates)
    }

    /// The number that stands for a document's value; of several values the one that puts it first.
    fn value(&self, number: usize, doc: DocId) -> Option<u64> {
        let first = |values: &mut dyn Iterator<Item = u64>| match self.keys[number].direction {
            Direction::Ascending => values.min(),
            Direction::Descending => values.max(),
        };
        match &self.sources[number] {
            Source::Nowhere => None,
            Source::Place => Some(self.segment.base + u64::from(doc)),
            Source::Whole(column) => first(&mut column.values_for_doc(doc).map(tantivy::i64_to_u64)),
            Source::Float(column) => first(&mut column.values_for_doc(doc).map(tantivy::f64_to_u64)),
            Source::Text(column) => first(&mut column.term_ords(doc).map(|ordinal| 2 * ordinal + 1)),
        }
    }

    fn rank_after(&self, number: usize, after: &Value) -> tantivy::Result<Rank> {
        let value = match (&self.sources[number], after) {
            (Source::Text(column), Value::Text(text)) => Some(match column.dictionary().term_ord(text)? {
                Some(ordinal) => 2 * ordinal + 1,
                None => 2 * next_ordinal(column, text)?,
            }),
            (_, Value::Place(place)) => Some(*place),
            (_, Value::Whole(whole)) => Some(tantivy::i64_to_u64(*whole)),
            (_, Value::Float(float)) => Some(tantivy::f64_to_u64(*float)),
            _ => None,
        };
        Ok(self.keys[number].rank(value))
    }

    fn sort_value(&self, number: usize, doc: DocId) -> tantivy::Result<Value> {
        let Some(value) = self.value(number, doc) else { return Ok(Value::Missing) };
        Ok(match &self.sources[number] {
            Source::Nowhere => Value::Missing,
            Source::Place => Value::Place(value),
            Source::Whole(_) => Value::Whole(tantivy::u64_to_i64(value)),
            Source::Float(_) => Value::Float(tantivy::u64_to_f64(value)),
            Source::Text(column) => {
                let mut text = String::new();
                column.ord_to_str(value / 2, &mut text)?;
                Value::Text(text)
            }
        })
    }
}

/// How many terms of a dictionary come before a text that is not in it.
fn next_ordinal(column: &StrColumn, text: &str) -> tantivy::Result<u64> {
    let (mut low, mut high, mut term) = (0, column.dictionary().num_terms() as u64, Vec::new());
    while low < high {
        let middle = low + (high - low) / 2;
        column.dictionary().ord_to_term(middle, &mut term)?;
        if term.as_slice() < text.as_bytes() { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn source(key: &Key, mapping: &Mapping, segment: &Segment<'_>) -> tantivy::Result<Source> {
    let name = match &key.by {
        By::Place => return Ok(Source::Place),
        By::Score => return Ok(Source::Nowhere),
        By::Field(name) => name,
    };
    let Some(mapped) = mapping.field(name) else { return Ok(Source::Nowhere) };
    let columns = segment.reader.fast_fields();
    let found = match mapped.kind {
        Kind::Keyword => columns.str(&mapped.column)?.map(Source::Text),
        Kind::Text => None,
        Kind::Float | Kind::Double => columns.column_opt(&mapped.column)?.map(Source::Float),
        _ => columns.column_opt(&mapped.column)?.map(Source::Whole),
    };
    Ok(found.unwrap_or(Source::Nowhere))
}

impl Value {
    /// As it stands in the `sort` of a hit.
    pub(super) fn json(&self, key: &Key) -> Json {
        match self {
            Self::Missing if key.by == By::Score => json!(1.0),
            Self::Missing => Json::Null,
            Self::Whole(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Text(text) => json!(text),
            Self::Place(place) => json!(place),
        }
    }
}
