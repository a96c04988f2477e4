//! Documents by their sequence numbers. Those of one time lie close together, so that of every few thousand documents
//! side by side the least and the greatest number are remembered, and whatever lies elsewhere is passed over.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};
use tantivy::columnar::Column;
use tantivy::index::SegmentId;
use tantivy::query::{ConstScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

use super::mapping::SEQ_NO;

/// Documents of a chunk.
const CHUNK: u32 = 4_096;
/// Segments that are remembered, among them those that merges have ended.
const REMEMBERED: usize = 1_000;

/// What is remembered of the segments of an index.
#[derive(Debug, Default)]
pub(super) struct Spans(Mutex<FxHashMap<SegmentId, Arc<[Span]>>>);

/// The least and the greatest number of a chunk; none where the one is greater.
type Span = (u64, u64);

impl Spans {
    /// The spans of a segment's chunks, in order.
    fn of(&self, reader: &SegmentReader, column: &Column<u64>) -> Arc<[Span]> {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spans) = remembered.get(&reader.segment_id()) {
            return spans.clone();
        }
        let mut numbers = Numbers::of(column);
        let spans: Arc<[Span]> = (0..reader.max_doc().div_ceil(CHUNK))
            .map(|chunk| {
                let each = numbers.read(&docs(chunk, reader.max_doc())).iter().flatten();
                each.fold((u64::MAX, 0), |(least, greatest), number| (least.min(*number), greatest.max(*number)))
            })
            .collect();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(reader.segment_id(), spans.clone());
        spans
    }
}

fn docs(chunk: u32, documents: DocId) -> Range<DocId> {
    let from = chunk.saturating_mul(CHUNK).min(documents);
    from..from.saturating_add(CHUNK).min(documents)
}

/// Reads numbers, many at a time.
struct Numbers<'a> {
    column: &'a Column<u64>,
    docs: Vec<DocId>,
    read: Vec<Option<u64>>,
}

impl<'a> Numbers<'a> {
    fn of(column: &'a Column<u64>) -> Self {
        Self { column, docs: Vec::new(), read: Vec::new() }
    }

    /// Those of documents that lie side by side.
    fn read(&mut self, docs: &Range<DocId>) -> &[Option<u64>] {
        self.docs.clear();
        self.docs.extend(docs.clone());
        self.read.clear();
        self.read.resize(self.docs.len(), None);
        self.column.first_vals(&self.docs, &mut self.read);
        &self.read
    }
}

/// Which numbers are looked for.
#[derive(Clone, Debug)]
enum Wanted {
    Between(Range<u64>),
    /// In order, and to look one up.
    Among(Arc<[u64]>, Arc<FxHashSet<u64>>),
}

impl Wanted {
    fn has(&self, number: u64) -> bool {
        match self {
            Self::Between(range) => range.contains(&number),
            Self::Among(_, numbers) => numbers.contains(&number),
        }
    }

    /// Whether any may be in a span.
    fn meets(&self, (least, greatest): Span) -> bool {
        match self {
            Self::Between(range) => least < range.end && greatest >= range.start && least <= greatest,
            Self::Among(sorted, _) => {
                sorted.get(sorted.partition_point(|number| *number < least)).is_some_and(|number| *number <= greatest)
            }
        }
    }
}

/// The query.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    spans: Arc<Spans>,
    wanted: Wanted,
}

impl Numbered {
    /// Numbers of a range.
    pub(super) fn between(spans: &Arc<Spans>, range: Range<u64>) -> Self {
        Self { spans: spans.clone(), wanted: Wanted::Between(range) }
    }

    /// One of many numbers.
    pub(super) fn among(spans: &Arc<Spans>, numbers: FxHashSet<u64>) -> Self {
        let mut sorted: Vec<u64> = numbers.iter().copied().collect();
        sorted.sort_unstable();
        Self { spans: spans.clone(), wanted: Wanted::Among(sorted.into(), Arc::new(numbers)) }
    }
}

