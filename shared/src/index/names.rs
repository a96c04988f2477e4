//! Indexes, and the names that stand for them: their own, or an alias.

use elasticsearch::http::Method;
use serde_json::{Value as Json, json};

use super::client::{Client, IndexError};
use super::mapping;
use crate::plan::Sink;

/// An index behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concrete {
    /// Its own name.
    pub name: String,
    /// What tells it from one that was made anew under its name.
    pub uuid: String,
}

impl Client {
    /// The one index that a name stands for; `None` where there is none.
    ///
    /// # Errors
    /// Where an alias stands for several, or the server does not say.
    pub async fn concrete(&self, name: &str) -> Result<Option<Concrete>, IndexError> {
        if !self.exists(name).await? {
            return Ok(None);
        }
        let settings = self.json(Method::Get, &format!("/{name}/_settings"), None).await?;
        let mut found = settings.as_object().into_iter().flatten();
        match (found.next(), found.next()) {
            (Some((own, of)), None) => {
                let uuid = of["settings"]["index"]["uuid"].as_str().unwrap_or_default().to_owned();
                Ok(Some(Concrete { name: own.clone(), uuid }))
            }
            (None, _) => Ok(None),
            (Some((one, _)), Some((other, _))) => {
                Err(self.refused(format!("{name} is an alias of {one}, {other} and maybe more; let it stand for one")))
            }
        }
    }

    /// Makes an index for a sink's documents that does not refresh by itself, so that it is filled quickly.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn create_to_fill(&self, index: &str, sink: &Sink) -> Result<(), IndexError> {
        let mut creation = mapping::creation(&sink.columns);
        creation["settings"]["index"]["refresh_interval"] = json!("-1");
        self.json(Method::Put, &format!("/{index}"), Some(&creation)).await.map(drop)
    }

    /// The index refreshes by itself, as often as the server does by default.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn refresh_by_itself(&self, index: &str) -> Result<(), IndexError> {
        let body = json!({"index": {"refresh_interval": Json::Null}});
        self.json(Method::Put, &format!("/{index}/_settings"), Some(&body)).await.map(drop)
    }

    /// Does all of these to aliases and indexes, or nothing.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn change_aliases(&self, actions: &[Json]) -> Result<(), IndexError> {
        self.json(Method::Post, "/_aliases", Some(&json!({"actions": actions}))).await.map(drop)
    }

    /// Deletes an index.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn delete_index(&self, index: &str) -> Result<(), IndexError> {
        self.json(Method::Delete, &format!("/{index}"), None).await.map(drop)
    }
}
