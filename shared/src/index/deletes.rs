//! What the index remembers of deleted documents: their versions, for `index.gc_deletes`.
//!
//! A guarded delete is remembered at the document's version plus one, and an older write is refused as long as that lasts. Where
//! that version was beyond every step, it has to be forgotten before anything else can be written.

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::json;

use super::client::{Client, IndexError};
use super::mapping::KEEP_DELETES;

/// Elasticsearch tells the age of a delete by a clock that it reads every 200 ms (`thread_pool.estimated_time_interval`), on
/// each of its nodes, and looks for old ones when it refreshes.
const UNTIL_ALL_ARE_OLD: Duration = Duration::from_secs(1);
/// What is set while deletes are forgotten.
const KEEP_NONE: &str = "0s";

impl Client {
    /// The index forgets the versions of all documents that it has deleted until now, and remembers those to come as before.
    ///
    /// # Errors
    /// Where the server does not; then the setting may be left, and [`Self::remember_deletes`] puts it right.
    pub async fn forget_deletes(&self, index: &str) -> Result<(), IndexError> {
        self.keep_deletes(index, KEEP_NONE).await?;
        tokio::time::sleep(UNTIL_ALL_ARE_OLD).await;
        let refreshed = self.refresh(index).await;
        self.keep_deletes(index, KEEP_DELETES).await?;
        refreshed
    }

    /// Puts the setting right that a killed [`Self::forget_deletes`] has left.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn remember_deletes(&self, index: &str) -> Result<(), IndexError> {
        let settings = self.json(Method::Get, &format!("/{index}/_settings"), None).await?;
        let of_each = settings.as_object().into_iter().flat_map(|indexes| indexes.values());
        let mut kept = of_each.map(|one| &one["settings"]["index"]["gc_deletes"]);
        if kept.any(|kept| kept == KEEP_NONE) { self.keep_deletes(index, KEEP_DELETES).await } else { Ok(()) }
    }

    async fn keep_deletes(&self, index: &str, time: &str) -> Result<(), IndexError> {
        let body = json!({"index": {"gc_deletes": time}});
        self.json(Method::Put, &format!("/{index}/_settings"), Some(&body)).await.map(drop)
    }
}
