//! Where the logs end now, so that it is known how far behind the stream is.
//!
//! Each table's ends are asked for on a thread of its own: a reading thread that waits for room in the queue cannot ask, and
//! a slow index is just when the answer matters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_shared::coordinates::{Channel, Offset, Partition};

/// How often a log is asked where it ends.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The end of one partition's log.
#[derive(Clone, Copy, Debug)]
struct End {
    offset: Offset,
    /// Where the reader stood when it had everything up to `offset`: past the last record of a transactional topic there is
    /// one that nobody reads.
    settled: Option<Offset>,
}

/// The ends of all logs, as far as they are known.
#[derive(Debug, Default)]
pub struct Ends(Mutex<BTreeMap<Channel, End>>);

impl Ends {
    /// The log of a partition ends here now.
    pub(super) fn found(&self, channel: Channel, offset: Offset) {
        let mut ends = self.lock();
        let end = ends.entry(channel).or_insert(End { offset, settled: None });
        if offset != end.offset {
            *end = End { offset, settled: None };
        }
    }

    /// The reader stands at this position and has been told that there is nothing after it.
    pub(super) fn reached(&self, channel: Channel, position: Offset) {
        let mut ends = self.lock();
        let end = ends.entry(channel).or_insert(End { offset: position, settled: None });
        end.offset = end.offset.max(position);
        end.settled = Some(position);
    }

    /// How far the log of a partition goes on after a position, in offsets; `None` where its end is not known yet.
    #[must_use]
    pub fn behind(&self, channel: Channel, position: Offset) -> Option<u64> {
        let end = *self.lock().get(&channel)?;
        if end.settled.is_some_and(|settled| position >= settled) {
            return Some(0);
        }
        Some(u64::try_from(end.offset.0 - position.0).unwrap_or(0))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Channel, End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where each partition of a log ends.
pub(super) type Found = BTreeMap<Partition, Offset>;

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::TableId;

    use super::*;

    #[test]
    fn behind_is_the_distance_to_the_end_and_zero_after_what_nobody_reads() {
        let (ends, channel) = (Ends::default(), Channel { table: TableId(0), partition: Partition(0) });
        assert_eq!(ends.behind(channel, Offset(0)), None);
        ends.found(channel, Offset(10));
        assert_eq!(ends.behind(channel, Offset(4)), Some(6));
        // Offset 9 is the end of a transaction.
        ends.reached(channel, Offset(9));
        ends.found(channel, Offset(10));
        assert_eq!([Offset(8), Offset(9)].map(|position| ends.behind(channel, position)), [Some(2), Some(0)]);
        ends.found(channel, Offset(12));
        assert_eq!(ends.behind(channel, Offset(9)), Some(3));
    }
}
