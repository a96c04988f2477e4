//! The shoe shop as a pipeline under test: its own topics or files, its own index, its own folder and ports.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lockstep_integration_tests::containers::{free_port, fresh_name};
use lockstep_integration_tests::index::{Document, Index};
use lockstep_integration_tests::kafka::{Kafka, Record};
use lockstep_integration_tests::processes::Program;
use lockstep_integration_tests::{eventually, workspace};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::{self, Overrides};
use lockstep_stream::feed::generator::{Generator, Variation};
use lockstep_stream::feed::ingest::pair;
use serde_json::Value;
use tempfile::TempDir;

use crate::expected;

/// The tables, each with the field that is the key of its records in the recommended program.
pub const TABLES: [(&str, Option<&str>); 4] =
    [("products", Some("id")), ("sales", Some("order_id")), ("users", Some("id")), ("views", None)];

/// The sinks beside `product_dashboard` of the recommended program.
pub const SINKS: [&str; 4] = ["orders_enriched", "views_enriched", "catalogue", "customers"];

/// Longest wait for anything that a pipeline does.
pub const SOON: Duration = Duration::from_secs(90);

/// A program of `fixtures/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The published text: every table is an append table.
    Seed,
    /// The recommended one: products, sales and users have keys.
    Keyed,
}

/// A pipeline with its own everything.
pub struct Shop {
    program: Text,
    folder: TempDir,
    settings: BTreeMap<String, String>,
    kafka: Option<(Kafka, BTreeMap<String, String>)>,
    /// What was sent, by table, in order; the rows that it leaves are what is expected.
    sent: BTreeMap<String, Vec<Record>>,
    /// Records sent that are no rows.
    bad: BTreeMap<String, u64>,
    http: String,
    index: Index,
    index_name: String,
}

impl Shop {
    /// On real servers, with topics of so many partitions.
    pub async fn on_servers(program: Text, kafka: &Kafka, index: &Index, partitions: i32) -> Result<Self> {
        let mut topics = BTreeMap::new();
        for (table, _) in TABLES {
            let topic = fresh_name(table);
            kafka.create_topic(&topic, partitions).await?;
            topics.insert(table.to_owned(), topic);
        }
        let mut shop = Self::new(program, index.clone(), fresh_name("dashboard"))?;
        for (table, topic) in &topics {
            shop.set(&format!("{table}.topic"), topic);
            shop.set(&format!("{table}.properties.bootstrap.servers"), kafka.brokers());
            if program == Text::Keyed {
                shop.set(&format!("{table}.connector"), "kafka");
                shop.set(&format!("{table}.path"), "");
            }
        }
        if program == Text::Keyed {
            shop.set("lockstep.index.embedded.address", "");
            for sink in SINKS {
                shop.set(&format!("{sink}.index"), &fresh_name(sink));
                shop.set(&format!("{sink}.hosts"), index.url());
            }
        }
        shop.set("product_dashboard.index", &shop.index_name.clone());
        shop.set("product_dashboard.hosts", index.url());
        shop.kafka = Some((kafka.clone(), topics));
        Ok(shop)
    }

    /// On files and the embedded index.
    pub fn on_files() -> Result<Self> {
        let shop = Self::on_files_not_yet_there()?;
        for (table, _) in TABLES {
            std::fs::File::create(shop.log(table))?;
        }
        Ok(shop)
    }

