//! One body's way into the index: what is sent next, and what an answer makes of it. Pure.

use std::time::Duration;

use super::bulk::Operation;
use super::verdict::{self, BulkVerdict, Effect, Verdict};
use crate::coordinates::Version;
use crate::identity::DocumentId;

/// A document that the index will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its id.
    pub id: DocumentId,
    /// The version that it would have had.
    pub version: Version,
    /// What the server said.
    pub reason: String,
}

/// What became of the operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Operations that had their effect.
    pub done: u64,
    /// Operations for which the index held a newer version.
    pub superseded: u64,
    /// Documents that were no longer as the guard saw them.
    pub moved: u64,
    /// Documents that the index will never take.
    pub rejected: Vec<Rejected>,
    /// Operations sent again.
    pub retries: u64,
    /// How long the server took to answer, one for each request that it answered.
    pub answered_after: Vec<Duration>,
}

impl Written {
    /// Adds what became of other operations.
    pub fn add(&mut self, other: Self) {
        self.done += other.done;
        self.superseded += other.superseded;
        self.moved += other.moved;
        self.retries += other.retries;
        self.rejected.extend(other.rejected);
        self.answered_after.extend(other.answered_after);
    }
}

/// When the next attempt is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// After a pause, which grows with each one in a row.
    Later {
        /// What the server said.
        reason: String,
    },
}

fn refused(operation: Operation, reason: String) -> Rejected {
    Rejected { id: operation.id, version: operation.version, reason }
}

/// A body under way.
#[derive(Debug)]
pub struct Delivery {
    /// What is not settled; the last is sent next.
    waiting: Vec<Vec<Operation>>,
    written: Written,
}

impl Delivery {
    /// A body that is to be sent.
    #[must_use]
    pub fn new(body: Vec<Operation>) -> Self {
        Self { waiting: vec![body], written: Written::default() }
    }

    /// What is sent next; `None` when every operation is settled.
    #[must_use]
    pub fn next(&self) -> Option<&[Operation]> {
        self.waiting.last().map(Vec::as_slice)
    }

    /// Takes the answer to what [`Self::next`] gave.
    ///
    /// # Errors
    /// With the reason, where nothing more can be written until someone acts.
    pub fn answered(&mut self, status: u16, body: &[u8]) -> Result<Pace, String> {
        let Some(operations) = self.waiting.pop() else { return Ok(Pace::Now) };
        match verdict::of_answer(&operations, status, body) {
            BulkVerdict::Items(verdicts) => self.settle(operations, verdicts),
            BulkVerdict::RetryAll { reason } => Ok(self.again(operations, reason)),
            BulkVerdict::Split => {
                self.split(operations);
                Ok(Pace::Now)
            }
            BulkVerdict::Stop { reason } => Err(reason),
        }
    }

    /// No answer came: nothing is known, and everything is sent again.
    pub fn unanswered(&mut self, reason: String) -> Pace {
        let operations = self.waiting.pop().unwrap_or_default();
        self.again(operations, reason)
    }

    /// The server took this long to answer a request.
    pub fn took(&mut self, duration: Duration) {
        self.written.answered_after.push(duration);
    }

    /// What became of the operations that are settled.
    #[must_use]
    pub fn finish(self) -> Written {
        self.written
    }

    fn settle(&mut self, operations: Vec<Operation>, verdicts: Vec<Verdict>) -> Result<Pace, String> {
        let (mut again, mut why) = (Vec::new(), String::new());
        for (operation, verdict) in operations.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(Effect::Superseded) => self.written.superseded += 1,
                Verdict::Done(Effect::Indexed | Effect::Deleted) => self.written.done += 1,
                Verdict::Moved => self.written.moved += 1,
                Verdict::Rejected { reason } => self.written.rejected.push(refused(operation, reason)),
                Verdict::Stop { reason } => return Err(reason),
                Verdict::Retry { reason } => {
                    again.push(operation);
                    why = reason;
                }
            }
        }
        if again.is_empty() { Ok(Pace::Now) } else { Ok(self.again(again, why)) }
    }

    fn again(&mut self, operations: Vec<Operation>, reason: String) -> Pace {
        self.written.retries += operations.len() as u64;
        self.waiting.push(operations);
        Pace::Later { reason }
    }

    fn split(&mut self, mut operations: Vec<Operation>) {
        if operations.len() > 1 {
            let second = operations.split_off(operations.len() / 2);
            self.waiting.extend([second, operations]);
        } else if let Some(operation) = operations.pop() {
            let reason = "the document alone is larger than the server takes (http.max_content_length)".into();
            self.written.rejected.push(refused(operation, reason));
        }
    }
}
