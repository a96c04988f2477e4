//! One process of the stream, as the service drives it: the production core, recovery, sink, archiver and journal, each
//! waiting for the schedule to say what happens next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_shared::archive::Note;
use lockstep_shared::coordinates::{Channel, Offset, Step, TableId};
use lockstep_shared::history::HistoryRecord;
use lockstep_shared::index::Operation;
use lockstep_shared::index::bulk::{self, BodyLimits};
use lockstep_shared::index::carried::Carried;
use lockstep_shared::index::delivery::Delivery;
use lockstep_shared::plan::Pipeline;
use lockstep_stream::commit::{self, Gathered};
use lockstep_stream::core::{Command, Core, Cut, Limits};
use lockstep_stream::group::{self, Group};
use lockstep_stream::journal::{Entry, Recorded};
use lockstep_stream::progress::{Positions, Progress};
use lockstep_stream::recovery::{Resumed, Standing, in_history};
use lockstep_stream::survey::Survey;

use super::schedule::{Crash, FailedCommit, Outcome};
use super::witness::{Failure, Witness};
use super::world::World;

/// The name of the index.
const INDEX: &str = "documents";

/// Rounds without faults after which everything that waits must have been sent.
const ROUNDS_TO_SEND: usize = 1_000;

/// A running process.
pub struct Process {
    pipeline: Arc<Pipeline>,
    core: Core,
    progress: Progress,
    recorded: Recorded,
    /// Where each partition that is known is read from next.
    read: BTreeMap<Channel, Offset>,
    to_write: VecDeque<group::Work>,
    to_search: Option<Survey>,
    to_hold: Option<Hold>,
    sending: Option<Sending>,
    to_archive: VecDeque<commit::Work>,
    gathered: Gathered,
}

/// A group of steps on its way to the indexes.
struct Sending {
    last: Step,
    /// Bodies, each with its sink.
    deliveries: Vec<(usize, Delivery)>,
}

/// A cut under way: nothing that comes to the sinks later is sent before everything is compared.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// The step that was promised.
    cut: Step,
    /// The last one that came to the sinks before.
    sent: Step,
}

/// Whether the process lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Alive,
    /// It has died.
    Dead,
}

