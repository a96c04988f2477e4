//! Whether archive and journal go together: every step that the archive lacks is in the journal, and each of them takes
//! up each partition exactly where the one before it left off. Pure.
//!
//! Where it is not so, one of them is lost or somebody else's. Going on would skip records, so it is refused.

use std::collections::BTreeMap;

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::{Offset, OffsetRange, Partition, Step};
use lockstep_shared::plan::Pipeline;

use crate::journal::{Boundary, Recorded, Taken};

/// Records between archive and journal, or between two steps of the journal, are in neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// Steps.
    #[error(
        "the archive ends with step {archived} and the journal goes on with step {journaled}: the steps between are lost. \
         Put back the archive that belongs to this journal, or move the journal away to begin a new epoch from the archive"
    )]
    Steps {
        /// The last step that is there before the gap.
        archived: Step,
        /// The step after it.
        journaled: Step,
    },
    /// Offsets.
    #[error(
        "table {table}, partition {partition}: step {step} of the journal takes {range}, and what is before it ends at {position}. \
         Put back the archive that belongs to this journal, or move the journal away to begin a new epoch from the archive"
    )]
    Offsets {
        /// The table.
        table: String,
        /// The partition.
        partition: Partition,
        /// The step.
        step: Step,
        /// What it takes.
        range: OffsetRange,
        /// Where it should begin.
        position: Offset,
    },
}

/// Checks the last note of each table against the journal.
///
/// # Errors
/// With the first gap.
pub fn check(pipeline: &Pipeline, notes: &[Option<Note>], recorded: Option<&Recorded>) -> Result<(), Gap> {
    // A lost journal says nothing that could be wrong, and a table that the program has gained is where the others are.
    let Some(recorded) = recorded else { return Ok(()) };
    let archived = notes.iter().flatten().map(|note| note.step).min().unwrap_or_default();
    let noted = |table: usize| notes[table].clone().unwrap_or(Note { step: archived, ..Note::default() });
    let mut before = archived;
    let mut positions: BTreeMap<(usize, Partition), Offset> = BTreeMap::new();
    for Boundary { step, taken } in recorded.steps.iter().filter(|boundary| boundary.step > archived) {
        if *step != before.next() {
            return Err(Gap::Steps { archived: before, journaled: *step });
        }
        before = *step;
        for Taken { table, partition, range } in taken {
            let Some(number) = pipeline.tables.iter().position(|t| t.name == *table) else { continue };
            let note = noted(number);
            // A table that is ahead of the others has this step already.
            if note.step >= *step {
                continue;
            }
            let known = positions.insert((number, *partition), range.to);
            let known = known.or_else(|| note.positions.get(partition).copied());
            if let Some(position) = known.filter(|position| *position != range.from) {
                let (table, partition, range) = (table.clone(), *partition, *range);
                return Err(Gap::Offsets { table, partition, step: *step, range, position });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_shared::plan::Table;

    use super::*;

    fn pipeline() -> Pipeline {
        let table = |name: &str| Table { name: name.into(), columns: vec![], key: vec![], options: BTreeMap::new() };
        Pipeline { tables: vec![table("a"), table("b")], sinks: vec![], settings: BTreeMap::new(), text: String::new() }
    }

    fn note(step: Step, to: i64) -> Option<Note> {
        let positions = BTreeMap::from([(Partition(0), Offset(to))]);
        Some(Note { step, positions, ..Note::default() })
    }

    fn boundary(step: Step, table: &str, from: i64, to: i64) -> Boundary {
        let range = OffsetRange { from: Offset(from), to: Offset(to) };
        Boundary { step, taken: vec![Taken { table: table.into(), partition: Partition(0), range }] }
    }

    fn checked(notes: &[Option<Note>], steps: Vec<Boundary>) -> Result<(), Gap> {
        check(&pipeline(), notes, Some(&Recorded { steps, acknowledged: Step::ZERO }))
    }

    #[test]
    fn a_journal_that_goes_on_where_the_archive_ends_is_sound() {
        let notes = [note(Step(4), 10), note(Step(6), 10)];
        let steps = vec![
            boundary(Step(4), "a", 0, 10),
            boundary(Step(5), "a", 10, 12),
            boundary(Step(6), "b", 8, 10),
            boundary(Step(7), "a", 12, 13),
            boundary(Step(8), "b", 10, 11),
        ];
        assert_eq!(checked(&notes, steps), Ok(()));
        let gained = [note(Step(4), 10), None];
        assert_eq!(checked(&gained, vec![boundary(Step(5), "b", 0, 3), boundary(Step(6), "b", 3, 4)]), Ok(()));
        assert_eq!(check(&pipeline(), &notes, None), Ok(()));
    }

    #[test]
    fn what_neither_archive_nor_journal_has_is_named() {
        let notes = [note(Step(4), 10), note(Step(4), 10)];
        let skipped = checked(&notes, vec![boundary(Step(6), "a", 10, 12)]).unwrap_err();
        assert_eq!(skipped, Gap::Steps { archived: Step(4), journaled: Step(6) });
        let later = checked(&notes, vec![boundary(Step(5), "a", 11, 12)]).unwrap_err().to_string();
        assert!(later.contains("table a, partition 0: step 5 of the journal takes [11..12)"), "{later}");
        let torn = vec![boundary(Step(5), "a", 10, 12), boundary(Step(6), "a", 13, 14)];
        assert!(matches!(checked(&notes, torn), Err(Gap::Offsets { step: Step(6), position: Offset(12), .. })));
        let nothing = checked(&[None, None], vec![boundary(Step(57), "a", 9, 10)]);
        assert_eq!(nothing, Err(Gap::Steps { archived: Step(0), journaled: Step(57) }));
    }
}
