//! The state machine between sources and effects: records in, steps out. No clock, socket, file, environment or random.
//!
//! It groups records into steps, decodes them, applies them to the join, and says in commands what must happen outside.
//! The driver runs the commands in their order: a step's boundary is on disk before anything of that step leaves.
//! While the journal holds steps that the archive lacks, steps are cut exactly as the journal says; afterwards by count
//! and by time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lockstep_shared::archive::ArchivedRecord;
use lockstep_shared::coordinates::{Channel, Offset, OffsetRange, Step, TableId};
use lockstep_shared::history::{Content, HistoryRecord};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::plan::Pipeline;

use crate::commit;
use crate::decode::Decoder;
use crate::group;
use crate::join::{Change, Join, Said};
use crate::journal::{Boundary, Taken};
use crate::record::RawRecord;
use crate::survey::{Survey, Surveyed, Uncertainty};

/// What must happen outside, in the order in which it is given.
#[derive(Debug)]
pub enum Command {
    /// The boundary goes to disk before the commands after it.
    Journal(Boundary),
    /// The changes of a step go to the sinks.
    Write(group::Work),
    /// The records of a step go to the archive.
    Archive(commit::Work),
    /// The indexes are searched for documents of lost steps, after what goes to the sinks before this; the answer goes to
    /// [`Core::settle`].
    Search(Survey),
    /// The archive takes what has come to it at once.
    Commit,
    /// The sinks write what goes to them before this, and nothing after, until every index has a point in time.
    Hold,
}

/// Counts since the start, by table.
#[derive(Clone, Debug, Default)]
pub struct TableCounts {
    /// Records taken, the rejected ones too.
    pub records: u64,
    /// Records that could not be read.
    pub rejected: u64,
    /// Fields that the table does not declare.
    pub unknown_fields: u64,
}

/// How large steps get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most records of a step.
    pub step_records: usize,
    /// Most steps that are written and not acknowledged; bounds memory when the index is slow.
    pub steps_in_flight: u64,
}

/// Where the machine begins.
#[derive(Debug, Default)]
pub struct Beginning {
    /// The last step that is in the join's state.
    pub step: Step,
    /// Steps to be cut as the journal says, ascending.
    pub journaled: VecDeque<Boundary>,
    /// Where each known partition stands.
    pub positions: BTreeMap<Channel, Offset>,
    /// Up to this step the index has everything: such steps change the state in silence.
    pub acknowledged: Step,
    /// After a lost journal.
    pub uncertainty: Option<Uncertainty>,
}

#[derive(Debug)]
struct Pending {
    records: VecDeque<RawRecord>,
    /// Where the source stands: after the last record received, or after a gap.
    reached: Offset,
}

/// The state machine.
pub struct Core {
    pipeline: Arc<Pipeline>,
    decoders: Vec<Decoder>,
    join: Join,
    limits: Limits,
    step: Step,
    acknowledged: Step,
    journaled: VecDeque<Boundary>,
    uncertainty: Option<Uncertainty>,
    positions: BTreeMap<Channel, Offset>,
    /// The log's time of the last record taken from each partition, where it has one.
    timestamps_ms: BTreeMap<Channel, i64>,
    /// Partitions whose beginning no step has noted yet: what retention takes before their first record would not be missed.
    unnoted: BTreeSet<Channel>,
    pending: BTreeMap<Channel, Pending>,
    pending_records: usize,
    counts: Vec<TableCounts>,
}

impl Core {
    /// A machine over a join that holds the state up to `beginning.step`.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, join: Join, limits: Limits, beginning: Beginning) -> Self {
        Self {
            decoders: pipeline.tables.iter().map(Decoder::new).collect(),
            counts: vec![TableCounts::default(); pipeline.tables.len()],
            pipeline,
            join,
            limits,
            step: beginning.step,
            acknowledged: beginning.acknowledged,
            journaled: beginning.journaled,
            uncertainty: beginning.uncertainty,
            positions: beginning.positions,
            timestamps_ms: BTreeMap::new(),
            unnoted: BTreeSet::new(),
            pending: BTreeMap::new(),
            pending_records: 0,
        }
    }
}

impl Core {
    /// Takes a batch of a partition. `to` is where the source stands after it.
    pub fn receive(&mut self, channel: Channel, records: Vec<RawRecord>, to: Offset) {
        let position = *self.positions.entry(channel).or_insert_with(|| records.first().map_or(to, |r| r.place.offset));
        let pending =
            self.pending.entry(channel).or_insert_with(|| Pending { records: VecDeque::new(), reached: position });
        assert!(to >= pending.reached && to >= position, "a source never goes backwards");
        pending.reached = to;
        self.pending_records += records.len();
        pending.records.extend(records);
    }

