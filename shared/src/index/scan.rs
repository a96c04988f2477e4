//! Every document of an index as it stood at one moment.

use std::collections::HashMap;

use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::client::{Client, IndexError};
use crate::coordinates::Version;

/// Documents of one answer.
const PAGE: usize = 5_000;
/// How long the server keeps the moment between two questions.
const KEEP_ALIVE: &str = "5m";

/// A document as the index holds it.
#[derive(Clone, Debug, Deserialize)]
pub struct Found {
    /// Its `_id`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its version.
    #[serde(rename = "_version")]
    pub version: Version,
    /// Its sequence number, for a guarded delete.
    #[serde(rename = "_seq_no")]
    pub seq_no: u64,
    /// The primary term of that number.
    #[serde(rename = "_primary_term")]
    pub primary_term: u64,
    /// The document.
    #[serde(rename = "_source", default)]
    pub source: Json,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    pit_id: Option<String>,
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: Shards,
    hits: Hits,
}

#[derive(Default, Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(flatten)]
    found: Found,
    #[serde(default)]
    sort: Json,
}

/// What is read of each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Whole,
    /// Everything but the document itself.
    WithoutSource,
}

/// The moment at which an index is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment<'a> {
    /// Now: the index is refreshed first.
    Now,
    /// That of a point in time which somebody has opened. It is closed afterwards.
    PointInTime(&'a str),
}

/// Gives every document of a moment to `each`, in no order.
///
/// # Errors
/// Where the server does not give all of them.
pub async fn scan(
    client: &Client,
    index: &str,
    moment: Moment<'_>,
    reading: Reading,
    mut each: impl FnMut(Found),
) -> Result<(), IndexError> {
    let mut moment = match moment {
        Moment::PointInTime(id) => id.to_owned(),
        Moment::Now => {
            client.refresh(index).await?;
            client.open_point_in_time(index, KEEP_ALIVE).await?
        }
    };
    let scanned = pages(client, &mut moment, reading, &mut each).await;
    // The server forgets it by itself too; that this fails says nothing about what was read.
    let _ = client.json(Method::Delete, "/_pit", Some(&json!({"id": moment}))).await;
    scanned
}

async fn pages(
    client: &Client,
    moment: &mut String,
    reading: Reading,
    each: &mut impl FnMut(Found),
) -> Result<(), IndexError> {
    let mut after: Option<Json> = None;
    loop {
        let mut question = json!({
            "pit": {"id": moment, "keep_alive": KEEP_ALIVE},
            "size": PAGE,
            "sort": [{"_shard_doc": "asc"}],
            "track_total_hits": false,
            "version": true,
            "seq_no_primary_term": true,
            "_source": reading == Reading::Whole,
        });
        if let Some(after) = &after {
            question["search_after"] = after.clone();
        }
        let body = client.json(Method::Post, "/_search", Some(&question)).await?;
        let page =
            Page::deserialize(body).map_err(|e| client.refused(format!("a page of the scan cannot be read: {e}")))?;
        if page.timed_out || page.shards.failed > 0 {
            return Err(client.refused("a page of the scan is not complete: a shard failed or took too long".into()));
        }
        if let Some(id) = page.pit_id {
            *moment = id;
        }
        after = page.hits.hits.last().map(|hit| hit.sort.clone());
        let count = page.hits.hits.len();
        page.hits.hits.into_iter().for_each(|hit| each(hit.found));
        if count < PAGE {
            return Ok(());
        }
    }
}

/// Ids of one question of [`lookup`].
const IDS_ASKED: usize = 1_000;

/// The documents of these ids as they are now, by id, without what they say.
///
/// # Errors
/// Where the server does not give all of them.
pub async fn lookup(client: &Client, index: &str, ids: &[&str]) -> Result<HashMap<String, Found>, IndexError> {
    client.refresh(index).await?;
    let mut found = HashMap::with_capacity(ids.len());
    for asked in ids.chunks(IDS_ASKED) {
        let question = json!({
            "query": {"ids": {"values": asked}},
            "size": IDS_ASKED,
            "version": true,
            "seq_no_primary_term": true,
            "_source": false,
        });
        let page = Page::deserialize(client.search(index, &question).await?)
            .map_err(|e| client.refused(format!("documents looked up by id cannot be read: {e}")))?;
        if page.timed_out || page.shards.failed > 0 {
            return Err(
                client.refused("documents looked up by id are not complete: a shard failed or took too long".into())
            );
        }
        found.extend(page.hits.hits.into_iter().map(|hit| (hit.found.id.clone(), hit.found)));
    }
    Ok(found)
}
