//! The driver: runs the core between sources, journal, sinks and archive. It decides nothing itself.
//!
//! ```text
//! sources --(64 batches)--> core --(64 steps)--> sinks    --> acknowledged --+
//!                             |  --(64 steps)--> archiver --> archived  -----+--> journal, offsets
//!                          journal
//! ```
//! A full queue stops the receiver of the one before it, so that a slow index reaches the source as back-pressure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_shared::archive::owner::{OwnerError, Ownership};
use lockstep_shared::archive::{Archive, ArchiveError, TableArchive};
use lockstep_shared::coordinates::{Channel, Step};
use lockstep_shared::plan::Pipeline;
use lockstep_shared::programs;
use lockstep_shared::sql::settings::Settings;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::archiver::{ArchiveWork, Archiver};
use crate::console::{self, Console};
use crate::continuity;
use crate::core::{Command, Core, Cut, Limits};
use crate::cut;
use crate::dashboard::{self, Dashboard};
use crate::embedded::{self, EmbeddedError};
use crate::group;
use crate::http;
use crate::journal::{Boundary, Journal, JournalError, Recorded};
use crate::progress::{Positions, Progress};
use crate::record::RawRecord;
use crate::recovery::{self, History, Resumed, Standing};
use crate::rejected::RejectedRecord;
use crate::sink::{SinkDone, SinkError, SinkWork, Sinks};
use crate::source::{Reached, SourceError, SourceEvent, Sources};
use crate::status::{Queue, Queues, Status};
use crate::takeover::{self, Taken, TakeoverError};
use crate::watch::{Question, Watch};

/// Batches between the sources and the core.
const EVENTS_QUEUED: usize = 64;
/// Steps between the core and each of its effects.
const STEPS_QUEUED: usize = 64;
/// Steps cut and not acknowledged. Below the queue, so that a slow index stops the core before the queue does.
const STEPS_IN_FLIGHT: u64 = 32;
/// Questions of people that wait; who asks when there is no room is told so.
const QUESTIONS_QUEUED: usize = 16;
/// Cuts asked for that wait while one is under way; who asks when there is no room is told so.
const CUTS_QUEUED: usize = 1;
/// How often an idle stream looks whether another one has taken the archive over.
const LOOK_FOR_OTHERS: std::time::Duration = std::time::Duration::from_secs(1);
/// Boundaries in the journal's file beyond which those that the archive has are dropped from it.
const BOUNDARIES_KEPT: usize = 1_000;

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// State or archive are another process's.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// Another stream has taken the archive over.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Journal and archive do not go together.
    #[error(transparent)]
    Gap(#[from] continuity::Gap),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A source could not be started.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A source failed while it ran.
    #[error("{reason}")]
    SourceFailed {
        /// Its table, what happened and what to do.
        reason: String,
    },
    /// The embedded index.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The HTTP server.
    #[error(transparent)]
    Http(#[from] http::HttpError),
    /// A setting.
    #[error("{0} is no address to listen on; write host:port")]
    Address(String),
    /// What was under way when the stop came did not end in time; it is taken up again at the next start.
    #[error("the service did not stop within {0} s; what was under way is taken up again at the next start")]
    SlowStop(u64),
}

impl ServiceError {
    /// True where something that the service needs does not answer.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Sink(SinkError::Index(error)) if error.is_unavailable())
    }
}

