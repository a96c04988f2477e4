//! Writes operations with parallel bodies, and does not come back before each has an answer that settles it.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use elasticsearch::http::Method;
use futures_util::stream::{self, StreamExt};

use super::bulk::{self, BodyLimits, Operation};
use super::client::{Client, IndexError};
use super::verdict::{self, BulkVerdict, Effect, Verdict};
use crate::identity::DocumentId;

/// Pause before the first repetition; each further one doubles it, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between repetitions.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A document that the index will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its id.
    pub id: DocumentId,
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
}

/// Writes operations.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    parallel: usize,
}

impl Writer {
    /// A writer with this many bodies under way at a time.
    #[must_use]
    pub fn new(client: Client, parallel: usize) -> Self {
        Self { client, parallel }
    }

    /// Writes the operations, each id at most once among them. Waits for an index that does not answer, and says so by
    /// `trouble`.
    ///
    /// # Errors
    /// Where nothing more can be written until someone acts.
    pub async fn write(
        &self,
        index: &str,
        operations: Vec<Operation>,
        trouble: &(dyn Fn(&str) + Sync),
    ) -> Result<Written, IndexError> {
        let mut written = Written::default();
        let (sendable, defective): (Vec<_>, Vec<_>) = operations.into_iter().partition(|o| o.defect().is_none());
        for operation in defective {
            let reason = operation.defect().unwrap_or_default();
            written.rejected.push(Rejected { id: operation.id, reason });
        }
        let bodies = bulk::split(index, sendable, BodyLimits::default());
        let mut answers =
            stream::iter(bodies).map(|body| self.write_body(index, body, trouble)).buffer_unordered(self.parallel);
        while let Some(part) = answers.next().await {
            let part = part?;
            written.done += part.done;
            written.superseded += part.superseded;
            written.moved += part.moved;
            written.retries += part.retries;
            written.rejected.extend(part.rejected);
        }
        Ok(written)
    }

    async fn write_body(
        &self,
        index: &str,
        body: Vec<Operation>,
        trouble: &(dyn Fn(&str) + Sync),
    ) -> Result<Written, IndexError> {
        let mut written = Written::default();
        let mut waiting = vec![body];
        let mut pause = FIRST_PAUSE;
        while let Some(operations) = waiting.pop() {
            match self.attempt(index, &operations).await? {
                BulkVerdict::Items(verdicts) => {
                    let again = self.settle(operations, verdicts, &mut written)?;
                    if let Some((again, reason)) = again {
                        written.retries += again.len() as u64;
                        trouble(&reason);
                        waiting.push(again);
                        sleep(&mut pause).await;
                    } else {
                        pause = FIRST_PAUSE;
                    }
                }
                BulkVerdict::RetryAll { reason } => {
                    written.retries += operations.len() as u64;
                    trouble(&reason);
                    waiting.push(operations);
                    sleep(&mut pause).await;
                }
                BulkVerdict::Split => match halves(operations) {
                    Ok(halves) => waiting.extend(halves),
                    Err(rejected) => written.rejected.push(rejected),
                },
                BulkVerdict::Stop { reason } => return Err(self.client.refused(reason)),
            }
        }
        Ok(written)
    }

    async fn attempt(&self, index: &str, operations: &[Operation]) -> Result<BulkVerdict, IndexError> {
        match self.client.send(Method::Post, "/_bulk", Some(bulk::encode(index, operations))).await {
            Ok(answer) => Ok(verdict::of_answer(operations, answer.status, &answer.body)),
            Err(error) if error.is_unavailable() => Ok(BulkVerdict::RetryAll { reason: error.to_string() }),
            Err(error) => Err(error),
        }
    }

    /// Counts what is settled; gives back what must be sent again, and why.
    fn settle(
        &self,
        operations: Vec<Operation>,
        verdicts: Vec<Verdict>,
        written: &mut Written,
    ) -> Result<Option<(Vec<Operation>, String)>, IndexError> {
        let (mut again, mut why) = (Vec::new(), String::new());
        for (operation, verdict) in operations.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(Effect::Superseded) => written.superseded += 1,
                Verdict::Done(Effect::Indexed | Effect::Deleted) => written.done += 1,
                Verdict::Moved => written.moved += 1,
                Verdict::Rejected { reason } => written.rejected.push(Rejected { id: operation.id, reason }),
                Verdict::Stop { reason } => return Err(self.client.refused(reason)),
                Verdict::Retry { reason } => {
                    again.push(operation);
                    why = reason;
                }
            }
        }
        Ok((!again.is_empty()).then_some((again, why)))
    }
}

fn halves(mut operations: Vec<Operation>) -> Result<[Vec<Operation>; 2], Rejected> {
    if operations.len() > 1 {
        let second = operations.split_off(operations.len() / 2);
        return Ok([second, operations]);
    }
    let id = operations.pop().map_or_else(|| DocumentId("".into()), |operation| operation.id);
    Err(Rejected { id, reason: "the document alone is larger than the server takes (http.max_content_length)".into() })
}

/// Sleeps between half the pause and the whole, so that many writers do not come back at once.
async fn sleep(pause: &mut Duration) {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) % 1_000).unwrap_or(0);
    tokio::time::sleep(*pause / 2 + *pause * random / 2_000).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
