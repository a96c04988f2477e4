//! What an index knows of an id, by Tantivy's own postings of `_id`: a look into each segment's term dictionary, which lies
//! in mapped files. Nothing is held in memory for a document.

use std::sync::Arc;

use tantivy::columnar::Column;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, InvertedIndexReader, Searcher, SegmentReader, TERMINATED};

use super::mapping::{DELETED, Own, SEQ_NO, VERSION};
use super::order::Known;

/// Looks ids up among the documents of one commit.
pub(super) struct Lookup {
    segments: Vec<Segment>,
}

struct Segment {
    reader: SegmentReader,
    ids: Arc<InvertedIndexReader>,
    version: Column<u64>,
    seq_no: Column<u64>,
    deleted: Option<Column<i64>>,
}

impl Lookup {
    /// Over the documents that a searcher sees.
    pub(super) fn new(searcher: &Searcher, own: Own) -> tantivy::Result<Self> {
        let segment = |reader: &SegmentReader| {
            Ok(Segment {
                reader: reader.clone(),
                ids: reader.inverted_index(own.id)?,
                version: reader.fast_fields().u64(VERSION)?,
                seq_no: reader.fast_fields().u64(SEQ_NO)?,
                deleted: reader.fast_fields().column_opt(DELETED)?,
            })
        };
        let segments: tantivy::Result<_> = searcher.segment_readers().iter().map(segment).collect();
        Ok(Self { segments: segments? })
    }

    /// What is known of an id, and where that stands.
    pub(super) fn find(&self, id: &str) -> tantivy::Result<Option<(Known, DocAddress)>> {
        for (number, segment) in (0..).zip(&self.segments) {
            if let Some(doc) = segment.find(id)? {
                let known = Known {
                    version: segment.version.first(doc).unwrap_or(0),
                    seq_no: segment.seq_no.first(doc).unwrap_or(0),
                    live: segment.deleted.as_ref().is_none_or(|deleted| deleted.first(doc).is_none()),
                };
                return Ok(Some((known, DocAddress::new(number, doc))));
            }
        }
        Ok(None)
    }
}

impl Segment {
    fn find(&self, id: &str) -> tantivy::Result<Option<DocId>> {
        let Some(term) = self.ids.terms().get(id.as_bytes())? else { return Ok(None) };
        let mut postings = self.ids.read_postings_from_terminfo(&term, IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            if !self.reader.is_deleted(postings.doc()) {
                return Ok(Some(postings.doc()));
            }
            postings.advance();
        }
        Ok(None)
    }
}
