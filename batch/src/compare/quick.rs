//! The quick comparison: counts and sums of the digests that documents carry, bucket by bucket, from the server's doc
//! values. Only documents of buckets that differ are read, and those that carry none.
//!
//! Those of buckets are found by their sequence numbers, which an aggregation lists: a field that is not indexed makes a
//! query for hundreds of ranges look at each document hundreds of times, where an aggregation over ranges looks at it once.
//!
//! It sees no document whose content is not what its digest says: one that was written with another's digest, or whose
//! stored text the disk changed. It sees no version. And two changes that leave count and sum of a bucket as they were
//! stay unseen, with a chance of 2^-40. The full comparison sees all of that.

use std::sync::Arc;

use lockstep_shared::digest::{CARRIED_BITS, Digest};
use lockstep_shared::index::IndexError;
use lockstep_shared::index::carried::FIELD;
use lockstep_shared::index::moment::Moment;
use serde_json::{Value as Json, json};

use super::CompareError;

/// Documents of a bucket, about: what one changed document makes the comparison read, twice.
const BUCKET_DOCUMENTS: u64 = 256;
/// Most buckets, as a power of two: what servers answer at a time (`search.max_buckets`).
const MOST_BUCKETS: u32 = 16;
/// Documents up to which sums are exact: 8,192 numbers of 40 bits in a bucket fit a double.
pub const MOST_DOCUMENTS: u64 = 1 << (MOST_BUCKETS + 12);
/// Whole numbers below this are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Documents and buckets that are listed at a time: fewer than servers give.
pub const LISTED: u64 = 60_000;
/// Documents that one query finds by their numbers.
const NUMBERS: usize = 10_000;

/// Count and sum of the carried digests of each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Bits of a digest within a bucket.
    bits: u32,
    buckets: Vec<(u64, u64)>,
}

impl Buckets {
    /// Empty ones, as many as there can be.
    #[must_use]
    pub fn finest() -> Self {
        Self::parted(MOST_BUCKETS)
    }

    fn parted(parts: u32) -> Self {
        Self { bits: CARRIED_BITS - parts, buckets: vec![(0, 0); 1 << parts] }
    }

    /// The finest ones, with these counts and sums; `None` where they are not so many.
    #[must_use]
    pub fn of(buckets: Vec<(u64, u64)>) -> Option<Self> {
        (buckets.len() == 1 << MOST_BUCKETS).then_some(Self { bits: CARRIED_BITS - MOST_BUCKETS, buckets })
    }

    /// The same documents in as many buckets as fit their number.
    #[must_use]
    pub fn fitting(&self) -> Self {
        let wanted = (self.documents() / BUCKET_DOCUMENTS).max(1).next_power_of_two().trailing_zeros();
        let mut fitting = Self::parted(wanted.min(CARRIED_BITS - self.bits));
        let finer = self.count() / fitting.count();
        for (to, some) in fitting.buckets.iter_mut().zip(self.buckets.chunks(finer)) {
            *to = some.iter().fold((0, 0), |(c, s): (u64, u64), (count, sum)| (c + count, s.wrapping_add(*sum)));
        }
        fitting
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.buckets.len()
    }

