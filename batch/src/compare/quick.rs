//! The quick comparison: counts and sums of the digests that documents carry, bucket by bucket, from the server's doc
//! values. Only documents of buckets that differ are read, and those that carry none.
//!
//! It sees no document whose content is not what its digest says: one that was written with another's digest, or whose
//! stored text the disk changed. It sees no version. And two changes that leave count and sum of a bucket as they were
//! stay unseen, with a chance of 2^-40. The full comparison sees all of that.

use std::path::Path;
use std::sync::Arc;

use lockstep_shared::digest::CARRIED_BITS;
use lockstep_shared::index::IndexError;
use lockstep_shared::index::carried::FIELD;
use lockstep_shared::index::moment::Moment;
use serde_json::{Value as Json, json};

use super::CompareError;
use super::record::{Should, each_should};

/// Documents of a bucket, about: what one changed document makes the comparison read, twice.
const BUCKET_DOCUMENTS: u64 = 256;
/// Most buckets, as a power of two: what servers answer at a time (`search.max_buckets`).
const MOST_BUCKETS: u32 = 16;
/// Documents up to which sums are exact: 8,192 numbers of 40 bits in a bucket fit a double.
pub const MOST_DOCUMENTS: u64 = 1 << (MOST_BUCKETS + 12);
/// Ranges of one question.
const RANGES: usize = 512;

/// Count and sum of the digests of each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Bits of a digest within a bucket.
    bits: u32,
    buckets: Vec<(u64, f64)>,
}

impl Buckets {
    /// Empty ones, as many as fit so many documents.
    #[must_use]
    pub fn fitting(documents: u64) -> Self {
        let wanted = (documents / BUCKET_DOCUMENTS).max(1).next_power_of_two().trailing_zeros().min(MOST_BUCKETS);
        Self { bits: CARRIED_BITS - wanted, buckets: vec![(0, 0.0); 1 << wanted] }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.buckets.len()
    }

    /// The bucket of a digest.
    #[must_use]
    pub fn bucket(&self, carried: u64) -> usize {
        usize::try_from(carried >> self.bits).unwrap_or(usize::MAX)
    }

    /// What should be, from its notes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn expected(mut self, path: &Path) -> Result<Self, CompareError> {
        each_should(path, |Should { digest, .. }| {
            let bucket = self.bucket(digest.carried());
            self.buckets[bucket].0 += 1;
            self.buckets[bucket].1 += digest.carried() as f64;
        })?;
        Ok(self)
    }

    /// What is there, in buckets like these.
    ///
    /// # Errors
    /// Where the server does not say, or says something else.
    pub async fn found(mut self, moment: &Moment) -> Result<Self, IndexError> {
        let question = json!({"size": 0, "track_total_hits": false, "aggs": {"buckets": {
            "histogram": {"field": FIELD, "interval": 1_u64 << self.bits, "min_doc_count": 1},
            "aggs": {"sum": {"sum": {"field": FIELD}}},
        }}});
        let answer = moment.ask(question).await?;
        let wrong = |bucket: &Json| moment.client().refused(format!("a bucket of digests is {bucket}"));
        for bucket in answer["aggregations"]["buckets"]["buckets"].as_array().into_iter().flatten() {
            let (key, count, sum) =
                (bucket["key"].as_f64(), bucket["doc_count"].as_u64(), bucket["sum"]["value"].as_f64());
            let (Some(key), Some(count), Some(sum)) = (key, count, sum) else { return Err(wrong(bucket)) };
            let number = if key >= 0.0 { self.bucket(key as u64) } else { usize::MAX };
            *self.buckets.get_mut(number).ok_or_else(|| wrong(bucket))? = (count, sum);
        }
        Ok(self)
    }

    /// The buckets that are not the same.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<usize> {
        let pairs = self.buckets.iter().zip(&other.buckets).enumerate();
        pairs.filter(|(_, (one, other))| one != other).map(|(number, _)| number).collect()
    }

    /// What finds the documents of buckets, some at a time, and those that carry no digest.
    #[must_use]
    pub fn queries(&self, buckets: &[usize]) -> Vec<Json> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for bucket in buckets {
            match ranges.last_mut() {
                Some((_, to)) if *to == *bucket => *to += 1,
                _ => ranges.push((*bucket, bucket + 1)),
            }
        }
        let at = |bucket: usize| (bucket as u64) << self.bits;
        let range = |(from, to): &(usize, usize)| json!({"range": {FIELD: {"gte": at(*from), "lt": at(*to)}}});
        let mut queries: Vec<Json> = ranges
            .chunks(RANGES)
            .map(|some| json!({"bool": {"should": some.iter().map(range).collect::<Vec<_>>(), "minimum_should_match": 1}}))
            .collect();
        queries.push(without());
        queries
    }
}

/// What finds the documents that carry no digest.
#[must_use]
pub fn without() -> Json {
    json!({"bool": {"must_not": [{"exists": {"field": FIELD}}]}})
}

/// What a quick look at a moment found, before any document is read.
pub struct Looked {
    /// The buckets, as they should be.
    pub expected: Buckets,
    /// Those that differ.
    pub differing: Vec<usize>,
    /// Documents that carry no digest.
    pub without: u64,
}

/// Compares what is carried with what should be.
///
/// # Errors
/// Where server or disk do not give it.
pub async fn look(moment: &Arc<Moment>, documents: u64, should: &Path) -> Result<Looked, CompareError> {
    let path = should.to_owned();
    let noted = tokio::task::spawn_blocking(move || Buckets::fitting(documents).expected(&path));
    let found = Buckets::fitting(documents).found(moment).await?;
    let without = moment.count(&without()).await?;
    let expected = noted.await??;
    let differing = expected.differing(&found);
    Ok(Looked { expected, differing, without })
}

#[cfg(test)]
mod tests {
    use lockstep_shared::digest::Digest;

    use super::super::record::ShouldFile;
    use super::*;

    #[test]
    fn buckets_part_all_digests_and_a_change_shows_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let noted = |name: &str, digests: &[u128]| {
            let mut file = ShouldFile::create(&folder.path().join(name)).unwrap();
            for digest in digests {
                file.add(Should { place: 0, digest: Digest(*digest) }).unwrap();
            }
            file.finish().unwrap();
            Buckets::fitting(1_000).expected(&folder.path().join(name)).unwrap()
        };
        let one = noted("one", &[0, u128::MAX, 1 << 126, 7 << 120]);
        assert_eq!(one.count(), 4);
        assert_eq!(one.differing(&noted("same", &[7 << 120, 1 << 126, 0, u128::MAX])), Vec::<usize>::new());
        assert_eq!(one.differing(&noted("changed", &[0, u128::MAX, 1 << 126, 8 << 120])), [0]);
        assert_eq!(one.differing(&noted("moved", &[0, u128::MAX, 1 << 127, 7 << 120])), [1, 2]);
        let queries = one.queries(&[0, 1, 3]);
        let at = |n: u64| n << (CARRIED_BITS - 2);
        let range = |from, to| json!({"range": {FIELD: {"gte": at(from), "lt": at(to)}}});
        assert_eq!(queries[0]["bool"]["should"], json!([range(0, 2), range(3, 4)]));
        assert_eq!(queries.len(), 2);
    }

    #[test]
    fn sums_are_exact_for_as_many_documents_as_are_said() {
        let most = Buckets::fitting(u64::MAX);
        assert!(MOST_DOCUMENTS / most.count() as u64 * ((1 << CARRIED_BITS) - 1) < 1 << 53);
    }
}
