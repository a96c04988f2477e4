//! The embedded index: the part of Elasticsearch's HTTP API that Lockstep and a person with curl use, over documents in
//! memory and a log on disk. For trying out, tests and small installations.
//!
//! A write that was answered is on disk and visible. Versions of deleted documents are remembered as long as the log holds
//! them. Point in time is a copy of the list of documents. A search looks at every document.

mod answer;
mod search;
mod store;

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

use answer::{Answer, Node, Request};

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
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
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
        let node = Arc::new(Node::open(&config.directory).map_err(disk)?);
        let refused = |source| EmbeddedError::Address { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let routes = Router::new().fallback(handle).layer(DefaultBodyLimit::max(LARGEST_BODY_BYTES)).with_state(node);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = served.await {
                tracing::error!("the embedded index ended: {error}");
            }
        });
        Ok(Self { address, stop, task })
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
    }
}

async fn handle(State(node): State<Arc<Node>>, method: Method, uri: Uri, body: Bytes) -> Response {
    // Every answer may wait for the disk or look at every document.
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
    match answer {
        _ if head => status.into_response(),
        Answer::Text(_, text) => (status, text).into_response(),
        Answer::Json(_, json) => {
            let text = if pretty { format!("{json:#}\n") } else { json.to_string() };
            (
                status,
                [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::HeaderName::from_static("x-elastic-product"), "Elasticsearch"),
                ],
                text,
            )
                .into_response()
        }
    }
}
