//! The canaries: known-wrong variants of the program, each of which the simulator must find. `integration-tests/canaries/run`
//! puts this file and the variants into a copy of the sources; no other build knows them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use lockstep_integration_tests::simulation::campaign::judge;
use lockstep_integration_tests::simulation::scenario;
use lockstep_integration_tests::simulation::schedule::Schedule;

use lockstep_integration_tests::simulation::shrink::shrink;
use lockstep_integration_tests::variable;
use lockstep_shared::canary::sing;

/// The variants, as `canaries.patch` spells them.
const PATCH: &str = include_str!("../canaries/canaries.patch");
/// Fewest variants that there are to be.
const FEWEST: usize = 40;
/// Most random schedules that one may take. What they do not find, a saved one does: some variants need a dozen events in
/// one order, which chance gives once in a million.
const MOST_RANDOM: usize = 100_000;
/// Longest that random ones may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Events of a schedule: more than elsewhere, since some variants need much to happen.
const EVENTS: usize = 40;
/// Most events of the median shrunk failure.
const MEDIAN_EVENTS: usize = 8;

/// How a variant was found.
struct Caught {
    name: &'static str,
    schedules: u64,
    events: usize,
    law: &'static str,
    shrinking: Duration,
}

fn names() -> Vec<&'static str> {
    let names = PATCH.lines().filter(|line| line.starts_with('+')).flat_map(|line| line.split("sings(\"").skip(1));
    names.filter_map(|rest| rest.split('"').next()).collect()
}

fn catch(name: &'static str, first: u64, scenarios: &[Schedule]) -> Option<Caught> {
    sing(name);
    let begin = Instant::now();
    let random = (first..).map(|seed| Schedule::draw(seed, EVENTS)).take_while(|_| begin.elapsed() < LONGEST);
    let mut all = (1..).zip(random.take(MOST_RANDOM).chain(scenarios.iter().cloned()));
    let (schedules, schedule, failure) = all.find_map(|(count, schedule)| {
        let failure = judge(count, &schedule).err()?;
        Some((count, schedule, failure))
    })?;
    let begin = Instant::now();
    let (small, failure) = shrink(schedule, failure, &|schedule| judge(1, schedule).err());
    Some(Caught { name, schedules, events: small.events.len(), law: failure.law, shrinking: begin.elapsed() })
}

#[test]
fn every_canary_is_caught_and_its_failure_is_small() {
    let names = names();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "each variant has a name of its own");
    assert!(names.len() >= FEWEST, "{} variants", names.len());
    let first = variable("LOCKSTEP_SIMULATION_SEED").map_or_else(scenario::seed_of_today, |seed| seed.parse().unwrap());
    println!("the first seed is {first}");
    let (next, caught, missed) = (Mutex::new(names.iter()), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let scenarios: Vec<Schedule> = scenario::all().unwrap().into_iter().map(|(_, schedule)| schedule).collect();
    let work = || {
        loop {
            let Some(name) = next.lock().unwrap().next() else { break };
            match catch(name, first, &scenarios) {
                Some(one) => {
                    println!("{name}: caught after {} schedules", one.schedules);
                    caught.lock().unwrap().push(one);
                }
                None => {
                    println!("{name}: NOT CAUGHT");
                    missed.lock().unwrap().push(*name);
                }
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    let mut caught = caught.into_inner().unwrap();
    caught.sort_by_key(|one| one.schedules);
    println!("| canary | broken law | schedules | events, shrunk | shrinking |\n|---|---|---|---|---|");
    for Caught { name, schedules, events, law, shrinking } in &caught {
        println!("| {name} | {law} | {schedules} | {events} | {} ms |", shrinking.as_millis());
    }
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
    let mut events: Vec<usize> = caught.iter().map(|one| one.events).collect();
    events.sort_unstable();
    let median = events[events.len() / 2];
    println!("{} canaries, the median shrunk failure has {median} events", caught.len());
    assert!(median <= MEDIAN_EVENTS, "the median shrunk failure has {median} events");
}

#[test]
fn without_a_canary_every_law_holds() {
    sing("");
    let first = scenario::seed_of_today();
    for seed in first..first + 2_000 {
        if let Err(failure) = judge(seed, &Schedule::draw(seed, EVENTS)) {
            panic!("seed {seed}: {failure}");
        }
    }
}
