//! Kafka and Elasticsearch in containers: one pair for the whole test binary, and private ones for tests that break them.
//!
//! * [`shared`] gives the pair to a test that only uses it; many tests hold it at once.
//! * [`alone`] waits until no other test holds the pair, and lends its containers for pausing, stopping and killing. When
//!   it is dropped, both containers run again.
//! * [`private_kafka`] and [`private_elasticsearch`] start a container that ends with the value.
//!
//! Addresses stay the same over stop and start: the host ports are our own choice, not the engine's.
//! No container outlives the test binary, however that ends: see [`crate::containers::Container`].
//!
//! `LOCKSTEP_CONTAINERS=required` (what `integration-tests/run` sets) makes a missing engine an error. Without it the
//! functions give `None` after one line that says so.

use std::fmt::Display;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::index::Index;
use crate::kafka::Kafka;
use crate::variable;

/// How long a server may take from its container's start to its first answer; ten times what two cores need.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a server gets to end by itself before the engine kills it.
const STOP_GRACE_S: &str = "30";
/// Every container carries the process id of its test binary under this label; `integration-tests/run` looks for it too.
const OWNER_LABEL: &str = "lockstep.owner";

/// A running container. It is removed when the value is dropped, and when the test binary ends in any other way: a
/// reaper process waits for the end of a pipe that the binary holds, which closes even on `SIGKILL`.
pub struct Container {
    id: String,
    what: &'static str,
}

impl Container {
    async fn run(what: &'static str, request: ContainerRequest<GenericImage>) -> Result<Self> {
        start_reaper()?;
        let container = request
            .with_label(OWNER_LABEL, std::process::id().to_string())
            .with_startup_timeout(READY_WITHIN)
            .start()
            .await
            .with_context(|| format!("{what} did not start in a container"))?;
        let id = container.id().to_owned();
        // The library removes a container inside the runtime that started it; ours is shared by tests that each have a
        // runtime of their own, so removing it is left to `Drop` and to the reaper.
        std::mem::forget(container);
        record_evidence(what)?;
        Ok(Self { id, what })
    }

    /// Freezes all processes: connections stay open, nothing answers.
    pub async fn pause(&self) -> Result<()> {
        self.docker(&["pause"]).await
    }

    /// Ends a pause.
    pub async fn unpause(&self) -> Result<()> {
        self.docker(&["unpause"]).await
    }

    /// Takes its network away: nothing comes through any more, and nobody is told.
    pub async fn cut_off(&self) -> Result<()> {
        self.docker(&["network", "disconnect", "bridge"]).await
    }

    /// Gives it back, at the same address.
    pub async fn reconnect(&self) -> Result<()> {
        self.docker(&["network", "connect", "bridge"]).await
    }

    /// Asks the server to end and waits until it has; its data stay.
    pub async fn stop(&self) -> Result<()> {
        self.docker(&["stop", "-t", STOP_GRACE_S]).await
    }

    /// Kills the server as a power cut would, and waits until it is gone.
    pub async fn kill(&self) -> Result<()> {
        self.docker(&["kill", "--signal", "KILL"]).await?;
        self.docker(&["wait"]).await
    }

    /// Starts a stopped or killed container again, at the same address. Does not wait for the server: see `ready`.
    pub async fn start(&self) -> Result<()> {
        self.docker(&["start"]).await
    }

    async fn docker(&self, arguments: &[&str]) -> Result<()> {
        let output = tokio::process::Command::new("docker")
            .args(arguments)
            .arg(&self.id)
            .stdin(Stdio::null())
            .output()
            .await
            .context("the docker client cannot be run")?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("docker {} of {}: {}", arguments.join(" "), self.what, reason.trim());
        }
        Ok(())
    }

    /// Whatever a test did: it runs again. Blocking, for use in `Drop`; one of the two commands has nothing to do.
    fn restore(&self) {
        docker_quietly(&["unpause", &self.id]);
        docker_quietly(&["start", &self.id]);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker_quietly(&["rm", "--force", "--volumes", &self.id]);
    }
}

/// For the end of a value, where an error has nowhere to go: what stays behind is the reaper's.
fn docker_quietly(arguments: &[&str]) {
    let command = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    drop(command);
}

