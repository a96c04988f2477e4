//! Which units that were read at one moment a later moment has as they were: the others are read again.
//!
//! A document keeps its sequence number until it is written again, and then gets one above all of its shard. So in an index
//! of one shard a unit is as it was exactly where count and sum of its numbers are: what left it had smaller numbers than
//! what came. Each of several shards counts for itself, and what one shard lost may hide what another one got. There the
//! digests that documents carry must agree too: then the unit has the same documents with the same content (but for a chance
//! of 2^-40), and whatever was written again, with equal content at another version or with another's digest, has a larger
//! number than before. So what is kept has the content and the version that was noted; a version matters, since one that
//! is beyond the log is a difference even where the content is right. Where documents of such an index carry no digest,
//! its units are read again.

use lockstep_shared::digest::CARRIED_BITS;
use lockstep_shared::index::IndexError;
use lockstep_shared::index::carried::FIELD;
use lockstep_shared::index::moment::Moment;
use serde_json::{Value as Json, json};

use super::CompareError;
use super::record::{Is, IsFile};
use super::units::Extent;

/// Buckets of a unit's digests, as a power of two: together they hold more documents than a unit has.
const BUCKETS: u32 = 4;
/// Documents of a bucket up to which the sum of their digests is exact in a double.
const MOST_DOCUMENTS: u64 = 1 << (53 - CARRIED_BITS);
/// Sums of sequence numbers are exact in a double below this.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Which numbers tell whether a unit is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// One shard: sequence numbers are enough.
    Numbers,
    /// Several.
    NumbersAndDigests,
}

/// What tells one state of a unit from another.
#[derive(Clone, Debug, Default, PartialEq)]
struct Summary {
    documents: u64,
    /// The sum of their sequence numbers.
    numbers: f64,
    /// Count and sum of the digests that they carry, bucket by bucket.
    digests: Vec<(u64, f64)>,
}

impl Summary {
    fn noted(notes: &[Is], by: By) -> Self {
        let mut noted = Self::empty(by);
        noted.documents = notes.len() as u64;
        noted.numbers = notes.iter().map(|is| is.seq_no as f64).sum();
        for carried in notes.iter().map(|is| is.digest.carried()) {
            if let Some((count, sum)) = noted.digests.get_mut(bucket(carried)) {
                *count += 1;
                *sum += carried as f64;
            }
        }
        noted
    }

    fn empty(by: By) -> Self {
        let digests = if by == By::Numbers { Vec::new() } else { vec![(0, 0.0); 1 << BUCKETS] };
        Self { digests, ..Self::default() }
    }

    fn question(query: &Json, by: By) -> Json {
        let mut question = json!({"query": query, "size": 0, "track_total_hits": true, "aggs": {
            "numbers": {"sum": {"field": "_seq_no"}},
        }});
        if by == By::NumbersAndDigests {
            question["aggs"]["digests"] = json!({
                "histogram": {"field": FIELD, "interval": 1_u64 << (CARRIED_BITS - BUCKETS), "min_doc_count": 1},
                "aggs": {"sum": {"sum": {"field": FIELD}}},
            });
        }
        question
    }

    /// What a server says; `None` where it does not say all.
    fn answered(answer: &Json, by: By) -> Option<Self> {
        let mut found = Self::empty(by);
        found.documents = answer["hits"]["total"]["value"].as_u64()?;
        let aggregations = &answer["aggregations"];
        found.numbers = aggregations["numbers"]["value"].as_f64()?;
        for given in aggregations["digests"]["buckets"].as_array().into_iter().flatten() {
            let key = given["key"].as_f64().filter(|key| *key >= 0.0)?;
            *found.digests.get_mut(bucket(key as u64))? =
                (given["doc_count"].as_u64()?, given["sum"]["value"].as_f64()?);
        }
        Some(found)
    }

    /// True where the numbers are exact, and each document has a part in them.
    fn tells(&self, by: By) -> bool {
        let carry = by == By::Numbers || self.digests.iter().map(|(count, _)| count).sum::<u64>() == self.documents;
        self.numbers < EXACT && carry && self.digests.iter().all(|(count, _)| *count <= MOST_DOCUMENTS)
    }
}

