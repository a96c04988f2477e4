//! What a search looks at: the documents of one index at one moment, segment by segment.
//!
//! A document's place is its ordinal: segments lie one behind the other. It is what `_shard_doc` sorts by, and what slices of
//! a point in time cut. Places stay as they are while the searcher is held.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use tantivy::columnar::Column;
use tantivy::query::{AllQuery, EnableScoring, Query, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, Searcher, SegmentReader, TERMINATED};

use super::answer::Refusal;
use super::engine::Engine;
use super::mapping::DELETED;

/// An index as a search sees it.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) engine: Arc<Engine>,
    pub(super) searcher: Searcher,
}

/// A segment and the ordinal of its first document.
pub(super) struct Segment<'a> {
    pub(super) reader: &'a SegmentReader,
    pub(super) number: u32,
    pub(super) base: u64,
    deleted: Option<Column<i64>>,
}

impl Part {
    /// Its segments, the first one's documents from `base` on.
    pub(super) fn segments(&self, base: u64) -> tantivy::Result<Vec<Segment<'_>>> {
        let (mut next, mut segments) = (base, Vec::new());
        for (number, reader) in (0..).zip(self.searcher.segment_readers()) {
            let deleted = reader.fast_fields().column_opt(DELETED)?;
            segments.push(Segment { reader, number, base: next, deleted });
            next += u64::from(reader.max_doc());
        }
        Ok(segments)
    }

    /// Places of its documents; some of them may be deleted ones.
    pub(super) fn places(&self) -> u64 {
        self.searcher.segment_readers().iter().map(|reader| u64::from(reader.max_doc())).sum()
    }

    /// Its documents.
    pub(super) fn count(&self) -> Result<u64, Refusal> {
        let (weight, mut count) = (self.weight(&AllQuery)?, 0);
        for segment in self.segments(0)? {
            segment.walk(&*weight, &(0..u64::MAX), |docs| {
                count += docs.len() as u64;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(count)
    }

    /// A query, ready to be asked of its segments.
    pub(super) fn weight(&self, query: &dyn Query) -> tantivy::Result<Box<dyn Weight>> {
        query.weight(EnableScoring::disabled_from_searcher(&self.searcher))
    }
}

impl Segment<'_> {
    /// Gives the documents that match and have an ordinal of the range to `each`, in order and some at a time, until it
    /// breaks.
    pub(super) fn walk(
        &self,
        weight: &dyn Weight,
        ordinals: &Range<u64>,
        mut each: impl FnMut(&[DocId]) -> Result<ControlFlow<()>, Refusal>,
    ) -> Result<(), Refusal> {
        let at = |ordinal: u64| {
            let place = ordinal.saturating_sub(self.base).min(u64::from(self.reader.max_doc()));
            DocId::try_from(place).unwrap_or(DocId::MAX)
        };
        let (from, to) = (at(ordinals.start), at(ordinals.end));
        if from >= to {
            return Ok(());
        }
        let mut scorer = weight.scorer(self.reader, 1.0)?;
        if scorer.doc() < from {
            scorer.seek(from);
        }
        let (mut buffer, mut live) = ([TERMINATED; COLLECT_BLOCK_BUFFER_LEN], Vec::new());
        loop {
            let count = scorer.fill_buffer(&mut buffer);
            live.clear();
            live.extend(buffer[..count].iter().copied().filter(|doc| *doc < to && self.is_live(*doc)));
            if !live.is_empty() && each(&live)?.is_break() {
                return Ok(());
            }
            if count < buffer.len() || buffer[count - 1] >= to {
                return Ok(());
            }
        }
    }

    /// Whether it is a document, and no deleted or remembered one.
    fn is_live(&self, doc: DocId) -> bool {
        !self.reader.is_deleted(doc) && self.deleted.as_ref().is_none_or(|deleted| deleted.first(doc).is_none())
    }
}
