//! Simulated schedules by hand: replays one by its seed or file and shows it as a table, or runs as many as there is time.
//!
//! ```text
//! cargo replay 4711                               the random schedule of this seed
//! cargo replay 4711 --save torn-note              saves it, shrunk if it fails, under fixtures/scenarios/
//! cargo replay fixtures/scenarios/torn-note.json  a saved one
//! simulate soak --minutes 60                      random schedules, then every order of twelve records
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lockstep_integration_tests::simulation::campaign::{Found, Tally, campaign, judge};
use lockstep_integration_tests::simulation::schedule::Schedule;
use lockstep_integration_tests::simulation::shrink::shrink;
use lockstep_integration_tests::simulation::{exhaustive, scenario};

#[derive(Parser)]
#[command(about = "Runs the production core in a simulated world with faults")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one schedule and shows it
    Replay {
        /// A seed, or the file of a saved schedule
        schedule: String,
        /// Events of a random schedule
        #[arg(long, default_value_t = 20)]
        events: usize,
        /// Save the schedule under this name; every test run runs it then
        #[arg(long)]
        save: Option<String>,
    },
    /// Runs random schedules for a time, then every order of a few records with a crash at every boundary
    Soak {
        /// How long random schedules are run
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// The first seed; without it a new one every day
        #[arg(long)]
        seed: Option<u64>,
        /// Events of a random schedule
        #[arg(long, default_value_t = 20)]
        events: usize,
        /// Records that arrive in every order
        #[arg(long, default_value_t = 12)]
        records: usize,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Replay { schedule, events, save } => replay(&schedule, events, save.as_deref()),
        Command::Soak { minutes, seed, events, records } => {
            let first = seed.unwrap_or_else(scenario::seed_of_today);
            let minutes = Duration::from_secs(minutes * 60);
            Ok(if random(first, minutes, events) && every_order(records) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

fn replay(which: &str, events: usize, save: Option<&str>) -> Result<ExitCode> {
    let mut schedule = match which.parse::<u64>() {
        Ok(seed) => Schedule::draw(seed, events),
        Err(_) => scenario::read(Path::new(which)).context("neither a seed nor the file of a schedule")?,
    };
    // Number 1 has every judge.
    let outcome = judge(1, &schedule).err();
    let failed = outcome.is_some();
    match outcome {
        None => print!("every law holds\n{schedule}"),
        Some(failure) => {
            println!("{failure}\n{schedule}");
            let (small, failure) = shrink(schedule, failure, &|schedule| judge(1, schedule).err());
            print!("shrunk to {} events: {failure}\n{small}", small.events.len());
            schedule = small;
        }
    }
    if let Some(name) = save {
        println!("saved as {}", scenario::save(name, &schedule)?.display());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn random(first: u64, time: Duration, events: usize) -> bool {
    println!("random schedules of {events} events, the first seed is {first}");
    let begin = Instant::now();
    shown(campaign(first, time, &|seed| Some(Schedule::draw(seed, events))), begin)
}

fn every_order(records: usize) -> bool {
    exhaustive::shapes().iter().all(|shape| {
        let (count, schedule) = exhaustive::all(shape, records);
        println!("{count} schedules: every order of {records} records, with a crash at every boundary");
        let begin = Instant::now();
        shown(campaign(0, Duration::MAX, &schedule), begin)
    })
}

fn shown(outcome: Result<Tally, Box<Found>>, begin: Instant) -> bool {
    let seconds = begin.elapsed().as_secs_f64();
    match outcome {
        Ok(tally) => println!("{tally}; {:.0} schedules a second", tally.schedules as f64 / seconds.max(0.001)),
        Err(found) => {
            println!("{found}");
            return false;
        }
    }
    true
}