    /// A partition is read from `start` on. Those that a table has at the start are found before any of them is caught up.
    pub fn partition_found(&mut self, channel: Channel, start: Offset) {
        if !self.positions.contains_key(&channel) {
            self.unnoted.insert(channel);
        }
        let position = *self.positions.entry(channel).or_insert(start);
        self.pending.entry(channel).or_insert_with(|| Pending { records: VecDeque::new(), reached: position });
        if let Some(uncertainty) = &mut self.uncertainty {
            uncertainty.partition_found(channel);
        }
    }

    /// A partition has been received up to the end of its log, as it stands now.
    pub fn caught_up(&mut self, channel: Channel) {
        let Some(uncertainty) = &mut self.uncertainty else { return };
        // A gap after the last record waits for the next one to be taken.
        let last = self.pending.get(&channel).and_then(|pending| pending.records.back());
        let taken = self.positions.get(&channel).copied().unwrap_or(Offset(0));
        uncertainty.caught_up(channel, last.map_or(taken, |record| Offset(record.place.offset.0 + 1)));
    }

    /// The index has everything up to the step.
    pub fn acknowledge(&mut self, step: Step) {
        self.acknowledged = self.acknowledged.max(step);
        self.uncertainty.take_if(|uncertainty| uncertainty.is_over(step));
    }

    /// Whether more records may be received. While the journal is replayed always: the next step may need any partition.
    #[must_use]
    pub fn wants_records(&self) -> bool {
        !self.journaled.is_empty() || self.pending_records < 2 * self.limits.step_records
    }

