//! Does what the command line of the batch layer says.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lockstep_batch::command_line::{
    ArchiveCommand, Arguments, Command, Output, Program, Rebuild, Reconcile, RepairLimit, Wait,
};
use lockstep_batch::compact::{self, TableCompacted};
use lockstep_batch::compare::Mode;
use lockstep_batch::insights::{self, InsightsError};
use lockstep_batch::plan_file::{PlanError, apply::apply};
use lockstep_batch::rebuild::{self, Old, OwnName};
use lockstep_batch::reconcile::{Options, ReconcileError, Repair, reconcile};
use lockstep_batch::repair::Limit;
use lockstep_batch::{kept, lock, recompute, verify, why};
use lockstep_shared::archive::Archive;
use lockstep_shared::archive::compact::Compacted;
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
            // Whoever closed standard error still gets the code.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Reconcile(reconcile) => run_reconcile(reconcile).await,
        Command::Apply { program, plan, limit, wait, output } => {
            apply_plan(&compile(&program)?, &plan, limit, wait, output).await
        }
        Command::Rebuild(rebuild) => run_rebuild(rebuild).await,
        Command::Archive { command: ArchiveCommand::Compact { program, remove_after, wait, output } } => {
            compact_archive(&compile(&program)?, remove_after, wait, output).await
        }
        Command::Certificates { program, show: Some(name), .. } => show_certificate(&compile(&program)?, &name),
        Command::Certificates { program, show: None, output } => list_certificates(&compile(&program)?, output),
        Command::Why { program, id, sink, output } => tell_why(&compile(&program)?, &id, sink.as_deref(), output).await,
        Command::Recompute { program, cut } => print_documents(&compile(&program)?, cut).await,
        Command::Archive { command: ArchiveCommand::Verify { program, output } } => {
            verify_archive(&compile(&program)?, output).await
        }
        Command::Insights { program, cut, output } => print_insights(&compile(&program)?, cut, output).await,
        Command::Archive { command: ArchiveCommand::Rejected(program) } => print_rejected(&compile(&program)?).await,
    }
}

async fn run_reconcile(arguments: Reconcile) -> Result<u8, Failure> {
    let Reconcile { program, repair, dry_run: _, quick, plan, limit, wait, sample, output, certificate } = arguments;
    let pipeline = compile(&program)?;
    let repair = match (repair, plan) {
        (true, _) => Repair::Repair(limit.repair_limit),
        (false, Some(path)) => Repair::Plan(path),
        (false, None) => Repair::ReportOnly,
    };
    let mode = if quick { Mode::Quick } else { Mode::Full };
    let options = Options { repair, sample, mode, wait: Duration::from_secs(wait.seconds) };
    let made = reconcile(&pipeline, &options)
        .await
        .map_err(|e: ReconcileError| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string()))?;
    let json = serde_json::to_string_pretty(&made).map_err(failed)?;
    if let Some(path) = certificate {
        let unwritten = |e| Failure(FAILED, format!("cannot write {}: {e}", path.display()));
        std::fs::write(&path, &json).map_err(unwritten)?;
    }
    match output {
        Output::Text => write!(io::stdout(), "{made}")?,
        Output::Json => writeln!(io::stdout(), "{json}")?,
    }
    Ok(if made.is_in_lockstep() { 0 } else { DIFFERENT })
}

async fn apply_plan(
    pipeline: &Pipeline,
    plan: &Path,
    limit: RepairLimit,
    wait: Wait,
    output: Output,
) -> Result<u8, Failure> {
    let settings = settings(pipeline)?;
    let wait = Duration::from_secs(wait.seconds);
    let _lock = lock::take(&settings.archive_path, "an apply", wait).await.map_err(failed)?;
    let limit = Limit(limit.repair_limit.unwrap_or(settings.repair_limit));
    let applied = apply(pipeline, &settings, plan, limit)
        .await
        .map_err(|e: PlanError| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string()))?;
    match output {
        Output::Text => write!(io::stdout(), "{applied}")?,
        Output::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&applied).map_err(failed)?)?,
    }
    Ok(if applied.is_whole() { 0 } else { DIFFERENT })
}

async fn run_rebuild(arguments: Rebuild) -> Result<u8, Failure> {
    let Rebuild { program, sink, replace_index, delete_old, wait, output } = arguments;
    let pipeline = compile(&program)?;
    let own_name = if replace_index { OwnName::Replace } else { OwnName::Refuse };
    let old = if delete_old { Old::Delete } else { Old::Keep };
    let options = rebuild::Options { sink, own_name, old, wait: Duration::from_secs(wait.seconds) };
    let rebuilt = rebuild::rebuild(&pipeline, &options)
        .await
        .map_err(|e| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string()))?;
    match output {
        Output::Text => write!(io::stdout(), "{rebuilt}")?,
        Output::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&rebuilt).map_err(failed)?)?,
    }
    Ok(if rebuilt.certificate.is_in_lockstep() { 0 } else { DIFFERENT })
}

async fn compact_archive(pipeline: &Pipeline, hours: u64, wait: Wait, output: Output) -> Result<u8, Failure> {
    let remove_after = Duration::from_secs(hours.saturating_mul(60 * 60));
    let wait = Duration::from_secs(wait.seconds);
    let done = compact::compact(pipeline, &settings(pipeline)?, remove_after, wait).await.map_err(failed)?;
    if output == Output::Json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&done).map_err(failed)?)?;
        return Ok(0);
    }
    for (table, TableCompacted { compacted, removed }) in done {
        let Compacted { files_before, files_after, records, .. } = compacted;
        writeln!(
            io::stdout(),
            "{table}: {files_before} files became {files_after}, {records} records rewritten; {removed} replaced files removed"
        )?;
    }
    Ok(0)
}

fn list_certificates(pipeline: &Pipeline, output: Output) -> Result<u8, Failure> {
    let mut skipped =
        |path: &Path, reason: &str| drop(writeln!(io::stderr(), "{} is no certificate: {reason}", path.display()));
    let listed = kept::list(&settings(pipeline)?.archive_path, &mut skipped)?;
    if output == Output::Json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&listed).map_err(failed)?)?;
        return Ok(0);
    }
    if listed.is_empty() {
        writeln!(io::stderr(), "there is no certificate yet: each reconcile leaves one")?;
    }
    for one in listed {
        let differences = one.differences;
        writeln!(io::stdout(), "{}  {:<11}  step {}, {differences} differences", one.name, one.verdict, Step(one.cut))?;
    }
    Ok(0)
}

fn show_certificate(pipeline: &Pipeline, name: &str) -> Result<u8, Failure> {
    let name = Some(name).filter(|name| *name != "last");
    let (json, page) = kept::show(&settings(pipeline)?.archive_path, name)?;
    writeln!(io::stdout(), "{json}")?;
    if page.is_file() {
        writeln!(io::stderr(), "as a page: {}", page.display())?;
    }
    Ok(0)
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
        Output::Text => accounts.iter().try_for_each(|account| write!(io::stdout(), "{account}"))?,
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
        Output::Text => write!(io::stdout(), "{report}")?,
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
