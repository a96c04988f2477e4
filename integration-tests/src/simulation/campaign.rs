//! Many schedules on every core, until one fails or the time is up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::schedule::Schedule;
use super::shrink::shrink;
use super::witness::Failure;
use super::{Ended, recompute, run};

/// Of so many schedules, one is run twice: both runs must leave the same trace.
const RUN_TWICE_OF: u64 = 64;
/// Of so many schedules, one is recomputed by Polars, which takes a hundred times as long as the run.
pub const RECOMPUTED_OF: u64 = 20_000;

/// What was run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Schedules.
    pub schedules: u64,
    /// Their events.
    pub events: u64,
    /// Those of their events that are faults.
    pub faults: u64,
    /// Starts of a process.
    pub starts: u64,
    /// Exact cuts at which everything was compared.
    pub cuts: u64,
    /// Runs recomputed by Polars.
    pub recomputed: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.faults += other.faults;
        self.starts += other.starts;
        self.cuts += other.cuts;
        self.recomputed += other.recomputed;
    }
}

/// A schedule that broke a law, shrunk.
#[derive(Debug)]
pub struct Found {
    /// Its number; for a random one its seed.
    pub number: u64,
    /// Schedules run before it.
    pub before: u64,
    /// The smallest schedule found that still fails.
    pub schedule: Schedule,
    /// How it fails.
    pub failure: Failure,
}

/// Runs a schedule and holds it against every judge that is due for its number.
///
/// # Errors
/// The law that is broken.
pub fn judge(number: u64, schedule: &Schedule) -> Result<Ended, Failure> {
    let ended = run(schedule)?;
    if number.is_multiple_of(RUN_TWICE_OF) {
        let again = run(schedule)?;
        if again.trace != ended.trace {
            let what = format!("the same schedule left the traces {:?} and {:?}", ended.trace, again.trace);
            return Err(Failure::new("determinism", what));
        }
    }
    if number % RECOMPUTED_OF == 1 {
        recompute::agrees(&ended)?;
    }
    Ok(ended)
}

/// Runs the schedules of the numbers from `first` on, until there is none, the time is up, or one fails.
///
/// # Errors
/// The first that failed.
pub fn campaign(
    first: u64,
    time: Duration,
    schedule: &(dyn Fn(u64) -> Option<Schedule> + Sync),
) -> Result<Tally, Box<Found>> {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let found: Mutex<Option<(u64, Schedule, Failure)>> = Mutex::new(None);
    let begin = Instant::now();
    let work = || {
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) && begin.elapsed() < time {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(schedule) = schedule(number) else { break };
            match judge(number, &schedule) {
                Ok(ended) => tally.add(of_one(number, &schedule, &ended)),
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    if let Ok(mut found) = found.lock() {
                        found.get_or_insert((number, schedule, failure));
                    }
                }
            }
        }
        tally
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).for_each(|done| tally.add(done));
    });
    match found.into_inner().ok().flatten() {
        None => Ok(tally),
        Some((number, schedule, failure)) => {
            let (schedule, failure) = shrink(schedule, failure, &|schedule| judge(number, schedule).err());
            Err(Box::new(Found { number, before: tally.schedules, schedule, failure }))
        }
    }
}

fn of_one(number: u64, schedule: &Schedule, ended: &Ended) -> Tally {
    Tally {
        schedules: 1,
        events: schedule.events.len() as u64,
        faults: schedule.events.iter().filter(|event| event.is_fault()).count() as u64,
        starts: ended.trace.starts,
        cuts: ended.trace.cuts,
        recomputed: u64::from(number % RECOMPUTED_OF == 1),
    }
}
