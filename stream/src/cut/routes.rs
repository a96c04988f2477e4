//! `POST /v1/cuts`: makes a cut and answers with it as JSON. An error is `{"error": sentence}`, with 503 where asking again
//! helps, and 429 while another cut is under way.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::future::join_all;
use lockstep_shared::index::{Client, ClientConfig, IndexError, index_name};
use lockstep_shared::plan::Pipeline;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Request;

/// Longest wait for a cut: as long as a slow index may take for what is queued for it. Whoever asks waits longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request needs.
struct Asker {
    indexes: Vec<(Client, String)>,
    requests: mpsc::Sender<Request>,
}

/// The route, for the pipeline's indexes.
///
/// # Errors
/// Where the options of a sink are wrong.
pub fn routes(pipeline: &Pipeline, requests: mpsc::Sender<Request>) -> Result<Router, IndexError> {
    let sinks = pipeline.sinks.iter().filter(|sink| sink.option("hosts").is_some());
    let index = |sink| Ok((Client::new(&ClientConfig::of_sink(sink)?)?, index_name(sink).to_owned()));
    let indexes: Result<Vec<_>, IndexError> = sinks.map(index).collect();
    Ok(Router::new().route("/v1/cuts", post(cut)).with_state(Arc::new(Asker { indexes: indexes?, requests })))
}

async fn cut(State(asker): State<Arc<Asker>>, headers: HeaderMap) -> Response {
    // A browser names the page that sends a POST. No page has business here.
    if headers.contains_key(header::ORIGIN) {
        return error(StatusCode::FORBIDDEN, "cuts are for programs, not for pages");
    }
    let made = async {
        // Most of a refresh is done before the sinks are held, so that they are held for what is written meanwhile only.
        // Where it fails, the one at the cut says why.
        let _ = join_all(asker.indexes.iter().map(|(client, index)| client.refresh(index))).await;
        let (reply, answer) = oneshot::channel();
        match asker.requests.try_send(Request { reply }) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                return error(StatusCode::TOO_MANY_REQUESTS, "another cut is under way; ask again");
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return stopping(),
            Ok(()) => {}
        }
        match answer.await {
            Ok(Ok(cut)) => Json(cut).into_response(),
            Ok(Err(refusal)) => error(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()),
            Err(_) => stopping(),
        }
    };
    let late = "the indexes were not written up to the cut in time; see /v1/status for what stands in the way";
    tokio::time::timeout(PATIENCE, made).await.unwrap_or_else(|_| error(StatusCode::SERVICE_UNAVAILABLE, late))
}

fn stopping() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "the stream is stopping")
}

fn error(status: StatusCode, sentence: &str) -> Response {
    (status, Json(json!({"error": sentence}))).into_response()
}
