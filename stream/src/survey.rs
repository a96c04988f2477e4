//! What is not known after a lost journal: which documents the steps that were lost have left in the index. Pure.
//!
//! The lost steps took their records in an order that nobody knows any more. In another order other documents come and
//! go, so no replay tells which of them the index holds. Their versions do: every document of a lost step that no later
//! step has written again has a version between the last archived step and the new epoch. So once everything that
//! the lost steps can have read is taken again, the index is searched for such versions, and each document found is
//! written as it is, or deleted where it is none.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_shared::coordinates::{Channel, Offset, Step, TableId};
use lockstep_shared::identity::DocumentId;

/// Documents of the steps after one and up to and with another are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The last step before those that were lost.
    pub after: Step,
    /// The last step before those of this epoch.
    pub upto: Step,
}

impl Survey {
    /// Whether a document of this step is one of a lost step.
    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        step > self.after && step <= self.upto
    }
}

/// A document, by the number of its sink.
pub type Surveyed = (usize, DocumentId);

/// How far the search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What the lost steps can have read is not all taken again.
    CatchingUp,
    /// The index is being searched.
    Searching,
    /// What was found is written at this step.
    Settling(Step),
}

/// The uncertainty after a lost journal, until it is over.
#[derive(Debug)]
pub struct Uncertainty {
    survey: Survey,
    stage: Stage,
    /// Partitions that are there, and where the records of each ended when its source had come to the end of its log.
    ends: BTreeMap<Channel, Option<Offset>>,
}

impl Uncertainty {
    /// Steps after this one were lost; the ones of this life are after `upto`.
    #[must_use]
    pub fn new(after: Step, upto: Step) -> Self {
        Self { survey: Survey { after, upto }, stage: Stage::CatchingUp, ends: BTreeMap::new() }
    }

    /// The last step before those that were lost.
    #[must_use]
    pub fn after(&self) -> Step {
        self.survey.after
    }

    /// Whether lost records are still taken again: steps say then what they touch, also if it ends as it began.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.stage == Stage::CatchingUp
    }

    /// A partition is there.
    pub fn partition_found(&mut self, channel: Channel) {
        self.ends.entry(channel).or_default();
    }

    /// The source has come to the end of the log; its last record is before this.
    pub fn caught_up(&mut self, channel: Channel, end: Offset) {
        self.ends.entry(channel).or_default().get_or_insert(end);
    }

    /// The search, when it is due: every table is there, and every partition is taken up to its end.
    pub fn due(&mut self, tables: usize, positions: &BTreeMap<Channel, Offset>) -> Option<Survey> {
        let found: BTreeSet<TableId> = self.ends.keys().map(|channel| channel.table).collect();
        let passed = |(channel, end): (&Channel, &Option<Offset>)| {
            end.is_some_and(|end| positions.get(channel).is_some_and(|position| *position >= end))
        };
        let is_due = self.is_catching_up() && found.len() == tables && self.ends.iter().all(passed);
        is_due.then(|| {
            self.stage = Stage::Searching;
            self.survey
        })
    }

    /// What was found is written at this step.
    pub fn settle(&mut self, step: Step) {
        self.stage = Stage::Settling(step);
    }

    /// Whether it is over once the index has everything up to the step.
    #[must_use]
    pub fn is_over(&self, acknowledged: Step) -> bool {
        matches!(self.stage, Stage::Settling(step) if step <= acknowledged)
    }
}
