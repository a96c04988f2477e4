//! What the service shows on loopback: `/livez`, `/readyz`, `/metrics`, `/v1/status`, `/v1/dead-letters`,
//! and what [`crate::dashboard::routes`] adds.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::status::{DeadLetter, Snapshot, Status};
use crate::{certificate, console, metrics};

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; set lockstep.http.address to a free address")]
pub struct HttpError {
    address: String,
    source: std::io::Error,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves the status, and the routes of others beside it.
///
/// # Errors
/// Where the address cannot be had.
pub async fn serve(address: &str, status: Arc<Status>, others: Router) -> Result<Serving, HttpError> {
    let failed = |source| HttpError { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let routes = console::guarded(routes(status).merge(others), address);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!("the HTTP server ended: {error}");
        }
    });
    Ok(Serving(task.abort_handle()))
}

fn routes(status: Arc<Status>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(|State(status): State<Arc<Status>>| async move { metrics::text(&certified(status).await) }),
        )
        .route(
            "/v1/status",
            get(|State(status): State<Arc<Status>>| async move { Json::<Snapshot>(certified(status).await) }),
        )
        .route(
            "/v1/dead-letters",
            get(|State(status): State<Arc<Status>>| async move { Json::<Vec<DeadLetter>>(status.dead_letters()) }),
        )
        .with_state(status)
}

/// The picture now, with the last certificate.
async fn certified(status: Arc<Status>) -> Snapshot {
    let mut snapshot = status.snapshot();
    let archive = snapshot.archive.clone();
    // Files are read off the threads that answer.
    snapshot.certificate = tokio::task::spawn_blocking(move || certificate::last(&archive)).await.ok().flatten();
    snapshot
}

/// Ready: the state is recovered, records are taken, and nothing stands in the way.
async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    let snapshot = status.snapshot();
    match (snapshot.phase, snapshot.trouble) {
        ("live", None) => (StatusCode::OK, "ready\n".into()),
        (phase, None) => (StatusCode::SERVICE_UNAVAILABLE, format!("{phase}\n")),
        (phase, Some(trouble)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{phase}: {trouble}\n")),
    }
}
