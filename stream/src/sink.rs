//! Writes changes to the sinks: steps that wait are merged into one group, written, and acknowledged together. A document that the index will never
//! take becomes a dead letter: a line in the state folder, counted and listed, and the rest goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use lockstep_shared::archive::owner::{OwnerError, Ownership};
use lockstep_shared::coordinates::Step;
use lockstep_shared::disk;
use lockstep_shared::document::write_json;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::carried::Carried;
use lockstep_shared::index::page::Hit;
use lockstep_shared::index::scan::scan;
use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name, writer::Writer};
use lockstep_shared::plan::{Pipeline, Sink};
use tokio::sync::mpsc;

use crate::cut::{Held, Moment};
use crate::group::{Changes, Group, Work, operations};
use crate::status::{DeadLetter, Status};
use crate::survey::{Survey, Surveyed};

/// Bulk bodies under way at a time.
const PARALLEL_BODIES: usize = 4;
/// Most steps merged into one group.
const STEPS_IN_A_GROUP: usize = 32;
/// Longest time that nothing is written for the sake of a cut: below what anybody who looks would take for a fault.
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// How long an index keeps the point in time of a cut for whoever asked: what is to be there is computed first.
const KEEP_ALIVE: &str = "30m";

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The index said so.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The disk did.
    #[error("cannot write {path}: {source}{}", disk::advice(source))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another stream has taken the archive over, and writes the index too.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

enum Target {
    Index { writer: Writer, index: String, carried: Carried },
    File { path: PathBuf, file: File },
    Print,
    Blackhole,
}

/// What the sinks do, in order.
#[derive(Debug)]
pub enum SinkWork {
    /// Write a step.
    Write(Work),
    /// Search for documents of lost steps.
    Search(Survey),
    /// Open a point in time of every index.
    Hold,
}

/// What the sinks have done.
#[derive(Debug)]
pub enum SinkDone {
    /// Every sink has everything up to the step.
    Written(Step),
    /// These documents are of lost steps.
    Found(Vec<Surveyed>),
    /// These are the indexes as they are after what was written before, or why not.
    Held(Result<Held, String>),
}

/// All sinks of a pipeline.
pub struct Sinks {
    pipeline: Arc<Pipeline>,
    targets: Vec<Target>,
    dead_letters: PathBuf,
    status: Arc<Status>,
    owner: Arc<Ownership>,
}

impl Sinks {
    /// Connects every sink: creates indexes that are not there and refuses a live mapping that does not fit. An index that
    /// does not answer is waited for.
    ///
    /// # Errors
    /// Where an index refuses, or a file cannot be opened.
    pub async fn open(
        pipeline: Arc<Pipeline>,
        state: &Path,
        status: Arc<Status>,
        owner: Arc<Ownership>,
    ) -> Result<Self, SinkError> {
        let mut targets = Vec::with_capacity(pipeline.sinks.len());
        for sink in &pipeline.sinks {
            targets.push(open_target(sink, &status).await?);
        }
        Ok(Self { pipeline, targets, dead_letters: state.join("dead-letters.jsonl"), status, owner })
    }

