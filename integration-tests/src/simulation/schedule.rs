//! A schedule: a pipeline, and everything that happens to it, one event after the other.
//!
//! Every event can happen at any time; one that has nothing to act on does nothing. So a schedule stays a schedule when
//! events are taken out of it, which is how a failing one is made small.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::shape::{COLUMNS, Shape, TABLES};

/// Partitions of every table.
pub const PARTITIONS: usize = 2;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The pipeline.
    pub shape: Shape,
    /// Most records of a step.
    pub step_records: usize,
    /// The events, in order.
    pub events: Vec<Event>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A producer sends a record.
    Append {
        /// The table.
        table: usize,
        /// The partition.
        partition: usize,
        /// The columns: 0 is NULL, else one less.
        values: [i64; COLUMNS],
        /// What it is.
        kind: Kind,
    },
    /// The log of a partition skips an offset: an aborted transaction.
    Gap {
        /// The table.
        table: usize,
        /// The partition.
        partition: usize,
    },
    /// The source hands over some records of a partition.
    Deliver {
        /// The partition, counted over all tables.
        channel: usize,
        /// Most records.
        count: usize,
    },
    /// What is pending becomes steps.
    Cut {
        /// The process dies after so many of the commands that this gives.
        crash: Option<Crash>,
    },
    /// The sink takes waiting steps and makes bodies of them.
    Group {
        /// Most steps.
        steps: usize,
        /// Most operations of a body.
        body: usize,
    },
    /// The sink sends one of its bodies.
    Send {
        /// Which of those that are not settled.
        delivery: usize,
        /// What becomes of it.
        outcome: Outcome,
    },
    /// A request that was on its way for long reaches the index now.
    Late,
    /// The archiver takes a waiting step.
    Gather {
        /// Most steps.
        steps: usize,
    },
    /// The archiver commits what it has gathered, a table after the other.
    Commit {
        /// Where it fails, and the process with it.
        crash: Option<FailedCommit>,
    },
    /// The journal drops what the archive has.
    Forget,
    /// The process dies.
    Crash {
        /// Bytes of what the journal had not synced that are on disk all the same.
        torn: usize,
        /// Requests that are on their way reach the index later.
        lingering: bool,
    },
    /// The process dies, is started again, and dies before it is up.
    DieEarly {
        /// After so many tables have noted that a state begins.
        claims: usize,
    },
    /// The process dies, and its disk is lost.
    LoseJournal,
    /// The index forgets the versions of documents that were deleted; what was on its way has arrived or is lost.
    IndexForgetsDeletes,
    /// Everything is compared, if nothing is under way.
    Check,
    /// Somebody asks for a cut: everything is compared when the sinks have come to it, whatever else is under way.
    Hold,
}

impl Event {
    /// Whether it is something that should not happen.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Append { kind, .. } => *kind == Kind::Garbage,
            Self::Cut { crash } => crash.is_some(),
            Self::Commit { crash } => crash.is_some(),
            Self::Send { outcome, .. } => *outcome != Outcome::Fine,
            Self::Gap { .. } | Self::Late | Self::Crash { .. } | Self::DieEarly { .. } => true,
            Self::LoseJournal | Self::IndexForgetsDeletes => true,
            Self::Deliver { .. } | Self::Group { .. } | Self::Gather { .. } | Self::Forget | Self::Check => false,
            Self::Hold => false,
        }
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A row.
    Row,
    /// No value: deletes in a keyed table, and is rejected in an append table.
    Tombstone,
    /// Not JSON.
    Garbage,
}

/// How a process dies in the middle of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Commands that it still carries out.
    pub after: usize,
    /// Whether their writes reach the index.
    pub written: bool,
    /// Whether their records reach the archive.
    pub archived: bool,
}

/// A commit that fails: the disk is full, the process dies, or the answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCommit {
    /// Tables that are committed before.
    pub after: usize,
    /// Whether the table's commit is there all the same.
    pub visible: bool,
}

/// What becomes of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is written, and answered.
    Fine,
    /// It never arrives.
    Lost,
    /// It is written, and the answer is lost.
    AnswerLost,
    /// Some items are too much for now, bit by position, and the answer breaks off.
    AnswerTorn(u8),
    /// Some items are too much for now, bit by position, and the answer lacks the last one.
    AnswerShort(u8),
    /// No answer comes, and it is written later.
    Delayed,
    /// Written, answered, and written once more later.
    Repeated,
    /// Some items are too much for now: bit by position.
    Busy(u8),
    /// The server is not there for now.
    Unavailable,
    /// The body is too large.
    TooLarge,
    /// One item is refused for good, by position.
    Refused(u8),
}

impl Outcome {
    /// Whether the request reaches the index once more, or only later.
    #[must_use]
    pub fn comes_later(self) -> bool {
        matches!(self, Self::Delayed | Self::Repeated)
    }
}

impl Schedule {
    /// The schedule of a seed: this many events. Each draws its faults from a random half of them.
    #[must_use]
    pub fn draw(seed: u64, events: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = Shape::draw(&mut rng);
        let swarm = Swarm {
            on: rng.random(),
            tables: used_tables(&shape),
            partitions: rng.random_range(1..=PARTITIONS),
            values: rng.random_range(2..5),
        };
        Self {
            step_records: rng.random_range(1..5),
            events: (0..events).map(|_| swarm.event(&mut rng)).collect(),
            shape,
        }
    }
}

