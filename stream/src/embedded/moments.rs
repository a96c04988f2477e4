//! Points in time: what searchers of a moment see, held until they are closed or nobody has asked for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::answer::Refusal;
use super::dates;
use super::part::Part;

/// Most points in time at once: each keeps files of its moment.
const MOST: usize = 100;
/// Longest time one is kept between two questions, as Elasticsearch's `point_in_time.max_keep_alive`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

struct Moment {
    parts: Vec<Part>,
    until: Instant,
}

/// All points in time, by id.
#[derive(Default)]
pub(super) struct Moments {
    open: Mutex<HashMap<String, Moment>>,
}

/// Reads a `keep_alive`.
pub(super) fn keep_alive(text: Option<&str>) -> Result<Duration, Refusal> {
    let text = text.ok_or_else(|| {
        Refusal::new(400, "action_request_validation_exception", "Validation Failed: 1: [keep_alive] is not specified;")
    })?;
    let given = dates::duration_ms(text).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    match given {
        Some(given) if given <= LONGEST => Ok(given),
        Some(_) => {
            Err(Refusal::argument(format!("Keep alive for request ({text}) is too large. It must be less than (1d).")))
        }
        None => {
            Err(Refusal::argument(format!("failed to parse setting [keep_alive] with value [{text}] as a time value")))
        }
    }
}

fn missing(id: &str) -> Refusal {
    Refusal::new(404, "search_context_missing_exception", format!("No search context found for id [{id}]"))
}

impl Moments {
    /// Those that are not over.
    fn open(&self) -> MutexGuard<'_, HashMap<String, Moment>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        open.retain(|_, moment| moment.until > now);
        open
    }

    /// Holds a moment; its id.
    pub(super) fn add(&self, parts: Vec<Part>, keep: Duration) -> Result<String, Refusal> {
        let mut open = self.open();
        if open.len() >= MOST {
            return Err(Refusal::new(
                429,
                "es_rejected_execution_exception",
                format!("Trying to open too many points in time. Must be less than or equal to: [{MOST}]; close some"),
            ));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        open.insert(id.clone(), Moment { parts, until: Instant::now() + keep });
        Ok(id)
    }

    /// What one sees; from now on it is kept for the `keep_alive` of the `pit` of a body.
    pub(super) fn get(&self, pit: &Json) -> Result<(String, Vec<Part>), Refusal> {
        let id = pit["id"].as_str().ok_or_else(|| Refusal::argument("[pit] needs an [id]"))?;
        let keep = pit["keep_alive"].as_str().map(|text| keep_alive(Some(text))).transpose()?;
        let mut open = self.open();
        let moment = open.get_mut(id).ok_or_else(|| missing(id))?;
        if let Some(keep) = keep {
            moment.until = Instant::now() + keep;
        }
        Ok((id.to_owned(), moment.parts.clone()))
    }

    /// Lets one go.
    pub(super) fn close(&self, id: &str) -> Result<(), Refusal> {
        self.open().remove(id).map(drop).ok_or_else(|| missing(id))
    }
}