/// Runs the pipeline until `stop` becomes true.
///
/// # Errors
/// Where something needs a person: a damaged journal, an archive or an index that refuses.
pub async fn run(
    pipeline: Arc<Pipeline>,
    settings: &Settings,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ServiceError> {
    let status = Arc::new(Status::default());
    let archive_path = std::path::absolute(&settings.archive_path).unwrap_or_else(|_| settings.archive_path.clone());
    status.update(|s| {
        s.phase = "recovering";
        s.archive = archive_path;
        s.program = programs::fingerprint(&pipeline);
    });
    let Taken { mut journal, recorded, owner } = takeover::take(&settings.archive_path, &settings.state_path)?;
    let owner = Arc::new(owner);
    let dashboard = Arc::new(Dashboard::new(&pipeline).map_err(SinkError::from)?);
    let (questions, asked) = mpsc::channel(QUESTIONS_QUEUED);
    let (cuts, cuts_asked) = mpsc::channel(CUTS_QUEUED);
    let console = Console::new(pipeline.clone(), settings, status.clone(), dashboard.clone(), questions);
    let others = dashboard::routes::routes(dashboard, &settings.archive_path)
        .merge(cut::routes::routes(&pipeline, cuts).map_err(SinkError::from)?)
        .merge(console::routes(console.map_err(SinkError::from)?));
    let _http = http::serve(&settings.http_address, status.clone(), others).await?;
    let embedded = match &settings.embedded_address {
        None => None,
        Some(address) => {
            let listen = address.parse().map_err(|_| ServiceError::Address(address.clone()))?;
            Some(
                embedded::Server::start(embedded::Config { directory: settings.state_path.join("index"), listen })
                    .await?,
            )
        }
    };
    let archive = Archive::owned(&settings.archive_path, owner.clone());
    let limits = Limits { step_records: settings.step_max_records, steps_in_flight: STEPS_IN_FLIGHT };
    let (mut tables, notes) = recovery::open(&pipeline, &archive).await?;
    continuity::check(&pipeline, &notes, recorded.as_ref())?;
    let standing = Standing::new(notes, recorded);
    let History { records, last } = recovery::history(&tables, &standing).await?;
    recovery::claim(&mut tables, &standing).await?;
    let recorded = standing.recorded();
    journal.replace(&recorded)?;
    // Whoever wonders about a document later can ask what the program of its time gave.
    if let Err(error) = programs::keep(&pipeline, &settings.archive_path, standing.acknowledged()) {
        tracing::warn!("the program is not kept in the archive's folder: {error}");
    }
    let progress = Progress::new(standing.archived(), standing.acknowledged());
    let resumed = standing.resume(&pipeline, records, limits);
    let sinks = tokio::select! {
        sinks = Sinks::open(pipeline.clone(), &settings.state_path, status.clone(), owner.clone()) => sinks?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let last_run = LastRun { owner, journal, recorded, tables, progress, resumed, last, asked, cuts: cuts_asked };
    let ended = Service::start(pipeline, settings, status, last_run, sinks)?.run(stop).await;
    if let Some(server) = embedded {
        server.stop().await;
    }
    ended
}

/// What the last run left.
struct LastRun {
    owner: Arc<Ownership>,
    journal: Journal,
    recorded: Recorded,
    tables: Vec<TableArchive>,
    progress: Progress,
    resumed: Resumed,
    asked: mpsc::Receiver<Question>,
    cuts: mpsc::Receiver<cut::Request>,
    /// The last record of each partition.
    last: BTreeMap<Channel, RawRecord>,
}

/// The running parts.
struct Service {
    pipeline: Arc<Pipeline>,
    status: Arc<Status>,
    watch: Watch,
    asked: mpsc::Receiver<Question>,
    cuts: mpsc::Receiver<cut::Request>,
    cut: Option<cut::Pending>,
    owner: Arc<Ownership>,
    journal: Journal,
    recorded: Recorded,
    core: Core,
    sources: Sources,
    events: mpsc::Receiver<SourceEvent>,
    sink: Effect<SinkWork, SinkDone, SinkError>,
    archiver: Effect<ArchiveWork, Step, ArchiveError>,
    /// The progress's, for the archiver.
    acknowledged: Arc<AtomicU64>,
    progress: Progress,
    again: VecDeque<group::Work>,
    step_max_delay: std::time::Duration,
    shutdown_timeout: std::time::Duration,
}

/// A task that takes work and says what it has done.
struct Effect<W, D, E> {
    queue: mpsc::Sender<W>,
    done: mpsc::Receiver<D>,
    task: JoinHandle<Result<(), E>>,
}

impl Service {
    fn start(
        pipeline: Arc<Pipeline>,
        settings: &Settings,
        status: Arc<Status>,
        last_run: LastRun,
        sinks: Sinks,
    ) -> Result<Self, ServiceError> {
        let LastRun { owner, journal, recorded, tables, progress, resumed, last, asked, cuts } = last_run;
        let Resumed { core, positions, again } = resumed;
        let acknowledged = Arc::new(AtomicU64::new(progress.acknowledged().0));
        let (sink_queue, sink_work) = mpsc::channel(STEPS_QUEUED);
        let (sink_done, sink_steps) = mpsc::channel(STEPS_QUEUED);
        let sink = Effect { queue: sink_queue, done: sink_steps, task: tokio::spawn(sinks.run(sink_work, sink_done)) };
        let (archive_queue, archive_work) = mpsc::channel(STEPS_QUEUED);
        let (archive_done, archive_steps) = mpsc::channel(STEPS_QUEUED);
        let archiver = Archiver::new(tables, settings.archive_commit_max_delay, acknowledged.clone());
        let archiver = Effect {
            queue: archive_queue,
            done: archive_steps,
            task: tokio::spawn(archiver.run(archive_work, archive_done)),
        };
        let (events, received) = mpsc::channel(EVENTS_QUEUED);
        let sources = Sources::start(&pipeline.tables, &Reached { positions, last }, events)?;
        Ok(Self {
            watch: Watch::new(pipeline.clone(), status.clone()),
            asked,
            cuts,
            cut: None,
            pipeline,
            status,
            owner,
            journal,
            recorded,
            core,
            sources,
            events: received,
            sink,
            archiver,
            acknowledged,
            progress,
            again: again.into(),
            step_max_delay: settings.step_max_delay,
            shutdown_timeout: settings.shutdown_timeout,
        })
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), ServiceError> {
        let mut tick = tokio::time::interval(self.step_max_delay);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_FOR_OTHERS);
        let mut commands = VecDeque::new();
        loop {
            let cut = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = look.tick() => {
                    self.owner.check()?;
                    continue;
                }
                room = self.sink.queue.clone().reserve_owned(), if self.next_is_for_the_sinks(&commands) => {
                    self.send_to_the_sinks(&mut commands, room);
                    continue;
                }
                room = self.archiver.queue.clone().reserve_owned(), if self.next_is_archive(&commands) => {
                    self.send_archive(&mut commands, room);
                    continue;
                }
                Some(done) = self.sink.done.recv() => match done {
                    SinkDone::Written(step) => self.on_acknowledged(step)?,
                    SinkDone::Found(documents) => {
                        let settled = self.core.settle(documents);
                        self.queue(settled, &mut commands)?;
                        Cut::Full
                    }
                    SinkDone::Held(held) => {
                        let archived = self.progress.archived();
                        self.cut = self.cut.take().and_then(|cut| cut.held(held, archived));
                        Cut::Full
                    }
                },
                Some(step) = self.archiver.done.recv() => self.on_archived(step)?,
                Some(event) = self.events.recv(), if commands.is_empty() && self.core.wants_records() => self.on_event(event)?,
                Some(question) = self.asked.recv() => {
                    question.answer(&self.core);
                    continue;
                }
                Some(request) = self.cuts.recv(), if self.cut.is_none() => {
                    self.begin_cut(request, &mut commands)?;
                    continue;
                }
                _ = tick.tick() => Cut::Now,
                ended = &mut self.sink.task => return flatten(ended),
                ended = &mut self.archiver.task => return flatten(ended),
            };
            if commands.is_empty() && self.again.is_empty() {
                let cut = self.core.cut(cut);
                self.queue(cut, &mut commands)?;
            }
            self.show();
        }
        self.stop().await
    }

    fn begin_cut(&mut self, request: cut::Request, commands: &mut VecDeque<Command>) -> Result<(), ServiceError> {
        let Some((step, new)) = self.core.hold() else {
            request.refuse(cut::Refusal::Recovering);
            return Ok(());
        };
        self.cut = Some(cut::Pending::new(step, request));
        self.queue(new, commands)
    }

    fn queue(&mut self, new: Vec<Command>, commands: &mut VecDeque<Command>) -> Result<(), ServiceError> {
        for command in new {
            match command {
                Command::Journal(boundary) => self.journal(boundary)?,
                other => commands.push_back(other),
            }
        }
        Ok(())
    }

    /// The boundary of every step is on disk before any command of that step is in the queue of commands.
    fn journal(&mut self, boundary: Boundary) -> Result<(), ServiceError> {
        self.journal.step(&boundary)?;
        self.recorded.steps.push(boundary);
        Ok(())
    }

    fn next_is_for_the_sinks(&self, commands: &VecDeque<Command>) -> bool {
        !self.again.is_empty()
            || matches!(commands.front(), Some(Command::Write(_) | Command::Search(_) | Command::Hold))
    }

    fn next_is_archive(&self, commands: &VecDeque<Command>) -> bool {
        self.again.is_empty() && matches!(commands.front(), Some(Command::Archive(_) | Command::Commit))
    }

    fn send_to_the_sinks(&mut self, commands: &mut VecDeque<Command>, room: Room<SinkWork>) {
        // A closed queue means that the task has ended; the loop learns why from the task itself.
        let Ok(room) = room else { return };
        match self.again.pop_front().map(Command::Write).or_else(|| commands.pop_front()) {
            Some(Command::Write(work)) => drop(room.send(SinkWork::Write(work))),
            Some(Command::Search(survey)) => drop(room.send(SinkWork::Search(survey))),
            Some(Command::Hold) => drop(room.send(SinkWork::Hold)),
            _ => unreachable!("only what is for the sinks is sent to them"),
        }
    }

    fn send_archive(&mut self, commands: &mut VecDeque<Command>, room: Room<ArchiveWork>) {
        let Ok(room) = room else { return };
        let Some(command) = commands.pop_front() else { return };
        if let Command::Archive(work) = command {
            self.progress.take(work.step, work.positions.clone());
            let tables = &self.pipeline.tables;
            self.status.rejected(work.records.iter().filter_map(|(id, r)| RejectedRecord::of(&tables[id.0].name, r)));
            room.send(ArchiveWork::Step(work));
        } else {
            room.send(ArchiveWork::Commit);
        }
    }

    fn on_event(&mut self, event: SourceEvent) -> Result<Cut, ServiceError> {
        match event {
            SourceEvent::Batch { channel, records, to } => self.core.receive(channel, records, to),
            SourceEvent::Partition { channel, start, .. } => self.core.partition_found(channel, start),
            SourceEvent::CaughtUp { channel } => self.core.caught_up(channel),
            SourceEvent::Failed { reason } => return Err(ServiceError::SourceFailed { reason }),
        }
        Ok(Cut::Full)
    }

    fn on_acknowledged(&mut self, step: Step) -> Result<Cut, ServiceError> {
        self.core.acknowledge(step);
        self.acknowledged.store(step.0, Ordering::Relaxed);
        self.recorded.acknowledged = step;
        self.journal.acknowledged(step)?;
        let done = self.progress.acknowledge(step);
        self.commit_offsets(&done);
        Ok(Cut::Full)
    }

    fn on_archived(&mut self, step: Step) -> Result<Cut, ServiceError> {
        let done = self.progress.archive(step);
        self.watch.archived_now();
        self.cut = self.cut.take().and_then(|cut| cut.archived(step));
        self.commit_offsets(&done);
        if self.recorded.steps.len() > BOUNDARIES_KEPT {
            self.forget()?;
        }
        Ok(Cut::Full)
    }

    fn forget(&mut self) -> Result<(), ServiceError> {
        self.recorded.forget(self.progress.archived());
        Ok(self.journal.replace(&self.recorded)?)
    }

    fn commit_offsets(&self, positions: &Positions) {
        if !positions.is_empty() {
            self.sources.commit(positions);
        }
    }

    fn show(&mut self) {
        let queues = Queues {
            sources: Queue { waiting: self.events.len(), capacity: EVENTS_QUEUED },
            sinks: waiting(&self.sink.queue),
            archive: waiting(&self.archiver.queue),
        };
        self.watch.show(&self.core, &self.progress, self.sources.ends(), queues);
    }

    /// Takes nothing more, and waits for what is under way.
    async fn stop(mut self) -> Result<(), ServiceError> {
        self.status.update(|s| s.phase = "stopping");
        drop(self.events);
        let read = self.sources.stop();
        drop(self.sink.queue);
        drop(self.archiver.queue);
        let drained = async {
            while let Some(done) = self.sink.done.recv().await {
                let SinkDone::Written(step) = done else { continue };
                self.acknowledged.store(step.0, Ordering::Relaxed);
                self.recorded.acknowledged = step;
            }
            flatten(self.sink.task.await)?;
            while let Some(step) = self.archiver.done.recv().await {
                self.recorded.forget(step);
            }
            flatten(self.archiver.task.await)?;
            // A broker that does not answer is part of what the stop waits for, and no longer than for the rest.
            let _ = read.await;
            Ok::<(), ServiceError>(())
        };
        let timeout = self.shutdown_timeout;
        tokio::time::timeout(timeout, drained).await.map_err(|_| ServiceError::SlowStop(timeout.as_secs()))??;
        Ok(self.journal.replace(&self.recorded)?)
    }
}

fn waiting<W>(queue: &mpsc::Sender<W>) -> Queue {
    Queue { waiting: queue.max_capacity() - queue.capacity(), capacity: queue.max_capacity() }
}

type Room<W> = Result<mpsc::OwnedPermit<W>, mpsc::error::SendError<()>>;

/// A task's own error, or its panic as ours.
fn flatten<E>(ended: Result<Result<(), E>, tokio::task::JoinError>) -> Result<(), ServiceError>
where
    ServiceError: From<E>,
{
    match ended {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}
