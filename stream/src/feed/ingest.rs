//! `lockstep-stream ingest`: JSON lines to key-value records, into a topic or a file log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde_json::Value as Json;

use super::generate::{pace, progress};

/// How long the broker may take to confirm what was sent last.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// What goes where.
#[derive(clap::Args, Debug)]
pub struct IngestArguments {
    /// A file of JSON lines
    file: PathBuf,
    /// The topic
    #[arg(long, requires = "bootstrap_servers", required_unless_present = "log", env = "LOCKSTEP_TOPIC")]
    topic: Option<String>,
    /// The brokers
    #[arg(long, env = "LOCKSTEP_BOOTSTRAP_SERVERS")]
    bootstrap_servers: Option<String>,
    /// A file log to append to, in place of a topic
    #[arg(long, conflicts_with = "topic")]
    log: Option<PathBuf>,
    /// The field that becomes the record's key; records have no key if absent
    #[arg(long, env = "LOCKSTEP_KEY")]
    key: Option<String>,
    /// Most records a second; as fast as possible if absent
    #[arg(long, env = "LOCKSTEP_RATE")]
    rate: Option<u32>,
    /// A further property of the producer, as name=value; can be repeated
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
}

/// Sends the file's lines. What is no JSON object with the key goes out without a key: the log shows it as it is.
///
/// # Errors
/// Where the file cannot be read, or a record not be sent.
pub fn run(arguments: &IngestArguments) -> Result<()> {
    let open = || File::open(&arguments.file).with_context(|| format!("cannot read {}", arguments.file.display()));
    let bar = progress(BufReader::new(open()?).split(b'\n').count() as u64, &arguments.file.display().to_string());
    let mut target = Target::open(arguments)?;
    let begin = Instant::now();
    let mut sent = 0;
    for line in BufReader::new(open()?).split(b'\n') {
        let line = line?;
        let key = arguments.key.as_ref().and_then(|field| key_of(&line, field));
        target.send(key.as_deref(), &line)?;
        sent += 1;
        bar.inc(1);
        pace(arguments.rate, sent, begin);
    }
    target.finish()?;
    bar.finish_and_clear();
    Ok(writeln!(io::stdout(), "{sent} records sent")?)
}

/// The field's value as text: a string without its quotes, anything else as JSON.
fn key_of(line: &[u8], field: &str) -> Option<String> {
    match serde_json::from_slice::<Json>(line).ok()?.get(field)? {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

enum Target {
    Kafka { producer: ThreadedProducer<Confirmations>, topic: String },
    Log(BufWriter<File>, bool),
}

/// Keeps the first failure of a delivery.
#[derive(Clone, Default)]
struct Confirmations(std::sync::Arc<std::sync::Mutex<Option<String>>>);

impl rdkafka::ClientContext for Confirmations {}

impl rdkafka::producer::ProducerContext for Confirmations {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error.to_string());
        }
    }
}

impl Target {
    fn open(arguments: &IngestArguments) -> Result<Self> {
        if let Some(path) = &arguments.log {
            let file = append(path).with_context(|| format!("cannot append to {}", path.display()))?;
            return Ok(Self::Log(BufWriter::new(file), arguments.key.is_some()));
        }
        let (Some(topic), Some(servers)) = (&arguments.topic, &arguments.bootstrap_servers) else {
            bail!("name --topic and --bootstrap-servers, or --log")
        };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers).set("enable.idempotence", "true").set("compression.type", "zstd");
        for property in &arguments.properties {
            let (name, value) =
                property.split_once('=').with_context(|| format!("--property {property}: write name=value"))?;
            config.set(name, value);
        }
        let producer: ThreadedProducer<Confirmations> = config.create_with_context(Confirmations::default())?;
        producer
            .client()
            .fetch_metadata(Some(topic), Duration::from_secs(15))
            .with_context(|| format!("no answer from {servers}"))?;
        Ok(Self::Kafka { producer, topic: topic.clone() })
    }

    fn send(&mut self, key: Option<&str>, value: &[u8]) -> Result<()> {
        match self {
            Self::Log(out, true) => Ok(out.write_all(&pair(key, value))?),
            Self::Log(out, false) => {
                out.write_all(value)?;
                Ok(out.write_all(b"\n")?)
            }
            Self::Kafka { producer, topic } => {
                let mut record = BaseRecord::to(topic).payload(value);
                record.key = key;
                while let Err((error, back)) = producer.send(record) {
                    match error {
                        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        other => return Err(other.into()),
                    }
                    record = back;
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Log(mut out, _) => Ok(out.flush()?),
            Self::Kafka { producer, .. } => {
                producer.flush(FLUSH_PATIENCE).context("the broker did not confirm the last records")?;
                match producer.context().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
                    Some(failure) => bail!("a record was not taken: {failure}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// A line of a file log with `'key.format'`; a value that is no JSON stands as it is, and is rejected as it is.
#[must_use]
pub fn pair(key: Option<&str>, value: &[u8]) -> Vec<u8> {
    let Ok(json) = serde_json::from_slice::<Json>(value) else {
        return [value, b"\n"].concat();
    };
    let mut line = serde_json::json!({"key": key, "value": json}).to_string().into_bytes();
    line.push(b'\n');
    line
}