    /// On the embedded index and files that somebody else will make.
    pub fn on_files_not_yet_there() -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let index = Index::new(&format!("http://{address}"))?;
        let mut shop = Self::new(Text::Keyed, index, "product_dashboard".to_owned())?;
        for (table, _) in TABLES {
            let path = shop.log(table);
            shop.set(&format!("{table}.path"), &path.display().to_string());
        }
        for sink in SINKS.iter().chain(&["product_dashboard"]) {
            shop.set(&format!("{sink}.hosts"), &format!("http://{address}"));
        }
        shop.set("lockstep.index.embedded.address", &address);
        Ok(shop)
    }

    fn new(program: Text, index: Index, index_name: String) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let mut shop = Self {
            program,
            settings: BTreeMap::new(),
            kafka: None,
            sent: BTreeMap::new(),
            bad: BTreeMap::new(),
            http: String::new(),
            index,
            index_name,
            folder,
        };
        let below = |name: &str| shop.folder.path().join(name).display().to_string();
        let (archive, state) = (below("archive"), below("state"));
        shop.set("lockstep.archive.path", &archive);
        shop.set("lockstep.state.path", &state);
        shop.set_address(port);
        shop.set("lockstep.archive.commit.max-delay", "500 ms");
        Ok(shop)
    }

    /// Overrides a setting or an option from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Its status is served at another port from the next start on.
    pub fn set_address(&mut self, port: u16) {
        self.http = format!("http://127.0.0.1:{port}");
        self.set("lockstep.http.address", &format!("127.0.0.1:{port}"));
    }

    /// The index's name.
    pub fn index_name(&self) -> &str {
        &self.index_name
    }

    /// The server that holds the index, without any proxy.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The index of one of [`SINKS`].
    pub fn index_of(&self, sink: &'static str) -> &str {
        let default = if sink == "catalogue" { "products" } else { sink };
        self.settings.get(&format!("{sink}.index")).map_or(default, String::as_str)
    }

    /// The pipeline as the programs read it.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let overrides = Overrides::parse(&settings).map_err(|error| anyhow!("{error}"))?;
        sql::compile_file(&self.path(), &overrides).map_err(|error| anyhow!(error))
    }

    /// The folder of the archive.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// A folder of this test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file log of a table.
    pub fn log(&self, table: &str) -> PathBuf {
        self.folder.path().join(format!("{table}.jsonl"))
    }

    /// The text of the program.
    fn path(&self) -> PathBuf {
        let name = if self.program == Text::Seed { "seed.sql" } else { "pipeline.sql" };
        fixture(name)
    }

    /// Records of the shop's generator, keyed where the table has a key.
    pub fn generated(&self, table: &str, seed: u64, count: usize) -> Result<Vec<Record>> {
        let variation = Variation { start_ms: None, catalogue_once: false };
        let mut generator = Generator::open(&fixture(&format!("datagen/{table}.avro")), seed, variation)?;
        (0..count).map(|_| Ok(self.record(table, &generator.record()?))).collect()
    }

    /// A row as a record, with the key that the table wants.
    pub fn record(&self, table: &str, row: &Value) -> Record {
        let key = TABLES.iter().find(|(name, _)| *name == table).and_then(|(_, key)| *key);
        match key {
            Some(field) => {
                let key = row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned);
                Record::keyed(key, row.to_string())
            }
            None => Record::value(row.to_string()),
        }
    }

    /// Sends records that count.
    pub async fn send(&mut self, table: &str, records: Vec<Record>) -> Result<()> {
        self.write(table, &records).await?;
        self.sent.entry(table.to_owned()).or_default().extend(records);
        Ok(())
    }

    /// Sends records that are no rows and must be rejected.
    pub async fn send_bad(&mut self, table: &str, records: &[Record]) -> Result<()> {
        *self.bad.entry(table.to_owned()).or_default() += records.len() as u64;
        self.write(table, records).await
    }

    /// Takes note of records that something else sent.
    pub fn was_sent(&mut self, table: &str, records: Vec<Record>) {
        self.sent.entry(table.to_owned()).or_default().extend(records);
    }

    async fn write(&self, table: &str, records: &[Record]) -> Result<()> {
        if let Some((kafka, topics)) = &self.kafka {
            return kafka.produce(&topics[table], records).await.map(drop);
        }
        let mut lines = Vec::new();
        for record in records {
            let value = record.value.as_deref();
            match (&record.key, value) {
                (Some(key), Some(value)) => lines.extend(pair(Some(std::str::from_utf8(key)?), value)),
                (None, Some(value)) => lines.extend([value, b"\n"].concat()),
                (Some(key), None) => lines.extend(pair(Some(std::str::from_utf8(key)?), b"null")),
                (None, None) => bail!("a line without key and value says nothing"),
            }
        }
        Ok(OpenOptions::new().append(true).open(self.log(table))?.write_all(&lines)?)
    }

    /// The topic of a table.
    pub fn topic(&self, table: &str) -> Result<&str> {
        let (_, topics) = self.kafka.as_ref().context("this shop has no topics")?;
        Ok(&topics[table])
    }

    /// Another topic takes the place of a table's own.
    pub fn rename_topic(&mut self, table: &str, topic: &str) {
        if let Some((_, topics)) = &mut self.kafka {
            topics.insert(table.to_owned(), topic.to_owned());
        }
    }

    /// Where the stream serves its status.
    pub fn address(&self) -> &str {
        &self.http
    }

    /// What `check` says, and its exit code.
    pub async fn check(&self, code: i32) -> Result<String> {
        self.stream(&["check"], code).await
    }

    /// Starts the stream.
    pub fn start(&self) -> Result<Program> {
        self.program("lockstep-stream", &["run"])
    }

    /// Starts the stream and waits until it takes records.
    pub async fn start_live(&self) -> Result<Program> {
        let mut stream = self.start()?;
        stream.wait_for_health(&format!("{}/readyz", self.http), SOON).await?;
        Ok(stream)
    }

    /// Starts one of the programs on this pipeline: its command, and what comes after the pipeline.
    fn program(&self, name: &str, command: &[&str]) -> Result<Program> {
        let path = self.path().display().to_string();
        self.start_program(name, &[command, &[&path]].concat())
    }

    /// Starts the demo on this pipeline's files and ports.
    pub fn demo(&self, command: &[&str]) -> Result<Program> {
        self.start_program("demo", command)
    }

    fn start_program(&self, name: &str, arguments: &[&str]) -> Result<Program> {
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut arguments = arguments.to_vec();
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        Program::start(name, &arguments, self.folder.path())
    }

    /// Runs a command of the batch layer to its end and checks its exit code; what it printed.
    pub async fn batch(&self, command: &[&str], code: i32) -> Result<String> {
        let mut program = self.program("lockstep-batch", command)?;
        program.expect_exit(code, SOON).await?;
        Ok(program.output())
    }

    /// What `why` says of an id, and its exit code.
    pub async fn why(&self, id: &str, options: &[&str], code: i32) -> Result<String> {
        let path = self.path().display().to_string();
        let mut program = self.start_program("lockstep-batch", &[&["why", &path, id], options].concat())?;
        program.expect_exit(code, SOON).await?;
        Ok(program.output())
    }

    /// Starts a command of the batch layer: the command, and what comes after the pipeline.
    pub fn begin_batch(&self, command: &[&str], after: &[&str]) -> Result<Program> {
        let path = self.path().display().to_string();
        self.start_program("lockstep-batch", &[command, &[&path], after].concat())
    }

    /// Runs a command of the stream layer to its end and checks its exit code; what it printed.
    pub async fn stream(&self, command: &[&str], code: i32) -> Result<String> {
        let mut program = self.program("lockstep-stream", command)?;
        program.expect_exit(code, SOON).await?;
        Ok(program.output())
    }

    /// Reconciles and checks the exit code; the certificate.
    pub async fn reconcile(&self, options: &[&str], code: i32) -> Result<Value> {
        let command = [&["reconcile", "--output", "json"], options].concat();
        let output = self.batch(&command, code).await?;
        serde_json::from_str(&output).with_context(|| format!("the certificate is JSON: {output}"))
    }

    /// Starts a reconcile and does not wait for its end.
    pub fn start_reconcile(&self) -> Result<Program> {
        self.program("lockstep-batch", &["reconcile"])
    }

    /// What `/v1/status` says.
    pub async fn status(&self) -> Result<Value> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(http.get(format!("{}/v1/status", self.http)).send().await?.json().await?)
    }

    /// The text of another page of the stream.
    pub async fn page(&self, path: &str) -> Result<String> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(http.get(format!("{}{path}", self.http)).send().await?.text().await?)
    }

    /// The number of records of a table that were sent, the bad ones too.
    fn count(&self, table: &str) -> u64 {
        self.sent.get(table).map_or(0, |sent| sent.len() as u64) + self.bad.get(table).copied().unwrap_or(0)
    }

    /// Waits until everything that was sent is in the index.
    pub async fn caught_up(&self) -> Result<()> {
        eventually("the stream has taken and written everything that was sent", SOON, async || {
            let status = self.status().await.map_err(|error| format!("{error:#}"))?;
            for (table, _) in TABLES {
                let positions = status["tables"][table]["positions"].as_object();
                let ends = positions.into_iter().flatten().filter_map(|(_, offset)| offset.as_u64());
                // A topic's offsets count its records; a file's are bytes.
                let (taken, sent) = match &self.kafka {
                    Some(_) => (ends.sum::<u64>(), self.count(table)),
                    None => (ends.sum(), std::fs::metadata(self.log(table)).map_or(0, |file| file.len())),
                };
                if taken < sent {
                    return Err(format!("{table} at {taken} of {sent}: {status}"));
                }
            }
            if status["acknowledged"] == status["step"] { Ok(()) } else { Err(status.to_string()) }
        })
        .await
    }

    /// Waits until everything that was sent is in the index and in the archive.
    pub async fn caught_up_and_archived(&self) -> Result<()> {
        self.caught_up().await?;
        eventually("the archive has every step", SOON, async || {
            let status = self.status().await.map_err(|error| format!("{error:#}"))?;
            if status["archived"] == status["step"] { Ok(()) } else { Err(status.to_string()) }
        })
        .await
    }

    /// Every document of the index.
    pub async fn documents(&self) -> Result<Vec<Document>> {
        self.index.refresh(&self.index_name).await?;
        self.index.all_documents(&self.index_name).await
    }

    /// What the index should hold after everything that was sent, by an independent engine.
    pub fn expected(&self) -> Result<Vec<String>> {
        let mut rows = expected::Rows::new();
        for (table, key) in TABLES {
            let keyed = self.program == Text::Keyed && key.is_some();
            rows.insert(table.to_owned(), expected::rows(self.sent.get(table).map_or(&[][..], Vec::as_slice), keyed)?);
        }
        expected::documents(&self.path(), &rows)
    }

    /// Checks that the index holds exactly what it should.
    pub async fn assert_index_is_as_expected(&self) -> Result<()> {
        let expected = self.expected()?;
        ensure!(!expected.is_empty(), "a test that expects nothing tests nothing");
        expected::assert_equal(&expected, &expected::bag(&self.documents().await?)?);
        Ok(())
    }

    /// Checks that the archive has every record of each partition's log, once, up to the position that it notes. The
    /// stream may run, or be dead.
    pub async fn assert_archive_tiles(&self) -> Result<()> {
        let report = self.batch(&["archive", "verify", "--output", "json"], 0).await?;
        let tables: Value = serde_json::from_str(&report).with_context(|| format!("a report: {report}"))?;
        for table in tables.as_array().context("a list of tables")? {
            let name = table["table"].as_str().unwrap_or_default();
            for partition in table["partitions"].as_array().into_iter().flatten() {
                let number = |field: &Value| field.as_u64().with_context(|| format!("a number in {partition}"));
                let (from, to) = (number(&partition["range"]["from"])?, number(&partition["range"]["to"])?);
                let records = number(&partition["records"])?;
                let logged = match &self.kafka {
                    // No transactions and no compaction: a topic's offsets count its records.
                    Some(_) => to,
                    None => {
                        let log = std::fs::read(self.log(name))?;
                        let taken = log.get(..usize::try_from(to)?).context("the archive is ahead of the log")?;
                        taken.iter().filter(|byte| **byte == b'\n').count() as u64
                    }
                };
                ensure!(
                    records == logged && (from == 0 || records == 0),
                    "{name} has {logged} in its log: {partition}"
                );
            }
        }
        Ok(())
    }

    /// Runs the stream until it has caught up: index and archive have everything then.
    pub async fn assert_catches_up(&mut self) -> Result<()> {
        let mut stream = self.start_live().await?;
        self.caught_up_and_archived().await?;
        self.assert_index_is_as_expected().await?;
        self.reconcile(&[], 0).await?;
        stream.terminate(SOON).await?;
        self.assert_archive_is_whole().await
    }

    /// Checks that the archive has everything that was sent, once. The stream has stopped.
    pub async fn assert_archive_is_whole(&self) -> Result<()> {
        let report = self.batch(&["archive", "verify"], 0).await?;
        for (table, _) in TABLES {
            let (all, rejected) = (self.count(table), self.bad.get(table).copied().unwrap_or(0));
            let wanted = format!("{table}: {all} records up to step ");
            let line = report.lines().find(|line| line.starts_with(&wanted));
            let line = line.with_context(|| format!("expected '{wanted}…' in\n{report}"))?;
            ensure!(line.contains(&format!(", {rejected} rejected,")), "expected {rejected} rejected: {line}");
        }
        Ok(())
    }
}

/// A file of `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    workspace().join("fixtures").join(name)
}
