//! Every interleaving of one repair and a few live writes to the same document, for every kind of difference: in the end the
//! document is what the last live write says, or else what it should be at the cut.
//!
//! The production plan is explored. [`WRONG`] are known-wrong variants of it, each of which must be found.

use std::collections::BTreeMap;

use lockstep_batch::repair::{Fault, Seen, Stage, stages};
use lockstep_shared::coordinates::{Step, Version};
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::{Action, Operation};

use super::index::{Held, Index};

/// The cut of the repair; live writes are of the steps after it.
const CUT: Step = Step(10);
/// Steps before the cut in which the document was written; a repeated write of theirs may still arrive.
const OLDER: [Step; 3] = [Step(4), Step(6), Step(8)];
/// A version that no step justifies.
const BEYOND: Version = Version(Step(1_000).0 << 10);

/// What is wrong with the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is not there, and the index remembers nothing.
    Missing,
    /// It was deleted by hand, which the index remembers.
    DeletedByHand,
    /// An older version of it.
    Stale,
    /// Another document at the right version, as an edit by hand leaves it.
    Tampered,
    /// It should not be there: its last deletes were lost.
    Extra,
    /// Somebody else's document.
    Foreign,
    /// It should be there, and another document is, at a version beyond the log.
    BeyondDifferent,
    /// It should not be there, and is, at a version beyond the log.
    BeyondExtra,
}

/// Every kind of difference.
pub const KINDS: [Kind; 8] = [
    Kind::Missing,
    Kind::DeletedByHand,
    Kind::Stale,
    Kind::Tampered,
    Kind::Extra,
    Kind::Foreign,
    Kind::BeyondDifferent,
    Kind::BeyondExtra,
];

/// A write of the stream that arrives at the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next step writes the document.
    Index,
    /// The next step deletes it.
    Delete,
    /// A write of this one of the older steps is repeated, late.
    Older(usize),
    /// The live write before the last one is repeated, late, or the last one where it is the only one.
    Again,
}

const ARRIVALS: [Arrival; 6] =
    [Arrival::Index, Arrival::Delete, Arrival::Older(0), Arrival::Older(1), Arrival::Older(2), Arrival::Again];

/// A known-wrong variant of the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Documents are written at the version of the step after the cut.
    OneStepTooHigh,
    /// Documents are written at the version of the cut's step, below an edit by hand.
    BelowEdits,
    /// An extra document is deleted by its sequence number alone.
    GuardedDeleteAlone,
    /// What is beyond the log is deleted without a guard's memory being forgotten.
    NothingForgotten,
    /// What was beyond the log is written as of the first cut, and not of one that is taken afterwards.
    SettledAtTheFirstCut,
}

/// Every wrong variant.
pub const WRONG: [Wrong; 5] = [
    Wrong::OneStepTooHigh,
    Wrong::BelowEdits,
    Wrong::GuardedDeleteAlone,
    Wrong::NothingForgotten,
    Wrong::SettledAtTheFirstCut,
];

fn id() -> DocumentId {
    DocumentId("d".into())
}

fn document(step: Step) -> Vec<u8> {
    format!("{{\"n\":{}}}", step.0).into_bytes()
}

fn at(version: Version, action: Action) -> Operation {
    Operation { id: id(), version, action }
}

impl Kind {
    /// What should be there after the cut.
    fn expected(self) -> Option<Vec<u8>> {
        let is_there = !matches!(self, Self::Extra | Self::Foreign | Self::BeyondExtra);
        is_there.then(|| document(OLDER[2]))
    }

    /// What the older steps wrote, as the stream did.
    fn older(self) -> [Operation; 3] {
        let write = |step: Step| at(step.version(), Action::Index(document(step)));
        let last = if self.expected().is_some() { Action::Index(document(OLDER[2])) } else { Action::Delete };
        [write(OLDER[0]), write(OLDER[1]), at(OLDER[2].version(), last)]
    }

    /// The index as the scan found it.
    fn index(self) -> Index {
        let mut index = Index::default();
        let edited = |version: Version| Version(version.0 + 1);
        let other = || Some(b"{\"n\":-1}".to_vec());
        let (version, source) = match self {
            Self::Missing => return index,
            Self::DeletedByHand => (edited(OLDER[2].version()), None),
            Self::Stale | Self::Extra => (OLDER[0].version(), Some(document(OLDER[0]))),
            Self::Tampered => (edited(OLDER[2].version()), other()),
            Self::Foreign => (Version(1), other()),
            Self::BeyondDifferent | Self::BeyondExtra => (BEYOND, other()),
        };
        index.held.insert(id(), Held { version, seq_no: 0, source });
        index
    }

    fn fault(self) -> Fault {
        let index = self.index();
        let held = index.held.get(&id()).filter(|held| held.source.is_some());
        let seen = held.map(|held| Seen { version: held.version, seq_no: held.seq_no, primary_term: 1 });
        Fault { id: id(), seen, document: self.expected() }
    }
}

/// A repair under way: what it does next is decided when it does it, as the production code does.
#[derive(Clone, Debug)]
enum Act {
    Write(Vec<Operation>),
    Forget,
    /// The fence: what the stream had sent by now is what the documents will be.
    TakeCut,
    Settle,
}