    /// Writes what arrives until the queue ends, and sends on each step that every sink has taken.
    ///
    /// # Errors
    /// Where a sink will take nothing more until someone acts.
    pub async fn run(
        mut self,
        mut queue: mpsc::Receiver<SinkWork>,
        acknowledged: mpsc::Sender<SinkDone>,
    ) -> Result<(), SinkError> {
        let mut waiting = None;
        while let Some(work) = match waiting.take() {
            None => queue.recv().await,
            work => work,
        } {
            let first = match work {
                SinkWork::Write(first) => first,
                SinkWork::Search(survey) => {
                    let found = self.search(survey).await?;
                    if acknowledged.send(SinkDone::Found(found)).await.is_err() {
                        break;
                    }
                    continue;
                }
                SinkWork::Hold => {
                    let held = self.hold().await;
                    if acknowledged.send(SinkDone::Held(held)).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            let mut group = Group::new(self.targets.len(), first);
            for _ in 1..STEPS_IN_A_GROUP {
                match queue.try_recv() {
                    Ok(SinkWork::Write(next)) => group.add(next),
                    Ok(other) => waiting = Some(other),
                    Err(_) => break,
                }
                if waiting.is_some() {
                    break;
                }
            }
            // Whoever takes the archive over knows by this what may still be under way: what was read before.
            self.owner.check()?;
            let (last, sinks) = group.finish();
            for (number, changes) in sinks.into_iter().enumerate().filter(|(_, changes)| !changes.is_empty()) {
                self.write(number, changes).await?;
            }
            if acknowledged.send(SinkDone::Written(last)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The documents of lost steps in every index.
    async fn search(&self, survey: Survey) -> Result<Vec<Surveyed>, SinkError> {
        let mut surveyed = Vec::new();
        for (number, target) in self.targets.iter().enumerate() {
            let Target::Index { writer, index, .. } = target else { continue };
            tracing::info!("the journal was lost: searching {index} for documents of the steps that were lost with it");
            let look = |hit: &Hit<'_>| {
                if survey.has(hit.version.step()) {
                    surveyed.push((number, DocumentId(hit.id.as_ref().into())));
                }
            };
            scan(writer.client(), index, look).await?;
        }
        tracing::info!("{} documents of lost steps are written anew or deleted", surveyed.len());
        Ok(surveyed)
    }

    /// A point in time of every index. Nothing is written meanwhile, so it must not last.
    async fn hold(&self) -> Result<Held, String> {
        let begin = Instant::now();
        let targets = self.pipeline.sinks.iter().zip(&self.targets);
        let moments = targets.filter_map(|(sink, target)| match target {
            Target::Index { writer, index, .. } => Some(moment(sink, writer.client(), index)),
            Target::File { .. } | Target::Print | Target::Blackhole => None,
        });
        let late = || format!("they did not answer within {} s", LONGEST_HOLD.as_secs());
        let opened = tokio::time::timeout(LONGEST_HOLD, try_join_all(moments)).await.map_err(|_| late())?;
        let sinks = opened.map_err(|error| error.to_string())?.into_iter().collect();
        let duration = begin.elapsed();
        self.status.update(|s| s.cuts.held(duration));
        Ok(Held { sinks, duration })
    }

    async fn write(&mut self, number: usize, changes: Changes) -> Result<(), SinkError> {
        let sink = &self.pipeline.sinks[number];
        let count = changes.len() as u64;
        match &mut self.targets[number] {
            Target::Index { writer, index, carried } => {
                let status = self.status.clone();
                let trouble = |reason: &str| status.update(|s| s.trouble = Some(reason.to_owned()));
                let written = writer.write(index, operations(sink, changes, carried), &trouble).await?;
                self.status.update(|s| {
                    s.retries += written.retries;
                    s.trouble = None;
                    let shown = s.sinks.entry(sink.name.clone()).or_default();
                    shown.retries += written.retries;
                    shown.answered(&written.answered_after);
                });
                for rejected in written.rejected {
                    let (id, step) = (rejected.id.to_string(), rejected.version.step());
                    let letter = DeadLetter { sink: sink.name.clone(), id, step, reason: rejected.reason };
                    append_letter(&self.dead_letters, &letter)?;
                    self.status.dead_letter(letter);
                }
            }
            Target::File { path, file } => {
                file.write_all(&lines(sink, changes))
                    .map_err(|source| SinkError::Disk { path: path.clone(), source })?;
            }
            Target::Print => {
                let path = || PathBuf::from("standard output");
                io::stdout()
                    .write_all(&lines(sink, changes))
                    .map_err(|source| SinkError::Disk { path: path(), source })?;
            }
            Target::Blackhole => {}
        }
        self.status.update(|s| {
            s.written += count;
            s.sinks.entry(sink.name.clone()).or_default().written += count;
        });
        Ok(())
    }
}

/// The index as it is now, with everything that was written before.
async fn moment(sink: &Sink, client: &Client, index: &str) -> Result<(String, Moment), IndexError> {
    client.refresh(index).await?;
    let point_in_time = client.open_point_in_time(index, KEEP_ALIVE).await?;
    Ok((sink.name.clone(), Moment { index: index.to_owned(), point_in_time }))
}

async fn open_target(sink: &Sink, status: &Status) -> Result<Target, SinkError> {
    match sink.option("connector") {
        Some("print") => Ok(Target::Print),
        Some("blackhole") => Ok(Target::Blackhole),
        Some("filesystem") => {
            let path = PathBuf::from(sink.option("path").unwrap_or_default());
            let file = OpenOptions::new().create(true).append(true).open(&path);
            Ok(Target::File { file: file.map_err(|source| SinkError::Disk { path: path.clone(), source })?, path })
        }
        _ => {
            let client = Client::new(&ClientConfig::of_sink(sink)?)?;
            let (carried, index) = (wait_for(&client, sink, status).await?, index_name(sink).to_owned());
            if let Carried::Nothing(reason) = &carried {
                tracing::info!("documents of index {index} do not carry their digest: {reason}");
            }
            Ok(Target::Index { writer: Writer::new(client, PARALLEL_BODIES), index, carried })
        }
    }
}

/// How long to wait before an index that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

async fn wait_for(client: &Client, sink: &Sink, status: &Status) -> Result<Carried, IndexError> {
    loop {
        match client.ensure_index(sink).await {
            Err(error) if error.is_unavailable() => {
                tracing::warn!("waiting for the index of {}: {error}", sink.name);
                status.update(|s| s.trouble = Some(error.to_string()));
                tokio::time::sleep(ASK_AGAIN).await;
            }
            other => {
                status.update(|s| s.trouble = None);
                return other;
            }
        }
    }
}

/// A changelog for people: `+` and the document, or `-` and the id.
fn lines(sink: &Sink, changes: Changes) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, (step, document)) in changes {
        let sign = if document.is_some() { '+' } else { '-' };
        out.extend(format!("{sign} {} {step} {id} ", sink.name).into_bytes());
        if let Some(values) = document {
            write_json(&sink.columns, &values, &mut out);
        }
        out.push(b'\n');
    }
    out
}

fn append_letter(path: &Path, letter: &DeadLetter) -> Result<(), SinkError> {
    let disk = |source| SinkError::Disk { path: path.to_owned(), source };
    let mut line = serde_json::to_vec(letter).map_err(|e| disk(e.into()))?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(disk)?;
    file.write_all(&line).map_err(disk)
}
