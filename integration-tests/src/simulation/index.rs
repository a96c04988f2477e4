//! The index: a document's external version decides, and every answer has the faults that a server and a network have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lockstep_shared::coordinates::Version;
use lockstep_shared::identity::DocumentId;
use lockstep_shared::index::{Action, Operation};

use super::schedule::Outcome;

/// A document that the index holds, or of which it remembers the delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The external version.
    pub version: Version,
    /// Its sequence number: every write takes the next one.
    pub seq_no: u64,
    /// The document; `None` after a delete.
    pub source: Option<Vec<u8>>,
}

/// The index: external versions, `external_gte`.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// What it holds.
    pub held: BTreeMap<DocumentId, Held>,
    /// Documents that it has refused for good at least once.
    pub refused: BTreeSet<DocumentId>,
    next_seq_no: u64,
}

impl Index {
    /// Every document.
    pub fn documents(&self) -> impl Iterator<Item = (&DocumentId, &Vec<u8>)> {
        self.held.iter().filter_map(|(id, held)| Some((id, held.source.as_ref()?)))
    }

    /// Forgets the versions of deleted documents.
    pub fn forget_deletes(&mut self) {
        self.held.retain(|_, held| held.source.is_some());
    }

    /// Carries out a body, and gives the status of each item.
    pub fn write(&mut self, operations: &[Operation]) -> Vec<u16> {
        operations.iter().map(|operation| self.carry_out(operation)).collect()
    }

    fn carry_out(&mut self, operation: &Operation) -> u16 {
        let held = self.held.get(&operation.id);
        let was_there = held.is_some_and(|held| held.source.is_some());
        let version = match &operation.action {
            // A guarded delete has no version of its own: it takes the next one.
            Action::DeleteIf { seq_no, .. } => {
                match held.filter(|held| held.source.is_some() && held.seq_no == *seq_no) {
                    Some(held) => Version(held.version.0 + 1),
                    None => return if was_there { 409 } else { 404 },
                }
            }
            Action::Index(_) | Action::Delete if held.is_some_and(|held| held.version > operation.version) => {
                return 409;
            }
            Action::Index(_) | Action::Delete => operation.version,
        };
        let (source, status) = match &operation.action {
            Action::Index(json) => (Some(json.clone()), 200),
            Action::Delete | Action::DeleteIf { .. } => (None, if was_there { 200 } else { 404 }),
        };
        self.next_seq_no += 1;
        self.held.insert(operation.id.clone(), Held { version, seq_no: self.next_seq_no, source });
        status
    }

    /// What the sink gets as the answer to a body: status and text, or nothing. Whether the request comes a second time is
    /// for the caller: [`Outcome::comes_later`].
    pub fn answer(&mut self, operations: &[Operation], outcome: Outcome) -> Option<(u16, Vec<u8>)> {
        match outcome {
            Outcome::Lost | Outcome::Delayed => None,
            Outcome::Unavailable => Some((503, b"not now".to_vec())),
            Outcome::TooLarge if operations.len() > 1 => Some((413, Vec::new())),
            Outcome::AnswerLost => {
                self.write(operations);
                None
            }
            Outcome::AnswerTorn(bits) => {
                let mut text = body(operations, &self.write_some(operations, busy(bits)));
                text.truncate(text.len() / 2);
                Some((200, text))
            }
            Outcome::AnswerShort(bits) => {
                let statuses = self.write_some(operations, busy(bits));
                let short = operations.len() - 1;
                Some((200, body(&operations[..short], &statuses[..short])))
            }
            Outcome::Busy(bits) => Some((200, body(operations, &self.write_some(operations, busy(bits))))),
            Outcome::Refused(number) => {
                let refused = usize::from(number) % operations.len();
                self.refused.insert(operations[refused].id.clone());
                let statuses = self.write_some(operations, |position| (position == refused).then_some(400));
                Some((200, body(operations, &statuses)))
            }
            Outcome::Fine | Outcome::Repeated | Outcome::TooLarge => {
                Some((200, body(operations, &self.write(operations))))
            }
        }
    }

    fn write_some(&mut self, operations: &[Operation], fault: impl Fn(usize) -> Option<u16>) -> Vec<u16> {
        let status = |(position, operation)| fault(position).unwrap_or_else(|| self.carry_out(operation));
        operations.iter().enumerate().map(status).collect()
    }
}

/// The items for which there is no room now.
fn busy(bits: u8) -> impl Fn(usize) -> Option<u16> {
    move |position| (bits & (1 << (position % 8)) != 0).then_some(429)
}

/// The text of an answer.
fn body(operations: &[Operation], statuses: &[u16]) -> Vec<u8> {
    let mut text = String::from("{\"errors\":true,\"items\":[");
    for (number, (operation, status)) in operations.iter().zip(statuses).enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let verb = if matches!(operation.action, Action::Index(_)) { "index" } else { "delete" };
        let error =
            if *status >= 400 && *status != 404 { ",\"error\":{\"type\":\"drawn\",\"reason\":\"so\"}" } else { "" };
        // Writing to a String does not fail.
        let _ = write!(text, "{comma}{{\"{verb}\":{{\"status\":{status}{error}}}}}");
    }
    text.push_str("]}");
    text.into_bytes()
}
