//! The command line of the batch layer: what it takes. `main.rs` does what it says.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lockstep_shared::sql::settings::Percent;

/// Recomputes the join from the archive, compares the index, repairs it.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep-batch",
    version,
    after_help = "Exit codes: 0 in lockstep or done, 1 failed, 2 usage, 3 differences found or left, 69 a dependency is unavailable, 78 the pipeline is wrong"
)]
pub struct Arguments {
    /// What is done.
    #[command(subcommand)]
    pub command: Command,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compares every document of every index with the archive
    Reconcile(Reconcile),
    /// Carries out a plan that reconcile --dry-run --plan has written
    Apply {
        /// The program.
        #[command(flatten)]
        program: Program,
        /// The plan's file
        plan: PathBuf,
        /// How much it may touch.
        #[command(flatten)]
        limit: RepairLimit,
        /// Whether another one is waited for.
        #[command(flatten)]
        wait: Wait,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// Writes a new index from the archive, proves it, and puts it in the place of the old one
    Rebuild(Rebuild),
    /// Lists the certificates that the archive keeps, the last first, or shows one
    Certificates {
        /// The program.
        #[command(flatten)]
        program: Program,
        /// Shows the one of this name, as the list has it, or with "last" the last one
        #[arg(long, value_name = "NAME")]
        show: Option<String>,
        /// How the list is printed; a certificate is shown as it was written
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// Prints the documents that should be, one JSON object with _id and _source a line
    Recompute {
        /// The program.
        #[command(flatten)]
        program: Program,
        /// The step after which; the last one archived if absent
        #[arg(long)]
        cut: Option<u64>,
    },
    /// A document's whole life: the records behind it, what it should be, what the index has, and why they differ
    Why {
        /// The program.
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
        /// The program.
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
        /// What is done with it.
        #[command(subcommand)]
        command: ArchiveCommand,
    },
}

/// One reconcile.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// The program.
    #[command(flatten)]
    pub program: Program,
    /// Makes the index as it should be
    #[arg(long, conflicts_with_all = ["dry_run", "plan"], env = "LOCKSTEP_REPAIR")]
    pub repair: bool,
    /// Writes nothing; this is the default, and here for scripts that want to say so
    #[arg(long)]
    pub dry_run: bool,
    /// Compares counts and sums of the digests that documents carry, and reads only documents where they differ
    #[arg(long, env = "LOCKSTEP_QUICK")]
    pub quick: bool,
    /// Writes what a repair would do into this file, for "apply"
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_PLAN")]
    pub plan: Option<PathBuf>,
    /// How much a repair may touch.
    #[command(flatten)]
    pub limit: RepairLimit,
    /// Whether another one is waited for.
    #[command(flatten)]
    pub wait: Wait,
    /// Most differences of each kind shown
    #[arg(long, default_value_t = 5, env = "LOCKSTEP_SAMPLE")]
    pub sample: usize,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
    pub output: Output,
    /// Writes the certificate as JSON into this file too
    #[arg(long, env = "LOCKSTEP_CERTIFICATE")]
    pub certificate: Option<PathBuf>,
}

/// One rebuild.
#[derive(Args, Debug)]
pub struct Rebuild {
    /// The program.
    #[command(flatten)]
    pub program: Program,
    /// The sink whose index is rebuilt; not needed where there is one
    #[arg(long, env = "LOCKSTEP_SINK")]
    pub sink: Option<String>,
    /// Where the name is an index's own and no alias yet: deletes that index in the request that makes it one
    #[arg(long)]
    pub replace_index: bool,
    /// Deletes the index that the alias stood for, once the new one is proven
    #[arg(long)]
    pub delete_old: bool,
    /// Whether another one is waited for.
    #[command(flatten)]
    pub wait: Wait,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
    pub output: Output,
}

/// How much a repair may touch.
#[derive(Args, Clone, Copy, Debug)]
pub struct RepairLimit {
    /// Largest share of an index that a repair may touch, for example 25%, in place of lockstep.repair.limit; a hundred documents
    /// are always allowed
    #[arg(long, value_name = "PERCENT", env = "LOCKSTEP_REPAIR_LIMIT")]
    pub repair_limit: Option<Percent>,
}

/// Whether another one is waited for.
#[derive(Args, Clone, Copy, Debug)]
pub struct Wait {
    /// Seconds to wait for another reconcile or rebuild of the same archive to end
    #[arg(long = "wait", value_name = "SECONDS", default_value_t = 10, env = "LOCKSTEP_WAIT")]
    pub seconds: u64,
}

/// What is done with the archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Checks that ranges tile without gap or overlap and every record is there once; exits with 3 where not
    Verify {
        /// The program.
        #[command(flatten)]
        program: Program,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
    /// Prints every record that could not be read, one JSON object a line, with its place and reason
    Rejected(Program),
    /// Brings small files together into large ones, also beside a running stream
    Compact {
        /// The program.
        #[command(flatten)]
        program: Program,
        /// Hours after which files that were replaced are removed; whoever reads longer than that fails
        #[arg(long, value_name = "HOURS", default_value_t = 24, env = "LOCKSTEP_REMOVE_AFTER")]
        remove_after: u64,
        /// Whether another one is waited for.
        #[command(flatten)]
        wait: Wait,
        /// How the report is printed
        #[arg(long, value_enum, default_value = "text", env = "LOCKSTEP_OUTPUT")]
        output: Output,
    },
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A program and what overrides it.
#[derive(Args, Debug)]
pub struct Program {
    /// A file of Flink SQL
    pub pipeline: PathBuf,
    /// Overrides a setting, or with TABLE.option=value an option of a table; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", env = "LOCKSTEP_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
}
