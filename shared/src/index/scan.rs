//! Documents of an index as it is now, without what they say: all of them, or those of some ids.

use std::collections::HashMap;

use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::client::{Client, IndexError};
use super::moment::{Moment, Reading};
use super::page::{Hit, Page};
use crate::coordinates::Version;

/// Documents of one answer.
const PAGE: usize = 5_000;

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

/// Gives every document of the index as it is now to `each`, in no order and without what it says.
///
/// # Errors
/// Where the server does not give all of them.
pub async fn scan(client: &Client, index: &str, mut each: impl FnMut(&Hit<'_>)) -> Result<(), IndexError> {
    let moment = Moment::open(client, index).await?;
    let scanned = pages(&moment, &mut each).await;
    moment.close().await;
    scanned
}

async fn pages(moment: &Moment, each: &mut impl FnMut(&Hit<'_>)) -> Result<(), IndexError> {
    let (everything, mut after) = (json!({"match_all": {}}), None);
    loop {
        let text = moment.page(&everything, Reading::WithoutSource, PAGE, after.as_ref()).await?;
        let page = Page::read(&text).map_err(|reason| moment.client().refused(reason))?;
        page.hits().iter().for_each(&mut *each);
        if page.hits().len() < PAGE {
            return Ok(());
        }
        after = page.after();
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
        let body = Some(question.to_string().into_bytes());
        let answer = client.send(Method::Post, &format!("/{index}/_search"), body).await?;
        client.expect_success(&answer)?;
        let page = Page::read(&answer.body).map_err(|reason| client.refused(reason))?;
        found.extend(page.hits().iter().map(Hit::found).map(|hit| (hit.id.clone(), hit)));
    }
    Ok(found)
}
