//! The command line of the batch layer.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use lockstep_batch::insights::{self, InsightsError};
use lockstep_batch::reconcile::{Options, ReconcileError, Repair, reconcile};
use lockstep_batch::{recompute, verify, why};
use lockstep_shared::archive::Archive;
use lockstep_shared::coordinates::Step;
use lockstep_shared::document::write_json;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::{self, Overrides, settings::Settings};

/// Something failed.
const FAILED: u8 = 1;
/// Differences were found.
const DIFFERENT: u8 = 3;
/// A dependency is unavailable.
const UNAVAILABLE: u8 = 69;
/// The pipeline is wrong.
const WRONG: u8 = 78;

/// Recomputes the join from the archive, compares the index, repairs it.
#[derive(Parser)]
#[command(
    name = "lockstep-batch",
    version,
    after_help = "Exit codes: 0 in lockstep or done, 1 failed, 2 usage, 3 differences found, 69 a dependency is unavailable, 78 the pipeline is wrong"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares every document of every index with the archive
    Reconcile {
        #[command(flatten)]
        program: Program,
        /// Makes the index as it should be
        #[arg(long, conflicts_with = "dry_run", env = "LOCKSTEP_REPAIR")]
        repair: bool,
        /// Writes nothing; this is the default, and here for scripts that want to say so
        #[arg(long)]
        dry_run: bool,
        /// Most differences of each kind shown
        #[arg(long, default_value_t = 5, env = "LOCKSTEP_SAMPLE")]
        sample: usize,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
        /// Writes the certificate as JSON into this file too
        #[arg(long, env = "LOCKSTEP_CERTIFICATE")]
        certificate: Option<PathBuf>,
    },
    /// Prints the documents that should be, one JSON object with _id and _source a line
    Recompute {
        #[command(flatten)]
        program: Program,
        /// The step after which; the last one archived if absent
        #[arg(long)]
        cut: Option<u64>,
    },
    /// A document's whole life: the records behind it, what it should be, what the index has, and why they differ
    Why {
        #[command(flatten)]
        program: Program,
        /// The document's `_id`
        id: String,
        /// Only in this sink table; in every one if absent
        #[arg(long, env = "LOCKSTEP_SINK")]
        sink: Option<String>,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// What the archive shows of the shop, with the numbers behind it, and where it shows nothing
    Insights {
        #[command(flatten)]
        program: Program,
        /// The step after which; the last one archived if absent
        #[arg(long)]
        cut: Option<u64>,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// Looks after the archive
    Archive {
        #[command(subcommand)]
        command: ArchiveCommand,
    },
}

#[derive(Subcommand)]
enum ArchiveCommand {
    /// Checks that ranges tile without gap or overlap and every record is there once; exits with 3 where not
    Verify {
        #[command(flatten)]
        program: Program,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// Prints every record that could not be read, one JSON object a line, with its place and reason
    Rejected(Program),
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(clap::Args)]
struct Program {
    /// A file of Flink SQL
    pipeline: PathBuf,
    /// Overrides a setting, or with TABLE.option=value an option of a table; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "LOCKSTEP_SET", value_delimiter = '\n')]
    set: Vec<String>,
}

/// A message for people and the code that the process ends with.
struct Failure(u8, String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(FAILED, error.to_string())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).init();
    match dispatch(Arguments::parse().command).await {
        Ok(code) => ExitCode::from(code),
        Err(Failure(code, message)) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Reconcile { program, repair, dry_run: _, sample, output, certificate } => {
            let repair = if repair { Repair::Repair } else { Repair::ReportOnly };
            run_reconcile(&compile(&program)?, Options { repair, sample }, output, certificate).await
        }
        Command::Why { program, id, sink, output } => tell_why(&compile(&program)?, &id, sink.as_deref(), output).await,
        Command::Recompute { program, cut } => print_documents(&compile(&program)?, cut).await,
        Command::Archive { command: ArchiveCommand::Verify { program, output } } => {
            verify_archive(&compile(&program)?, output).await
        }
        Command::Insights { program, cut, output } => print_insights(&compile(&program)?, cut, output).await,
        Command::Archive { command: ArchiveCommand::Rejected(program) } => print_rejected(&compile(&program)?).await,
    }
}

async fn run_reconcile(
    pipeline: &Pipeline,
    options: Options,
    output: Output,
    certificate: Option<PathBuf>,
) -> Result<u8, Failure> {
    let made = reconcile(pipeline, &options)
        .await
        .map_err(|e: ReconcileError| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string()))?;
    let json = serde_json::to_string_pretty(&made).map_err(failed)?;
    if let Some(path) = certificate {
        let unwritten = |e| Failure(FAILED, format!("cannot write {}: {e}", path.display()));
        std::fs::write(&path, &json).map_err(unwritten)?;
    }
    match output {
        Output::Text => write!(io::stdout(), "{}", made.text())?,
        Output::Json => writeln!(io::stdout(), "{json}")?,
    }
    Ok(if made.is_in_lockstep() { 0 } else { DIFFERENT })
}

