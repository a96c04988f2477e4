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

/// The end of one partition's log, and how far it has been read.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// Where the log ends; `None` before it was asked.
    offset: Option<Offset>,
    /// How far the log has been read, with what is no record.
    read_to: Option<Offset>,
    /// Where the reader stood when it was told that there is nothing more; `None` when more has come since.
    stood: Option<Offset>,
}

/// The ends of all logs, as far as they are known.
#[derive(Debug, Default)]
pub struct Ends(Mutex<BTreeMap<Channel, End>>);

impl Ends {
    /// The log of a partition ends here now.
    pub(super) fn found(&self, channel: Channel, offset: Offset) {
        self.lock().entry(channel).or_default().offset = Some(offset);
    }

    /// The log has been read up to here.
    pub(super) fn read_to(&self, channel: Channel, offset: Offset) {
        self.lock().entry(channel).or_default().read_to = Some(offset);
    }

    /// The reader stands at this position and has been told that there is nothing after it.
    pub(super) fn reached(&self, channel: Channel, position: Offset) {
        self.lock().entry(channel).or_default().stood = Some(position);
    }

    /// The reader has got more.
    pub(super) fn moved(&self, channel: Channel) {
        self.lock().entry(channel).or_default().stood = None;
    }

    /// How far the log of a partition goes on after a position, in offsets; `None` where its end is not known yet.
    #[must_use]
    pub fn behind(&self, channel: Channel, position: Offset) -> Option<u64> {
        let End { offset, read_to, stood } = *self.lock().get(&channel)?;
        let end = offset?;
        let nothing_but_marks = stood.is_some_and(|stood| position >= stood) && read_to >= Some(end);
        if nothing_but_marks { Some(0) } else { Some(u64::try_from(end.0 - position.0).unwrap_or(0)) }
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
        assert_eq!(ends.behind(channel, Offset(9)), Some(1), "nobody has said yet that the log was read to its end");
        ends.read_to(channel, Offset(10));
        assert_eq!([Offset(8), Offset(9)].map(|position| ends.behind(channel, position)), [Some(2), Some(0)]);
        ends.found(channel, Offset(13));
        assert_eq!(ends.behind(channel, Offset(9)), Some(4));
        // Two more are fetched, and wait to be taken.
        ends.read_to(channel, Offset(13));
        ends.moved(channel);
        assert_eq!(ends.behind(channel, Offset(10)), Some(3));
        ends.reached(channel, Offset(12));
        assert_eq!([Offset(10), Offset(12)].map(|position| ends.behind(channel, position)), [Some(3), Some(0)]);
    }
}
