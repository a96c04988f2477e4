//! The laws under faults, in a simulated world: random schedules, every order of a few records with a crash at every
//! boundary, and the schedules that were found once.

use std::time::Duration;

use lockstep_integration_tests::simulation::campaign::{Found, Tally, campaign, judge};
use lockstep_integration_tests::simulation::schedule::Schedule;
use lockstep_integration_tests::simulation::{exhaustive, repair, scenario};
use lockstep_integration_tests::variable;

/// Events of a random schedule.
const EVENTS: usize = 20;
/// How long random schedules are run; `integration-tests/run` asks for a minute.
const SECONDS: u64 = 5;
/// Random schedules whose archives Polars reads.
const RECOMPUTED: u64 = 40;
/// Live writes that interleave with a repair.
const LIVE_WRITES: usize = 4;
/// Records that arrive in every order. The soak takes twelve.
const RECORDS: usize = 6;

fn kept(outcome: Result<Tally, Box<Found>>) -> Tally {
    match outcome {
        Ok(tally) => tally,
        Err(found) => panic!("{found}"),
    }
}

#[test]
fn random_schedules_keep_the_laws() {
    let number = |name: &str, otherwise: u64| variable(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let seconds = number("LOCKSTEP_SIMULATION_SECONDS", SECONDS);
    // A new minute every day, so that runs do not all look at the same schedules.
    let first = number("LOCKSTEP_SIMULATION_SEED", scenario::seed_of_today());
    println!("the first seed is {first}");
    let tally = kept(campaign(first, Duration::from_secs(seconds), &|seed| Some(Schedule::draw(seed, EVENTS))));
    println!("{tally}");
    assert!(tally.schedules > seconds * 100, "{tally}");
}

#[test]
fn l8_polars_gives_what_the_definition_says_at_once_in_parts_and_by_what_changed() {
    let first = scenario::seed_of_today();
    println!("the first seed is {first}");
    for seed in first..first + RECOMPUTED {
        let schedule = Schedule::draw(seed, EVENTS);
        // Number 1 has every judge.
        if let Err(failure) = judge(1, &schedule) {
            panic!("seed {seed}: {failure}\n{schedule}\ncargo replay {seed}");
        }
    }
}

#[test]
fn every_order_of_a_few_records_keeps_the_laws_with_a_crash_at_every_boundary() {
    for shape in exhaustive::shapes() {
        let (count, schedule) = exhaustive::all(&shape, RECORDS);
        let tally = kept(campaign(0, Duration::from_secs(600), &schedule));
        println!("{tally}");
        assert_eq!(tally.schedules, count);
    }
}

#[test]
fn the_schedules_that_were_found_once_keep_the_laws() {
    let scenarios = scenario::all().expect("the scenarios can be read");
    assert!(!scenarios.is_empty());
    for (name, schedule) in scenarios {
        // Number 1 has every judge.
        if let Err(failure) = judge(1, &schedule) {
            panic!("{name}: {failure}\n{schedule}");
        }
    }
}

#[test]
fn l6_a_repair_and_live_writes_to_its_document_end_in_what_the_log_says_in_every_order() {
    for kind in repair::KINDS {
        match repair::explore(kind, LIVE_WRITES, None) {
            Ok(explored) => println!("{kind:?}: {explored} orders"),
            Err(order) => panic!("{order}"),
        }
    }
}

#[test]
fn every_wrong_variant_of_the_repair_is_found() {
    for wrong in repair::WRONG {
        let found = repair::KINDS.into_iter().find_map(|kind| repair::explore(kind, LIVE_WRITES, Some(wrong)).err());
        println!("{wrong:?}: {}", found.unwrap_or_else(|| panic!("nothing shows that {wrong:?} is wrong")));
    }
}