impl Process {
    /// Starts, from what disk and archive hold; dies before it is up, after the claims of so many tables, if that is due.
    ///
    /// # Errors
    /// Where the journal cannot be read, or what it does breaks a law.
    pub fn start(
        pipeline: &Arc<Pipeline>,
        limits: Limits,
        dies_after: Option<usize>,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<Option<Self>, Failure> {
        let (recorded, sound) = Recorded::parse(&world.disk.journal)
            .map_err(|damage| Failure::new("L5", format!("the journal is damaged after a crash: {damage:?}")))?;
        world.disk.journal.truncate(sound);
        world.disk.synced = sound;
        let notes: Vec<Option<Note>> = world.archive.iter().map(|stored| stored.note.clone()).collect();
        let standing = Standing::new(notes, (sound > 0).then_some(recorded));
        let history: Vec<HistoryRecord> = world
            .archived()
            .filter(|(table, record)| record.step <= standing.upto(*table))
            .map(|(table, record)| in_history(table, record.clone()))
            .collect();
        for (number, claim) in standing.claims().iter().enumerate() {
            if dies_after == Some(number) {
                return Ok(None);
            }
            if let Some(note) = claim {
                world.archive[number].append(Vec::new(), note.clone());
            }
        }
        let recorded = standing.recorded();
        world.disk.replace(recorded.to_bytes());
        let notes: Vec<Note> = world.archive.iter().map(|stored| stored.note.clone().unwrap_or_default()).collect();
        let gathered = Gathered::after(&notes);
        let progress = Progress::new(standing.archived(), standing.acknowledged());
        let Resumed { core, positions, again } = standing.resume(pipeline, history, limits);
        let mut process = Self {
            pipeline: pipeline.clone(),
            core,
            progress,
            recorded,
            read: BTreeMap::new(),
            to_write: VecDeque::new(),
            to_search: None,
            to_hold: None,
            sending: None,
            to_archive: VecDeque::new(),
            gathered,
        };
        for channel in world.logs.keys() {
            process.find(*channel, positions.get(channel).copied());
        }
        for channel in world.logs.keys() {
            process.look_for_end(*channel, world);
        }
        for work in again {
            process.write(work, witness)?;
        }
        Ok(Some(process))
    }

    fn find(&mut self, channel: Channel, position: Option<Offset>) {
        let start = position.unwrap_or(Offset(0));
        self.read.insert(channel, start);
        self.core.partition_found(channel, start);
    }

    /// Whoever reads a partition to its end is told so.
    fn look_for_end(&mut self, channel: Channel, world: &World) {
        if self.read.get(&channel) == world.logs.get(&channel).map(|log| Offset(log.end)).as_ref() {
            self.core.caught_up(channel);
        }
    }

    /// Takes some records of a partition.
    ///
    /// # Errors
    /// Where what follows breaks a law.
    pub fn deliver(
        &mut self,
        channel: Channel,
        count: usize,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<(), Failure> {
        let Some(log) = world.logs.get(&channel) else { return Ok(()) };
        if !self.core.wants_records() {
            return Ok(());
        }
        if !self.read.contains_key(&channel) {
            self.find(channel, None);
        }
        let from = self.read[&channel];
        let left = &log.sent[log.sent.partition_point(|sent| sent.raw.place.offset < from)..];
        let to = left.get(count).map_or(Offset(log.end), |next| next.raw.place.offset);
        if to > from {
            let records = left.iter().take(count).map(|sent| sent.raw.clone()).collect();
            self.core.receive(channel, records, to);
            self.read.insert(channel, to);
            self.look_for_end(channel, world);
            self.cut(Cut::Full, None, world, witness)?;
        }
        Ok(())
    }

    /// Cuts steps and carries out what that needs; dies on the way if that is due.
    ///
    /// # Errors
    /// Where this breaks a law.
    pub fn cut(
        &mut self,
        cut: Cut,
        crash: Option<Crash>,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<Life, Failure> {
        let commands = self.core.cut(cut);
        self.carry_out(commands, crash, world, witness)
    }

    /// Somebody asks for a cut; one is under way at a time.
    ///
    /// # Errors
    /// Where what follows breaks a law.
    pub fn hold(&mut self, world: &mut World, witness: &mut Witness) -> Result<Life, Failure> {
        match self.to_hold {
            Some(_) => Ok(Life::Alive),
            None => {
                let commands = self.core.hold().map(|(_, commands)| commands).unwrap_or_default();
                self.carry_out(commands, None, world, witness)
            }
        }
    }

    fn carry_out(
        &mut self,
        commands: Vec<Command>,
        crash: Option<Crash>,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<Life, Failure> {
        for (number, command) in commands.into_iter().enumerate() {
            if let Some(crash) = crash.filter(|crash| crash.after == number) {
                self.last_effects(crash, &command, world, witness)?;
                return Ok(Life::Dead);
            }
            match command {
                Command::Journal(boundary) => {
                    world.disk.journal.extend(Entry::Step(boundary.clone()).to_line());
                    world.disk.synced = world.disk.journal.len();
                    self.recorded.steps.push(boundary);
                }
                Command::Write(work) => self.write(work, witness)?,
                Command::Search(survey) => self.to_search = Some(survey),
                Command::Hold => {
                    let sent = self.to_write.back().map_or(Step::ZERO, |work| work.step);
                    self.to_hold = Some(Hold { cut: self.core.step(), sent });
                }
                // When the archive commits is for the schedule to say.
                Command::Commit => {}
                Command::Archive(work) => {
                    witness.archived(&work);
                    self.progress.take(work.step, work.positions.clone());
                    self.to_archive.push_back(work);
                }
            }
        }
        Ok(Life::Alive)
    }

    /// What still happens of the commands before the one at which the process dies.
    fn last_effects(
        &mut self,
        crash: Crash,
        next: &Command,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<(), Failure> {
        if crash.written {
            // A search would come after the commands that are not carried out any more.
            self.to_search = None;
            self.send_everything(world, witness)?;
        }
        if crash.archived {
            self.gather(usize::MAX);
            self.commit(None, world, witness)?;
        }
        // A full disk ends the process in the same way.
        if let Command::Journal(boundary) = next {
            let line = Entry::Step(boundary.clone()).to_line();
            world.disk.journal.extend(&line[..line.len() / 2]);
        }
        Ok(())
    }

    fn write(&mut self, work: group::Work, witness: &mut Witness) -> Result<(), Failure> {
        witness.written(&self.pipeline, &work)?;
        self.to_write.push_back(work);
        Ok(())
    }

    /// Makes bodies of the steps that wait, if none are on their way.
    ///
    /// # Errors
    /// Where acknowledging an empty group breaks a law.
    pub fn group(
        &mut self,
        steps: usize,
        body: usize,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<(), Failure> {
        if self.sending.is_some() {
            return Ok(());
        }
        let upto = self.to_hold.map_or(Step(u64::MAX), |hold| hold.sent);
        if let Some(hold) = self.to_hold.take_if(|_| self.to_write.front().is_none_or(|work| work.step > upto)) {
            return witness.held(&self.pipeline, hold.cut, world);
        }
        let Some(first) = self.to_write.pop_front() else { return self.search(world, witness) };
        let mut group = Group::new(self.pipeline.sinks.len(), first);
        let before = self.to_write.partition_point(|work| work.step <= upto);
        for work in self.to_write.drain(..(steps - 1).min(before)) {
            group.add(work);
        }
        let (last, sinks) = group.finish();
        let mut deliveries = Vec::new();
        for (number, changes) in sinks.into_iter().enumerate() {
            // The simulated index shows documents as they are sent; digests are another test's.
            let carried = Carried::Nothing("the index is simulated".into());
            let operations = group::operations(&self.pipeline.sinks[number], changes, &carried);
            let bodies = bulk::split(INDEX, operations, BodyLimits { actions: body, size_bytes: usize::MAX });
            deliveries.extend(bodies.into_iter().map(|body| (number, Delivery::new(body))));
        }
        self.sending = Some(Sending { last, deliveries });
        self.acknowledge(world, witness)
    }

    /// Looks for documents of lost steps, where that is due, when everything before is written.
    fn search(&mut self, world: &mut World, witness: &mut Witness) -> Result<(), Failure> {
        let Some(survey) = self.to_search.take() else { return Ok(()) };
        while world.late_request() {}
        let mut found = Vec::new();
        for (sink, index) in world.indexes.iter().enumerate() {
            let held = index.held.iter().filter(|(_, held)| held.source.is_some() && survey.has(held.version.step()));
            found.extend(held.map(|(id, _)| (sink, id.clone())));
        }
        let commands = self.core.settle(found);
        self.carry_out(commands, None, world, witness).map(drop)
    }

    /// Sends a body, with this outcome.
    ///
    /// # Errors
    /// Where the sink gives up, or acknowledges what it should not.
    pub fn send(
        &mut self,
        delivery: usize,
        outcome: Outcome,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<(), Failure> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let mut open: Vec<_> = sending.deliveries.iter_mut().filter(|(_, d)| d.next().is_some()).collect();
        let number = delivery % open.len().max(1);
        let Some((sink, delivery)) = open.get_mut(number) else { return Ok(()) };
        let operations = delivery.next().unwrap_or_default().to_vec();
        let answer = world.indexes[*sink].answer(&operations, outcome);
        if outcome.comes_later() {
            world.late.push_back((*sink, operations));
        }
        match answer {
            Some((status, body)) => {
                let answered = delivery.answered(status, &body);
                answered.map_err(|reason| Failure::new("progress", format!("the sink gives up: {reason}")))?;
            }
            None => drop(delivery.unanswered("no answer".into())),
        }
        self.acknowledge(world, witness)
    }

    /// If every body of the group is settled, the group is.
    fn acknowledge(&mut self, world: &mut World, witness: &mut Witness) -> Result<(), Failure> {
        let Some(sending) = self.sending.take_if(|s| s.deliveries.iter().all(|(_, d)| d.next().is_none())) else {
            return Ok(());
        };
        for (sink, delivery) in sending.deliveries {
            witness.letters(sink, delivery.finish().rejected, world)?;
        }
        self.core.acknowledge(sending.last);
        self.recorded.acknowledged = sending.last;
        world.disk.journal.extend(Entry::Acknowledged(sending.last).to_line());
        let positions = self.progress.acknowledge(sending.last);
        self.commit_offsets(&positions, world, witness)?;
        self.cut(Cut::Full, None, world, witness)?;
        Ok(())
    }

    /// The archiver takes some steps.
    pub fn gather(&mut self, steps: usize) {
        for work in self.to_archive.drain(..steps.min(self.to_archive.len())) {
            self.gathered.add(work);
        }
    }

    /// The archiver commits, or dies on the way.
    ///
    /// # Errors
    /// Where what follows breaks a law.
    pub fn commit(
        &mut self,
        crash: Option<FailedCommit>,
        world: &mut World,
        witness: &mut Witness,
    ) -> Result<Life, Failure> {
        let Some(commit) = self.gathered.commit(self.progress.acknowledged()) else { return Ok(Life::Alive) };
        for (number, (records, note)) in commit.tables.into_iter().enumerate() {
            let fails = crash.filter(|crash| crash.after == number);
            if fails.is_none_or(|crash| crash.visible) {
                world.archive[number].append(records, note);
            }
            if fails.is_some() {
                return Ok(Life::Dead);
            }
        }
        let positions = self.progress.archive(commit.step);
        self.commit_offsets(&positions, world, witness)?;
        Ok(Life::Alive)
    }

    fn commit_offsets(&self, positions: &Positions, world: &World, witness: &mut Witness) -> Result<(), Failure> {
        positions.iter().try_for_each(|(channel, offset)| witness.committed(*channel, *offset, world))
    }

    /// The journal drops what the archive has.
    pub fn forget(&mut self, world: &mut World) {
        self.recorded.forget(self.progress.archived());
        world.disk.replace(self.recorded.to_bytes());
    }

    /// Requests that are on their way when the process dies.
    #[must_use]
    pub fn on_their_way(&self) -> Vec<(usize, Vec<Operation>)> {
        let deliveries = self.sending.iter().flat_map(|sending| &sending.deliveries);
        deliveries.filter_map(|(sink, delivery)| Some((*sink, delivery.next()?.to_vec()))).collect()
    }

    /// The last step, if nothing is under way: everything that was cut is acknowledged.
    #[must_use]
    pub fn settled(&self) -> Option<Step> {
        let idle = self.to_write.is_empty() && self.sending.is_none() && !self.core.is_replaying();
        (idle && self.progress.acknowledged() >= self.core.step()).then(|| self.core.step())
    }

    /// One round without faults. Says whether anything is left to do.
    ///
    /// # Errors
    /// Where it breaks a law.
    pub fn settle(&mut self, world: &mut World, witness: &mut Witness) -> Result<bool, Failure> {
        let channels: Vec<Channel> = world.logs.keys().copied().collect();
        for channel in channels {
            self.deliver(channel, 100, world, witness)?;
        }
        self.cut(Cut::Now, None, world, witness)?;
        self.send_everything(world, witness)?;
        self.gather(usize::MAX);
        self.commit(None, world, witness)?;
        let read_all = world.logs.iter().all(|(channel, log)| self.read.get(channel) == Some(&Offset(log.end)));
        let busy = self.core.is_uncertain()
            || self.core.has_pending()
            || self.core.is_replaying()
            || !self.to_write.is_empty();
        Ok(!read_all || busy || !self.to_archive.is_empty() || !self.gathered.is_empty())
    }

    fn send_everything(&mut self, world: &mut World, witness: &mut Witness) -> Result<(), Failure> {
        for _ in 0..ROUNDS_TO_SEND {
            if self.sending.is_none() && self.to_write.is_empty() && self.to_search.is_none() && self.to_hold.is_none()
            {
                return Ok(());
            }
            self.group(8, 100, world, witness)?;
            self.send(0, Outcome::Fine, world, witness)?;
        }
        Err(Failure::new("progress", format!("not everything is sent after {ROUNDS_TO_SEND} rounds without faults")))
    }

    /// A partition by its number over all tables.
    #[must_use]
    pub fn channel(number: usize, partitions: usize) -> Channel {
        let partition = i32::try_from(number % partitions).unwrap_or(0);
        Channel { table: TableId(number / partitions), partition: lockstep_shared::coordinates::Partition(partition) }
    }
}
