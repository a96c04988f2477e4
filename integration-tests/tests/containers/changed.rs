//! A changed program is deployed without downtime: its index is written and proven before it takes the old one's place, readers of
//! the name always find documents, and a stream of the old program is in nobody's way.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lockstep_integration_tests::containers::{self, free_port, fresh_name};
use lockstep_integration_tests::eventually;
use lockstep_integration_tests::index::Index;
use lockstep_integration_tests::processes::Program;
use serde_json::{Value, json};

use crate::shop::SOON;

/// Between two looks of the dashboard.
const LOOK: Duration = Duration::from_millis(20);

struct People {
    folder: tempfile::TempDir,
    server: Index,
    name: String,
    http: u16,
    written: u64,
}

impl People {
    fn write(&mut self, count: u64) -> Result<()> {
        let path = self.folder.path().join("people.jsonl");
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        for n in self.written..self.written + count {
            writeln!(
                log,
                "{}",
                json!({"key": format!("{n}"), "value": {"id": format!("{n}"), "name": format!("name {n}")}})
            )?;
        }
        self.written += count;
        Ok(())
    }

    /// A program that shows these columns, each with its expression.
    fn program(&self, file: &str, columns: &[(&str, &str)]) -> Result<String> {
        let names: String = columns.iter().map(|(name, _)| format!("{name} STRING, ")).collect();
        let selected: Vec<&str> = columns.iter().map(|(_, expression)| *expression).collect();
        let (folder, url) = (self.folder.path().display(), self.server.url());
        let text = format!(
            "SET 'lockstep.http.address' = '127.0.0.1:{}';
             SET 'lockstep.state.path' = '{folder}/state';
             SET 'lockstep.archive.path' = '{folder}/archive';
             SET 'lockstep.archive.commit.max-delay' = '200 ms';
             CREATE TABLE people (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED)
               WITH ('connector' = 'filesystem', 'path' = '{folder}/people.jsonl', 'format' = 'json', 'key.format' = 'raw');
             CREATE TABLE shown (id STRING, {names}PRIMARY KEY (id) NOT ENFORCED)
               WITH ('connector' = 'elasticsearch-8', 'hosts' = '{url}', 'index' = '{}');
             INSERT INTO shown SELECT id, {} FROM people;",
            self.http,
            self.name,
            selected.join(", ")
        );
        let path = self.folder.path().join(file);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    async fn start(&self, program: &str) -> Result<Program> {
        let mut stream = Program::start("lockstep-stream", &["run", program], self.folder.path())?;
        stream.wait_for_health(&format!("http://127.0.0.1:{}/readyz", self.http), SOON).await?;
        self.shown().await?;
        Ok(stream)
    }

    async fn shown(&self) -> Result<()> {
        eventually("everybody is shown", SOON, async || match self.server.count(&self.name).await {
            Ok(found) if found == self.written => Ok(()),
            other => Err(format!("{other:?} of {}", self.written)),
        })
        .await
    }

    async fn documents(&self) -> Result<Vec<Value>> {
        self.server.refresh(&self.name).await?;
        Ok(self.server.all_documents(&self.name).await?.into_iter().map(|document| document.source).collect())
    }
}

async fn batch(folder: &Path, arguments: &[&str], code: i32) -> Result<String> {
    let mut batch = Program::start("lockstep-batch", arguments, folder)?;
    batch.expect_exit(code, SOON).await?;
    Ok(batch.output())
}

/// Counts through the name until it is told to stop; how often, or what it found once.
async fn dashboard(server: Index, name: String, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let found = server.count(&name).await.with_context(|| format!("look {looks}"))?;
        ensure!(found >= 200, "look {looks} found {found} documents");
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
    Ok(looks)
}

#[tokio::test]
async fn a_changed_program_is_deployed_without_a_moment_without_documents() -> Result<()> {
    let Some(servers) = containers::shared().await? else { return Ok(()) };
    let (folder, http) = (tempfile::tempdir()?, free_port()?);
    let mut people = People { folder, server: servers.index.clone(), name: fresh_name("people"), http, written: 0 };
    let folder = people.folder.path().to_owned();
    let old = people.program("old.sql", &[("name", "name")])?;
    let new = people.program("new.sql", &[("name", "UPPER(name)"), ("greeting", "'dear ' || name")])?;
    people.write(200)?;
    let mut stream = people.start(&old).await?;
    batch(&folder, &["rebuild", &old, "--replace-index"], 0).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let looking = tokio::spawn(dashboard(people.server.clone(), people.name.clone(), stop.clone()));

    people.write(50)?;
    let refused = batch(&folder, &["rebuild", &new], 1).await?;
    ensure!(refused.contains("runs another program") && refused.contains("stop that stream"), "{refused}");
    people.shown().await?;
    ensure!(people.documents().await?.iter().all(|document| document.get("greeting").is_none()), "nothing has changed");

    stream.terminate(SOON).await?;
    people.write(50)?;
    let rebuilt = batch(&folder, &["rebuild", &new], 0).await?;
    let swapped = people.documents().await?;
    ensure!(swapped.len() == 250, "{} documents: {rebuilt}", swapped.len());
    ensure!(swapped.iter().all(|document| document["greeting"].is_string()), "they are the new program's: {swapped:?}");
    let mut stream = people.start(&new).await?;
    people.write(50)?;
    people.shown().await?;
    for document in people.documents().await? {
        let id = document["id"].as_str().context("an id")?;
        let expected = json!({"id": id, "name": format!("NAME {id}"), "greeting": format!("dear name {id}")});
        ensure!(document == expected, "{document} is not {expected}");
    }
    batch(&folder, &["rebuild", &new], 0).await?;
    batch(&folder, &["reconcile", &new], 0).await?;
    stop.store(true, Ordering::Relaxed);
    let looks = looking.await??;
    ensure!(looks > 10, "the dashboard looked {looks} times only");
    stream.terminate(SOON).await
}