struct Pair {
    kafka: Kafka,
    kafka_container: Container,
    index: Index,
    index_container: Container,
}

/// A failed start is kept as well: the next test fails at once and does not wait for the same again.
static PAIR: OnceCell<Result<RwLock<Pair>, String>> = OnceCell::const_new();

async fn pair() -> Result<Option<&'static RwLock<Pair>>> {
    if !wanted()? {
        return Ok(None);
    }
    let pair = PAIR.get_or_init(|| async { start_pair().await.map(RwLock::new).map_err(|e| format!("{e:#}")) }).await;
    pair.as_ref().map(Some).map_err(|reason| anyhow!("the shared containers: {reason}"))
}

async fn start_pair() -> Result<Pair> {
    let ((kafka_container, kafka), (index_container, index)) = tokio::try_join!(start_kafka(), start_elasticsearch())?;
    Ok(Pair { kafka, kafka_container, index, index_container })
}

/// The pair, used together with other tests.
pub struct Shared {
    /// The broker.
    pub kafka: Kafka,
    /// The index server.
    pub index: Index,
    _lease: RwLockReadGuard<'static, Pair>,
}

/// The shared pair, ready to use; `None` where container tests are not switched on.
pub async fn shared() -> Result<Option<Shared>> {
    let Some(pair) = pair().await? else { return Ok(None) };
    let lease = pair.read().await;
    let (kafka, index) = ready(&lease).await?;
    Ok(Some(Shared { kafka, index, _lease: lease }))
}

/// The pair, used by one test at a time, which may stop and kill its containers.
pub struct Alone {
    /// The broker.
    pub kafka: Kafka,
    /// The index server.
    pub index: Index,
    lease: RwLockWriteGuard<'static, Pair>,
}

impl Alone {
    /// The broker's container.
    #[must_use]
    pub fn kafka_container(&self) -> &Container {
        &self.lease.kafka_container
    }

    /// The index server's container.
    #[must_use]
    pub fn index_container(&self) -> &Container {
        &self.lease.index_container
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.lease.kafka_container.restore();
        self.lease.index_container.restore();
    }
}

/// The shared pair without any other test; `None` where container tests are not switched on.
pub async fn alone() -> Result<Option<Alone>> {
    let Some(pair) = pair().await? else { return Ok(None) };
    let lease = pair.write().await;
    let (kafka, index) = ready(&lease).await?;
    Ok(Some(Alone { kafka, index, lease }))
}

/// Clients of this test's own: a connection that another test's runtime drove dies with that runtime.
async fn ready(pair: &Pair) -> Result<(Kafka, Index)> {
    let (kafka, index) = (pair.kafka.clone(), Index::new(pair.index.url())?);
    tokio::try_join!(kafka.ready(READY_WITHIN), index.ready(READY_WITHIN))?;
    Ok((kafka, index))
}

/// A server of one test's own, which ends with the value.
pub struct Private<S> {
    /// The server, ready to use.
    pub server: S,
    /// Its container.
    pub container: Container,
}

/// A Kafka of this test's own; `None` where container tests are not switched on.
pub async fn private_kafka() -> Result<Option<Private<Kafka>>> {
    if !wanted()? {
        return Ok(None);
    }
    let (container, server) = start_kafka().await?;
    Ok(Some(Private { server, container }))
}

/// An Elasticsearch of this test's own; `None` where container tests are not switched on.
pub async fn private_elasticsearch() -> Result<Option<Private<Index>>> {
    if !wanted()? {
        return Ok(None);
    }
    let (container, server) = start_elasticsearch().await?;
    Ok(Some(Private { server, container }))
}