    /// Documents in all.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.each().map(|(count, _)| count).sum()
    }

    /// Count and sum of each.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().copied()
    }

    /// Count and sum of one.
    #[must_use]
    pub fn at(&self, bucket: usize) -> (u64, u64) {
        self.buckets[bucket]
    }

    /// As many, and empty.
    #[must_use]
    pub fn empty(&self) -> Self {
        Self { bits: self.bits, buckets: vec![(0, 0); self.count()] }
    }

    /// The bucket of a digest.
    #[must_use]
    pub fn bucket(&self, carried: u64) -> usize {
        usize::try_from(carried >> self.bits).unwrap_or(usize::MAX)
    }

    /// A document comes.
    pub fn add(&mut self, digest: Digest) {
        let bucket = self.bucket(digest.carried());
        let (count, sum) = &mut self.buckets[bucket];
        (*count, *sum) = (count.wrapping_add(1), sum.wrapping_add(digest.carried()));
    }

    /// A document goes.
    pub fn remove(&mut self, digest: Digest) {
        let bucket = self.bucket(digest.carried());
        let (count, sum) = &mut self.buckets[bucket];
        (*count, *sum) = (count.wrapping_sub(1), sum.wrapping_sub(digest.carried()));
    }

    /// What is there, in buckets like these.
    ///
    /// # Errors
    /// Where the server does not say, or says something else.
    pub async fn found(&self, moment: &Moment) -> Result<Self, IndexError> {
        let mut found = self.empty();
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
            let number = if key >= 0.0 { found.bucket(key as u64) } else { usize::MAX };
            // A number that is not whole, or is too large to be exact, is no sum of digests, and no other is equal to it.
            let sum = if sum.fract() == 0.0 && (0.0..EXACT).contains(&sum) { sum as u64 } else { u64::MAX };
            *found.buckets.get_mut(number).ok_or_else(|| wrong(bucket))? = (count, sum);
        }
        Ok(found)
    }

    /// The buckets that are not the same.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<usize> {
        let pairs = self.buckets.iter().zip(&other.buckets).enumerate();
        pairs.filter(|(_, (one, other))| one != other).map(|(number, _)| number).collect()
    }

    fn range(&self, bucket: usize) -> (u64, u64) {
        ((bucket as u64) << self.bits, (bucket as u64 + 1) << self.bits)
    }

    /// The sequence numbers of what is in some of the buckets, of which none has more than `most` documents.
    async fn numbers(&self, moment: &Moment, some: &[usize], most: u64) -> Result<Vec<u64>, IndexError> {
        let ranges = some.iter().map(|bucket| self.range(*bucket)).map(|(from, to)| json!({"from": from, "to": to}));
        let question = json!({"size": 0, "track_total_hits": false, "aggs": {"buckets": {
            "range": {"field": FIELD, "ranges": ranges.collect::<Vec<_>>()},
            "aggs": {"numbers": {"terms": {"field": "_seq_no", "size": most}}},
        }}});
        let answer = moment.ask(question).await?;
        let buckets = answer["aggregations"]["buckets"]["buckets"].as_array().into_iter().flatten();
        let listed = buckets.flat_map(|bucket| bucket["numbers"]["buckets"].as_array().into_iter().flatten());
        let number = |listed: &Json| listed["key"].as_u64();
        let numbers: Option<Vec<u64>> = listed.map(number).collect();
        numbers.ok_or_else(|| moment.client().refused("a sequence number is none".into()))
    }
}

/// Groups of buckets that are, with their documents, no more than are listed at a time; none that is empty.
fn groups(found: &Buckets, buckets: &[usize]) -> Vec<Vec<usize>> {
    let (mut groups, mut listed): (Vec<Vec<usize>>, u64) = (Vec::new(), 0);
    for bucket in buckets.iter().copied().filter(|bucket| found.at(*bucket).0 > 0) {
        // The server counts the bucket too.
        let more = found.at(bucket).0 + 1;
        listed += more;
        match groups.last_mut() {
            Some(group) if listed <= LISTED => group.push(bucket),
            _ => {
                groups.push(vec![bucket]);
                listed = more;
            }
        }
    }
    groups
}

