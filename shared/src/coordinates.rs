//! Where a record stands: table, partition, offset and step, each a type of its own so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a source table in [`crate::plan::Pipeline::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub usize);

/// Partition of a topic; a file log of one file is partition 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// Offset of a record in its partition; in a file log the byte position of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// Number of a step. Steps are totally ordered; `Step(0)` is the empty state.
///
/// The epoch stands in the high bits, so that a step cut after a lost journal is later than every step before it.
/// It also gives the [`Version`] of every document that it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub u64);

/// Bits of a step that count within one epoch: 10^12 steps, 3,000 years at ten a second.
const STEP_BITS: u32 = 40;

impl Step {
    /// The state before any record.
    pub const ZERO: Self = Self(0);

    /// The step after this one, in the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The epoch that this step belongs to; the first is 0.
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.0 >> STEP_BITS
    }

    /// The last step before those of this step's epoch.
    #[must_use]
    pub fn beginning_of_epoch(self) -> Self {
        Self(self.epoch() << STEP_BITS)
    }

    /// The last step before the epoch that follows this step's.
    #[must_use]
    pub fn end_of_epoch(self) -> Self {
        Self((self.epoch() + 1) << STEP_BITS)
    }
}

/// Bits of a version below its step: room for a thousand edits by hand between two steps.
const EDIT_BITS: u32 = 10;

/// External version of a document. A step's writes carry [`Step::version`]; whoever edits a document by hand adds one,
/// and what repairs it writes [`Step::last_version`], which is above such edits and below the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Step {
    /// The version at which the step writes documents.
    #[must_use]
    pub fn version(self) -> Version {
        Version(self.0 << EDIT_BITS)
    }

    /// The last version before the next step's.
    #[must_use]
    pub fn last_version(self) -> Version {
        Version(self.version().0 | ((1 << EDIT_BITS) - 1))
    }
}

impl Version {
    /// The step that wrote the document, where nobody else did.
    #[must_use]
    pub fn step(self) -> Step {
        Step(self.0 >> EDIT_BITS)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch() {
            0 => write!(f, "{}", self.0),
            epoch => write!(f, "{epoch}.{}", self.0 & ((1 << STEP_BITS) - 1)),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of offsets of one partition. Offsets inside may be missing (transactions, compaction).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    /// First offset inside.
    pub from: Offset,
    /// First offset after.
    pub to: Offset,
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{})", self.from, self.to)
    }
}

/// One partition of one source table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Channel {
    /// The source table.
    pub table: TableId,
    /// The partition of its topic.
    pub partition: Partition,
}

/// Where a row of an append table came from: its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The partition of the record.
    pub partition: Partition,
    /// The offset of the record.
    pub offset: Offset,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_is_later_than_every_step_before_it() {
        let step = Step(41);
        assert!(step.end_of_epoch() > step);
        assert_eq!(step.end_of_epoch().next().to_string(), "1.1");
        assert_eq!(step.end_of_epoch().next().beginning_of_epoch(), step.end_of_epoch());
        assert_eq!(step.to_string(), "41");
        assert!(step.version() < step.last_version() && step.last_version() < step.next().version());
        assert_eq!(step.last_version().step(), step);
    }
}