    /// Whether records wait for a step.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending_records > 0
    }

    /// The last step cut.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether the journal still says how steps are cut.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        !self.journaled.is_empty()
    }

    /// Whether the index may still hold documents of steps that were lost with a journal.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.uncertainty.is_some()
    }

    /// Counts by table, in the pipeline's order.
    #[must_use]
    pub fn counts(&self) -> &[TableCounts] {
        &self.counts
    }

    /// Rows held by the join.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.join.rows()
    }

    /// What the join holds, for whoever looks.
    #[must_use]
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// The log's time of the last record taken from a partition, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(&self, channel: Channel) -> Option<i64> {
        self.timestamps_ms.get(&channel).copied()
    }

    /// Where each partition stands.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<Channel, Offset> {
        &self.positions
    }

    /// Cuts the steps that are full; with [`Cut::Now`] also one of what is left.
    pub fn cut(&mut self, cut: Cut) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some(boundary) = self.next_journaled() {
            self.apply(&boundary, &mut commands);
        }
        let least = if matches!(cut, Cut::Now) { 1 } else { self.limits.step_records };
        while self.journaled.is_empty() && self.pending_records >= least && self.may_run_ahead() {
            let boundary = self.boundary();
            commands.push(Command::Journal(boundary.clone()));
            self.apply(&boundary, &mut commands);
        }
        let tables = self.pipeline.tables.len();
        let due = self.uncertainty.as_mut().filter(|_| self.journaled.is_empty());
        commands.extend(due.and_then(|uncertainty| uncertainty.due(tables, &self.positions)).map(Command::Search));
        commands
    }

    /// Cuts what is pending, and asks for everything to be held at the step that is then the last one. `None` where the
    /// index is not at any one step: while the journal is replayed, and until documents of lost steps are settled.
    pub fn hold(&mut self) -> Option<(Step, Vec<Command>)> {
        if self.is_replaying() || self.is_uncertain() {
            return None;
        }
        let mut commands = self.cut(Cut::Now);
        commands.extend([Command::Commit, Command::Hold]);
        Some((self.step, commands))
    }

    /// The indexes hold these documents of lost steps: a step without records writes each as it is now.
    pub fn settle(&mut self, found: Vec<Surveyed>) -> Vec<Command> {
        let mut by_sink: BTreeMap<usize, BTreeSet<DocumentId>> = BTreeMap::new();
        for (sink, id) in found {
            by_sink.entry(sink).or_default().insert(id);
        }
        let mut changes = Vec::new();
        for (sink, ids) in by_sink {
            let mut there = self.join.find(sink, &ids);
            changes.extend(ids.into_iter().map(|id| Change { sink, document: there.remove(&id), id }));
        }
        self.step = self.step.next();
        let step = self.step;
        self.uncertainty.iter_mut().for_each(|uncertainty| uncertainty.settle(step));
        let uncertain_after = self.uncertainty.as_ref().map(Uncertainty::after);
        vec![
            Command::Journal(Boundary { step, taken: Vec::new() }),
            Command::Archive(commit::Work { step, records: Vec::new(), positions: Vec::new(), uncertain_after }),
            Command::Write(group::Work { step, changes }),
        ]
    }

    fn may_run_ahead(&self) -> bool {
        self.step.0.saturating_sub(self.acknowledged.0) < self.limits.steps_in_flight
            || self.step.epoch() != self.acknowledged.epoch()
    }

    /// The next step of the journal, if every partition that it takes from has come far enough.
    fn next_journaled(&mut self) -> Option<Boundary> {
        let ready = self.journaled.front()?.taken.iter().all(|taken| {
            let reached = self.channel(taken).and_then(|c| self.pending.get(&c)).map(|p| p.reached);
            reached.is_some_and(|reached| reached >= taken.range.to)
        });
        if ready { self.journaled.pop_front() } else { None }
    }

    fn channel(&self, taken: &Taken) -> Option<Channel> {
        let table = self.pipeline.tables.iter().position(|t| t.name == taken.table)?;
        Some(Channel { table: TableId(table), partition: taken.partition })
    }

    /// A new step of what is pending, in the order of the partitions, up to the limit.
    fn boundary(&self) -> Boundary {
        let mut room = self.limits.step_records;
        let mut taken = Vec::new();
        for (channel, pending) in &self.pending {
            let from = self.positions[channel];
            let to = match pending.records.get(room) {
                Some(first_left_out) => first_left_out.place.offset,
                None => pending.reached,
            };
            room = room.saturating_sub(pending.records.len());
            if to > from || self.unnoted.contains(channel) {
                let table = self.pipeline.tables[channel.table.0].name.clone();
                taken.push(Taken { table, partition: channel.partition, range: OffsetRange { from, to } });
            }
            if room == 0 {
                break;
            }
        }
        Boundary { step: self.step.next(), taken }
    }

    fn apply(&mut self, boundary: &Boundary, commands: &mut Vec<Command>) {
        assert!(boundary.step > self.step, "steps ascend: {} after {}", boundary.step, self.step);
        let mut history = Vec::new();
        let mut archived = Vec::new();
        let mut positions = Vec::new();
        for taken in &boundary.taken {
            let Some(channel) = self.channel(taken) else { continue };
            let records = self.take(channel, taken.range);
            if let Some(timestamp_ms) = records.last().and_then(|last| last.timestamp_ms) {
                self.timestamps_ms.insert(channel, timestamp_ms);
            }
            for raw in records {
                let record = self.decode(channel.table, raw, boundary.step);
                history.push(HistoryRecord {
                    step: record.step,
                    table: channel.table,
                    place: record.place,
                    content: record.content.clone(),
                });
                archived.push((channel.table, record));
            }
            self.unnoted.remove(&channel);
            self.positions.insert(channel, taken.range.to);
            positions.push((channel, taken.range.to));
        }
        history.sort_by_key(HistoryRecord::order);
        self.step = boundary.step;
        let uncertain_after = self.uncertainty.as_ref().map(Uncertainty::after);
        let step = boundary.step;
        commands.push(Command::Archive(commit::Work { step, records: archived, positions, uncertain_after }));
        if boundary.step <= self.acknowledged {
            self.join.load(&history);
        } else {
            let is_catching_up = self.uncertainty.as_ref().is_some_and(Uncertainty::is_catching_up);
            let said = if is_catching_up { Said::Touched } else { Said::Changed };
            let changes = self.join.apply(&history, said);
            commands.push(Command::Write(group::Work { step, changes }));
        }
    }

    fn take(&mut self, channel: Channel, range: OffsetRange) -> Vec<RawRecord> {
        let Some(pending) = self.pending.get_mut(&channel) else { return Vec::new() };
        let count = pending.records.iter().take_while(|r| r.place.offset < range.to).count();
        self.pending_records -= count;
        pending.records.drain(..count).collect()
    }

    fn decode(&mut self, table: TableId, raw: RawRecord, step: Step) -> ArchivedRecord {
        let decoded = self.decoders[table.0].decode(&raw);
        let counts = &mut self.counts[table.0];
        counts.records += 1;
        counts.unknown_fields += decoded.unknown_fields;
        counts.rejected += u64::from(matches!(decoded.content, Content::Rejected(_)));
        let RawRecord { place, timestamp_ms, key, value } = raw;
        ArchivedRecord { step, place, timestamp_ms, key, value, content: decoded.content }
    }
}

/// What [`Core::cut`] cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Full steps only.
    Full,
    /// What is pending, full or not.
    Now,
}
