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
use lockstep_shared::plan::Pipeline;

use crate::commit;
use crate::decode::Decoder;
use crate::group;
use crate::join::{Join, Transients};
use crate::journal::{Boundary, Taken};
use crate::record::RawRecord;

/// What must happen outside, in the order in which it is given.
#[derive(Debug)]
pub enum Command {
    /// The boundary goes to disk before the commands after it.
    Journal(Boundary),
    /// The changes of a step go to the sinks.
    Write(group::Work),
    /// The records of a step go to the archive.
    Archive(commit::Work),
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
    /// Whether the journal of the last run is there.
    pub memory: Memory,
}

/// What is known of the steps that ran last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// The journal has them all, or there was no last time.
    #[default]
    Whole,
    /// The journal is lost. Until each partition has passed the end that its log had at the start, documents that come
    /// and go within a step are deleted explicitly: the index may hold them.
    Lost,
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
    memory: Memory,
    uncertain_until: BTreeMap<Channel, Offset>,
    positions: BTreeMap<Channel, Offset>,
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
            memory: beginning.memory,
            uncertain_until: BTreeMap::new(),
            positions: beginning.positions,
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

    /// A partition is read from `start` on; its log ends at `end` now.
    pub fn partition_found(&mut self, channel: Channel, start: Offset, end: Option<Offset>) {
        if !self.positions.contains_key(&channel) {
            self.unnoted.insert(channel);
        }
        let position = *self.positions.entry(channel).or_insert(start);
        self.pending.entry(channel).or_insert_with(|| Pending { records: VecDeque::new(), reached: position });
        if let (Memory::Lost, Some(end)) = (self.memory, end) {
            self.uncertain_until.insert(channel, end);
        }
    }

    /// The index has everything up to the step.
    pub fn acknowledge(&mut self, step: Step) {
        self.acknowledged = self.acknowledged.max(step);
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
        commands
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
            for raw in self.take(channel, taken.range) {
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
        commands.push(Command::Archive(commit::Work { step: boundary.step, records: archived, positions }));
        if boundary.step <= self.acknowledged {
            self.join.load(&history);
        } else {
            let transients = self.transients();
            let changes = self.join.apply(&history, transients);
            commands.push(Command::Write(group::Work { step: boundary.step, changes }));
        }
    }

    fn transients(&mut self) -> Transients {
        self.uncertain_until.retain(|channel, end| self.positions.get(channel).is_none_or(|position| position < end));
        if self.uncertain_until.is_empty() { Transients::Omit } else { Transients::Delete }
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
