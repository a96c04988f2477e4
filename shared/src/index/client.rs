//! The connection: one request, one answer. Whoever calls decides what an answer means.

use std::time::Duration;

use elasticsearch::Elasticsearch;
use elasticsearch::auth::Credentials;
use elasticsearch::http::headers::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{MultiNodeConnectionPool, TransportBuilder};
use elasticsearch::http::{Method, Url};
use serde_json::{Value as Json, json};

use super::carried::{self, Carried};
use super::{mapping, verdict};
use crate::plan::Sink;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// No answer, or "not now".
    #[error("the index at {hosts} does not answer: {reason}")]
    Unavailable {
        /// Who was asked.
        hosts: String,
        /// What happened.
        reason: String,
    },
    /// The server says no.
    #[error("the index at {hosts} refuses: {reason}")]
    Refused {
        /// Who was asked.
        hosts: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// A point in time is gone.
    #[error("the point in time at {hosts} has expired; start again: what was read is kept")]
    Expired {
        /// Who was asked.
        hosts: String,
    },
    /// The live mapping cannot hold the sink's documents.
    #[error("index {index} cannot hold the documents: {}; delete it, or write to another index", differences.join("; "))]
    Mapping {
        /// The index.
        index: String,
        /// A sentence for each field.
        differences: Vec<String>,
    },
    /// An option of the sink.
    #[error("sink {sink}: {reason}")]
    Option {
        /// The sink.
        sink: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl IndexError {
    /// True where asking again later may help.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Where an index is and who asks.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    hosts: Vec<Url>,
    credentials: Option<(String, String)>,
}

impl ClientConfig {
    /// From the options of a sink.
    ///
    /// # Errors
    /// Where `hosts` are no URLs, or `index` is no name of an index.
    pub fn of_sink(sink: &Sink) -> Result<Self, IndexError> {
        let wrong = |reason| IndexError::Option { sink: sink.name.clone(), reason };
        let given = sink.option("hosts").unwrap_or_default();
        let hosts: Result<Vec<Url>, IndexError> = given
            .split(';')
            .map(|host| match Url::parse(host.trim()) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
                _ => Err(wrong(format!("'hosts' has {host:?}; write http://host:port, and ; between several"))),
            })
            .collect();
        let name = index_name(sink);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 255 || !name.chars().all(plain) || name.starts_with(['-', '_', '.']) {
            return Err(wrong(format!("'index' is {name:?}; write lower case letters, digits, - and _")));
        }
        let credentials = sink
            .option("username")
            .map(|user| (user.to_owned(), sink.option("password").unwrap_or_default().to_owned()));
        Ok(Self { hosts: hosts?, credentials })
    }
}

/// The index that a sink fills.
#[must_use]
pub fn index_name(sink: &Sink) -> &str {
    sink.option("index").unwrap_or_default()
}

/// A connection. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Elasticsearch,
    hosts: String,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// Where the transport cannot be built.
    pub fn new(config: &ClientConfig) -> Result<Self, IndexError> {
        let hosts = config.hosts.iter().map(|url| url.as_str().trim_end_matches('/')).collect::<Vec<_>>().join(";");
        let pool = MultiNodeConnectionPool::round_robin(config.hosts.clone(), None);
        let mut builder = TransportBuilder::new(pool).timeout(PATIENCE).disable_proxy().enable_meta_header(false);
        if let Some((user, password)) = &config.credentials {
            builder = builder.auth(Credentials::Basic(user.clone(), password.clone()));
        }
        let transport =
            builder.build().map_err(|e| IndexError::Refused { hosts: hosts.clone(), reason: e.to_string() })?;
        Ok(Self { inner: Elasticsearch::new(transport), hosts })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer, IndexError> {
        let mut headers = HeaderMap::new();
        let content = if path.starts_with("/_bulk") { "application/x-ndjson" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        // Servers are near, and to pack a page takes them longer than to find it.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let unavailable = |reason: String| IndexError::Unavailable { hosts: self.hosts.clone(), reason };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let answer = self.inner.send(method, path, headers, Some(&query), body, None).await;
        let answer = answer.map_err(|e| unavailable(with_causes(&e)))?;
        let status = answer.status_code().as_u16();
        let body = answer.bytes().await.map_err(|e| unavailable(with_causes(&e)))?;
        Ok(Answer { status, body: body.into() })
    }

    /// Sends one request whose answer must be a success, and reads it as JSON.
    ///
    /// # Errors
    /// Where there is no answer, or another.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, IndexError> {
        let answer = self.send(method, path, body.map(|b| b.to_string().into_bytes())).await?;
        self.expect_success(&answer)?;
        serde_json::from_slice(&answer.body).map_err(|e| IndexError::Unavailable {
            hosts: self.hosts.clone(),
            reason: format!("the answer is no JSON: {e}"),
        })
    }

    pub(super) fn expect_success(&self, answer: &Answer) -> Result<(), IndexError> {
        let hosts = self.hosts.clone();
        let reason = || format!("status {}, {}", answer.status, verdict::explain(&verdict::error_of(&answer.body)));
        match answer.status {
            200..=299 => Ok(()),
            status if verdict::is_passing(status) => Err(IndexError::Unavailable { hosts, reason: reason() }),
            401 => Err(IndexError::Refused {
                hosts,
                reason: format!("{}; check 'username' and 'password' of the sink", reason()),
            }),
            _ => Err(IndexError::Refused { hosts, reason: reason() }),
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn hosts(&self) -> &str {
        &self.hosts
    }

    /// An error of this connection that says "stop".
    #[must_use]
    pub fn refused(&self, reason: String) -> IndexError {
        IndexError::Refused { hosts: self.hosts.clone(), reason }
    }

    /// Whether the server is there.
    ///
    /// # Errors
    /// Where it is not, or does not let us in.
    pub async fn ping(&self) -> Result<(), IndexError> {
        let answer = self.send(Method::Get, "/", None).await?;
        self.expect_success(&answer)
    }

    /// Whether the index is there.
    ///
    /// # Errors
    /// Where the server does not say.
    pub async fn exists(&self, index: &str) -> Result<bool, IndexError> {
        let answer = self.send(Method::Head, &format!("/{index}"), None).await?;
        if answer.status == 404 { Ok(false) } else { self.expect_success(&answer).map(|()| true) }
    }

    /// Creates the sink's index where it is not there, and checks the mapping of one that is; whether its documents carry
    /// their digest.
    ///
    /// # Errors
    /// Where the live mapping does not fit, or the server refuses.
    pub async fn ensure_index(&self, sink: &Sink) -> Result<Carried, IndexError> {
        let index = index_name(sink);
        if !self.exists(index).await? {
            let creation = mapping::creation(&sink.columns).to_string().into_bytes();
            let answer = self.send(Method::Put, &format!("/{index}"), Some(creation)).await?;
            let error = verdict::error_of(&answer.body);
            if error["type"] != "resource_already_exists_exception" {
                self.expect_success(&answer)?;
            }
        }
        let mappings = self.mappings(index).await?;
        let differences: Vec<String> = mappings.iter().flat_map(|m| mapping::differences(&sink.columns, m)).collect();
        if !differences.is_empty() {
            return Err(IndexError::Mapping { index: index.to_owned(), differences });
        }
        if mappings.iter().any(|m| carried::is_excluded(m) && m["properties"][carried::FIELD].is_null()) {
            let field = json!({"properties": {carried::FIELD: carried::field()}});
            self.json(Method::Put, &format!("/{index}/_mapping"), Some(&field)).await?;
        }
        self.carried(index).await
    }

    /// Whether documents of an index carry their digest.
    ///
    /// # Errors
    /// Where the server does not show the mapping.
    pub async fn carried(&self, index: &str) -> Result<Carried, IndexError> {
        let mappings = self.mappings(index).await?;
        let not = mappings.iter().map(carried::of_mapping).find(|carried| *carried != Carried::Digest);
        Ok(not.unwrap_or(Carried::Digest))
    }

    /// The mappings of the indexes behind a name.
    async fn mappings(&self, index: &str) -> Result<Vec<Json>, IndexError> {
        let live = self.json(Method::Get, &format!("/{index}/_mapping"), None).await?;
        Ok(live.as_object().into_iter().flat_map(|indexes| indexes.values()).map(|i| i["mappings"].clone()).collect())
    }

    /// The live mapping's `properties`.
    ///
    /// # Errors
    /// Where the server does not say.
    pub async fn properties(&self, index: &str) -> Result<Json, IndexError> {
        let live = self.json(Method::Get, &format!("/{index}/_mapping"), None).await?;
        // An alias is answered by its index's own name.
        let mappings = live.as_object().and_then(|indexes| indexes.values().next());
        Ok(mappings.map_or(Json::Null, |index| index["mappings"]["properties"].clone()))
    }

    /// Searches an index.
    ///
    /// # Errors
    /// Where the server does not, or takes the body for none.
    pub async fn search(&self, index: &str, body: &Json) -> Result<Json, IndexError> {
        self.json(Method::Post, &format!("/{index}/_search"), Some(body)).await
    }

    /// Opens a point in time: the index as searches see it now, kept for `keep_alive`. Gives its id.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn open_point_in_time(&self, index: &str, keep_alive: &str) -> Result<String, IndexError> {
        let opened = self.json(Method::Post, &format!("/{index}/_pit?keep_alive={keep_alive}"), None).await?;
        match opened["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(self.refused(format!("no point in time of {index}: the answer has no id"))),
        }
    }

    /// Makes every write before it visible to searches.
    ///
    /// # Errors
    /// Where the server does not.
    pub async fn refresh(&self, index: &str) -> Result<(), IndexError> {
        self.json(Method::Post, &format!("/{index}/_refresh"), None).await.map(drop)
    }
}

/// reqwest's own message leaves out the cause.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
