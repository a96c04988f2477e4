//! Our own programs as processes: started, watched through their output and their HTTP address, ended by signal.
//!
//! A program writes into a file, never into a pipe that somebody must empty; what it wrote is part of every error here.
//! A program that is still running when its value is dropped is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::containers::fresh_name;
use crate::{eventually, workspace};

/// How much of a program's output an error repeats.
const LOG_TAIL_LINES: usize = 40;

/// One of our programs, running or ended.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What is sent to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Asks it to end in order.
    Terminate,
    /// What Ctrl-C sends.
    Interrupt,
    /// Ends it as a power cut would.
    Kill,
    /// Freezes it: the old process that comes back later.
    Stop,
    /// Lets a frozen one go on.
    Continue,
}

/// The file of one of our programs, built from the sources as they are now.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let folder = folder.as_ref().map_err(|error| anyhow!("the programs cannot be built: {error}"))?;
    Ok(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Builds the programs where the running test was built: `cargo test` alone does not, or leaves old ones. Where they are
/// fresh, this takes a moment. Gives their folder.
fn build() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the running test")?;
    // Tests are in `deps` below the folder of the programs, which is named after the profile.
    let folder = test.ancestors().nth(2).context("the running test has no folder above its own")?;
    let target = folder.parent().context("the programs' folder is in the target folder")?;
    let mut cargo = Command::new("cargo");
    // What cargo told the test about its package is nothing that a build may see: build scripts would run again, and
    // hundreds of crates with them.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&variable);
        }
    }
    cargo.env_remove("CARGO").env_remove("LD_LIBRARY_PATH");
    cargo.args(["build", "--workspace", "--quiet", "--target-dir"]).arg(target);
    cargo.args(folder.ends_with("release").then_some("--release"));
    cargo.current_dir(workspace()).stdin(Stdio::null());
    let output = cargo.output().context("cargo")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.to_owned())
}

impl Program {
    /// Starts one of our programs; its output goes to a new file in `folder`, which is also where it runs.
    pub fn start(name: &str, arguments: &[&str], folder: &Path) -> Result<Self> {
        let mut command = Command::new(binary(name)?);
        command.args(arguments).current_dir(folder);
        Self::spawn(name, command, folder)
    }

    /// Starts any command in the same way, for instance with an environment of its own.
    pub fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{}.log", fresh_name(name)));
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far, to stdout and stderr.
    #[must_use]
    pub fn output(&self) -> String {
        match std::fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("<{}: {error}>", self.log.display()),
        }
    }

    /// Waits until a line of the output contains `text` and returns that line. A program that ends first is an error.
    pub async fn wait_for_line(&mut self, text: &str, within: Duration) -> Result<String> {
        let what = format!("{} writes '{text}'", self.name);
        self.watch(&what, within, async |output: String| {
            output.lines().find(|line| line.contains(text)).map(ToOwned::to_owned).ok_or(output)
        })
        .await
    }

    /// Waits until a GET of `url` answers with 2xx. A program that ends first is an error.
    pub async fn wait_for_health(&mut self, url: &str, within: Duration) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let what = format!("{} is healthy at {url}", self.name);
        self.watch(&what, within, async |_output| match http.get(url).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{url} answers {}", answer.status())),
            Err(error) => Err(format!("{url}: {error}")),
        })
        .await
    }

    /// Sends a signal, if the program still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Once the exit status is taken, the number may be another process's.
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let name = match signal {
            Signal::Terminate => "-TERM",
            Signal::Interrupt => "-INT",
            Signal::Kill => "-KILL",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let sent =
            Command::new("kill").args([name, &self.child.id().to_string()]).status().context("the kill command")?;
        if !sent.success() {
            bail!("{signal:?} cannot be sent to {} (process {})", self.name, self.child.id());
        }
        Ok(())
    }

    /// Waits for the end.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let (child, what) = (&mut self.child, format!("{} ends", self.name));
        let waited = eventually(&what, within, async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        waited.await.with_context(|| tail(&self.output()))
    }

    /// Waits for the end and checks the exit code; a program that a signal ended has none.
    pub async fn expect_exit(&mut self, code: i32, within: Duration) -> Result<()> {
        let status = self.ended(within).await?;
        if status.code() != Some(code) {
            bail!("{} ended with {status}, expected exit code {code}\n{}", self.name, tail(&self.output()));
        }
        Ok(())
    }

    /// Asks it to end and checks that it ends in order.
    pub async fn terminate(&mut self, within: Duration) -> Result<()> {
        self.signal(Signal::Terminate)?;
        self.expect_exit(0, within).await
    }

    /// Presses Ctrl-C and checks that it ends in order.
    pub async fn interrupt(&mut self, within: Duration) -> Result<()> {
        self.signal(Signal::Interrupt)?;
        self.expect_exit(0, within).await
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.ended(Duration::from_secs(10)).await.map(drop)
    }

    /// Polls until `probe` likes the output; ends early, with the output, when the program does.
    async fn watch<T>(
        &mut self,
        what: &str,
        within: Duration,
        probe: impl AsyncFn(String) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let looked = eventually(what, within, async || {
            // Asked before the output is read: what an ended program wrote last is seen too.
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            match (probe(self.output()).await, ended) {
                (Ok(value), _) => Ok(Ok(value)),
                (Err(_), Some(status)) => Ok(Err(format!("it ended with {status}"))),
                (Err(state), None) => Err(tail(&state)),
            }
        });
        match looked.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(ended)) => bail!("{what}: {ended}\n{}", tail(&self.output())),
            Err(error) => Err(error.context(tail(&self.output()))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
