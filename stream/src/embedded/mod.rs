//! The embedded index: the part of Elasticsearch's HTTP API that Lockstep and a person with curl use, on Tantivy. For trying
//! out, tests and small installations.
//!
//! A request finds its [`routes`] and is answered by the [`node`]: [`indexes`], [`documents`], [`search`]. Documents, postings
//! and columns are Tantivy's, in mapped files; memory holds what is not committed yet, which is bounded. A write that was
//! answered is on disk (a [`log`], synced once a bulk) and visible to the next search. Versions of deleted documents are
//! remembered over restarts, for `index.gc_deletes`. A point in time is a searcher that is held.
//!
//! Not here: scoring, analysis beyond words in lower case, objects in documents, more than one shard, updates by script.

mod request;
mod answer;
mod routes;
mod node;
mod indexes;
mod documents;
mod bulk;
mod catalog;
mod mapping;
mod value;
mod dates;
mod order;
mod engine;
mod log;
mod lookup;
mod moments;
mod part;
mod query;
mod one_of;
mod numbered;
mod query_string;
mod search;
mod sort;
mod hit;
mod aggregation;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use answer::Answer;
use node::Node;
use request::Request;

/// Largest body taken, as Elasticsearch's `http.max_content_length`.
const LARGEST_BODY_BYTES: usize = 100 * 1024 * 1024;

/// Where the embedded index keeps its data and listens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder.
    pub directory: PathBuf,
    /// Its address.
    pub listen: SocketAddr,
}

/// Why the embedded index could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The disk.
    #[error("the embedded index cannot use {path}: {source}")]
    Disk {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address.
    #[error(
        "the embedded index cannot listen on {address}: {source}; set lockstep.index.embedded.address to a free address"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running embedded index.
pub struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Opens the data and serves it.
    ///
    /// # Errors
    /// Where the folder or the address cannot be had.
    pub async fn start(config: Config) -> Result<Self, EmbeddedError> {
        let disk = |source| EmbeddedError::Disk { path: config.directory.clone(), source };
        let directory = config.directory.clone();
        let opened = tokio::task::spawn_blocking(move || Node::open(&directory)).await;
        let node = Arc::new(opened.map_err(|ended| disk(ended.into()))?.map_err(disk)?);
        let refused = |source| EmbeddedError::Address { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let limit = DefaultBodyLimit::max(LARGEST_BODY_BYTES);
        let routes = Router::new().fallback(handle).layer(limit).with_state(node.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = served.await {
                tracing::error!("the embedded index ended: {error}");
            }
        });
        Ok(Self { address, node, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further request and ends. Connections that clients keep open are cut.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(std::time::Duration::from_secs(1), &mut self.task).await.is_err() {
            self.task.abort();
        }
        let node = self.node;
        let _ = tokio::task::spawn_blocking(move || node.settle()).await;
    }
}

async fn handle(State(node): State<Arc<Node>>, method: Method, uri: Uri, body: Bytes) -> Response {
    // Every answer may wait for the disk or look at many documents.
    let answered = tokio::task::spawn_blocking(move || {
        let request =
            Request { method: method.as_str(), path: uri.path(), query: uri.query().unwrap_or_default(), body: &body };
        let pretty = request.has("pretty");
        (node.answer(&request), pretty, method == Method::HEAD)
    });
    let Ok((answer, pretty, head)) = answered.await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = match answer {
        _ if head => return status.into_response(),
        Answer::Text(text) => return (status, text).into_response(),
        Answer::Json(_, json) if pretty => format!("{json:#}\n").into_bytes(),
        Answer::Json(_, json) => json.to_string().into_bytes(),
        Answer::RawJson(text) if pretty => readable(&text),
        Answer::RawJson(text) => text,
    };
    let heads = [
        (header::CONTENT_TYPE, "application/json"),
        (header::HeaderName::from_static("x-elastic-product"), "Elasticsearch"),
    ];
    (status, heads, json).into_response()
}

fn readable(text: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(json) => format!("{json:#}\n").into_bytes(),
        Err(_) => text.to_vec(),
    }
}
