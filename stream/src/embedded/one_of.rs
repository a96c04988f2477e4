//! Documents of which a number is one of many. Each is looked at once, however many numbers there are, where a union of
//! Tantivy's own queries goes through the column once for each number.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use tantivy::query::{BitSetDocSet, ConstScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TantivyError};

/// The numbers, and the column that they are looked for in.
#[derive(Clone, Debug)]
pub(super) struct OneOf {
    column: String,
    numbers: Arc<FxHashSet<i64>>,
}

impl OneOf {
    /// Of a column of whole numbers.
    pub(super) fn whole(column: &str, numbers: FxHashSet<i64>) -> Self {
        Self { column: column.to_owned(), numbers: Arc::new(numbers) }
    }
}

impl Query for OneOf {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for OneOf {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut found = BitSet::with_max_value(reader.max_doc());
        if let Some(column) = reader.fast_fields().column_opt::<i64>(&self.column)? {
            let has = |doc: &DocId| column.values_for_doc(*doc).any(|value| self.numbers.contains(&value));
            for doc in (0..reader.max_doc()).filter(has) {
                found.insert(doc);
            }
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(found), boost)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        if self.scorer(reader, 1.0)?.seek(doc) == doc {
            Ok(Explanation::new("one of many numbers", 1.0))
        } else {
            Err(TantivyError::InvalidArgument(format!("document {doc} does not match")))
        }
    }
}
