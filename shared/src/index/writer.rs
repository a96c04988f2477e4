//! Writes operations with parallel bodies, and does not come back before each has an answer that settles it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use elasticsearch::http::Method;
use futures_util::stream::{self, StreamExt};

use super::bulk::{self, BodyLimits, Operation};
use super::client::{Client, IndexError};
use super::delivery::{Delivery, Pace, Rejected, Written};

/// Pause before the first repetition; each further one doubles it, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between repetitions.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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

    /// The client that it writes with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
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
            written.rejected.push(Rejected { id: operation.id, version: operation.version, reason });
        }
        let bodies = bulk::split(index, sendable, BodyLimits::default());
        let mut answers =
            stream::iter(bodies).map(|body| self.write_body(index, body, trouble)).buffer_unordered(self.parallel);
        while let Some(part) = answers.next().await {
            written.add(part?);
        }
        Ok(written)
    }

    async fn write_body(
        &self,
        index: &str,
        body: Vec<Operation>,
        trouble: &(dyn Fn(&str) + Sync),
    ) -> Result<Written, IndexError> {
        let mut delivery = Delivery::new(body);
        let mut pause = FIRST_PAUSE;
        while let Some(operations) = delivery.next() {
            let body = bulk::encode(index, operations);
            let sent = Instant::now();
            let pace = match self.client.send(Method::Post, "/_bulk", Some(body)).await {
                Ok(answer) => {
                    delivery.took(sent.elapsed());
                    delivery.answered(answer.status, &answer.body).map_err(|reason| self.client.refused(reason))?
                }
                Err(error) if error.is_unavailable() => delivery.unanswered(error.to_string()),
                Err(error) => return Err(error),
            };
            match pace {
                Pace::Now => pause = FIRST_PAUSE,
                Pace::Later { reason } => {
                    trouble(&reason);
                    sleep(&mut pause).await;
                }
            }
        }
        Ok(delivery.finish())
    }
}

/// Sleeps between half the pause and the whole, so that many writers do not come back at once.
async fn sleep(pause: &mut Duration) {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) % 1_000).unwrap_or(0);
    tokio::time::sleep(*pause / 2 + *pause * random / 2_000).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
