//! The cut of a reconcile: the step up to which archive and index are compared.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_shared::archive::{Archive, Note};
use lockstep_shared::coordinates::Step;
use lockstep_shared::plan::Pipeline;
use lockstep_shared::sql::settings::Settings;

use crate::recompute::RecomputeError;

/// How long the stream may take to say how far it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// What is compared with what.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Everything up to this step is in.
    pub step: Step,
    /// What each table's archive noted last.
    pub notes: BTreeMap<String, Note>,
}

/// A cut of now.
///
/// # Errors
/// Where an archive cannot be read.
pub async fn take(pipeline: &Pipeline, settings: &Settings) -> Result<Cut, RecomputeError> {
    // Asked before the archive is read: what the index has acknowledged by then is in it when it is scanned.
    let acknowledged = acknowledged(settings).await;
    let (archived, notes) = archived(pipeline, settings).await?;
    Ok(Cut { step: acknowledged.map_or(archived, |acknowledged| acknowledged.min(archived)), notes })
}

/// The last step that every table's archive has, and what each notes.
pub(crate) async fn archived(
    pipeline: &Pipeline,
    settings: &Settings,
) -> Result<(Step, BTreeMap<String, Note>), RecomputeError> {
    let archive = Archive::new(&settings.archive_path);
    let mut notes = BTreeMap::new();
    for table in &pipeline.tables {
        let path = settings.archive_path.join(&table.name);
        let missing = || RecomputeError::NoArchive { table: table.name.clone(), path };
        let note = archive.open_existing(table).await?.ok_or_else(missing)?.last().cloned().unwrap_or_default();
        notes.insert(table.name.clone(), note);
    }
    Ok((notes.values().map(|note| note.step).min().unwrap_or_default(), notes))
}

/// The last step whose documents the index has, as the running stream says; `None` where none runs, which must then have
/// written all that is archived. A stream that fills another archive is somebody else's.
pub(crate) async fn acknowledged(settings: &Settings) -> Option<Step> {
    #[derive(serde::Deserialize)]
    struct Status {
        archive: PathBuf,
        acknowledged: Step,
    }
    let client = reqwest::Client::builder().timeout(STATUS_PATIENCE).no_proxy().build().ok()?;
    let answer = client.get(format!("http://{}/v1/status", settings.http_address)).send().await.ok()?;
    let status = answer.json::<Status>().await.ok()?;
    let is_ours = status.archive.canonicalize().ok()? == settings.archive_path.canonicalize().ok()?;
    is_ours.then_some(status.acknowledged)
}
