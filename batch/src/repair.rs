//! The plan of a repair: what is done, in which order, so that the index becomes as it should be and no later write is
//! lost. Pure; [`execute`] carries it out, and the simulator explores it against every interleaving with live writes.
//!
//! At the cut `k` every document at or below `k`'s last version is older than what the log says next, so:
//!
//! * missing or different: index at `k`'s last version (`external_gte`). A live write of a later step wins, before or after.
//! * extra: delete at `k`'s last version. The version is the guard: only what is at most as old as the cut goes. A delete by
//!   `if_seq_no` would leave its memory at the document's own version plus one, which a late repetition of an older
//!   write can beat.
//! * a version beyond the log: no version of ours beats it, and it refuses every live write. It is deleted by `if_seq_no`
//!   (only if it is still what was seen), the index forgets its memory of deletes, and then the document is written as of a
//!   cut that is taken afterwards: what was refused until then is in it, and what comes later wins.
//!
//! While the index forgets deletes, for about a second, a late repetition of an older write could bring back a document that was
//! deleted within the last hour; the next reconcile finds that. Nothing is forgotten unless a version beyond the log is repaired.

pub mod execute;

use lockstep_shared::coordinates::{Step, Version};
use lockstep_shared::document::write_json;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::scan::Found;
use lockstep_shared::index::{Action, Operation};
use lockstep_shared::plan::Sink;
use lockstep_shared::sql::settings::Percent;
use lockstep_shared::value::Value;
use serde::{Deserialize, Serialize};

use crate::diff::Difference;
use crate::recompute::Documents;

/// So many documents may always be repaired: a share of a small index is no reason to write all of it anew.
pub const ALWAYS_ALLOWED: u64 = 100;

/// A part of a repair. They are done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Documents are written and deleted at the cut's last version.
    Write(Vec<Operation>),
    /// Documents whose version no step justifies are deleted, each only if it is as it was seen.
    Uproot(Vec<Operation>),
    /// The index forgets which versions it has deleted.
    ForgetDeletes,
    /// A cut is taken now, and these documents become as they should be then: see [`settled`].
    Settle(Vec<DocumentId>),
}

/// A document that is not as it should be, as far as its repair goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The document.
    pub id: DocumentId,
    /// What the index holds; nothing where it is missing.
    pub seen: Option<Seen>,
    /// What it should be, as JSON; nothing where it should not be.
    pub document: Option<Vec<u8>>,
}

/// The last write of a document, as the index shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its version.
    pub version: Version,
    /// Its sequence number.
    pub seq_no: u64,
    /// The primary term of that number.
    pub primary_term: u64,
}

impl Seen {
    /// Of a document that was found.
    #[must_use]
    pub fn of(found: &Found) -> Self {
        Self { version: found.version, seq_no: found.seq_no, primary_term: found.primary_term }
    }
}

impl Fault {
    /// Of a difference.
    #[must_use]
    pub fn of(sink: &Sink, difference: &Difference) -> Self {
        let document = match difference {
            Difference::Missing { expected, .. } | Difference::Different { expected, .. } => Some(json(sink, expected)),
            Difference::Extra { .. } => None,
        };
        Self { id: difference.id(), seen: difference.found().map(Seen::of), document }
    }

    /// What makes it good, where its version is at most as old as the cut.
    fn write(self, cut: Step) -> Operation {
        let action = self.document.map_or(Action::Delete, Action::Index);
        Operation { id: self.id, version: cut.last_version(), action }
    }

    fn uproot(&self) -> Option<Operation> {
        let Seen { version, seq_no, primary_term } = self.seen?;
        Some(Operation { id: self.id.clone(), version, action: Action::DeleteIf { seq_no, primary_term } })
    }
}

/// The stages that make the index as it should be at the cut.
#[must_use]
pub fn plan(sink: &Sink, cut: Step, differences: &[Difference]) -> Vec<Stage> {
    stages(cut, differences.iter().map(|difference| Fault::of(sink, difference)).collect())
}

/// The stages that make these faults good. A version of a step after the cut is one that no step has written: only a comparison
/// that is exact calls such a document a fault.
#[must_use]
pub fn stages(cut: Step, faults: Vec<Fault>) -> Vec<Stage> {
    let is_beyond = |fault: &Fault| fault.seen.is_some_and(|seen| seen.version.step() > cut);
    let (beyond, within): (Vec<Fault>, Vec<Fault>) = faults.into_iter().partition(is_beyond);
    let mut stages = Vec::new();
    if !within.is_empty() {
        stages.push(Stage::Write(within.into_iter().map(|fault| fault.write(cut)).collect()));
    }
    if !beyond.is_empty() {
        stages.push(Stage::Uproot(beyond.iter().filter_map(Fault::uproot).collect()));
        stages.push(Stage::ForgetDeletes);
        stages.push(Stage::Settle(beyond.into_iter().map(|fault| fault.id).collect()));
    }
    stages
}

/// What makes these documents as they should be at a later cut.
#[must_use]
pub fn settled(sink: &Sink, cut: Step, ids: Vec<DocumentId>, expected: &Documents) -> Vec<Operation> {
    let fault = |id: DocumentId| {
        let document = expected.get(&id).map(|values| json(sink, values));
        Fault { id, seen: None, document }
    };
    ids.into_iter().map(|id| fault(id).write(cut)).collect()
}

fn json(sink: &Sink, values: &[Value]) -> Vec<u8> {
    let mut document = Vec::new();
    write_json(&sink.columns, values, &mut document);
    document
}

/// How much a repair may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Percent);

/// A repair that would touch too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    /// Documents that it would touch.
    pub documents: u64,
    /// Documents of the index, or those that should be there, whichever are more.
    pub of: u64,
    /// The limit, in hundredths of them.
    pub limit_percent: u8,
}

impl Limit {
    /// Whether a repair of so many documents, in an index of so many, is too much.
    #[must_use]
    pub fn holds_back(self, documents: u64, of: u64) -> Option<HeldBack> {
        let allowed = (u128::from(of) * u128::from(self.0.0) / 100).max(u128::from(ALWAYS_ALLOWED));
        (u128::from(documents) > allowed).then_some(HeldBack { documents, of, limit_percent: self.0.0 })
    }
}

impl HeldBack {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { documents, of, limit_percent } = self;
        format!(
            "not repaired: {documents} of {of} documents are more than the limit of {limit_percent} %; \
             look for the cause, then rebuild the index (lockstep-batch rebuild) or raise --repair-limit"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_held_back_above_its_share_and_never_below_a_hundred_documents() {
        let limit = Limit(Percent(10));
        assert_eq!(limit.holds_back(100, 0), None);
        assert_eq!(limit.holds_back(100, 150), None);
        assert!(limit.holds_back(101, 150).is_some());
        assert_eq!(limit.holds_back(1_000, 10_000), None);
        let held = limit.holds_back(1_001, 10_000).unwrap();
        assert!(held.text().contains("1001 of 10000 documents") && held.text().contains("rebuild"), "{}", held.text());
        assert_eq!(Limit(Percent(100)).holds_back(10_000, 10_000), None);
        assert!(Limit(Percent(0)).holds_back(101, 10_000).is_some());
    }
}