impl Query for Numbered {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Numbered {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let column = reader.fast_fields().u64(SEQ_NO)?;
        let spans = self.spans.of(reader, &column);
        let mut found = Found {
            wanted: self.wanted.clone(),
            column,
            spans,
            documents: reader.max_doc(),
            next_chunk: 0,
            docs: Vec::new(),
            at: 0,
        };
        found.fill(0);
        Ok(Box::new(ConstScorer::new(found, boost)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        if self.scorer(reader, 1.0)?.seek(doc) == doc {
            Ok(Explanation::new("its sequence number", 1.0))
        } else {
            Err(TantivyError::InvalidArgument(format!("document {doc} does not match")))
        }
    }
}

/// The documents of a segment that are found, chunk by chunk.
struct Found {
    wanted: Wanted,
    column: Column<u64>,
    spans: Arc<[Span]>,
    documents: DocId,
    next_chunk: u32,
    /// Those of the chunk at hand.
    docs: Vec<DocId>,
    at: usize,
}

impl Found {
    /// Goes on to the next chunk that has one from `from` on.
    fn fill(&mut self, from: DocId) {
        (self.at, self.next_chunk) = (0, self.next_chunk.max(from / CHUNK));
        self.docs.clear();
        let mut numbers = Numbers::of(&self.column);
        while let Some(span) = self.spans.get(self.next_chunk as usize).filter(|_| self.docs.is_empty()) {
            if self.wanted.meets(*span) {
                let docs = docs(self.next_chunk, self.documents);
                let read = docs.clone().zip(numbers.read(&docs));
                let matching = read.filter(|(doc, number)| *doc >= from && number.is_some_and(|n| self.wanted.has(n)));
                self.docs.extend(matching.map(|(doc, _)| doc));
            }
            self.next_chunk += 1;
        }
    }
}

impl DocSet for Found {
    fn advance(&mut self) -> DocId {
        self.at += 1;
        if self.at >= self.docs.len() {
            self.fill(0);
        }
        self.doc()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        while self.doc() < target {
            if target / CHUNK >= self.next_chunk {
                self.fill(target);
            } else {
                self.advance();
            }
        }
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.docs.get(self.at).copied().unwrap_or(TERMINATED)
    }

    fn size_hint(&self) -> u32 {
        let chunks = self.spans.iter().filter(|span| self.wanted.meets(**span)).count();
        u32::try_from(chunks).unwrap_or(u32::MAX).saturating_mul(CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tantivy::schema::{FAST, Schema};
    use tantivy::{Index, IndexWriter, TantivyDocument};

    use super::*;

    /// A segment of documents with these numbers.
    fn segment(numbers: &[u64]) -> SegmentReader {
        let mut schema = Schema::builder();
        let field = schema.add_u64_field(SEQ_NO, FAST);
        let index = Index::create_in_ram(schema.build());
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
        for number in numbers {
            let mut document = TantivyDocument::new();
            document.add_u64(field, *number);
            writer.add_document(document).unwrap();
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        assert_eq!(searcher.segment_readers().len(), 1);
        searcher.segment_reader(0).clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn what_is_passed_over_has_nothing_of_what_is_wanted(
            // Runs of numbers, as merges lay them side by side.
            runs in prop::collection::vec((0_u64..60_000, 1_usize..6_000), 1..6),
            (from, width) in (0_u64..60_000, 0_u64..20_000),
            among in prop::collection::hash_set(0_u64..60_000, 0..40),
            seeks in prop::collection::vec(0_u32..30_000, 0..6),
            edge in any::<prop::sample::Index>(),
        ) {
            let numbers: Vec<u64> = runs.iter().flat_map(|(first, count)| *first..first + *count as u64).collect();
            let (reader, spans) = (segment(&numbers), Arc::new(Spans::default()));
            let among: FxHashSet<u64> = among.into_iter().collect();
            // What a chunk has least or greatest, alone.
            let edges: Vec<u64> = numbers
                .chunks(CHUNK as usize)
                .flat_map(|chunk| [chunk.iter().min(), chunk.iter().max()])
                .flatten()
                .copied()
                .collect();
            let edge = *edge.get(&edges);
            let queries = [
                Numbered::between(&spans, from..from + width),
                Numbered::among(&spans, among.clone()),
                Numbered::between(&spans, edge..edge + 1),
                Numbered::among(&spans, [edge].into_iter().collect()),
            ];
            for (query, has) in queries.iter().zip([
                &(|n: u64| (from..from + width).contains(&n)) as &dyn Fn(u64) -> bool,
                &|n: u64| among.contains(&n),
                &|n: u64| n == edge,
                &|n: u64| n == edge,
            ]) {
                let expected: Vec<DocId> =
                    (0..).zip(&numbers).filter(|(_, number)| has(**number)).map(|(doc, _)| doc).collect();
                let mut scorer = query.scorer(&reader, 1.0).unwrap();
                let mut found = Vec::new();
                while scorer.doc() != TERMINATED {
                    found.push(scorer.doc());
                    scorer.advance();
                }
                prop_assert_eq!(&found, &expected);
                let mut scorer = query.scorer(&reader, 1.0).unwrap();
                let mut sorted = seeks.clone();
                sorted.sort_unstable();
                for target in sorted.into_iter().filter(|target| *target >= 1) {
                    if scorer.doc() > target {
                        continue;
                    }
                    let next = expected.iter().copied().find(|doc| *doc >= target).unwrap_or(TERMINATED);
                    prop_assert_eq!(scorer.seek(target), next);
                }
            }
        }
    }
}
