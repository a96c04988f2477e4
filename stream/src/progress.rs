//! What is done: which steps the archive and the index have, and so which offsets may be committed. Pure.

use std::collections::VecDeque;

use lockstep_shared::coordinates::{Channel, Offset, Step};

/// Where partitions stand after a step.
pub type Positions = Vec<(Channel, Offset)>;

/// How far archive and index are.
#[derive(Debug)]
pub struct Progress {
    archived: Step,
    acknowledged: Step,
    taken: VecDeque<(Step, Positions)>,
}

impl Progress {
    /// Begins where the last run ended.
    #[must_use]
    pub fn new(archived: Step, acknowledged: Step) -> Self {
        Self { archived, acknowledged, taken: VecDeque::new() }
    }

    /// The last step that every table's archive has.
    #[must_use]
    pub fn archived(&self) -> Step {
        self.archived
    }

    /// The last step that every sink has.
    #[must_use]
    pub fn acknowledged(&self) -> Step {
        self.acknowledged
    }

    /// A step is under way; partitions stand at these positions after it. Steps come in ascending order.
    pub fn take(&mut self, step: Step, positions: Positions) {
        self.taken.push_back((step, positions));
    }

    /// Every table's archive has everything up to the step. Gives the positions that may be committed now.
    pub fn archive(&mut self, step: Step) -> Positions {
        self.archived = step;
        self.committable()
    }

    /// Every sink has everything up to the step. Gives the positions that may be committed now.
    pub fn acknowledge(&mut self, step: Step) -> Positions {
        self.acknowledged = self.acknowledged.max(step);
        self.committable()
    }

    /// Offsets are committed only up to the step that both the archive and the index have.
    fn committable(&mut self) -> Positions {
        let both = self.archived.min(self.acknowledged);
        let done = self.taken.partition_point(|(step, _)| *step <= both);
        self.taken.drain(..done).flat_map(|(_, positions)| positions).collect()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_shared::coordinates::{Partition, TableId};

    use super::*;

    #[test]
    fn l5_offsets_are_committed_when_archive_and_index_both_have_their_step() {
        let at = |offset| vec![(Channel { table: TableId(0), partition: Partition(0) }, Offset(offset))];
        let mut progress = Progress::new(Step(4), Step(4));
        progress.take(Step(5), at(50));
        progress.take(Step(6), at(60));
        assert_eq!(progress.archive(Step(6)), []);
        assert_eq!(progress.acknowledge(Step(5)), at(50));
        assert_eq!(progress.acknowledge(Step(6)), at(60));
    }
}