async fn tell_why(pipeline: &Pipeline, id: &str, sink: Option<&str>, output: Output) -> Result<u8, Failure> {
    if let Some(sink) = sink.filter(|sink| pipeline.sinks.iter().all(|s| s.name != **sink)) {
        let known: Vec<&str> = pipeline.sinks.iter().map(|s| s.name.as_str()).collect();
        return Err(Failure(2, format!("--sink {sink}: the pipeline has no such sink, but {}", known.join(", "))));
    }
    let unavailable = |e: ReconcileError| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string());
    let mut accounts = why::why(pipeline, id, sink).await.map_err(unavailable)?;
    accounts.retain(|account| !account.is_empty());
    if accounts.is_empty() {
        let message =
            format!("nothing is known of {id}: no record of the archive makes such a document, and no index has it");
        return Err(Failure(FAILED, message));
    }
    match output {
        Output::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&accounts).map_err(failed)?)?,
        Output::Text => accounts.iter().try_for_each(|account| write!(io::stdout(), "{}", account.text()))?,
    }
    Ok(if accounts.iter().all(|account| account.difference.is_none()) { 0 } else { DIFFERENT })
}

async fn print_documents(pipeline: &Pipeline, cut: Option<u64>) -> Result<u8, Failure> {
    let files = recompute::files(pipeline, &settings(pipeline)?.archive_path).await.map_err(failed)?;
    let cut = Step(cut.unwrap_or(u64::MAX));
    let mut out = io::BufWriter::new(io::stdout().lock());
    for sink in &pipeline.sinks {
        for (id, values) in recompute::documents(pipeline, sink, &files, cut).map_err(failed)? {
            let mut source = Vec::new();
            write_json(&sink.columns, &values, &mut source);
            let (name, id) = (serde_json::Value::from(sink.name.as_str()), serde_json::Value::from(id.to_string()));
            let source = String::from_utf8_lossy(&source);
            writeln!(out, "{{\"_sink\":{name},\"_id\":{id},\"_source\":{source}}}")?;
        }
    }
    out.flush()?;
    Ok(0)
}

async fn print_insights(pipeline: &Pipeline, cut: Option<u64>, output: Output) -> Result<u8, Failure> {
    let wrong = |e: InsightsError| {
        Failure(if matches!(e, InsightsError::NoShop { .. }) { WRONG } else { FAILED }, e.to_string())
    };
    let report = insights::insights(pipeline, cut.map(Step)).await.map_err(wrong)?;
    insights::leave(pipeline, &report).map_err(wrong)?;
    match output {
        Output::Text => write!(io::stdout(), "{}", report.text())?,
        Output::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report).map_err(failed)?)?,
    }
    Ok(0)
}

async fn verify_archive(pipeline: &Pipeline, output: Output) -> Result<u8, Failure> {
    let archive = Archive::new(settings(pipeline)?.archive_path);
    let reports = verify::verify(pipeline, &archive).await.map_err(failed)?;
    match output {
        Output::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&reports).map_err(failed)?)?,
        Output::Text => {
            for (table, report) in
                pipeline.tables.iter().filter_map(|t| Some((t, reports.iter().find(|r| r.table == t.name)?)))
            {
                write!(io::stdout(), "{}", report.text(table))?;
            }
        }
    }
    Ok(if reports.iter().all(verify::TableReport::is_whole) { 0 } else { DIFFERENT })
}

async fn print_rejected(pipeline: &Pipeline) -> Result<u8, Failure> {
    let archive = Archive::new(settings(pipeline)?.archive_path);
    for record in verify::rejected(pipeline, &archive).await.map_err(failed)? {
        writeln!(io::stdout(), "{}", serde_json::to_string(&record).map_err(failed)?)?;
    }
    Ok(0)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(FAILED, error.to_string())
}

fn settings(pipeline: &Pipeline) -> Result<Settings, Failure> {
    Settings::of(pipeline).map_err(|e| Failure(WRONG, e.to_string()))
}

fn compile(program: &Program) -> Result<Pipeline, Failure> {
    let overrides = Overrides::parse(&program.set).map_err(|e| Failure(2, e.to_string()))?;
    sql::compile_file(&program.pipeline, &overrides).map_err(|message| Failure(WRONG, message))
}