fn bucket(carried: u64) -> usize {
    usize::try_from(carried >> (CARRIED_BITS - BUCKETS)).unwrap_or(usize::MAX)
}

/// Forgets the units that a later moment has otherwise: they are to be read again.
///
/// # Errors
/// Where the server does not answer, or the disk does not.
pub async fn recheck(moment: &Moment, extent: &Extent, file: &mut IsFile) -> Result<(), CompareError> {
    let shards = moment.ask(json!({"size": 0, "track_total_hits": false})).await?["_shards"]["total"].clone();
    let by = if shards == 1 { By::Numbers } else { By::NumbersAndDigests };
    let (units, mut changed): (Vec<u64>, _) = (file.units().map(|(unit, _)| unit).collect(), Vec::new());
    for unit in units {
        let noted = Summary::noted(&file.unit(unit)?, by);
        if unit >= extent.units() || !is_unchanged(moment, &extent.query(&(unit..unit + 1)), &noted, by).await? {
            changed.push(unit);
        }
    }
    Ok(file.forget(&changed)?)
}

async fn is_unchanged(moment: &Moment, query: &Json, noted: &Summary, by: By) -> Result<bool, IndexError> {
    let answer = moment.ask(Summary::question(query, by)).await?;
    let found = Summary::answered(&answer, by);
    Ok(noted.tells(by) && found.as_ref() == Some(noted))
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::Version;
    use lockstep_shared::digest::Digest;

    use super::*;

    fn is(carried: u64, seq_no: u64) -> Is {
        let digest = Digest(u128::from(carried) << (128 - CARRIED_BITS));
        Is { place: carried, digest, version: Version(1), seq_no }
    }

    #[test]
    fn what_a_shard_lost_shows_where_another_one_got_a_document_with_the_same_number() {
        let (before, after) = ([is(1, 501), is(2, 7)], [is(3, 501), is(2, 7)]);
        let both = |by| (Summary::noted(&before, by), Summary::noted(&after, by));
        let (numbers, digests) = (both(By::Numbers), both(By::NumbersAndDigests));
        assert_eq!(numbers.0, numbers.1, "numbers alone do not tell");
        assert_ne!(digests.0, digests.1);
    }

    #[test]
    fn equal_content_that_was_written_again_shows_by_its_number() {
        for by in [By::Numbers, By::NumbersAndDigests] {
            assert_ne!(Summary::noted(&[is(1, 5), is(2, 6)], by), Summary::noted(&[is(1, 7), is(2, 6)], by));
        }
    }

    #[test]
    fn an_answer_is_read_as_notes_are_and_one_without_digests_tells_nothing() {
        let by = By::NumbersAndDigests;
        let high = 15 << (CARRIED_BITS - BUCKETS);
        let noted = Summary::noted(&[is(9, 3), is(high + 1, 4), is(high + 2, 5)], by);
        let mut answer = json!({"hits": {"total": {"value": 3}}, "aggregations": {"numbers": {"value": 12.0}, "digests": {
            "buckets": [
                {"key": 0.0, "doc_count": 1, "sum": {"value": 9.0}},
                {"key": high as f64, "doc_count": 2, "sum": {"value": (2 * high + 3) as f64}},
            ],
        }}});
        assert_eq!(Summary::answered(&answer, by), Some(noted.clone()));
        assert!(noted.tells(by));
        answer["aggregations"]["digests"]["buckets"] = json!([]);
        let found = Summary::answered(&answer, by).unwrap();
        assert!(!found.tells(by) && found != noted);
        assert_eq!(Summary::answered(&json!({"hits": {"total": {"value": 0}}}), by), None);
    }

    #[test]
    fn sums_that_a_double_does_not_hold_tell_nothing() {
        let many: Vec<Is> = (0..=MOST_DOCUMENTS).map(|number| is(1, number)).collect();
        assert!(Summary::noted(&many, By::Numbers).tells(By::Numbers));
        assert!(!Summary::noted(&many, By::NumbersAndDigests).tells(By::NumbersAndDigests));
        assert!(!Summary::noted(&[is(1, 1 << 53)], By::Numbers).tells(By::Numbers));
        const { assert!(MOST_DOCUMENTS * ((1 << CARRIED_BITS) - 1) < 1 << 53) };
    }
}
