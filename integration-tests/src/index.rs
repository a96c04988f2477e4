//! An index server (Elasticsearch, or one that speaks its API) as tests use it: bulk with external versions, and a whole
//! index read back at one moment.
//!
//! It is written apart from the product's own client on purpose: a test must not believe the code that it checks.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::eventually;

/// Limit of one request; pausing a container makes requests hang, and a test must outlive that.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Limit of one look whether the server is there.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// Documents per page of a scan: the most that Elasticsearch gives.
const PAGE: usize = 10_000;

/// An index server, by its address.
#[derive(Clone, Debug)]
pub struct Index {
    url: String,
    http: reqwest::Client,
}

/// One item of a bulk request, written with `external_gte`.
#[derive(Clone, Debug)]
pub enum Write {
    /// The document replaces whatever is not younger.
    Index {
        /// `_id`.
        id: String,
        /// External version.
        version: u64,
        /// The whole document.
        document: Value,
    },
    /// The document goes, unless what is there is younger.
    Delete {
        /// `_id`.
        id: String,
        /// External version.
        version: u64,
    },
}

/// What the server said of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `_id`.
    pub id: String,
    /// HTTP status of the item.
    pub status: u16,
    /// The type of the error, if it is one.
    pub error: Option<String>,
}

/// A document as it stands in an index.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `_id`.
    pub id: String,
    /// External version.
    pub version: u64,
    /// `_source`.
    pub source: Value,
}

impl Index {
    /// A server that somebody else started.
    pub fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST_LIMIT).no_proxy().build()?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http })
    }

    /// The address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the server can read and write.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let what = format!("index server at {}", self.url);
        eventually(&what, within, async || self.answers().await.map_err(|error| format!("{error:#}"))).await
    }

    /// One look whether the server can read and write.
    pub async fn answers(&self) -> Result<()> {
        let health = format!("{}/_cluster/health?wait_for_status=yellow&timeout=1s", self.url);
        let answer = self.http.get(health).timeout(LOOK_LIMIT).send().await?;
        if answer.status() != StatusCode::OK {
            bail!("health is {}", answer.status());
        }
        Ok(())
    }

    /// Makes an index with one shard, no replica and no refresh of its own: a test refreshes when it wants to see.
    pub async fn create(&self, index: &str, mappings: &Value) -> Result<()> {
        let settings = json!({"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"});
        self.create_with(index, &json!({"settings": settings, "mappings": mappings})).await
    }

    /// Makes an index with this body.
    pub async fn create_with(&self, index: &str, body: &Value) -> Result<()> {
        self.call(Method::PUT, &format!("/{index}"), Some(body)).await.map(drop)
    }

    /// Sends one bulk request and returns the verdict of each item, in order.
    pub async fn bulk(&self, index: &str, writes: &[Write]) -> Result<Vec<Verdict>> {
        let answer = self.bulk_raw(ndjson(index, writes)).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("bulk: {status} {text}");
        }
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("answer of a bulk: {text}"))?;
        let items = answer["items"].as_array().context("a bulk answer has 'items'")?;
        items.iter().map(verdict).collect()
    }

    /// Sends a bulk body as it is and returns the answer as it is.
    pub async fn bulk_raw(&self, body: String) -> Result<reqwest::Response> {
        let request = self.http.post(format!("{}/_bulk", self.url)).header("content-type", "application/x-ndjson");
        Ok(request.body(body).send().await?)
    }

    /// Makes everything that was written visible to searches.
    pub async fn refresh(&self, index: &str) -> Result<()> {
        self.call(Method::POST, &format!("/{index}/_refresh"), None).await.map(drop)
    }

    /// The number of documents that a search sees.
    pub async fn count(&self, index: &str) -> Result<u64> {
        let answer = self.call(Method::GET, &format!("/{index}/_count"), None).await?;
        answer["count"].as_u64().with_context(|| format!("count of {index}: {answer}"))
    }

    /// One document, as it was last written, refreshed or not.
    pub async fn get(&self, index: &str, id: &str) -> Result<Option<Document>> {
        let mut url = reqwest::Url::parse(&self.url)?;
        url.path_segments_mut().ok().context("the address has a path")?.extend([index, "_doc", id]);
        let answer = self.http.get(url).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        document(&answer.error_for_status()?.json().await?).map(Some)
    }

    /// A search with this body.
    pub async fn search(&self, index: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, &format!("/{index}/_search"), Some(body)).await
    }

    /// Every document, as of one moment, sorted by id.
    pub async fn all_documents(&self, index: &str) -> Result<Vec<Document>> {
        let opened = self.call(Method::POST, &format!("/{index}/_pit?keep_alive=1m"), None).await?;
        let mut point_in_time = opened["id"].as_str().context("a point in time has an id")?.to_owned();
        let (mut documents, mut after) = (Vec::new(), None);
        loop {
            let page = self.call(Method::POST, "/_search", Some(&page_request(&point_in_time, after.take()))).await?;
            let hits = page["hits"]["hits"].as_array().context("a search answer has hits")?;
            for hit in hits {
                documents.push(document(hit)?);
            }
            if let Some(renewed) = page["pit_id"].as_str() {
                point_in_time = renewed.to_owned();
            }
            match hits.last() {
                Some(last) => after = Some(last["sort"].clone()),
                None => break,
            }
        }
        self.call(Method::DELETE, "/_pit", Some(&json!({"id": point_in_time}))).await?;
        documents.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(documents)
    }

    /// Deletes an index.
    pub async fn delete_index(&self, index: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/{index}"), None).await.map(drop)
    }

    /// Any other request: the JSON of a 2xx answer, or an error with the server's reason.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| what.clone())?;
        let (status, text) = (answer.status(), answer.text().await.with_context(|| what.clone())?);
        if !status.is_success() {
            bail!("{what}: {status} {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{what}: the answer is not JSON: {text}"))
    }
}

fn page_request(point_in_time: &str, after: Option<Value>) -> Value {
    let mut body = json!({
        "size": PAGE, "version": true, "track_total_hits": false,
        "pit": {"id": point_in_time, "keep_alive": "1m"}, "sort": [{"_shard_doc": "asc"}],
    });
    if let Some(after) = after {
        body["search_after"] = after;
    }
    body
}

/// The body of a bulk request.
#[must_use]
pub fn ndjson(index: &str, writes: &[Write]) -> String {
    let mut body = String::new();
    for write in writes {
        let (action, id, version, document) = match write {
            Write::Index { id, version, document } => ("index", id, version, Some(document)),
            Write::Delete { id, version } => ("delete", id, version, None),
        };
        let target = json!({"_index": index, "_id": id, "version": version, "version_type": "external_gte"});
        body += &format!("{}\n", json!({action: target}));
        if let Some(document) = document {
            body += &format!("{document}\n");
        }
    }
    body
}

fn verdict(item: &Value) -> Result<Verdict> {
    let outcome = item.as_object().and_then(|o| o.values().next()).context("a bulk item has one outcome")?;
    Ok(Verdict {
        id: outcome["_id"].as_str().context("a bulk outcome has an _id")?.to_owned(),
        status: outcome["status"].as_u64().and_then(|s| s.try_into().ok()).context("a bulk outcome has a status")?,
        error: outcome["error"]["type"].as_str().map(ToOwned::to_owned),
    })
}

fn document(hit: &Value) -> Result<Document> {
    Ok(Document {
        id: hit["_id"].as_str().with_context(|| format!("a document has an _id: {hit}"))?.to_owned(),
        version: hit["_version"].as_u64().with_context(|| format!("a document has a _version: {hit}"))?,
        source: hit["_source"].clone(),
    })
}
