//! The cut of a reconcile: the step up to which archive and index are compared.
//!
//! A running stream makes an exact one (`POST /v1/cuts`): the archive has everything up to it, and a point in time of each
//! index holds everything up to it and nothing after. Where no stream answers, or the index is written by somebody else,
//! the cut is what the archive has, and documents that are younger in the index are left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_shared::archive::{Note, TableArchive};
use lockstep_shared::coordinates::Step;
use lockstep_shared::index::moment::{Keeper, Moment};
use lockstep_shared::index::{Client, index_name};
use lockstep_shared::plan::{Pipeline, Sink, Table};
use lockstep_shared::sql::settings::Settings;
use serde::Deserialize;

use crate::recompute::{self, RecomputeError};
use crate::running::running;

/// How long it may take to make a cut: a little longer than it tries itself.
const CUT_PATIENCE: Duration = Duration::from_secs(75);
/// How often it is asked again while it says that asking again helps.
const ATTEMPTS: u32 = 5;
/// Pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// What is compared with what.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Everything up to this step is in.
    pub step: Step,
    /// What each table's archive noted last.
    pub notes: BTreeMap<String, Note>,
    /// How exactly the index is known at the cut.
    pub precision: Precision,
}

/// How exactly an index is known at a cut.
#[derive(Clone, Debug)]
pub enum Precision {
    /// Points in time hold what was written up to the cut, and nothing after.
    Exact(Exact),
    /// The index is read as it is; what is younger than the cut is left out.
    Around {
        /// Why it is not exact.
        reason: String,
    },
}

/// What the stream has made.
#[derive(Clone, Debug, Deserialize)]
pub struct Exact {
    step: Step,
    /// How long the stream held its sinks, in milliseconds.
    pub held_ms: f64,
    sinks: BTreeMap<String, Opened>,
}

#[derive(Clone, Debug, Deserialize)]
struct Opened {
    index: String,
    point_in_time: String,
}

/// The points in time of an exact cut, all of them alive until they are closed: what is compared last waits for all that is
/// compared before it.
pub struct Held {
    /// By sink.
    moments: BTreeMap<String, Arc<Moment>>,
    keeper: Keeper,
}

impl Held {
    /// Those of these sinks' indexes; none where the cut is not exact.
    pub fn of<'a>(cut: &Cut, sinks: impl IntoIterator<Item = (&'a Sink, &'a Client)>) -> Self {
        let moment = |(sink, client): (&'a Sink, &'a Client)| {
            let Precision::Exact(exact) = &cut.precision else { return None };
            let opened = exact.sinks.get(&sink.name).filter(|opened| opened.index == index_name(sink))?;
            Some((sink.name.clone(), Arc::new(Moment::held(client, opened.point_in_time.clone()))))
        };
        let moments: BTreeMap<String, Arc<Moment>> = sinks.into_iter().filter_map(moment).collect();
        let keeper = Keeper::of(moments.values().cloned().collect());
        Self { moments, keeper }
    }

    /// The point in time of a sink's own index.
    #[must_use]
    pub fn moment(&self, sink: &Sink, index: &str) -> Option<Arc<Moment>> {
        self.moments.get(&sink.name).filter(|_| index == index_name(sink)).cloned()
    }

    /// Closes all, also those that were not read because something failed before.
    pub async fn close(self) {
        drop(self.keeper);
        for moment in self.moments.values() {
            moment.close().await;
        }
    }
}

/// A cut of now.
///
/// # Errors
/// Where an archive cannot be read.
pub async fn take(pipeline: &Pipeline, settings: &Settings) -> Result<Cut, RecomputeError> {
    // Asked before the archive is read: what the index has acknowledged by then is in it when it is scanned.
    let (step, precision) = match acknowledged(settings).await {
        None => (
            None,
            Precision::Around { reason: format!("no stream of this archive answers at {}", settings.http_address) },
        ),
        Some(acknowledged) => match exact(settings).await {
            Ok(exact) => (Some(exact.step), Precision::Exact(exact)),
            Err(reason) => (Some(acknowledged), Precision::Around { reason }),
        },
    };
    let (archived, notes) = archived(pipeline, settings).await?;
    Ok(Cut { step: step.map_or(archived, |step| step.min(archived)), notes, precision })
}

/// The last step that every table's archive has, and what each notes.
pub(crate) async fn archived(
    pipeline: &Pipeline,
    settings: &Settings,
) -> Result<(Step, BTreeMap<String, Note>), RecomputeError> {
    let opened = recompute::opened(pipeline, &settings.archive_path).await?;
    let note =
        |(archive, table): (TableArchive, &Table)| (table.name.clone(), archive.last().cloned().unwrap_or_default());
    let notes: BTreeMap<String, Note> = opened.into_iter().zip(&pipeline.tables).map(note).collect();
    Ok((notes.values().map(|note| note.step).min().unwrap_or_default(), notes))
}

/// The last step whose documents the index has, as the running stream says; `None` where none runs, which must then have
/// written all that is archived.
pub(crate) async fn acknowledged(settings: &Settings) -> Option<Step> {
    running(settings).await.map(|running| running.acknowledged)
}

/// An exact cut by the running stream, or why there is none.
async fn exact(settings: &Settings) -> Result<Exact, String> {
    let client = reqwest::Client::builder().timeout(CUT_PATIENCE).no_proxy().build().map_err(|e| e.to_string())?;
    let url = format!("http://{}/v1/cuts", settings.http_address);
    let mut reason = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let answer = client.post(&url).send().await.map_err(|e| format!("the stream gives no cut: {e}"))?;
        let (status, body) = (answer.status(), answer.bytes().await.map_err(|e| e.to_string())?);
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| format!("the stream's cut cannot be read: {e}"));
        }
        reason = refusal(&body);
        if !matches!(status.as_u16(), 429 | 503) {
            break;
        }
    }
    Err(format!("the stream gives no cut: {reason}"))
}

/// The sentence of an answer that is no success.
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let sentence = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
    sentence.unwrap_or_else(|_| "its version of Lockstep makes none".into())
}
