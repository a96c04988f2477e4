//! Documents of which a number is one of many. Each is looked at once, however many numbers there are, where a union of
//! Tantivy's own queries goes through the column once for each number.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use tantivy::columnar::Column;
use tantivy::query::{BitSetDocSet, ConstScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TantivyError};

/// The numbers, and the column that they are looked for in.
#[derive(Clone, Debug)]
pub(super) struct OneOf {
    column: String,
    numbers: Numbers,
}

#[derive(Clone, Debug)]
enum Numbers {
    Whole(Arc<FxHashSet<i64>>),
    Unsigned(Arc<FxHashSet<u64>>),
}

impl OneOf {
    /// Of a column of whole numbers.
    pub(super) fn whole(column: &str, numbers: FxHashSet<i64>) -> Self {
        Self { column: column.to_owned(), numbers: Numbers::Whole(Arc::new(numbers)) }
    }

    /// Of a column of numbers without a sign.
    pub(super) fn unsigned(column: &str, numbers: FxHashSet<u64>) -> Self {
        Self { column: column.to_owned(), numbers: Numbers::Unsigned(Arc::new(numbers)) }
    }
}

impl Query for OneOf {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for OneOf {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let columns = reader.fast_fields();
        let found = match &self.numbers {
            Numbers::Whole(numbers) => matching(columns.column_opt(&self.column)?, numbers, reader.max_doc()),
            Numbers::Unsigned(numbers) => matching(columns.column_opt(&self.column)?, numbers, reader.max_doc()),
        };
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

fn matching<T: Copy + Eq + Hash + PartialOrd + std::fmt::Debug + Send + Sync + 'static>(
    column: Option<Column<T>>,
    numbers: &FxHashSet<T>,
    documents: DocId,
) -> BitSet {
    let mut found = BitSet::with_max_value(documents);
    if let Some(column) = column {
        for doc in 0..documents {
            if column.values_for_doc(doc).any(|value| numbers.contains(&value)) {
                found.insert(doc);
            }
        }
    }
    found
}
