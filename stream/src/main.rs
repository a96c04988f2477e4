//! The command line of the stream layer.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::{self, Overrides, settings::Settings};
use lockstep_stream::dashboard::export;
use lockstep_stream::{check, feed, service};
use tokio::sync::watch;

/// Something failed.
const FAILED: u8 = 1;
/// A dependency is unavailable.
const UNAVAILABLE: u8 = 69;
/// The pipeline or its environment is wrong.
const WRONG: u8 = 78;

/// Keeps Elasticsearch indexes equal to a join of Kafka topics, and archives every record.
#[derive(Parser)]
#[command(
    name = "lockstep-stream",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 69 a dependency is unavailable, 78 the pipeline is wrong"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a pipeline until SIGINT or SIGTERM
    Run(Program),
    /// Checks syntax, plan and environment, and names each stage
    Check {
        #[command(flatten)]
        program: Program,
        /// Leaves out the servers
        #[arg(long)]
        no_environment: bool,
    },
    /// Prints the plan with the identity of each sink
    Explain(Program),
    /// Writes random records for Avro schemas with data-generation annotations
    Generate(feed::generate::GenerateArguments),
    /// Sends JSON lines to Kafka, or to a file log
    Ingest(feed::ingest::IngestArguments),
    /// The shop's dashboard, for other programs
    Dashboard {
        #[command(subcommand)]
        command: DashboardCommand,
    },
}

#[derive(Subcommand)]
enum DashboardCommand {
    /// Writes the dashboard
    Export {
        #[command(subcommand)]
        target: ExportTarget,
    },
}

#[derive(Subcommand)]
enum ExportTarget {
    /// As saved objects for Kibana's import, one NDJSON file
    Kibana {
        #[command(flatten)]
        program: Program,
        #[command(flatten)]
        arguments: export::KibanaArguments,
    },
}

#[derive(clap::Args)]
struct Program {
    /// A file of Flink SQL
    pipeline: PathBuf,
    /// Overrides a setting, or with TABLE.option=value an option of a table; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "LOCKSTEP_SET", value_delimiter = '\n')]
    set: Vec<String>,
}

/// How long after `lockstep.shutdown.timeout` the process ends whatever it does.
const HARD_STOP: std::time::Duration = std::time::Duration::from_secs(2);

/// A message for people and the code that the process ends with.
struct Failure(u8, String);

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        // The Kafka client repeats every failure many times a second; what matters of it is said by the sources.
        .unwrap_or_else(|_| "warn,librdkafka=off,rdkafka=off,lockstep=info,lockstep_stream=info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).init();
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            // Whoever closed standard error still gets the code.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(program) => run(&program),
        Command::Explain(program) => say(&sql::explain(&compile(&program)?)),
        Command::Generate(arguments) => feed::generate::run(&arguments).map_err(|e| Failure(FAILED, format!("{e:#}"))),
        Command::Ingest(arguments) => feed::ingest::run(&arguments).map_err(|e| Failure(FAILED, format!("{e:#}"))),
        Command::Dashboard { command: DashboardCommand::Export { target } } => {
            let ExportTarget::Kibana { program, arguments } = target;
            let pipeline = compile(&program)?;
            let failed =
                |e: export::ExportError| Failure(if e.is_unavailable() { UNAVAILABLE } else { FAILED }, e.to_string());
            runtime()?.block_on(export::kibana(&pipeline, &arguments)).map_err(failed)
        }
        Command::Check { program, no_environment } => {
            let pipeline = compile(&program)?;
            say(&format!("syntax and plan: {} tables, {} sinks\n", pipeline.tables.len(), pipeline.sinks.len()))?;
            if no_environment {
                return Ok(());
            }
            runtime()?.block_on(check::environment(&pipeline)).map_err(|message| Failure(UNAVAILABLE, message))
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|e| Failure(FAILED, format!("standard output: {e}")))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Runtime::new().map_err(|e| Failure(FAILED, format!("cannot start threads: {e}")))
}

fn compile(program: &Program) -> Result<Pipeline, Failure> {
    let overrides = Overrides::parse(&program.set).map_err(|e| Failure(2, e.to_string()))?;
    sql::compile_file(&program.pipeline, &overrides).map_err(|message| Failure(WRONG, message))
}

fn run(program: &Program) -> Result<(), Failure> {
    let pipeline = Arc::new(compile(program)?);
    let settings = Settings::of(&pipeline).map_err(|e| Failure(WRONG, e.to_string()))?;
    runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let limit = settings.shutdown_timeout + HARD_STOP;
        tokio::spawn(async move {
            signal().await;
            tracing::info!("stopping; once more stops at once");
            let _ = stop.send(true);
            // A stop that the service cannot keep to, for instance while it reads a large archive, ends all the same.
            let _ = tokio::time::timeout(limit, signal()).await;
            let _ = writeln!(io::stderr(), "stopped at once; what was under way is taken up again at the next start");
            std::process::exit(FAILED.into());
        });
        tracing::info!("the page is at http://{}/", settings.http_address);
        service::run(pipeline, &settings, stopped).await.map_err(|error| {
            let code = if error.is_unavailable() { UNAVAILABLE } else { FAILED };
            Failure(code, error.to_string())
        })
    })
}

/// SIGINT or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
