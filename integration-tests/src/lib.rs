//! What the tests of the whole system stand on: real servers in containers, our own programs as processes, a proxy that
//! breaks answers on purpose, and one way to wait for something.
//!
//! Nothing here knows what Lockstep means; that is `lockstep-shared`. Nothing here sleeps to synchronise: whoever waits
//! polls with [`eventually`], and a wait that fails says what it saw last.

pub mod containers;
pub mod kafka;
pub mod kafka_proxy;
pub mod index;
pub mod proxy;
pub mod processes;
pub mod browser;
pub mod simulation;
pub mod corruption;
pub mod archived;
pub mod benchmarks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause between two looks: short enough to cost a test nothing, long enough to leave two cores to the servers.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The checkout that is tested. Asked when it runs, not when it was compiled: checkouts that share build output share
/// test binaries.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_owned).unwrap_or(package)
}

/// A variable of the environment that switches something in the tests.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a switch of the tests, not configuration of the product")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Polls until `probe` succeeds and returns its value.
///
/// # Errors
/// When `within` is over: names what was waited for and the last state that the probe reported.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> std::result::Result<T, String>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last_state = "nothing yet".to_owned();
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last_state = state,
            Err(_elapsed) => bail!("{what}: not within {within:?}, the last look did not end; before it: {last_state}"),
        }
        let next_look = Instant::now() + POLL_INTERVAL;
        if next_look >= deadline {
            bail!("{what}: not within {within:?}, last seen: {last_state}");
        }
        sleep_until(next_look).await;
    }
}
