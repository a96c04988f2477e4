//! Notes of what should be against notes of what is there: what is equal, and what has to be looked at in full. Pure.
//!
//! A document is equal where one note on either side has its place and both digests are the same. Everything else is a
//! candidate only: two ids may have one place, and a note may be older than the index. Who looks again judges by the ids.

use lockstep_shared::coordinates::{Place, Step};
use rustc_hash::FxHashSet;

use super::record::{Is, Should};
use crate::diff::Younger;

/// What notes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// Documents that are as they should be.
    pub equal: u64,
    /// Documents written after the cut, and left out.
    pub younger: u64,
    /// The places to look at again.
    pub places: FxHashSet<u64>,
    /// What is there in those places, by sequence number.
    pub seq_nos: Vec<(u64, u64)>,
    /// What should be there in those places, by the record of its leftmost row.
    pub leftmost: Vec<(u64, Place)>,
}

impl Paired {
    /// Adds notes of other places.
    pub fn add(&mut self, mut should: Vec<Should>, mut is: Vec<Is>, cut: Step, younger: Younger) {
        std::thread::scope(|scope| {
            scope.spawn(|| should.sort_unstable());
            is.sort_unstable();
        });
        // A document that was read twice, before and after a pass was taken up again.
        is.dedup();
        let (mut should, mut is) = (should.as_slice(), is.as_slice());
        while let Some(place) = least(should.first().map(|s| s.place), is.first().map(|i| i.place)) {
            // Hardly ever more than one: to halve what is left would take longer than to look at the next.
            let (expected, later_should) = should.split_at(should.iter().take_while(|s| s.place == place).count());
            let (found, later_is) = is.split_at(is.iter().take_while(|i| i.place == place).count());
            (should, is) = (later_should, later_is);
            self.place(place, expected, found, (cut, younger));
        }
    }

    /// Leaves `most` places at most to be looked at; how many are not.
    pub fn limit(&mut self, most: u64) -> u64 {
        let more = (self.places.len() as u64).saturating_sub(most);
        if more > 0 {
            let few = usize::try_from(most).unwrap_or(usize::MAX);
            // The first by their hashes, which are any.
            let mut sorted: Vec<u64> = self.places.drain().collect();
            sorted.sort_unstable();
            sorted.truncate(few);
            self.places = sorted.into_iter().collect();
            self.seq_nos.retain(|(place, _)| self.places.contains(place));
            self.leftmost.retain(|(place, _)| self.places.contains(place));
        }
        more
    }

    fn place(&mut self, place: u64, expected: &[Should], found: &[Is], (cut, younger): (Step, Younger)) {
        match (expected, found) {
            ([] | [_], [one]) if one.version.step() > cut && younger == Younger::LeftOut => self.younger += 1,
            ([should], [is]) if should.digest == is.digest && is.version.step() <= cut => self.equal += 1,
            _ => {
                self.places.insert(place);
                self.seq_nos.extend(found.iter().map(|is| (place, is.seq_no)));
                self.leftmost.extend(expected.iter().map(|should| (place, should.leftmost)));
            }
        }
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::{Offset, Partition};
    use lockstep_shared::digest::Digest;
    use proptest::prelude::*;

    use super::*;

    const CUT: Step = Step(5);

    fn should(place: u64, digest: u128) -> Should {
        let leftmost = Place { partition: Partition(0), offset: Offset(place.cast_signed()) };
        Should { place, digest: Digest(digest), leftmost }
    }

    fn is(place: u64, digest: u128, step: u64, seq_no: u64) -> Is {
        Is { place, digest: Digest(digest), version: Step(step).version(), seq_no }
    }

    #[test]
    fn what_differs_is_missing_or_extra_is_looked_at_again_and_nothing_else() {
        let mut paired = Paired::default();
        let expected = vec![should(3, 3), should(1, 1), should(2, 2), should(6, 6)];
        let found = vec![is(2, 9, 1, 20), is(1, 1, 5, 10), is(4, 4, 1, 40), is(6, 7, 6, 60), is(1, 1, 5, 10)];
        paired.add(expected, found, CUT, Younger::LeftOut);
        assert_eq!((paired.equal, paired.younger), (1, 1));
        assert_eq!(paired.seq_nos, [(2, 20), (4, 40)]);
        assert_eq!(paired.places, [2, 3, 4].into_iter().collect());
        assert_eq!(
            paired.leftmost.iter().map(|(place, row)| (*place, row.offset.0)).collect::<Vec<_>>(),
            [(2, 2), (3, 3)]
        );
    }

    #[test]
    fn what_is_too_much_to_look_at_is_counted() {
        let mut paired = Paired::default();
        paired.add(
            vec![should(3, 3), should(1, 1), should(2, 2)],
            vec![is(2, 9, 1, 20), is(4, 4, 1, 40)],
            CUT,
            Younger::Judged,
        );
        assert_eq!((paired.limit(4), paired.places.len()), (0, 4));
        assert_eq!(paired.limit(2), 2);
        assert_eq!((paired.places, paired.seq_nos), ([1, 2].into_iter().collect(), vec![(2, 20)]));
    }

    #[test]
    fn with_an_exact_cut_nothing_can_be_younger() {
        let mut paired = Paired::default();
        paired.add(vec![should(1, 1)], vec![is(1, 1, 6, 10)], CUT, Younger::Judged);
        assert_eq!((paired.equal, paired.younger, paired.places.len()), (0, 0, 1));
    }

    proptest! {
        #[test]
        fn in_parts_or_at_once_the_same_is_found(
            expected in prop::collection::vec((0_u64..40, 0_u128..3), 0..60),
            found in prop::collection::vec((0_u64..40, 0_u128..3, 4_u64..7), 0..60),
            parts in 1_u64..7,
        ) {
            let expected: Vec<Should> = expected.into_iter().map(|(place, digest)| should(place, digest)).collect();
            let found: Vec<Is> =
                found.into_iter().zip(0..).map(|((place, digest, step), n)| is(place, digest, step, n)).collect();
            let mut whole = Paired::default();
            whole.add(expected.clone(), found.clone(), CUT, Younger::LeftOut);
            let mut parted = Paired::default();
            for part in 0..parts {
                let mine = |place: u64| place % parts == part;
                parted.add(
                    expected.iter().copied().filter(|s| mine(s.place)).collect(),
                    found.iter().copied().filter(|i| mine(i.place)).collect(),
                    CUT,
                    Younger::LeftOut,
                );
            }
            for paired in [&mut whole, &mut parted] {
                paired.seq_nos.sort_unstable();
                paired.leftmost.sort_unstable();
            }
            prop_assert_eq!(whole, parted);
        }
    }
}
