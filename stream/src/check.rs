//! The environment of a pipeline: are its sources and indexes there, and do they fit?

use std::io::{self, Write};
use std::time::Duration;

use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name};
use lockstep_shared::plan::{Pipeline, Sink, Table};

use crate::source;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks every server, prints a line for each, and fails with all that is wrong.
///
/// # Errors
/// One sentence for everything that is not there or does not fit.
pub async fn environment(pipeline: &Pipeline) -> Result<(), String> {
    let mut wrong = Vec::new();
    // All are asked at once: brokers that do not answer are waited for in one go.
    let ask = |table: &Table| {
        let asked = table.clone();
        tokio::task::spawn_blocking(move || source::check(&asked, PATIENCE))
    };
    let answers: Vec<_> = pipeline.tables.iter().map(ask).collect();
    for (table, answer) in pipeline.tables.iter().zip(answers) {
        match answer.await {
            Ok(Ok(found)) => say(&format!("source {}: {found}", table.name)),
            Ok(Err(error)) => wrong.push(format!("source {}: {error}", table.name)),
            Err(error) => wrong.push(format!("source {}: {error}", table.name)),
        }
    }
    for sink in &pipeline.sinks {
        match sink.option("connector") {
            Some("print" | "blackhole" | "filesystem") => say(&format!("sink {}: nothing to reach", sink.name)),
            _ => match index(sink).await {
                Ok(found) => say(&format!("sink {}: {found}", sink.name)),
                Err(error) => wrong.push(format!("sink {}: {error}", sink.name)),
            },
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// What is wrong counts, also for whoever closed standard output.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// An index that is not there yet is well: the stream creates it. One that is there must fit.
async fn index(sink: &Sink) -> Result<String, IndexError> {
    let client = Client::new(&ClientConfig::of_sink(sink)?)?;
    client.ping().await?;
    let name = index_name(sink);
    if client.exists(name).await? {
        client.ensure_index(sink).await?;
        return Ok(format!("index {name} is there and its mapping fits"));
    }
    Ok(format!("reachable; index {name} will be created"))
}