/// What finds the documents of the buckets that differ, some at a time, and those that carry no digest. It may find others
/// besides, where several shards give the same numbers.
///
/// # Errors
/// Where the server does not list them.
pub async fn queries(moment: &Moment, looked: &Looked) -> Result<Vec<Json>, IndexError> {
    let (mut queries, mut listed) = (vec![without()], Vec::new());
    for group in groups(&looked.found, &looked.differing) {
        let most = group.iter().map(|bucket| looked.found.at(*bucket).0).max().unwrap_or(0);
        if most >= LISTED {
            // One that somebody has filled with a digest of his own.
            let ranges = group.iter().map(|bucket| looked.found.range(*bucket));
            queries.extend(ranges.map(|(from, to)| json!({"range": {FIELD: {"gte": from, "lt": to}}})));
            continue;
        }
        listed.append(&mut looked.found.numbers(moment, &group, most).await?);
    }
    // Documents of one time lie close together, and each query then looks at few places.
    listed.sort_unstable();
    queries.extend(listed.chunks(NUMBERS).map(|some| json!({"terms": {"_seq_no": some}})));
    Ok(queries)
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
    /// The same buckets, as they are.
    found: Buckets,
    /// Those that differ.
    pub differing: Vec<usize>,
    /// Documents that the index holds.
    pub documents: u64,
    /// Those of them that carry no digest.
    pub without: u64,
}

/// Compares what is carried with what should be.
///
/// # Errors
/// Where the server does not give it.
pub async fn look(moment: &Arc<Moment>, sums: &Buckets) -> Result<Looked, CompareError> {
    let expected = sums.fitting();
    let found = expected.found(moment).await?;
    let without = moment.count(&without()).await?;
    let differing = expected.differing(&found);
    Ok(Looked { documents: found.documents() + without, expected, found, differing, without })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(digests: &[u128]) -> Buckets {
        let mut all = Buckets::finest();
        digests.iter().for_each(|digest| all.add(Digest(*digest)));
        // Four are enough to see.
        let mut few = Buckets::parted(2);
        for digest in digests {
            few.add(Digest(*digest));
        }
        assert_eq!(all.documents(), few.documents());
        few
    }

    #[test]
    fn buckets_part_all_digests_and_a_change_shows_in_them() {
        let one = noted(&[0, u128::MAX, 1 << 126, 7 << 120]);
        assert_eq!(one.count(), 4);
        assert_eq!(one.differing(&noted(&[7 << 120, 1 << 126, 0, u128::MAX])), Vec::<usize>::new());
        assert_eq!(one.differing(&noted(&[0, u128::MAX, 1 << 126, 8 << 120])), [0]);
        assert_eq!(one.differing(&noted(&[0, u128::MAX, 1 << 127, 7 << 120])), [1, 2]);
    }

    #[test]
    fn buckets_are_listed_in_groups_of_what_servers_give() {
        let counts = [7, LISTED - 3, 1, 0, 1, LISTED + 1, 2, 2];
        let found = Buckets { bits: CARRIED_BITS - 3, buckets: counts.map(|count| (count, 0)).to_vec() };
        assert_eq!(groups(&found, &[0, 1, 2, 3, 4, 5, 6, 7]), [vec![0], vec![1, 2], vec![4], vec![5], vec![6, 7]]);
        assert_eq!(groups(&found, &[0, 3, 6]), [vec![0, 6]]);
        assert_eq!(found.range(1), (1 << (CARRIED_BITS - 3), 2 << (CARRIED_BITS - 3)));
    }

    #[test]
    fn fewer_buckets_hold_the_same_and_what_came_and_went_leaves_nothing() {
        let digests: Vec<Digest> = (0..1_500_u128).map(|n| Digest((n * 7_919) << 104)).collect();
        let mut all = Buckets::finest();
        digests.iter().for_each(|digest| all.add(*digest));
        let few = all.fitting();
        assert_eq!((few.count(), few.documents()), (8, 1_500));
        let mut direct = few.empty();
        digests.iter().for_each(|digest| direct.add(*digest));
        assert_eq!(few, direct);
        digests.iter().for_each(|digest| all.remove(*digest));
        assert_eq!(all, Buckets::finest());
    }

    #[test]
    fn sums_are_exact_for_as_many_documents_as_are_said() {
        let of_bucket = MOST_DOCUMENTS / Buckets::finest().count() as u64;
        assert!(((of_bucket * ((1 << CARRIED_BITS) - 1)) as f64) < EXACT);
    }
}
