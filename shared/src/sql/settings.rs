//! Lockstep's own settings: `SET 'lockstep.…' = '…'`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::Pipeline;

/// A setting: its name, its default, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The value where none is given; empty for "off".
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Every setting.
pub const SETTINGS: [Setting; 11] = [
    Setting {
        name: "lockstep.archive.path",
        default: "lockstep/archive",
        meaning: "folder of the archive, one Delta table a source table",
    },
    Setting {
        name: "lockstep.state.path",
        default: "lockstep/state",
        meaning: "folder of the journal and the dead letters; on a local disk",
    },
    Setting { name: "lockstep.step.max-records", default: "10000", meaning: "most records of one step" },
    Setting {
        name: "lockstep.step.max-delay",
        default: "200 ms",
        meaning: "longest time a record waits for its step to be cut",
    },
    Setting {
        name: "lockstep.http.address",
        default: "127.0.0.1:8080",
        meaning: "where status and metrics are served",
    },
    Setting {
        name: "lockstep.index.embedded.address",
        default: "",
        meaning: "where the embedded index is served; none is started without it",
    },
    Setting {
        name: "lockstep.archive.commit.max-delay",
        default: "5 s",
        meaning: "longest time between two commits of the archive",
    },
    Setting {
        name: "lockstep.shutdown.timeout",
        default: "30 s",
        meaning: "how long a stop waits for what is under way",
    },
    Setting {
        name: "lockstep.reconcile.memory",
        default: "2 GiB",
        meaning: "most memory for the joined tables of a recompute, and for notes of documents; more is done in parts, from files",
    },
    Setting {
        name: "lockstep.repair.limit",
        default: "10 %",
        meaning: "largest share of an index that a repair may touch; above it, nothing is written",
    },
    Setting {
        name: "lockstep.certificates.keep",
        default: "500",
        meaning: "certificates kept in the archive's folder; the oldest go",
    },
];

/// The settings of a pipeline, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `lockstep.archive.path`.
    pub archive_path: PathBuf,
    /// `lockstep.state.path`.
    pub state_path: PathBuf,
    /// `lockstep.step.max-records`.
    pub step_max_records: usize,
    /// `lockstep.step.max-delay`.
    pub step_max_delay: Duration,
    /// `lockstep.http.address`.
    pub http_address: String,
    /// `lockstep.index.embedded.address`.
    pub embedded_address: Option<String>,
    /// `lockstep.archive.commit.max-delay`.
    pub archive_commit_max_delay: Duration,
    /// `lockstep.shutdown.timeout`.
    pub shutdown_timeout: Duration,
    /// `lockstep.reconcile.memory`.
    pub reconcile_memory_bytes: u64,
    /// `lockstep.repair.limit`.
    pub repair_limit: Percent,
    /// `lockstep.certificates.keep`.
    pub certificates_keep: usize,
}

/// A share of a whole, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = String;

    /// `10 %`, `10%` or `10`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().trim_end_matches('%').trim_end().parse().ok().filter(|number| *number <= 100);
        number.map(Self).ok_or_else(|| format!("'{text}' is no {PERCENT}"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// What a share is written as.
const PERCENT: &str = "share; write a whole number from 0 to 100 and %";

/// A setting whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting '{name}': '{value}' is no {wanted}")]
pub struct SettingError {
    /// The setting.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub wanted: &'static str,
}

impl Settings {
    /// Reads the settings of a pipeline.
    ///
    /// # Errors
    /// Where a value is none of its kind.
    pub fn of(pipeline: &Pipeline) -> Result<Self, SettingError> {
        let given = |name: &'static str| {
            let default = SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
            pipeline.settings.get(name).map_or(default, String::as_str).to_owned()
        };
        let duration = |name| {
            let value = given(name);
            duration(&value).ok_or(SettingError { name, value, wanted: "duration; write a number and ms, s, min or h" })
        };
        let count = |name: &'static str, wanted: &'static str| {
            let value = given(name);
            value.parse().ok().filter(|n| *n > 0).ok_or(SettingError { name, value, wanted })
        };
        let limit = given("lockstep.repair.limit");
        Ok(Self {
            archive_path: given("lockstep.archive.path").into(),
            state_path: given("lockstep.state.path").into(),
            step_max_records: count("lockstep.step.max-records", "number of records above zero")?,
            step_max_delay: duration("lockstep.step.max-delay")?,
            http_address: address("lockstep.http.address", given("lockstep.http.address"))?,
            embedded_address: match given("lockstep.index.embedded.address") {
                none if none.is_empty() => None,
                some => Some(address("lockstep.index.embedded.address", some)?),
            },
            archive_commit_max_delay: duration("lockstep.archive.commit.max-delay")?,
            shutdown_timeout: duration("lockstep.shutdown.timeout")?,
            reconcile_memory_bytes: {
                let (name, value) = ("lockstep.reconcile.memory", given("lockstep.reconcile.memory"));
                let wanted = "size; write a number and KiB, MiB or GiB";
                size_bytes(&value).ok_or(SettingError { name, value, wanted })?
            },
            repair_limit: limit.parse().map_err(|_| SettingError {
                name: "lockstep.repair.limit",
                value: limit,
                wanted: PERCENT,
            })?,
            certificates_keep: count("lockstep.certificates.keep", "number of certificates above zero")?,
        })
    }
}

fn address(name: &'static str, value: String) -> Result<String, SettingError> {
    let is = value.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is { Ok(value) } else { Err(SettingError { name, value, wanted: "address; write host:port" }) }
}

/// `512 MiB`, `2GiB`. Never zero.
fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok().filter(|n| *n > 0)?;
    let unit_bytes = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "kib" | "kb" | "k" => 1 << 10,
        "mib" | "mb" | "m" => 1 << 20,
        "gib" | "gb" | "g" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

/// Flink's spelling: `200 ms`, `5s`, `1 min`. Never zero.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok().filter(|n| *n > 0)?;
    let unit_ms = match text[digits..].trim() {
        "ms" | "milli" | "millis" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}