/// The tables that the query reads.
fn used_tables(shape: &Shape) -> Vec<usize> {
    let mut tables: Vec<usize> = [0].into_iter().chain(shape.joins.iter().map(|j| j.table)).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// Which faults a run has: a run with every fault at once hides more than it finds.
struct Swarm {
    on: u16,
    tables: Vec<usize>,
    partitions: usize,
    /// How many different values a column has. Few of them make keys meet.
    values: i64,
}

impl Swarm {
    fn has(&self, fault: u32) -> bool {
        self.on & (1 << fault) != 0
    }

    fn channel(&self, rng: &mut StdRng) -> (usize, usize) {
        (self.tables.choose(rng).copied().unwrap_or(0), rng.random_range(0..self.partitions))
    }

    fn deliver(&self, rng: &mut StdRng) -> Event {
        let (table, partition) = self.channel(rng);
        Event::Deliver { channel: table * PARTITIONS + partition, count: rng.random_range(1..5) }
    }

    fn event(&self, rng: &mut StdRng) -> Event {
        match rng.random_range(0..100_u32) {
            0..34 => self.append(rng),
            34..48 => self.deliver(rng),
            48..59 => Event::Cut { crash: self.crash(rng) },
            59 => Event::Hold,
            60..68 => Event::Group { steps: rng.random_range(1..4), body: rng.random_range(1..4) },
            68..82 => Event::Send { delivery: rng.random_range(0..3), outcome: self.outcome(rng) },
            82..86 => Event::Gather { steps: rng.random_range(1..4) },
            86..91 => {
                let dies = self.has(0) && rng.random_bool(0.3);
                let crash =
                    |rng: &mut StdRng| FailedCommit { after: rng.random_range(0..TABLES), visible: rng.random() };
                Event::Commit { crash: dies.then(|| crash(rng)) }
            }
            91..93 => Event::Forget,
            93..95 if self.has(1) => Event::Crash { torn: rng.random_range(0..90), lingering: rng.random_bool(0.5) },
            95..97 if self.has(2) => Event::LoseJournal,
            97 if self.has(2) => Event::DieEarly { claims: rng.random_range(0..TABLES) },
            98 if self.has(3) => Event::IndexForgetsDeletes,
            99 if self.has(4) => Event::Late,
            _ => Event::Check,
        }
    }

    fn append(&self, rng: &mut StdRng) -> Event {
        let (table, partition) = self.channel(rng);
        if self.has(5) && rng.random_bool(0.1) {
            return Event::Gap { table, partition };
        }
        let kind = match rng.random_range(0..10_u32) {
            0 | 1 => Kind::Tombstone,
            2 if self.has(6) => Kind::Garbage,
            _ => Kind::Row,
        };
        let value = |rng: &mut StdRng| rng.random_range(0..self.values);
        Event::Append { table, partition, values: [value(rng), value(rng), value(rng)], kind }
    }

    fn crash(&self, rng: &mut StdRng) -> Option<Crash> {
        (self.has(7) && rng.random_bool(0.3)).then(|| Crash {
            after: rng.random_range(0..6),
            written: rng.random(),
            archived: rng.random(),
        })
    }

    fn outcome(&self, rng: &mut StdRng) -> Outcome {
        let outcomes = [
            Outcome::Lost,
            Outcome::AnswerLost,
            Outcome::AnswerTorn(rng.random()),
            Outcome::AnswerShort(rng.random()),
            Outcome::Delayed,
            Outcome::Repeated,
            Outcome::Busy(rng.random()),
            Outcome::Unavailable,
            Outcome::TooLarge,
            Outcome::Refused(rng.random_range(0..3)),
        ];
        let choice = rng.random_range(0..2 * outcomes.len());
        // The bits above those of the other faults.
        let is_on = choice < outcomes.len() && self.has(8 + choice as u32 % 8);
        if is_on { outcomes[choice] } else { Outcome::Fine }
    }
}

impl fmt::Display for Schedule {
    /// A table for people: a line for each event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |table: usize| match self.shape.keys[table] {
            0 => "append",
            1 => "key c0",
            _ => "key c0, c1",
        };
        writeln!(f, "  FROM t0 ({})", keys(0))?;
        for (number, join) in self.shape.joins.iter().enumerate() {
            let pairs: Vec<String> =
                join.pairs.iter().map(|(l, c, r)| format!("i{l}.c{c} = i{}.c{r}", number + 1)).collect();
            let kind = if join.inner { "INNER" } else { "LEFT" };
            let filter = if join.filtered { " where c2 <> 0" } else { "" };
            let (table, on) = (join.table, pairs.join(" AND "));
            writeln!(f, "  {kind} JOIN t{table} ({}){filter} AS i{} ON {on}", keys(table), number + 1)?;
        }
        if self.shape.filtered {
            writeln!(f, "  WHERE i0.c1 IS NOT NULL")?;
        }
        writeln!(f, "  steps of {} records", self.step_records)?;
        self.events.iter().enumerate().try_for_each(|(number, event)| writeln!(f, "{:>4}  {event}", number + 1))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { table, partition, values, kind } => {
                let show = |v: &i64| if *v == 0 { "NULL".to_owned() } else { (v - 1).to_string() };
                let values: Vec<String> = values.iter().map(show).collect();
                write!(f, "{kind:?} ({}) is sent to t{table}, partition {partition}", values.join(", "))
            }
            Self::Gap { table, partition } => write!(f, "t{table}, partition {partition} skips an offset"),
            Self::Deliver { channel, count } => {
                let (table, partition) = (channel / PARTITIONS, channel % PARTITIONS);
                write!(f, "up to {count} records of t{table}, partition {partition} arrive")
            }
            Self::Cut { crash: None } => write!(f, "what is pending becomes steps"),
            Self::Cut { crash: Some(crash) } => write!(f, "what is pending becomes steps, {crash:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}
