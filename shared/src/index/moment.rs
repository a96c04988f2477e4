//! An index as it stood at one moment (a point in time): what a query finds in it, page by page, and how much.
//!
//! Pages are given as text, and read by [`super::page`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use super::carried::FIELD;
use super::client::{Client, IndexError};

/// How long the server keeps the moment between two questions: longer than it takes to start a pass again that was killed.
const KEEP_ALIVE: Duration = Duration::from_secs(30 * 60);
/// How often a moment is asked for that is not read yet: five times within [`KEEP_ALIVE`], so that a server may fail to
/// answer for a while.
const ASK_EVERY: Duration = Duration::from_secs(6 * 60);

/// A point in time.
pub struct Moment {
    client: Client,
    keep_alive: Duration,
    /// The server may give it another name with each answer.
    id: Mutex<String>,
}

/// What is read of each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Whole,
    /// All of it, and the digest that it carries: see [`super::page::Hit::carried`].
    WithDigest,
    /// Everything but the document itself.
    WithoutSource,
}

/// Documents whose sequence numbers are in [from, to).
#[must_use]
pub fn numbered(from: u64, to: u64) -> Json {
    json!({"range": {"_seq_no": {"gte": from, "lt": to}}})
}

impl Moment {
    /// The index as of now: everything written before is in it.
    ///
    /// # Errors
    /// Where the server does not open one.
    pub async fn open(client: &Client, index: &str) -> Result<Self, IndexError> {
        client.refresh(index).await?;
        Self::open_for(client, index, KEEP_ALIVE).await
    }

    /// The same, kept for so long between two questions.
    ///
    /// # Errors
    /// Where the server does not open one.
    pub async fn open_for(client: &Client, index: &str, keep_alive: Duration) -> Result<Self, IndexError> {
        client.refresh(index).await?;
        let id = client.open_point_in_time(index, &milliseconds(keep_alive)).await?;
        Ok(Self { client: client.clone(), keep_alive, id: Mutex::new(id) })
    }

    /// A moment that is open already.
    #[must_use]
    pub fn held(client: &Client, id: String) -> Self {
        Self { client: client.clone(), keep_alive: KEEP_ALIVE, id: Mutex::new(id) }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets it go. The server forgets it by itself too; that this fails says nothing about what was read.
    pub async fn close(&self) {
        let _ = self.client.json(Method::Delete, "/_pit", Some(&json!({"id": self.id()}))).await;
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks for nothing: whether it is still there, and from now on it is kept as long again.
    ///
    /// # Errors
    /// [`IndexError::Expired`] where it is gone; others where the server does not answer.
    pub async fn touch(&self) -> Result<(), IndexError> {
        self.count(&json!({"match_none": {}})).await.map(drop)
    }

    /// Documents that a query finds.
    ///
    /// # Errors
    /// Where the server does not answer for all of them.
    pub async fn count(&self, query: &Json) -> Result<u64, IndexError> {
        let answer = self.ask(json!({"query": query, "size": 0, "track_total_hits": true})).await?;
        let wrong = || self.client.refused("a count has no total".into());
        answer["hits"]["total"]["value"].as_u64().ok_or_else(wrong)
    }

    /// An answer that is small.
    ///
    /// # Errors
    /// Where the server does not answer for all documents.
    pub async fn ask(&self, question: Json) -> Result<Json, IndexError> {
        let body = self.send(question).await?;
        let answer: Json = serde_json::from_slice(&body)
            .map_err(|error| self.client.refused(format!("the answer of a search is no JSON: {error}")))?;
        if answer["timed_out"] == json!(true) || answer["_shards"]["failed"].as_u64().unwrap_or(0) > 0 {
            return Err(self.client.refused("a search is not complete: a shard failed or took too long".into()));
        }
        if let Some(id) = answer["pit_id"].as_str() {
            id.clone_into(&mut self.id.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(answer)
    }

    /// The next page of what a query finds, to be read as [`super::page::Page`].
    ///
    /// # Errors
    /// Where the server does not give it.
    pub async fn page(
        &self,
        query: &Json,
        reading: Reading,
        size: usize,
        after: Option<&Json>,
    ) -> Result<Vec<u8>, IndexError> {
        let by_place = json!({"_shard_doc": "asc"});
        let sort = match reading {
            // Places are all different: the digest orders nothing, and is told.
            Reading::WithDigest => json!([by_place, {FIELD: "asc"}]),
            Reading::Whole | Reading::WithoutSource => json!([by_place]),
        };
        let mut question = json!({
            "query": query,
            "size": size,
            "sort": sort,
            "track_total_hits": false,
            "version": true,
            "seq_no_primary_term": true,
            "_source": reading != Reading::WithoutSource,
        });
        if let Some(after) = after {
            question["search_after"] = after.clone();
        }
        self.send(question).await
    }

    async fn send(&self, mut question: Json) -> Result<Vec<u8>, IndexError> {
        question["pit"] = json!({"id": self.id(), "keep_alive": milliseconds(self.keep_alive)});
        let answer = self.client.send(Method::Post, "/_search", Some(question.to_string().into_bytes())).await?;
        if answer.status == 404 && String::from_utf8_lossy(&answer.body).contains("search_context_missing") {
            return Err(IndexError::Expired { hosts: self.client.hosts().to_owned() });
        }
        self.client.expect_success(&answer)?;
        Ok(answer.body)
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Asks moments now and then, so that none expires while nobody reads it. It ends with the value, and closes none.
pub struct Keeper(JoinHandle<()>);

impl Keeper {
    /// Of moments as they are opened by default.
    #[must_use]
    pub fn of(moments: Vec<Arc<Moment>>) -> Self {
        Self::every(ASK_EVERY, moments)
    }

    /// Asks every so often.
    #[must_use]
    pub fn every(pause: Duration, moments: Vec<Arc<Moment>>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                for moment in &moments {
                    // Whoever reads it will see that it is gone, or that the server does not answer, and says so.
                    if let Err(error) = moment.touch().await {
                        tracing::debug!("a point in time that is kept: {error}");
                    }
                }
            }
        }))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
