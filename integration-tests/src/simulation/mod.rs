//! A simulated world for the production core: the same steps, journal, join, sink planning, archive planning and recovery
//! that run under tokio, between a log, a disk, an archive and an index in memory that have every fault on schedule.
//!
//! A [`Schedule`] is drawn from a seed and says everything that happens, so the same seed is the same run. After the last
//! event the faults end, everything comes to rest, and the laws are judged: by the definition, by the fold of all
//! changes, by the archive against the log. No reconcile helps: it would hide a bug of the stream. Only then a reconcile
//! runs, which finds and repairs nothing but dead letters.

pub mod shape;
pub mod schedule;
pub mod world;
pub mod index;
pub mod process;
pub mod witness;
pub mod reconcile;
pub mod repair;
pub mod shrink;
pub mod exhaustive;
pub mod recompute;
pub mod campaign;
pub mod scenario;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use lockstep_shared::plan::Pipeline;
use lockstep_stream::core::{Cut, Limits};

use index::Index;
use process::{Life, Process};
use schedule::{Event, PARTITIONS, Schedule};
use shape::TABLES;
use witness::{Documents, Failure, Witness};
use world::{World, channel};

/// Rounds without faults after which everything must have come to rest.
const ROUNDS_TO_REST: usize = 200;
/// Steps that may be cut and not acknowledged.
const STEPS_IN_FLIGHT: u64 = 6;

/// What a run showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// A hash of everything that the world held after each event. The same schedule gives the same.
    pub hash: u64,
    /// How many times a process was started.
    pub starts: u64,
    /// Exact cuts at which everything was compared.
    pub cuts: u64,
}

/// A run that kept every law.
pub struct Ended {
    /// What it showed.
    pub trace: Trace,
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The world at the end.
    pub world: World,
    /// What the definition says of the archive, by sink.
    pub expected: Vec<Documents>,
}

/// Runs a schedule to its end.
///
/// # Errors
/// The law that was broken. A panic is a broken law too.
pub fn run(schedule: &Schedule) -> Result<Ended, Failure> {
    keep_panics_quiet();
    QUIET.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| Run::new(schedule).finish(schedule)));
    QUIET.set(false);
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::new("panic", text.unwrap_or_default()))
    })
}

thread_local! {
    /// Whether a panic of this thread is part of a run, which reports it.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
}

/// A run under way.
struct Run {
    pipeline: Arc<Pipeline>,
    limits: Limits,
    keys: Vec<usize>,
    world: World,
    witness: Witness,
    process: Option<Process>,
    trace: Trace,
}

impl Run {
    fn new(schedule: &Schedule) -> Self {
        Self {
            pipeline: Arc::new(schedule.shape.pipeline()),
            limits: Limits { step_records: schedule.step_records, steps_in_flight: STEPS_IN_FLIGHT },
            keys: schedule.shape.keys.clone(),
            world: World::new(TABLES, schedule.shape.sinks()),
            witness: Witness::default(),
            process: None,
            trace: Trace::default(),
        }
    }

    fn finish(mut self, schedule: &Schedule) -> Result<Ended, Failure> {
        for event in &schedule.events {
            self.happen(event)?;
            self.note();
        }
        self.rest()?;
        self.note();
        let expected = self.witness.rest(&self.pipeline, &self.world)?;
        while self.world.late_request() {}
        self.witness.compare(&self.pipeline, "L6", &expected, &self.world)?;
        reconcile::finds_and_repairs_dead_letters_only(&self.pipeline, &expected, &self.witness, &mut self.world)?;
        self.trace.cuts = self.witness.cuts();
        let Self { pipeline, world, trace, .. } = self;
        Ok(Ended { trace, pipeline, world, expected })
    }

    fn happen(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Append { table, partition, values, kind } => {
                let channel = channel(*table, *partition);
                let log = self.world.logs.entry(channel).or_default();
                log.append(channel.partition, *values, *kind, self.keys[*table]);
                Ok(())
            }
            Event::Gap { table, partition } => {
                self.world.logs.entry(channel(*table, *partition)).or_default().end += 1;
                Ok(())
            }
            Event::Late => {
                self.world.late_request();
                Ok(())
            }
            Event::IndexForgetsDeletes => {
                self.world.late.clear();
                self.world.indexes.iter_mut().for_each(Index::forget_deletes);
                Ok(())
            }
            Event::Crash { torn, lingering } => {
                if let Some(process) = self.process.take().filter(|_| *lingering) {
                    self.world.late.extend(process.on_their_way());
                }
                self.world.disk.crash(*torn);
                Ok(())
            }
            Event::LoseJournal => {
                // To the index it is the same whether the process died, or was overtaken by one that has not its disk: what
                // it has sent arrives, at the latest while the other one catches up.
                self.world.late.extend(self.process.take().iter().flat_map(Process::on_their_way));
                self.world.disk = world::Disk::default();
                self.witness.journal_lost(self.world.kept());
                Ok(())
            }
            Event::DieEarly { claims } => {
                self.process = None;
                self.start(Some(*claims))?;
                // One that has nothing to claim is up, and dies all the same.
                self.process = None;
                Ok(())
            }
            of_process => self.happen_to_process(of_process),
        }
    }

    fn happen_to_process(&mut self, event: &Event) -> Result<(), Failure> {
        self.start(None)?;
        let (world, witness) = (&mut self.world, &mut self.witness);
        let Some(process) = &mut self.process else { return Ok(()) };
        let mut life = Life::Alive;
        match *event {
            Event::Deliver { channel, count } => {
                let channel = Process::channel(channel, PARTITIONS);
                process.deliver(channel, count, world, witness)?;
            }
            Event::Cut { crash } => life = process.cut(Cut::Now, crash, world, witness)?,
            Event::Group { steps, body } => process.group(steps, body, world, witness)?,
            Event::Send { delivery, outcome } => process.send(delivery, outcome, world, witness)?,
            Event::Gather { steps } => process.gather(steps),
            Event::Commit { crash } => life = process.commit(crash, world, witness)?,
            Event::Forget => process.forget(world),
            Event::Hold => life = process.hold(world, witness)?,
            Event::Check => {
                if let Some(step) = process.settled().filter(|_| world.late.is_empty()) {
                    witness.check(&self.pipeline, step, world)?;
                }
            }
            _ => unreachable!("events of the world do not reach the process"),
        }
        if life == Life::Dead {
            self.process = None;
        }
        Ok(())
    }

    fn start(&mut self, dies_after: Option<usize>) -> Result<(), Failure> {
        if self.process.is_none() {
            self.trace.starts += 1;
            let (world, witness) = (&mut self.world, &mut self.witness);
            self.process = Process::start(&self.pipeline, self.limits, dies_after, world, witness)?;
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Failure> {
        for _ in 0..ROUNDS_TO_REST {
            self.start(None)?;
            let Some(process) = &mut self.process else { continue };
            if !process.settle(&mut self.world, &mut self.witness)? {
                return Ok(());
            }
        }
        Err(Failure::new("progress", format!("not everything is done after {ROUNDS_TO_REST} rounds without faults")))
    }

    /// Adds what the world holds now to the trace.
    fn note(&mut self) {
        let mut hasher = rustc_hash::FxHasher::default();
        self.trace.hash.hash(&mut hasher);
        self.world.disk.journal.hash(&mut hasher);
        for stored in &self.world.archive {
            stored.records.len().hash(&mut hasher);
        }
        for (id, held) in self.world.indexes.iter().flat_map(|index| &index.held) {
            (id, held.version, &held.source).hash(&mut hasher);
        }
        self.trace.hash = hasher.finish();
    }
}
