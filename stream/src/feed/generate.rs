//! `lockstep-stream generate`: schemas to files of JSON lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::generator::{Generator, Variation};

/// What to generate.
#[derive(clap::Args, Debug)]
pub struct GenerateArguments {
    /// Avro schema files with data-generation annotations; the n-th gives xyz<n>.json
    #[arg(required = true)]
    schemas: Vec<PathBuf>,
    /// The folder of the files
    #[arg(long, default_value = ".", env = "LOCKSTEP_OUT")]
    out: PathBuf,
    /// Records of each schema
    #[arg(long, default_value_t = 500, env = "LOCKSTEP_COUNT")]
    count: usize,
    /// The same seed gives the same records
    #[arg(long, default_value_t = 1, env = "LOCKSTEP_SEED")]
    seed: u64,
    /// Most records a second of each file; as fast as possible if absent
    #[arg(long)]
    rate: Option<u32>,
    /// Where iterations over instants start, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    start: Option<i64>,
    /// Share of records (0 to 1) that are written twice
    #[arg(long, default_value_t = 0.0)]
    duplicates: f64,
    /// Share of records (0 to 1) that change places with the one before
    #[arg(long, default_value_t = 0.0)]
    out_of_order: f64,
    /// Share of lines (0 to 1) that are cut in the middle
    #[arg(long, default_value_t = 0.0)]
    malformed: f64,
    /// A schema whose record has options gives each of them once, and as many records
    #[arg(long)]
    catalogue_once: bool,
}

/// Writes the files.
///
/// # Errors
/// Where a schema cannot be followed, or a file not be written.
pub fn run(arguments: &GenerateArguments) -> Result<()> {
    for share in [arguments.duplicates, arguments.out_of_order, arguments.malformed] {
        ensure!((0.0..=1.0).contains(&share), "a share is from 0 to 1, not {share}");
    }
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    for (number, schema) in arguments.schemas.iter().enumerate() {
        let path = arguments.out.join(format!("xyz{}.json", number + 1));
        let variation = Variation { start_ms: arguments.start, catalogue_once: arguments.catalogue_once };
        let mut generator = Generator::open(schema, arguments.seed, variation)?;
        let catalogue = if arguments.catalogue_once { generator.catalogue()? } else { None };
        let count = catalogue.unwrap_or(arguments.count);
        write(arguments, &mut generator, &path, count).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write(arguments: &GenerateArguments, generator: &mut Generator, path: &std::path::Path, count: usize) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut rng = StdRng::seed_from_u64(arguments.seed ^ 0x5eed);
    let bar = progress(count as u64, &path.display().to_string());
    let begin = Instant::now();
    let mut held: Option<Vec<u8>> = None;
    for number in 0..count {
        let mut line = serde_json::to_vec(&generator.record()?)?;
        if rng.random_bool(arguments.malformed) {
            line.truncate(line.len() / 2);
        }
        line.push(b'\n');
        if rng.random_bool(arguments.duplicates) {
            line.extend(line.clone());
        }
        match held.take() {
            Some(before) => {
                out.write_all(&line)?;
                out.write_all(&before)?;
            }
            None if rng.random_bool(arguments.out_of_order) => held = Some(line),
            None => out.write_all(&line)?,
        }
        bar.inc(1);
        pace(arguments.rate, number + 1, begin);
    }
    out.write_all(&held.unwrap_or_default())?;
    out.flush()?;
    bar.finish_and_clear();
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(count: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}");
    let bar = ProgressBar::new(count).with_message(what.to_owned());
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Waits until `done` records may have been written.
pub(super) fn pace(rate: Option<u32>, done: usize, begin: Instant) {
    if let Some(rate) = rate.filter(|r| *r > 0) {
        let due = Duration::from_secs_f64(done as f64 / f64::from(rate));
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
}
