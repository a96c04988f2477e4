//! Every kind of damage is found, with its place, and a sound archive has none.

use super::*;

fn placed(offset: i64, step: u64) -> Placed {
    let place = Place { partition: Partition(0), offset: Offset(offset) };
    Placed { place, step: Step(step), reading: Reading::Read }
}

fn commit(step: u64, to: i64, records: u64) -> Commit {
    let positions = BTreeMap::from([(Partition(0), Offset(to))]);
    Commit { note: Note { step: Step(step), positions, ..Note::default() }, records: Some(records) }
}

/// Two commits: steps 1 and 2 with offsets 0 to 2, step 3 with offsets 3 and 4.
fn found(change: impl FnOnce(&mut Vec<Commit>, &mut Vec<Placed>)) -> Vec<String> {
    let mut commits = vec![commit(2, 3, 3), commit(3, 5, 2)];
    let mut places = vec![placed(0, 1), placed(1, 1), placed(2, 2), placed(3, 3), placed(4, 3)];
    change(&mut commits, &mut places);
    places.sort_by_key(|p| (p.place, p.step));
    let last = commits.last().map(|c| c.note.clone()).unwrap_or_default();
    faults(&last, &commits, &places).shown
}

#[test]
fn a_sound_archive_has_no_fault_and_gaps_between_offsets_are_none() {
    assert_eq!(found(|_, _| {}), [""; 0]);
    assert_eq!(found(|commits, _| commits.insert(0, Commit { note: Note::default(), records: Some(0) })), [""; 0]);
    let holes = found(|commits, places| {
        places.iter_mut().for_each(|p| p.place.offset.0 *= 10);
        commits.iter_mut().for_each(|c| c.note.positions.values_mut().for_each(|to| to.0 *= 10));
    });
    assert_eq!(holes, [""; 0]);
}

#[test]
fn each_kind_of_damage_is_found_with_its_place() {
    let repeated = found(|_, places| places.push(placed(1, 3)));
    assert!(repeated[0].contains("partition 0 offset 1 is there twice, in step 1 and in step 3"), "{repeated:?}");
    let lost = found(|_, places| {
        places.remove(1);
    });
    assert_eq!(lost, ["the commit of steps (0..2] noted 3 records, and 2 are there"]);
    let beyond = found(|_, places| places.push(placed(7, 3)));
    assert!(
        beyond[0].contains("partition 0 offset 7 (step 3) is past the position that the last commit notes, 5"),
        "{beyond:?}"
    );
    let disordered = found(|_, places| (places[0].step, places[2].step) = (Step(2), Step(1)));
    assert_eq!(disordered, ["partition 0 offset 1 is in step 1, and offset 0 in step 2"]);
    let elsewhere = found(|_, places| places[3].step = Step(2));
    assert!(elsewhere.iter().any(|f| f.contains("partition 0 offset 3 (step 2) is outside")), "{elsewhere:?}");
    let back = found(|commits, _| commits.push(commit(4, 2, 0)));
    assert!(
        back.iter().any(|f| f.contains("the commit of steps (3..4] goes back from offset 5 of partition 0 to 2")),
        "{back:?}"
    );
    let unnoted = found(|commits, places| {
        places.push(placed(4, 9));
        drop(commits.pop());
    });
    assert!(
        unnoted.iter().any(|f| f.contains("partition 0 offset 4 is in step 9, which no commit notes; the last is 2"))
    );
}
