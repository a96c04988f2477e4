//! Schedules by name: saved under `fixtures/scenarios/`, replayed by seed or by file, and the line that does so.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::campaign::{Found, Tally};
use super::schedule::Schedule;
use crate::workspace;

/// Seeds of a day: more than a day of soak uses.
const SEEDS_OF_A_DAY: u64 = 10_000_000_000;

/// A seed that is new every day, so that not every run looks at the same schedules.
#[must_use]
pub fn seed_of_today() -> u64 {
    let days = chrono::Utc::now().timestamp() / 86_400;
    days.unsigned_abs() * SEEDS_OF_A_DAY
}

/// The folder of the scenarios.
#[must_use]
pub fn folder() -> PathBuf {
    workspace().join("fixtures").join("scenarios")
}

/// Every saved schedule, with its name.
///
/// # Errors
/// Where one cannot be read.
pub fn all() -> Result<Vec<(String, Schedule)>> {
    let mut scenarios = Vec::new();
    for entry in std::fs::read_dir(folder()).with_context(|| folder().display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scenarios.push((name, read(&path)?));
        }
    }
    scenarios.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(scenarios)
}

/// The schedule of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Schedule> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no schedule", path.display()))
}

/// Saves a schedule under a name; from then on every test run runs it. Gives the file.
///
/// # Errors
/// Where the disk says no.
pub fn save(name: &str, schedule: &Schedule) -> Result<PathBuf> {
    let path = folder().join(format!("{name}.json"));
    std::fs::create_dir_all(folder())?;
    let mut text = serde_json::to_string_pretty(schedule)?;
    text.push('\n');
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

impl fmt::Display for Found {
    /// What failed, the shrunk schedule as a table, and the line that replays it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, before, schedule, failure, .. } = self;
        writeln!(f, "number {number}, after {before} schedules without a failure: {failure}")?;
        write!(f, "shrunk to {} events:\n{schedule}", schedule.events.len())?;
        writeln!(f, "to replay a random one and save it: cargo replay {number} --save NAME")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, events, faults, starts, cuts, recomputed } = self;
        write!(f, "{schedules} schedules kept every law: {events} events, of which {faults} faults, ")?;
        write!(f, "{starts} starts, {cuts} exact cuts; {recomputed} recomputed by Polars")
    }
}
