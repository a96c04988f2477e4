//! The stream that fills the archive, where one runs: what it says of itself on `/v1/status`.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_shared::coordinates::Step;
use lockstep_shared::sql::settings::Settings;
use serde::Deserialize;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Running {
    archive: PathBuf,
    /// What its program means, in short.
    pub program: String,
    /// The last step cut.
    pub step: Step,
    /// The last step whose documents the index has.
    pub acknowledged: Step,
    /// The last step in the archive.
    pub archived: Step,
}

/// The stream at `lockstep.http.address`; `None` where none answers, or one that fills another archive: that is somebody
/// else's.
pub async fn running(settings: &Settings) -> Option<Running> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().ok()?;
    let answer = client.get(format!("http://{}/v1/status", settings.http_address)).send().await.ok()?;
    let running = answer.json::<Running>().await.ok()?;
    (running.archive.canonicalize().ok()? == settings.archive_path.canonicalize().ok()?).then_some(running)
}
