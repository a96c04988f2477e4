//! The reconciles: at exact cuts, whatever is under way, and after everything has come to rest; by batch's own comparison
//! and repair.

use lockstep_batch::diff::{Compared, Comparison, Younger};
use lockstep_batch::repair::{Stage, plan};
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::scan::Found;
use lockstep_shared::plan::{Pipeline, Sink};

use super::index::Index;
use super::witness::{Documents, Failure, Witness};
use super::world::World;

/// L7: at an exact cut only dead letters differ, and no document is left out.
///
/// # Errors
/// L7, where that is not so.
pub fn finds_dead_letters_only(
    pipeline: &Pipeline,
    expected: &[Documents],
    witness: &Witness,
    (cut, world): (Step, &World),
) -> Result<(), Failure> {
    for (number, (sink, expected)) in pipeline.sinks.iter().zip(expected).enumerate() {
        let compared = compare(sink, cut, Younger::Judged, expected, &world.indexes[number])?;
        are_letters(&compared, number, sink, witness)?;
    }
    Ok(())
}

fn are_letters(compared: &Compared, number: usize, sink: &Sink, witness: &Witness) -> Result<(), Failure> {
    let mut others = compared.differences.iter().filter(|difference| !witness.is_letter(number, &difference.id()));
    let failure = |difference| Failure::new("L7", format!("{} differs without a cause: {difference:?}", sink.name));
    others.next().map_or(Ok(()), |difference| Err(failure(difference)))
}

/// L7: what differs are dead letters; they are repaired, and then nothing differs.
///
/// # Errors
/// L7, where that is not so.
pub fn finds_and_repairs_dead_letters_only(
    pipeline: &Pipeline,
    expected: &[Documents],
    witness: &Witness,
    world: &mut World,
) -> Result<(), Failure> {
    let cut = world.last_archived();
    for (number, (sink, expected)) in pipeline.sinks.iter().zip(expected).enumerate() {
        let index = &mut world.indexes[number];
        let compared = compare(sink, cut, Younger::LeftOut, expected, index)?;
        are_letters(&compared, number, sink, witness)?;
        for stage in plan(sink, cut, &compared.differences) {
            match stage {
                Stage::Write(operations) => drop(index.write(&operations)),
                beyond => {
                    return Err(Failure::new("L7", format!("{} has versions beyond the log: {beyond:?}", sink.name)));
                }
            }
        }
        let compared = compare(sink, cut, Younger::LeftOut, expected, index)?;
        if let Some(difference) = compared.differences.first() {
            return Err(Failure::new("L7", format!("{} differs after its repair: {difference:?}", sink.name)));
        }
    }
    Ok(())
}

fn compare(sink: &Sink, cut: Step, younger: Younger, expected: &Documents, index: &Index) -> Result<Compared, Failure> {
    let mut comparison = Comparison::new(sink, cut, younger, expected.clone().into_iter().collect());
    for (id, held) in &index.held {
        let Some(source) = &held.source else { continue };
        let source = serde_json::from_slice(source)
            .map_err(|error| Failure::new("L7", format!("{id} of {} is not JSON: {error}", sink.name)))?;
        let (id, version, seq_no) = (id.0.to_string(), held.version, held.seq_no);
        comparison.take(Found { id, version, seq_no, primary_term: 1, source });
    }
    let compared = comparison.finish();
    match compared.younger {
        0 => Ok(compared),
        younger => Err(Failure::new("L7", format!("{younger} documents of {} are younger than the log", sink.name))),
    }
}
