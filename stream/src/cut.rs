//! A cut on demand: one step k such that the archive has everything up to k, and a point in time of every index holds
//! everything up to k and nothing after. Whoever compares the two compares exact states while the stream runs on.
//!
//! The core says where (`Core::hold`), the sinks are held there until every index is refreshed and its point in time is
//! open (`Sinks`), the archiver commits at once. This module waits for both and answers; [`routes`] serves it.

pub mod routes;

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_shared::coordinates::Step;
use serde::Serialize;
use tokio::sync::oneshot;

/// An index as it was at the cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The index.
    pub index: String,
    /// The id of its point in time. Whoever asked for the cut closes it.
    pub point_in_time: String,
}

/// What the sinks have done for a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By sink its index, where it has one.
    pub sinks: BTreeMap<String, Moment>,
    /// How long nothing was written.
    pub duration: Duration,
}

/// A cut, done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cut {
    /// Everything up to this step is in.
    pub step: Step,
    /// How long the sinks were held, in milliseconds.
    pub held_ms: f64,
    /// By sink its index, where it has one.
    pub sinks: BTreeMap<String, Moment>,
}

/// Why there is no cut now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The index is not at any one step.
    #[error("the stream is recovering, and the index is not at one step yet; ask again when /readyz says ready")]
    Recovering,
    /// The index did not do its part.
    #[error("no point in time of the indexes: {reason}; ask again")]
    Index {
        /// What it said.
        reason: String,
    },
}

/// Somebody wants a cut.
#[derive(Debug)]
pub struct Request {
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Cut, Refusal>>,
}

/// A cut under way.
#[derive(Debug)]
pub struct Pending {
    step: Step,
    held: Option<Held>,
    request: Request,
}

impl Pending {
    /// The sinks will be held after this step.
    #[must_use]
    pub fn new(step: Step, request: Request) -> Self {
        Self { step, held: None, request }
    }

    /// The sinks were held. Gives back what is still to be waited for.
    #[must_use]
    pub fn held(mut self, held: Result<Held, String>, archived: Step) -> Option<Self> {
        match held {
            Ok(held) => self.held = Some(held),
            Err(reason) => {
                self.request.refuse(Refusal::Index { reason });
                return None;
            }
        }
        self.archived(archived)
    }

    /// The archive has everything up to a step. Gives back what is still to be waited for.
    #[must_use]
    pub fn archived(self, archived: Step) -> Option<Self> {
        let Self { step, held, request } = self;
        match held {
            Some(held) if archived >= step => {
                let cut = Cut { step, held_ms: held.duration.as_secs_f64() * 1_000.0, sinks: held.sinks };
                // Who asked may have gone; the servers forget the points in time by themselves.
                let _ = request.reply.send(Ok(cut));
                None
            }
            held => Some(Self { step, held, request }),
        }
    }
}

impl Request {
    /// There is no cut.
    pub fn refuse(self, refusal: Refusal) {
        // Who asked may have gone.
        let _ = self.reply.send(Err(refusal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(step: u64) -> (Pending, oneshot::Receiver<Result<Cut, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        (Pending::new(Step(step), Request { reply }), answer)
    }

    #[test]
    fn a_cut_is_answered_when_archive_and_indexes_both_have_it() {
        let held = || Ok(Held { sinks: BTreeMap::new(), duration: Duration::from_millis(7) });
        let (first, mut answer) = pending(5);
        let waiting = first.held(held(), Step(4)).unwrap();
        assert!(answer.try_recv().is_err(), "the archive lacks step 5");
        assert!(waiting.archived(Step(6)).is_none());
        assert_eq!(answer.try_recv().unwrap().unwrap().step, Step(5));

        let (second, mut answer) = pending(5);
        let waiting = second.archived(Step(9)).unwrap();
        assert!(waiting.held(held(), Step(9)).is_none());
        assert_eq!(answer.try_recv().unwrap().unwrap().held_ms, 7.0);

        let (third, mut answer) = pending(5);
        assert!(third.held(Err("a shard is missing".into()), Step(9)).is_none());
        assert_eq!(answer.try_recv().unwrap(), Err(Refusal::Index { reason: "a shard is missing".into() }));
    }
}
