//! The corruption suite for a night: damages at random until there were so many, on both cores, and the confusion table.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use lockstep_integration_tests::corruption::confusion;
use lockstep_integration_tests::corruption::suite::{Tally, round};

/// Wrong ones that are spelled out.
const SHOWN: usize = 100;
/// Rounds between two additions to what all threads share.
const ROUNDS: u64 = 50;

/// Damages an index in memory at random, and has it found, named and repaired.
#[derive(Parser)]
struct Arguments {
    /// Damages in all
    #[arg(long, default_value_t = 1_000_000)]
    injections: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let Arguments { injections, seed } = Arguments::parse();
    let (next, all) = (AtomicU64::new(seed), Mutex::new(Tally::default()));
    let injected = || all.lock().map_or(u64::MAX, |all| all.injected());
    let work = || {
        while injected() < injections {
            let first = next.fetch_add(ROUNDS, Ordering::Relaxed);
            let mut tally = Tally::default();
            (first..first + ROUNDS).for_each(|seed| tally.add(round(seed)));
            if let Ok(mut all) = all.lock() {
                all.add(tally);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let Ok(tally) = all.into_inner() else { return ExitCode::FAILURE };
    println!("seeds {seed} to {}\n\n{}", next.into_inner() - 1, confusion::table(&tally));
    tally.wrong.iter().take(SHOWN).for_each(|wrong| println!("WRONG {wrong}"));
    let enough = tally.right() * 100 >= tally.injected() * 98;
    if tally.wrong.is_empty() && enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