/// Not the ready-made module of the testcontainers project: there process 1 is a shell, so that every stop is a kill.
async fn start_kafka() -> Result<(Container, Kafka)> {
    let port = free_port()?;
    let listeners = "PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094";
    let protocols = "BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT";
    let request = GenericImage::new("apache/kafka", "4.3.1")
        .with_exposed_port(9092.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Kafka Server started"))
        .with_mapped_port(port, 9092.tcp())
        .with_env_var("KAFKA_NODE_ID", "1")
        .with_env_var("KAFKA_PROCESS_ROLES", "broker,controller")
        .with_env_var("KAFKA_LISTENERS", listeners)
        .with_env_var("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://127.0.0.1:{port},BROKER://localhost:9093"))
        .with_env_var("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", protocols)
        .with_env_var("KAFKA_INTER_BROKER_LISTENER_NAME", "BROKER")
        .with_env_var("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
        .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9094")
        .with_env_var("KAFKA_LOG_DIRS", "/var/lib/kafka/data")
        .with_env_var("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
        .with_env_var("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
        .with_env_var("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
        .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        // A killed broker may register again only after its old session has ended, 9 s by default.
        .with_env_var("KAFKA_BROKER_SESSION_TIMEOUT_MS", "2000")
        .with_env_var("KAFKA_BROKER_HEARTBEAT_INTERVAL_MS", "500")
        .with_env_var("KAFKA_HEAP_OPTS", "-Xmx512m -Xms256m");
    let container = Container::run("Kafka", request).await?;
    let kafka = Kafka::new(format!("127.0.0.1:{port}"));
    kafka.ready(READY_WITHIN).await?;
    Ok((container, kafka))
}

async fn start_elasticsearch() -> Result<(Container, Index)> {
    let port = free_port()?;
    let request = GenericImage::new("elasticsearch", "8.19.21")
        .with_exposed_port(9200.tcp())
        // A log line, not an HTTP wait: that asks the library for the host's name, which is wrong inside a container.
        .with_wait_for(WaitFor::message_on_stdout("started {"))
        .with_mapped_port(port, 9200.tcp())
        .with_env_var("discovery.type", "single-node")
        .with_env_var("xpack.security.enabled", "false")
        .with_env_var("node.store.allow_mmap", "false")
        // A developer's full disk would otherwise turn every index read-only.
        .with_env_var("cluster.routing.allocation.disk.threshold_enabled", "false")
        .with_env_var("ES_JAVA_OPTS", "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1");
    let container = Container::run("Elasticsearch", request).await?;
    let index = Index::new(&format!("http://127.0.0.1:{port}"))?;
    index.ready(READY_WITHIN).await?;
    Ok((container, index))
}

/// A name that no other test and no other run uses, for a topic or an index.
#[must_use]
pub fn fresh_name(prefix: impl Display) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on which nothing listens.
///
/// Below the range from which systems take the ports of outgoing connections: while a container is stopped, nothing else
/// takes its port by chance. Test binaries that run at the same time begin at different places.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}

fn wanted() -> Result<bool> {
    let line = match variable("LOCKSTEP_CONTAINERS").as_deref() {
        Some("required") => return Ok(true),
        None => "container tests did not run: no container engine (integration-tests/run starts one)",
        Some("off") => "container tests did not run: LOCKSTEP_CONTAINERS is off",
        Some(other) => bail!("LOCKSTEP_CONTAINERS is '{other}', expected 'required', 'off' or nothing"),
    };
    // Not `println!`: the test runner swallows that for a test that passes.
    writeln!(std::io::stderr(), "{line}")?;
    Ok(false)
}

/// `integration-tests/run` believes that container tests ran only if they left a line in this file.
pub(crate) fn record_evidence(what: &str) -> Result<()> {
    let Some(path) = variable("LOCKSTEP_EVIDENCE") else { return Ok(()) };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.clone())?;
    writeln!(file, "{what}").with_context(|| path)
}

/// The reaper runs in a process group of its own, so that an interrupt from the terminal does not end it with the tests.
fn start_reaper() -> Result<()> {
    static PIPE: OnceLock<Result<Option<ChildStdin>, String>> = OnceLock::new();
    let script = "trap '' INT TERM HUP; cat >/dev/null; \
        ids=$(docker ps --all --quiet --filter \"label=$1\"); \
        [ -z \"$ids\" ] || docker rm --force --volumes $ids";
    let pipe = PIPE.get_or_init(|| {
        let reaper = Command::new("sh")
            .args(["-c", script, "reaper", &format!("{OWNER_LABEL}={}", std::process::id())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        reaper.map(|mut child| child.stdin.take()).map_err(|e| e.to_string())
    });
    pipe.as_ref().map(|_| ()).map_err(|reason| anyhow!("the process that removes containers: {reason}"))
}