fn acts(kind: Kind, wrong: Option<Wrong>) -> Vec<Act> {
    let act = |stage: Stage| match stage {
        Stage::Write(operations) | Stage::Uproot(operations) => vec![Act::Write(operations)],
        Stage::ForgetDeletes if wrong == Some(Wrong::NothingForgotten) => vec![],
        Stage::ForgetDeletes => vec![Act::Forget],
        Stage::Settle(_) if wrong == Some(Wrong::SettledAtTheFirstCut) => vec![Act::Settle],
        Stage::Settle(_) => vec![Act::TakeCut, Act::Settle],
    };
    stages(CUT, vec![kind.fault()]).into_iter().flat_map(act).map(|act| spoilt(act, kind, wrong)).collect()
}

fn spoilt(act: Act, kind: Kind, wrong: Option<Wrong>) -> Act {
    let Act::Write(operations) = act else { return act };
    let change = |operation: Operation| match (wrong, &operation.action) {
        (Some(Wrong::OneStepTooHigh), Action::Index(_) | Action::Delete) => {
            Operation { version: CUT.next().last_version(), ..operation }
        }
        (Some(Wrong::BelowEdits), Action::Index(_)) => Operation { version: OLDER[2].version(), ..operation },
        (Some(Wrong::GuardedDeleteAlone), Action::Delete) => match kind.fault().seen {
            Some(Seen { seq_no, primary_term, .. }) => {
                Operation { action: Action::DeleteIf { seq_no, primary_term }, ..operation }
            }
            None => operation,
        },
        _ => operation,
    };
    Act::Write(operations.into_iter().map(change).collect())
}

/// One order in which everything happens.
#[derive(Clone)]
struct Run {
    index: Index,
    kind: Kind,
    acts: Vec<Act>,
    /// The cut that the repair took last.
    cut: Step,
    live: Vec<Operation>,
    log: Vec<String>,
}

impl Run {
    /// What the log says after a step.
    fn says(&self, upto: Step) -> Option<Vec<u8>> {
        let last = self.live.iter().rfind(|operation| operation.version.step() <= upto);
        match last.map(|operation| &operation.action) {
            None => self.kind.expected(),
            Some(Action::Index(json)) => Some(json.clone()),
            Some(Action::Delete | Action::DeleteIf { .. }) => None,
        }
    }

    fn last_step(&self) -> Step {
        self.live.last().map_or(CUT, |operation| operation.version.step())
    }

    fn arrive(&mut self, arrival: Arrival) {
        let next = self.last_step().next();
        let operation = match arrival {
            Arrival::Index => at(next.version(), Action::Index(document(next))),
            Arrival::Delete => at(next.version(), Action::Delete),
            Arrival::Older(number) => self.kind.older()[number].clone(),
            Arrival::Again => match self.live.len() {
                0 => return,
                live => self.live[live.saturating_sub(2)].clone(),
            },
        };
        if matches!(arrival, Arrival::Index | Arrival::Delete) {
            self.live.push(operation.clone());
        }
        self.index.write(&[operation]);
        self.log.push(format!("{arrival:?}"));
    }

    fn repair(&mut self) {
        let act = self.acts.remove(0);
        self.log.push(match &act {
            Act::Write(operations) => format!("repair writes {operations:?}"),
            other => format!("repair: {other:?}"),
        });
        match act {
            Act::Write(operations) => drop(self.index.write(&operations)),
            Act::Forget => self.index.forget_deletes(),
            Act::TakeCut => self.cut = self.last_step(),
            Act::Settle => {
                let action = self.says(self.cut).map_or(Action::Delete, Action::Index);
                drop(self.index.write(&[at(self.cut.last_version(), action)]));
            }
        }
    }
}

/// Explores every order of the repair's acts and up to so many arrivals: how many there are.
///
/// # Errors
/// With the first order after which the document is not what it should be.
pub fn explore(kind: Kind, arrivals: usize, wrong: Option<Wrong>) -> Result<u64, String> {
    let acts = acts(kind, wrong);
    let begin = Run { index: kind.index(), kind, acts, cut: CUT, live: Vec::new(), log: Vec::new() };
    let mut explored = 0;
    go_on(&begin, arrivals, &mut explored)?;
    Ok(explored)
}

fn go_on(run: &Run, arrivals_left: usize, explored: &mut u64) -> Result<(), String> {
    if run.acts.is_empty() {
        judge(run)?;
        *explored += 1;
    } else {
        let mut next = run.clone();
        next.repair();
        go_on(&next, arrivals_left, explored)?;
    }
    if arrivals_left == 0 {
        return Ok(());
    }
    for arrival in ARRIVALS {
        let mut next = run.clone();
        next.arrive(arrival);
        go_on(&next, arrivals_left - 1, explored)?;
    }
    Ok(())
}

fn judge(run: &Run) -> Result<(), String> {
    let held: BTreeMap<_, _> = run.index.documents().collect();
    let found = held.get(&id()).map(|json| json.as_slice());
    let wanted = run.says(Step(u64::MAX));
    if found == wanted.as_deref() {
        return Ok(());
    }
    let text =
        |json: Option<&[u8]>| json.map_or_else(|| "nothing".into(), |json| String::from_utf8_lossy(json).into_owned());
    Err(format!(
        "{:?}: {} in place of {} after\n  {}",
        run.kind,
        text(found),
        text(wanted.as_deref()),
        run.log.join("\n  ")
    ))
}
